"""Connected areas of maps of any size: adjacent pixels of one value, labelled strip by strip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import window_grid

_STRIP_PX = 1 << 24


def strips(grid: GeoBox) -> Iterator[tuple[int, GeoBox]]:
    """First row and grid of strips of full width: 512 rows, fewer where these exceed 16 million pixels."""
    rows, cols = grid.shape
    step = max(1, min(512, _STRIP_PX // max(cols, 1)))
    for row in range(0, rows, step):
        yield row, window_grid(grid, row, 0, min(step, rows - row), cols)


class ComponentCounter:
    """
    Connected areas of strips that are added from top to bottom; value 0 is no area.

    Numbers continue from strip to strip; `totals` gives the numbers that belong to one area. Memory grows with the
    number of areas, not with the number of pixels.
    """

    def __init__(self, *, eight: bool = False, quantities: int = 0) -> None:
        """`eight`: pixels also touch at corners; `quantities`: number of quantities to sum over each area."""
        self._eight = eight
        self._parents = np.zeros(1024, np.int64)
        self._sums = np.zeros((1024, quantities + 1))
        self._count = 0
        self._values = np.zeros(0, np.uint8)
        self._edge = np.zeros(0, np.int64)

    def add(self, values: NDArray[np.uint8], *quantities: NDArray[np.float64]) -> NDArray[np.int64]:
        """
        Number the areas of the next strip, (rows, cols) of int64, -1 where there is none.

        Parameters
        ----------
        values : (rows, cols) array of uint8
        quantities : (rows, cols) arrays
            Summed over each area, as many as declared.
        """
        labels, added = label_strip(np.ascontiguousarray(values), self._eight)
        first, self._count = self._count, self._count + added
        while self._count > len(self._parents):
            self._parents = np.concatenate([self._parents, np.zeros_like(self._parents)])
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        self._parents[first : self._count] = np.arange(first, self._count)
        flat = labels.ravel()
        for k, quantity in enumerate((None, *quantities)):
            weights = None if quantity is None else quantity.ravel()
            sums = np.bincount(flat, weights=weights, minlength=added + 1)[1:]
            self._sums[first : self._count, k] = sums
        numbers = np.where(labels > 0, labels.astype(np.int64) - 1 + first, -1)
        if self._edge.size:
            _join(self._parents, self._values, self._edge, values[0], numbers[0], self._eight)
        self._values, self._edge = values[-1].copy(), numbers[-1].copy()
        return numbers

    def totals(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """
        The smallest number of the area of each number, and the sums of that area.

        Returns
        -------
        roots : (n,) array of int64
        sums : (n, 1 + quantities) array
            Pixels, then the quantities, of the whole area, for each number.
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
    """Numbers of connected areas of one value from 1, 0 for value 0; and the number of areas."""
    rows, cols = values.shape
    labels = np.zeros((rows, cols), np.int32)
    parents = np.zeros(1024, np.int64)
    count = 1
    for r in range(rows):
        for c in range(cols):
            value = values[r, c]
            if value == 0:
                continue
            label = 0
            if c > 0 and values[r, c - 1] == value:
                label = labels[r, c - 1]
            if r > 0:
                for step in range(-1, 2):
                    at = c + step
                    if (step == 0 or eight) and 0 <= at < cols and values[r - 1, at] == value:
                        other = labels[r - 1, at]
                        if label == 0:
                            label = other
                        elif label != other:
                            label = _unite(parents, label, other)
            if label == 0:
                if count == parents.size:
                    larger = np.zeros(2 * count, np.int64)
                    larger[:count] = parents
                    parents = larger
                parents[count] = count
                label = count
                count += 1
            labels[r, c] = label
    final = np.zeros(count, np.int32)
    areas = 0
    for node in range(1, count):
        root = _find(parents, node)
        if root == node:
            areas += 1
            final[node] = areas
        else:
            final[node] = final[root]
    for r in range(rows):
        for c in range(cols):
            labels[r, c] = final[labels[r, c]]
    return labels, areas


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
