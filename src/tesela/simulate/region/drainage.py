"""Water on a terrain: compiled kernels that fill pits, route the flow and cut valleys."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit
from numpy.typing import NDArray

_ROW = np.array([-1, -1, -1, 0, 0, 1, 1, 1])
_COL = np.array([-1, 0, 1, -1, 1, -1, 0, 1])
_FAR = np.array([2.0**0.5, 1.0, 2.0**0.5, 1.0, 1.0, 2.0**0.5, 1.0, 2.0**0.5])


@njit(cache=True)
def fill(
    height: NDArray[np.float64], sea: NDArray[np.bool_], step_m: NDArray[np.float32]
) -> NDArray[np.int32]:
    """
    Fill pits in place until water leaves every cell, and return the cells from low to high.

    Priority flood from the sea and the border of the grid: a cell is at least its `step_m` above the
    one it was reached from (Barnes, Lehman and Mulla 2014, doi:10.1016/j.cageo.2013.04.024).

    Parameters
    ----------
    height : (rows, cols) array of float64, metres, changed in place
    sea : (rows, cols) array of bool
        Cells at which water ends; they keep their height.
    step_m : (rows, cols) array of float32
        Minimum fall from a raised cell to the next; uneven steps make rivers wind over filled areas.

    Returns
    -------
    (rows * cols,) array of int32
        Flat indices such that the receiver of a cell always comes before it.
    """
    rows, cols = height.shape
    done = np.zeros((rows, cols), np.bool_)
    order = np.empty(rows * cols, np.int32)
    heap = [(0.0, 0)]
    heap.pop()
    n = 0
    for r in range(rows):
        for c in range(cols):
            if sea[r, c]:
                done[r, c] = True
                order[n] = r * cols + c
                n += 1
    for r in range(rows):
        for c in range(cols):
            if done[r, c]:
                continue
            source = r == 0 or c == 0 or r == rows - 1 or c == cols - 1
            if not source:
                for k in range(8):
                    if sea[r + _ROW[k], c + _COL[k]]:
                        source = True
            if source:
                done[r, c] = True
                heapq.heappush(heap, (height[r, c], r * cols + c))
    while len(heap) > 0:
        level, here = heapq.heappop(heap)
        order[n] = here
        n += 1
        r = here // cols
        c = here - r * cols
        for k in range(8):
            rr = r + _ROW[k]
            cc = c + _COL[k]
            if rr < 0 or cc < 0 or rr >= rows or cc >= cols or done[rr, cc]:
                continue
            done[rr, cc] = True
            if height[rr, cc] < level + step_m[rr, cc]:
                height[rr, cc] = level + step_m[rr, cc]
            heapq.heappush(heap, (height[rr, cc], rr * cols + cc))
    return order


@njit(cache=True)
def route(height: NDArray[np.float64], sea: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return for each cell the flat index of its steepest lower neighbour (itself at the sea and border)."""
    rows, cols = height.shape
    receiver = np.empty(rows * cols, np.int32)
    for r in range(rows):
        for c in range(cols):
            best = r * cols + c
            steepest = 0.0
            if not sea[r, c]:
                for k in range(8):
                    rr = r + _ROW[k]
                    cc = c + _COL[k]
                    if rr < 0 or cc < 0 or rr >= rows or cc >= cols:
                        continue
                    fall = (height[r, c] - height[rr, cc]) / _FAR[k]
                    if fall > steepest:
                        steepest = fall
                        best = rr * cols + cc
            receiver[r * cols + c] = best
    return receiver


@njit(cache=True)
def accumulate(receiver: NDArray[np.int32], order: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return how many cells drain through each cell, itself included."""
    area = np.ones(receiver.size)
    for i in range(order.size - 1, -1, -1):
        here = order[i]
        if receiver[here] != here:
            area[receiver[here]] += area[here]
    return area


@njit(cache=True)
def incise(
    height: NDArray[np.float64],
    sea: NDArray[np.bool_],
    uplift_m: NDArray[np.float64],
    rate: float,
    creep: float,
    steps: int,
) -> None:
    r"""
    Let rivers cut into rising terrain, in place.

    One step solves :math:`\partial z/\partial t = U - k \sqrt{A}\, S` implicitly from the mouths upwards
    (Braun and Willett 2013, doi:10.1016/j.geomorph.2012.10.008), then lets slopes creep.

    Parameters
    ----------
    height : (rows, cols) array of float64, metres
    sea : (rows, cols) array of bool
    uplift_m : (rows, cols) array of float64
        Rise per step in metres.
    rate : float
        k times the length of a step over the cell side.
    creep : float
        Share of the difference to the four neighbours' mean that is lost per step (below 1).
    steps : int
    """
    rows, cols = height.shape
    flat = height.ravel()
    step_m = np.full((rows, cols), 1e-3, np.float32)
    for _ in range(steps):
        for r in range(rows):
            for c in range(cols):
                if not sea[r, c]:
                    height[r, c] += uplift_m[r, c]
        order = fill(height, sea, step_m)
        receiver = route(height, sea)
        area = accumulate(receiver, order)
        for i in range(order.size):
            here = order[i]
            to = receiver[here]
            if to != here:
                far = 1.0
                if here // cols != to // cols and here % cols != to % cols:
                    far = 2.0**0.5
                cut = rate * area[here] ** 0.5 / far
                flat[here] = (flat[here] + cut * max(flat[to], 0.0)) / (1.0 + cut)
        before = height.copy()
        for r in range(1, rows - 1):
            for c in range(1, cols - 1):
                if not sea[r, c]:
                    mean = (before[r - 1, c] + before[r + 1, c] + before[r, c - 1] + before[r, c + 1]) / 4
                    height[r, c] += creep * (mean - before[r, c])


@njit(cache=True)
def above_channel(
    height: NDArray[np.float64],
    receiver: NDArray[np.int32],
    order: NDArray[np.int32],
    channel: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return each cell's height in metres above the channel, sea or border cell that its water reaches."""
    flat = height.ravel()
    wet = channel.ravel()
    base = np.empty(order.size)
    for i in range(order.size):
        here = order[i]
        base[here] = flat[here] if wet[here] or receiver[here] == here else base[receiver[here]]
    return (flat - base).reshape(height.shape)


@njit(cache=True)
def basin(receiver: NDArray[np.int32], order: NDArray[np.int32], outlet: int) -> NDArray[np.bool_]:
    """Return which cells (flat) drain through the cell `outlet`, itself included."""
    inside = np.zeros(order.size, np.bool_)
    inside[outlet] = True
    for i in range(order.size):
        here = order[i]
        if inside[receiver[here]]:
            inside[here] = True
    return inside
