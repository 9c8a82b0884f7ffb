"""The choice of an engine: the fastest on a piece of the scene whose classes agree with those of fp32."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import RecipeError, unknown_name
from tesela.mapping.engines import KINDS, PRECISIONS, Engine, has_bf16, make_engine

AGREEMENT = 0.999
"""Share of trial pixels whose class must equal that of fp32 before `auto` uses a cheaper number format."""

_CROP_PX = 512
"""Side of the trial windows of engines that accept any shape."""

_WORTH = 6
"""A job of fewer trial windows than this is done before a trial pays."""


@dataclass(frozen=True)
class EngineBenchmark:
    """Measurements of `auto`."""

    rates: dict[str, float] = field(default_factory=dict)
    """Mpx of windows per second, by engine."""
    agreement: dict[str, float] = field(default_factory=dict)
    """Share of pixels whose class equals that of fp32, by engine."""


def choose_engine(
    network: torch.nn.Module,
    *,
    engine: str = "auto",
    precision: str = "auto",
    trial: Sequence[NDArray[np.float32]] = (),
    windows: int = 1,
) -> tuple[Engine, EngineBenchmark]:
    """
    Engine for this machine and job.

    A named engine or precision is used as it is. "auto" uses CUDA where there is a GPU (in fp16, if it agrees).
    Otherwise it runs plain torch on a piece of the scene, in fp32 and, where the processor supports it, in bf16. It
    adds torch's compiler and OpenVINO only if they usually save more time on this many windows than their set-up
    takes. It chooses the fastest engine whose classes equal those of fp32 in at least 99.9 % of the trial's pixels.
    Jobs of a few windows run in plain fp32, because a trial would take longer.

    Parameters
    ----------
    engine : {"auto", "torch", "compile", "openvino", "cuda"}
    precision : {"auto", "fp32", "bf16", "fp16"}
    trial : sequence of (rows, cols, bands) arrays of float32
        Standardised windows of the scene, at the job's size.
    windows : int
        Number of windows of the job.

    Raises
    ------
    RecipeError
        If a name is unknown, the engine lacks the precision, or the engine cannot be used here.
    """
    if engine != "auto" and engine not in KINDS:
        raise RecipeError(unknown_name("engine", engine, ("auto", *KINDS)))
    if precision != "auto" and precision not in PRECISIONS:
        raise RecipeError(unknown_name("precision", precision, ("auto", *PRECISIONS)))
    traceable = bool(getattr(network, "traceable", True))
    if not traceable and engine in ("compile", "openvino"):
        raise RecipeError(f"Engine '{engine}' does not run trees; take torch or auto.")
    if engine != "auto" and precision != "auto":
        return make_engine(network, f"{engine}-{precision}"), EngineBenchmark()
    gpu = torch.cuda.is_available() and engine in ("auto", "cuda")
    plain = "cuda" if gpu else "torch" if engine == "auto" else engine
    wanted = (precision,) if precision != "auto" else KINDS[plain].precisions
    if plain == "torch" and precision == "fp16":
        raise RecipeError("Precision 'fp16' needs a GPU, and torch finds none here; use bf16, fp32 or auto.")
    exact = make_engine(network, f"{plain}-{'fp32' if precision == 'auto' else precision}")
    side = trial[0].shape[0] * trial[0].shape[1] if trial else 0
    if (
        next(network.parameters(), None) is None
        or windows * side < _WORTH * 2 * _CROP_PX**2
        or (len(wanted) == 1 and engine != "auto")
    ):
        return exact, EngineBenchmark()
    return _Trial(network, exact, trial, windows).run(
        wanted, others=engine == "auto" and not gpu and traceable
    )


class _Trial:
    """Runs engines one after the other on the same windows."""

    def __init__(
        self, network: torch.nn.Module, exact: Engine, trial: Sequence[NDArray[np.float32]], windows: int
    ) -> None:
        self.network = network
        self.exact = exact
        self.pixels = windows * trial[0].shape[0] * trial[0].shape[1]
        self.full = list(trial)
        self.crops = [np.ascontiguousarray(image[:_CROP_PX, :_CROP_PX]) for image in trial]
        self.truth: dict[bool, list[NDArray[np.intp]]] = {}
        self.benchmark = EngineBenchmark()
        self.engines: dict[str, Engine] = {}

    def run(self, precisions: Sequence[str], *, others: bool) -> tuple[Engine, EngineBenchmark]:
        kind = self.exact.name.partition("-")[0]
        self.enter(self.exact)
        for precision in precisions:
            name = f"{kind}-{precision}"
            if name not in self.engines and (precision != "bf16" or kind == "cuda" or has_bf16()):
                self.enter(make_engine(self.network, name))
        if others:
            for name, item in KINDS.items():
                best = self.best()
                seconds = self.pixels / 1e6 / self.benchmark.rates[best]
                precision = best.partition("-")[2]
                if item.gain * seconds > item.setup_s and not item.missing() and precision in item.precisions:
                    self.enter(make_engine(self.network, f"{name}-{precision}"))
        best = self.best()
        return self.engines[best], self.benchmark

    def best(self) -> str:
        """Fastest engine that agrees with fp32."""
        return max(self.engines, key=lambda name: self.benchmark.rates[name])

    def enter(self, engine: Engine) -> None:
        """Run an engine; it is a candidate if its classes agree with those of the first."""
        own_shape = KINDS[engine.name.partition("-")[0]].own_shape
        images = self.full if own_shape else self.crops
        classes = [
            engine.scores(images[0][np.newaxis])[0].argmax(-1)
        ]  # not timed, because the first pass also sets up
        seconds = float("inf")
        for image in images[1:] or images:
            begun = time.perf_counter()
            scores = engine.scores(image[np.newaxis])
            seconds = min(seconds, time.perf_counter() - begun)
            classes.append(scores[0].argmax(-1))
        classes = classes[: len(images)]
        self.benchmark.rates[engine.name] = images[0].shape[0] * images[0].shape[1] / 1e6 / seconds
        if engine is not self.exact:
            truth = self.exact_classes(own_shape=own_shape)
            pairs = zip(classes, truth, strict=True)
            same = float(np.mean([(mine == theirs).mean() for mine, theirs in pairs]))
            self.benchmark.agreement[engine.name] = same
            if same < AGREEMENT:
                return
        else:
            self.truth[own_shape] = classes
        self.engines[engine.name] = engine

    def exact_classes(self, *, own_shape: bool) -> list[NDArray[np.intp]]:
        """Classes of the exact engine on whole windows or crops."""
        if own_shape not in self.truth:
            images = self.full if own_shape else self.crops
            self.truth[own_shape] = [self.exact.scores(image[np.newaxis])[0].argmax(-1) for image in images]
        return self.truth[own_shape]
