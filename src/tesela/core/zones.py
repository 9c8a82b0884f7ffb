"""Exact areas of the classes of a raster in polygons: pixels that an edge cuts count in part."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.core.coverage import DUST, add_edge, ring_sign


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
