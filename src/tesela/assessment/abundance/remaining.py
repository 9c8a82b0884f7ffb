"""Which errors of an abundance map remain: of pure and mixed pixels, at borders, of rare classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend

PURE = 0.95
"""Least share of one class in a pixel that is called pure."""
RARE = 0.05
"""A class that covers less than this part of the evaluated area is called rare."""

KINDS = ("pure, inside", "pure, at a border", "mixed, inside", "mixed, at a border")
"""Each pixel is of one kind; at a border, one of its four neighbours has another largest class in the reference."""


class RemainingFigures(TypedDict):
    """Parts of all pixels and of all errors, 0 to 1."""

    name: str
    pixels: float
    absolute: float
    squared: float


@dataclass(frozen=True, eq=False)
class RemainingErrors:
    """Errors by kind of pixel and by the largest class of the reference; those of disjoint areas add up."""

    legend: Legend
    sums: NDArray[np.float64]
    """(kinds, classes, 3): pixels, and the sums over all classes of absolute and of squared errors."""
    area: NDArray[np.float64]
    """(classes,) sum of the shares of the reference."""

    @classmethod
    def empty(cls, legend: Legend) -> RemainingErrors:
        """Sums without pixels."""
        return cls(legend, np.zeros((len(KINDS), len(legend), 3)), np.zeros(len(legend)))

    @classmethod
    def of(
        cls,
        legend: Legend,
        truth: NDArray[np.floating],
        estimate: NDArray[np.floating],
        evaluated: NDArray[np.bool_],
    ) -> RemainingErrors:
        """
        Sum up a window.

        Parameters
        ----------
        truth, estimate : (classes, rows, cols) arrays
            Shares, 0 to 1; NaN where there are none.
        evaluated : (rows, cols) array of bool
        """
        known = np.isfinite(truth).all(axis=0)
        largest = np.where(known, np.nan_to_num(truth).argmax(axis=0), -1)
        kind = 2 * (np.nan_to_num(truth).max(axis=0) < PURE) + at_borders(largest)
        error = np.where(evaluated, np.abs(np.nan_to_num(estimate) - np.nan_to_num(truth)), 0.0)
        place = (kind * len(legend) + largest)[evaluated]
        size = len(KINDS) * len(legend)
        parts = (
            np.ones(int(evaluated.sum())),
            error.sum(axis=0)[evaluated],
            (error**2).sum(axis=0)[evaluated],
        )
        sums = np.stack([np.bincount(place, weights=part, minlength=size) for part in parts], axis=-1)
        area = np.where(evaluated, np.nan_to_num(truth), 0.0).sum(axis=(1, 2))
        table = sums.astype(np.float64).reshape(len(KINDS), len(legend), 3)
        return cls(legend, table, area.astype(np.float64))

    def __add__(self, other: RemainingErrors) -> RemainingErrors:
        return RemainingErrors(self.legend, self.sums + other.sums, self.area + other.area)

    @property
    def rare(self) -> NDArray[np.bool_]:
        """(classes,) which of those that occur are rare."""
        part = self.area / max(self.area.sum(), 1e-12)
        return np.asarray((part > 0) & (part < RARE))

    @property
    def by_kind(self) -> list[RemainingFigures]:
        """Parts by kind of pixel."""
        return self._figures(KINDS, self.sums.sum(axis=1))

    @property
    def by_class(self) -> list[RemainingFigures]:
        """Parts by the largest class of the reference, of the classes that are the largest somewhere."""
        sums = self.sums.sum(axis=0)
        held = np.flatnonzero(sums[:, 0])
        names = [self.legend.names[k] + (" (rare)" if self.rare[k] else "") for k in held]
        return self._figures(names, sums[held])

    def to_dict(self) -> dict[str, list[RemainingFigures]]:
        """All parts, for JSON."""
        return {"by_kind": self.by_kind, "by_class": self.by_class}

    def _figures(
        self, names: tuple[str, ...] | list[str], sums: NDArray[np.float64]
    ) -> list[RemainingFigures]:
        total = np.maximum(self.sums.sum(axis=(0, 1)), 1e-12)
        return [
            {"name": name, "pixels": float(row[0]), "absolute": float(row[1]), "squared": float(row[2])}
            for name, row in zip(names, sums / total, strict=True)
        ]


def at_borders(largest: NDArray[np.integer]) -> NDArray[np.bool_]:
    """
    Where one of the four neighbours has another class; unknown ones (-1) and the edge of the window do not count.

    Examples
    --------
    >>> at_borders(np.array([[0, 0, 1], [0, -1, 1]])).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    """
    border = np.zeros(largest.shape, np.bool_)
    for axis in (0, 1):
        first = largest[:-1] if axis == 0 else largest[:, :-1]
        second = largest[1:] if axis == 0 else largest[:, 1:]
        differs = (first != second) & (first >= 0) & (second >= 0)
        if axis == 0:
            border[:-1] |= differs
            border[1:] |= differs
        else:
            border[:, :-1] |= differs
            border[:, 1:] |= differs
    return border
