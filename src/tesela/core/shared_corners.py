"""Shared corners: neighbours along a border get the same corners, as a coverage without gaps or overlaps needs."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

_ROUNDING = 1e-12
"""
Distance within which points are the same, relative to the largest coordinate.

Doubles hold 2e-16, and the corner where two edges cross comes out a little different for each polygon that has it.
"""
_PAIRS = 1 << 22
"""Points times corners that are compared at once."""


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
    low, high = ring.min(axis=0) - reach, ring.max(axis=0) + reach
    points = points[((points >= low) & (points <= high)).all(axis=1)]
    for some in np.array_split(points, -(-len(points) * len(ring) // _PAIRS)) if len(points) else ():
        ring = _ring_with_some(ring, some, reach)
    return ring


def _ring_with_some(
    ring: NDArray[np.float64], points: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    at, corner = np.nonzero(np.abs(points[:, np.newaxis] - ring[np.newaxis]).max(axis=2) <= reach)
    ring = ring.copy()
    ring[corner] = points[at]
    points = np.delete(points, at, axis=0)
    begin, along = ring[:-1], np.diff(ring, axis=0)
    length = np.maximum((along**2).sum(axis=1), np.finfo(float).tiny)
    away = points[:, np.newaxis] - begin[np.newaxis]
    part = np.clip((away * along).sum(axis=2) / length, 0, 1)
    miss = np.hypot(*np.moveaxis(away - part[..., np.newaxis] * along, 2, 0))
    edge = miss.argmin(axis=1)
    each = np.arange(len(points))
    on = miss[each, edge] <= reach
    edge, part, points = edge[on], part[each, edge][on], points[on]
    order = np.lexsort((part, edge))
    ring = np.insert(ring, edge[order] + 1, points[order], axis=0)
    fresh: NDArray[np.float64] = ring[np.append(True, (np.diff(ring, axis=0) != 0).any(axis=1))]
    return fresh
