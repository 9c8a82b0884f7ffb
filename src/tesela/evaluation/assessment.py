"""The assessment: a map judged against a reference, as a whole and tile by tile."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.legend import NODATA, Legend
from tesela.evaluation.counts import Confusion, PairCounter, same_classes
from tesela.evaluation.ground import areas_on, measures_ground, outline, pixel_area_m2, pixels_inside
from tesela.evaluation.scores import Scores, score
from tesela.io.maps import ClassMap, MapReader
from tesela.io.raster import pixel_offset, raster_crs, windows

if TYPE_CHECKING:
    import geopandas as gpd

_WINDOW_PX = 2048
"""Larger tiles are read in windows of this side, so that memory does not depend on the tile."""

_M2_PER_HA = 10_000.0
_TOTALS = (
    "accuracy",
    "mean_iou",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "kappa",
    "majority",
    "coverage",
)


@dataclass(frozen=True)
class Tile:
    """One square of the map's grid, with its own confusion."""

    row: int
    """Number of the tile from the top, from 0."""
    col: int
    """Number of the tile from the left, from 0."""
    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top in the map's CRS."""
    pixel_area_m2: float
    """Mean ground area of its pixels, in square metres."""
    confusion: Confusion

    @cached_property
    def scores(self) -> Scores:
        """Scores of the tile alone: a class absent from the tile is left out of its means."""
        return score(self.confusion)


