"""Verdicts: which polygons hold, have changed or are doubtful, by the class areas in them and in those like them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk
from tesela.core.errors import InputError, LegendError
from tesela.core.grid import unit_m
from tesela.core.legend import Legend
from tesela.generalise.error_likelihood import ErrorLikelihood, Explanation, main_classes
from tesela.generalise.measured_layer import Batch, MeasuredLayer
from tesela.io.layers import Category
from tesela.io.legends import codes_without_class, open_legend
from tesela.io.maps import ClassMap
from tesela.io.update_queue import ClassChoice
from tesela.io.vector import NO_CODE

VERDICTS = (
    Category("changed", "changed: the map shows another class", "#d7191c"),
    Category("doubtful", "doubtful: look at it", "#fdae61"),
    Category("holds", "holds", "#1a9641"),
    Category("unseen", "unseen: no map here, or no class", "#bdbdbd"),
)
"""Verdicts on a polygon, with labels and colours."""


@dataclass(frozen=True)
class UpdateRule:
    """
    Thresholds of the verdicts, as shares of the mapped part of a polygon.

    A map rarely predicts some classes (mosaics). So the share of a polygon's own class is compared with the usual
    share: the median of the polygons of that class.
    """

    slack: float = 0.15
    """A polygon holds if its own class is at most this much below the usual share, ..."""
    least: float = 0.25
    """... has at least this share, and no other class explains the polygon better."""
    lost: float = 0.4
    """It has changed if its own class is at least this much below the usual share, ..."""
    changed: float = 0.5
    """... one other class has at least this share, ..."""
    confidence: float = 40.0
    """... with at least this mean confidence (0 to 100), and another class explains it better."""
    seen: float = 0.5
    """Polygons with a smaller mapped part get the verdict "unseen"."""
    part_ha: float | None = None
    """A polygon with this area of one other class does not hold; for generalised maps (CORINE: 5)."""

    def __post_init__(self) -> None:
        names = ("slack", "least", "lost", "changed", "seen")
        wrong = [f"{name} = {getattr(self, name):g}" for name in names if not 0 <= getattr(self, name) <= 1]
        if not 0 <= self.confidence <= 100:
            wrong.append(f"confidence = {self.confidence:g}")
        if wrong:
            raise InputError(
                f"Thresholds out of range: {', '.join(wrong)}. Shares run from 0 to 1, confidence from 0 "
                "to 100."
            )


NAMES = tuple(item.value for item in VERDICTS)
QUEUED = (NAMES.index("changed"), NAMES.index("doubtful"))
"""Positions in `VERDICTS` of those that belong into the queue."""


class Evaluation:
    """Verdicts on measured polygons, and the rows that show them."""

    def __init__(self, measured: MeasuredLayer, crosswalk: Crosswalk, rule: UpdateRule) -> None:
        self.measured, self.crosswalk, self.rule = measured, crosswalk, rule
        self.legend = measured.source.legend
        self.pixel_ha = _pixel_ha(measured.source)
        codes = np.array(measured.codes, object)
        self.code_shares, self._kind_of = code_kinds(
            codes, self.crosswalk, self.legend, where=measured.layer.path
        )
        if NO_CODE in crosswalk.codes:
            measured.layer.repairs.without_code.clear()
        self.likelihood = ErrorLikelihood(_Kinds(self), self.code_shares)
        verdicts, totals, counts = [], [], np.zeros(len(codes), np.int64)
        for batch in measured:
            verdicts.append(self._verdicts(batch))
            totals.append(batch.measured.total)
            counts += np.bincount(batch.codes, minlength=len(codes))
        self.verdicts, total = np.concatenate(verdicts), np.concatenate(totals)
        """(polygons,) position in `VERDICTS`."""
        totals.clear()
        self._counts = dict(zip(measured.codes, counts.tolist(), strict=True))
        self.summary = {
            name: (int((self.verdicts == at).sum()), float(total[self.verdicts == at].sum() * self.pixel_ha))
            for at, name in enumerate(NAMES)
            if (self.verdicts == at).any()
        }
        self.ranks = self._ranks(total)
        """(polygons,) from 1, the most urgent."""

    def _ranks(self, total: NDArray[np.float64]) -> NDArray[np.int32]:
        """Ranks by urgency, then by area; `total` is overwritten."""
        urgency = self.likelihood.urgency
        unseen = self.verdicts == NAMES.index("unseen")
        np.negative(total, out=total)
        np.negative(urgency, out=urgency)
        order = np.lexsort((total, urgency, unseen))
        np.negative(urgency, out=urgency)
        ranks = np.empty(len(order), np.int32)
        ranks[order] = np.arange(1, len(order) + 1, dtype=np.int32)
        return ranks

    def evaluated(self, batch: Batch) -> NDArray[np.bool_]:
        """Polygons of which enough is mapped, and whose code has a class."""
        seen = batch.measured.seen >= max(self.rule.seen, 1e-9)
        return np.asarray(seen & (self.code_shares[self.kinds(batch)].sum(axis=1) > 0))

    def kinds(self, batch: Batch) -> NDArray[np.int64]:
        """Row of each polygon's code in `code_shares`."""
        kinds: NDArray[np.int64] = self._kind_of[batch.codes]
        return kinds

    @cached_property
    def choices(self) -> list[ClassChoice]:
        """Old codes that a polygon can get, with names and colours."""
        legend = _legend_of(self.crosswalk.source)
        if legend is None and self.crosswalk.source == self.legend.address:
            legend = self.legend  # of a map whose legend is not shipped
        items = {} if legend is None else {item.code: item for item in legend.classes}
        colors = {0: "#888888"} | {item.value: item.color for item in self.legend.classes}
        empty = {NO_CODE, *codes_without_class(legend)}
        return [
            ClassChoice(
                code,
                items[code].name if code in items else code,
                items[code].color if code in items else colors[self.crosswalk.main_target[code]],
            )
            for code in self.crosswalk.codes
            if code not in empty
        ]

    @cached_property
    def old_codes(self) -> list[str]:
        """Old code that a class of the map becomes: of several, the most frequent in the layer; empty for none."""
        best: dict[str, tuple[tuple[bool, int, float], str]] = {}
        for row in self.crosswalk.rows:
            if row.to == TO_NODATA or row.code == NO_CODE:
                continue
            main = self.crosswalk.main_target[row.code] == self.legend[row.to].value
            key = (main, self._counts.get(row.code, 0), row.share)
            if row.to not in best or key > best[row.to][0]:
                best[row.to] = key, row.code
        return [best[code][1] if code in best else "" for code in self.legend.codes]

    def _explain(self, batch: Batch) -> Explanation:
        return self.likelihood.explain(batch.measured.areas, self.kinds(batch), self.evaluated(batch))

    def columns(self, batch: Batch, place: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """New fields of the polygons of a batch, whose positions are `place`; changed_ha is 0."""
        measured, explanation = batch.measured, self._explain(batch)
        kinds = self.kinds(batch)
        own = self.code_shares[kinds] > 0
        codes = np.array([*self.legend.codes, ""], object)
        shares, mapped = measured.shares, measured.areas.sum(axis=1) > 0
        largest = np.where(mapped, shares.argmax(axis=1), len(self.legend))
        table: dict[str, NDArray[np.generic]] = {
            "rank": self.ranks[place].astype(np.int64),
            "urgency": self.likelihood.urgency[place],
            "verdict": np.array(NAMES, object)[self.verdicts[place]],
            "feature": batch.numbers,
            "old_class": codes[main_classes(self.code_shares)[kinds]],
            "own_share": np.where(own, shares, 0.0).sum(axis=1),
            "usual_share": explanation.usual,
            "majority": codes[largest],
            "purity": shares.max(axis=1),
            "likely": codes[np.where(mapped, explanation.likely, len(self.legend))],
            "other_ha": np.where(own, 0.0, measured.areas).max(axis=1) * self.pixel_ha,
            "changed_ha": np.zeros(len(place)),
            "confidence": measured.confidence,
            "seen": np.minimum(measured.seen, 1.0),
            "area_ha": measured.total * self.pixel_ha,
        }
        return table | {f"share_{item.code}": shares[:, k] for k, item in enumerate(self.legend.classes)}

    def _verdicts(self, batch: Batch) -> NDArray[np.uint8]:
        """Positions in `VERDICTS`."""
        rule, measured, explanation = self.rule, batch.measured, self._explain(batch)
        own_classes = self.code_shares[self.kinds(batch)] > 0
        shares = np.where(own_classes, 0.0, measured.shares)
        other, which = shares.max(axis=1), shares.argmax(axis=1)
        area, score = measured.scored[np.arange(len(which)), which].T
        confident = np.divide(score, area, out=np.full(len(area), 100.0), where=area > 0) >= rule.confidence
        own = np.where(own_classes, measured.shares, 0.0).sum(axis=1)
        loss, better = explanation.usual - own, explanation.evidence > 0
        holds = (loss <= rule.slack) & (own >= rule.least) & ~better
        if rule.part_ha is not None:
            largest = np.where(own_classes, 0.0, measured.areas).max(axis=1) * self.pixel_ha
            holds &= largest < rule.part_ha
        changed = (loss >= rule.lost) & (other >= rule.changed) & confident & better
        names = [NAMES.index(name) for name in ("changed", "holds", "doubtful", "unseen")]
        verdicts = np.where(changed, names[0], np.where(holds, names[1], names[2]))
        return np.where(self.evaluated(batch), verdicts, names[3]).astype(np.uint8)


class _Kinds:
    """The batches of measured polygons as `ErrorLikelihood` takes them."""

    def __init__(self, found: Evaluation) -> None:
        self._found = found

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]]:
        found = self._found
        for batch in found.measured:
            yield batch.measured.areas, found.kinds(batch), found.evaluated(batch)


