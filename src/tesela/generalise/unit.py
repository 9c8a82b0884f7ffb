"""The minimum mapping unit: smallest first, each area under it goes to a neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.regions import AT_EDGE, AT_NODATA, Reader, RegionGraph, build_graph, find
from tesela.generalise.strips import Plan, Strip
from tesela.io.scratch import ScratchRaster

NO_PRIORITY = np.zeros((256, 256), np.int32)
"""Ranks under which every neighbour is as good as any other."""
NO_CLASSES = np.zeros(256, np.bool_)


@dataclass(frozen=True)
class Tally:
    """What one step moved, counted in its own input areas."""

    areas: NDArray[np.int64]
    """(256, 256): areas, by class value before and after."""
    pixels: NDArray[np.int64]
    """(256, 256): pixels, by class value before and after; the diagonal is ground that stayed."""

    @property
    def moved_px(self) -> int:
        """Pixels whose class changed."""
        return int(self.pixels.sum() - np.trace(self.pixels))


def drop_small_areas(
    values: NDArray[np.uint8],
    *,
    unit_px: int,
    ranks: NDArray[np.int32] = NO_PRIORITY,
    edges: str = "keep",
    plan: Plan | None = None,
) -> NDArray[np.uint8]:
    r"""
    Give every area under the unit to a neighbour, smallest first.

    An area is a set of 4-connected pixels of one class. Areas are taken by size, then by class value; those equal
    in both never touch each other and decide together on what stood before them. Each takes the class whose
    rank for it is lowest, then the class with which it shares the longest border, then that of the largest
    neighbour, then the lowest value, and becomes one area with all its neighbours of that class. No rule looks at
    positions, so a mirrored or turned map gives the mirrored or turned answer.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values; 0 is nodata, never changed nor given away.
    unit_px : int
        Minimum mapping unit in pixels: areas with fewer are given away.
    ranks : (256, 256) array of int32
        Rank of a neighbour's class (column) for an area's class (row), by value; lower is better.
    edges : {"keep", "merge"}
        What happens to areas cut by the edge of the map or by nodata, whose true size is not known.

    Returns
    -------
    (rows, cols) array of uint8

    Examples
    --------
    >>> drop_small_areas(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]], np.uint8), unit_px=2)
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]], dtype=uint8)
    """
    plan = plan or Plan()
    raster = ScratchRaster.of(values)
    graph = build_graph(raster.read, raster.shape, unit_px=unit_px, plan=plan)
    merge_graph(graph, unit_px=unit_px, ranks=ranks, edges=edges)
    result = ScratchRaster.of(np.empty_like(values))
    paint_graph(graph, raster.read, result, plan=plan)
    return result.read(0, raster.shape[0])


def merge_graph(
    graph: RegionGraph,
    *,
    unit_px: int,
    ranks: NDArray[np.int32] = NO_PRIORITY,
    edges: str = "keep",
    spared: NDArray[np.bool_] = NO_CLASSES,
) -> None:
    """
    Merge the regions under the unit, by the rules of `drop_small_areas`.

    Parameters
    ----------
    spared : (256,) array of bool
        Class values whose areas are left as they are, though they may grow.
    """
    unit = min(unit_px, graph.shape[0] * graph.shape[1] + 1)
    _merge(
        graph.parent,
        graph.value,
        graph.size,
        graph.flags,
        graph.start,
        graph.neighbour,
        graph.border,
        graph.following,
        graph.last,
        np.ascontiguousarray(ranks),
        spared,
        unit,
        edges == "keep",
    )


def paint_graph(graph: RegionGraph, read: Reader, target: ScratchRaster, *, plan: Plan) -> Tally:
    """Write the classes of the merged regions and count what moved; `target` may be the raster that is read."""
    final = graph.final_values()
    whole = graph.whole
    areas = np.bincount(
        graph.before[whole].astype(np.int64) * 256 + final[whole], minlength=1 << 16
    ).reshape(256, 256)
    shared_rows = _shared_rows(graph, read)

    def work(strip: Strip) -> NDArray[np.int64]:
        before = read(strip.first, strip.stop)
        labels = graph.strip_labels(strip, _with_shared(read, shared_rows, strip))
        after = np.empty(before.shape, np.uint8)
        pixels = np.zeros((256, 256), np.int64)
        first, stop = int(graph.offsets[strip.number]), int(graph.offsets[strip.number + 1])
        _paint(labels, final[first:stop], before, after, pixels)
        target.write(strip.first, after)
        return pixels

    total = np.zeros((256, 256), np.int64)
    for pixels in plan.each(work, graph.strips):
        total += pixels
    return Tally(areas, total)


def _shared_rows(graph: RegionGraph, read: Reader) -> dict[int, NDArray[np.uint8]]:
    """Row above each strip as it was, for relabelling after the strip above has been overwritten."""
    if graph.labels:
        return {}
    return {strip.number: read(strip.first - 1, strip.first).copy() for strip in graph.strips[1:]}


def _with_shared(read: Reader, rows: dict[int, NDArray[np.uint8]], strip: Strip) -> Reader:
    def whole(first: int, stop: int) -> NDArray[np.uint8]:
        if first == strip.first:
            return read(first, stop)
        return np.concatenate([rows[strip.number], read(strip.first, stop)])

    return whole


@njit(nogil=True, cache=True)
def _paint(labels, final, before, after, pixels):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    for i in range(rows):
        for j in range(cols):
            label = labels[i, j]
            value = final[label] if label >= 0 else np.uint8(0)
            after[i, j] = value
            pixels[before[i, j], value] += 1


@njit(nogil=True, cache=True)
def _merge(parent, value, size, flags, start, neighbour, border, following, last, ranks, spared, unit, keep):  # type: ignore[no-untyped-def]
    head = np.full(max(unit, 1), -1, np.int32)  # stack of candidates by size; `below` links them
    below = np.full(parent.size, -1, np.int32)
    for x in range(parent.size - 1, -1, -1):
        if parent[x] == x and size[x] < unit and not spared[value[x]] and not (keep and flags[x] != 0):
            below[x] = head[size[x]]
            head[size[x]] = x
    members = np.empty(1024, np.int32)
    ordered = np.empty(1024, np.int32)
    choices = np.empty(4096, np.int32)  # for each decided area: itself, its new class, n, the n areas it joins
    length = np.zeros(256, np.int64)
    largest = np.zeros(256, np.int64)
    seen = np.empty(256, np.uint8)
    for area in range(1, unit):
        count = 0
        x = head[area]
        head[area] = -1
        while x >= 0:
            after = below[x]
            if parent[x] == x:
                if size[x] == area:
                    if count == members.size:
                        members = _doubled(members)
                    members[count] = x
                    count += 1
                elif size[x] < unit:  # it grew since it was queued
                    below[x] = head[size[x]]
                    head[size[x]] = x
            x = after
        if count == 0:
            continue
        if ordered.size < count:
            ordered = np.empty(members.size, np.int32)
        bounds = _sort_by_value(members[:count], value, ordered)
        for group in range(256):
            used = 0
            for m in range(bounds[group], bounds[group + 1]):
                x = ordered[m]
                if parent[x] != x:
                    continue
                if size[x] != area:
                    if size[x] < unit:
                        below[x] = head[size[x]]
                        head[size[x]] = x
                    continue
                if keep and flags[x] != 0:
                    continue
                kinds = 0
                entries = 0
                node = x
                while node >= 0:
                    for e in range(start[node], start[node + 1]):
                        if border[e] == 0:
                            continue
                        y = find(parent, neighbour[e])
                        if y == x:
                            border[e] = 0
                            continue
                        neighbour[e] = y
                        entries += 1
                        kind = value[y]
                        if length[kind] == 0:
                            seen[kinds] = kind
                            kinds += 1
                        length[kind] += border[e]
                    node = following[node]
                if kinds == 0:
                    continue  # nobody to give it to
                best = seen[0]
                tied = False
                for k in range(1, kinds):
                    kind = seen[k]
                    rank, best_rank = ranks[group, kind], ranks[group, best]
                    if rank < best_rank or (rank == best_rank and length[kind] > length[best]):
                        best = kind
                        tied = False
                    elif rank == best_rank and length[kind] == length[best]:
                        tied = True
                if tied:
                    best = _break_tie(
                        x, best, ranks[group], seen[:kinds], length, largest, size, value, start, neighbour, border, following
                    )
                for k in range(kinds):
                    length[seen[k]] = 0
                while used + 3 + entries > choices.size:
                    choices = _doubled(choices)
                choices[used] = x
                mark = used + 1
                used += 2
                node = x
                while node >= 0:
                    for e in range(start[node], start[node + 1]):
                        y = neighbour[e]
                        if border[e] != 0 and value[y] == best and (used == mark + 1 or choices[used - 1] != y):
                            choices[used] = y
                            used += 1
                    node = following[node]
                choices[mark] = used - mark - 1
            c = 0
            while c < used:
                x = choices[c]
                root = find(parent, choices[c + 2])
                for k in range(c + 3, c + 2 + choices[c + 1]):
                    other = find(parent, choices[k])
                    if other != root:
                        if size[other] > size[root]:
                            root, other = other, root
                        _unite(root, other, parent, size, flags, following, last)
                _unite(root, x, parent, size, flags, following, last)
                c += 2 + choices[c + 1]


@njit(nogil=True, cache=True, inline="always")
def _unite(root, other, parent, size, flags, following, last):  # type: ignore[no-untyped-def]
    parent[other] = root
    size[root] += size[other]
    flags[root] |= flags[other]
    following[last[root]] = other
    last[root] = last[other]


@njit(nogil=True, cache=True)
def _break_tie(x, best, rank, kinds, length, largest, size, value, start, neighbour, border, following):  # type: ignore[no-untyped-def]
    """Class of the largest neighbour among those that tie with `best`, then the lowest value."""
    for kind in kinds:
        largest[kind] = 0
    node = x
    while node >= 0:
        for e in range(start[node], start[node + 1]):
            if border[e] != 0:
                y = neighbour[e]
                largest[value[y]] = max(largest[value[y]], size[y])
        node = following[node]
    winner = best
    for kind in kinds:
        if rank[kind] == rank[best] and length[kind] == length[best]:
            if largest[kind] > largest[winner] or (largest[kind] == largest[winner] and kind < winner):
                winner = kind
    return winner


@njit(nogil=True, cache=True)
def _sort_by_value(members, value, ordered):  # type: ignore[no-untyped-def]
    bounds = np.zeros(257, np.int64)
    for x in members:
        bounds[value[x] + 1] += 1
    for k in range(256):
        bounds[k + 1] += bounds[k]
    place = bounds[:-1].copy()
    for x in members:
        ordered[place[value[x]]] = x
        place[value[x]] += 1
    return bounds


@njit(nogil=True, cache=True)
def _doubled(items):  # type: ignore[no-untyped-def]
    larger = np.empty(2 * items.size, items.dtype)
    larger[: items.size] = items
    return larger


def flag_reason(flags: int) -> str:
    """Why a region under the unit was left: cut by the edge, by nodata, or without a neighbour."""
    if flags & AT_EDGE:
        return "edge"
    return "nodata" if flags & AT_NODATA else "alone"
