"""Counting pixels: how many have their centre in each cell of a grid."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.core.coverage import Cells, net_point

EDGE = 1e-9
"""Centres this near to an edge, in cells, count as on it."""


@numba.njit(cache=True, nogil=True)
def _count_centres(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    control: NDArray[np.float64],
    step: int,
    counts: Cells,
    pixels: NDArray[np.float64],
) -> None:
    rows, cols = values.shape
    for i in range(rows):
        for j in range(cols):
            x, y = net_point(control, step, i, j)
            x, y = np.floor(x + EDGE), np.floor(y + EDGE)
            if 0.0 <= x < pixels.shape[1] and 0.0 <= y < pixels.shape[0]:
                pixels[int(y), int(x)] += 1.0
                plane = plane_of[values[i, j]]
                if plane >= 0:
                    counts[plane, int(y), int(x)] += 1.0


def pixel_counts(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    *,
    control: NDArray[np.float64],
    step: int,
    shape: tuple[int, int, int],
) -> tuple[Cells, NDArray[np.float64]]:
    """
    How many pixels of a class raster have their centre in each cell of a grid, by plane and in all.

    A centre on an edge between cells counts in the one to the right or below.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values.
    plane_of : (256,) array
        Plane of each value; negative: counted in no plane.
    control : (2, points down, points across) array
        x and y in cells of the centre of every `step`-th pixel, at least `rows` and `cols` pixels far; the
        centres between are interpolated bilinearly.
    step : int
        Pixels from control point to control point.
    shape : (int, int, int)
        Planes, rows and columns of the result.

    Returns
    -------
    counts : (planes, rows, cols) array of float64
    pixels : (rows, cols) array of float64
        Pixels of all values, those of no plane too.
    """
    counts, pixels = np.zeros(shape), np.zeros(shape[1:])
    _count_centres(values, plane_of, control, step, counts, pixels)
    return counts, pixels
