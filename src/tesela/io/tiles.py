"""Kernels on raster tiles: halving for overviews, compression; compiled by numba."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

Tile = NDArray[np.unsignedinteger]


@numba.njit(cache=True, nogil=True)
def halve_by_mode(tile: Tile, nodata: int, out: Tile) -> None:
    """
    Shrink by two: each pixel takes the most frequent value of its four; nodata only where all four are.

    Of equally frequent values the first in reading order (top left, top right, bottom left, bottom right) wins,
    which keeps the shares of classes even where the map is noise.

    Parameters
    ----------
    tile : (bands, rows, cols) array
        Rows and cols are even.
    out : (bands, rows / 2, cols / 2) array
        Filled.
    """
    bands, rows, cols = out.shape
    for k in range(bands):
        for i in range(rows):
            for j in range(cols):
                a, b = tile[k, 2 * i, 2 * j], tile[k, 2 * i, 2 * j + 1]
                c, d = tile[k, 2 * i + 1, 2 * j], tile[k, 2 * i + 1, 2 * j + 1]
                if a != nodata and (a == b or a == c or a == d):  # noqa: SIM109 - numba has no fast `in`
                    # two of `a` lose to nothing: other values are two at most, and come later
                    best = a
                elif b != nodata and (b == c or b == d):  # noqa: SIM109
                    best = b
                elif c != nodata and c == d:
                    best = c
                else:  # all valid values differ
                    best = a
                    if best == nodata:
                        best = b
                    if best == nodata:
                        best = c
                    if best == nodata:
                        best = d
                out[k, i, j] = best


@numba.njit(cache=True, nogil=True)
def halve_by_mean(tile: Tile, nodata: int, out: Tile) -> None:
    """Shrink by two: each pixel takes the mean of its valid ones, rounded half up; see `halve_by_mode`."""
    bands, rows, cols = out.shape
    for k in range(bands):
        for i in range(rows):
            for j in range(cols):
                total, count = 0, 0
                for y in range(2 * i, 2 * i + 2):
                    for x in range(2 * j, 2 * j + 2):
                        if tile[k, y, x] != nodata:
                            total += int(tile[k, y, x])
                            count += 1
                out[k, i, j] = (2 * total + count) // (2 * count) if count else nodata


@numba.njit(cache=True, nogil=True)
def count_values(values: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Add to `counts`, (256,) int64, how often each value of a (rows, cols) array occurs."""
    rows, cols = values.shape
    lanes = np.zeros(
        (4, 256), np.int64
    )  # four counters, so that runs of one value do not wait for each other
    for i in range(rows):
        for j in range(cols):
            lanes[j & 3, values[i, j]] += 1
    for lane in range(4):
        for value in range(256):
            counts[value] += lanes[lane, value]


HALVINGS: dict[str, Callable[[Tile, int, Tile], None]] = {"mode": halve_by_mode, "mean": halve_by_mean}
"""Ways to make overviews, by name."""


def pack_lzw(tile: bytes) -> bytes:
    """Compress as TIFF's LZW: for class maps smaller than fast deflate, and quicker to make."""
    data = np.frombuffer(tile, np.uint8)
    out = np.empty(data.size * 3 // 2 + 64, np.uint8)
    return out[: _lzw(data, out)].tobytes()


def pack_deflate(tile: bytes) -> bytes:
    """Compress as deflate, for scores and shares."""
    return zlib.compress(tile, level=6)


PACKERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "lzw": (5, pack_lzw),
    "deflate": (8, pack_deflate),
}
"""Compressions by name: TIFF's number, and the function."""


@numba.njit(cache=True, nogil=True)
def _lzw(data: NDArray[np.uint8], out: NDArray[np.uint8]) -> int:
    """
    LZW as TIFF 6.0 has it (codes of 9 to 12 bits, highest bit first, widened one code early); returns the length.

    The strings seen are a tree in a table, next code = table[code, symbol], whose columns are only the byte values
    that occur: that of a class map stays in the processor's cache.
    """
    clear, end, first, last = 256, 257, 258, 4094
    column = np.full(256, -1, np.int16)
    symbols = 0
    for value in data:
        if column[value] < 0:
            column[value] = symbols
            symbols += 1
    table = np.zeros((4096, max(symbols, 1)), np.uint16)
    bits, held, size, length = np.uint64(0), 0, 9, 0  # `held` bits wait in `bits`
    free, code = first, -1
    for position in range(data.size + 1):
        if position == 0:
            emit, code = clear, int(data[0]) if data.size else end
        elif position < data.size:
            value = data[position]
            longer = table[code, column[value]]
            if longer:
                code = int(longer)
                continue
            emit = code
            table[code, column[value]] = free
            table[free] = 0
            code = int(value)
        else:
            emit = code
        bits = (bits << np.uint64(size)) | np.uint64(emit)
        held += size
        if position:
            free += 1
            if free == last:
                bits = (bits << np.uint64(size)) | np.uint64(clear)
                held += size
                size, free = 9, first
                for value in range(256):
                    if column[value] >= 0:
                        table[value] = 0
            elif free > (1 << size) - 1:
                size += 1
        while held >= 8:
            held -= 8
            out[length] = (bits >> np.uint64(held)) & np.uint64(255)
            length += 1
    bits = (bits << np.uint64(size)) | np.uint64(end)
    held += size
    while held > 0:
        held -= 8
        out[length] = (
            (bits >> np.uint64(held)) & np.uint64(255)
            if held >= 0
            else (bits << np.uint64(-held)) & np.uint64(255)
        )
        length += 1
    return length
