"""Scores on the test pixels, and intervals of differences by resampling blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from real_accuracy.sets import LabelledScene
from real_accuracy.task import TEST, Task

DRAWS = 2000
SCORES = ("accuracy", "miou", "macro_f1")

Matrices = Mapping[int, NDArray[np.int64]]
"""Confusion matrix (reference, map) of each unit that tests."""


@dataclass
class TestCounts:
    """Test pixels by unit, and right and all pixels at borders of classes and inside areas."""

    matrices: dict[int, NDArray[np.int64]]
    border: NDArray[np.int64]
    inner: NDArray[np.int64]

    @classmethod
    def empty(cls) -> TestCounts:
        """No pixel."""
        return cls({}, np.zeros(2, np.int64), np.zeros(2, np.int64))

    def add(self, task: Task, scene: LabelledScene, classes: NDArray[np.uint8]) -> None:
        """Count a map of a scene."""
        mask = task.mask(scene, TEST)
        if (classes[mask] == 0).any():
            raise ValueError(
                f"{scene.name}: {(classes[mask] == 0).sum()} test pixels have no class in the map."
            )
        count = len(task.data.classes)
        right = classes == scene.labels
        edge = border_pixels(scene.labels)
        for total, part in ((self.border, mask & edge), (self.inner, mask & ~edge)):
            total += (right[part].sum(), part.sum())
        for unit in np.unique(scene.units[mask]).tolist():
            own = mask & (scene.units == unit)
            matrix = self.matrices.setdefault(unit, np.zeros((count, count), np.int64))
            np.add.at(matrix, (scene.labels[own].astype(int) - 1, classes[own].astype(int) - 1), 1)

    def scores(self, *, pixels_only: bool) -> dict[str, float | None]:
        """All scores of one map; border and inner accuracy only where neighbours are neighbours."""
        values = score_matrices(sum(self.matrices.values())[None])  # type: ignore[index]
        out: dict[str, float | None] = {name: round(float(values[name][0]), 5) for name in SCORES}
        for name, (right, pixels) in (("border_accuracy", self.border), ("inner_accuracy", self.inner)):
            out[name] = None if pixels_only or not pixels else round(float(right / pixels), 5)
        return out


def border_pixels(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Labelled pixels that have another class among their eight neighbours; unlabelled ones do not count."""
    low = minimum_filter(np.where(labels == 0, 255, labels), 3, mode="nearest")
    high = maximum_filter(labels, 3, mode="nearest")
    return (labels > 0) & (low != high)


def score_matrices(matrices: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Accuracy, mean IoU and macro F1 over the classes of the reference, of (n, classes, classes) matrices."""
    right = np.diagonal(matrices, axis1=1, axis2=2).astype(float)
    rows, cols = matrices.sum(2), matrices.sum(1)
    present = rows > 0
    number = np.maximum(present.sum(1), 1)
    return {
        "accuracy": right.sum(1) / np.maximum(rows.sum(1), 1),
        "miou": (np.where(present, right / np.maximum(rows + cols - right, 1), 0)).sum(1) / number,
        "macro_f1": (np.where(present, 2 * right / np.maximum(rows + cols, 1), 0)).sum(1) / number,
    }


def paired_difference(
    ours: Mapping[int, Matrices], rival: Mapping[int, Matrices], *, draws: int = DRAWS
) -> dict[str, dict[str, float]]:
    """
    Mean over the seeds of our score minus the rival's, with its 95 % interval.

    Units are drawn with replacement from all that test in any seed. A draw holds a unit as often in every seed in
    which it tests, and for both maps: seeds share units, and the maps share their pixels.

    Parameters
    ----------
    ours, rival : mapping of seed to matrices
        The same seeds, each with the same units in both.
    """
    units = sorted({unit for matrices in ours.values() for unit in matrices})
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws)
    weights = np.concatenate([np.ones((1, len(units)), weights.dtype), weights])  # the first is the estimate
    total = {name: np.zeros(draws + 1) for name in SCORES}
    counted = np.zeros(draws + 1)
    for seed, own in ours.items():
        place = [units.index(unit) for unit in own]
        drawn = weights[:, place]
        held = drawn.sum(1) > 0
        counted += held
        mine, theirs = (
            score_matrices(np.tensordot(drawn, np.stack([item[unit] for unit in own]), 1))
            for item in (own, rival[seed])
        )
        for name in SCORES:
            total[name] += np.where(held, mine[name] - theirs[name], 0)
    result = {}
    for name, values in total.items():
        mean = values / np.maximum(counted, 1)
        low, high = np.percentile(mean[1:][counted[1:] > 0], (2.5, 97.5))
        result[name] = {
            "difference": round(float(mean[0]), 5),
            "low": round(float(low), 5),
            "high": round(float(high), 5),
        }
    return result


def mean_scores(records: Sequence[Mapping[str, object]]) -> dict[str, float | None]:
    """Means over seeds."""
    out: dict[str, float | None] = {}
    for name in (*SCORES, "border_accuracy", "inner_accuracy", "train_cpu_s", "map_cpu_s"):
        values = [float(record[name]) for record in records if record[name] is not None]  # type: ignore[arg-type]
        out[name] = round(sum(values) / len(values), 4) if values else None
    return out
