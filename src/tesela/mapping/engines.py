"""Engines: ways to run one network, all behind the same call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import RecipeError, unknown_name

AGREEMENT = 0.999
"""Share of trial pixels whose class must equal fp32's before `auto` takes a cheaper number format."""


class Engine(Protocol):
    """Runs a network on scaled images."""

    name: str

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """
        Scores of all classes, before softmax.

        Parameters
        ----------
        images : (windows, rows, cols, bands) array of float32

        Returns
        -------
        (windows, rows, cols, classes) array of float32
        """
        ...


class TorchEngine:
    """PyTorch, in fp32 or with bf16 or fp16 arithmetic, images in channels-last order."""

    def __init__(self, network: torch.nn.Module, *, name: str, device: str, dtype: torch.dtype) -> None:
        self.name = name
        self._device = device
        self._dtype = dtype
        # both casts are PyTorch's own; the stubs of nn.Module.to know no memory_format
        self._network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`."""
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device, non_blocking=True)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # autocast's remarks on types it leaves alone
            with torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32):
                answer = self._network(batch)
        found: NDArray[np.float32] = answer.float().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return found


def _fp32(network: torch.nn.Module) -> Engine:
    return TorchEngine(network, name="torch-fp32", device="cpu", dtype=torch.float32)


def _bf16(network: torch.nn.Module) -> Engine:
    return TorchEngine(network, name="torch-bf16", device="cpu", dtype=torch.bfloat16)


def _cuda(network: torch.nn.Module) -> Engine:
    return TorchEngine(network, name="cuda-fp16", device="cuda", dtype=torch.float16)


ENGINES: dict[str, Callable[[torch.nn.Module], Engine]] = {
    "torch-fp32": _fp32,
    "torch-bf16": _bf16,
    "cuda-fp16": _cuda,
}
"""Makers of engines by name."""

PRECISIONS = {"fp32": "torch-fp32", "bf16": "torch-bf16", "fp16": "cuda-fp16"}


def make_engine(network: torch.nn.Module, name: str) -> Engine:
    """
    Engine by name.

    Raises
    ------
    RecipeError
        If there is no such engine.
    """
    if name not in ENGINES:
        raise RecipeError(unknown_name("engine", name, ENGINES))
    return ENGINES[name](network)


def choose_engine(network: torch.nn.Module, *, precision: str, trial: NDArray[np.float32] | None) -> Engine:
    """
    Engine for this machine and precision.

    With ``precision = "auto"``: CUDA where there is one; else bf16 where the processor computes in it and its
    classes on the trial window equal fp32's in at least 99.9 % of pixels; else fp32.

    Parameters
    ----------
    trial : (1, rows, cols, bands) array of float32, optional
        A scaled window of the scene; without one `auto` stays with fp32.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise RecipeError(unknown_name("precision", precision, ("auto", *PRECISIONS)))
        return make_engine(network, PRECISIONS[precision])
    if torch.cuda.is_available():
        return make_engine(network, "cuda-fp16")
    exact = make_engine(network, "torch-fp32")
    if trial is None or not has_bf16():
        return exact
    cheap = make_engine(network, "torch-bf16")
    same = float((exact.scores(trial).argmax(-1) == cheap.scores(trial).argmax(-1)).mean())
    return cheap if same >= AGREEMENT else exact


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers in hardware."""
    capability = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capability:
        return False
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False
