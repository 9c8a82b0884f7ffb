"""Shared corners: neighbours along a border get the same corners, as a coverage without gaps or overlaps needs."""

from __future__ import annotations

import math

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
        at, near = _tree(points).query(shapely.points(points), predicate="dwithin", distance=self._reach)
        first = np.arange(len(points))
        np.minimum.at(first, at, near)
        self._points = points[first == np.arange(len(points))]
        self._corners = _tree(self._points)

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
        at, near = self._corners.query(shapely.boundary(shapes), predicate="dwithin", distance=self._reach)
        if not len(at):
            return shapes
        out = shapes.copy()
        order = np.argsort(at, kind="stable")
        at, near = at[order], near[order]
        touched = np.unique(at)
        kinds = shapely.get_type_id(shapes[touched])
        for kind in np.unique(kinds):  # polygons, multipolygons
            chosen = touched[kinds == kind]
            mine = np.isin(at, chosen)
            starts = np.searchsorted(at[mine], [*chosen, len(shapes)])
            out[chosen] = _with_corners(shapes[chosen], self._points[near[mine]], starts, self._reach)
        return out


def _tree(points: NDArray[np.float64]) -> shapely.STRtree:
    corners = np.empty(len(points), object)
    corners[:] = shapely.points(points)
    return shapely.STRtree(corners)


def _with_corners(
    shapes: NDArray[np.object_], points: NDArray[np.float64], starts: NDArray[np.int64], reach: float
) -> NDArray[np.object_]:
    """Shapes of one kind with the points `starts[k]` to `starts[k + 1]` in the rings of shape k."""
    kind, corners, offsets = shapely.to_ragged_array(shapes)
    rings, *others = (np.asarray(item, np.int64) for item in offsets)
    shape_of: NDArray[np.int64] = np.arange(len(shapes))
    for parts in reversed(others):
        shape_of = np.repeat(shape_of, np.diff(parts))
    corners, begins = _insert(corners, rings, shape_of, points, starts, reach)
    fresh: NDArray[np.object_] = shapely.from_ragged_array(kind, corners, (begins, *others))
    return fresh


@numba.njit(cache=True, nogil=True)
def _place(
    ring: NDArray[np.float64],
    points: NDArray[np.float64],
    reach: float,
    edge: NDArray[np.int64],
    part: NDArray[np.float64],
) -> None:
    """Move corners beside a point onto it; for other points the edge they lie on, and how far along it they are."""
    left, right = ring[:, 0].min() - reach, ring[:, 0].max() + reach
    low, high = ring[:, 1].min() - reach, ring[:, 1].max() + reach
    for p in range(len(points)):
        x, y = points[p]
        if not (left <= x <= right and low <= y <= high):
            edge[p] = -2
            continue
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
            along = (x1 - x0) ** 2 + (y1 - y0) ** 2
            share = 0.0 if along == 0.0 else ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / along
            share = min(max(share, 0.0), 1.0)
            miss = math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0))
            if miss < best or (miss == best and edge[p] < 0):
                best, edge[p], part[p] = miss, e, share


@numba.njit(cache=True, nogil=True)
def _insert(
    corners: NDArray[np.float64],
    rings: NDArray[np.int64],
    shape_of: NDArray[np.int64],
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Corners of the rings with the points on them, no corner twice in a row, and where each ring begins."""
    out = np.empty((len(corners) + len(points), 2))
    begins = np.zeros(len(rings), np.int64)
    used = 0
    for r in range(len(rings) - 1):
        ring = corners[rings[r] : rings[r + 1]].copy()
        near = points[starts[shape_of[r]] : starts[shape_of[r] + 1]]
        edge, part = np.full(len(near), -1), np.zeros(len(near))
        if len(ring) and len(near):
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
            if c == 0 or ring[c, 0] != out[used - 1, 0] or ring[c, 1] != out[used - 1, 1]:
                out[used] = ring[c]
                used += 1
            while following < len(order) and edge[order[following]] == c:
                point = near[order[following]]
                if point[0] != out[used - 1, 0] or point[1] != out[used - 1, 1]:
                    out[used] = point
                    used += 1
                following += 1
        begins[r + 1] = used
    return out[:used], begins
