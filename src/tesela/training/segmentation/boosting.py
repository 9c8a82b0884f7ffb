r"""
Gradient boosting with symmetric trees of many outputs.

Each tree has one feature and one threshold a level, the same for all nodes of the level, and a score for each class in
each leaf [Prokhorenkova2018]_. With the class probabilities :math:`p` of the trees so far, gradients
:math:`g = y - p` and curvatures :math:`h = p (1 - p)`, a level takes the split of largest

.. math::

    \sum_{\text{leaves}} \sum_k \frac{G_k^2}{H_k + \lambda},

and a leaf the score :math:`\eta\, G_k / (H_k + \lambda)`. Maps run such trees without branches, many pixels at a time;
``benchmarks/trees.py`` compares their scores and times with those of libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

BINS = 64
"""Values between which thresholds are looked for, by feature."""


@dataclass(frozen=True)
class BoostingSettings:
    """How trees are boosted."""

    trees: int = 150
    """How many; stopping at the least loss of validation pixels costs accuracy, see docs/models.md."""
    depth: int = 6
    rate: float = 0.1
    """Share of each tree's step that is taken."""
    features: float = 0.3
    """Share of the features that a level looks at, drawn at random."""
    pixels: float = 0.5
    """Share of the pixels that a tree is grown with, drawn at random."""
    ridge: float = 5.0
    """:math:`\\lambda`: the larger, the smaller the scores of leaves of few pixels."""
    seed: int = 0


@dataclass(frozen=True)
class Boosted:
    """Trees that were grown."""

    feature: NDArray[np.int32]
    """(trees, depth)"""
    threshold: NDArray[np.int16]
    """(trees, depth): larger values go to the upper half of the leaves."""
    leaf: NDArray[np.float32]
    """(trees, 2 ** depth, classes)"""
    baseline: NDArray[np.float32]
    """(classes,): logarithms of the class frequencies."""
    gain: NDArray[np.float64]
    """(features,): what the splits by each feature gained."""

    def scores(self, values: NDArray[np.int16]) -> NDArray[np.float32]:
        """Logits of (features, pixels) values, (pixels, classes)."""
        scores = np.repeat(self.baseline[None], values.shape[1], axis=0)
        for feature, threshold, leaf in zip(self.feature, self.threshold, self.leaf, strict=True):
            _add_leaves(values, feature, threshold, leaf, scores)
        return scores


def boost(
    values: NDArray[np.int16],
    classes: NDArray[np.integer],
    *,
    count: int,
    settings: BoostingSettings,
    weights: NDArray[np.float32] | None = None,
    deadline: Callable[[], bool] = lambda: False,
) -> Boosted:
    """
    Grow trees.

    Parameters
    ----------
    values : (features, pixels) array of int16
    classes : (pixels,) array of int
        Positions of classes, from 0.
    count : int
        Number of classes.
    weights : (pixels,) array of float32, optional
    deadline : callable
        True when no more trees must be grown.

    Returns
    -------
    Boosted
    """
    rng = np.random.default_rng(settings.seed)
    number = classes.size
    weight = np.ones(number, np.float32) if weights is None else weights.astype(np.float32)
    frequency = np.bincount(classes, weights=weight, minlength=count) / weight.sum()
    baseline = np.log(np.maximum(frequency, 1e-6)).astype(np.float32)
    edges, binned = _bin(values, rng)
    target = classes.astype(np.int32)
    scores = np.repeat(baseline[None], number, axis=0)
    grown: list[tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float32]]] = []
    gain = np.zeros(len(values))
    looked = max(1, round(len(values) * settings.features))
    for _ in range(settings.trees):
        if grown and deadline():
            break
        chosen = np.flatnonzero(rng.random(number) < settings.pixels)
        gradient, curvature = _gradients(scores[chosen], target[chosen], weight[chosen])
        part = np.ascontiguousarray(binned[:, chosen])
        place = np.zeros(len(chosen), np.int64)
        features, thresholds = np.zeros(settings.depth, np.int32), np.zeros(settings.depth, np.int16)
        for level in range(settings.depth):
            some = rng.choice(len(values), looked, replace=False)
            gains, bins = _best_splits(part, place, gradient, curvature, some, 1 << level, settings.ridge)
            winner = int(gains.argmax())
            feature = int(some[winner])
            features[level] = feature
            thresholds[level] = edges[feature][min(bins[winner], len(edges[feature]) - 1)]
            gain[feature] += max(0.0, float(gains[winner]))
            place |= (part[feature] > bins[winner]).astype(np.int64) << level
        leaf = _leaf_scores(place, gradient, curvature, 1 << settings.depth, settings.ridge) * np.float32(
            settings.rate
        )
        _add_leaves(values, features, thresholds, leaf, scores)
        grown.append((features, thresholds, leaf))
    return Boosted(
        np.stack([item[0] for item in grown]),
        np.stack([item[1] for item in grown]),
        np.stack([item[2] for item in grown]),
        baseline,
        gain,
    )


