"""
Tracing: the outlines of a map's regions, each shared border with the same corners on both sides.

Each ring has its region on the left. At a corner of the pixel lattice only the four pixels around it matter, so
one pass over the rows lists all corners and links them to rings. Memory grows with the outlines, not with the
pixels. Where three or more regions meet, all of them get a corner, even one whose border is straight there.
Neighbours then share whole edges, as coverage operations need. Where two parts of one region touch at a point,
its ring is split there, so that holes touch the outer ring and do not cross it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.regions import RegionGraph


@dataclass(frozen=True)
class Tracing:
    """Rings of all regions on the pixel lattice; the rings of one region are consecutive, the outer ring first."""

    points: NDArray[np.int32]
    """(points, 2) column and row of the corners; the first of each ring is repeated at its end."""
    starts: NDArray[np.int64]
    """(rings + 1,) first point of each ring."""
    polygons: NDArray[np.int64]
    """(regions + 1,) first ring of each region."""
    regions: NDArray[np.int64]
    """(regions,) node of each region, in the order of their first pixels."""


def trace_regions(graph: RegionGraph, strips: Iterator[NDArray[np.int32]]) -> Tracing:
    """
    Trace the outlines of the regions of a graph.

    Parameters
    ----------
    graph : RegionGraph
    strips : iterator of (rows, cols) arrays of int32
        Region (root node) of each pixel, negative for nodata; whole rows from top to bottom.

    Returns
    -------
    Tracing
        The same for any strips.
    """
    cols = graph.shape[1]
    tracer = _Tracer(cols)
    above: NDArray[np.int32] = np.full(cols, -1, np.int32)
    first = 0
    for labels in strips:
        tracer.add(above, labels, first)
        above = labels[-1].copy()
        first += len(labels)
    tracer.add(above, np.full((1, cols), -1, np.int32), first)
    return tracer.finish()


class _Tracer:
    """Corners so far, and the open ends of edges along each column."""

    def __init__(self, cols: int) -> None:
        self._count = 0
        self._x = np.empty(1024, np.int32)
        self._y = np.empty(1024, np.int32)
        self._region = np.empty(1024, np.int32)
        self._following = np.empty(1024, np.int64)
        self._south = np.full(cols + 1, -1, np.int64)
        self._north = np.full(cols + 1, -1, np.int64)

    def add(self, above: NDArray[np.int32], labels: NDArray[np.int32], first: int) -> None:
        """Add the corners at the top of each row of `labels`."""
        needed = self._count + _count_corners(above, labels)
        if needed > len(self._x):
            size = max(needed, 2 * len(self._x))
            self._x, self._y = np.resize(self._x, size), np.resize(self._y, size)
            self._region, self._following = np.resize(self._region, size), np.resize(self._following, size)
        self._count = _link_corners(
            above,
            labels,
            first,
            self._count,
            self._x,
            self._y,
            self._region,
            self._following,
            self._south,
            self._north,
        )

    def finish(self) -> Tracing:
        """Follow the links to rings, and sort the rings by region."""
        following, region = self._following[: self._count], self._region[: self._count]
        starts, corners = _find_rings(following)
        owner = region[corners]
        regions, first, number = np.unique(owner, return_index=True, return_inverse=True)
        order = np.argsort(first[number], kind="stable")
        rank = np.argsort(first, kind="stable")
        per_region = np.bincount(number, minlength=len(regions))[rank]
        points, starts = _lay_rings(following, self._x, self._y, corners, starts, order)
        polygons = np.concatenate([[0], np.cumsum(per_region)]).astype(np.int64)
        return Tracing(points, starts, polygons, regions[rank].astype(np.int64))


@njit(nogil=True, cache=True, inline="always")
def _out_of(quadrant, edges):  # type: ignore[no-untyped-def]
    """First edge at or after a quadrant's own, in the order north, east, south, west."""
    # quadrants: 0 north-west, 1 north-east, 2 south-east, 3 south-west; their edges: north, east, south, west
    for step in range(4):
        turn = (quadrant + step) % 4
        if edges[turn]:
            return turn
    return -1


