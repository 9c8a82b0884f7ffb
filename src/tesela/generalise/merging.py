"""Merging: kernels that give small regions to their neighbours on the graph, and paint the outcome."""

from __future__ import annotations

import numpy as np
from numba import njit

from tesela.generalise.labelling import find


@njit(nogil=True, cache=True)
def paint_labels(labels, final, before, after, pixels):  # type: ignore[no-untyped-def]
    """Fill `after` with the class of each label and count pixels by class before and after."""
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
def merge_regions(  # type: ignore[no-untyped-def]
    parent, value, size, flags, start, count, neighbour, border, following, last, ranks, spared, unit, keep
):
    """
    Merge all regions under `unit` pixels, by the rules of `drop_small_areas`, into the arrays of the graph.

    Candidates wait on stacks by size. A region that grew since it was put there is put back by its new size
    when its turn comes; sizes only grow, and what a merger makes is never smaller than what is merged next.

    A round takes all regions of one size. Each first waits for those of its size and a lower class that it
    touches, and nothing else of the round can change what it sees: so the round runs in the order of memory.
    Its mergers are kept apart in `now` and sizes stand still until it ends.
    """
    head = np.full(max(unit, 1), -1, np.int32)  # stack of candidates by size; `below` links them
    below = np.full(parent.size, -1, np.int32)
    for x in range(parent.size - 1, -1, -1):
        if parent[x] == x and size[x] < unit and not spared[value[x]] and not (keep and flags[x] != 0):
            below[x] = head[size[x]]
            head[size[x]] = x
    now = np.empty(parent.size, np.int32)  # forest of this round, over the roots that it began with
    for x in range(parent.size):
        now[x] = x
    pending = np.zeros(parent.size, np.bool_)  # of this round's size, not decided, not grown
    members = np.empty(parent.size, np.int32)  # as the next, of which no more is touched than is used
    absorbed = np.empty(parent.size, np.int32)
    stack = np.empty(256, np.int32)  # each waits for one of a lower class
    length = np.zeros(256, np.int64)
    largest = np.zeros(256, np.int64)
    seen = np.empty(256, np.uint8)
    for area in range(1, unit):
        found = 0
        x = head[area]
        while x >= 0:
            after = below[x]
            if parent[x] == x and not (keep and flags[x] != 0):
                if size[x] == area:
                    members[found] = x
                    pending[x] = True
                    found += 1
                elif size[x] < unit:  # it grew since it was queued
                    below[x] = head[size[x]]
                    head[size[x]] = x
            x = after
        gone = 0
        for m in range(found):
            stack[0] = members[m]
            depth = 1
            while depth > 0:
                x = stack[depth - 1]
                if not pending[x]:
                    depth -= 1
                    continue
                own = value[x]
                waiting = False
                kinds = 0
                node = x
                while node >= 0:
                    kept = (
                        start[node] - 1
                    )  # borders that merging dissolved go, and those that it made one join
                    for e in range(start[node], start[node] + count[node]):
                        y = neighbour[e]
                        while (
                            parent[y] != y
                        ):  # `find`, written out: a call would count references to `parent`
                            parent[y] = parent[parent[y]]
                            y = parent[y]
                        if y == x:
                            continue
                        sides = border[e]
                        if kept >= start[node] and neighbour[kept] == y:
                            border[kept] += sides
                        else:
                            kept += 1
                            neighbour[kept] = y
                            border[kept] = sides
                        if pending[y] and value[y] < own:
                            waiting = True
                            stack[depth] = y
                        while now[y] != y:
                            now[y] = now[now[y]]
                            y = now[y]
                        kind = value[y]
                        if length[kind] == 0:
                            seen[kinds] = kind
                            kinds += 1
                        length[kind] += sides
                    count[node] = kept + 1 - start[node]
                    node = following[node]
                best = own
                tied = False
                for k in range(kinds):
                    kind = seen[k]
                    rank, best_rank = ranks[own, kind], ranks[own, best]
                    if k == 0 or rank < best_rank or (rank == best_rank and length[kind] > length[best]):
                        best = kind
                        tied = False
                    elif rank == best_rank and length[kind] == length[best]:
                        tied = True
                if tied and not waiting:
                    for k in range(kinds):
                        largest[seen[k]] = 0
                    node = x
                    while node >= 0:
                        for e in range(start[node], start[node] + count[node]):
                            y = neighbour[e]
                            while now[y] != y:
                                y = now[y]
                            largest[value[y]] = max(largest[value[y]], size[neighbour[e]])
                        node = following[node]
                    for k in range(kinds):
                        kind = seen[k]
                        if ranks[own, kind] != ranks[own, best] or length[kind] != length[best]:
                            continue
                        if largest[kind] > largest[best] or (largest[kind] == largest[best] and kind < best):
                            best = kind
                for k in range(kinds):
                    length[seen[k]] = 0
                if waiting:
                    depth += 1
                    continue
                pending[x] = False
                depth -= 1
                if kinds == 0:
                    continue  # nobody to give it to
                root = np.int32(-1)
                node = x
                while node >= 0:
                    for e in range(start[node], start[node] + count[node]):
                        y = neighbour[e]
                        while now[y] != y:
                            now[y] = now[now[y]]
                            y = now[y]
                        if value[y] != best or y == root:
                            continue
                        pending[y] = False
                        if root < 0:
                            root = y
                            continue
                        if size[y] > size[root]:
                            root, y = y, root
                        now[y] = root
                        absorbed[gone] = y
                        gone += 1
                    node = following[node]
                now[x] = root
                absorbed[gone] = x
                gone += 1
        for k in range(gone):
            x = absorbed[k]
            root = x
            while now[root] != root:
                now[root] = now[now[root]]
                root = now[root]
            parent[x] = root
            size[root] += size[x]
            flags[root] |= flags[x]
            if size[root] < unit:  # else it will never look for a neighbour again
                following[last[root]] = x
                last[root] = last[x]
        for m in range(found):
            x = members[m]
            if parent[x] == x and area < size[x] < unit:
                below[x] = head[size[x]]
                head[size[x]] = x


@njit(nogil=True, cache=True)
def group_regions(parent, chosen, start, count, neighbour, following):  # type: ignore[no-untyped-def]
    """Root of the group of touching chosen regions, for each chosen region."""
    group = np.empty(parent.size, np.int32)
    for x in range(parent.size):
        group[x] = x
    for x in range(parent.size):
        if not chosen[x]:
            continue
        node = x
        while node >= 0:
            for e in range(start[node], start[node] + count[node]):
                y = find(parent, neighbour[e])
                if chosen[y]:
                    a, b = find(group, x), find(group, y)
                    if a != b:
                        group[max(a, b)] = min(a, b)
            node = following[node]
    for x in range(parent.size):
        group[x] = find(group, x)
    return group
