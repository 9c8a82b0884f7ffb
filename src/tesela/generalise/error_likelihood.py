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

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 0.02
"""Weight of the map's average in usual shares, so that no share is 0."""

_SPARE_POLYGONS = 5
"""Weight, in polygons, of the median of all polygons in the median of each class."""


Batch = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]
"""Some polygons: (polygons, classes) areas in any unit, (polygons,) kinds, (polygons,) True for those to evaluate."""


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


def error_likelihood(batches: Iterable[Batch], code_shares: NDArray[np.float64]) -> ErrorLikelihood:
    """
    Compare each polygon with the polygons of its kind.

    Parameters
    ----------
    batches : iterable of (areas, kinds, evaluated)
        The polygons, some at a time, so that memory holds a few numbers of each; it is iterated twice.
    code_shares : (kinds, classes) array
        Share of each class in a kind of old code; a kind without classes is not an alternative.
    """
    usual_mixes = _UsualMixes(code_shares)
    for areas, kinds, evaluated in batches:
        usual_mixes.add(areas[evaluated], kinds[evaluated])
    usual_mixes.finish()
    main = np.minimum(main_classes(code_shares), code_shares.shape[1] - 1)
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]] = []
    for areas, kinds, evaluated in batches:
        evidence, usual, likely = np.zeros(len(kinds)), np.full(len(kinds), np.nan), main[kinds]
        if evaluated.any():
            against, best = usual_mixes.evidence(areas[evaluated], kinds[evaluated])
            evidence[evaluated], likely[evaluated] = against, main[best]
            usual[evaluated] = usual_mixes.own_share(kinds[evaluated])
        parts.append((evidence, usual, likely, evaluated))
    evidence, usual, likely, evaluated = (np.concatenate(item) for item in zip(*parts, strict=True))
    urgency = np.zeros(len(evidence))
    loss = usual[evaluated] - usual_mixes.shares
    urgency[evaluated] = 50 * (_percentile(evidence[evaluated]) + _percentile(loss))
    return ErrorLikelihood(urgency, evidence, usual, likely)


def main_classes(code_shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """(kinds,) class with the largest share of each kind; the number of classes where there is none."""
    nothing = code_shares.sum(axis=1) == 0
    main: NDArray[np.int64] = np.where(nothing, code_shares.shape[1], code_shares.argmax(axis=1)).astype(
        np.int64
    )
    return main


class _UsualMixes:
    """Usual shares of the classes in polygons of each kind, from all evaluated polygons."""

    def __init__(self, code_shares: NDArray[np.float64]) -> None:
        self.code_shares = code_shares
        self.total = np.zeros(code_shares.shape)
        self.shares = np.empty(0)
        """Own share of each evaluated polygon."""
        self._shares: list[NDArray[np.float64]] = []
        self._sizes: list[NDArray[np.float64]] = []
        self._kinds: list[NDArray[np.int32]] = []

    def add(self, areas: NDArray[np.float64], kinds: NDArray[np.int64]) -> None:
        """Add polygons of an area."""
        size = areas.sum(axis=1)
        np.add.at(self.total, kinds, areas)
        self._shares.append(np.where(self.code_shares[kinds] > 0, areas, 0.0).sum(axis=1) / size)
        self._sizes.append(size)
        self._kinds.append(kinds.astype(np.int32))

    def finish(self) -> None:
        """Compute what `evidence` and `own_share` need, after all polygons."""
        self.shares, sizes = np.concatenate(self._shares), np.concatenate(self._sizes)
        kinds = np.concatenate(self._kinds)
        self._shares, self._sizes, self._kinds = [], [], []
        if not len(sizes):
            return
        whole = self.total.sum()
        self._average = self.total.sum(axis=0) / whole
        self._spare = float(np.median(sizes)) * 0.5 * (self.code_shares + self._average)
        present = np.bincount(kinds, minlength=len(self.code_shares)) > 0
        self._no_alternative = ~present | (self.code_shares.sum(axis=1) == 0)
        self._logarithms = self._logarithm(self.total + self._spare)
        self._own = _usual_shares(self.shares, kinds, len(self.code_shares))

    def own_share(self, kinds: NDArray[np.int64]) -> NDArray[np.float64]:
        """Usual share of their own class in polygons of these kinds."""
        usual: NDArray[np.float64] = self._own[kinds]
        return usual

    def evidence(
        self, areas: NDArray[np.float64], kinds: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Evidence for the best other kind, and the kind that explains each polygon best."""
        shares = areas / areas.sum(axis=1, keepdims=True)
        fit = shares @ self._logarithms.T
        fit[:, self._no_alternative] = -np.inf
        each = np.arange(len(kinds))
        others = np.maximum(self.total[kinds] - areas, 0.0)
        mine = (shares * self._logarithm(others + self._spare[kinds])).sum(axis=1)
        fit[each, kinds] = mine
        best = fit.argmax(axis=1)
        fit[each, kinds] = -np.inf
        other = fit.max(axis=1)
        return np.where(np.isfinite(other), other - mine, 0.0), best.astype(np.int64)

    def _logarithm(self, mix: NDArray[np.float64]) -> NDArray[np.float64]:
        mix = mix + (_LEAST * self._average + 1e-9) * mix.sum(axis=1, keepdims=True)
        logarithms: NDArray[np.float64] = np.log(mix / mix.sum(axis=1, keepdims=True))
        return logarithms


def _usual_shares(share: NDArray[np.float64], kinds: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Median share of the own class among the polygons of each kind, shrunk towards that of all."""
    middle = float(np.median(share))
    usual = np.zeros(count)
    for kind in np.unique(kinds):
        alike = share[kinds == kind]
        total = len(alike) + _SPARE_POLYGONS
        usual[kind] = (len(alike) * np.median(alike) + _SPARE_POLYGONS * middle) / total
    return usual


def _percentile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value, 0 for the smallest and 1 for the largest; equal values share the mean rank."""
    if len(values) < 2:
        return np.zeros(len(values))
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    ranks: NDArray[np.float64] = (low + high - 1) / 2 / (len(values) - 1)
    return ranks
