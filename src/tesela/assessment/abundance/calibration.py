"""Calibration of abundances: whether errors are as large as the map's standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tesela.core.beta import probabilities_around

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Intervals whose coverage is reported."""

BINS = 12
_LEAST_PART = 1e-12
_WIDTH = 0.5 / BINS
"""Bins of claimed deviation from 0 to 0.5; no share's deviation can be larger."""


class CurveFigures(TypedDict):
    """One bin of claimed deviation."""

    claimed: float
    rmse: float
    shares: int


class CalibrationFigures(TypedDict):
    """Calibration, for JSON; coverage by the interval in per cent."""

    shares: int
    error: float
    coverage: dict[str, float]
    curve: list[CurveFigures]


@dataclass(frozen=True, eq=False)
class ShareCalibration:
    """Sums by claimed standard deviation over pixels and classes; those of disjoint pixels add up."""

    claimed: NDArray[np.float64]
    """(bins, 3): number of shares, sum of their claimed variances, sum of their squared errors."""
    inside: NDArray[np.float64]
    """(levels,) shares inside the central intervals of `LEVELS`; see `part_inside`."""

    @classmethod
    def empty(cls) -> ShareCalibration:
        """Calibration without shares."""
        return cls(np.zeros((BINS, 3)), np.zeros(len(LEVELS)))

    @classmethod
    def of(
        cls,
        truth: NDArray[np.floating],
        estimate: NDArray[np.floating],
        deviation: NDArray[np.floating],
    ) -> ShareCalibration:
        """Sum up shares of reference and map, and claimed deviations; arrays of one shape, without NaN."""
        t, p, s = (part.astype(np.float64).ravel() for part in (truth, estimate, deviation))
        number = np.clip((s / _WIDTH).astype(np.intp), 0, BINS - 1)
        parts = (np.ones_like(s), s * s, (p - t) ** 2)
        claimed = np.stack([np.bincount(number, weights=part, minlength=BINS) for part in parts], axis=-1)
        return cls(claimed.astype(np.float64), part_inside(t, p, s).sum(axis=-1))

    def __add__(self, other: ShareCalibration) -> ShareCalibration:
        return ShareCalibration(self.claimed + other.claimed, self.inside + other.inside)

    @property
    def count(self) -> int:
        """Evaluated shares: pixels times classes."""
        return int(self.claimed[:, 0].sum())

    @property
    def coverage(self) -> Mapping[str, float]:
        """Part of the reference's shares inside each interval of `LEVELS`, by the level in per cent."""
        return {
            f"{100 * level:.0f}": float(inside / max(self.count, 1))
            for level, inside in zip(LEVELS, self.inside, strict=True)
        }

    @property
    def curve(self) -> NDArray[np.float64]:
        """(bins, 3): claimed deviation, RMSE and number of shares; NaN in empty bins."""
        count = self.claimed[:, 0]
        out = np.full((BINS, 3), np.nan)
        some = count > 0
        out[some, 0] = np.sqrt(self.claimed[some, 1] / count[some])
        out[some, 1] = np.sqrt(self.claimed[some, 2] / count[some])
        out[:, 2] = count
        return out

    @property
    def error(self) -> float:
        """Mean gap between claimed deviation and RMSE, weighted by the shares in each bin (0 is best)."""
        curve = self.curve
        some = curve[:, 2] > 0
        gap = np.abs(curve[some, 0] - curve[some, 1])
        return float((gap * curve[some, 2]).sum() / max(self.count, 1))

    def to_dict(self) -> CalibrationFigures:
        """Coverage, error and curve, for JSON."""
        curve: list[CurveFigures] = [
            {"claimed": claimed, "rmse": rmse, "shares": int(count)}
            for claimed, rmse, count in self.curve.tolist()
            if count
        ]
        return {"shares": self.count, "error": self.error, "coverage": dict(self.coverage), "curve": curve}


def part_inside(
    truth: NDArray[np.float64], estimate: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""
    Part of each share inside the central interval that its map claims.

    The claim is the Beta distribution *F* with the map's mean and standard deviation. A share *t* is known to the
    resolution *r* (`tesela.core.beta`), so it covers the probabilities from :math:`F(t - r / 2)` to
    :math:`F(t + r / 2)`. The part of them between :math:`(1 - l) / 2` and :math:`(1 + l) / 2` is inside the interval of
    level *l*. Most shares are exactly 0: counted whole, they would all be inside even the narrowest interval of a well
    calibrated map. This is the nonrandomised probability integral transform [Czado2009]_; where the claims are right,
    its mean is *l*.

    Returns
    -------
    (levels, shares) array of float64
        From 0 to 1.
    """
    low, high = probabilities_around(truth, estimate, deviation)
    width = np.maximum(high - low, _LEAST_PART)
    ends = [(0.5 - level / 2, 0.5 + level / 2) for level in LEVELS]
    parts = [np.minimum(low + width, end) - np.maximum(low, start) for start, end in ends]
    return np.clip(np.stack(parts) / width, 0.0, 1.0)
