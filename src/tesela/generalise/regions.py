"""The graph of regions: 4-connected pixels of one class, and the borders that the small ones share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.generalise.strips import Plan, Strip

AT_EDGE = 1
"""Flag of regions that touch the edge of the map."""
AT_NODATA = 2
"""Flag of regions that touch a pixel without a class."""

KEEP_LABELS_PX = 1 << 27
"""Maps up to this size keep their labels (512 MiB) between graph and relabelling; larger ones label anew."""

_MOST_NODES = np.iinfo(np.int32).max

Reader = Callable[[int, int], NDArray[np.uint8]]
"""Gives rows `first` to `stop` of a map."""


@dataclass
class RegionGraph:
    """
    Regions of a map as nodes, merged by union-find; only nodes under the unit know their neighbours.

    A node is a region of one strip. Strips share a row, of which only the upper strip counts pixels and
    horizontal borders: the two labels of each shared pixel are one region. So a region of the map is a set of
    nodes with one root, and nothing depends on where the strips were cut.
    """

    shape: tuple[int, int]
    strips: list[Strip]
    offsets: NDArray[np.int64]
    """First node of each strip, and the number of nodes at the end."""
    parent: NDArray[np.int32]
    value: NDArray[np.uint8]
    """Class of each node; of merged regions at the root."""
    before: NDArray[np.uint8]
    """Class of each node before any merging."""
    whole: NDArray[np.bool_]
    """True for nodes that were roots before any merging: one for each region."""
    size: NDArray[np.int64]
    """Pixels; of merged regions at the root."""
    flags: NDArray[np.uint8]
    start: NDArray[np.int64]
    """Borders of node i lie at start[i] to start[i + 1] of `neighbour` and `border`."""
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]
    """Length in pixel sides; 0 for borders that merging has dissolved."""
    following: NDArray[np.int32]
    """Next node of the same merged region, or -1."""
    last: NDArray[np.int32]
    """Last node of the chain that starts at a root."""
    labels: list[NDArray[np.int32] | None] = field(default_factory=list)
    """Labels of each strip (shared row first), where they were kept."""

    @property
    def roots(self) -> NDArray[np.int64]:
        """Nodes that stand for a region now."""
        return np.flatnonzero(self.parent == np.arange(len(self.parent), dtype=np.int32))

    def final_values(self) -> NDArray[np.uint8]:
        """Class of the region that each node belongs to now."""
        _flatten(self.parent)
        return self.value[self.parent]

    def strip_labels(self, strip: Strip, read: Reader) -> NDArray[np.int32]:
        """Labels of a strip's own rows, -1 for nodata; node = offset of the strip + label."""
        kept = self.labels[strip.number] if self.labels else None
        shared = 1 if strip.number else 0
        if kept is None:
            kept = label_regions(read(strip.first - shared, strip.stop))[0]
        return kept[shared:]


def build_graph(read: Reader, shape: tuple[int, int], *, unit_px: int, plan: Plan) -> RegionGraph:
    """
    Label a map strip by strip and join the strips to one graph.

    Parameters
    ----------
    read : function of (first, stop)
        Gives whole rows, (stop - first, cols) uint8; 0 is nodata.
    shape : (rows, cols)
    unit_px : int
        Regions of at least this many pixels in a strip get no list of neighbours: they never look for one.

    Raises
    ------
    InputError
        If the map has more regions than 2**31 - 1.
    """
    strips = plan.strips(shape)
    keep = shape[0] * shape[1] <= KEEP_LABELS_PX

    def work(strip: Strip) -> _Part:
        shared = 1 if strip.number else 0
        values = read(strip.first - shared, strip.stop)
        labels, count = label_regions(values)
        size, value, flags, degree = _measure(
            values, labels, count, shared == 1, strip.first == 0, strip.stop == shape[0]
        )
        degree[size >= unit_px] = 0
        start = np.zeros(count + 1, np.int64)
        np.cumsum(degree, out=start[1:])
        neighbour, border = _list_borders(labels, start, size < unit_px, shared == 1)
        return _Part(
            labels if keep else None, labels[0].copy(), labels[-1].copy(), size, value, flags, start, neighbour, border
        )

    parts = list(plan.each(work, strips))
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part.size) for part in parts], out=offsets[1:])
    if offsets[-1] > _MOST_NODES:
        raise InputError(
            f"The map has {offsets[-1]} regions, more than {_MOST_NODES}: generalise it in parts, or remove the noise first."
        )
    return _join(parts, shape, strips, offsets)