def _bin(
    values: NDArray[np.int16], rng: np.random.Generator
) -> tuple[list[NDArray[np.int16]], NDArray[np.uint8]]:
    """Thresholds of each feature at its quantiles, and the values as positions among them."""
    some = rng.choice(values.shape[1], min(values.shape[1], 50_000), replace=False)
    share = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = [np.unique(np.quantile(row[some], share).astype(np.int16)) for row in values]
    binned = np.empty(values.shape, np.uint8)
    for position, (row, edge) in enumerate(zip(values, edges, strict=True)):
        binned[position] = np.searchsorted(edge, row, side="left")
    return edges, binned


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _gradients(scores, target, weight):  # type: ignore[no-untyped-def]
    number, count = scores.shape
    gradient = np.empty((number, count), np.float32)
    curvature = np.empty((number, count), np.float32)
    for i in numba.prange(number):
        top = scores[i].max()
        total = np.float32(0)
        for k in range(count):
            gradient[i, k] = np.exp(scores[i, k] - top)
            total += gradient[i, k]
        for k in range(count):
            p = gradient[i, k] / total
            gradient[i, k] = weight[i] * ((np.float32(1) if k == target[i] else np.float32(0)) - p)
            curvature[i, k] = weight[i] * max(p * (1 - p), np.float32(1e-6))
    return gradient, curvature


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _best_splits(binned, place, gradient, curvature, some, leaves, ridge):  # type: ignore[no-untyped-def]
    """For each of some features, the best gain over no split and the bin that reaches it."""
    number, count = gradient.shape
    gains = np.zeros(len(some))
    bins = np.zeros(len(some), np.int64)
    for item in numba.prange(len(some)):
        row = binned[some[item]]
        cells = np.zeros((leaves, BINS, 2 * count), np.float32)
        for i in range(number):
            cell = cells[place[i], row[i]]
            for k in range(count):
                cell[k] += gradient[i, k]
                cell[count + k] += curvature[i, k]
        score = np.zeros(BINS)
        before = 0.0
        whole, low = np.zeros(2 * count), np.zeros(2 * count)
        for one in range(leaves):
            whole[:] = 0
            for b in range(BINS):
                for k in range(2 * count):
                    whole[k] += cells[one, b, k]
            for k in range(count):
                before += whole[k] * whole[k] / (whole[count + k] + ridge)
            low[:] = 0
            for b in range(BINS - 1):
                for k in range(2 * count):
                    low[k] += cells[one, b, k]
                for k in range(count):
                    rest, curve = whole[k] - low[k], max(whole[count + k] - low[count + k], 0.0)
                    score[b] += low[k] * low[k] / (low[count + k] + ridge) + rest * rest / (curve + ridge)
        at = np.argmax(score[: BINS - 1])
        gains[item] = score[at] - before
        bins[item] = at
    return gains, bins


@numba.njit(cache=True, error_model="numpy")
def _leaf_scores(place, gradient, curvature, leaves, ridge):  # type: ignore[no-untyped-def]
    number, count = gradient.shape
    sums = np.zeros((leaves, count))
    curves = np.zeros((leaves, count))
    for i in range(number):
        for k in range(count):
            sums[place[i], k] += gradient[i, k]
            curves[place[i], k] += curvature[i, k]
    return (sums / (curves + ridge)).astype(np.float32)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _add_leaves(values, feature, threshold, leaf, scores):  # type: ignore[no-untyped-def]
    number, count = scores.shape
    for i in numba.prange(number):
        at = 0
        for level in range(len(feature)):
            if values[feature[level], i] > threshold[level]:
                at |= 1 << level
        for k in range(count):
            scores[i, k] += leaf[at, k]
