"""Polygon areas: the exact area of each class of a map in each polygon."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.core.coverage import DUST, add_edge, ring_sign
from tesela.core.grid import windows
from tesela.core.outlines import CellPlane, Outlines
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_values import ConfidenceReader


@numba.njit(cache=True, nogil=True)
def _add_zones(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    holes: NDArray[np.bool_],
    rings: NDArray[np.int64],
    chosen: NDArray[np.int64],
    top: int,
    left: int,
    values: NDArray[np.uint8],
    scores: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    areas: NDArray[np.float64],
    scored: NDArray[np.float64],
) -> None:
    rows, cols = values.shape
    for zone in chosen:
        low, high = np.inf, -np.inf
        near, far = np.inf, -np.inf
        for k in range(starts[rings[zone]], starts[rings[zone + 1]]):
            near, far = min(near, points[k, 0]), max(far, points[k, 0])
            low, high = min(low, points[k, 1]), max(high, points[k, 1])
        row, col = int(max(low - top, 0.0)), int(max(near - left, 0.0))
        tall = int(np.ceil(min(high - top, float(rows)))) - row
        wide = int(np.ceil(min(far - left, float(cols)))) - col
        if tall <= 0 or wide <= 0:
            continue
        part = np.zeros((1, tall, wide))
        right = np.zeros((1, tall, wide + 1))
        x, y = float(left + col), float(top + row)
        for ring in range(rings[zone], rings[zone + 1]):
            sign = ring_sign(points, starts[ring], starts[ring + 1], holes[ring])
            for k in range(starts[ring], starts[ring + 1] - 1):
                x0, y0 = points[k, 0] - x, points[k, 1] - y
                x1, y1 = points[k + 1, 0] - x, points[k + 1, 1] - y
                add_edge(x0, y0, x1, y1, sign, 0, right, part)
        for i in range(tall):
            full = 0.0
            for j in range(wide):
                full += right[0, i, j]
                area = part[0, i, j] + full
                plane = plane_of[values[row + i, col + j]]
                if area > DUST and plane >= 0:
                    areas[zone, plane] += area
                    if scores.size and scores[row + i, col + j] != 255:
                        scored[zone, plane, 0] += area
                        scored[zone, plane, 1] += area * scores[row + i, col + j]


def add_zone_areas(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    *,
    holes: NDArray[np.bool_],
    rings: NDArray[np.int64],
    chosen: NDArray[np.int64],
    corner: tuple[int, int],
    values: NDArray[np.uint8],
    scores: NDArray[np.uint8] | None,
    plane_of: NDArray[np.int64],
    areas: NDArray[np.float64],
    scored: NDArray[np.float64],
) -> None:
    """
    Add to polygons the area that they share with the pixels of each class; pixels on an edge count in part.

    Parameters
    ----------
    points, starts, holes
        Rings in pixels of the whole map, as in `polygon_areas`.
    rings : (polygons + 1,) array
        First ring of each polygon in `starts`.
    chosen : array of int
        Polygons that may overlap the window.
    corner : (int, int)
        Row and column of the window in the map.
    values, scores : (rows, cols) arrays of uint8
        Class values of the window, and a score of each pixel, 255 for none.
    plane_of : (256,) array
        Plane of each value; negative for values without a plane.
    areas : (polygons, planes) array
        Area in pixels; added to.
    scored : (polygons, planes, 2) array
        Area in pixels with a score, and the sum of area times score; added to.
    """
    none = np.empty((0, 0), np.uint8)
    _add_zones(
        points,
        starts,
        holes,
        rings,
        chosen,
        *corner,
        values,
        none if scores is None else scores,
        plane_of,
        areas,
        scored,
    )


_WINDOW_PX = 2048
_TOLERANCE_PX = 0.01
"""Largest distance between a reprojected edge of a polygon and its true curve."""


@dataclass(frozen=True, eq=False)
class PolygonAreas:
    """Areas of the classes of a map in polygons."""

    areas: NDArray[np.float64]
    """(polygons, classes) area in pixels; pixels on an edge count in part."""
    total: NDArray[np.float64]
    """(polygons,) area of each polygon in pixels, including parts without data or outside the map."""
    scored: NDArray[np.float64]
    """(polygons, classes, 2) area in pixels with a confidence, and the sum of area times confidence."""

    @property
    def seen(self) -> NDArray[np.float64]:
        """(polygons,) share of each polygon with a class in the map; 0 for polygons without an area."""
        mapped = self.areas.sum(axis=1)
        share: NDArray[np.float64] = np.divide(
            mapped, self.total, out=np.zeros(len(mapped)), where=self.total > 0
        )
        return share

    @property
    def shares(self) -> NDArray[np.float64]:
        """(polygons, classes) share of each class in the mapped part; 0 for polygons without a mapped part."""
        mapped = self.areas.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.divide(
            self.areas, mapped, out=np.zeros(self.areas.shape), where=mapped > 0
        )
        return shares

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(polygons,) mean confidence, NaN where there is none."""
        area, total = self.scored.sum(axis=1).T
        mean: NDArray[np.float64] = np.divide(total, area, out=np.full(len(area), np.nan), where=area > 0)
        return mean


