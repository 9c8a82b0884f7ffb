"""The confusion: pixels counted by reference class and map class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.core.errors import InputError, LegendError
from tesela.core.legend import NODATA, Legend


@dataclass(frozen=True, eq=False, repr=False)
class Confusion:
    """
    Pixels by reference class and map class; confusions of disjoint areas add up.

    A pixel is *evaluated* where both sides have a class: `counts` holds these pixels only. Pixels with a class
    on one side only are counted apart, by that class.

    Examples
    --------
    >>> from tesela.core.legend import LandClass
    >>> legend = Legend("demo", (LandClass(1, "w", "Water", "#0000ff"), LandClass(2, "l", "Land", "#00ff00")))
    >>> reference, predicted = np.array([1, 1, 2, 0], np.uint8), np.array([1, 2, 0, 2], np.uint8)
    >>> confusion = count_confusion(reference, predicted, legend)
    >>> confusion.counts.tolist(), confusion.unmapped.tolist(), confusion.unreferenced.tolist()
    ([[1, 1], [0, 0]], [0, 1], [0, 1])
    """

    legend: Legend
    counts: NDArray[np.int64]
    """(K, K): row is the class of the reference, column the class of the map, in the legend's order."""
    unmapped: NDArray[np.int64]
    """(K,): pixels of each reference class where the map has no data."""
    unreferenced: NDArray[np.int64]
    """(K,): pixels of each map class where the reference has no data."""

    def __post_init__(self) -> None:
        size = len(self.legend)
        for name, shape in (("counts", (size, size)), ("unmapped", (size,)), ("unreferenced", (size,))):
            array = np.array(getattr(self, name), np.int64)
            if array.shape != shape:
                raise LegendError(
                    f"{name} of a confusion has the shape {array.shape}; legend '{self.legend.address}' "
                    f"of {size} classes needs {shape}."
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        return f"<Confusion {self.legend.address}: {self.evaluated_px} px evaluated>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Confusion):
            return NotImplemented
        arrays = ("counts", "unmapped", "unreferenced")
        return self.legend.same_classes(other.legend) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared by value, never looked up

    def __add__(self, other: Confusion) -> Confusion:
        if not self.legend.same_classes(other.legend):
            raise LegendError(
                f"Confusions in legend '{self.legend.address}' and in '{other.legend.address}' cannot be "
                f"added; count both in one legend, or cut both at one level (at_level)."
            )
        return Confusion(
            self.legend,
            self.counts + other.counts,
            self.unmapped + other.unmapped,
            self.unreferenced + other.unreferenced,
        )

    @property
    def evaluated_px(self) -> int:
        """Pixels with a class on both sides."""
        return int(self.counts.sum())

    @property
    def unmapped_px(self) -> int:
        """Pixels with a class in the reference only."""
        return int(self.unmapped.sum())

    @property
    def unreferenced_px(self) -> int:
        """Pixels with a class in the map only."""
        return int(self.unreferenced.sum())

    @property
    def reference_px(self) -> NDArray[np.int64]:
        """Evaluated pixels of each reference class, (K,)."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def predicted_px(self) -> NDArray[np.int64]:
        """Evaluated pixels of each map class, (K,)."""
        return np.asarray(self.counts.sum(axis=0))

    @property
    def coverage(self) -> float:
        """Share of the reference's pixels for which the map has a class; NaN without any."""
        referenced = self.evaluated_px + self.unmapped_px
        return self.evaluated_px / referenced if referenced else float("nan")

    def at_level(self, depth: int) -> Confusion:
        """
        The same pixels counted by the classes of a coarser level.

        Raises
        ------
        LegendError
            If the legend has no such level.
        """
        coarse = self.legend.level(depth)
        into = np.zeros((len(self.legend), len(coarse)), np.int64)
        for row, code in enumerate(self.legend.codes):
            into[row, coarse.codes.index(self.legend.ancestor(code, depth).code)] = 1
        return Confusion(
            coarse, into.T @ self.counts @ into, into.T @ self.unmapped, into.T @ self.unreferenced
        )

    @classmethod
    def empty(cls, legend: Legend) -> Confusion:
        """Confusion without pixels: the zero of addition."""
        none = np.zeros(len(legend), np.int64)
        return cls(legend, np.zeros((len(legend), len(legend)), np.int64), none, none)


def count_confusion(
    reference_values: NDArray[np.uint8],
    predicted_values: NDArray[np.uint8],
    legend: Legend,
    *,
    level: int | None = None,
) -> Confusion:
    """
    Count the pixels of two class arrays on one grid.

    Parameters
    ----------
    reference_values, predicted_values : arrays of uint8, of one shape
        Values of `legend`; 0 is nodata.
    level : int, optional
        Count by the classes of this coarser level; default: the legend's own.

    Raises
    ------
    InputError
        If the shapes differ, or the arrays are not uint8.
    LegendError
        If an array holds values that the legend does not have.
    """
    counted = legend if level is None else legend.level(level)
    counter = PairCounter(counted, reference=legend, predicted=legend)
    return counter.count(reference_values, predicted_values)


class PairCounter:
    """
    Counts pairs of values, window by window.

    The two sides may hold values of different levels of one tree: a table of 256 entries translates each to
    `legend`. Pixels use four counters in turn. Maps have long runs of one class, and with a single counter each
    addition would wait for the one before it. 100 million pixels take about 0.1 CPU-seconds.
    """

    def __init__(self, legend: Legend, *, reference: Legend, predicted: Legend) -> None:
        self.legend = legend
        self._sides = (reference, predicted)
        self._width = len(legend) + 2
        self._tables = np.stack(
            [_position_table(reference, legend) * np.int32(self._width), _position_table(predicted, legend)]
        )

    def count(self, reference_values: NDArray[np.uint8], predicted_values: NDArray[np.uint8]) -> Confusion:
        """Count one pair of arrays of one shape; see `count_confusion`."""
        _check_pair(reference_values, predicted_values)
        pairs = _count_pairs(
            np.ascontiguousarray(reference_values).ravel(),
            np.ascontiguousarray(predicted_values).ravel(),
            self._tables,
        )
        return self._confusions(pairs[None], reference_values, predicted_values)[0]

    def count_groups(
        self,
        reference_values: NDArray[np.uint8],
        predicted_values: NDArray[np.uint8],
        groups: NDArray[np.unsignedinteger],
        *,
        size: int,
    ) -> list[Confusion]:
        """
        Count one pair of arrays by groups of pixels, such as distances or regions.

        Parameters
        ----------
        groups : array of unsigned integers, of the same shape
            Number of each pixel's group, under `size`.
        """
        _check_pair(reference_values, predicted_values)
        pairs = _count_groups(reference_values, predicted_values, groups, self._tables, size)
        return self._confusions(pairs, reference_values, predicted_values)

    def _confusions(
        self,
        pairs: NDArray[np.int64],
        reference_values: NDArray[np.uint8],
        predicted_values: NDArray[np.uint8],
    ) -> list[Confusion]:
        pairs = pairs.reshape(-1, self._width, self._width)
        if pairs[:, -1].any() or pairs[:, :, -1].any():
            for where, values, side in zip(
                ("The reference", "The map"), (reference_values, predicted_values), self._sides, strict=True
            ):
                side.check_values(np.unique(values).tolist(), where=where)
        return [Confusion(self.legend, part[:-2, :-2], part[:-2, -2], part[-2, :-2]) for part in pairs]


def _check_pair(reference_values: NDArray[np.uint8], predicted_values: NDArray[np.uint8]) -> None:
    if reference_values.shape != predicted_values.shape:
        raise InputError(
            f"The reference has {reference_values.shape} pixels and the map {predicted_values.shape}; "
            f"they must be on one grid (MapReader.read does that)."
        )
    if reference_values.dtype != np.uint8 or predicted_values.dtype != np.uint8:
        raise InputError(
            f"Class values came as {reference_values.dtype} and {predicted_values.dtype}; they must be uint8."
        )


def _position_table(side: Legend, legend: Legend) -> NDArray[np.int32]:
    """From raster value of `side` to position in `legend`; K for nodata, K + 1 for values that `side` lacks."""
    table = np.full(256, len(legend) + 1, np.int32)
    table[NODATA] = len(legend)
    for item in side.classes:
        table[item.value] = legend.codes.index(side.ancestor(item.code, legend.depth).code)
    return table


@njit(cache=True, nogil=True)
def _count_pairs(
    rows: NDArray[np.uint8], columns: NDArray[np.uint8], tables: NDArray[np.int32]
) -> NDArray[np.int64]:  # pragma: no cover - compiled
    row_of, column_of = tables[0], tables[1]
    counts = np.zeros((4, row_of.max() + column_of.max() + 1), np.int64)
    whole = rows.size // 4 * 4
    for i in range(0, whole, 4):
        counts[0, row_of[rows[i]] + column_of[columns[i]]] += 1
        counts[1, row_of[rows[i + 1]] + column_of[columns[i + 1]]] += 1
        counts[2, row_of[rows[i + 2]] + column_of[columns[i + 2]]] += 1
        counts[3, row_of[rows[i + 3]] + column_of[columns[i + 3]]] += 1
    for i in range(whole, rows.size):
        counts[0, row_of[rows[i]] + column_of[columns[i]]] += 1
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total


@njit(cache=True, nogil=True)
def _count_groups(
    rows: NDArray[np.uint8],
    columns: NDArray[np.uint8],
    groups: NDArray[np.unsignedinteger],
    tables: NDArray[np.int32],
    size: int,
) -> NDArray[np.int64]:  # pragma: no cover - compiled
    row_of, column_of = tables[0], tables[1]
    width = row_of.max() + column_of.max() + 1
    counts = np.zeros((4, size * width), np.int64)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            pair = row_of[rows[i, j]] + column_of[columns[i, j]]
            counts[j & 3, groups[i, j] * width + pair] += 1
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total
