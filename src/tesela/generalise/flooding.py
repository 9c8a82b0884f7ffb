"""Flooding: kernels that spread classes over narrow parts and nodata, all pixels of a round at once."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.opening import list_pixels


@njit(nogil=True, cache=True)
def continue_classes(values: NDArray[np.uint8], steps: int) -> NDArray[np.uint8]:
    """Grow the classes into nodata by `steps` pixels; where two meet, the lower value wins."""
    rows, cols = values.shape
    filled = values.copy()
    queued = np.zeros((rows, cols), np.bool_)
    for y in range(rows):
        for x in range(cols):
            if values[y, x] == 0 and (
                (y > 0 and values[y - 1, x] != 0)
                or (y + 1 < rows and values[y + 1, x] != 0)
                or (x > 0 and values[y, x - 1] != 0)
                or (x + 1 < cols and values[y, x + 1] != 0)
            ):
                queued[y, x] = True
    front = list_pixels(queued)
    count = front.size
    for _ in range(steps):
        grown = np.empty(count, np.uint8)
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            best = 255
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                if 0 <= v < rows and 0 <= u < cols and filled[v, u] != 0:
                    best = min(best, filled[v, u])
            grown[k] = best
        after = np.empty(4 * count, np.int64)
        size = 0
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            filled[y, x] = grown[k]
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                if 0 <= v < rows and 0 <= u < cols and filled[v, u] == 0 and not queued[v, u]:
                    queued[v, u] = True
                    after[size] = v * cols + u
                    size += 1
        front, count = after, size
    return filled


@njit(nogil=True, cache=True)
def give_narrow(values, narrow, ranks, exempt, steps):  # type: ignore[no-untyped-def]
    """
    Give each narrow pixel the class of wide pixels within `steps` pixels, through narrow pixels of its class.

    Offers spread from pixel to pixel in rounds, all pixels of a round at once. An offer is a class; the lowest rank
    wins, then the earliest round.

    Parameters
    ----------
    values : (rows, cols) array of uint8
    narrow : (rows, cols) array of bool
    ranks : (256, 256) array of int32
    exempt : (256,) array of bool
        Class values that get no pixels.

    Returns
    -------
    (rows, cols) array of uint8
    """
    rows, cols = values.shape
    given = values.copy()
    taken = np.zeros((rows, cols), np.bool_)  # narrow pixels with an offer, which `given` holds
    queued = np.zeros((rows, cols), np.bool_)
    for y in range(rows):
        for x in range(cols):
            if narrow[y, x] and (
                (y > 0 and not narrow[y - 1, x])
                or (y + 1 < rows and not narrow[y + 1, x])
                or (x > 0 and not narrow[y, x - 1])
                or (x + 1 < cols and not narrow[y, x + 1])
            ):
                queued[y, x] = True
    front = list_pixels(queued)
    count = front.size
    for step in range(1, steps + 1):
        changed = np.empty(count, np.int64)
        offers = np.empty(count, np.uint8)
        size = 0
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            queued[y, x] = False
            own = values[y, x]
            best = _best_offer(y, x, step == 1, values, narrow, given, taken, ranks[own], exempt)
            if best != 0 and (not taken[y, x] or ranks[own, best] < ranks[own, given[y, x]]):
                changed[size] = front[k]
                offers[size] = best
                size += 1
        for k in range(size):
            y, x = changed[k] // cols, changed[k] % cols
            given[y, x] = offers[k]
            taken[y, x] = True
        front = np.empty(4 * size, np.int64)
        count = 0
        for k in range(size):
            y, x = changed[k] // cols, changed[k] % cols
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                inside = 0 <= v < rows and 0 <= u < cols
                if inside and narrow[v, u] and not queued[v, u] and values[v, u] == values[y, x]:
                    queued[v, u] = True
                    front[count] = v * cols + u
                    count += 1
    return given


@njit(nogil=True, cache=True)
def _best_offer(y, x, from_wide, values, narrow, given, taken, rank, exempt):  # type: ignore[no-untyped-def]
    """Best class that a neighbour offers: wide neighbours in round one, narrow ones later."""
    rows, cols = values.shape
    own = values[y, x]
    offered = np.zeros(4, np.uint8)
    for t in range(4):
        v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
        if not (0 <= v < rows and 0 <= u < cols) or values[v, u] == 0:
            continue
        if from_wide:
            if not narrow[v, u] and values[v, u] != own and not exempt[values[v, u]]:
                offered[t] = values[v, u]
        elif narrow[v, u] and values[v, u] == own and taken[v, u]:
            offered[t] = given[v, u]
    best = np.uint8(0)
    most = 0
    for t in range(4):
        kind = offered[t]
        if kind == 0:
            continue
        votes = 0
        for s in range(4):
            votes += offered[s] == kind
        if (
            best == 0
            or rank[kind] < rank[best]
            or (rank[kind] == rank[best] and (votes > most or (votes == most and kind < best)))
        ):
            best, most = kind, votes
    return best
