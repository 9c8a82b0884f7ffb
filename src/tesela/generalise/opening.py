"""Morphological opening of all classes at once by a disc, and the narrow parts that it removes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True)
class Disc:
    r"""
    Pixels whose centres are within half of `width_px` of the disc's centre.

    The centre is the middle of a pixel or a corner between four, so the disc is exactly
    :math:`n = \lceil w \rceil` pixels wide: it fits into a strip of n pixels, but not of n - 1.
    """

    width_px: float
    """Diameter w in pixels, not rounded."""

    @property
    def side_px(self) -> int:
        """Width and height of the disc in whole pixels."""
        return max(1, math.ceil(self.width_px - 1e-6))

    @property
    def half_runs(self) -> NDArray[np.int32]:
        """
        Pixels to each side of the centre in each row, from the central row (or the two central) outwards.

        For odd sides the central pixel itself is not counted.
        """
        radius = max(self.width_px, self.side_px - 1) / 2
        even = self.side_px % 2 == 0
        runs = []
        for row in range((self.side_px + 1) // 2):
            offset = row + 0.5 if even else float(row)
            inside = math.sqrt(max(radius * radius - offset * offset, 0.0) + 1e-9)
            runs.append(math.floor(inside + 0.5) if even else math.floor(inside))
        return np.array(runs, np.int32)

    @property
    def area_px(self) -> int:
        """Pixels of the disc; an area with fewer is narrow everywhere."""
        runs = self.half_runs.astype(np.int64)
        if self.side_px % 2 == 0:
            return int(4 * runs.sum())
        return int(2 * (2 * runs + 1).sum() - (2 * runs[0] + 1))

    @property
    def corner_steps(self) -> int:
        """Steps from pixel to pixel from a right-angled corner to the nearest pixel of a disc inside it."""
        runs = [int(run) + self.side_px % 2 for run in self.half_runs]
        full = len(runs)
        return min(full - run + full - 1 - row for row, run in enumerate(runs) if run > 0)

    @property
    def reach_px(self) -> int:
        """Largest distance at which one pixel decides whether another is narrow: disc, nodata beside it, corners."""
        return 3 * self.side_px + 2 * self.corner_steps + 2


@njit(nogil=True, cache=True)
def open_classes(values, half, side):  # type: ignore[no-untyped-def]
    """
    Mark the pixels of all discs that hold one class only, or only nodata.

    If the nearest other class in a column x' is t rows from the centre of a disc, no centre can be at
    x' - half[t] to x' + half[t]. One sweep from each side computes the union of these intervals, whatever the width
    of the disc. The same sweeps dilate the remaining centres.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Every value is a class, also 0. Nothing outside the array limits a disc.
    half : array of int32
        `Disc.half_runs`.
    side : int
        `Disc.side_px`.

    Returns
    -------
    (rows, cols) array of bool
    """
    rows, cols = values.shape
    if side <= 1:
        return np.ones((rows, cols), np.bool_)
    even = 1 - side % 2
    far = half.size  # distance beyond the disc
    centres = np.zeros((rows, cols), np.bool_)
    above = np.empty((rows, cols), np.uint16)  # rows up to the nearest other class, at most far
    for x in range(cols):
        above[0, x] = far
    for y in range(1, rows):
        for x in range(cols):
            if values[y, x] != values[y - 1, x]:
                above[y, x] = 1
            else:
                above[y, x] = min(above[y - 1, x] + 1, far)
    beneath = np.full(cols, far, np.int32)  # the same downwards, from the lower central row
    near = np.empty(cols, np.int32)
    for y in range(rows - 1 - even, -1, -1):
        low = y + even
        if low < rows - 1:
            for x in range(cols):
                if values[low, x] != values[low + 1, x]:
                    beneath[x] = 1
                else:
                    beneath[x] = min(beneath[x] + 1, far)
        for x in range(cols):
            if values[y, x] != values[low, x]:
                near[x] = 0
            else:
                near[x] = min(np.int32(above[y, x]), beneath[x])
        reach = -1
        for x in range(cols):
            if x > 0 and values[y, x] != values[y, x - 1]:
                reach = max(reach, x - 1 + half[0] - even)
            if near[x] < far:
                reach = max(reach, x + half[near[x]] - even)
            centres[y, x] = x > reach
        reach = cols
        for x in range(cols - 1, -1, -1):
            if x < cols - 1 and values[y, x] != values[y, x + 1]:
                reach = min(reach, x + 1 - half[0])
            if near[x] < far:
                reach = min(reach, x - half[near[x]])
            if x >= reach:
                centres[y, x] = False
        if even:
            centres[y, cols - 1] = False
    return _dilate(centres, half, even, above)


@njit(nogil=True, cache=True)
def _dilate(centres, half, even, above):  # type: ignore[no-untyped-def]
    rows, cols = centres.shape
    far = half.size
    for x in range(cols):
        above[0, x] = (
            far  # from here on: rows up to the nearest centre strictly above, as the disc counts them
        )
    for y in range(1, rows):
        for x in range(cols):
            above[y, x] = 1 - even if centres[y - 1, x] else min(above[y - 1, x] + 1, far)
    covered = np.zeros((rows, cols), np.bool_)
    beneath = np.full(cols, far, np.int32)
    for y in range(rows - 1, -1, -1):
        reach = -1
        for x in range(cols):
            beneath[x] = 0 if centres[y, x] else min(beneath[x] + 1, far)
            near = min(beneath[x], np.int32(above[y, x]))
            if near < far:
                reach = max(reach, x + half[near])
            covered[y, x] = x <= reach
        reach = cols
        for x in range(cols - 1, -1, -1):
            near = min(beneath[x], np.int32(above[y, x]))
            if near < far:
                reach = min(reach, x - half[near] + even)
            if x >= reach:
                covered[y, x] = True
    return covered


@njit(nogil=True, cache=True)
def find_narrow(values, opened, corner_steps, exempt):  # type: ignore[no-untyped-def]
    """
    Mark the parts that are narrower than the disc, given the opening.

    Pixels that the opening removes are a corner, not a narrow part, if they are within `corner_steps` of opened
    pixels of their class, as at any right-angled corner. A narrow part reaches as far as the opened pixels.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        0 is nodata and never narrow.
    opened : (rows, cols) array of bool
    exempt : (256,) array of bool
        Class values that are never narrow.

    Returns
    -------
    (rows, cols) array of bool
    """
    rows, cols = values.shape
    left = np.empty((rows, cols), np.bool_)  # removed by the opening, perhaps only a corner
    for y in range(rows):
        for x in range(cols):
            left[y, x] = not opened[y, x] and values[y, x] != 0 and not exempt[values[y, x]]
    narrow = left.copy()
    corners = _grow(values, opened, narrow, corner_steps)
    front = _edge_of(values, narrow, corners)
    _spread(values, front, narrow, corners, corner_steps)
    return narrow


@njit(nogil=True, cache=True)
def _grow(values, opened, narrow, steps):  # type: ignore[no-untyped-def]
    """Remove pixels within `steps` of opened pixels of their class from `narrow`; return these pixels."""
    rows, cols = values.shape
    corners = np.zeros((rows, cols), np.bool_)
    front = _edge_of(values, narrow, opened)
    count = front.size
    for step in range(steps):
        for k in range(count):
            narrow.flat[front[k]] = False
            corners.flat[front[k]] = True
        if step == steps - 1:
            break
        front, count = _next_front(values, front, count, narrow)
    return corners


@njit(nogil=True, cache=True)
def _next_front(values, front, count, among):  # type: ignore[no-untyped-def]
    """Pixels of `among`, each once, that touch the front and share its class."""
    rows, cols = values.shape
    new = np.empty(max(16, 4 * count), np.int64)
    size = 0
    for k in range(count):
        y, x = front[k] // cols, front[k] % cols
        for t in range(4):
            v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
            if 0 <= v < rows and 0 <= u < cols and among[v, u] and values[v, u] == values[y, x]:
                among[v, u] = False  # marks it as taken; set again below
                new[size] = v * cols + u
                size += 1
    for k in range(size):
        among.flat[new[k]] = True
    return new, size


@njit(nogil=True, cache=True)
def _edge_of(values, inside, beside):  # type: ignore[no-untyped-def]
    """Pixels of `inside` that touch a pixel of `beside` of their class."""
    rows, cols = values.shape
    first = np.zeros((rows, cols), np.bool_)
    for y in range(rows):
        for x in range(cols):
            if not inside[y, x]:
                continue
            value = values[y, x]
            if (
                (y > 0 and beside[y - 1, x] and values[y - 1, x] == value)
                or (y + 1 < rows and beside[y + 1, x] and values[y + 1, x] == value)
                or (x > 0 and beside[y, x - 1] and values[y, x - 1] == value)
                or (x + 1 < cols and beside[y, x + 1] and values[y, x + 1] == value)
            ):
                first[y, x] = True
    return list_pixels(first)


@njit(nogil=True, cache=True)
def _spread(values, front, narrow, corners, steps):  # type: ignore[no-untyped-def]
    """Add the corners within `steps` of narrow pixels of their class to them."""
    count = front.size
    for _ in range(steps):
        front, count = _next_front(values, front, count, corners)
        for k in range(count):
            narrow.flat[front[k]] = True
            corners.flat[front[k]] = False


@njit(nogil=True, cache=True)
def list_pixels(mask):  # type: ignore[no-untyped-def]
    """
    List the pixels of a mask as row x columns + column.

    Two passes, because an array that grows inside the loop would cost a reference count at each use.
    """
    rows, cols = mask.shape
    count = 0
    for y in range(rows):
        for x in range(cols):
            count += mask[y, x]
    pixels = np.empty(count, np.int64)
    count = 0
    for y in range(rows):
        for x in range(cols):
            if mask[y, x]:
                pixels[count] = y * cols + x
                count += 1
    return pixels
