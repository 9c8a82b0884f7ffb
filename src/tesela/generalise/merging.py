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
def merge_regions(  # type: ignore[no-untyped-def]
    parent, value, size, flags, start, neighbour, border, following, last, ranks, spared, unit, keep
):
    """
    Merge all regions under `unit` pixels, by the rules of `drop_small_areas`, into the arrays of the graph.

    Candidates wait on stacks by size. A region that grew since it was put there is put back by its new size
    when its turn comes; sizes only grow, and what a merger makes is never smaller than what is merged next.
    """
    head = np.full(max(unit, 1), -1, np.int32)  # stack of candidates by size; `below` links them
    below = np.full(parent.size, -1, np.int32)
    for x in range(parent.size - 1, -1, -1):
        if parent[x] == x and size[x] < unit and not spared[value[x]] and not (keep and flags[x] != 0):
            below[x] = head[size[x]]
            head[size[x]] = x
    members = np.empty(1024, np.int32)
    ordered = np.empty(1024, np.int32)
    choices = np.empty(
        4096, np.int32
    )  # for each decided area: itself, its new class, n, the n areas it joins
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
                        y = neighbour[e]
                        while (
                            parent[y] != y
                        ):  # `find`, written out: a call would count references to `parent`
                            parent[y] = parent[parent[y]]
                            y = parent[y]
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
                        x,
                        best,
                        ranks[group],
                        seen[:kinds],
                        length,
                        largest,
                        size,
                        value,
                        start,
                        neighbour,
                        border,
                        following,
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
                        if (
                            border[e] != 0
                            and value[y] == best
                            and (used == mark + 1 or choices[used - 1] != y)
                        ):
                            choices[used] = y
                            used += 1
                    node = following[node]
                choices[mark] = used - mark - 1
            c = 0
            while c < used:
                joined = choices[c + 1]
                root = np.int32(-1)
                for k in range(joined + 1):  # the area itself comes last: it may be larger than an area kept
                    other = choices[c + 2 + k] if k < joined else choices[c]
                    while parent[other] != other:
                        parent[other] = parent[parent[other]]
                        other = parent[other]
                    if root < 0:
                        root = other
                        continue
                    if other == root:
                        continue
                    if k < joined and size[other] > size[root]:
                        root, other = other, root
                    parent[other] = root
                    size[root] += size[other]
                    flags[root] |= flags[other]
                    if size[root] < unit:  # else it will never look for a neighbour again
                        following[last[root]] = other
                        last[root] = last[other]
                c += 2 + joined


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
        ties = rank[kind] == rank[best] and length[kind] == length[best]
        if ties and (largest[kind] > largest[winner] or (largest[kind] == largest[winner] and kind < winner)):
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


@njit(nogil=True, cache=True)
def group_regions(parent, chosen, start, neighbour, following):  # type: ignore[no-untyped-def]
    """Root of the group of touching chosen regions, for each chosen region."""
    group = np.arange(parent.size).astype(np.int32)
    for x in range(parent.size):
        if not chosen[x]:
            continue
        node = x
        while node >= 0:
            for e in range(start[node], start[node + 1]):
                y = find(parent, neighbour[e])
                if chosen[y]:
                    a, b = find(group, x), find(group, y)
                    if a != b:
                        group[max(a, b)] = min(a, b)
            node = following[node]
    for x in range(parent.size):
        group[x] = find(group, x)
    return group
