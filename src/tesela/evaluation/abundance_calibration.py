"""Calibration of abundances: whether errors are as large as the map's own uncertainty says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Intervals whose coverage is told."""

BINS = 12
_WIDTH = 0.5 / BINS
"""Bins of claimed deviation from 0 to 0.5; no share's deviation can be larger."""


@dataclass(frozen=True, eq=False)
class ShareCalibration:
    """Sums by claimed standard deviation over pixels and classes; those of disjoint ground add up."""

    claimed: NDArray[np.float64]
    """(bins, 3): number of shares, sum of their claimed variances, sum of their squared errors."""
    inside: NDArray[np.float64]
    """(levels,) shares whose error lies inside the interval of `LEVELS`."""

    @classmethod
    def empty(cls) -> ShareCalibration:
        """No share."""
        return cls(np.zeros((BINS, 3)), np.zeros(len(LEVELS)))

    @classmethod
    def of(cls, error: NDArray[np.floating], deviation: NDArray[np.floating]) -> ShareCalibration:
        """Sum up errors and claimed standard deviations of the same shape, without NaN."""
        e, s = error.astype(np.float64).ravel(), deviation.astype(np.float64).ravel()
        number = np.clip((s / _WIDTH).astype(np.intp), 0, BINS - 1)
        parts = (np.ones_like(s), s * s, e * e)
        claimed = np.stack([np.bincount(number, weights=part, minlength=BINS) for part in parts], axis=-1)
        reach = [NormalDist().inv_cdf(0.5 + level / 2) for level in LEVELS]
        inside = np.array([float((np.abs(e) <= z * s).sum()) for z in reach])
        return cls(claimed.astype(np.float64), inside)

    def __add__(self, other: ShareCalibration) -> ShareCalibration:
        return ShareCalibration(self.claimed + other.claimed, self.inside + other.inside)

    @property
    def count(self) -> int:
        """Shares judged: pixels times classes."""
        return int(self.claimed[:, 0].sum())

    @property
    def coverage(self) -> Mapping[str, float]:
        """Share of the errors inside the interval that should hold this part of them, by that part in per cent."""
        return {
            f"{100 * level:.0f}": float(inside / max(self.count, 1))
            for level, inside in zip(LEVELS, self.inside, strict=True)
        }

    @property
    def curve(self) -> NDArray[np.float64]:
        """(bins, 3): claimed deviation, found RMSE and number of shares; NaN in empty bins."""
        count = self.claimed[:, 0]
        out = np.full((BINS, 3), np.nan)
        some = count > 0
        out[some, 0] = np.sqrt(self.claimed[some, 1] / count[some])
        out[some, 1] = np.sqrt(self.claimed[some, 2] / count[some])
        out[:, 2] = count
        return out

    @property
    def error(self) -> float:
        """Mean gap between claimed deviation and found RMSE, weighted by the shares in each bin (0 is best)."""
        curve = self.curve
        some = curve[:, 2] > 0
        gap = np.abs(curve[some, 0] - curve[some, 1])
        return float((gap * curve[some, 2]).sum() / max(self.count, 1))

    def to_dict(self) -> dict[str, object]:
        """Coverage, error and curve, for JSON."""
        curve = [
            {"claimed": claimed, "rmse": rmse, "shares": int(count)}
            for claimed, rmse, count in self.curve.tolist()
            if count
        ]
        return {"shares": self.count, "error": self.error, "coverage": dict(self.coverage), "curve": curve}
