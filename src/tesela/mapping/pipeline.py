"""The pipeline: reader, network and writer at work at once, in memory that does not grow with the scene."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.parts import PartStore
from tesela.mapping.engines import Engine
from tesela.mapping.kernels import pick_classes, weigh_classes
from tesela.mapping.machine import steady_memory
from tesela.mapping.reading import Scaling, Window, prefetch, read_windows
from tesela.mapping.strips import Strip
from tesela.mapping.windows import WindowPlan


@dataclass(frozen=True)
class Layers:
    """Which layers a run makes beside the classes."""

    scores: bool = False
    """Confidence and entropy."""
    probabilities: bool = False
    """One layer per class."""

    def count(self, legend: Legend) -> int:
        """Number of layers in a part: classes, confidence, entropy, probabilities."""
        return 1 + 2 * (self.scores or self.probabilities) + len(legend) * self.probabilities


@dataclass(frozen=True)
class MapJob:
    """All that the parts of a map depend on, but for the network."""

    scene: Scene
    plan: WindowPlan
    scaling: Scaling
    legend: Legend
    """Of the network's answers, in its order."""
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
        Called with the number of windows done.
    """
    answers = _Answers(job, store)
    reading = prefetch(
        read_windows(job.scene, strips, plan=job.plan, scaling=job.scaling), depth=engine.batch
    )
    waiting: Future[None] | None = None
    with steady_memory(), ThreadPoolExecutor(1) as writer, closing(reading) as windows:
        for batch in _batches(windows, engine.batch):
            scores = _run(engine, batch)
            if waiting is not None:
                waiting.result()
            waiting = writer.submit(answers.take, batch, scores)
            advance(len(batch))
        if waiting is not None:
            waiting.result()


def _run(engine: Engine, batch: Sequence[Window]) -> list[NDArray[np.float32] | None]:
    """Scores of each window, None for those without data."""
    filled = [window for window in batch if window.count]
    scores: list[NDArray[np.float32]] = []
    if filled:
        images = (
            filled[0].image[np.newaxis] if len(filled) == 1 else np.stack([item.image for item in filled])
        )
        scores = list(engine.scores(images))
    for window in batch:
        window.image = np.empty((0, 0, 0), np.float32)  # the writer needs the mask alone
    found = iter(scores)
    return [next(found) if window.count else None for window in batch]


def _batches(windows: Iterable[Window], size: int) -> Generator[list[Window], None, None]:
    batch: list[Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Answers:
    """Turns scores into the layers of a part, and stores the part when its last window is there."""

    def __init__(self, job: MapJob, store: PartStore) -> None:
        self.job = job
        self.store = store
        self.part = np.empty((0, 0, 0), np.uint8)

    def take(self, windows: Sequence[Window], scores: Sequence[NDArray[np.float32] | None]) -> None:
        legend = self.job.legend
        for window, score in zip(windows, scores, strict=True):
            strip = window.strip
            if window.cols is strip.cols[0]:
                self.part = np.zeros((self.job.layers.count(legend), *strip.shape), np.uint8)
                self.part[1:] = 255
            place = self.part[:, *window.place]
            if score is not None:
                pick_classes(score, window.valid, legend.value_table, corner=window.corner, out=place[0])
                if len(place) > 1:
                    weigh_classes(score, window.valid, window.corner, place[1], place[2], place[3:])
            if window.cols is strip.cols[-1]:
                self.store.write(strip.number, self.part)
