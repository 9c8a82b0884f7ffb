"""Engines of unmixing networks, which run them on the pixels of a cube."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tesela.core.errors import RecipeError, unknown_name
from tesela.mapping.engines import KINDS
from tesela.models.inference import Runner, TorchRunner
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import BritsArchitecture, EncoderArchitecture, EnsembleArchitecture
from tesela.models.unmixing_header import Floats

BATCH = 2048
"""Pixels of one call of OpenVINO."""

WORTH_PIXELS = 100_000
"""From this many pixels on, exporting a network saves more time than it takes."""


def choose_runner(
    network: UnmixingNetwork, architecture: object, *, engine: str, pixels: int, imputed: bool
) -> tuple[Runner, str]:
    """
    Engine for a network, and its name.

    "auto" uses OpenVINO for pixel networks where it is installed and the map is large. Only torch fills series.

    Raises
    ------
    RecipeError
        If the engine is unknown, or cannot be used here.
    """
    names = ("auto", "torch", "openvino")
    if engine not in names:
        raise RecipeError(unknown_name("engine", engine, names))
    missing = KINDS["openvino"].missing() or _unfit(network, architecture, imputed)
    if engine == "openvino" and missing:
        raise RecipeError(f"Engine 'openvino' cannot be used: {missing}.")
    if engine == "torch" or missing or (engine == "auto" and pixels < WORTH_PIXELS):
        return TorchRunner(network), "torch"
    return OpenVinoRunner(network), "openvino"


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
