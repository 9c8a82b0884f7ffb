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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.tree_vectors import NUMBERS, add_numbers

BINS = 64
"""Values between which thresholds are looked for, by feature."""


@dataclass(frozen=True)
class BoostingSettings:
    """How trees are boosted."""

    trees: int = 300
    """How many; fewer than some 150 cost accuracy and rare classes, though their loss may be less."""
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
        self.add_to(scores, values)
        return scores

    def add_to(self, scores: NDArray[np.float32], values: NDArray[np.int16]) -> None:
        """Add the scores of the trees, without the baseline, to (pixels, classes) scores."""
        for feature, threshold, leaf in zip(self.feature, self.threshold, self.leaf, strict=True):
            _add_leaves(values, feature, threshold, leaf, scores)

    def part(self, begin: int, end: int) -> Boosted:
        """Some of the trees, with the baseline."""
        chosen = slice(begin, end)
        return replace(
            self, feature=self.feature[chosen], threshold=self.threshold[chosen], leaf=self.leaf[chosen]
        )


def boost(
    values: NDArray[np.int16],
    classes: NDArray[np.integer],
    *,
    count: int,
    settings: BoostingSettings,
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
    deadline : callable
        True when no more trees must be grown.

    Returns
    -------
    Boosted
    """
    [grown] = boost_series(values, classes, count=count, settings=settings, series=1, deadline=deadline)
    return grown


def boost_series(
    values: NDArray[np.int16],
    classes: NDArray[np.integer],
    *,
    count: int,
    settings: BoostingSettings,
    series: int,
    deadline: Callable[[], bool] = lambda: False,
    grown: Callable[[int], None] = lambda number: None,
) -> list[Boosted]:
    """
    Grow the trees in several series of other draws, in turn: a deadline leaves as many of each, or one more.

    Parameters
    ----------
    settings : BoostingSettings
        `trees` are those of all series together.
    series : int
        How many; the first has the seed of the settings.
    grown : callable
        Called with the number of trees so far.

    See `boost` for the others.
    """
    growing = [
        _Growing(values, classes, count, replace(settings, seed=settings.seed + 1000 * number))
        for number in range(series)
    ]
    for number in range(settings.trees):
        if number >= series and deadline():
            break
        growing[number % series].grow()
        grown(number + 1)
    return [item.grown() for item in growing]


class _Growing:
    """A series of trees that grows."""

    def __init__(
        self,
        values: NDArray[np.int16],
        classes: NDArray[np.integer],
        count: int,
        settings: BoostingSettings,
    ) -> None:
        self._values, self._settings, self._count = values, settings, count
        self._rng = np.random.default_rng(settings.seed)
        frequency = np.bincount(classes, minlength=count) / classes.size
        self._baseline = np.log(np.maximum(frequency, 1e-6)).astype(np.float32)
        self._edges, self._binned = _bin(values, self._rng)
        self._target = classes.astype(np.int32)
        self._scores = np.repeat(self._baseline[None], classes.size, axis=0)
        self._trees: list[tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float32]]] = []
        self._gain = np.zeros(len(values))

    def grow(self) -> None:
        """Grow one more tree."""
        values, settings, rng, edges = self._values, self._settings, self._rng, self._edges
        looked = max(1, round(len(values) * settings.features))
        chosen = np.flatnonzero(rng.random(self._target.size) < settings.pixels)
        slopes = _gradients(self._scores, self._target, chosen)
        place = np.zeros(len(chosen), np.int64)
        features, thresholds = np.zeros(settings.depth, np.int32), np.zeros(settings.depth, np.int16)
        for level in range(settings.depth):
            some = rng.choice(len(values), looked, replace=False)
            gains, bins = _best_splits(
                self._binned, chosen, place, slopes, some, 1 << level, self._count, settings.ridge
            )
            winner = int(gains.argmax())
            feature = int(some[winner])
            features[level] = feature
            thresholds[level] = edges[feature][min(bins[winner], len(edges[feature]) - 1)]
            self._gain[feature] += max(0.0, float(gains[winner]))
            place |= (self._binned[feature, chosen] > bins[winner]).astype(np.int64) << level
        leaf = _leaf_scores(place, slopes, self._count, 1 << settings.depth, settings.ridge)
        leaf *= np.float32(settings.rate)
        _add_leaves(values, features, thresholds, leaf, self._scores)
        self._trees.append((features, thresholds, leaf))

    def grown(self) -> Boosted:
        """The trees so far, one at least."""
        feature, threshold, leaf = (np.stack(item) for item in zip(*self._trees, strict=True))
        return Boosted(feature, threshold, leaf, self._baseline, self._gain)


def average_boosted(series: Sequence[Boosted]) -> Boosted:
    """The mean of the scores of several series of trees, as one series."""
    number = len(series)
    return Boosted(
        np.concatenate([item.feature for item in series]),
        np.concatenate([item.threshold for item in series]),
        np.concatenate([item.leaf / np.float32(number) for item in series]),
        np.mean([item.baseline for item in series], axis=0, dtype=np.float32),
        np.sum([item.gain for item in series], axis=0),
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
        table = np.searchsorted(edge, np.arange(-32768, 32768, dtype=np.int16), side="left").astype(np.uint8)
        binned[position] = table[row.view(np.uint16) ^ np.uint16(0x8000)]
    return edges, binned


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _gradients(scores, target, chosen):  # type: ignore[no-untyped-def]
    """Gradients of all classes, then curvatures, (chosen pixels, numbers): a multiple of `NUMBERS`, the rest 0."""
    count = scores.shape[1]
    slopes = np.zeros((len(chosen), -(-2 * count // NUMBERS) * NUMBERS), np.float32)
    for j in numba.prange(len(chosen)):
        i = chosen[j]
        top = scores[i].max()
        total = np.float32(0)
        for k in range(count):
            slopes[j, k] = np.exp(scores[i, k] - top)
            total += slopes[j, k]
        for k in range(count):
            p = slopes[j, k] / total
            slopes[j, k] = (np.float32(1) if k == target[i] else np.float32(0)) - p
            slopes[j, count + k] = max(p * (1 - p), np.float32(1e-6))
    return slopes


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _best_splits(binned, chosen, place, slopes, some, leaves, count, ridge):  # type: ignore[no-untyped-def]
    """For each of some features, the best gain over no split and the bin that reaches it."""
    number, width = slopes.shape
    gains = np.zeros(len(some))
    bins = np.zeros(len(some), np.int64)
    for item in numba.prange(len(some)):
        row = binned[some[item]]
        cells = np.zeros((leaves, BINS, width), np.float32)
        to, source = cells.ctypes.data, slopes.ctypes.data
        for i in range(number):
            cell = to + 4 * width * (place[i] * BINS + np.int64(row[chosen[i]]))
            for first in range(0, width, NUMBERS):
                add_numbers(cell + 4 * first, source + 4 * (i * width + first))
        score = np.zeros(BINS)
        low, curve = np.empty(BINS), np.empty(BINS)  # sums up to and with each bin
        before = 0.0
        for one in range(leaves):
            for k in range(count):
                whole, bend = 0.0, 0.0
                for b in range(BINS):
                    whole += cells[one, b, k]
                    bend += cells[one, b, count + k]
                    low[b], curve[b] = whole, bend
                before += whole * whole / (bend + ridge)
                for b in range(BINS):
                    rest, other = whole - low[b], max(bend - curve[b], 0.0)
                    score[b] += low[b] * low[b] / (curve[b] + ridge) + rest * rest / (other + ridge)
        at = np.argmax(score[: BINS - 1])
        gains[item] = score[at] - before
        bins[item] = at
    return gains, bins


@numba.njit(cache=True, error_model="numpy")
def _leaf_scores(place, slopes, count, leaves, ridge):  # type: ignore[no-untyped-def]
    number = len(place)
    sums = np.zeros((leaves, count))
    curves = np.zeros((leaves, count))
    for i in range(number):
        for k in range(count):
            sums[place[i], k] += slopes[i, k]
            curves[place[i], k] += slopes[i, count + k]
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