@dataclass
class _Part:
    labels: NDArray[np.int32] | None
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    start: NDArray[np.int64]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]


def _join(
    parts: list[_Part], shape: tuple[int, int], strips: list[Strip], offsets: NDArray[np.int64]
) -> RegionGraph:
    nodes = int(offsets[-1])
    borders = sum(len(part.border) for part in parts)
    parent = np.arange(nodes, dtype=np.int32)
    size = np.empty(nodes, np.int64)
    value = np.empty(nodes, np.uint8)
    flags = np.empty(nodes, np.uint8)
    start = np.zeros(nodes + 1, np.int64)
    neighbour = np.empty(borders, np.int32)
    border = np.empty(borders, np.int32)
    labels: list[NDArray[np.int32] | None] = []
    done = 0
    above: tuple[NDArray[np.int32], int] | None = None
    for number in range(len(parts)):
        part = parts[number]
        first, stop = int(offsets[number]), int(offsets[number + 1])
        size[first:stop] = part.size
        value[first:stop] = part.value
        flags[first:stop] = part.flags
        start[first + 1 : stop + 1] = part.start[1:] + done
        upto = done + len(part.border)
        neighbour[done:upto] = part.neighbour
        neighbour[done:upto] += np.int32(first)
        border[done:upto] = part.border
        done = upto
        if above is not None:
            _join_rows(parent, above[0], part.top, above[1], first)
        above = (part.bottom, first)
        labels.append(part.labels)
        parts[number] = _EMPTY  # its arrays go as soon as they are copied
    following = np.full(nodes, -1, np.int32)
    last = np.arange(nodes, dtype=np.int32)
    _gather(parent, size, flags, following, last)
    whole = parent == np.arange(nodes, dtype=np.int32)
    return RegionGraph(
        shape=shape,
        strips=strips,
        offsets=offsets,
        parent=parent,
        value=value,
        before=value.copy(),
        whole=whole,
        size=size,
        flags=flags,
        start=start,
        neighbour=neighbour,
        border=border,
        following=following,
        last=last,
        labels=labels if any(item is not None for item in labels) else [],
    )


_NONE = np.empty(0, np.int32)
_EMPTY = _Part(
    None, _NONE, _NONE, np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint8), np.empty(0, np.int64), _NONE, _NONE
)


