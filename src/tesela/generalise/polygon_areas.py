"""Polygon areas: the exact area of each class of a map in each polygon, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.core.coverage import DUST, add_edge, ring_sign
from tesela.core.outlines import Outlines


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


@dataclass(frozen=True, eq=False)
class PolygonAreas:
    """Areas of the classes of a map in polygons."""

    areas: NDArray[np.float64]
    """(polygons, classes) area in pixels; pixels on an edge count in part."""
    total: NDArray[np.float64]
    """(polygons,) area of each polygon in pixels, including parts without data or outside the map."""
    scored: NDArray[np.float64]
    """(polygons, classes, 2) area in pixels with a confidence, and the sum of area times confidence."""

    @classmethod
    def join(cls, parts: list[PolygonAreas]) -> PolygonAreas:
        """Polygons of several arrays, one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS))

    def __getitem__(self, chosen: NDArray[np.generic]) -> PolygonAreas:
        return PolygonAreas(self.areas[chosen], self.total[chosen], self.scored[chosen])

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


_ARRAYS = ("areas", "total", "scored")


def measure_window(
    outlines: Outlines,
    count: int,
    *,
    corner: tuple[int, int],
    values: NDArray[np.uint8],
    scores: NDArray[np.uint8] | None,
    plane_of: NDArray[np.int64],
    classes: int,
) -> PolygonAreas:
    """
    Measure the area that polygons share with the pixels of each class in a window; pixels on an edge count in part.

    Parameters
    ----------
    outlines : Outlines
        Of `count` polygons, in pixels of the whole map.
    corner : (int, int)
        Row and column of the window in the map.
    values, scores : (rows, cols) arrays of uint8
        Class values of the window, and a score of each pixel, 255 for none.
    plane_of : (256,) array
        Class of each value, from 0 to `classes`; negative for values without a class.
    """
    areas, scored = np.zeros((count, classes)), np.zeros((count, classes, 2))
    rings = np.searchsorted(outlines.owners, np.arange(count + 1)).astype(np.int64)
    _add_zones(
        outlines.points,
        outlines.starts,
        outlines.holes,
        rings,
        np.flatnonzero(rings[1:] > rings[:-1]),
        *corner,
        values,
        np.empty((0, 0), np.uint8) if scores is None else scores,
        plane_of,
        areas,
        scored,
    )
    return PolygonAreas(areas, outlines.areas(count), scored)


def pixel_bounds(outlines: Outlines, count: int) -> NDArray[np.float64]:
    """(4, count) left, top, right and low of the polygons, in pixels; NaN without a ring."""
    rings = np.searchsorted(outlines.owners, np.arange(count + 1)).astype(np.int64)
    bounds = np.full((4, count), np.nan)
    full = np.flatnonzero(rings[1:] > rings[:-1])
    if full.size:
        first = outlines.starts[rings[full]]
        bounds[:2, full] = np.minimum.reduceat(outlines.points, first).T
        bounds[2:, full] = np.maximum.reduceat(outlines.points, first).T
    return bounds
