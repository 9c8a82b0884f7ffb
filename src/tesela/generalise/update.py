"""Updating: which polygons of an old map are out of date, and which parts of them, by the classes of a new map."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import unit_m
from tesela.core.legend import Legend
from tesela.core.polygons import only_polygons
from tesela.core.temporary import temporary_folder
from tesela.generalise.changed_parts import ChangedParts, divide_polygons
from tesela.generalise.error_likelihood import ErrorLikelihood, error_likelihood, main_classes
from tesela.generalise.measured_layer import Batch, MeasuredLayer
from tesela.io.crosswalks import guess_crosswalk, open_crosswalk
from tesela.io.layer_spill import LayerSpill
from tesela.io.layers import Category, category_style
from tesela.io.legends import codes_without_class, list_legends, open_legend
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapReader
from tesela.io.outputs import check_file_outputs
from tesela.io.update_queue import PROPOSALS, QUEUE, ClassChoice, QueueFacts, queue_tables
from tesela.io.vector import (
    NO_CODE,
    VectorLayer,
    iter_layer,
    new_names,
    open_layer,
    read_layer,
)

if TYPE_CHECKING:
    import geopandas as gpd

MMU_M2 = 10_000.0
"""Least area of a changed part, if none is given."""

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


@dataclass(frozen=True)
class Update:
    """What an update found."""

    layer: VectorLayer
    """The queue: the changed and doubtful polygons, the most urgent first."""
    verdicts: Mapping[str, tuple[int, float]]
    """Polygons and hectares by verdict, of all that touch the map."""
    proposals: int
    """Changes proposed in them."""

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """The polygons of the queue."""
        return read_layer(self.layer, report=False)

    def _repr_html_(self) -> str:
        from tesela.io.map_views import card

        colours = {item.value: item.color for item in VERDICTS}
        return card(
            f"Update: {self.proposals:,} changes proposed",
            rows=[
                (colours[name], name, f"{count:,}", f"{ha:,.1f}")
                for name, (count, ha) in self.verdicts.items()
            ],
            header=("verdict", "polygons", "ha"),
        )


def update_polygons(
    polygons: VectorLayer,
    source: ClassMap,
    out: str | Path,
    *,
    field: str,
    crosswalk: Crosswalk | None = None,
    codes_from: str | None = None,
    confidence: str | Path | None = None,
    rule: UpdateRule | None = None,
    mmu_m2: float = MMU_M2,
    everything: bool = False,
) -> Update:
    """
    Evaluate the polygons of an old map that touch a new one, and write those that may be out of date.

    The map is read window by window, and with each window its polygons, through the spatial index of their file:
    memory depends neither on the size of the map nor on that of the layer, but for about 100 bytes of each polygon.

    Parameters
    ----------
    polygons : VectorLayer
        The old map, in any CRS.
    source : ClassMap
        The new map. Use it before generalisation, which removes evidence against a polygon.
    out : str or Path
        The queue: a GeoPackage with a style by verdict, or GeoParquet, or a table of PostGIS. It adds these fields:
        rank (1 is the most urgent), urgency (0 to 100, see `tesela.generalise.error_likelihood`), verdict (changed,
        doubtful, holds, unseen), feature (number in the old file), old_class (the map's class for the old code),
        own_share and usual_share (of that class, here and in most polygons of the old class), majority and purity
        (the class with the largest share, and that share), likely (the class whose polygons usually look like this
        one), other_ha (largest area of one other class), changed_ha (area of the proposed changes), confidence,
        seen, area_ha and one share_CODE for each class of the map. An old field of the same name, case ignored,
        gets the suffix ``_old``, ``_old2`` and so on. Shares are exact areas divided by the mapped part of the
        polygon. Invalid polygons are mended, and ground under two polygons belongs to the later one in the file.

        A GeoPackage also has the layer `proposals`, see `tesela.io.update_queue`: the parts of these polygons that
        show another class, and the polygons without such a part, for a reviewer and for
        `tesela.generalise.update_apply.apply_update`.
    field : str
        Field of the old codes.
    crosswalk : Crosswalk, optional
        From the old codes to the legend of the map. A code that it splits means any of its targets.
    codes_from : str, optional
        Legend of the old codes, if there is no `crosswalk`; default: the map's legend, at its level or a finer
        one.
    confidence : str or Path, optional
        Confidence raster of the map.
    rule : UpdateRule, optional
    mmu_m2 : float
        Least area of a changed part in m2, see `tesela.generalise.changed_parts.divide_polygons`.
    everything : bool
        Write all polygons of the layer, also those that hold and those off the map.

    Raises
    ------
    GridError
        If the polygons do not overlap the map.
    InputError
        If a file cannot be read or written, or there is no such field.
    LegendError
        If a code is unknown.
    """
    check_file_outputs([out], inputs=[polygons.path, source.path])
    in_files = not str(out).startswith(("postgresql://", "postgres://"))
    folder_of = Path(out) if in_files else Path(tempfile.gettempdir()) / "tesela-update"
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(folder_of))
        found = stack.enter_context(
            _evaluated(polygons, source, field, crosswalk, codes_from, confidence, rule, everything, folder)
        )
        queue, proposals = LayerSpill(folder, QUEUE), LayerSpill(folder, PROPOSALS)
        places = []
        for frame, proposed, place in found.rows(mmu_m2=mmu_m2, everything=everything):
            queue.add(frame)
            proposals.add(proposed)
            places.append(place)
        order = np.argsort(found.ranks[np.concatenate(places)])
        polygons.report()
        written = queue.write(
            out,
            layer=QUEUE,
            order=order,
            style=category_style("verdict", VERDICTS),
            more=[(proposals, PROPOSALS, found.proposal_style)],
            tables=queue_tables(
                found.choices, QueueFacts(polygons.path, polygons.layer, found.measured.field)
            ),
        )
    record_step(
        "update",
        [written if in_files else None],
        inputs=[polygons.path, source.path, confidence],
        settings={"field": field, "codes_from": codes_from or "", "mmu_m2": mmu_m2, "all": everything},
        legend=source.legend.address,
    )
    return Update(
        open_layer(written, layer=None if _has_no_layers(written) else QUEUE), found.summary, len(proposals)
    )


def evaluate_polygons(
    polygons: VectorLayer,
    source: ClassMap,
    *,
    field: str,
    crosswalk: Crosswalk | None = None,
    codes_from: str | None = None,
    confidence: str | Path | None = None,
    rule: UpdateRule | None = None,
    mmu_m2: float = MMU_M2,
    everything: bool = True,
) -> gpd.GeoDataFrame:
    """Evaluate polygons in memory, most urgent first; parameters, fields and errors as in `update_polygons`."""
    import pandas as pd

    with _evaluated(
        polygons, source, field, crosswalk, codes_from, confidence, rule, everything, None
    ) as found:
        frames = [frame for frame, _, _ in found.rows(mmu_m2=mmu_m2, everything=everything)]
    polygons.report()
    joined: gpd.GeoDataFrame = pd.concat(frames, ignore_index=True)
    return joined.sort_values("rank", ignore_index=True)


def _has_no_layers(path: str | Path) -> bool:
    return not str(path).lower().endswith(".gpkg")


@contextmanager
def _evaluated(
    polygons: VectorLayer,
    source: ClassMap,
    field: str,
    crosswalk: Crosswalk | None,
    codes_from: str | None,
    confidence: str | Path | None,
    rule: UpdateRule | None,
    everything: bool,
    folder: Path | None,
) -> Iterator[_Evaluation]:
    """The verdicts on polygons; codes are checked as soon as they are read."""
    polygons.require_features()
    name = polygons.require_field(field)
    where = f"Field '{name}' of {polygons.path}"

    def table_of(codes: list[str]) -> Crosswalk:
        return crosswalk or _find_crosswalk(np.array(codes, object), source.legend, codes_from, where=where)

    def check(codes: list[str]) -> None:
        _kinds(np.array(codes, object), table_of(codes), source.legend, where=where)

    with MeasuredLayer(polygons, source, field=name, folder=folder) as measured:
        measured.measure(confidence=confidence, everything=everything, check=check)
        if not any((batch.measured.seen > 0).any() for batch in measured):
            polygons.report()
            raise GridError(
                f"{polygons.path} does not overlap {source.path}: no polygon has a mapped pixel. Check the "
                "coordinate systems of both."
            )
        yield _Evaluation(measured, table_of(measured.codes), rule or UpdateRule())


class _Evaluation:
    """Verdicts on measured polygons, and the rows that show them."""

    def __init__(self, measured: MeasuredLayer, crosswalk: Crosswalk, rule: UpdateRule) -> None:
        self.measured, self.crosswalk, self.rule = measured, crosswalk, rule
        self.legend = measured.source.legend
        self.pixel_ha = _pixel_ha(measured.source)
        codes = np.array(measured.codes, object)
        self.code_shares, self._kind_of = _kinds(
            codes, self.crosswalk, self.legend, where=measured.layer.path
        )
        if NO_CODE in crosswalk.codes:
            measured.layer.repairs.without_code.clear()
        self.likelihood = error_likelihood(_Kinds(self), self.code_shares)
        verdicts, totals, counts = [], [], np.zeros(len(codes), np.int64)
        first = 0
        for batch in measured:
            likelihood = self._part(first, len(batch.numbers))
            verdicts.append(self._verdicts(batch, likelihood))
            totals.append(batch.measured.total)
            counts += np.bincount(batch.codes, minlength=len(codes))
            first += len(batch.numbers)
        self.verdicts, total = np.concatenate(verdicts), np.concatenate(totals)
        """(polygons,) position in `VERDICTS`."""
        self._counts = dict(zip(measured.codes, counts.tolist(), strict=True))
        unseen = self.verdicts == _NAMES.index("unseen")
        order = np.lexsort((-total, -self.likelihood.urgency, unseen))
        self.ranks = np.empty(len(order), np.int64)
        self.ranks[order] = np.arange(1, len(order) + 1)
        self.summary = {
            name: (int((self.verdicts == at).sum()), float(total[self.verdicts == at].sum() * self.pixel_ha))
            for at, name in enumerate(_NAMES)
            if (self.verdicts == at).any()
        }

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

    @property
    def proposal_style(self) -> str:
        """Style of the proposals by their new code."""
        none = Category("", "no change proposed", "#ffffff")
        return category_style(
            "new_code", [*(Category(item.code, item.label, item.color) for item in self.choices), none]
        )

    def rows(
        self, *, mmu_m2: float, everything: bool
    ) -> Iterator[tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, NDArray[np.int64]]]:
        """Rows of the queue, of its proposals, and the positions of the former among all polygons, some at a time."""
        some: list[_Queued] = []
        given = False
        for queued in self._queued(mmu_m2 / 10_000 / self.pixel_ha, everything=everything):
            some.append(queued)
            if sum(len(item.frame) for item in some) >= _ROWS:
                yield self._frames(_Queued.join(some))
                some, given = [], True
        if some or not given:
            yield self._frames(_Queued.join(some))

    def _queued(self, unit_px: float, *, everything: bool) -> Iterator[_Queued]:
        """The polygons of the queue, by batch; at least one batch, whose columns also an empty queue has."""
        others: Iterator[gpd.GeoDataFrame] | None = None
        layer, first = self.measured.layer, 0
        with MapReader(self.measured.source) as reader:
            for batch in self.measured:
                place = np.arange(first, first + len(batch.numbers))
                doubtful = np.isin(self.verdicts[place], _QUEUED)
                chosen = np.flatnonzero(doubtful | everything)
                first += len(place)
                if first > len(place) and not len(chosen):
                    continue
                wanted = batch.numbers[chosen]
                if batch.bounds is None:
                    others = others or iter_layer(layer)
                    frame = next(item for item in others if batch.numbers[0] in item.index).loc[wanted]
                else:
                    frame = read_layer(layer, bounds=batch.bounds, numbers=wanted).loc[wanted]
                shapes = self._apart(frame)
                table = {name: column[chosen] for name, column in self._columns(batch, place).items()}
                own = self.code_shares[self.kinds(batch)[chosen]] > 0
                total = batch.measured.total[chosen]
                other = np.asarray(table["other_ha"], np.float64) / self.pixel_ha
                divided = doubtful[chosen] & (other > 0) & ((other >= unit_px) | (total <= unit_px))
                at = np.flatnonzero(divided)
                parts = divide_polygons(
                    shapes[at], own[at], plane=self.measured.plane, reader=reader, unit_px=unit_px
                )
                parts = replace(parts, owners=at[parts.owners])
                yield _Queued(
                    frame, place[chosen], shapes, table, batch.codes[chosen], total, doubtful[chosen], parts
                )

    def _apart(self, frame: gpd.GeoDataFrame) -> NDArray[np.object_]:
        """Polygons without the ground under later ones."""
        shapes: NDArray[np.object_] = frame.geometry.to_numpy().copy()
        for at, number in enumerate(frame.index.tolist()):
            if number in self.measured.overlaps:
                above = shapely.union_all(list(self.measured.overlaps[number].values()))
                shapes[at] = only_polygons(np.array([shapely.difference(shapes[at], above)], object))[0]
        return shapes

    def _frames(self, queued: _Queued) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, NDArray[np.int64]]:
        import pandas as pd

        proposals = self._proposals(queued)
        changed = proposals[proposals["new_code"] != ""]
        sums = changed.groupby("feature")["area_ha"].sum()
        table = dict(queued.table)
        table["changed_ha"] = sums.reindex(table["feature"], fill_value=0.0).to_numpy(np.float64)
        frame, shape = queued.frame, queued.frame.geometry.name
        old = [str(item) for item in frame.columns if item != shape]
        kept = frame.rename(columns=new_names(old, taken=table))
        if shape != "geometry":
            kept = kept.rename_geometry("geometry")
        joined: gpd.GeoDataFrame = pd.concat([kept, pd.DataFrame(table, index=kept.index)], axis=1)
        return joined, proposals, queued.place

    def _proposals(self, queued: _Queued) -> gpd.GeoDataFrame:
        """The changed parts of doubtful polygons, and the polygons without one."""
        import geopandas as gpd

        parts, table, owner = queued.parts, queued.table, queued.parts.owners
        alone = np.setdiff1d(np.flatnonzero(queued.doubtful), owner)
        at = np.concatenate([owner, alone])
        position = self.legend.index_table[parts.values]
        none = np.full(len(alone), "", object)
        area = np.concatenate([parts.areas, queued.total[alone]])
        total = queued.total[at]
        rows = {
            "feature": np.asarray(table["feature"])[at],
            "rank": np.asarray(table["rank"])[at],
            "verdict": np.asarray(table["verdict"], object)[at],
            "old_code": np.array(self.measured.codes, object)[queued.codes[at]],
            "new_code": np.concatenate([np.array([*self._old_codes, ""], object)[position], none]),
            "new_class": np.concatenate([np.array(self.legend.codes, object)[position], none]),
            "area_ha": area * self.pixel_ha,
            "share": np.divide(area, total, out=np.zeros(len(at)), where=total > 0),
            "decision": np.full(len(at), "", object),
            "note": np.full(len(at), "", object),
        }
        geometry = np.concatenate([parts.shapes, queued.shapes[alone]])
        return gpd.GeoDataFrame(rows, geometry=geometry, crs=queued.frame.crs)

    @cached_property
    def _old_codes(self) -> list[str]:
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

    def _part(self, first: int, count: int) -> ErrorLikelihood:
        part, all_of = slice(first, first + count), self.likelihood
        return ErrorLikelihood(
            all_of.urgency[part], all_of.evidence[part], all_of.usual[part], all_of.likely[part]
        )

    def _columns(self, batch: Batch, place: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        measured, likelihood = batch.measured, self._part(int(place[0]), len(place))
        kinds = self.kinds(batch)
        own = self.code_shares[kinds] > 0
        codes = np.array([*self.legend.codes, ""], object)
        shares, mapped = measured.shares, measured.areas.sum(axis=1) > 0
        largest = np.where(mapped, shares.argmax(axis=1), len(self.legend))
        table: dict[str, NDArray[np.generic]] = {
            "rank": self.ranks[place],
            "urgency": likelihood.urgency,
            "verdict": np.array(_NAMES, object)[self.verdicts[place]],
            "feature": batch.numbers,
            "old_class": codes[main_classes(self.code_shares)[kinds]],
            "own_share": np.where(own, shares, 0.0).sum(axis=1),
            "usual_share": likelihood.usual,
            "majority": codes[largest],
            "purity": shares.max(axis=1),
            "likely": codes[np.where(mapped, likelihood.likely, len(self.legend))],
            "other_ha": np.where(own, 0.0, measured.areas).max(axis=1) * self.pixel_ha,
            "changed_ha": np.zeros(len(place)),
            "confidence": measured.confidence,
            "seen": np.minimum(measured.seen, 1.0),
            "area_ha": measured.total * self.pixel_ha,
        }
        return table | {f"share_{item.code}": shares[:, k] for k, item in enumerate(self.legend.classes)}

    def _verdicts(self, batch: Batch, likelihood: ErrorLikelihood) -> NDArray[np.uint8]:
        """Positions in `VERDICTS`."""
        rule, measured = self.rule, batch.measured
        own_classes = self.code_shares[self.kinds(batch)] > 0
        shares = np.where(own_classes, 0.0, measured.shares)
        other, which = shares.max(axis=1), shares.argmax(axis=1)
        area, score = measured.scored[np.arange(len(which)), which].T
        confident = np.divide(score, area, out=np.full(len(area), 100.0), where=area > 0) >= rule.confidence
        own = np.where(own_classes, measured.shares, 0.0).sum(axis=1)
        loss, better = likelihood.usual - own, likelihood.evidence > 0
        holds = (loss <= rule.slack) & (own >= rule.least) & ~better
        if rule.part_ha is not None:
            largest = np.where(own_classes, 0.0, measured.areas).max(axis=1) * self.pixel_ha
            holds &= largest < rule.part_ha
        changed = (loss >= rule.lost) & (other >= rule.changed) & confident & better
        names = [_NAMES.index(name) for name in ("changed", "holds", "doubtful", "unseen")]
        verdicts = np.where(changed, names[0], np.where(holds, names[1], names[2]))
        return np.where(self.evaluated(batch), verdicts, names[3]).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Queued:
    """Some polygons of the queue."""

    frame: gpd.GeoDataFrame
    """As their file holds them."""
    place: NDArray[np.int64]
    """Position among all polygons."""
    shapes: NDArray[np.object_]
    """Without the ground under later ones."""
    table: dict[str, NDArray[np.generic]]
    """New fields."""
    codes: NDArray[np.int32]
    total: NDArray[np.float64]
    """Area in pixels."""
    doubtful: NDArray[np.bool_]
    """True for those that are changed or doubtful."""
    parts: ChangedParts
    """Owners are positions here."""

    @classmethod
    def join(cls, some: list[_Queued]) -> _Queued:
        """All of several."""
        import pandas as pd

        if len(some) == 1:
            return some[0]
        starts = np.cumsum([0, *(len(item.frame) for item in some)])
        owners = [item.parts.owners + start for item, start in zip(some, starts, strict=False)]
        parts = ChangedParts(
            np.concatenate(owners), *(np.concatenate([getattr(item.parts, name) for item in some])
                                      for name in ("values", "shapes", "areas")),
        )  # fmt: skip
        return cls(
            pd.concat([item.frame for item in some]),
            *(np.concatenate([getattr(item, name) for item in some]) for name in ("place", "shapes")),
            {name: np.concatenate([item.table[name] for item in some]) for name in some[0].table},
            *(
                np.concatenate([getattr(item, name) for item in some])
                for name in ("codes", "total", "doubtful")
            ),
            parts,
        )


class _Kinds:
    """The batches of measured polygons as `error_likelihood` takes them."""

    def __init__(self, found: _Evaluation) -> None:
        self._found = found

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]]:
        found = self._found
        for batch in found.measured:
            yield batch.measured.areas, found.kinds(batch), found.evaluated(batch)


_NAMES = [item.value for item in VERDICTS]
_ROWS = 5_000
"""Rows of the queue that are made at a time."""
_QUEUED = [_NAMES.index("changed"), _NAMES.index("doubtful")]


def _kinds(
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


def _find_crosswalk(
    codes: NDArray[np.object_], legend: Legend, codes_from: str | None, *, where: str
) -> Crosswalk:
    """From the legend named, from the map's own legend, or from the shipped legend that has all the codes."""
    if codes_from is not None:
        return open_crosswalk(codes_from, legend)
    own = legend.name in list_legends() and not legend.composed
    level: Legend | None = open_legend(legend.name) if own else legend
    crosswalks = []
    while level is not None and level.depth >= legend.depth:
        crosswalks.append(Crosswalk.identity(level, legend.depth))
        level = level.upper
    present = set(codes.tolist()) - {NO_CODE, *codes_without_class(legend)}
    nearest = min(crosswalks, key=lambda item: len(item.missing(present)))
    guessed = guess_crosswalk(present, legend, where=where) if nearest.missing(present) else None
    return guessed or nearest


def _pixel_ha(source: ClassMap) -> float:
    grid = source.grid
    return abs(float(grid.affine.determinant)) * unit_m(grid, what=f"Updating by {source.path}") ** 2 / 10_000
