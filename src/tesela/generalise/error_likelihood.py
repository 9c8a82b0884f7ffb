r"""
Suspicion: how little a polygon looks like others of its class.

A new map is never right everywhere: scrub looks like pasture here and there, and the share of its own class
that a polygon shows differs by class. So each polygon is compared with the polygons of the same old class,
most of which still hold. Two measures are taken, and urgency is the mean of their percentile ranks, from 0
to 100:

- *Evidence*: with the shares :math:`s_c` of a polygon and the usual shares :math:`q_{kc}` of the polygons of an old
  class :math:`k`, it is :math:`\max_{j \ne k} \sum_c s_c \ln q_{jc} - \sum_c s_c \ln q_{kc}`, in nats per
  pixel: how much better the usual mix of another class explains what the map shows. A polygon's own ground
  is left out of the usual shares of its class, and one polygon's worth of ground, half of it the class
  itself and half of it average, is put in, so that rare classes have usual shares too.
- *Loss*: the share of its own class that a polygon lacks, compared with the median of its class. The median is
  drawn towards that of all polygons as if five more stood there.

Compared on four virtual regions whose mistakes are known, the two together find more of them among the
first tenth of polygons than either alone, than the share of other classes, or than that share weighted by
confidence: see docs/update.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 0.02
"""Part of usual shares that is the map's average, so that no share is 0."""

_SPARE_POLYGONS = 5
"""Polygons of the median of all, put to those of each class."""


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What speaks against each polygon."""

    urgency: NDArray[np.float64]
    """(polygons,) 0 to 100; 0 for polygons that are not judged."""
    evidence: NDArray[np.float64]
    """(polygons,) nats per pixel for the best other class; at most 0 where the own class is the best."""
    usual: NDArray[np.float64]
    """(polygons,) share of its own class that a polygon of that class usually shows; NaN where not judged."""
    likely: NDArray[np.int64]
    """(polygons,) class whose usual shares explain the polygon best."""
    own: NDArray[np.bool_]
    """(polygons, classes) classes that the old code stands for."""
    main: NDArray[np.int64]
    """(polygons,) the first of them by share; the number of classes where there is none."""


def suspect(
    areas: NDArray[np.float64],
    stands_for: NDArray[np.float64],
    kinds: NDArray[np.int64],
    *,
    judged: NDArray[np.bool_],
) -> Suspicion:
    """
    Compare each polygon with those of its kind.

    Parameters
    ----------
    areas : (polygons, classes) array
        Area of each class of the new map, in any unit.
    stands_for : (kinds, classes) array
        Share of each class that a kind of old code stands for; a kind that stands for nothing is no
        alternative.
    kinds : (polygons,) array of int
    judged : (polygons,) array of bool
        Polygons that count; the others get nothing.
    """
    own = stands_for[kinds] > 0
    nothing = stands_for.sum(axis=1) == 0
    main = np.where(nothing, stands_for.shape[1], stands_for.argmax(axis=1))
    urgency, evidence, usual = np.zeros(len(kinds)), np.zeros(len(kinds)), np.full(len(kinds), np.nan)
    likely = np.minimum(main[kinds], stands_for.shape[1] - 1)
    if judged.any():
        found, best = _evidence(areas[judged], stands_for, kinds[judged])
        share = np.where(own[judged], areas[judged], 0.0).sum(axis=1) / areas[judged].sum(axis=1)
        usual[judged] = _usual(share, kinds[judged])
        evidence[judged], likely[judged] = found, main[best]
        urgency[judged] = 50 * (_percentile(found) + _percentile(usual[judged] - share))
    return Suspicion(urgency, evidence, usual, likely, own, main[kinds])


def _evidence(
    areas: NDArray[np.float64], stands_for: NDArray[np.float64], kinds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    ground = areas.sum(axis=1, keepdims=True)
    shares = areas / ground
    average = areas.sum(axis=0) / areas.sum()
    total = np.zeros(stands_for.shape)
    np.add.at(total, kinds, areas)
    spare = float(np.median(ground)) * 0.5 * (stands_for + average)

    def usual(mix: NDArray[np.float64]) -> NDArray[np.float64]:
        mix = mix + (_LEAST * average + 1e-9) * mix.sum(axis=1, keepdims=True)
        logarithms: NDArray[np.float64] = np.log(mix / mix.sum(axis=1, keepdims=True))
        return logarithms

    fit = shares @ usual(total + spare).T
    there = np.zeros(len(stands_for), np.bool_)
    there[kinds] = True
    fit[:, ~there | (stands_for.sum(axis=1) == 0)] = -np.inf
    each = np.arange(len(kinds))
    mine = (shares * usual(np.maximum(total[kinds] - areas, 0.0) + spare[kinds])).sum(axis=1)
    fit[each, kinds] = mine
    best = fit.argmax(axis=1)
    fit[each, kinds] = -np.inf
    other = fit.max(axis=1)
    evidence = np.where(np.isfinite(other), other - mine, 0.0)
    return evidence, best.astype(np.int64)


def _usual(share: NDArray[np.float64], kinds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median share of the own class among the polygons of each one's kind, drawn towards that of all."""
    middle = float(np.median(share))
    usual = np.zeros(int(kinds.max()) + 1)
    for kind in np.unique(kinds):
        alike = share[kinds == kind]
        total = len(alike) + _SPARE_POLYGONS
        usual[kind] = (len(alike) * np.median(alike) + _SPARE_POLYGONS * middle) / total
    found: NDArray[np.float64] = usual[kinds]
    return found


def _percentile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value among all, 0 for the least and 1 for the largest; equal values share the mean rank."""
    if len(values) < 2:
        return np.zeros(len(values))
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    ranks: NDArray[np.float64] = (low + high - 1) / 2 / (len(values) - 1)
    return ranks
