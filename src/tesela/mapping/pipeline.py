"""The pipeline: reader, network and writer at work at once, in memory that does not grow with the scene."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend
from tesela.core.machine import steady_memory
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.parts import PartStore
from tesela.mapping.engines import Engine
from tesela.mapping.kernels import pick_classes, weigh_classes
from tesela.mapping.reading import Window, prefetch, read_windows
from tesela.mapping.windows import Strip, WindowPlan


@dataclass(frozen=True)
class Layers:
    """Layers that a run writes beside the classes."""

    scores: bool = False
    """Confidence and entropy."""
    probabilities: bool = False
    """One layer per class."""

    def count(self, legend: Legend) -> int:
        """Number of layers in a part: classes, confidence, entropy, probabilities."""
        return 1 + 2 * (self.scores or self.probabilities) + len(legend) * self.probabilities


@dataclass(frozen=True)
class MapJob:
    """Everything the parts of a map depend on, except the network."""

    scene: Scene
    plan: WindowPlan
    standardisation: Standardisation
    legend: Legend
    """Classes of the network's output, in its order."""
    layers: Layers


def run_strips(
    job: MapJob,
    strips: Sequence[Strip],
    store: PartStore,
    *,
    engine: Engine,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips (of one panel, from the top) and put them into the store.

    Parameters
    ----------
    advance : callable of int
        Called with the number of windows that are done.
    """
    parts = _PartWriter(job, store)
    reading = prefetch(
        read_windows(job.scene, strips, plan=job.plan, standardisation=job.standardisation),
        depth=engine.batch,
    )
    waiting: Future[None] | None = None
    with steady_memory(), ThreadPoolExecutor(1) as writer, closing(reading) as windows:
        for batch in _batches(windows, engine.batch):
            scores = _run(engine, batch, only_classes=job.layers == Layers())
            if waiting is not None:
                waiting.result()
            waiting = writer.submit(parts.take, batch, scores)
            advance(len(batch))
        if waiting is not None:
            waiting.result()


Output = NDArray[np.float32] | NDArray[np.uint8]
"""Of one window: (rows, cols, classes) scores, or (rows, cols) positions of classes."""


def _run(engine: Engine, batch: Sequence[Window], *, only_classes: bool) -> list[Output | None]:
    """Output for each window, None for windows without data."""
    filled = [window for window in batch if window.count]
    outputs: list[Output] = []
    if filled:
        images = (
            filled[0].image[np.newaxis] if len(filled) == 1 else np.stack([item.image for item in filled])
        )
        outputs = list(engine.classes(images) if only_classes and engine.picks else engine.scores(images))
    for window in batch:
        window.image = np.empty((0, 0, 0), np.float32)  # the writer needs only the mask
    remaining = iter(outputs)
    return [next(remaining) if window.count else None for window in batch]


def _batches(windows: Iterable[Window], size: int) -> Generator[list[Window], None, None]:
    batch: list[Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _PartWriter:
    """Converts scores to the layers of a part, and stores the part after its last window."""

    def __init__(self, job: MapJob, store: PartStore) -> None:
        self.job = job
        self.store = store
        self.part = np.empty((0, 0, 0), np.uint8)

    def take(self, windows: Sequence[Window], outputs: Sequence[Output | None]) -> None:
        for window, output in zip(windows, outputs, strict=True):
            strip = window.strip
            if window.cols is strip.cols[0]:
                self.part = np.zeros((self.job.layers.count(self.job.legend), *strip.shape), np.uint8)
                self.part[1:] = 255
            if output is not None:
                self._write(window, output, self.part[:, *window.inner])
            if window.cols is strip.cols[-1]:
                self.store.write(strip.number, self.part)

    def _write(self, window: Window, output: Output, layers: NDArray[np.uint8]) -> None:
        """Write the layers of one window."""
        values, corner = self.job.legend.value_table, window.corner
        if output.dtype == np.uint8:
            keep = tuple(slice(at, at + side) for at, side in zip(corner, layers.shape[1:], strict=True))
            np.multiply(values[output[keep]], window.valid[keep], out=layers[0])
            return
        scores = np.asarray(output, np.float32)
        pick_classes(scores, window.valid, values, corner=corner, out=layers[0])
        if len(layers) > 1:
            weigh_classes(scores, window.valid, corner, layers[1], layers[2], layers[3:])
