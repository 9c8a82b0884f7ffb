"""Scores of abundance maps: MAE, RMSE, RRMSE, CC and F1 of the majority class, from sums over pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend

Score = Literal["mae", "rmse", "rrmse", "cc", "f1"]

SCORES: tuple[Score, ...] = ("mae", "rmse", "rrmse", "cc", "f1")
"""In the order of the published tables."""

NAMES: dict[Score, str] = {"mae": "MAE", "rmse": "RMSE", "rrmse": "RRMSE", "cc": "CC", "f1": "F1"}

HIGHER: frozenset[Score] = frozenset({"cc", "f1"})
"""Of these, more is better."""

_N, _ABS, _SQUARE, _T, _P, _TT, _PP, _TP = range(8)


@dataclass(frozen=True, eq=False)
class AbundanceSums:
    """
    Sums over evaluated pixels, from which all scores follow; those of disjoint areas add up.

    Examples
    --------
    >>> from tesela.core.legend import LandClass
    >>> legend = Legend("demo", (LandClass(1, "a", "A", "#ff0000"), LandClass(2, "b", "B", "#00ff00")))
    >>> truth, map_ = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.8, 0.2], [0.5, 0.5]])
    >>> sums = AbundanceSums.of(legend, truth, map_)
    >>> sums.evaluated_px, round(sums.mean("mae"), 6), round(sums.mean("rmse"), 6)
    (2, 10.0, 14.142136)
    """

    legend: Legend
    moments: NDArray[np.float64]
    """(classes, 8): n, sums of |e|, e², t, p, t², p², t p; t of the reference, p of the map, e = p - t."""
    majority: NDArray[np.float64]
    """(classes, classes): pixels by largest class of the reference (rows) and of the map (columns)."""

    @classmethod
    def empty(cls, legend: Legend) -> AbundanceSums:
        """Sums without pixels."""
        count = len(legend)
        return cls(legend, np.zeros((count, 8)), np.zeros((count, count)))

    @classmethod
    def of(cls, legend: Legend, truth: NDArray[np.floating], estimate: NDArray[np.floating]) -> AbundanceSums:
        """Sum up (pixels, classes) shares of the reference and of the map, 0 to 1, without NaN."""
        t, p = truth.astype(np.float64), estimate.astype(np.float64)
        error = p - t
        parts = (np.ones_like(t), np.abs(error), error**2, t, p, t * t, p * p, t * p)
        moments = np.stack([part.sum(axis=0) for part in parts], axis=-1)
        count = len(legend)
        pairs = t.argmax(axis=1) * count + p.argmax(axis=1) if len(t) else np.zeros(0, np.intp)
        majority = np.bincount(pairs, minlength=count * count).reshape(count, count)
        return cls(legend, moments, majority.astype(np.float64))

    def __add__(self, other: AbundanceSums) -> AbundanceSums:
        return AbundanceSums(self.legend, self.moments + other.moments, self.majority + other.majority)

    @property
    def evaluated_px(self) -> int:
        """Evaluated pixels."""
        return int(self.moments[0, _N])

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """(5, classes) scores in the order of `SCORES`; NaN where one is undefined."""
        return scores_of(self.moments, self.majority)

    def by_class(self, score: Score) -> NDArray[np.float64]:
        """(classes,) of one score."""
        return np.asarray(self.table[SCORES.index(score)])

    def mean(self, score: Score) -> float:
        """Unweighted mean over the classes for which the score is defined, as in the published tables."""
        return float(mean_of(self.by_class(score)))

    @property
    def flat(self) -> NDArray[np.float64]:
        """All sums in one row, for the bootstrap: see `flat_scores`."""
        return np.concatenate([self.moments.ravel(), self.majority.ravel()])


def scores_of(moments: NDArray[np.float64], majority: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""
    Scores by class of any number of sums at once.

    For class *k* with shares :math:`t_i` of the reference and :math:`p_i` of the map on *N* pixels,

    .. math::

        \mathrm{MAE} = \tfrac{1}{N} \sum |p_i - t_i|, \quad
        \mathrm{RMSE} = \sqrt{\tfrac{1}{N} \sum (p_i - t_i)^2}, \quad
        \mathrm{RRMSE} = \sqrt{\sum (p_i - t_i)^2 / \sum t_i^2},

    all in per cent; CC is Pearson's correlation, and F1 that of the pixels whose largest share is *k*
    [RodriguezOrtega2024]_. The paper gives no formula for RRMSE. This one, relative to the root mean square of the
    reference, fits the published figures; relative to the mean of the reference they would exceed 100.

    Parameters
    ----------
    moments : (..., classes, 8) array
    majority : (..., classes, classes) array

    Returns
    -------
    (..., 5, classes) array of float64
        NaN where a class is absent from both sides, or constant (CC), or absent from the reference (RRMSE).
    """
    n = moments[..., _N]
    correct = np.diagonal(majority, axis1=-2, axis2=-1)
    either = majority.sum(axis=-1) + majority.sum(axis=-2)
    spread_t = n * moments[..., _TT] - moments[..., _T] ** 2
    spread_p = n * moments[..., _PP] - moments[..., _P] ** 2
    together = n * moments[..., _TP] - moments[..., _T] * moments[..., _P]
    constant = 1e-12 * np.maximum(n, 1) ** 2
    varies = (spread_t > constant) & (spread_p > constant)
    return np.stack(
        [
            100 * _ratio(moments[..., _ABS], n),
            100 * np.sqrt(_ratio(moments[..., _SQUARE], n)),
            100 * np.sqrt(_ratio(moments[..., _SQUARE], moments[..., _TT])),
            _ratio(together, np.sqrt(np.where(varies, spread_t * spread_p, 0.0))),
            _ratio(2 * correct, either),
        ],
        axis=-2,
    )


def flat_scores(flat: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """(..., 5, classes) scores of `AbundanceSums.flat` rows, or of sums of such rows: (..., 8 classes + classes²)."""
    cut = 8 * classes
    moments = flat[..., :cut].reshape(*flat.shape[:-1], classes, 8)
    return scores_of(moments, flat[..., cut:].reshape(*flat.shape[:-1], classes, classes))


def mean_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the defined scores over the last axis; NaN where none is defined."""
    defined = np.isfinite(scores)
    return _ratio(np.where(defined, scores, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def intervals(
    blocks: NDArray[np.float64], classes: int, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Block-bootstrap intervals of the mean scores: whole blocks are drawn with replacement, not pixels.

    Parameters
    ----------
    blocks : (blocks, 8 classes + classes²) array
        `AbundanceSums.flat` of each block.

    Returns
    -------
    low, high : (5,) arrays
        NaN with fewer than two blocks.
    """
    if len(blocks) < 2:
        undefined = np.full(len(SCORES), np.nan)
        return undefined, undefined
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=draws)
    means = mean_of(flat_scores(weights @ blocks, classes))
    tails = 50 * (1 - level)
    low, high = np.nanpercentile(means, [tails, 100 - tails], axis=0)
    return low, high


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def score_lines(mean: Mapping[str, float | None]) -> list[str]:
    """Mean scores for a terminal, errors in per cent; a dash where there is none."""
    numbers = {name: float("nan") if (value := mean[name]) is None else float(value) for name in SCORES}
    units = {name: "" if name in HIGHER else " %" for name in SCORES}
    return [
        f"{NAMES[name]:<9} {'–' if math.isnan(number) else f'{number:.4g}{units[name]}'}"
        for name, number in numbers.items()
    ]
