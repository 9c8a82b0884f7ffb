"""Labelling: kernels that number regions, measure them, list their borders and join them across strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

AT_EDGE = 1
"""Flag of regions that touch the edge of the map."""
AT_NODATA = 2
"""Flag of regions that touch a pixel without a class."""


@njit(nogil=True, cache=True)
def find(parent, x):  # type: ignore[no-untyped-def]
    """Root of node `x`, halving the path to it."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@njit(nogil=True, cache=True)
def label_regions(values: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.int32], int]:
    """
    Number the 4-connected regions of equal value, in the order of their first pixel.

    Parameters
    ----------
    values : (rows, cols) array of unsigned integers
        0 is nodata and gets the label -1.

    Returns
    -------
    (rows, cols) array of int32, int
        Labels from 0 on, and their number.
    """
    rows, cols = values.shape
    labels: NDArray[np.int32] = np.empty((rows, cols), np.int32)
    parent = np.empty(rows * cols + 1, np.int32)  # only as much memory as is used
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
    # A parent is never above its child, so one pass numbers the roots and the other nodes.
    for x in range(count):
        if parent[x] == x:
            parent[x] = final
            final += np.int32(1)
        else:
            parent[x] = parent[parent[x]]
    for i in range(rows):
        for j in range(cols):
            if labels[i, j] >= 0:
                labels[i, j] = parent[labels[i, j]]
    return labels, int(final)


@njit(nogil=True, cache=True)
def measure_regions(values, labels, count, shared, at_top, at_bottom):  # type: ignore[no-untyped-def]
    """Size, class and flags of each region, and the number of entries in its list of borders."""
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


@njit(nogil=True, cache=True)
def list_borders(labels, start, entries, small, shared):  # type: ignore[no-untyped-def]
    """
    Neighbours and border lengths of the small regions, in the order of `measure_regions`.

    The two blocks at the end are one function written out: calling it takes five times as long, because numba counts
    references to arrays.
    """
    rows, cols = labels.shape
    slot = np.empty(
        (small.size, 2), np.int32
    )  # index of a region's next entry (-1 for none), latest neighbour
    for x in range(small.size):
        slot[x, 0] = start[x] if small[x] else -1
        slot[x, 1] = -1
    neighbour = np.empty(entries, np.int32)
    border = np.empty(entries, np.int32)
    for i in range(rows):
        counted = i > 0 or not shared
        for j in range(cols):
            a = labels[i, j]
            if a < 0:
                continue
            for side in range(2):
                if side == 0:
                    if not counted or j == 0:
                        continue
                    b = labels[i, j - 1]
                else:
                    if i == 0:
                        continue
                    b = labels[i - 1, j]
                if b == a or b < 0:
                    continue
                entry = slot[a, 0]
                if entry >= 0:
                    if slot[a, 1] == b:
                        border[entry - 1] += 1
                    else:
                        neighbour[entry] = b
                        border[entry] = 1
                        slot[a, 0] = entry + 1
                        slot[a, 1] = b
                entry = slot[b, 0]
                if entry >= 0:
                    if slot[b, 1] == a:
                        border[entry - 1] += 1
                    else:
                        neighbour[entry] = a
                        border[entry] = 1
                        slot[b, 0] = entry + 1
                        slot[b, 1] = a
    return neighbour, border


@njit(nogil=True, cache=True)
def join_rows(parent, above, below, first_above, first_below):  # type: ignore[no-untyped-def]
    """Join the labels of a row that two strips share."""
    for j in range(above.size):
        if above[j] >= 0:
            a = find(parent, above[j] + first_above)
            b = find(parent, below[j] + first_below)
            if a != b:
                parent[max(a, b)] = min(a, b)


@njit(nogil=True, cache=True)
def gather_parts(parent, size, flags, following, last):  # type: ignore[no-untyped-def]
    """Add size and flags of the parts of a region to its root, and chain the parts."""
    for x in range(parent.size):
        root = find(parent, x)
        if root != x:
            size[root] += size[x]
            flags[root] |= flags[x]
            following[last[root]] = x
            last[root] = last[x]


@njit(nogil=True, cache=True)
def flatten(parent):  # type: ignore[no-untyped-def]
    """Make the root of every node its parent."""
    for x in range(parent.size):
        parent[x] = find(parent, x)


@dataclass(frozen=True)
class StripMoves:
    """Pixels that changed class in a strip, and their connected pieces."""

    pixels: NDArray[np.int64]
    codes: NDArray[np.uint16]
    """Class before x 256 + class after, of each piece."""
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]


def count_moves(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> StripMoves:
    """Compare a strip before and after."""
    codes: NDArray[np.uint16] = np.zeros(before.shape, np.uint16)
    pixels = np.zeros((256, 256), np.int64)
    _code_moves(before, after, codes, pixels)
    labels, count = label_regions(codes)
    piece_codes = np.zeros(count, np.uint16)
    _piece_codes(labels, codes, piece_codes)
    return StripMoves(pixels, piece_codes, labels[0].copy(), labels[-1].copy())


class PieceCounter:
    """Counts connected pieces of pixels with the same change, across strips."""

    def __init__(self) -> None:
        self._codes: list[NDArray[np.uint16]] = []
        self._seams: list[tuple[NDArray[np.int32], NDArray[np.int32], int, int]] = []
        self._bottom: tuple[NDArray[np.int32], int] | None = None
        self._count = 0

    def add(self, moves: StripMoves) -> None:
        """Add the next strip below."""
        first = self._count
        if self._bottom is not None:
            self._seams.append((self._bottom[0], moves.top, self._bottom[1], first))
        self._bottom = (moves.bottom, first)
        self._codes.append(moves.codes)
        self._count += len(moves.codes)

    def areas(self) -> NDArray[np.int64]:
        """Pieces by class value before and after, (256, 256)."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, np.uint16)
        parent = np.arange(len(codes), dtype=np.int64)
        for above, below, first_above, first_below in self._seams:
            _join_pieces(parent, codes, above, below, first_above, first_below)
        single = codes[parent == np.arange(len(codes))]
        return np.bincount(single.astype(np.int64), minlength=1 << 16).reshape(256, 256)


@njit(nogil=True, cache=True)
def _code_moves(before, after, codes, pixels):  # type: ignore[no-untyped-def]
    rows, cols = before.shape
    for y in range(rows):
        for x in range(cols):
            a, b = before[y, x], after[y, x]
            pixels[a, b] += 1
            if a != b:
                codes[y, x] = np.uint16(a) * np.uint16(256) + np.uint16(b)


@njit(nogil=True, cache=True)
def _piece_codes(labels, codes, piece_codes):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    for y in range(rows):
        for x in range(cols):
            if labels[y, x] >= 0:
                piece_codes[labels[y, x]] = codes[y, x]


@njit(nogil=True, cache=True)
def _join_pieces(parent, codes, above, below, first_above, first_below):  # type: ignore[no-untyped-def]
    for x in range(above.size):
        if above[x] >= 0 and below[x] >= 0:
            a, b = above[x] + first_above, below[x] + first_below
            if codes[a] == codes[b]:
                a, b = find(parent, a), find(parent, b)
                if a != b:
                    parent[max(a, b)] = min(a, b)
