"""Calibration: whether a map is right as often as its confidence claims."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.core.legend import Legend

BINS = 15
"""Bins of the reliability diagram and of the calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Evaluated pixels whose confidence is above `low` and not above `high`."""

    low: float
    high: float
    evaluated_px: int
    confidence: float
    """Mean confidence; NaN without pixels."""
    accuracy: float
    """Share that is right; NaN without pixels."""

    @property
    def gap(self) -> float:
        """Confidence less accuracy: above 0 the map claims too much."""
        return self.confidence - self.accuracy


@dataclass(frozen=True, eq=False)
class Calibration:
    """
    Evaluated pixels by outcome, class and confidence.

    Examples
    --------
    >>> from tesela.core.legend import LandClass
    >>> legend = Legend("demo", (LandClass(1, "w", "Water", "#0000ff"),))
    >>> counts = np.zeros((2, 1, 101), np.int64)
    >>> counts[1, 0, 90], counts[0, 0, 90] = 3, 1   # four pixels claim 90 %, three are right
    >>> calibration = Calibration(legend, counts, unknown_px=0)
    >>> round(calibration.error(), 4), calibration.mean_confidence, calibration.accuracy
    (0.15, 0.9, 0.75)
    """

    legend: Legend
    counts: NDArray[np.int64]
    """(2, K, 101): wrong and right pixels, by class of the map, by confidence in whole per cent."""
    unknown_px: int
    """Evaluated pixels without a confidence."""

    @cached_property
    def evaluated_px(self) -> int:
        """Evaluated pixels with a confidence."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of them that is right."""
        return _mean(self.counts[1].sum(), self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        """Mean confidence of them, 0 to 1; NaN without any, as all means here."""
        return _confidence(self.counts.sum(axis=(0, 1)))

    @property
    def mean_where_right(self) -> float:
        """Mean confidence of right pixels."""
        return _confidence(self.counts[1].sum(axis=0))

    @property
    def mean_where_wrong(self) -> float:
        """Mean confidence of wrong pixels."""
        return _confidence(self.counts[0].sum(axis=0))

    def of_class(self, code: str) -> Calibration:
        """The pixels that the map shows as one class."""
        alone = np.zeros_like(self.counts)
        k = self.legend.codes.index(code)
        alone[:, k] = self.counts[:, k]
        return Calibration(self.legend, alone, unknown_px=0)

    def bins(self, count: int = BINS) -> tuple[ReliabilityBin, ...]:
        r"""Bins of equal width, :math:`((m - 1) / M, m / M]`; the first holds 0 too."""
        percent = np.arange(101)
        of = np.maximum(-(-percent * count // 100) - 1, 0)
        wrong, right = self.counts.sum(axis=1)
        bins = []
        for m in range(count):
            inside = of == m
            pixels = int((wrong + right)[inside].sum())
            bins.append(
                ReliabilityBin(
                    low=m / count,
                    high=(m + 1) / count,
                    evaluated_px=pixels,
                    confidence=_mean(((wrong + right) * percent)[inside].sum() / 100, pixels),
                    accuracy=_mean(right[inside].sum(), pixels),
                )
            )
        return tuple(bins)

    def error(self, count: int = BINS) -> float:
        r"""
        Expected calibration error, :math:`\sum_m \frac{n_m}{n} |a_m - c_m|` over bins of equal width.

        References
        ----------
        Guo et al. (2017), On calibration of modern neural networks, ICML, equation 3.
        """
        parts = [item.evaluated_px * abs(item.gap) for item in self.bins(count) if item.evaluated_px]
        return _mean(float(sum(parts)), self.evaluated_px)

    def accuracy_of_most_confident(self, share: float) -> float:
        """
        Accuracy of this share of the pixels, those with the highest confidence.

        Where only some pixels of one confidence are needed, right and wrong ones are taken in proportion.
        """
        wrong, right = self.counts.sum(axis=1)[:, ::-1]
        total = wrong + right
        wanted = share * total.sum()
        before = np.concatenate([[0], np.cumsum(total)[:-1]])
        taken = np.clip((wanted - before) / np.maximum(total, 1), 0, 1)
        return _mean(float((taken * right).sum()), float((taken * total).sum()))


class ConfidenceCounter:
    """Counts outcomes by confidence, window by window."""

    def __init__(self, legend: Legend, *, reference: Legend, predicted: Legend) -> None:
        self.legend = legend
        self.unknown_px = 0
        self.counts = np.zeros((2, len(legend), 101), np.int64)
        self._tables = np.stack(
            [legend.index_table[side.level_table(legend.depth)] for side in (reference, predicted)]
        )

    def count(
        self, reference: NDArray[np.uint8], predicted: NDArray[np.uint8], confidence: NDArray[np.uint8]
    ) -> None:
        """Count one window; all three of one shape, confidence 0 to 100 or 255 for none."""
        self.unknown_px += _count(reference, predicted, confidence, self._tables, self.counts)

    def result(self) -> Calibration:
        """The calibration of all windows counted."""
        return Calibration(self.legend, self.counts, unknown_px=self.unknown_px)


def _confidence(pixels: NDArray[np.int64]) -> float:
    return _mean((pixels * np.arange(101)).sum() / 100, pixels.sum())


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else float("nan")


@njit(cache=True, nogil=True)
def _count(
    reference: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    tables: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> int:  # pragma: no cover - compiled
    unknown = 0
    rows, cols = reference.shape
    for i in range(rows):
        for j in range(cols):
            truth, guess = tables[0, reference[i, j]], tables[1, predicted[i, j]]
            if truth == 255 or guess == 255:
                continue
            if confidence[i, j] > 100:
                unknown += 1
            else:
                counts[1 if truth == guess else 0, guess, confidence[i, j]] += 1
    return unknown
