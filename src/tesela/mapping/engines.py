"""Engines: ways to run one network, all behind the same call."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Threads that wait for work sleep instead of spinning, because reader and writer need the cores. torch reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from tesela.core.errors import RecipeError, unknown_name
from tesela.mapping.joined_engine import JoinedEngine, runs_by_members
from tesela.mapping.numerics import ExactHead, keep_fine_exact

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats of a network's arithmetic; sums and scores are always fp32."""


class Engine(Protocol):
    """Runs a network on scaled images."""

    name: str
    """Kind and precision, such as "torch-bf16"."""
    batch: int
    """Best number of windows in one call."""
    picks: bool
    """Whether `classes` is cheaper than `scores`: on a GPU, which would have to copy all scores."""

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """
        Scores of all classes, before softmax.

        Parameters
        ----------
        images : (windows, rows, cols, bands) array of float32

        Returns
        -------
        (windows, rows, cols, classes) array of float32
            In any order in memory.
        """
        ...

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Positions of the highest scores, (windows, rows, cols) array of uint8; see `scores`."""
        ...


class TorchEngine:
    """PyTorch, on a processor or a GPU, images in channels-last order."""

    kind = "torch"
    device = "cpu"
    fine_exact = True
    """Whether the convolutions next to the image run in fp32, see `tesela.mapping.numerics`."""
    batch = 1  # on a processor larger batches gain nothing
    picks = False

    def __init__(self, network: torch.nn.Module, precision: str) -> None:
        self.name = f"{self.kind}-{precision}"
        self._dtype = PRECISIONS[precision]
        self._plain = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self._network: Callable[[torch.Tensor], torch.Tensor] | None = None

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`."""
        with self.arithmetic():
            # channels-last scores become (windows, rows, cols, classes) without a copy
            scores: NDArray[np.float32] = self._run(images).float().permute(0, 2, 3, 1).cpu().numpy()
        return scores

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Engine.classes`."""
        with self.arithmetic():
            classes: NDArray[np.uint8] = self._run(images).argmax(1).to(torch.uint8).cpu().numpy()
        return classes

    def tensor(self, images: NDArray[np.float32]) -> torch.Tensor:
        """(windows, bands, rows, cols) tensor in channels-last order on the engine's device."""
        return torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def prepare(self, network: torch.nn.Module, bands: int) -> torch.nn.Module:
        """The network in the form that this engine runs."""
        if self._dtype == torch.float32 or not self.fine_exact:
            return network
        return keep_fine_exact(network, bands)

    def build(self, bands: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Function of the images that returns scores."""
        return ExactHead(self.prepare(self._plain, bands))

    def _run(self, images: NDArray[np.float32]) -> torch.Tensor:
        if self._network is None:
            self._network = self.build(images.shape[-1])
        return self._network(self.tensor(images))

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Run torch without gradients, in the engine's number format."""
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # autocast warns of types that it does not convert
            with torch.autocast(self.device, self._dtype, enabled=self._dtype != torch.float32):
                yield


class CompiledEngine(TorchEngine):
    """PyTorch's compiler, for one size of windows; needs a C++ compiler."""

    kind = "compile"

    def build(self, bands: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """See `TorchEngine.build`."""
        logging.getLogger("torch._inductor").setLevel(logging.ERROR)
        compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(super().build(bands), dynamic=False)
        return compiled


class CudaEngine(TorchEngine):
    """PyTorch on an NVIDIA GPU."""

    kind = "cuda"
    device = "cuda"
    fine_exact = False
    batch = 4
    picks = True

    def __init__(self, network: torch.nn.Module, precision: str) -> None:
        torch.backends.cudnn.benchmark = True  # windows have one size
        super().__init__(network, precision)


class OpenVinoEngine:
    """OpenVINO on a processor, compiled for each shape of images."""

    kind = "openvino"
    batch = 1
    picks = False

    def __init__(self, network: torch.nn.Module, precision: str) -> None:
        self.name = f"{self.kind}-{precision}"
        self._network = network.eval()
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # with pinning, two processes on one machine share a core and run at half speed
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: dict[tuple[int, ...], Callable[[NDArray[np.float32]], Mapping[int, Any]]] = {}

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.scores`."""
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        if planes.shape not in self._compiled:
            self._compiled[planes.shape] = self._compile(planes.shape)
        scores: NDArray[np.float32] = self._compiled[planes.shape](planes)[0]
        return scores.transpose(0, 2, 3, 1)

    def classes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """See `Engine.classes`."""
        classes: NDArray[np.uint8] = self.scores(images).argmax(-1).astype(np.uint8)
        return classes

    def _compile(self, shape: tuple[int, ...]) -> Callable[[NDArray[np.float32]], Mapping[int, Any]]:
        os.environ.setdefault("OPENVINO_TELEMETRY", "off")
        import openvino

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of sizes that become constants, as they are
            model = openvino.convert_model(
                self._network, example_input=torch.zeros(shape), input=[list(shape)]
            )
        compiled: Callable[[NDArray[np.float32]], Mapping[int, Any]] = openvino.Core().compile_model(
            model, "CPU", self._settings
        )
        return compiled


@dataclass(frozen=True)
class Kind:
    """A family of engines."""

    make: Callable[[torch.nn.Module, str], Engine]
    precisions: tuple[str, ...]
    missing: Callable[[], str]
    """Why it cannot be used on this machine, and the remedy; empty if it can."""
    setup_s: float = 0.0
    """Usual seconds of set-up, for a U-Net with a ResNet50 on two cores."""
    gain: float = 0.0
    """Usual share of the network's time that it saves compared with plain torch of the same precision."""
    own_shape: bool = False
    """Whether it is set up again for each shape of windows."""


