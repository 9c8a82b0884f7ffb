r"""
Agreement: how far people who judged the same things say the same.

Every measure is 1 less a ratio of disagreements. With :math:`o_{ck}` the share of pairs of judgements of one thing of
which one says *c* and the other *k*, :math:`e_{ck}` the same for pairs that chance makes, and :math:`w_{ck}` what
such a disagreement counts, it is :math:`1 - \sum w_{ck} o_{ck} / \sum w_{ck} e_{ck}`. Weighted kappa [Cohen1968]_
lets chance pair the habits of two people; Krippendorff's alpha [Krippendorff2011]_ pairs all judgements, of any
number of people, some of which may be missing.
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
"""Value of a judgement that was not made."""

Ratings = NDArray[np.int64]
"""(things, people): ranks 0, 1, ... of the categories, -1 where there is no judgement."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A measure and the interval that holds it with 95 % confidence; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Agreement on one question."""

    things: int
    """Things that two people or more judged."""
    pairs: int
    """Pairs of judgements of one thing."""
    percent: Interval
    """Share of the pairs that say the same, 0 to 1."""
    kappa: Interval
    """Kappa, of ranks weighted linearly; the mean over all pairs of people who share things [Light1971]_."""
    alpha: Interval
    """Krippendorff's alpha, for ranks or for names."""

    def to_dict(self) -> dict[str, object]:
        """Document for JSON; what is not defined is null."""
        shown = {
            name: [None if np.isnan(x) else round(x, 4) for x in (found.value, found.low, found.high)]
            for name, found in (("percent", self.percent), ("kappa", self.kappa), ("alpha", self.alpha))
        }
        return {"things": self.things, "pairs": self.pairs, **shown}


def measure_agreement(
    ratings: Ratings,
    *,
    categories: int,
    level: Literal["nominal", "ordinal"] = "ordinal",
    repeats: int = 2000,
    seed: int = 0,
) -> Agreement:
    """
    Measure the agreement of judgements, with intervals.

    The intervals are percentiles of the bootstrap: things are drawn anew with replacement, `repeats` times.

    Parameters
    ----------
    ratings : (things, people) array of int
        See `Ratings`.
    categories : int
        Number of categories.
    level : {"nominal", "ordinal"}
        Whether categories are names, of which any two differ alike, or ranks.

    Raises
    ------
    InputError
        If a rank is out of range, or no thing was judged twice.

    Examples
    --------
    >>> found = measure_agreement(np.array([[0, 0], [1, 1], [2, 1], [2, 2]]), categories=3, repeats=100)
    >>> found.percent.value, round(found.kappa.value, 3)
    (0.75, 0.714)
    """
    shared = _shared(ratings, categories)
    draws = np.random.default_rng(seed).multinomial(
        len(shared), np.full(len(shared), 1 / len(shared)), size=repeats
    )
    weights = np.concatenate([np.ones((1, len(shared))), draws])
    ranks, costs = np.eye(categories), distances("linear" if level == "ordinal" else level, categories)
    counts = _counts(shared, categories)
    judged = counts.sum(axis=1)
    percent = _percent(counts, weights)
    tables = [
        _crossed(shared[:, [one, other]], categories)
        for one, other in combinations(range(shared.shape[1]), 2)
    ]
    kappas = [_kappa(weights @ table, costs, categories) for table in tables if table.any()]
    alpha = _alpha(weights @ _coincidences(counts, ranks), level, categories)
    return Agreement(
        things=len(shared),
        pairs=int((judged * (judged - 1)).sum() / 2),
        percent=_interval(percent),
        kappa=_interval(_mean_defined(np.array(kappas))),
        alpha=_interval(alpha),
    )


def weighted_kappa(
    first: Sequence[int], second: Sequence[int], *, categories: int, weights: str = "linear"
) -> float:
    """
    Cohen's kappa of two people, weighted; NaN where chance alone would make them agree always.

    Parameters
    ----------
    first, second : sequences of int
        Ranks 0, 1, ...; -1 where there is no judgement.
    weights : {"linear", "quadratic", "nominal"}
        What a disagreement counts: the distance of the ranks, its square, or 1.
    """
    table = _crossed(_shared(np.stack([first, second], axis=1), categories), categories)
    return float(_kappa(table.sum(axis=0, keepdims=True), distances(weights, categories), categories)[0])


def krippendorff_alpha(ratings: Ratings, *, categories: int, level: str = "ordinal") -> float:
    """
    Krippendorff's alpha of any number of people; NaN where all judgements are the same.

    Parameters
    ----------
    ratings : (things, people) array of int
        See `Ratings`; things judged once are left out.
    level : {"nominal", "ordinal", "interval"}
        What a disagreement counts: 1; the square of how many judgements lie between the ranks; the square of the
        distance of the ranks.
    """
    coincidences = _coincidences(_counts(_shared(ratings, categories), categories), np.eye(categories))
    return float(_alpha(coincidences.sum(axis=0, keepdims=True), level, categories)[0])


def distances(weights: str, categories: int) -> _Floats:
    """What disagreements count, (categories, categories); see `weighted_kappa`."""
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
    """Things that were judged twice or more."""
    found = np.asarray(ratings, np.int64)
    if found.ndim != 2 or (found.size and (found.min() < MISSING or found.max() >= categories)):
        raise InputError(
            f"Ratings are a table of things by people with ranks 0 to {categories - 1}, -1 for none; shape "
            f"{found.shape} came, {found.min(initial=0)} to {found.max(initial=0)}."
        )
    shared = found[(found >= 0).sum(axis=1) >= 2]
    if not len(shared):
        raise InputError(
            "Nothing was judged by two people, so their agreement is not known. Let two review the same "
            "patches (tesela review --overlap 0.1)."
        )
    return np.asarray(shared)


def _counts(ratings: Ratings, categories: int) -> _Floats:
    """Judgements by thing and category, (things, categories)."""
    return np.asarray((ratings[:, :, None] == np.arange(categories)).sum(axis=1), np.float64)


def _percent(counts: _Floats, weights: _Floats) -> _Floats:
    """Share of equal pairs, for each row of weights of the things."""
    judged = counts.sum(axis=1)
    equal = (counts * (counts - 1)).sum(axis=1)
    return np.asarray((weights @ equal) / (weights @ (judged * (judged - 1))))


def _crossed(pair: Ratings, categories: int) -> _Floats:
    """One-hot table of two people by thing, (things, categories squared); zero where one is missing."""
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
    """Pairs of judgements by thing and the two categories, each person counting once, (things, categories squared)."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * ranks
    return np.asarray((pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), -1))


def _alpha(coincidences: _Floats, level: str, categories: int) -> _Floats:
    """Alpha of each of (repeats, categories squared) tables."""
    pairs = coincidences.reshape(-1, categories, categories)
    used = pairs.sum(axis=2)
    total = used.sum(axis=1)
    if level == "ordinal":
        middle = np.cumsum(used, axis=1) - used / 2  # judgements below the middle of each rank
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
    """Mean of each column, (n, repeats), over what is defined."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0).sum(axis=0)
    return np.where(defined.any(axis=0), total / np.maximum(defined.sum(axis=0), 1), np.nan)


def _interval(values: _Floats) -> Interval:
    """The first value, and the 2.5th and 97.5th percentiles of the others that are defined."""
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, (2.5, 97.5)) if drawn.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