@njit(nogil=True, cache=True, inline="always")
def find(parent, x):  # type: ignore[no-untyped-def]
    """Root of node `x`, halving the path to it."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@njit(nogil=True, cache=True)
def label_regions(values: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """
    Number the 4-connected regions of equal value, in the order of their first pixel.

    Parameters
    ----------
    values : (rows, cols) array of unsigned integers
        0 is nodata and gets the label -1.

    Returns
    -------
    (rows, cols) array of int32, int
        Labels from 0 on, and how many there are.
    """
    rows, cols = values.shape
    labels = np.empty((rows, cols), np.int32)
    parent = np.empty(rows * cols + 1, np.int32)  # touched as far as needed
    count = np.int32(0)
    for i in range(rows):
        for j in range(cols):
            value = values[i, j]
            if value == 0:
                labels[i, j] = -1
                continue
            label = np.int32(-1)
            if j > 0 and values[i, j - 1] == value:
                label = labels[i, j - 1]
            if i > 0 and values[i - 1, j] == value:
                upper = labels[i - 1, j]
                if label < 0:
                    label = upper
                elif label != upper:
                    a, b = find(parent, label), find(parent, upper)
                    label = min(a, b)
                    parent[max(a, b)] = label
            if label < 0:
                label = count
                parent[count] = count
                count += np.int32(1)
            labels[i, j] = label
    final = np.int32(0)
    for x in range(count):  # a parent is never above its child: one pass numbers roots and resolves the others
        if parent[x] == x:
            parent[x] = final
            final += np.int32(1)
        else:
            parent[x] = parent[parent[x]]
    for i in range(rows):
        for j in range(cols):
            if labels[i, j] >= 0:
                labels[i, j] = parent[labels[i, j]]
    return labels, final


@njit(nogil=True, cache=True)
def _measure(values, labels, count, shared, at_top, at_bottom):  # type: ignore[no-untyped-def]
    """Size, class and flags of each region, and how many entries its list of borders will have."""
    rows, cols = labels.shape
    size = np.zeros(count, np.int64)
    value = np.zeros(count, np.uint8)
    flags = np.zeros(count, np.uint8)
    degree = np.zeros(count, np.int32)
    latest = np.full(count, -1, np.int32)
    for i in range(rows):
        counted = i > 0 or not shared
        edge_row = (at_top and i == 0) or (at_bottom and i == rows - 1)
        run = 0
        for j in range(cols):
            a = labels[i, j]
            left = labels[i, j - 1] if j > 0 else a
            if a != left:
                if left >= 0 and counted:
                    size[left] += run
                run = 0
                if a < 0:
                    flags[left] |= AT_NODATA
                elif left < 0:
                    flags[a] |= AT_NODATA
                elif counted:
                    if latest[a] != left:
                        latest[a] = left
                        degree[a] += 1
                    if latest[left] != a:
                        latest[left] = a
                        degree[left] += 1
            run += 1
            if i > 0:
                b = labels[i - 1, j]
                if a != b:
                    if a < 0:
                        flags[b] |= AT_NODATA
                    elif b < 0:
                        flags[a] |= AT_NODATA
                    else:
                        if latest[a] != b:
                            latest[a] = b
                            degree[a] += 1
                        if latest[b] != a:
                            latest[b] = a
                            degree[b] += 1
            if a >= 0:
                if run == 1:
                    value[a] = values[i, j]
                if edge_row or j == 0 or j == cols - 1:
                    flags[a] |= AT_EDGE
        if cols > 0 and labels[i, cols - 1] >= 0 and counted:
            size[labels[i, cols - 1]] += run
    return size, value, flags, degree


@njit(nogil=True, cache=True, inline="always")
def _add_border(place, start, neighbour, border, a, b):  # type: ignore[no-untyped-def]
    p = place[a]
    if p > start[a] and neighbour[p - 1] == b:
        border[p - 1] += 1
    else:
        neighbour[p] = b
        border[p] = 1
        place[a] = p + 1


@njit(nogil=True, cache=True)
def _list_borders(labels, start, small, shared):  # type: ignore[no-untyped-def]
    """Neighbours of the small regions with border lengths; walks as `_measure` does, so entries fit."""
    rows, cols = labels.shape
    place = start[:-1].copy()
    neighbour = np.empty(start[-1], np.int32)
    border = np.empty(start[-1], np.int32)
    for i in range(rows):
        counted = i > 0 or not shared
        for j in range(cols):
            a = labels[i, j]
            if a < 0:
                continue
            if counted and j > 0:
                b = labels[i, j - 1]
                if b != a and b >= 0:
                    if small[a]:
                        _add_border(place, start, neighbour, border, a, b)
                    if small[b]:
                        _add_border(place, start, neighbour, border, b, a)
            if i > 0:
                b = labels[i - 1, j]
                if b != a and b >= 0:
                    if small[a]:
                        _add_border(place, start, neighbour, border, a, b)
                    if small[b]:
                        _add_border(place, start, neighbour, border, b, a)
    return neighbour, border


@njit(nogil=True, cache=True)
def _join_rows(parent, above, below, first_above, first_below):  # type: ignore[no-untyped-def]
    for j in range(above.size):
        if above[j] >= 0:
            a = find(parent, above[j] + first_above)
            b = find(parent, below[j] + first_below)
            if a != b:
                parent[max(a, b)] = min(a, b)


@njit(nogil=True, cache=True)
def _gather(parent, size, flags, following, last):  # type: ignore[no-untyped-def]
    for x in range(parent.size):
        root = find(parent, x)
        if root != x:
            size[root] += size[x]
            flags[root] |= flags[x]
            following[last[root]] = x
            last[root] = last[x]


@njit(nogil=True, cache=True)
def _flatten(parent):  # type: ignore[no-untyped-def]
    for x in range(parent.size):
        parent[x] = find(parent, x)
