"""The assessment: a map compared with a reference, as a whole and by tile."""

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
from tesela.assessment.document import (
    AssessmentDocument,
    GeneralisedDocument,
    border_figures,
    calibration_figures,
    class_rows,
    level_figures,
    matrix_figures,
    part_figures,
    rule_text,
    totals,
)
from tesela.assessment.overall import check_frame, overall_frame
from tesela.assessment.regions import Region
from tesela.assessment.scores import Scores, score
from tesela.assessment.streaming import Accumulator, AssessmentSpec, Progress
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import has_true_lengths, pixel_offset, window_grid
from tesela.core.legend import Legend
from tesela.io.maps import ClassMap
from tesela.io.pixel_areas import areas_on, outline, pixel_area_m2
from tesela.io.raster import raster_crs

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

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
    """Mean area of its pixels on the ground, in square metres."""
    confusion: Confusion

    @cached_property
    def scores(self) -> Scores:
        """Scores of the tile alone: a class absent from the tile is left out of its means."""
        return score(self.confusion)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Result of `assess`: counts, from which all figures follow."""

    confusion: Confusion
    """All evaluated pixels together."""
    tiles: tuple[Tile, ...]
    """Tiles with a class on either side, by row and column; their confusions add up to the whole."""
    tiles_px: int
    """Side of the tiles in pixels of the map."""
    map_path: str
    reference_path: str
    grid: GeoBox
    """The map's grid, on which pixels were compared."""
    within: gpd.GeoDataFrame | None = field(default=None, repr=False)
    """Areas to which the assessment is confined, in the map's CRS; None for the whole map."""
    regions: tuple[Region, ...] = ()
    """Regions with a class on either side, where regions were given."""
    borders: BorderAgreement | None = None
    """Agreement by distance from the class borders of the reference."""
    calibration: Calibration | None = None
    """Calibration of the map's confidence, where one was given."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What a reader must know to use the figures, one sentence each."""

    @property
    def legend(self) -> Legend:
        """Legend, at the level of the assessment."""
        return self.confusion.legend

    @cached_property
    def scores(self) -> Scores:
        """Scores of all evaluated pixels; reference pixels without a class in the map are not among them."""
        return score(self.confusion)

    @cached_property
    def areas_ha(self) -> NDArray[np.float64]:
        """The matrix in hectares, (K, K): row sums are the reference's areas, column sums the map's."""
        parts = [tile.confusion.counts * (tile.pixel_area_m2 / _M2_PER_HA) for tile in self.tiles]
        return np.asarray(np.sum(parts, axis=0), np.float64)

    @property
    def levels(self) -> tuple[Confusion, ...]:
        """The same pixels counted at every level of the legend, coarsest first; the last is that of the assessment."""
        return tuple(self.confusion.at_level(depth) for depth in range(1, self.legend.depth + 1))

    def to_frame(self, table: str = "classes") -> pd.DataFrame:
        """
        Scores by class, or of the whole map.

        Parameters
        ----------
        table : {"classes", "overall"}

        Returns
        -------
        DataFrame
            "classes": one row per class of the legend, index `code`: name, iou, f1, precision (user's accuracy), recall
            (producer's accuracy), NaN where a class is absent; reference_px, map_px, correct_px, reference_ha, map_ha.
            "overall": accuracy, mean_iou and macro_f1 with 95 % intervals over the tiles, see `overall_frame`.

        Raises
        ------
        InputError
            If there is no such table.
        """
        import pandas as pd

        check_frame(table)
        if table == "overall":
            tiles = [tile.confusion.counts for tile in self.tiles if tile.confusion.evaluated_px]
            return overall_frame(self.scores, tiles)
        rows = class_rows(self.confusion, self.scores, self.areas_ha)
        return pd.DataFrame(rows).drop(columns=["value", "color"]).set_index("code")

    def _repr_html_(self) -> str:
        from tesela.io.map_views import card

        scores = self.scores
        rows = class_rows(self.confusion, scores, self.areas_ha)
        return card(
            f"Accuracy {scores.accuracy:.4f}, mIoU {scores.mean_iou:.4f}, macro F1 {scores.macro_f1:.4f} "
            f"({self.confusion.evaluated_px:,} px)",
            rows=[
                (
                    row["color"],
                    f"{row['code']} {row['name']}",
                    *(
                        "–" if row[key] is None else f"{row[key]:.3f}"
                        for key in ("iou", "f1", "precision", "recall")
                    ),
                    f"{row['reference_ha']:,.1f}",
                    f"{row['map_ha']:,.1f}",
                )
                for row in rows
            ],
            header=("class", "IoU", "F1", "user's", "producer's", "ha reference", "ha map"),
        )

    def to_dict(self) -> AssessmentDocument:
        """All figures, for JSON; numbers that do not exist are None."""
        rows, cols = self.grid.shape
        confusion, scores, areas = self.confusion, self.scores, self.areas_ha
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
                "evaluated": confusion.evaluated_px,
                "reference_without_map": confusion.unmapped_px,
                "map_without_reference": confusion.unreferenced_px,
            },
            "evaluated_ha": float(areas.sum()),
            "scores": totals(scores),
            "absent": list(scores.absent),
            "never_mapped": list(scores.missed),
            "not_in_reference": list(scores.invented),
            "classes": class_rows(confusion, scores, areas),
            "matrix": matrix_figures(confusion, areas),
            "levels": level_figures(self.levels),
            "tiles_px": self.tiles_px,
            "tiles": [
                {"row": tile.row, "col": tile.col, "bounds": list(tile.bounds), **part_figures(tile.scores)}
                for tile in self.tiles
            ],
            "regions": [
                {
                    "name": region.name,
                    "evaluated_ha": region.evaluated_ha,
                    **part_figures(region.scores),
                }
                for region in self.regions
            ],
            "borders": None if self.borders is None else border_figures(self.borders),
            "calibration": None if self.calibration is None else calibration_figures(self.calibration),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Generalised:
    """
    Assessment of the same map after generalising it to the mapping unit of its reference.

    Without it, a map of 10 m pixels loses accuracy for details that a reference of 25 ha areas leaves out.
    """

    map: ClassMap
    assessment: Assessment
    mmu_m2: float
    """Minimum mapping unit in square metres."""
    min_width_m: float = 0.0
    """Minimum width in metres; 0 for none."""

    @property
    def rule(self) -> str:
        """Unit and width in words, such as "25 ha, 100 m"."""
        return rule_text(self.mmu_m2, self.min_width_m)

    def to_dict(self) -> GeneralisedDocument:
        """Rule and figures, for JSON."""
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
    Assess a map against a reference in one streaming pass; memory does not grow with the map.

    Pixels are those of the map; the reference is read at their centres (nearest). Pixels with a class in the
    reference but none in the map are counted apart and not evaluated: see `tesela.assessment.scores.score`.

    Parameters
    ----------
    map, reference : ClassMap
        In one legend, or in levels of one tree if `level` is given.
    tiles_px : int
        Side of the tiles that get their own scores; 2048 px as in Demir and Musaoglu (2023).
    within : GeoDataFrame, optional
        Only pixels whose centres are in these polygons are evaluated, such as held-out patches; any CRS.
    level : int, optional
        Compare the classes of this level of the legend; default: the classes of the map.
    regions : GeoDataFrame, optional
        Polygons that get their own scores, such as provinces; any CRS. Where they overlap, the first counts.
    region_field : str, optional
        Polygons with the same value of this field form one region; default: each polygon is one.
    edges_px : sequence of float
        Bins of distance from the class borders of the reference, in pixels of the map; empty for no bins. See
        `tesela.assessment.borders.border_bins`.
    confidence : path, optional
        Confidence raster of the map, 0 to 100, for its calibration.
    progress : callable, optional
        Called with the number of windows done and their total.

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
    legend = _common_legend(map, reference, level)
    _check_overlap(map, reference)
    areas = areas_on(map.grid, within)
    edges = check_edges(edges_px)
    counts = Accumulator(
        AssessmentSpec(
            map=map,
            reference=reference,
            legend=legend,
            tiles_px=tiles_px,
            within=areas,
            regions=regions,
            region_field=region_field,
            edges_px=edges,
            confidence=confidence,
        )
    )
    counts.run(progress)
    tiles = [
        _tile(map.grid, number, tiles_px, confusion) for number, confusion in sorted(counts.tiles.items())
    ]
    total = sum(counts.bands, start=Confusion.empty(legend))
    if not total.evaluated_px:
        where = "" if within is None else f" inside the {len(within)} areas given"
        raise InputError(
            f"No pixel{where} has a class on both sides: {map.path} has {total.unreferenced_px} px with a class "
            f"there, the reference {total.unmapped_px} px. Check nodata values, extents and areas."
        )
    return Assessment(
        confusion=total,
        tiles=tuple(tiles),
        tiles_px=tiles_px,
        map_path=map.path,
        reference_path=reference.path,
        grid=map.grid,
        within=areas,
        regions=() if counts.regions is None else counts.regions.result(),
        borders=_borders(counts.bands, edges, map.grid) if edges else None,
        calibration=counts.calibration,
        seconds=time.perf_counter() - started,
        notes=tuple(_notes(map, reference, total, areas=areas)),
    )


