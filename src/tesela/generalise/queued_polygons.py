"""Queued polygons: the rows of an update's queue and its proposals, with the parts of polygons that changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.polygons import only_polygons
from tesela.generalise.changed_parts import ChangedParts, divide_polygons
from tesela.generalise.verdicts import QUEUED, Evaluation
from tesela.io.layers import Category, category_style
from tesela.io.maps import MapReader
from tesela.io.vector import iter_layer, new_names, read_layer

if TYPE_CHECKING:
    import geopandas as gpd

_ROWS = 2_000
"""Rows of the queue that are made at a time."""


class QueueRows:
    """Makes the rows of the queue from the verdicts on all polygons; their features are read again."""

    def __init__(self, found: Evaluation) -> None:
        self._found, self._measured, self._pixel_ha = found, found.measured, found.pixel_ha

    @property
    def proposal_style(self) -> str:
        """Style of the proposals by their new code."""
        none = Category("", "no change proposed", "#ffffff")
        return category_style(
            "new_code", [*(Category(item.code, item.label, item.color) for item in self._found.choices), none]
        )

    def rows(
        self, *, mmu_m2: float, everything: bool
    ) -> Iterator[tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, NDArray[np.int64]]]:
        """Rows of the queue, of its proposals, and the positions of the former among all polygons, some at a time."""
        some: list[_Queued] = []
        given = False
        for queued in self._queued(mmu_m2 / 10_000 / self._pixel_ha, everything=everything):
            some.append(queued)
            if sum(len(item.frame) for item in some) >= _ROWS:
                yield self._frames(_Queued.join(some))
                some, given = [], True
        if some or not given:
            yield self._frames(_Queued.join(some))

    def _queued(self, unit_px: float, *, everything: bool) -> Iterator[_Queued]:
        """The polygons of the queue, by batch; at least one batch, whose columns also an empty queue has."""
        others: Iterator[gpd.GeoDataFrame] | None = None
        layer, first = self._measured.layer, 0
        with MapReader(self._measured.source) as reader:
            for batch in self._measured:
                place = np.arange(first, first + len(batch.numbers))
                doubtful = np.isin(self._found.verdicts[place], QUEUED)
                chosen = np.flatnonzero(doubtful | everything)
                first += len(place)
                if first > len(place) and not len(chosen):
                    continue
                batch, doubtful, place = batch.only(chosen), doubtful[chosen], place[chosen]
                wanted = batch.numbers
                if batch.bounds is None:
                    others = others or iter_layer(layer)
                    frame = next(item for item in others if wanted[0] in item.index).loc[wanted]
                else:
                    frame = read_layer(layer, bounds=batch.bounds, numbers=wanted).loc[wanted]
                shapes = self._apart(frame)
                table = self._found.columns(batch, place)
                own = self._found.code_shares[self._found.kinds(batch)] > 0
                total = batch.measured.total
                other = np.asarray(table["other_ha"], np.float64) / self._pixel_ha
                divided = doubtful & (other > 0) & ((other >= unit_px) | (total <= unit_px))
                at = np.flatnonzero(divided)
                parts = divide_polygons(
                    shapes[at], own[at], plane=self._measured.plane, reader=reader, unit_px=unit_px
                )
                parts = replace(parts, owners=at[parts.owners])
                yield _Queued(frame, place, shapes, table, batch.codes, total, doubtful, parts)

    def _apart(self, frame: gpd.GeoDataFrame) -> NDArray[np.object_]:
        """Polygons without the ground under later ones."""
        shapes: NDArray[np.object_] = frame.geometry.to_numpy().copy()
        for at, number in enumerate(frame.index.tolist()):
            if number in self._measured.overlaps:
                above = shapely.union_all(list(self._measured.overlaps[number].values()))
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
        position = self._found.legend.index_table[parts.values]
        none = np.full(len(alone), "", object)
        area = np.concatenate([parts.areas, queued.total[alone]])
        total = queued.total[at]
        rows = {
            "feature": np.asarray(table["feature"])[at],
            "rank": np.asarray(table["rank"])[at],
            "verdict": np.asarray(table["verdict"], object)[at],
            "old_code": np.array(self._measured.codes, object)[queued.codes[at]],
            "new_code": np.concatenate([np.array([*self._found.old_codes, ""], object)[position], none]),
            "new_class": np.concatenate([np.array(self._found.legend.codes, object)[position], none]),
            "area_ha": area * self._pixel_ha,
            "share": np.divide(area, total, out=np.zeros(len(at)), where=total > 0),
            "decision": np.full(len(at), "", object),
            "note": np.full(len(at), "", object),
        }
        geometry = np.concatenate([parts.shapes, queued.shapes[alone]])
        return gpd.GeoDataFrame(rows, geometry=geometry, crs=queued.frame.crs)


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

        def all_of(name: str) -> Any:
            return np.concatenate([getattr(item, name) for item in some])

        def parts_of(name: str) -> Any:
            return np.concatenate([getattr(item.parts, name) for item in some])

        starts = np.cumsum([0, *(len(item.frame) for item in some)])
        owners = [item.parts.owners + start for item, start in zip(some, starts, strict=False)]
        return cls(
            frame=pd.concat([item.frame for item in some]),
            place=all_of("place"),
            shapes=all_of("shapes"),
            table={name: np.concatenate([item.table[name] for item in some]) for name in some[0].table},
            codes=all_of("codes"),
            total=all_of("total"),
            doubtful=all_of("doubtful"),
            parts=ChangedParts(
                np.concatenate(owners), parts_of("values"), parts_of("shapes"), parts_of("areas")
            ),
        )