def measure_polygons(
    shapes: NDArray[np.object_], crs: str, source: ClassMap, *, confidence: str | Path | None = None
) -> PolygonAreas:
    """
    Measure the classes of a map in polygons, window by window of the map.

    The polygons stay in memory; a polygon of 60 corners takes about a kilobyte.

    Parameters
    ----------
    shapes : (polygons,) array of shapely geometries
        Valid polygons and multipolygons.
    crs : str
        CRS of the polygons.
    confidence : str or Path, optional
        Confidence raster of the map.

    Raises
    ------
    GridError
        If the polygons cannot be transformed to the map's CRS.
    InputError
        If a file cannot be read.
    """
    plane = CellPlane.between(crs, source.grid, tolerance=_TOLERANCE_PX)
    outlines = plane.outlines(shapes)
    rings = np.searchsorted(outlines.owners, np.arange(len(shapes) + 1)).astype(np.int64)
    bounds = _bounds(outlines, rings)
    classes = len(source.legend)
    areas, scored = np.zeros((len(shapes), classes)), np.zeros((len(shapes), classes, 2))
    position = source.legend.index_table.astype(np.int64)
    plane_of = np.where(position == 255, -1, position)
    with ExitStack() as stack:
        reader = stack.enter_context(MapReader(source))
        scores = None if confidence is None else stack.enter_context(ConfidenceReader(confidence))
        for row, col, grid in windows(source.grid, _WINDOW_PX):
            rows, cols = grid.shape
            left, top, right, low = bounds
            chosen = np.flatnonzero((left < col + cols) & (right > col) & (top < row + rows) & (low > row))
            if not chosen.size:
                continue
            add_zone_areas(
                outlines.points,
                outlines.starts,
                holes=outlines.holes,
                rings=rings,
                chosen=chosen,
                corner=(row, col),
                values=reader.read(grid),
                scores=None if scores is None else scores.read(grid),
                plane_of=plane_of,
                areas=areas,
                scored=scored,
            )
    return PolygonAreas(areas, outlines.areas(len(shapes)), scored)


def _bounds(outlines: Outlines, rings: NDArray[np.int64]) -> NDArray[np.float64]:
    """(4, polygons) left, top, right and low of the polygons; NaN without a ring."""
    bounds = np.full((4, len(rings) - 1), np.nan)
    full = np.flatnonzero(rings[1:] > rings[:-1])
    if full.size:
        first = outlines.starts[rings[full]]
        bounds[:2, full] = np.minimum.reduceat(outlines.points, first).T
        bounds[2:, full] = np.maximum.reduceat(outlines.points, first).T
    return bounds
