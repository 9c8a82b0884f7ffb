"""One task: a set split by a seed, the same for all rows, with the processor time that a row may spend."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from real_accuracy.sets import DataSet, LabelledScene

TRAIN, VAL, TEST, UNUSED = range(4)
FRACTIONS = (0.6, 0.15, 0.25)
_DRAWS = 50


@dataclass(frozen=True)
class Task:
    """A set and the split of each of its units."""

    data: DataSet
    split: NDArray[np.int64]
    """(units,): 0 train, 1 validation, 2 test, 3 unused."""
    seed: int

    def mask(self, scene: LabelledScene, split: int) -> NDArray[np.bool_]:
        """Labelled pixels of a split."""
        return (self.split[scene.units] == split) & (scene.labels > 0)

    def frequencies(self) -> NDArray[np.float64]:
        """Share of each class in the training pixels, (classes,)."""
        counts = sum(
            np.bincount(scene.labels[self.mask(scene, TRAIN)], minlength=len(self.data.classes) + 1)
            for scene in self.data.scenes
        )
        shares: NDArray[np.float64] = np.maximum(counts[1:], 1) / max(counts[1:].sum(), 1)
        return shares


def make_task(data: DataSet, seed: int) -> Task:
    """
    Draw splits of the units and take, of 50, the one whose splits hold most nearly their fractions of each class.

    The draw depends on labels and seed only.
    """
    content = np.zeros((data.units, len(data.classes) + 1))
    for scene in data.scenes:
        np.add.at(content, (scene.units.ravel(), scene.labels.ravel()), 1)
    content = content[:, 1:][:, content[:, 1:].sum(0) > 0]
    fixed = np.zeros(data.units, bool)
    fixed[list(data.test_units)] = True
    free, parts = np.flatnonzero(~fixed), np.array(FRACTIONS)
    if fixed.any():
        parts = np.array([0.8, 0.2, 0.0])
    bounds = np.maximum(np.rint(np.cumsum(parts)[:2] * len(free)).astype(int), (1, 2))
    totals = np.maximum(content[free].sum(0), 1)
    rng = np.random.default_rng(seed)
    best, lowest = None, np.inf
    for _ in range(_DRAWS):
        split = np.full(data.units, TEST)
        order = rng.permutation(free)
        split[order[: bounds[0]]], split[order[bounds[0] : bounds[1]]] = TRAIN, VAL
        held = np.stack([content[free][split[free] == part].sum(0) / totals for part in range(3)])
        cost = float(((held - parts[:, None]) ** 2).sum())
        if cost < lowest:
            best, lowest = split, cost
    assert best is not None
    return Task(data, best, seed)


def thinned(task: Task, share: float) -> Task:
    """The task with a share of its training units, at least one; a smaller share holds units of a larger one."""
    units = np.random.default_rng([task.seed, 1]).permutation(np.flatnonzero(task.split == TRAIN))
    split = task.split.copy()
    split[units[max(1, round(share * len(units))) :]] = UNUSED
    return Task(task.data, split, task.seed)


def cpu_s() -> float:
    """Processor seconds of this process, all its threads, and the processes it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class Clock:
    """The processor time of one training."""

    budget_s: float
    started_s: float = field(default_factory=cpu_s)

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return cpu_s() - self.started_s

    @property
    def left_s(self) -> float:
        """Seconds until the budget ends; negative after it."""
        return self.budget_s - self.spent_s


Classify = Callable[[LabelledScene], dict[str, NDArray[np.uint8]]]
"""Maps a scene: class values by variant, "" and where there is one "+prior"."""


@dataclass(frozen=True)
class Trained:
    """What a row has trained."""

    classify: Classify
    choices: dict[str, object]
    """What was chosen on the validation pixels, and how far the training came."""


class NotApplicable(Exception):
    """A row cannot be measured on a set, or its package or model is missing; the message says which."""


def adjust(
    probabilities: NDArray[np.floating], shares: NDArray[np.float64], strength: float
) -> NDArray[np.uint8]:
    """Classes, from 1, of the probabilities (classes, ...) divided by class frequencies to the power `strength`."""
    weight = -strength * np.log(shares)
    scores = np.log(np.maximum(probabilities, 1e-9)) + weight.reshape(-1, *[1] * (probabilities.ndim - 1))
    return (scores.argmax(0) + 1).astype(np.uint8)


def quality(reference: NDArray[np.integer], classes: NDArray[np.integer], count: int) -> float:
    """Accuracy plus macro F1: what all choices on validation pixels go by."""
    matrix = np.zeros((count, count))
    np.add.at(matrix, (reference - 1, classes.astype(int) - 1), 1)
    right, rows, cols = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    f1 = 2 * right / np.maximum(rows + cols, 1)
    return float(right.sum() / max(rows.sum(), 1) + f1[rows > 0].mean())


def choose_prior(
    probabilities: NDArray[np.floating], reference: NDArray[np.integer], shares: NDArray[np.float64]
) -> float:
    """Strength from 0 to 1, in tenths, of the best `quality` on validation pixels; probabilities (classes, pixels)."""
    return max(
        (strength / 10 for strength in range(11)),
        key=lambda strength: quality(reference, adjust(probabilities, shares, strength), len(shares)),
    )
