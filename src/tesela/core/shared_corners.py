"""Shared corners: neighbours along a border get the same corners, as a coverage without gaps or overlaps needs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import shapely
from numpy.typing import NDArray

_ROUNDING = 1e-12
"""
Distance within which points are the same, relative to the largest coordinate.

Doubles hold 2e-16, and the corner where two edges cross comes out a little different for each polygon that has it.
"""


class SharedCorners:
    """
    Points that polygons get as corners where they lie on their edges.

    Parameters
    ----------
    points : (m, 2) array
        Of points that differ by rounding alone the first is taken.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        self._reach = float(np.abs(points).max(initial=0.0)) * _ROUNDING
        points = np.unique(points, axis=0)
        self._cells = _Cells.around(points, self._reach)
        keys = self._cells.keys_of(points)
        order = np.argsort(keys, kind="stable")
        points, keys = points[order], keys[order]
        first = _first(points, keys, order, self._cells, self._reach)
        self._points, self._keys = points[first], keys[first]

    def insert(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """
        Put the points that lie on edges of polygons among their corners, and corners beside a point onto it.

        Parameters
        ----------
        shapes : (n,) array of polygons and multipolygons

        Returns
        -------
        (n,) array
            Shapes on which no point lies are the same objects.

        Examples
        --------
        >>> square = shapely.box(0, 0, 2, 2)
        >>> (fitted,) = SharedCorners(np.array([[1.0, 0.0], [1.0, 1.0]])).insert(np.array([square]))
        >>> len(square.exterior.coords), len(fitted.exterior.coords)
        (5, 6)
        """
        shapes = np.asarray(shapes, object)
        if not len(self._points) or not len(shapes):
            return shapes
        out = shapes.copy()
        kinds = shapely.get_type_id(shapes)
        for kind in (3, 6):  # polygons, multipolygons
            chosen = np.flatnonzero((kinds == kind) & ~shapely.is_empty(shapes))
            if chosen.size:
                fresh, touched = self._inserted(shapes[chosen])
                out[chosen[touched]] = fresh[touched]
        return out

    def _inserted(self, shapes: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """Shapes of one kind with the points on them, and on which there are any."""
        kind, corners, offsets = shapely.to_ragged_array(shapes)
        rings, *others = (np.asarray(item, np.int64) for item in offsets)
        shape_of: NDArray[np.int64] = np.arange(len(shapes))
        for parts in reversed(others):
            shape_of = np.repeat(shape_of, np.diff(parts))
        corners, begins, hit = _insert(corners, rings, self._points, self._keys, self._cells, self._reach)
        touched = np.zeros(len(shapes), np.bool_)
        touched[shape_of[hit]] = True
        return shapely.from_ragged_array(kind, corners, (begins, *others)), touched


class _Cells(NamedTuple):
    """Squares that hold a few points each, numbered row by row; those of a row follow each other."""

    x: float
    y: float
    side: float
    cols: int

    @classmethod
    def around(cls, points: NDArray[np.float64], reach: float) -> _Cells:
        """Squares for points that a distance of `reach` never takes further than to the next one."""
        if not len(points):
            return cls(0.0, 0.0, 1.0, 1)
        (x, y), (right, top) = points.min(axis=0), points.max(axis=0)
        longer = max(float(right - x), float(top - y))
        even = np.sqrt((right - x) * (top - y) / len(points))
        side = max(2 * float(even), longer / 1e9, 4 * reach, np.finfo(float).tiny)
        return cls(float(x), float(y), side, int((right - x) / side) + 1)

    def keys_of(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """(points,) number of the square of each."""
        col = np.floor((points[:, 0] - self.x) / self.side).astype(np.int64)
        row = np.floor((points[:, 1] - self.y) / self.side).astype(np.int64)
        keys: NDArray[np.int64] = row * self.cols + col
        return keys


@numba.njit(cache=True, nogil=True)
def _range(low: float, high: float, origin: float, side: float) -> tuple[int, int]:
    return math.floor((low - origin) / side), math.floor((high - origin) / side)


@numba.njit(cache=True, nogil=True)
def _first(
    points: NDArray[np.float64],
    keys: NDArray[np.int64],
    order: NDArray[np.int64],
    cells: _Cells,
    reach: float,
) -> NDArray[np.bool_]:
    """Points without an earlier one, by `order`, within reach."""
    first = np.ones(len(points), np.bool_)
    for p in range(len(points)):
        x, y = points[p]
        left, right = _range(x - reach, x + reach, cells.x, cells.side)
        low, high = _range(y - reach, y + reach, cells.y, cells.side)
        for row in range(low, high + 1):
            start = np.searchsorted(keys, row * cells.cols + max(left, 0))
            for q in range(start, len(keys)):
                if keys[q] > row * cells.cols + min(right, cells.cols - 1):
                    break
                if order[q] < order[p] and math.hypot(points[q, 0] - x, points[q, 1] - y) <= reach:
                    first[p] = False
    return first


@numba.njit(cache=True, nogil=True)
def _gather(
    ring: NDArray[np.float64],
    points: NDArray[np.float64],
    keys: NDArray[np.int64],
    cells: _Cells,
    reach: float,
) -> NDArray[np.int64]:
    """Positions of the points within reach of a ring; some twice."""
    near = np.empty(16, np.int64)
    count = 0
    for e in range(len(ring) - 1):
        x0, y0, x1, y1 = ring[e, 0], ring[e, 1], ring[e + 1, 0], ring[e + 1, 1]
        left, right = _range(min(x0, x1) - reach, max(x0, x1) + reach, cells.x, cells.side)
        low, high = _range(min(y0, y1) - reach, max(y0, y1) + reach, cells.y, cells.side)
        left, right = max(left, 0), min(right, cells.cols - 1)
        if left > right:
            continue
        last_row = keys[-1] // cells.cols
        for row in range(max(low, 0), min(high, last_row) + 1):
            start = np.searchsorted(keys, row * cells.cols + left)
            for q in range(start, len(keys)):
                if keys[q] > row * cells.cols + right:
                    break
                if _miss(points[q, 0], points[q, 1], x0, y0, x1, y1)[0] <= reach:
                    if count == len(near):
                        near = np.concatenate((near, near))
                    near[count] = q
                    count += 1
    return near[:count]


@numba.njit(cache=True, nogil=True)
def _miss(x: float, y: float, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float]:
    """Distance of a point from an edge, and how far along it the nearest place is, from 0 to 1."""
    along = (x1 - x0) ** 2 + (y1 - y0) ** 2
    share = 0.0 if along == 0.0 else ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / along
    share = min(max(share, 0.0), 1.0)
    return math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)), share


@numba.njit(cache=True, nogil=True)
def _place(
    ring: NDArray[np.float64],
    points: NDArray[np.float64],
    reach: float,
    edge: NDArray[np.int64],
    part: NDArray[np.float64],
) -> None:
    """Move corners beside a point onto it; for other points the edge they lie on, and how far along it they are."""
    for p in range(len(points)):
        x, y = points[p]
        for c in range(len(ring)):
            if abs(x - ring[c, 0]) <= reach and abs(y - ring[c, 1]) <= reach:
                ring[c] = points[p]
                edge[p] = -2
    for p in range(len(points)):
        if edge[p] == -2:
            continue
        x, y = points[p]
        best = reach
        for e in range(len(ring) - 1):
            x0, y0, x1, y1 = ring[e, 0], ring[e, 1], ring[e + 1, 0], ring[e + 1, 1]
            if not (min(x0, x1) - reach <= x <= max(x0, x1) + reach):
                continue
            if not (min(y0, y1) - reach <= y <= max(y0, y1) + reach):
                continue
            miss, share = _miss(x, y, x0, y0, x1, y1)
            if miss < best or (miss == best and edge[p] < 0):
                best, edge[p], part[p] = miss, e, share


@numba.njit(cache=True, nogil=True)
def _insert(
    corners: NDArray[np.float64],
    rings: NDArray[np.int64],
    points: NDArray[np.float64],
    keys: NDArray[np.int64],
    cells: _Cells,
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Corners of the rings with the points on them, where each ring begins, and which rings have such points."""
    out = np.empty((len(corners) + len(corners) // 8 + 16, 2))
    hit = np.zeros(len(rings) - 1, np.bool_)
    begins = np.zeros(len(rings), np.int64)
    used = 0
    for r in range(len(rings) - 1):
        ring = corners[rings[r] : rings[r + 1]].copy()
        near = points[np.unique(_gather(ring, points, keys, cells, reach))]
        hit[r] = len(near) > 0
        edge, part = np.full(len(near), -1), np.zeros(len(near))
        if hit[r]:
            _place(ring, near, reach, edge, part)
        order = np.argsort(part, kind="mergesort")
        order = order[np.argsort(edge[order], kind="mergesort")]
        if used + len(ring) + len(near) > len(out):
            wider = np.empty((2 * len(out) + len(ring) + len(near), 2))
            wider[:used] = out[:used]
            out = wider
        following = 0
        while following < len(order) and edge[order[following]] < 0:
            following += 1
        for c in range(len(ring)):
            if not hit[r] or c == 0 or ring[c, 0] != out[used - 1, 0] or ring[c, 1] != out[used - 1, 1]:
                out[used] = ring[c]
                used += 1
            while following < len(order) and edge[order[following]] == c:
                point = near[order[following]]
                if point[0] != out[used - 1, 0] or point[1] != out[used - 1, 1]:
                    out[used] = point
                    used += 1
                following += 1
        begins[r + 1] = used
    return out[:used], begins, hit