def _no_compiler() -> str:
    if any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        return ""
    return "no C++ compiler is installed; install one (g++), or use another engine"


def _no_openvino() -> str:
    if importlib.util.find_spec("openvino") is not None:
        return ""
    return "openvino is not installed; install tesela's extra 'fast'"


def _no_cuda() -> str:
    return "" if torch.cuda.is_available() else "torch finds no NVIDIA GPU here"


KINDS: dict[str, Kind] = {
    "torch": Kind(TorchEngine, ("fp32", "bf16"), lambda: ""),
    "compile": Kind(CompiledEngine, ("fp32", "bf16"), _no_compiler, setup_s=15, gain=0.12, own_shape=True),
    "openvino": Kind(OpenVinoEngine, ("fp32", "bf16"), _no_openvino, setup_s=25, gain=0.2, own_shape=True),
    "cuda": Kind(CudaEngine, ("fp16", "bf16", "fp32"), _no_cuda),
}
"""Families of engines by name."""


def make_engine(network: torch.nn.Module, name: str) -> Engine:
    """
    Engine by its full name, such as "torch-bf16".

    On a processor each member of a fused expert runs by itself: networks by this engine, trees by their own kernels.

    Raises
    ------
    RecipeError
        If there is no such engine, or it cannot be used on this machine; the message gives the reason.
    """
    names = [f"{kind}-{precision}" for kind, item in KINDS.items() for precision in item.precisions]
    if name not in names:
        raise RecipeError(unknown_name("engine", name, names))
    kind, _, precision = name.partition("-")
    missing = KINDS[kind].missing()
    if missing:
        raise RecipeError(f"Engine '{name}' cannot be used: {missing}.")
    if kind != "cuda" and runs_by_members(network):
        members: Any = network.members
        engines = [
            make_engine(member, name if getattr(member, "traceable", True) else "torch-fp32")
            for member in members
        ]
        return JoinedEngine(network, engines, name)
    return KINDS[kind].make(network, precision)


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers in hardware."""
    capability = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capability:
        return False
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False