def _tile(grid: GeoBox, number: tuple[int, int], side_px: int, confusion: Confusion) -> Tile:
    row, col = (part * side_px for part in number)
    rows, cols = min(side_px, grid.shape[0] - row), min(side_px, grid.shape[1] - col)
    square = window_grid(grid, row, col, rows, cols)
    box = square.boundingbox
    bounds = (box.left, box.bottom, box.right, box.top)
    return Tile(*number, bounds, pixel_area_m2=pixel_area_m2(square), confusion=confusion)


def _borders(confusions: Sequence[Confusion], edges: Sequence[float], grid: GeoBox) -> BorderAgreement:
    spans = pairwise([0.0, *edges, math.inf])
    bands = tuple(
        BorderBand(low, high, confusion) for (low, high), confusion in zip(spans, confusions, strict=True)
    )
    return BorderAgreement(bands, pixel_m=pixel_side_m(grid))


def _common_legend(map: ClassMap, reference: ClassMap, level: int | None) -> Legend:
    mine, theirs = map.legend, reference.legend
    if level is not None:
        mine, theirs = mine.level(level), theirs.level(level)
    if mine.same_classes(theirs):
        return mine
    remedy = f"Translate one of them (tesela legend convert MAP --to {mine.address})"
    for depth in range(min(mine.depth, theirs.depth), 0, -1):
        if mine.level(depth).same_classes(theirs.level(depth)):
            remedy += f", or compare both at level {depth} (--level {depth})"
            break
    raise LegendError(
        f"{map.path} is drawn in legend '{mine.address}' ({len(mine)} classes), {reference.path} in "
        f"'{theirs.address}' ({len(theirs)} classes); both must have the same. {remedy}."
    )


