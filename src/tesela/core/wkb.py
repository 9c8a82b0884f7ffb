"""
Polygons of well-known binary that GEOS does not read: curves, triangles, rings that are open or too short.

Sources: OGC 06-103r4 (WKB, curves), ISO 13249-3 (dimensions as thousands), PostGIS (EWKB: dimensions as high bits).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

_STEP = math.radians(1.0)
"""Largest angle of a chord: the area of a circle is right to 5e-5."""

_POINTS = frozenset({1, 4})
_LINES = frozenset({2, 5, 8, 9, 11, 13})
_POLYGONS = frozenset({3, 10, 17})
_GROUPS = frozenset({6, 7, 12, 14, 15, 16})
"""Kinds that hold geometries: multipolygon, collection, multisurface, surface, polyhedral surface, TIN."""

Ring = NDArray[np.float64]


@dataclass(frozen=True)
class DecodedPolygon:
    """The area of a geometry, in two dimensions."""

    shape: shapely.MultiPolygon
    curved: bool
    """An arc became chords of at most one degree."""
    broken: int
    """Rings that were closed, or left out because they have fewer than three corners."""


def decode_polygons(data: bytes) -> DecodedPolygon:
    """
    Read the polygons of a geometry of any kind; points and lines have no area and are left out.

    Raises
    ------
    ValueError
        If the bytes end too early or name a kind that does not exist.

    Examples
    --------
    >>> arcs = b"".join(struct.pack("<dd", *point) for point in ((0, 0), (1, 1), (2, 0), (1, -1), (0, 0)))
    >>> circle = struct.pack("<BII", 1, 10, 1) + struct.pack("<BII", 1, 8, 5) + arcs
    >>> round(decode_polygons(circle).shape.area, 3)
    3.141
    """
    reader = _Reader(data)
    try:
        polygons = reader.polygons()
    except (struct.error, RecursionError):
        raise ValueError("its bytes end too early") from None
    return DecodedPolygon(shapely.MultiPolygon(polygons), reader.curved, reader.broken)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._order = "<"
        self.curved = False
        self.broken = 0

    def polygons(self) -> list[shapely.Polygon]:
        """Polygons of the geometry that begins here."""
        kind, size = self._head()
        if kind in _POINTS | _LINES:
            self._skip(kind, size)
            return []
        count = self._count()
        if kind in _GROUPS:
            return [polygon for _ in range(count) for polygon in self.polygons()]
        if kind == 10:
            rings = [self._line() for _ in range(count)]
        elif kind in _POLYGONS:
            rings = [self._points(size) for _ in range(count)]
        else:
            raise ValueError(f"kind {kind} of well-known binary does not exist")
        closed = [self._closed(ring) for ring in rings]
        if not closed or closed[0] is None:
            return []
        return [shapely.Polygon(closed[0], [hole for hole in closed[1:] if hole is not None])]

    def _head(self) -> tuple[int, int]:
        """Kind and numbers per point of the geometry that begins here."""
        self._order = "<" if self._data[self._at : self._at + 1] == b"\x01" else ">"
        (word,) = struct.unpack_from(f"{self._order}I", self._data, self._at + 1)
        self._at += 5
        if word & 0x20000000:  # EWKB: an SRID follows
            self._at += 4
        extra = bool(word & 0x80000000) + bool(word & 0x40000000)
        word &= 0x1FFFFFFF
        thousand = word // 1000
        if thousand > 3:
            raise ValueError(f"kind {word} of well-known binary does not exist")
        return word % 1000, 2 + extra + (0, 1, 1, 2)[thousand]

    def _count(self) -> int:
        (count,) = struct.unpack_from(f"{self._order}I", self._data, self._at)
        self._at += 4
        if count > len(self._data):  # nothing takes less than a byte
            raise ValueError("its bytes end too early")
        return int(count)

    def _points(self, size: int) -> Ring:
        count = self._count()
        end = self._at + 8 * size * count
        if end > len(self._data):
            raise ValueError("its bytes end too early")
        points = np.frombuffer(self._data, f"{self._order}f8", size * count, self._at).reshape(count, size)
        self._at = end
        return points[:, :2].astype(np.float64)

    def _line(self) -> Ring:
        """Points of a line, arc or chain of both, with arcs as chords."""
        kind, size = self._head()
        if kind == 2:
            return self._points(size)
        if kind == 8:
            self.curved = True
            return _chords(self._points(size))
        if kind != 9:
            raise ValueError(f"kind {kind} of well-known binary is no ring")
        parts = [self._line() for _ in range(self._count())]
        return np.concatenate([np.zeros((0, 2)), *parts])

    def _skip(self, kind: int, size: int) -> None:
        if kind == 1:
            self._at += 8 * size
            return
        if kind in (2, 8):
            self._points(size)
            return
        for _ in range(self._count()):
            inner, inner_size = self._head()
            self._skip(inner, inner_size)

    def _closed(self, ring: Ring) -> Ring | None:
        """The ring with its first corner at its end; None if it has fewer than three corners."""
        if len(ring) and not (ring[0] == ring[-1]).all():
            self.broken += 1
            ring = np.concatenate([ring, ring[:1]])
        if len(ring) < 4 or len(np.unique(ring, axis=0)) < 3:
            self.broken += len(ring) > 0
            return None
        return ring


def _chords(points: Ring) -> Ring:
    """Points along arcs, each given by its start, a point on it and its end."""
    if len(points) < 3:
        return points
    parts = [points[:1]]
    for first in range(0, len(points) - 2, 2):
        parts.append(_arc(*points[first : first + 3])[1:])
    return np.concatenate(parts)


def _arc(start: Ring, middle: Ring, end: Ring) -> Ring:
    """Points of one arc; the same ones, reversed, where a neighbour runs along it the other way."""
    if tuple(end) < tuple(start):
        return _arc(end, middle, start)[::-1]
    if (start == end).all():  # a full circle, `middle` opposite
        centre, turn = (start + middle) / 2, 2 * math.pi
    else:
        (ax, ay), (bx, by) = middle - start, end - start
        twice = 2 * (ax * by - ay * bx)
        if twice == 0 or not math.isfinite(twice):
            return np.stack([start, middle, end])
        a2, b2 = ax * ax + ay * ay, bx * bx + by * by
        centre = start + np.array([by * a2 - ay * b2, ax * b2 - bx * a2]) / twice
        angles = [math.atan2(y, x) for x, y in (start - centre, end - centre)]
        turn = (angles[1] - angles[0]) % (2 * math.pi)
        if twice > 0:  # the middle lies right of start to end: the arc turns left
            turn = turn or 2 * math.pi
        else:
            turn -= 2 * math.pi
    radius, first = np.hypot(*(start - centre)), math.atan2(*(start - centre)[::-1])
    steps = max(2, math.ceil(abs(turn) / _STEP))
    angle = first + turn * np.arange(steps + 1) / steps
    points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points[0], points[-1] = start, end
    return np.asarray(points, np.float64)
