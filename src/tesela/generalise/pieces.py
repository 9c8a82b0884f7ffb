"""Pieces: connected ground that moved alike, counted across strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.labelling import find, label_regions


@dataclass(frozen=True)
class Moves:
    """What moved in a strip."""

    pixels: NDArray[np.int64]
    codes: NDArray[np.uint16]
    """Class before x 256 + class after, of each piece of ground that moved."""
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]


def count_moves(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Moves:
    """Compare a strip before and after."""
    codes: NDArray[np.uint16] = np.zeros(before.shape, np.uint16)
    pixels = np.zeros((256, 256), np.int64)
    _code_moves(before, after, codes, pixels)
    labels, count = label_regions(codes)
    found = np.zeros(count, np.uint16)
    _first_codes(labels, codes, found)
    return Moves(pixels, found, labels[0].copy(), labels[-1].copy())


class Pieces:
    """Counts connected pieces of ground that moved alike, across strips."""

    def __init__(self) -> None:
        self._codes: list[NDArray[np.uint16]] = []
        self._seams: list[tuple[NDArray[np.int32], NDArray[np.int32], int, int]] = []
        self._bottom: tuple[NDArray[np.int32], int] | None = None
        self._count = 0

    def add(self, moves: Moves) -> None:
        """Take the next strip, downwards."""
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
def _first_codes(labels, codes, found):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    for y in range(rows):
        for x in range(cols):
            if labels[y, x] >= 0:
                found[labels[y, x]] = codes[y, x]


@njit(nogil=True, cache=True)
def _join_pieces(parent, codes, above, below, first_above, first_below):  # type: ignore[no-untyped-def]
    for x in range(above.size):
        if above[x] >= 0 and below[x] >= 0:
            a, b = above[x] + first_above, below[x] + first_below
            if codes[a] == codes[b]:
                a, b = find(parent, a), find(parent, b)
                if a != b:
                    parent[max(a, b)] = min(a, b)
