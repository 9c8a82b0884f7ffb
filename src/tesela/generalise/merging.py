"""Merging: kernels that give small regions of the graph to their neighbours, and paint the result."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions
from numpy.typing import NDArray

from tesela.generalise.labelling import find

_STEP: dict[str, Any] = {"nogil": True, "cache": True} | (
    {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}
)
"""
Options of the steps below, which allocate nothing.

By default numba counts references to every array at every call, which takes longer than the merging itself.
"""


class Regions(NamedTuple):
    """Arrays of a `tesela.generalise.regions.RegionGraph`, as the kernels take them."""

    parent: NDArray[np.int32]
    value: NDArray[np.uint8]
    size: NDArray[np.int64]
    flags: NDArray[np.uint8]
    start: NDArray[np.int64]
    degree: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    border: NDArray[np.int32]
    following: NDArray[np.int32]
    last: NDArray[np.int32]


class Rules(NamedTuple):
    """Which regions are given away, and which neighbours are preferred."""

    ranks: NDArray[np.int32]
    """(256, 256): rank of a neighbour's class (column) for a class (row); lower is better."""
    exempt: NDArray[np.bool_]
    """(256,): class values whose regions stay."""
    unit: int
    """Regions with fewer pixels are given away."""
    keep_cut: bool
    """Whether regions with a flag, cut by the edge or by nodata, stay."""


class _Round(NamedTuple):
    """One round: all regions of one size, and the mergers among them."""

    head: NDArray[np.int32]
    """First region on the stack of each size; `below` links the others."""
    below: NDArray[np.int32]
    taken: NDArray[np.int32]
    """Regions of the round."""
    pending: NDArray[np.bool_]
    """True for regions of the round that are neither decided nor grown."""
    root: NDArray[np.int32]
    """Union-find forest of the round's mergers, over the roots at the start of the round."""
    absorbed: NDArray[np.int32]
    """Regions that are no longer roots, in the order of the mergers."""
    waiting: NDArray[np.int32]
    """Stack of regions; each waits for the next, which has a lower class."""


class _Neighbours(NamedTuple):
    """Classes of the neighbours of one region."""

    length: NDArray[np.int64]
    """Length of the shared border by class value; 0 between two regions."""
    largest: NDArray[np.int64]
    """Pixels of the largest neighbour by class value; filled only to break ties."""
    seen: NDArray[np.uint8]
    """Classes that occur, in the order of the borders."""


@njit(nogil=True, cache=True)
def merge_regions(regions, rules):  # type: ignore[no-untyped-def]
    """
    Merge all regions under the unit, by the rules of `drop_small_areas`, into the arrays of the graph.

    A round takes all regions of one size, from 1 pixel up. Within a round a region first waits for the regions
    of the same size and a lower class that it touches. Nothing else in the round changes its neighbours, so the
    round runs in the order of memory. The graph gets the mergers and the new sizes when the round ends.
    """
    nodes = regions.parent.size
    state = _Round(
        np.full(max(rules.unit, 1), -1, np.int32),
        np.full(nodes, -1, np.int32),
        np.empty(nodes, np.int32),
        np.zeros(nodes, np.bool_),
        np.arange(nodes, dtype=np.int32),
        np.empty(nodes, np.int32),
        np.empty(256, np.int32),
    )
    around = _Neighbours(np.zeros(256, np.int64), np.zeros(256, np.int64), np.empty(256, np.uint8))
    _queue_candidates(regions, rules, state)
    for area in range(1, rules.unit):
        taken = _begin_round(area, regions, rules, state)
        absorbed = _decide_round(taken, regions, rules, state, around)
        _end_round(absorbed, regions, rules, state)
        _queue_grown(area, taken, regions, rules, state)


@njit(**_STEP)
def _decide_round(taken, regions, rules, state, around):  # type: ignore[no-untyped-def]
    """Merge the regions of the round; return how many regions were absorbed."""
    absorbed = 0
    for k in range(taken):
        state.waiting[0] = state.taken[k]
        depth = 1
        while depth > 0:
            x = state.waiting[depth - 1]
            if not state.pending[x]:
                depth -= 1
                continue
            kinds, first = _measure_borders(x, regions, state, around)
            if first >= 0:
                state.waiting[depth] = first
                depth += 1
            else:
                state.pending[x] = False
                depth -= 1
                if kinds > 0:
                    best = _best_class(x, kinds, regions, rules, state, around)
                    absorbed = _join_neighbours(x, best, absorbed, regions, state)
            _clear(kinds, around)
    return absorbed


