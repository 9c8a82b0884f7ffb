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
        first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
        for start, stop in zip(first, [*first[1:], len(at)], strict=True):
            out[at[start]] = _with_corners(out[at[start]], self._points[near[start:stop]], self._reach)
        return out


def _tree(points: NDArray[np.float64]) -> shapely.STRtree:
    corners = np.empty(len(points), object)
    corners[:] = shapely.points(points)
    return shapely.STRtree(corners)


def _with_corners(shape: shapely.Geometry, points: NDArray[np.float64], reach: float) -> shapely.Geometry:
    new = [
        shapely.Polygon(
            _ring_with(shapely.get_coordinates(part.exterior), points, reach),
            [_ring_with(shapely.get_coordinates(ring), points, reach) for ring in part.interiors],
        )
        for part in shapely.get_parts(shape)
    ]
    return new[0] if shapely.get_type_id(shape) == 3 else shapely.MultiPolygon(new)


def _ring_with(ring: NDArray[np.float64], points: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    ring = ring.copy()
    edge, part = np.full(len(points), -1), np.zeros(len(points))
    _place(ring, points, reach, edge, part)
    on = np.flatnonzero(edge >= 0)
    order = on[np.lexsort((part[on], edge[on]))]
    ring = np.insert(ring, edge[order] + 1, points[order], axis=0)
    fresh: NDArray[np.float64] = ring[np.append(True, (np.diff(ring, axis=0) != 0).any(axis=1))]
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
            along = (x1 - x0) ** 2 + (y1 - y0) ** 2
            share = 0.0 if along == 0.0 else ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / along
            share = min(max(share, 0.0), 1.0)
            miss = math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0))
            if miss < best or (miss == best and edge[p] < 0):
                best, edge[p], part[p] = miss, e, share