@dataclass(frozen=True, eq=False)
class Assessment:
    """What `assess` found; everything else is computed from its counts."""

    confusion: Confusion
    """All judged ground together."""
    tiles: tuple[Tile, ...]
    """Tiles with a class on either side, by row and column; their confusions add up to the whole."""
    tiles_px: int
    """Side of the tiles in pixels of the map."""
    map_path: str
    reference_path: str
    grid: GeoBox
    """The map's grid, on which pixels were compared."""
    within: gpd.GeoDataFrame | None = field(default=None, repr=False)
    """Areas to which the judgement was confined, in the map's CRS; None for the whole map."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What a reader must know to use the figures, one sentence each."""

    @property
    def legend(self) -> Legend:
        """Legend, at the level judged."""
        return self.confusion.legend

    @cached_property
    def scores(self) -> Scores:
        """Scores of all judged ground; reference pixels that the map leaves empty are not judged."""
        return score(self.confusion)

    @cached_property
    def areas_ha(self) -> NDArray[np.float64]:
        """The matrix in hectares, (K, K): row sums are the reference's areas, column sums the map's."""
        parts = [tile.confusion.counts * (tile.pixel_area_m2 / _M2_PER_HA) for tile in self.tiles]
        return np.asarray(np.sum(parts, axis=0), np.float64)

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON; numbers that do not exist are None."""
        judged = self.scores
        rows, cols = self.grid.shape
        return {
            "map": self.map_path,
            "reference": self.reference_path,
            "grid": {
                "rows": rows,
                "cols": cols,
                "crs": str(self.grid.crs),
                "transform": list(self.grid.affine)[:6],
            },
            "confined_to_areas": None if self.within is None else len(self.within),
            "legend": self.legend.to_dict(),
            "pixels": {
                "judged": self.confusion.judged_px,
                "reference_without_map": self.confusion.unmapped_px,
                "map_without_reference": self.confusion.unjudged_px,
            },
            "area_judged_ha": _number(float(self.areas_ha.sum()), digits=2),
            "scores": _totals(judged),
            "absent": list(judged.absent),
            "never_mapped": list(judged.missed),
            "not_in_reference": list(judged.invented),
            "classes": [
                {
                    "value": item.value,
                    "code": item.code,
                    "name": item.name,
                    "color": item.color,
                    "iou": _number(found.iou),
                    "f1": _number(found.f1),
                    "precision": _number(found.precision),
                    "recall": _number(found.recall),
                    "reference_px": found.reference_px,
                    "map_px": found.predicted_px,
                    "correct_px": found.correct_px,
                    "reference_ha": _number(float(self.areas_ha[k].sum()), digits=2),
                    "map_ha": _number(float(self.areas_ha[:, k].sum()), digits=2),
                }
                for k, (item, found) in enumerate(zip(self.legend.classes, judged.classes, strict=True))
            ],
            "matrix": {
                "rows": "reference",
                "columns": "map",
                "codes": list(self.legend.codes),
                "pixels": self.confusion.counts.tolist(),
                "reference_without_map": self.confusion.unmapped.tolist(),
                "map_without_reference": self.confusion.unjudged.tolist(),
            },
            "tiles_px": self.tiles_px,
            "tiles": [
                {
                    "row": tile.row,
                    "col": tile.col,
                    "bounds": list(tile.bounds),
                    "judged_px": tile.confusion.judged_px,
                    **_totals(tile.scores),
                    "iou": {item.code: _number(item.iou) for item in tile.scores.classes},
                }
                for tile in self.tiles
            ],
            "notes": list(self.notes),
        }


def assess(
    map: ClassMap,
    reference: ClassMap,
    *,
    tiles_px: int = 2048,
    within: gpd.GeoDataFrame | None = None,
    level: int | None = None,
) -> Assessment:
    """
    Judge a map against a reference in one streaming pass; memory does not grow with the map.

    Pixels are those of the map; the reference is read at their centres (nearest). Pixels with a class in the
    reference but none in the map are kept apart and not judged: see `tesela.evaluation.scores.score`.

    Parameters
    ----------
    map, reference : ClassMap
        In one legend, or in levels of one tree if `level` is given.
    tiles_px : int
        Side of the tiles that are scored one by one; 2048 px as in Demir and Musaoglu (2023).
    within : GeoDataFrame, optional
        Only pixels whose centres lie in these polygons are judged, such as held-out patches; any CRS.
    level : int, optional
        Judge by the classes of this level of the legend; default: the classes of the map.

    Raises
    ------
    LegendError
        If the legends differ, or have no such level.
    GridError
        If map and reference do not overlap.
    InputError
        If no pixel has a class on both sides.
    """
    started = time.perf_counter()
    if tiles_px < 1:
        raise InputError(f"tiles_px is {tiles_px}; a tile needs at least 1 pixel. 2048 is usual.")
    judged = _judged_legend(map, reference, level)
    _check_overlap(map, reference)
    areas = areas_on(map.grid, within)
    counter = PairCounter(judged, reference=reference.legend, predicted=map.legend)
    tiles = []
    with MapReader(map) as map_reader, MapReader(reference) as reference_reader:
        for row, col, square in windows(map.grid, tiles_px):
            confusion = Confusion.empty(judged)
            for _, _, window in windows(square, min(tiles_px, _WINDOW_PX)):
                inside = None if areas is None else pixels_inside(window, areas)
                if inside is not None and not inside.any():
                    continue
                predicted, truth = map_reader.read(window), reference_reader.read(window)
                if inside is not None:
                    predicted[~inside] = NODATA
                    truth[~inside] = NODATA
                confusion = confusion + counter.count(truth, predicted)
            if confusion.judged_px or confusion.unmapped_px or confusion.unjudged_px:
                box = square.boundingbox
                bounds = (box.left, box.bottom, box.right, box.top)
                place = (row // tiles_px, col // tiles_px)
                tiles.append(Tile(*place, bounds, pixel_area_m2=pixel_area_m2(square), confusion=confusion))
    total = sum((tile.confusion for tile in tiles), start=Confusion.empty(judged))
    if not total.judged_px:
        where = "" if within is None else f" inside the {len(within)} areas given"
        raise InputError(
            f"No pixel{where} has a class on both sides: {map.path} has {total.unjudged_px} px with a class "
            f"there, {reference.path} {total.unmapped_px} px. Check nodata values, extents and areas."
        )
    return Assessment(
        confusion=total,
        tiles=tuple(tiles),
        tiles_px=tiles_px,
        map_path=map.path,
        reference_path=reference.path,
        grid=map.grid,
        within=areas,
        seconds=time.perf_counter() - started,
        notes=tuple(_notes(map, reference, total, areas=areas)),
    )


def _judged_legend(map: ClassMap, reference: ClassMap, level: int | None) -> Legend:
    mine, theirs = map.legend, reference.legend
    if level is not None:
        mine, theirs = mine.level(level), theirs.level(level)
    if same_classes(mine, theirs):
        return mine
    cure = f"Translate one of them (tesela legend convert MAP --to {mine.address})"
    for depth in range(min(mine.depth, theirs.depth), 0, -1):
        if same_classes(mine.level(depth), theirs.level(depth)):
            cure += f", or judge both at level {depth} (--level {depth})"
            break
    raise LegendError(
        f"{map.path} is drawn in legend '{mine.address}' ({len(mine)} classes), {reference.path} in "
        f"'{theirs.address}' ({len(theirs)} classes); both must have the same. {cure}."
    )


def _check_overlap(map: ClassMap, reference: ClassMap) -> None:
    crs = raster_crs(map.grid).to_wkt()
    ground, other = outline(map.grid, crs), outline(reference.grid, crs)
    if ground.intersection(other).area > 0:
        return
    spans = " and ".join(
        f"{source.path} {left:.6g} to {right:.6g} east, {bottom:.6g} to {top:.6g} north"
        for source, (left, bottom, right, top) in ((map, ground.bounds), (reference, other.bounds))
    )
    raise GridError(
        f"Map and reference do not overlap: in {map.grid.crs} {spans}. Give a reference of the map's ground, "
        f"or correct the coordinate system that is wrong."
    )


def _notes(
    map: ClassMap, reference: ClassMap, total: Confusion, *, areas: gpd.GeoDataFrame | None
) -> Iterator[str]:
    if areas is not None:
        yield f"Only pixels whose centres lie in {len(areas)} given areas were judged."
    if pixel_offset(reference.grid, map.grid) is None:
        size = abs(reference.grid.resolution.x)
        yield (
            f"The reference lies on another grid ({reference.grid.crs}, pixels of {size:.6g}); it was read "
            f"at the centre of each pixel of the map."
        )
    if total.unmapped_px:
        yield (
            f"{total.unmapped_px:,} pixels have a class in the reference and none in the map "
            f"({1 - total.coverage:.2%} of the reference); they were not judged."
        )
    if total.unjudged_px:
        yield (
            f"{total.unjudged_px:,} pixels have a class in the map and none in the reference; "
            f"they were not judged."
        )
    if not measures_ground(map.grid):
        yield f"The units of {map.grid.crs} do not measure ground; areas are geodesic, by tile."


def _totals(scores: Scores) -> dict[str, float | None]:
    return {name: _number(getattr(scores, name)) for name in _TOTALS}


def _number(value: float, *, digits: int = 6) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