def _check_overlap(map: ClassMap, reference: ClassMap) -> None:
    crs = raster_crs(map.grid).to_wkt()
    extent, other = outline(map.grid, crs), outline(reference.grid, crs)
    if extent.intersection(other).area > 0:
        return
    spans = " and ".join(
        f"{source.path} {left:.6g} to {right:.6g} east, {bottom:.6g} to {top:.6g} north"
        for source, (left, bottom, right, top) in ((map, extent.bounds), (reference, other.bounds))
    )
    raise GridError(
        f"Map and reference do not overlap: in {map.grid.crs} {spans}. Give a reference of the map's area, "
        f"or correct the coordinate system that is wrong."
    )


def _notes(
    map: ClassMap, reference: ClassMap, total: Confusion, *, areas: gpd.GeoDataFrame | None
) -> Iterator[str]:
    if areas is not None:
        yield (
            f"Only pixels with their centres in the {len(areas)} test areas count, in a recipe its test patches; the "
            f"picture of differences hatches the rest."
        )
    if pixel_offset(reference.grid, map.grid) is None:
        size = abs(reference.grid.resolution.x)
        yield (
            f"The reference has another grid ({reference.grid.crs}, pixels of {size:.6g}); it is read "
            f"at the centre of each pixel of the map."
        )
    if total.unmapped_px:
        yield (
            f"{total.unmapped_px:,} pixels have a class in the reference and none in the map "
            f"({1 - total.coverage:.2%} of the reference); they are not evaluated."
        )
    if total.unreferenced_px:
        yield (
            f"{total.unreferenced_px:,} pixels have a class in the map and none in the reference; "
            f"they are not evaluated."
        )
    if not has_true_lengths(map.grid):
        yield f"The units of {map.grid.crs} are no lengths on the ground; areas are geodesic, by tile."
