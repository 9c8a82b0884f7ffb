"""Vectorising: the areas of a class map as polygons without gaps or overlaps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.grid import has_true_lengths, unit_m, window_grid
from tesela.core.legend import Legend
from tesela.generalise.regions import RegionGraph, build_graph
from tesela.generalise.strips import Plan
from tesela.generalise.tracing import Tracing, trace_regions
from tesela.io.layers import category_style, legend_categories, write_layer
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_values import NO_SCORE, ConfidenceReader
from tesela.io.vector import VectorLayer, open_layer

if TYPE_CHECKING:
    import geopandas as gpd

LAYER = "map"
"""Name of the layer in a GeoPackage."""


def vectorise_map(
    source: ClassMap,
    out: str | Path,
    *,
    simplify_m: float | None = None,
    simplify_border: bool = False,
    confidence: str | Path | None = None,
    layer: str = LAYER,
    plan: Plan | None = None,
) -> VectorLayer:
    """
    Write the areas of a map as polygons.

    An area is a set of 4-connected pixels of one class. Each border between two areas has the same corners on both
    sides, so the polygons cover the mapped area without gaps or overlaps. Simplification moves shared borders once,
    for both neighbours.

    Parameters
    ----------
    source : ClassMap
    out : str or Path
        GeoPackage, with a style in the legend's colours, or GeoParquet with a ``.qml`` beside it. Fields:
        id, code, name, area_m2, area_ha, perimeter_m and, with `confidence`, confidence (0 to 100, mean of
        the area's pixels). Areas and lengths are those of the written polygons.
    simplify_m : float, optional
        Smooth borders by the Visvalingam-Whyatt rule: a corner is removed while its triangle with the
        neighbouring corners is smaller than `simplify_m` squared, the smallest first. Points where three areas
        meet remain, and so does every area, at least as a triangle.
    simplify_border : bool
        Also simplify the outer limits of the map. By default they do not move, so that the mapped area does not
        change and adjacent sheets still meet.
    confidence : str or Path, optional
        Confidence raster of the map.

    Raises
    ------
    GridError
        If `simplify_m` is given and the map's CRS has no unit of length.
    InputError
        If the map has no class, a file cannot be read or written, or simplification fails.
    """
    frame = polygons_of(
        source, simplify_m=simplify_m, simplify_border=simplify_border, confidence=confidence, plan=plan
    )
    style = category_style("code", legend_categories(_present(source.legend, frame)))
    made = write_layer(out, frame, layer=layer, style=style)
    record_step(
        "vectorise",
        [made],
        inputs=[source.path, confidence],
        settings={"simplify": None if simplify_m is None else f"{simplify_m:g} m"},
        legend=source.legend.address,
    )
    return open_layer(made)


def polygons_of(
    source: ClassMap,
    *,
    simplify_m: float | None = None,
    simplify_border: bool = False,
    confidence: str | Path | None = None,
    plan: Plan | None = None,
) -> gpd.GeoDataFrame:
    """
    Areas of a map as polygons in memory; parameters, fields and errors are those of `vectorise_map`.

    Returns
    -------
    GeoDataFrame
        One row per area, in the order of their first pixels from top left.
    """
    import geopandas as gpd

    tolerance = None
    if simplify_m is not None:
        tolerance = simplify_m / unit_m(source.grid, what="Simplification in metres")
    with ExitStack() as stack:
        reader = stack.enter_context(MapReader(source))
        scores = None if confidence is None else stack.enter_context(ConfidenceReader(confidence))
        graph, tracing, sums = _trace(source.grid, reader, scores, plan=plan or Plan(threads=1))
    values = graph.final_values()[tracing.regions]
    shapes = _polygons(tracing, source.grid)
    if tolerance:
        shapes = simplify_coverage(shapes, tolerance, border=simplify_border)
    area_m2, perimeter_m = _measure(shapes, source.grid)
    position = source.legend.index_table[values]
    columns: dict[str, object] = {
        "id": np.arange(1, len(values) + 1, dtype=np.int64),
        "code": np.array(source.legend.codes, object)[position],
        "name": np.array(source.legend.names, object)[position],
        "area_m2": area_m2,
        "area_ha": area_m2 / 10_000,
        "perimeter_m": perimeter_m,
    }
    if sums is not None:
        scored = sums[:, tracing.regions]
        with np.errstate(invalid="ignore"):
            columns["confidence"] = scored[1] / scored[0]
    assert source.grid.crs is not None
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=source.grid.crs.to_wkt())


def simplify_coverage(
    shapes: NDArray[np.object_], tolerance: float, *, border: bool = False
) -> NDArray[np.object_]:
    """
    Simplify a coverage: polygons without gaps or overlaps, before and after.

    Parameters
    ----------
    shapes : (polygons,) array of polygons
        Neighbours have the same corners along shared borders.
    tolerance : float
        Square root of the area of the largest triangle that is removed, in units of the CRS.
    border : bool
        Also simplify the outer limits.

    Raises
    ------
    InputError
        If a polygon would vanish or cross itself, which has not been observed.
    """
    simple: NDArray[np.object_] = shapely.coverage_simplify(shapes, tolerance, simplify_boundary=border)
    broken = int((~shapely.is_valid(simple) | ~(shapely.area(simple) > 0)).sum())
    if broken:
        raise InputError(
            f"Simplification by {tolerance:g} would make {broken} polygons invalid; use a smaller length."
        )
    return simple


def _trace(
    grid: GeoBox, reader: MapReader, scores: ConfidenceReader | None, *, plan: Plan
) -> tuple[RegionGraph, Tracing, NDArray[np.float64] | None]:
    rows, cols = int(grid.shape[0]), int(grid.shape[1])

    def read(first: int, stop: int) -> NDArray[np.uint8]:
        return reader.read(window_grid(grid, first, 0, stop - first, cols))

    graph = build_graph(read, (rows, cols), unit_px=0, plan=plan)
    values = graph.final_values()
    if not len(values):
        raise InputError(f"{reader.map.path}: has no class, only nodata; there is nothing to vectorise.")
    root = np.append(graph.parent, np.int32(-1))
    sums = None if scores is None else np.zeros((2, len(values)))

    def labels() -> Iterator[NDArray[np.int32]]:
        for strip in graph.strips:
            own = graph.strip_labels(strip, read)
            regions = root[np.where(own < 0, -1, own + graph.offsets[strip.number])]
            if scores is not None and sums is not None:
                window = window_grid(grid, strip.first, 0, strip.stop - strip.first, cols)
                _add_scores(regions, scores.read(window), sums)
            yield regions

    return graph, trace_regions(graph, labels()), sums


@njit(nogil=True, cache=True)
def _add_scores(regions, scores, sums):  # type: ignore[no-untyped-def]
    """Add the count and the sum of the scores of each region."""
    for i in range(regions.shape[0]):
        for j in range(regions.shape[1]):
            region = regions[i, j]
            if region >= 0 and scores[i, j] != NO_SCORE:
                sums[0, region] += 1.0
                sums[1, region] += scores[i, j]


def _polygons(tracing: Tracing, grid: GeoBox) -> NDArray[np.object_]:
    at = grid.affine
    x, y = tracing.points[:, 0].astype(np.float64), tracing.points[:, 1].astype(np.float64)
    points = np.stack([at.a * x + at.b * y + at.c, at.d * x + at.e * y + at.f], axis=1)
    shapes: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (tracing.starts, tracing.polygons)
    )
    return shapes


_LONGEST_EDGE_PX = 256


def _measure(shapes: NDArray[np.object_], grid: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas in m² and perimeters in m, in the plane of a CRS of true lengths, or on the ellipsoid."""
    assert grid.crs is not None
    if has_true_lengths(grid):
        unit = unit_m(grid, what="Area")
        return shapely.area(shapes) * unit**2, shapely.length(shapes) * unit
    globe = pyproj.CRS.from_wkt(grid.crs.to_wkt()).get_geod()
    if globe is None:
        raise GridError(
            f"The map's CRS ({grid.crs}) has neither a unit of length nor an ellipsoid; warp it (gdalwarp -t_srs)."
        )
    if grid.crs.projected:  # the straight lines of Web Mercator are no geodesics, so they get points
        to = pyproj.Transformer.from_crs(grid.crs.proj, grid.crs.proj.geodetic_crs, always_xy=True)
        step = _LONGEST_EDGE_PX * max(abs(grid.affine.a), abs(grid.affine.e))
        shapes = shapely.transform(
            shapely.segmentize(shapes, step), lambda points: np.column_stack(to.transform(*points.T))
        )
    measures = np.array([globe.geometry_area_perimeter(shapely.orient_polygons(shape)) for shape in shapes])
    return np.abs(measures[:, 0]), measures[:, 1]


def _present(legend: Legend, frame: gpd.GeoDataFrame) -> Legend:
    """The legend with the classes that occur, for a style without empty entries."""
    codes = set(frame["code"])
    return replace(legend, classes=tuple(item for item in legend.classes if item.code in codes))