@njit(inline="always", **_STEP)
def _may_go(x, regions, rules):  # type: ignore[no-untyped-def]
    """Whether a node is a region that the rules do not keep as it is."""
    return regions.parent[x] == x and not (rules.keep_cut and regions.flags[x] != 0)


@njit(inline="always", **_STEP)
def _push(x, regions, state):  # type: ignore[no-untyped-def]
    """Put a region on the stack of its size."""
    state.below[x] = state.head[regions.size[x]]
    state.head[regions.size[x]] = x


@njit(**_STEP)
def _queue_candidates(regions, rules, state):  # type: ignore[no-untyped-def]
    """Put the regions under the unit on their stacks; the lowest node comes out first."""
    for x in range(regions.parent.size - 1, -1, -1):
        small = regions.size[x] < rules.unit and not rules.exempt[regions.value[x]]
        if small and _may_go(x, regions, rules):
            _push(x, regions, state)


@njit(**_STEP)
def _begin_round(area, regions, rules, state):  # type: ignore[no-untyped-def]
    """
    Take the regions of `area` pixels from their stack; return how many there are.

    A region that grew since it was queued goes to the stack of its new size. Sizes only grow, so no stack below
    `area` fills again.
    """
    taken = 0
    x = state.head[area]
    while x >= 0:
        after = state.below[x]
        if _may_go(x, regions, rules):
            if regions.size[x] == area:
                state.taken[taken] = x
                state.pending[x] = True
                taken += 1
            elif regions.size[x] < rules.unit:
                _push(x, regions, state)
        x = after
    return taken


@njit(inline="always", **_STEP)
def _root_in(forest, y):  # type: ignore[no-untyped-def]
    """Root of node `y`, as `tesela.generalise.labelling.find`."""
    while forest[y] != y:
        forest[y] = forest[forest[y]]
        y = forest[y]
    return y


@njit(inline="always", **_STEP)
def _measure_borders(x, regions, state, around):  # type: ignore[no-untyped-def]
    """
    Sum up the borders of a region by the class of the neighbour, into `around`.

    Borders that mergers dissolved are removed from the lists, and borders that they made one are joined.

    Returns
    -------
    int, int
        Classes around, and a region of the same round that goes first; -1 if there is none.
    """
    own = regions.value[x]
    first = np.int32(-1)
    kinds = 0
    node = x
    while node >= 0:
        begin = regions.start[node]
        kept = begin - 1
        for e in range(begin, begin + regions.degree[node]):
            y = _root_in(regions.parent, regions.neighbour[e])
            if y == x:
                continue
            sides = regions.border[e]
            if kept >= begin and regions.neighbour[kept] == y:
                regions.border[kept] += sides
            else:
                kept += 1
                regions.neighbour[kept] = y
                regions.border[kept] = sides
            if state.pending[y] and regions.value[y] < own:
                first = y
            kind = regions.value[_root_in(state.root, y)]
            if around.length[kind] == 0:
                around.seen[kinds] = kind
                kinds += 1
            around.length[kind] += sides
        regions.degree[node] = kept + 1 - begin
        node = regions.following[node]
    return kinds, first


@njit(inline="always", **_STEP)
def _best_class(x, kinds, regions, rules, state, around):  # type: ignore[no-untyped-def]
    """Class of lowest rank, then longest border, then largest neighbour, then lowest value."""
    own = regions.value[x]
    best = own
    tied = False
    for k in range(kinds):
        kind = around.seen[k]
        rank, best_rank = rules.ranks[own, kind], rules.ranks[own, best]
        longer = around.length[kind] > around.length[best]
        if k == 0 or rank < best_rank or (rank == best_rank and longer):
            best = kind
            tied = False
        elif rank == best_rank and around.length[kind] == around.length[best]:
            tied = True
    if not tied:
        return best
    _measure_largest(x, kinds, regions, state, around)
    rank, sides = rules.ranks[own, best], around.length[best]
    for k in range(kinds):
        kind = around.seen[k]
        if rules.ranks[own, kind] != rank or around.length[kind] != sides:
            continue
        larger = around.largest[kind] - around.largest[best]
        if larger > 0 or (larger == 0 and kind < best):
            best = kind
    return best


