r"""
Likelihood of error: how unlikely a polygon's old class is, compared with other polygons of that class.

A new map has errors everywhere: it confuses scrub with pasture here and there, and how much of a polygon it assigns
to the right class depends on the class. So each polygon is compared with the polygons of the same old class, most of
which are still right. Urgency is the mean of the percentile ranks of two measures, from 0 to 100:

- *Evidence*: with the shares :math:`s_c` of a polygon and the usual shares :math:`q_{kc}` of the polygons of an old
  class :math:`k`, it is :math:`\max_{j \ne k} \sum_c s_c \ln q_{jc} - \sum_c s_c \ln q_{kc}`, in nats per
  pixel: how much better the usual mix of another class explains the new map in the polygon. The usual shares of a
  class leave out the polygon itself. They include one polygon of average size, half of the class itself and half of
  the average mix, so that rare classes have usual shares too.
- *Loss*: the share of its own class that a polygon lacks, compared with the median of its class. The median is
  shrunk towards that of all polygons, with the weight of five polygons.

On four virtual regions with known errors, the two together place more of them among the first tenth of polygons than
either alone, than the share of other classes, or than that share weighted by confidence: see docs/update.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 0.02
"""Weight of the map's average in usual shares, so that no share is 0."""

_SPARE_POLYGONS = 5
"""Weight, in polygons, of the median of all polygons in the median of each class."""


@dataclass(frozen=True, eq=False)
class ErrorLikelihood:
    """Evidence against the old class of each polygon."""

    urgency: NDArray[np.float64]
    """(polygons,) 0 to 100; 0 for polygons that are not evaluated."""
    evidence: NDArray[np.float64]
    """(polygons,) nats per pixel for the best other class; at most 0 where the old class is the best."""
    usual: NDArray[np.float64]
    """(polygons,) share of its own class that a polygon of that class usually has; NaN where not evaluated."""
    likely: NDArray[np.int64]
    """(polygons,) class whose usual shares explain the polygon best."""
    own: NDArray[np.bool_]
    """(polygons, classes) classes of the old code."""
    main: NDArray[np.int64]
    """(polygons,) class with the largest share of the old code; the number of classes where there is none."""


def error_likelihood(
    areas: NDArray[np.float64],
    code_shares: NDArray[np.float64],
    kinds: NDArray[np.int64],
    *,
    evaluated: NDArray[np.bool_],
) -> ErrorLikelihood:
    """
    Compare each polygon with the polygons of its kind.

    Parameters
    ----------
    areas : (polygons, classes) array
        Area of each class of the new map, in any unit.
    code_shares : (kinds, classes) array
        Share of each class in a kind of old code; a kind without classes is not an alternative.
    kinds : (polygons,) array of int
    evaluated : (polygons,) array of bool
        Polygons to evaluate; the others get no values.
    """
    own = code_shares[kinds] > 0
    nothing = code_shares.sum(axis=1) == 0
    main = np.where(nothing, code_shares.shape[1], code_shares.argmax(axis=1))
    urgency, evidence, usual = np.zeros(len(kinds)), np.zeros(len(kinds)), np.full(len(kinds), np.nan)
    likely = np.minimum(main[kinds], code_shares.shape[1] - 1)
    if evaluated.any():
        against, best = _evidence(areas[evaluated], code_shares, kinds[evaluated])
        share = np.where(own[evaluated], areas[evaluated], 0.0).sum(axis=1) / areas[evaluated].sum(axis=1)
        usual[evaluated] = _usual(share, kinds[evaluated])
        evidence[evaluated], likely[evaluated] = against, main[best]
        urgency[evaluated] = 50 * (_percentile(against) + _percentile(usual[evaluated] - share))
    return ErrorLikelihood(urgency, evidence, usual, likely, own, main[kinds])


def _evidence(
    areas: NDArray[np.float64], code_shares: NDArray[np.float64], kinds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    size = areas.sum(axis=1, keepdims=True)
    shares = areas / size
    average = areas.sum(axis=0) / areas.sum()
    total = np.zeros(code_shares.shape)
    np.add.at(total, kinds, areas)
    spare = float(np.median(size)) * 0.5 * (code_shares + average)

    def usual(mix: NDArray[np.float64]) -> NDArray[np.float64]:
        mix = mix + (_LEAST * average + 1e-9) * mix.sum(axis=1, keepdims=True)
        logarithms: NDArray[np.float64] = np.log(mix / mix.sum(axis=1, keepdims=True))
        return logarithms

    fit = shares @ usual(total + spare).T
    present = np.zeros(len(code_shares), np.bool_)
    present[kinds] = True
    fit[:, ~present | (code_shares.sum(axis=1) == 0)] = -np.inf
    each = np.arange(len(kinds))
    mine = (shares * usual(np.maximum(total[kinds] - areas, 0.0) + spare[kinds])).sum(axis=1)
    fit[each, kinds] = mine
    best = fit.argmax(axis=1)
    fit[each, kinds] = -np.inf
    other = fit.max(axis=1)
    evidence = np.where(np.isfinite(other), other - mine, 0.0)
    return evidence, best.astype(np.int64)


def _usual(share: NDArray[np.float64], kinds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median share of the own class among the polygons of the same kind, shrunk towards that of all."""
    middle = float(np.median(share))
    usual = np.zeros(int(kinds.max()) + 1)
    for kind in np.unique(kinds):
        alike = share[kinds == kind]
        total = len(alike) + _SPARE_POLYGONS
        usual[kind] = (len(alike) * np.median(alike) + _SPARE_POLYGONS * middle) / total
    by_polygon: NDArray[np.float64] = usual[kinds]
    return by_polygon


def _percentile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value, 0 for the smallest and 1 for the largest; equal values share the mean rank."""
    if len(values) < 2:
        return np.zeros(len(values))
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    ranks: NDArray[np.float64] = (low + high - 1) / 2 / (len(values) - 1)
    return ranks
