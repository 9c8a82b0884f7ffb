"""Gaps of series, filled in time: what trees see beside the gaps themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_gaps(series: NDArray[np.floating]) -> NDArray[np.float32]:
    """
    Fill gaps on the straight line between the observations before and after; at the ends the nearest one is repeated.

    Each band is filled by itself.

    Parameters
    ----------
    series : (..., steps, bands) array of float
        NaN for gaps.

    Returns
    -------
    (..., steps, bands) array of float32
        NaN in bands without any observation.

    Examples
    --------
    >>> fill_gaps(np.array([[np.nan], [1.0], [np.nan], [np.nan], [4.0]])).ravel().tolist()
    [1.0, 1.0, 2.0, 3.0, 4.0]
    """
    values = np.moveaxis(np.asarray(series, np.float32), -2, 0)
    seen = np.isfinite(values)
    count = len(values)
    step = np.arange(count, dtype=np.int16).reshape(-1, *[1] * (values.ndim - 1))
    before = np.maximum.accumulate(np.where(seen, step, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, step, count)[::-1], axis=0)[::-1]
    none = (before < 0) & (after == count)
    first = np.where(none, 0, np.where(before < 0, after, before))
    second = np.where(none, 0, np.where(after == count, before, after))
    left, right = (np.take_along_axis(values, at.astype(np.intp), axis=0) for at in (first, second))
    part = (step - first) / np.maximum(second - first, 1).astype(np.float32)
    between = left + np.where(second > first, part, 0).astype(np.float32) * (right - left)
    return np.moveaxis(np.where(seen, values, between), 0, -2)
