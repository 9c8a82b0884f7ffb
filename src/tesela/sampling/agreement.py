r"""
Agreement of several raters on the same items.

Every coefficient is 1 minus a ratio of disagreements, :math:`1 - \sum w_{ck} o_{ck} / \sum w_{ck} e_{ck}`. Here
:math:`o_{ck}` is the share of pairs of ratings of one item with the categories *c* and *k*, :math:`e_{ck}` the share
expected by chance, and :math:`w_{ck}` the weight of the disagreement. Weighted kappa [Cohen1968]_ takes chance from
the category frequencies of two raters; Krippendorff's alpha [Krippendorff2011]_ from all ratings, of any number of
raters, with missing ratings allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, unknown_name

MISSING = -1
"""Value of a missing rating."""

Ratings = NDArray[np.int64]
"""(items, raters): ranks 0, 1, ... of the categories, -1 where there is no rating."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A coefficient with its 95 % confidence interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Agreement on one question."""

    items: int
    """Items with two ratings or more."""
    pairs: int
    """Pairs of ratings of one item."""
    percent: Interval
    """Share of pairs in the same category, 0 to 1."""
    kappa: Interval
    """Kappa, of ranks weighted linearly; the mean over all pairs of raters who share items [Light1971]_."""
    alpha: Interval
    """Krippendorff's alpha, for ranks or for names."""

    def to_dict(self) -> dict[str, object]:
        """Document for JSON; undefined values are null."""
        shown = {
            name: [None if np.isnan(x) else round(x, 4) for x in (item.value, item.low, item.high)]
            for name, item in (("percent", self.percent), ("kappa", self.kappa), ("alpha", self.alpha))
        }
        return {"items": self.items, "pairs": self.pairs, **shown}


def measure_agreement(
    ratings: Ratings,
    *,
    categories: int,
    level: Literal["nominal", "ordinal"] = "ordinal",
    repeats: int = 2000,
    seed: int = 0,
) -> Agreement:
    """
    Measure the agreement of ratings, with intervals.

    The intervals are bootstrap percentiles: items are resampled with replacement, `repeats` times.

    Parameters
    ----------
    ratings : (items, raters) array of int
        See `Ratings`.
    categories : int
        Number of categories.
    level : {"nominal", "ordinal"}
        Whether categories are names, where all disagreements weigh the same, or ranks.

    Raises
    ------
    InputError
        If a rank is out of range, or no item has two ratings.

    Examples
    --------
    >>> agreement = measure_agreement(np.array([[0, 0], [1, 1], [2, 1], [2, 2]]), categories=3, repeats=100)
    >>> agreement.percent.value, round(agreement.kappa.value, 3)
    (0.75, 0.714)
    """
    shared = _shared(ratings, categories)
    draws = np.random.default_rng(seed).multinomial(
        len(shared), np.full(len(shared), 1 / len(shared)), size=repeats
    )
    weights = np.concatenate([np.ones((1, len(shared))), draws])
    ranks, costs = np.eye(categories), distances("linear" if level == "ordinal" else level, categories)
    counts = _counts(shared, categories)
    rated = counts.sum(axis=1)
    percent = _percent(counts, weights)
    tables = [
        _crossed(shared[:, [one, other]], categories)
        for one, other in combinations(range(shared.shape[1]), 2)
    ]
    kappas = [_kappa(weights @ table, costs, categories) for table in tables if table.any()]
    alpha = _alpha(weights @ _coincidences(counts, ranks), level, categories)
    return Agreement(
        items=len(shared),
        pairs=int((rated * (rated - 1)).sum() / 2),
        percent=_interval(percent),
        kappa=_interval(_mean_defined(np.array(kappas))),
        alpha=_interval(alpha),
    )


def weighted_kappa(
    first: Sequence[int], second: Sequence[int], *, categories: int, weights: str = "linear"
) -> float:
    """
    Cohen's weighted kappa of two raters; NaN where chance agreement is complete.

    Parameters
    ----------
    first, second : sequences of int
        Ranks 0, 1, ...; -1 where there is no rating.
    weights : {"linear", "quadratic", "nominal"}
        Weight of a disagreement: the difference of the ranks, its square, or 1.
    """
    table = _crossed(_shared(np.stack([first, second], axis=1), categories), categories)
    return float(_kappa(table.sum(axis=0, keepdims=True), distances(weights, categories), categories)[0])


def krippendorff_alpha(ratings: Ratings, *, categories: int, level: str = "ordinal") -> float:
    """
    Krippendorff's alpha of any number of raters; NaN where all ratings are the same.

    Parameters
    ----------
    ratings : (items, raters) array of int
        See `Ratings`; items with one rating are left out.
    level : {"nominal", "ordinal", "interval"}
        Weight of a disagreement: 1; the square of the number of ratings between the ranks; the square of the
        difference of the ranks.
    """
    coincidences = _coincidences(_counts(_shared(ratings, categories), categories), np.eye(categories))
    return float(_alpha(coincidences.sum(axis=0, keepdims=True), level, categories)[0])


