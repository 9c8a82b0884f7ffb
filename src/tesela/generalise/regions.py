"""The graph of regions: 4-connected pixels of one class, and the borders that the small ones share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.generalise.labelling import (
    flatten,
    gather_parts,
    join_rows,
    label_regions,
    list_borders,
    measure_regions,
)
from tesela.generalise.strips import Plan, Strip

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
    """Borders of node i lie at start[i] to start[i] + count[i] of `neighbour` and `border`."""
    count: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]
    """Length in pixel sides."""
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
        flatten(self.parent)
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
        size, value, flags, degree = measure_regions(
            values, labels, count, shared == 1, strip.first == 0, strip.stop == shape[0]
        )
        degree[size >= unit_px] = 0
        start = np.cumsum(degree, dtype=np.int64) - degree
        neighbour, border = list_borders(labels, start, int(degree.sum()), size < unit_px, shared == 1)
        return _Part(
            labels if keep else None,
            labels[0].copy(),
            labels[-1].copy(),
            size,
            value,
            flags,
            degree,
            neighbour,
            border,
        )

    parts = list(plan.each(work, strips))
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part.size) for part in parts], out=offsets[1:])
    if offsets[-1] > _MOST_NODES:
        raise InputError(
            f"The map has {offsets[-1]} regions, more than {_MOST_NODES}: generalise it in parts, or remove "
            f"the noise first."
        )
    return _join(parts, offsets, shape=shape, strips=strips)


@dataclass
class _Part:
    labels: NDArray[np.int32] | None
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    count: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]


def _join(
    parts: list[_Part], offsets: NDArray[np.int64], *, shape: tuple[int, int], strips: list[Strip]
) -> RegionGraph:
    nodes = int(offsets[-1])
    borders = sum(len(part.border) for part in parts)
    parent = np.arange(nodes, dtype=np.int32)
    size = np.empty(nodes, np.int64)
    value = np.empty(nodes, np.uint8)
    flags = np.empty(nodes, np.uint8)
    count = np.empty(nodes, np.int32)
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
        count[first:stop] = part.count
        upto = done + len(part.border)
        neighbour[done:upto] = part.neighbour
        neighbour[done:upto] += np.int32(first)
        border[done:upto] = part.border
        done = upto
        if above is not None:
            join_rows(parent, above[0], part.top, above[1], first)
        above = (part.bottom, first)
        labels.append(part.labels)
        parts[number] = _EMPTY  # its arrays go as soon as they are copied
    following = np.full(nodes, -1, np.int32)
    last = np.arange(nodes, dtype=np.int32)
    gather_parts(parent, size, flags, following, last)
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
        start=np.cumsum(count, dtype=np.int64) - count,
        count=count,
        neighbour=neighbour,
        border=border,
        following=following,
        last=last,
        labels=labels if any(item is not None for item in labels) else [],
    )


_NONE = np.empty(0, np.int32)
_EMPTY = _Part(
    None,
    _NONE,
    _NONE,
    np.empty(0, np.int64),
    np.empty(0, np.uint8),
    np.empty(0, np.uint8),
    _NONE,
    _NONE,
    _NONE,
)
