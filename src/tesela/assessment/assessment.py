"""The assessment: a map judged against a reference, as a whole and tile by tile."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.borders import EDGES_PX, BorderAgreement, BorderBand, check_edges, pixel_side_m
from tesela.assessment.calibration import Calibration
from tesela.assessment.confusion import Confusion
from tesela.assessment.document import make_document
from tesela.assessment.regions import Region
from tesela.assessment.scores import Scores, score
from tesela.assessment.streaming import Accumulator, AssessmentSpec, Progress
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import pixel_offset, window_grid
from tesela.core.legend import Legend
from tesela.io.maps import ClassMap
from tesela.io.pixel_areas import areas_on, measures_ground, outline, pixel_area_m2
from tesela.io.raster import raster_crs

if TYPE_CHECKING:
    import geopandas as gpd

_M2_PER_HA = 10_000.0


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
    regions: tuple[Region, ...] = ()
    """Regions with a class on either side, where regions were given."""
    borders: BorderAgreement | None = None
    """Agreement by distance from the class borders of the reference."""
    calibration: Calibration | None = None
    """What the map's confidence is worth, where one was given."""
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

    @property
    def levels(self) -> tuple[Confusion, ...]:
        """The same pixels counted at every level of the legend, coarsest first; the last is the level judged."""
        return tuple(self.confusion.at_level(depth) for depth in range(1, self.legend.depth + 1))

    def to_dict(self) -> dict[str, object]:
        """Document of all figures, for JSON; numbers that do not exist are None."""
        return make_document(self)


@dataclass(frozen=True, eq=False)
class Generalised:
    """
    The same map judged once more, after generalising it to the mapping unit of its reference.

    A map of 10 m pixels judged against one of 25 ha areas is otherwise judged for its detail.
    """

    map: ClassMap
    assessment: Assessment
    mmu_m2: float
    """Minimum mapping unit in square metres."""
    min_width_m: float = 0.0
    """Minimum width in metres; 0 where none was asked for."""

    @property
    def rule(self) -> str:
        """Unit and width in words, such as "25 ha, 100 m"."""
        words = [f"{self.mmu_m2 / _M2_PER_HA:g} ha"] if self.mmu_m2 else []
        return ", ".join([*words, *([f"{self.min_width_m:g} m"] if self.min_width_m else [])])

    def to_dict(self) -> dict[str, object]:
        """Document of rule and figures, for JSON."""
        return {"mmu_m2": self.mmu_m2, "min_width_m": self.min_width_m, **self.assessment.to_dict()}


def assess(
    map: ClassMap,
    reference: ClassMap,
    *,
    tiles_px: int = 2048,
    within: gpd.GeoDataFrame | None = None,
    level: int | None = None,
    regions: gpd.GeoDataFrame | None = None,
    region_field: str | None = None,
    edges_px: Sequence[float] = EDGES_PX,
    confidence: str | Path | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """
    Judge a map against a reference in one streaming pass; memory does not grow with the map.

    Pixels are those of the map; the reference is read at their centres (nearest). Pixels with a class in the
    reference but none in the map are kept apart and not judged: see `tesela.assessment.scores.score`.

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
    regions : GeoDataFrame, optional
        Polygons that are scored one by one, such as provinces; any CRS. Where they overlap, the first counts.
    region_field : str, optional
        Polygons of one value of this field are one region; default: each polygon is one.
    edges_px : sequence of float
        Bins of distance from the class borders of the reference, in pixels of the map; none if empty. See
        `tesela.assessment.borders.border_bins`.
    confidence : path, optional
        Confidence raster of the map, 0 to 100: how far it can be believed.
    progress : callable, optional
        Told the windows done and their total.

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
    judged = _assessed_legend(map, reference, level)
    _check_overlap(map, reference)
    areas = areas_on(map.grid, within)
    edges = check_edges(edges_px)
    walk = Accumulator(
        AssessmentSpec(
            map=map,
            reference=reference,
            judged=judged,
            tiles_px=tiles_px,
            within=areas,
            regions=regions,
            region_field=region_field,
            edges_px=edges,
            confidence=confidence,
        )
    )
    walk.run(progress)
    tiles = [_tile(map.grid, place, tiles_px, confusion) for place, confusion in sorted(walk.tiles.items())]
    total = sum(walk.bands, start=Confusion.empty(judged))
    if not total.evaluated_px:
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
        regions=() if walk.regions is None else walk.regions.result(),
        borders=_borders(walk.bands, edges, map.grid) if edges else None,
        calibration=walk.calibration,
        seconds=time.perf_counter() - started,
        notes=tuple(_notes(map, reference, total, areas=areas)),
    )


def _tile(grid: GeoBox, place: tuple[int, int], side_px: int, confusion: Confusion) -> Tile:
    row, col = (number * side_px for number in place)
    rows, cols = min(side_px, grid.shape[0] - row), min(side_px, grid.shape[1] - col)
    square = window_grid(grid, row, col, rows, cols)
    box = square.boundingbox
    bounds = (box.left, box.bottom, box.right, box.top)
    return Tile(*place, bounds, pixel_area_m2=pixel_area_m2(square), confusion=confusion)


def _borders(found: Sequence[Confusion], edges: Sequence[float], grid: GeoBox) -> BorderAgreement:
    spans = pairwise([0.0, *edges, math.inf])
    bands = tuple(
        BorderBand(low, high, confusion) for (low, high), confusion in zip(spans, found, strict=True)
    )
    return BorderAgreement(bands, pixel_m=pixel_side_m(grid))


def _assessed_legend(map: ClassMap, reference: ClassMap, level: int | None) -> Legend:
    mine, theirs = map.legend, reference.legend
    if level is not None:
        mine, theirs = mine.level(level), theirs.level(level)
    if mine.same_classes(theirs):
        return mine
    cure = f"Translate one of them (tesela legend convert MAP --to {mine.address})"
    for depth in range(min(mine.depth, theirs.depth), 0, -1):
        if mine.level(depth).same_classes(theirs.level(depth)):
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