def distances(weights: str, categories: int) -> _Floats:
    """Weights of disagreements, (categories, categories); see `weighted_kappa`."""
    if weights not in _DISTANCES:
        raise InputError(unknown_name("weights", weights, _DISTANCES))
    ranks = np.arange(categories, dtype=float)
    return _DISTANCES[weights](np.abs(ranks[:, None] - ranks))


_DISTANCES: dict[str, Callable[[_Floats], _Floats]] = {
    "linear": lambda steps: steps,
    "quadratic": np.square,
    "nominal": lambda steps: np.asarray(steps > 0, np.float64),
}


def _shared(ratings: Ratings, categories: int) -> Ratings:
    """Items with two ratings or more."""
    table = np.asarray(ratings, np.int64)
    if table.ndim != 2 or (table.size and (table.min() < MISSING or table.max() >= categories)):
        raise InputError(
            f"Ratings are a table of items by raters with ranks 0 to {categories - 1}, -1 for none; they have the "
            f"shape {table.shape} and values {table.min(initial=0)} to {table.max(initial=0)}."
        )
    shared = table[(table >= 0).sum(axis=1) >= 2]
    if not len(shared):
        raise InputError(
            "No item was rated by two reviewers, so their agreement is not known. Let two review the same "
            "patches (tesela review serve --overlap 0.1)."
        )
    return np.asarray(shared)


def _counts(ratings: Ratings, categories: int) -> _Floats:
    """Number of ratings by item and category, (items, categories)."""
    return np.asarray((ratings[:, :, None] == np.arange(categories)).sum(axis=1), np.float64)


def _percent(counts: _Floats, weights: _Floats) -> _Floats:
    """Share of equal pairs, for each row of item weights."""
    rated = counts.sum(axis=1)
    equal = (counts * (counts - 1)).sum(axis=1)
    return np.asarray((weights @ equal) / (weights @ (rated * (rated - 1))))


def _crossed(pair: Ratings, categories: int) -> _Floats:
    """One-hot table of two raters by item, (items, categories squared); zero where a rating is missing."""
    table = np.zeros((len(pair), categories * categories))
    both = np.flatnonzero((pair >= 0).all(axis=1))
    table[both, pair[both, 0] * categories + pair[both, 1]] = 1
    return table


def _kappa(tables: _Floats, weights: _Floats, categories: int) -> _Floats:
    """Kappa of each of (repeats, categories squared) tables."""
    crossed = tables.reshape(-1, categories, categories)
    total = crossed.sum(axis=(1, 2))
    chance = crossed.sum(axis=2)[:, :, None] * crossed.sum(axis=1)[:, None, :]
    return _one_less((crossed * weights).sum(axis=(1, 2)) * total, (chance * weights).sum(axis=(1, 2)))


def _coincidences(counts: _Floats, ranks: _Floats) -> _Floats:
    """Pairs of ratings by item and the two categories, each rater counted once, (items, categories squared)."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * ranks
    return np.asarray((pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), -1))


def _alpha(coincidences: _Floats, level: str, categories: int) -> _Floats:
    """Alpha of each of (repeats, categories squared) tables."""
    pairs = coincidences.reshape(-1, categories, categories)
    used = pairs.sum(axis=2)
    total = used.sum(axis=1)
    if level == "ordinal":
        middle = np.cumsum(used, axis=1) - used / 2  # ratings below the middle of each rank
        weights = (middle[:, :, None] - middle[:, None, :]) ** 2
    elif level in ("nominal", "interval"):
        weights = distances("nominal" if level == "nominal" else "quadratic", categories)[None]
    else:
        raise InputError(unknown_name("level", level, ("nominal", "ordinal", "interval")))
    expected = used[:, :, None] * used[:, None, :]
    return _one_less((pairs * weights).sum(axis=(1, 2)) * (total - 1), (expected * weights).sum(axis=(1, 2)))


def _one_less(observed: _Floats, expected: _Floats) -> _Floats:
    defined = expected > 0
    return np.where(defined, 1 - observed / np.where(defined, expected, 1), np.nan)


def _mean_defined(values: _Floats) -> _Floats:
    """Mean of each column, (n, repeats), over the defined values."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0).sum(axis=0)
    return np.where(defined.any(axis=0), total / np.maximum(defined.sum(axis=0), 1), np.nan)


def _interval(values: _Floats) -> Interval:
    """The first value, with the 2.5th and 97.5th percentiles of the other defined values."""
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, (2.5, 97.5)) if drawn.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
