"""Rules that compose one pixel from several observations; compiled by numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numba
import numpy as np
from numpy.typing import NDArray

Stack = NDArray[np.uint16]
"""(observations, bands, rows, cols) reflectance x 10000; 0 in all bands where an observation has no clear view."""

Rule = Callable[[Stack, NDArray[np.float32]], NDArray[np.uint16]]
"""From a stack and the (observations, rows, cols) scores of its pixels to (bands, rows, cols)."""


@numba.njit(cache=True, nogil=True)
def median(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Median of each band; for an even number the mean of the two middle ones, rounded half up."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    held = np.empty(count, np.uint16)
    for row in range(rows):
        for col in range(cols):
            for band in range(bands):
                n = 0
                for k in range(count):
                    value = stack[k, band, row, col]
                    if value == 0:
                        continue
                    slot = n
                    while slot > 0 and held[slot - 1] > value:
                        held[slot] = held[slot - 1]
                        slot -= 1
                    held[slot] = value
                    n += 1
                if n:
                    out[band, row, col] = (int(held[(n - 1) // 2]) + int(held[n // 2]) + 1) // 2
    return out


@numba.njit(cache=True, nogil=True)
def best(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """All bands of the observation with the highest score; the first of equal ones."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    for row in range(rows):
        for col in range(cols):
            chosen = -1
            for k in range(count):
                if stack[k, 0, row, col] and (chosen < 0 or score[k, row, col] > score[chosen, row, col]):
                    chosen = k
            if chosen >= 0:
                for band in range(bands):
                    out[band, row, col] = stack[chosen, band, row, col]
    return out


@numba.njit(cache=True, nogil=True)
def medoid(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """All bands of the observation with the smallest sum of Euclidean distances to the others [Flood2013]_."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    total = np.empty(count, np.float64)
    for row in range(rows):
        for col in range(cols):
            total[:] = 0.0
            for k in range(count):
                if stack[k, 0, row, col] == 0:
                    continue
                for other in range(k):
                    if stack[other, 0, row, col] == 0:
                        continue
                    square = 0.0
                    for band in range(bands):
                        step = float(stack[k, band, row, col]) - float(stack[other, band, row, col])
                        square += step * step
                    total[k] += np.sqrt(square)
                    total[other] += np.sqrt(square)
            chosen = -1
            for k in range(count):
                if stack[k, 0, row, col] and (chosen < 0 or total[k] < total[chosen]):
                    chosen = k
            if chosen >= 0:
                for band in range(bands):
                    out[band, row, col] = stack[chosen, band, row, col]
    return out


RULES: Mapping[str, Rule] = {"median": median, "best": best, "medoid": medoid}
"""By name."""


def scores(
    distance_m: NDArray[np.float32], days: NDArray[np.float32], *, half_days: float, most_m: float
) -> NDArray[np.float32]:
    r"""
    Score each pixel after [Griffiths2013]_: far from clouds and near the middle of the period is better.

    .. math:: s = d / d_\max + \exp(-t^2 / 2 \sigma^2)

    Parameters
    ----------
    distance_m : (observations, rows, cols) array of float32
        To the nearest cloud or shadow, at most `most_m`.
    days : (observations,) array of float32
        From the middle of the period.
    half_days : float
        Half the length of the period, :math:`\sigma`.
    """
    near = np.exp(-0.5 * (days / np.float32(half_days)) ** 2)
    return np.asarray(distance_m / np.float32(most_m) + near[:, np.newaxis, np.newaxis], np.float32)
