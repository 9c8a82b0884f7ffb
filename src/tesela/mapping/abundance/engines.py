"""Engines of unmixing networks, which run them on the pixels of a cube."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tesela.core.errors import RecipeError, unknown_name
from tesela.mapping.engines import KINDS, has_bf16
from tesela.models.brits.network import Brits
from tesela.models.context import SeriesNetwork
from tesela.models.inference import Runner, TorchRunner
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import BritsArchitecture, EncoderArchitecture, EnsembleArchitecture
from tesela.models.unmixing_header import Floats

BATCH = 2048
"""Pixels of one call of OpenVINO."""

WORTH_PIXELS = 100_000
"""From this many pixels on, exporting a network or a trial of bf16 saves more time than it takes."""

ENGINES = ("auto", "torch", "openvino", "cuda")
"""What a user may ask for; of the last three each computes in float32."""

AGREEMENT = 0.999
"""Part of the trial pixels whose largest class must be that of float32 before "auto" uses bf16."""

CLOSE = 0.005
"""Largest difference of a share to that of float32 in as many of the trial's shares: half a per cent."""

_LEAST_TRIAL = 500
"""Pixels of a trial, at least."""

Trial = Callable[[], tuple[Floats, Floats, Floats] | None]
"""Makes the scaled series, masks and layers of a trial; None if there is nothing to try."""


def choose_runner(
    network: UnmixingNetwork,
    architecture: object,
    *,
    engine: str,
    pixels: int,
    imputed: bool,
    trial: Trial | None = None,
) -> tuple[Runner, str]:
    """
    Engine for a network, and its name.

    "auto" takes a GPU for neural networks if there is one; else, for large maps, OpenVINO where it is installed and the
    network is one of single pixels. On processors that multiply bf16 in hardware, torch or OpenVINO use it if the trial
    agrees with float32 to `AGREEMENT` and `CLOSE`. Only torch fills series.

    Parameters
    ----------
    engine : str
        One of `ENGINES`, or a name that was returned before.
    trial : callable, optional
        Series to compare bf16 with float32 on; without them "auto" computes in float32.

    Raises
    ------
    RecipeError
        If the engine is unknown, or cannot be used here.
    """
    kind, _, precision = engine.partition("-")
    if kind not in ENGINES or precision not in ("", "bf16"):
        raise RecipeError(unknown_name("engine", engine, ENGINES))
    reasons = {
        "torch": "",
        "openvino": KINDS["openvino"].missing() or _unfit(network, architecture, imputed),
        "cuda": KINDS["cuda"].missing() or ("" if is_neural(network) else "the model is no neural network"),
    }
    if kind != "auto":
        if reasons[kind]:
            raise RecipeError(f"Engine '{kind}' cannot be used: {reasons[kind]}.")
        return make_runner(network, engine), engine
    if not reasons["cuda"]:
        return make_runner(network, "cuda"), "cuda"
    best = "openvino" if not reasons["openvino"] and pixels >= WORTH_PIXELS else "torch"
    exact = make_runner(network, best)
    if pixels < WORTH_PIXELS or trial is None or imputed or not has_bf16() or not _allows_bf16(network):
        return exact, best
    series = trial()
    if series is not None:
        quick = make_runner(network, f"{best}-bf16")
        if agrees(quick(*series), TorchRunner(network)(*series), series[1]):
            return quick, f"{best}-bf16"
    return exact, best


def make_runner(network: UnmixingNetwork, name: str) -> Runner:
    """Runner of a kind and precision, such as "torch-bf16"."""
    kind, _, precision = name.partition("-")
    if kind == "openvino":
        return OpenVinoRunner(network, precision=precision or "f32")
    if kind == "cuda":
        return TorchRunner(copy.deepcopy(network).to("cuda"))
    return TorchRunner(network, precision=torch.bfloat16 if precision else torch.float32)


