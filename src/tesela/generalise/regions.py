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
from tesela.generalise.merging import Regions
from tesela.generalise.strips import Plan, Strip

KEEP_LABELS_PX = 1 << 27
"""Maps up to this size keep their labels (512 MiB) until they are painted; larger maps are labelled twice."""

_MOST_NODES = np.iinfo(np.int32).max

Reader = Callable[[int, int], NDArray[np.uint8]]
"""Returns rows `first` to `stop` of a map."""


@dataclass
class RegionGraph:
    """
    Regions of a map as nodes, merged by union-find; only nodes under the unit have a list of neighbours.

    A node is a region of one strip. Neighbouring strips share a row. The upper strip counts its pixels and
    horizontal borders, and the two labels of each shared pixel are joined. So a region of the map is a set of
    nodes with one root, and the result does not depend on where the strips are cut.
    """

    shape: tuple[int, int]
    strips: list[Strip]
    offsets: NDArray[np.int64]
    """First node of each strip, and the number of nodes at the end."""
    parent: NDArray[np.int32]
    value: NDArray[np.uint8]
    """Class of each node; for merged regions, of the root."""
    before: NDArray[np.uint8]
    """Class of each node before any merging."""
    whole: NDArray[np.bool_]
    """True for nodes that were roots before any merging, one per region."""
    size: NDArray[np.int64]
    """Pixels of each node; the root holds the pixels of the merged region."""
    flags: NDArray[np.uint8]
    start: NDArray[np.int64]
    """Borders of node i are entries start[i] to start[i] + degree[i] of `neighbour` and `border`."""
    degree: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]
    """Length in pixel sides."""
    following: NDArray[np.int32]
    """Next node of the same merged region, or -1."""
    last: NDArray[np.int32]
    """Last node of the chain that starts at a root."""
    labels: list[NDArray[np.int32] | None] = field(default_factory=list)
    """Labels of each strip (shared row first); empty for large maps."""

    @property
    def roots(self) -> NDArray[np.int64]:
        """Nodes that are the root of a region."""
        return np.flatnonzero(self.parent == np.arange(len(self.parent), dtype=np.int32))

    @property
    def arrays(self) -> Regions:
        """The arrays as the kernels of `tesela.generalise.merging` take them."""
        return Regions(*(getattr(self, name) for name in Regions._fields))

    def drop_borders(self) -> None:
        """Drop the lists of neighbours, which are most of the memory."""
        self.start, self.degree = np.zeros(len(self.parent), np.int64), np.zeros(len(self.parent), np.int32)
        self.neighbour = self.border = np.empty(0, np.int32)

    def final_values(self) -> NDArray[np.uint8]:
        """Class of the region to which each node belongs."""
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
        Returns whole rows, (stop - first, cols) uint8; 0 is nodata.
    shape : (rows, cols)
    unit_px : int
        Regions of at least this many pixels in a strip get no list of neighbours; they are never merged into one.

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

    graph = _Builder(shape, strips)
    for part in plan.each(work, strips):
        graph.add(part)
    return graph.done()


@dataclass(frozen=True)
class _Part:
    """Regions of one strip."""

    labels: NDArray[np.int32] | None
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    degree: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]


class _Builder:
    """Builds a graph strip by strip, from the top; arrays grow in place, so that memory holds each one once."""

    def __init__(self, shape: tuple[int, int], strips: list[Strip]) -> None:
        self._shape, self._strips = shape, strips
        self._offsets = [0]
        self._labels: list[NDArray[np.int32] | None] = []
        self._bottom: NDArray[np.int32] | None = None
        self._size = np.empty(0, np.int64)
        self._value, self._flags = (np.empty(0, np.uint8) for _ in range(2))
        self._parent, self._degree, self._neighbour, self._border = (np.empty(0, np.int32) for _ in range(4))

    def add(self, part: _Part) -> None:
        first, stop = self._offsets[-1], self._offsets[-1] + len(part.size)
        if stop > _MOST_NODES:
            raise InputError(
                f"The map has more than {_MOST_NODES} regions: generalise it in parts, or remove the noise first."
            )
        _append(self._size, part.size)
        _append(self._value, part.value)
        _append(self._flags, part.flags)
        _append(self._degree, part.degree)
        _append(self._neighbour, part.neighbour + np.int32(first))
        _append(self._border, part.border)
        _append(self._parent, np.arange(first, stop, dtype=np.int32))
        if self._bottom is not None:
            join_rows(self._parent, self._bottom, part.top, self._offsets[-2], first)
        self._bottom = part.bottom
        self._offsets.append(stop)
        self._labels.append(part.labels)

    def done(self) -> RegionGraph:
        nodes = self._offsets[-1]
        following = np.full(nodes, -1, np.int32)
        last = np.arange(nodes, dtype=np.int32)
        gather_parts(self._parent, self._size, self._flags, following, last)
        start = np.cumsum(self._degree, dtype=np.int64)
        start -= self._degree
        return RegionGraph(
            shape=self._shape,
            strips=self._strips,
            offsets=np.array(self._offsets, np.int64),
            parent=self._parent,
            value=self._value,
            before=self._value.copy(),
            whole=self._parent == np.arange(nodes, dtype=np.int32),
            size=self._size,
            flags=self._flags,
            start=start,
            degree=self._degree,
            neighbour=self._neighbour,
            border=self._border,
            following=following,
            last=last,
            labels=self._labels if any(item is not None for item in self._labels) else [],
        )


def _append(items: NDArray[np.generic], more: NDArray[np.generic]) -> None:
    """Append to an array in place; no other reference to it may exist."""
    size = len(items)
    items.resize(size + len(more), refcheck=False)
    items[size:] = more
