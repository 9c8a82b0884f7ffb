"""The census: which classes of a map lie in each polygon, by exact area."""

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
    Add to polygons the area that they share with the pixels of each class; cut pixels count in part.

    Parameters
    ----------
    points, starts, holes
        Rings in pixels of the whole map, as in `polygon_areas`.
    rings : (polygons + 1,) array
        Where each polygon's rings begin in `starts`.
    chosen : array of int
        Polygons that may touch the window.
    corner : (int, int)
        Row and column of the window in the map.
    values, scores : (rows, cols) arrays of uint8
        Class values of the window, and a score of each pixel, 255 for none.
    plane_of : (256,) array
        Plane of each value; negative: left out.
    areas : (polygons, planes) array
        Added to: area in pixels.
    scored : (polygons, planes, 2) array
        Added to: area in pixels that has a score, and the sum of area times score.
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
"""How far a reprojected edge of a polygon may lie from its true curve."""


@dataclass(frozen=True, eq=False)
class Census:
    """Areas of the classes of a map in polygons."""

    areas: NDArray[np.float64]
    """(polygons, classes) area in pixels; pixels that an edge cuts count in part."""
    total: NDArray[np.float64]
    """(polygons,) area of each polygon in pixels, with ground where the map has no data or does not reach."""
    scored: NDArray[np.float64]
    """(polygons, classes, 2) area in pixels with a confidence, and the sum of area times confidence."""

    @property
    def seen(self) -> NDArray[np.float64]:
        """(polygons,) share of each polygon where the map has a class; 0 for polygons without an area."""
        shown = self.areas.sum(axis=1)
        found: NDArray[np.float64] = np.divide(
            shown, self.total, out=np.zeros(len(shown)), where=self.total > 0
        )
        return found

    @property
    def shares(self) -> NDArray[np.float64]:
        """(polygons, classes) share of each class in the ground that the map shows; 0 where it shows nothing."""
        shown = self.areas.sum(axis=1, keepdims=True)
        found: NDArray[np.float64] = np.divide(
            self.areas, shown, out=np.zeros(self.areas.shape), where=shown > 0
        )
        return found

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(polygons,) mean confidence, NaN where there is none."""
        area, total = self.scored.sum(axis=1).T
        found: NDArray[np.float64] = np.divide(total, area, out=np.full(len(area), np.nan), where=area > 0)
        return found


def measure_polygons(
    shapes: NDArray[np.object_], crs: str, source: ClassMap, *, confidence: str | Path | None = None
) -> Census:
    """
    Measure the classes of a map in polygons, window by window of the map.

    The polygons stay in memory; one of 60 corners takes about a kilobyte here.

    Parameters
    ----------
    shapes : (polygons,) array of shapely geometries
        Valid polygons and multipolygons.
    crs : str
        Of the polygons.
    confidence : str or Path, optional
        Confidence raster of the map.

    Raises
    ------
    GridError
        If the polygons cannot be brought to the map's CRS.
    InputError
        If a file cannot be read.
    """
    plane = CellPlane.between(crs, source.grid, tolerance=_TOLERANCE_PX)
    found = plane.outlines(shapes)
    rings = np.searchsorted(found.owners, np.arange(len(shapes) + 1)).astype(np.int64)
    bounds = _bounds(found, rings)
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
                found.points,
                found.starts,
                holes=found.holes,
                rings=rings,
                chosen=chosen,
                corner=(row, col),
                values=reader.read(grid),
                scores=None if scores is None else scores.read(grid),
                plane_of=plane_of,
                areas=areas,
                scored=scored,
            )
    return Census(areas, found.areas(len(shapes)), scored)


def _bounds(found: Outlines, rings: NDArray[np.int64]) -> NDArray[np.float64]:
    """(4, polygons) left, top, right and low of the polygons; those without a ring lie nowhere."""
    bounds = np.full((4, len(rings) - 1), np.nan)
    full = np.flatnonzero(rings[1:] > rings[:-1])
    if full.size:
        first = found.starts[rings[full]]
        bounds[:2, full] = np.minimum.reduceat(found.points, first).T
        bounds[2:, full] = np.maximum.reduceat(found.points, first).T
    return bounds
