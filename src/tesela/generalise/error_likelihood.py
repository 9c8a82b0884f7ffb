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
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 0.02
"""Weight of the map's average in usual shares, so that no share is 0."""

_SPARE_POLYGONS = 5
"""Weight, in polygons, of the median of all polygons in the median of each class."""

_CHUNK = 1 << 16
"""Values that are ranked at a time."""

Batch = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]
"""Some polygons: (polygons, classes) areas in any unit, (polygons,) kinds, (polygons,) True for those to evaluate."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What explains some polygons."""

    evidence: NDArray[np.float64]
    """(polygons,) nats per pixel for the best other class; at most 0 where the old class is the best."""
    usual: NDArray[np.float64]
    """(polygons,) share of its own class that a polygon of that class usually has; NaN where not evaluated."""
    likely: NDArray[np.int64]
    """(polygons,) class whose usual shares explain the polygon best."""


class ErrorLikelihood:
    """
    Evidence against the old class of each polygon, from a comparison with the polygons of its kind.

    Parameters
    ----------
    batches : iterable of (areas, kinds, evaluated)
        The polygons, some at a time, so that memory holds three numbers of each; it is iterated twice.
    code_shares : (kinds, classes) array
        Share of each class in a kind of old code; a kind without classes is not an alternative.
    """

    def __init__(self, batches: Iterable[Batch], code_shares: NDArray[np.float64]) -> None:
        self._main = np.minimum(main_classes(code_shares), code_shares.shape[1] - 1)
        self._mixes = _UsualMixes(code_shares)
        for areas, kinds, evaluated in batches:
            self._mixes.add(areas[evaluated], kinds[evaluated])
        urgency = self._mixes.finish()  # of the loss
        _rank(urgency)
        parts, masks = [np.zeros(0)], [np.zeros(0, np.bool_)]
        for areas, kinds, evaluated in batches:
            masks.append(evaluated)
            if evaluated.any():
                parts.append(self._mixes.evidence(areas[evaluated], kinds[evaluated])[0])
        evidence, mask = np.concatenate(parts), np.concatenate(masks)
        parts.clear()
        _rank(evidence)
        evidence += urgency
        evidence *= 50
        self.urgency = np.zeros(len(mask))
        """(polygons,) 0 to 100; 0 for polygons that are not evaluated."""
        self.urgency[mask] = evidence

    def explain(
        self, areas: NDArray[np.float64], kinds: NDArray[np.int64], evaluated: NDArray[np.bool_]
    ) -> Explanation:
        """Explain polygons of a batch."""
        evidence, usual, likely = np.zeros(len(kinds)), np.full(len(kinds), np.nan), self._main[kinds]
        if evaluated.any():
            against, best = self._mixes.evidence(areas[evaluated], kinds[evaluated])
            evidence[evaluated], likely[evaluated] = against, self._main[best]
            usual[evaluated] = self._mixes.own_share(kinds[evaluated])
        return Explanation(evidence, usual, likely)


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

    def finish(self) -> NDArray[np.float64]:
        """Compute what `evidence` and `own_share` need, after all polygons; returns the loss of each."""
        sizes = _joined(self._sizes)
        if not len(sizes):
            return sizes
        middle = float(np.median(sizes, overwrite_input=True))
        del sizes
        shares, kinds = _joined(self._shares), _joined(self._kinds)
        self._average = self.total.sum(axis=0) / self.total.sum()
        self._spare = middle * 0.5 * (self.code_shares + self._average)
        present = np.bincount(kinds, minlength=len(self.code_shares)) > 0
        self._no_alternative = ~present | (self.code_shares.sum(axis=1) == 0)
        self._logarithms = self._logarithm(self.total + self._spare)
        self._own = _usual_shares(shares, kinds, len(self.code_shares))
        loss: NDArray[np.float64] = np.subtract(self._own[kinds], shares, out=shares)
        return loss

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


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """All of a list, which is emptied."""
    whole = np.concatenate(parts) if parts else np.zeros(0)
    parts.clear()
    return whole


def _rank(values: NDArray[np.float64]) -> None:
    """Write its rank in place of each value, 0 for the smallest and 1 for the largest; equal ones share the mean."""
    if len(values) < 2:
        values[:] = 0.0
        return
    ordered = np.sort(values)
    for first in range(0, len(values), _CHUNK):
        some = values[first : first + _CHUNK]
        low, high = np.searchsorted(ordered, some, "left"), np.searchsorted(ordered, some, "right")
        some[:] = (low + high - 1) / 2 / (len(values) - 1)
