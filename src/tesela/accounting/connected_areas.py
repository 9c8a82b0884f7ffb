"""Connected areas of maps of any size: pixels that touch and have one value, found strip by strip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import window_grid

_STRIP_PX = 1 << 24


def strips(grid: GeoBox) -> Iterator[tuple[int, GeoBox]]:
    """First row and grid of strips as wide as a grid: 512 rows, less where they exceed 16 million pixels."""
    rows, cols = grid.shape
    step = max(1, min(512, _STRIP_PX // max(cols, 1)))
    for row in range(0, rows, step):
        yield row, window_grid(grid, row, 0, min(step, rows - row), cols)


class ComponentCounter:
    """
    Finds connected areas in strips that are given from top to bottom; value 0 is no area.

    Each strip's areas are numbered on from those of the strips before; `roots` says in the end which numbers
    are one area. Memory grows with the number of areas, not with the pixels.
    """

    def __init__(self, *, eight: bool = False, measures: int = 0) -> None:
        """`eight`: pixels touch at corners too; `measures`: quantities to add up over each area."""
        self._eight = eight
        self._parents = np.zeros(1024, np.int64)
        self._sums = np.zeros((1024, measures + 1))
        self._count = 0
        self._values = np.zeros(0, np.uint8)
        self._edge = np.zeros(0, np.int64)

    def add(self, values: NDArray[np.uint8], *measures: NDArray[np.float64]) -> NDArray[np.int64]:
        """
        Number the areas of the next strip, (rows, cols) of int64, -1 where there is none.

        Parameters
        ----------
        values : (rows, cols) array of uint8
        measures : (rows, cols) arrays
            To be added up over each area, as many as were announced.
        """
        labels, found = label_strip(np.ascontiguousarray(values), self._eight)
        first, self._count = self._count, self._count + found
        while self._count > len(self._parents):
            self._parents = np.concatenate([self._parents, np.zeros_like(self._parents)])
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        self._parents[first : self._count] = np.arange(first, self._count)
        flat = labels.ravel()
        for k, measure in enumerate((None, *measures)):
            weights = None if measure is None else measure.ravel()
            sums = np.bincount(flat, weights=weights, minlength=found + 1)[1:]
            self._sums[first : self._count, k] = sums
        numbers = np.where(labels > 0, labels.astype(np.int64) - 1 + first, -1)
        if self._edge.size:
            _join(self._parents, self._values, self._edge, values[0], numbers[0], self._eight)
        self._values, self._edge = values[-1].copy(), numbers[-1].copy()
        return numbers

    def totals(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """
        For every number, the smallest number of its area, and the sums of its area.

        Returns
        -------
        roots : (n,) array of int64
        sums : (n, 1 + measures) array
            Pixels, then the measures, of the whole area; filled in for every number.
        """
        roots = _roots(self._parents[: self._count])
        sums = np.zeros((self._count, self._sums.shape[1]))
        np.add.at(sums, roots, self._sums[: self._count])
        return roots, sums[roots]


@njit(cache=True, nogil=True)
def _find(parents: NDArray[np.int64], node: int) -> int:  # pragma: no cover - compiled
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True, nogil=True)
def _unite(parents: NDArray[np.int64], one: int, other: int) -> int:  # pragma: no cover - compiled
    a, b = _find(parents, one), _find(parents, other)
    low, high = min(a, b), max(a, b)
    parents[high] = low
    return low


@njit(cache=True, nogil=True)
def label_strip(
    values: NDArray[np.uint8], eight: bool
) -> tuple[NDArray[np.int32], int]:  # pragma: no cover - compiled
    """Numbers of connected areas of one value from 1, 0 for value 0; and how many there are."""
    rows, cols = values.shape
    labels = np.zeros((rows, cols), np.int32)
    parents = np.zeros(1024, np.int64)
    count = 1
    for r in range(rows):
        for c in range(cols):
            value = values[r, c]
            if value == 0:
                continue
            mine = 0
            if c > 0 and values[r, c - 1] == value:
                mine = labels[r, c - 1]
            if r > 0:
                for step in range(-1, 2):
                    at = c + step
                    if (step == 0 or eight) and 0 <= at < cols and values[r - 1, at] == value:
                        other = labels[r - 1, at]
                        if mine == 0:
                            mine = other
                        elif mine != other:
                            mine = _unite(parents, mine, other)
            if mine == 0:
                if count == parents.size:
                    larger = np.zeros(2 * count, np.int64)
                    larger[:count] = parents
                    parents = larger
                parents[count] = count
                mine = count
                count += 1
            labels[r, c] = mine
    final = np.zeros(count, np.int32)
    found = 0
    for node in range(1, count):
        root = _find(parents, node)
        if root == node:
            found += 1
            final[node] = found
        else:
            final[node] = final[root]
    for r in range(rows):
        for c in range(cols):
            labels[r, c] = final[labels[r, c]]
    return labels, found


@njit(cache=True, nogil=True)
def _join(parents, above, upper, below, lower, eight):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for c in range(below.size):
        if below[c] == 0:
            continue
        for step in range(-1, 2):
            at = c + step
            if (step == 0 or eight) and 0 <= at < above.size and above[at] == below[c]:
                _unite(parents, upper[at], lower[c])


@njit(cache=True, nogil=True)
def _roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:  # pragma: no cover - compiled
    roots = np.empty(parents.size, np.int64)
    for node in range(parents.size):
        roots[node] = _find(parents, node)
    return roots
