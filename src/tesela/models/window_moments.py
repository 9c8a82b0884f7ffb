"""Wide context: means and deviations of series and layers over square windows, at the cost of a few sums per pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS = 1 << 16
"""Scaled values are rounded to one over this number, so that sums are exact and do not depend on where they begin."""

_MOST = 1000.0
"""Larger values are cut: the squares of a window must fit in 64 bits."""


def margin_of_windows(sides: Sequence[int]) -> int:
    """Pixels that the largest of some windows reaches on each side."""
    return max(sides, default=1) // 2


def window_moments(
    values: NDArray[np.floating], sides: Sequence[int], *, margin_px: int
) -> NDArray[np.float32]:
    """
    Means and deviations of the observed values in square windows around each pixel.

    Each window is four corners of a table of cumulative sums, so a wide window costs as much as a narrow one. Sums are
    of whole numbers: the same pixels give the same bits in any block of a map.

    Parameters
    ----------
    values : (blocks, rows + 2 margin, cols + 2 margin, channels) array of float
        Scaled; what is not finite is not counted.
    sides : sequence of int
        Odd sides of the windows, in pixels.
    margin_px : int
        At least half of the largest side.

    Returns
    -------
    (blocks, rows, cols, 2 sides x channels) array of float32
        For each side the means of all channels, then their deviations; NaN where nothing was observed.

    Examples
    --------
    >>> image = np.array([[[[1.0], [2.0], [3.0]]] * 3])
    >>> np.float64(window_moments(image, [3], margin_px=1)).round(3).tolist()
    [[[[2.0, 0.816]]]]
    """
    seen = np.isfinite(values)
    whole = np.rint(np.clip(np.where(seen, values, 0), -_MOST, _MOST) * _STEPS).astype(np.int64)
    tables = [_integral(part) for part in (seen.astype(np.int64), whole, whole * whole)]
    parts = []
    for side in sides:
        count, first, second = (_box(table, margin_px - side // 2, side, margin_px) for table in tables)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = first / count
            spread = np.sqrt(np.maximum(second / count - mean * mean, 0))
        parts += [(mean / _STEPS).astype(np.float32), (spread / _STEPS).astype(np.float32)]
    return np.concatenate(parts, axis=-1)


def _integral(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of all values above and to the left; they may wrap around, the differences of a window do not."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1, values.shape[2] + 1, values.shape[3]), np.int64)
    np.cumsum(values, axis=1, out=sums[:, 1:, 1:])
    np.cumsum(sums[:, 1:, 1:], axis=2, out=sums[:, 1:, 1:])
    return sums


def _box(sums: NDArray[np.int64], start: int, side: int, margin_px: int) -> NDArray[np.int64]:
    """Sum over the window of each inner pixel."""
    rows, cols = (length - 1 - 2 * margin_px for length in sums.shape[1:3])
    top, bottom = slice(start, start + rows), slice(start + side, start + side + rows)
    left, right = slice(start, start + cols), slice(start + side, start + side + cols)
    box: NDArray[np.int64] = (
        sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
    )
    return box