@njit(nogil=True, cache=True)
def _count_corners(above, labels):  # type: ignore[no-untyped-def]
    """Upper bound of the corners that `_link_corners` adds."""
    rows, cols = labels.shape
    count = 0
    for i in range(rows):
        for j in range(cols + 1):
            c = labels[i, j - 1] if j > 0 else -1
            d = labels[i, j] if j < cols else -1
            if i > 0:
                a = labels[i - 1, j - 1] if j > 0 else -1
                b = labels[i - 1, j] if j < cols else -1
            else:
                a = above[j - 1] if j > 0 else -1
                b = above[j] if j < cols else -1
            if not ((a == b and c == d) or (a == c and b == d)):
                count += (a >= 0) + (b >= 0) + (c >= 0) + (d >= 0)
    return count


@njit(nogil=True, cache=True)
def _link_corners(  # type: ignore[no-untyped-def]
    above, labels, first, count, xs, ys, region, following, south, north
):
    rows, cols = labels.shape
    around = np.empty(4, np.int32)
    edges = np.empty(4, np.bool_)
    arriving = np.empty(4, np.int64)
    leaving = np.empty(4, np.int64)
    # direction of arrival in each quadrant (0 NW, 1 NE, 2 SE, 3 SW), with its pixel on the left: E, S, W, N
    for i in range(rows):
        east = np.int64(-1)
        west = np.int64(-1)
        for j in range(cols + 1):
            c = labels[i, j - 1] if j > 0 else -1
            d = labels[i, j] if j < cols else -1
            if i > 0:
                a = labels[i - 1, j - 1] if j > 0 else -1
                b = labels[i - 1, j] if j < cols else -1
            else:
                a = above[j - 1] if j > 0 else -1
                b = above[j] if j < cols else -1
            if (a == b and c == d) or (a == c and b == d):
                continue
            around[0], around[1], around[2], around[3] = a, b, d, c
            # edges[k] separates quadrant k from k + 1: north, east, south, west of the corner
            degree = 0
            for k in range(4):
                edges[k] = around[k] != around[(k + 1) % 4]
                degree += edges[k]
            start = count
            for k in range(4):
                arriving[k] = -1
                leaving[k] = -1
            for k in range(4):
                # the ring of pixel k arrives along the edge before it: k - 1
                if around[k] < 0 or not edges[(k + 3) % 4]:
                    continue
                out = _out_of(k, edges)
                if degree == 4 and around[k] == around[(k + 2) % 4]:
                    out = (k + 2) % 4
                if degree == 2 and (out + 2) % 4 == (k + 3) % 4:
                    continue  # straight, and no other region meets here
                xs[count], ys[count], region[count], following[count] = j, first + i, around[k], -1
                arriving[(k + 3) % 4] = count
                leaving[out] = count
                count += 1
            if count == start:
                continue
            # close or open the edges: from the west (3) going east, from the north (0) going south, and so on
            if arriving[3] >= 0:
                following[east] = arriving[3]
            if arriving[0] >= 0:
                following[south[j]] = arriving[0]
            if leaving[3] >= 0:
                following[leaving[3]] = west
            if leaving[0] >= 0:
                following[leaving[0]] = north[j]
            if leaving[1] >= 0:
                east = leaving[1]
            if leaving[2] >= 0:
                south[j] = leaving[2]
            if arriving[1] >= 0:
                west = arriving[1]
            if arriving[2] >= 0:
                north[j] = arriving[2]
    return count


@njit(nogil=True, cache=True)
def _find_rings(following):  # type: ignore[no-untyped-def]
    """First corner and closed length of each ring, in the order of the first corners."""
    seen = np.zeros(following.size, np.bool_)
    starts = np.zeros(following.size // 4 + 2, np.int64)
    corners = np.empty(following.size // 4 + 1, np.int64)
    rings = 0
    for corner in range(following.size):
        if seen[corner]:
            continue
        length = 1
        at = corner
        while not seen[at]:
            seen[at] = True
            length += 1
            at = following[at]
        corners[rings] = corner
        starts[rings + 1] = starts[rings] + length
        rings += 1
    return starts[: rings + 1], corners[:rings]


@njit(nogil=True, cache=True)
def _lay_rings(  # type: ignore[no-untyped-def]
    following, xs, ys, corners, starts, order
):
    """Corners of the rings in `order`, and the first of each."""
    points = np.empty((starts[-1], 2), np.int32)
    laid = np.empty(order.size + 1, np.int64)
    laid[0] = 0
    index = 0
    for k in range(order.size):
        ring = order[k]
        at = corners[ring]
        for _ in range(starts[ring + 1] - starts[ring]):
            points[index, 0], points[index, 1] = xs[at], ys[at]
            index += 1
            at = following[at]
        laid[k + 1] = index
    return points, laid