def agrees(quick: NetworkOutput, exact: NetworkOutput, mask: Floats) -> bool:
    """Whether largest classes and shares of the observed pixels agree to `AGREEMENT` and `CLOSE`."""
    margin = (mask.shape[1] - exact.shares.shape[1]) // 2 if exact.shares.ndim == 4 else 0
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin)) if margin else ()
    seen = torch.from_numpy(mask[inner].any((-2, -1)))
    mine, theirs = quick.shares[seen], exact.shares[seen]
    if len(mine) < _LEAST_TRIAL:
        return False
    same = (mine.argmax(-1) == theirs.argmax(-1)).float().mean()
    close = ((mine - theirs).abs() <= CLOSE).float().mean()
    return bool(same >= AGREEMENT and close >= AGREEMENT)


def is_neural(network: UnmixingNetwork) -> bool:
    """Whether a network has weights that a GPU multiplies; trees and linear models have not."""
    return any(isinstance(module, SeriesNetwork | Brits) for module in network.modules())


def _allows_bf16(network: UnmixingNetwork) -> bool:
    """BRITS adds up what it fills month by month, in loops of its own: it stays in float32."""
    return is_neural(network) and not any(isinstance(module, Brits) for module in network.modules())


def _unfit(network: UnmixingNetwork, architecture: object, imputed: bool) -> str:
    if imputed:
        return "filled series come from torch only"
    if network.margin_px:
        return "the network sees neighbours, which only torch supports"
    members = architecture.members if isinstance(architecture, EnsembleArchitecture) else (architecture,)
    if not all(isinstance(item, BritsArchitecture | EncoderArchitecture) for item in members):
        return "the model is not a neural network"
    return ""


class _Exported(nn.Module):
    """The outputs of a network that a map needs, as plain tensors."""

    def __init__(self, network: UnmixingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, mask: Tensor, static: Tensor) -> tuple[Tensor, ...]:
        output = self.network.answer(values, mask, static)
        concentration = output.concentration
        return (output.shares, output.heads, *(() if concentration is None else (concentration,)))


class OpenVinoRunner:
    """A pixel network exported to OpenVINO, in batches of one size."""

    def __init__(self, network: UnmixingNetwork, *, batch: int = BATCH, precision: str = "f32") -> None:
        self._network = network.eval()
        self._batch = batch
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._run: Callable[[list[Floats]], Mapping[int, Any]] | None = None

    def __call__(self, values: Floats, mask: Floats, static: Floats) -> NetworkOutput:
        """See `tesela.models.inference.Runner`."""
        leading = values.shape[:-2]
        pixels = math.prod(leading)
        flat = [item.reshape(pixels, *item.shape[len(leading) :]) for item in (values, mask, static)]
        if self._run is None:
            self._run = self._compile([item.shape[1:] for item in flat])
        count, parts = len(flat[0]), []
        for start in range(0, count, self._batch):
            taken = [item[start : start + self._batch] for item in flat]
            missing = self._batch - len(taken[0])
            if missing:
                taken = [
                    np.concatenate([item, np.zeros((missing, *item.shape[1:]), np.float32)]) for item in taken
                ]
            outputs = self._run([np.ascontiguousarray(item) for item in taken if item.shape[-1]])
            parts.append([np.array(outputs[number]) for number in range(len(outputs))])
        shares = np.concatenate([part[0] for part in parts])[:count]
        heads = np.concatenate([part[1] for part in parts], 1)[:, :count]
        concentration = np.concatenate([part[2] for part in parts])[:count] if len(parts[0]) > 2 else None
        return NetworkOutput(
            shares=torch.from_numpy(shares.reshape(*leading, -1)),
            heads=torch.from_numpy(heads.reshape(len(heads), *leading, -1)),
            concentration=None if concentration is None else torch.from_numpy(concentration.reshape(leading)),
        )

    def _compile(self, shapes: list[tuple[int, ...]]) -> Callable[[list[Floats]], Mapping[int, Any]]:
        os.environ.setdefault("OPENVINO_TELEMETRY", "off")
        import openvino

        examples = tuple(torch.zeros(self._batch, *shape) for shape in shapes)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns of sizes that become constants, as they are
            model = openvino.convert_model(
                _Exported(self._network),
                example_input=examples,
                input=[list(item.shape) for item in examples],
            )
        compiled: Callable[[list[Floats]], Mapping[int, Any]] = openvino.Core().compile_model(
            model, "CPU", self._settings
        )
        return compiled