@njit(inline="always", **_STEP)
def _measure_largest(x, kinds, regions, state, around):  # type: ignore[no-untyped-def]
    """Find the largest neighbour of each class, by the sizes before this round."""
    for k in range(kinds):
        around.largest[around.seen[k]] = 0
    node = x
    while node >= 0:
        begin = regions.start[node]
        for e in range(begin, begin + regions.degree[node]):
            neighbour = regions.neighbour[e]
            kind = regions.value[_root_in(state.root, neighbour)]
            around.largest[kind] = max(around.largest[kind], regions.size[neighbour])
        node = regions.following[node]


@njit(inline="always", **_STEP)
def _clear(kinds, around):  # type: ignore[no-untyped-def]
    """Set the lengths of the classes met back to 0."""
    for k in range(kinds):
        around.length[around.seen[k]] = 0


@njit(inline="always", **_STEP)
def _join_neighbours(x, best, absorbed, regions, state):  # type: ignore[no-untyped-def]
    """
    Make one region of `x` and all its neighbours of a class; the largest of these is the root.

    Returns
    -------
    int
        Regions absorbed in this round so far.
    """
    root = np.int32(-1)
    node = x
    while node >= 0:
        begin = regions.start[node]
        for e in range(begin, begin + regions.degree[node]):
            y = _root_in(state.root, regions.neighbour[e])
            if regions.value[y] != best or y == root:
                continue
            state.pending[y] = False
            if root < 0:
                root = y
                continue
            if regions.size[y] > regions.size[root]:
                root, y = y, root
            state.root[y] = root
            state.absorbed[absorbed] = y
            absorbed += 1
        node = regions.following[node]
    state.root[x] = root
    state.absorbed[absorbed] = x
    return absorbed + 1


@njit(**_STEP)
def _end_round(absorbed, regions, rules, state):  # type: ignore[no-untyped-def]
    """Carry the mergers of a round over to the graph."""
    for k in range(absorbed):
        x = state.absorbed[k]
        root = _root_in(state.root, x)
        regions.parent[x] = root
        regions.size[root] += regions.size[x]
        regions.flags[root] |= regions.flags[x]
        if regions.size[root] < rules.unit:  # a larger one never looks for a neighbour again
            regions.following[regions.last[root]] = x
            regions.last[root] = regions.last[x]


@njit(**_STEP)
def _queue_grown(area, taken, regions, rules, state):  # type: ignore[no-untyped-def]
    """Put the regions of the round that grew, and are still under the unit, on the stack of their new size."""
    for k in range(taken):
        x = state.taken[k]
        if regions.parent[x] == x and area < regions.size[x] < rules.unit:
            _push(x, regions, state)


@njit(nogil=True, cache=True)
def paint_labels(labels, final, before, after, pixels):  # type: ignore[no-untyped-def]
    """Fill `after` with the class of each label, and count pixels by class before and after."""
    rows, cols = labels.shape
    for i in range(rows):
        for j in range(cols):
            label = labels[i, j]
            value = final[label] if label >= 0 else np.uint8(0)
            after[i, j] = value
            pixels[before[i, j], value] += 1


@njit(nogil=True, cache=True)
def count_areas(before, final, whole, areas):  # type: ignore[no-untyped-def]
    """Count regions by class before and after into `areas`, (256, 256)."""
    for x in range(before.size):
        if whole[x]:
            areas[before[x], final[x]] += 1


@njit(nogil=True, cache=True)
def group_regions(regions, chosen):  # type: ignore[no-untyped-def]
    """For each chosen region, the root of the group of touching chosen regions that it belongs to."""
    parent, start, degree = regions.parent, regions.start, regions.degree
    neighbour, following = regions.neighbour, regions.following
    group = np.arange(parent.size, dtype=np.int32)
    for x in range(parent.size):
        if not chosen[x]:
            continue
        node = x
        while node >= 0:
            for e in range(start[node], start[node] + degree[node]):
                y = find(parent, neighbour[e])
                if chosen[y]:
                    a, b = find(group, x), find(group, y)
                    if a != b:
                        group[max(a, b)] = min(a, b)
            node = following[node]
    for x in range(parent.size):
        group[x] = find(group, x)
    return group