def code_kinds(
    codes: NDArray[np.object_], crosswalk: Crosswalk, legend: Legend, *, where: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(kinds, classes) shares of the classes in each kind of old code, and the kind of each polygon."""
    if crosswalk.target != legend:
        raise InputError(
            f"The crosswalk is to legend '{crosswalk.target.address}', but the map has legend '{legend.address}'. "
            "Use a crosswalk to that legend."
        )
    present, number = np.unique(codes.astype(str), return_inverse=True)
    empty = {NO_CODE, *codes_without_class(_legend_of(crosswalk.source))}
    crosswalk.values_of([code for code in present.tolist() if code not in empty], where=where)
    shares = np.zeros((len(present), len(legend)))
    rows = {code: row for row, code in enumerate(present.tolist())}
    for item in crosswalk.rows:
        if item.code in rows and item.to != TO_NODATA:
            shares[rows[item.code], legend.codes.index(item.to)] += item.share
    kinds, kind = np.unique(shares, axis=0, return_inverse=True)
    return kinds, kind.ravel()[number]


def _legend_of(source: str) -> Legend | None:
    try:
        return open_legend(source)
    except LegendError:  # the crosswalk of a user
        return None


def _pixel_ha(source: ClassMap) -> float:
    grid = source.grid
    return abs(float(grid.affine.determinant)) * unit_m(grid, what=f"Updating by {source.path}") ** 2 / 10_000
