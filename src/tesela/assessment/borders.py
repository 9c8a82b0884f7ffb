"""Class borders: agreement of map and reference by distance from the borders of the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.confusion import Confusion
from tesela.core.errors import InputError
from tesela.core.grid import has_true_lengths
from tesela.io.raster import raster_crs

EDGES_PX = (1.0, 2.0, 5.0, 10.0)
"""Default ends of the bins of distance, in pixels of the map; one more bin holds all pixels further away."""

_MOST_PX = 100.0
"""Most distant edge; it decides the rim with which windows are read."""


@dataclass(frozen=True)
class BorderBand:
    """Pixels at one distance from the borders of the reference."""

    low_px: float
    high_px: float
    """Infinite beyond the last edge."""
    confusion: Confusion


@dataclass(frozen=True)
class BorderAgreement:
    """Confusions by distance from the class borders of the reference; they add up to the whole."""

    bands: tuple[BorderBand, ...]
    """Nearest first."""
    pixel_m: float | None
    """Side of a pixel in metres; None where CRS units are no lengths on the ground, or pixels are not square."""


def check_edges(edges_px: Sequence[float]) -> tuple[float, ...]:
    """
    The edges of the bins of distance as floats.

    Raises
    ------
    InputError
        If they do not rise, the first is under half a pixel, or the last beyond 100 px.
    """
    edges = tuple(float(edge) for edge in edges_px)
    rising = all(one < other for one, other in pairwise(edges))
    if edges and not (rising and edges[0] >= 0.5 and edges[-1] <= _MOST_PX):
        raise InputError(
            f"Distances from borders end at {', '.join(f'{edge:g}' for edge in edges)} px; they must rise from "
            f"at least 0.5 px to at most {_MOST_PX:g} px of the map, such as 1, 2, 5, 10."
        )
    return edges


def rim_px(edges_px: Sequence[float]) -> int:
    """Width of the rim around a window that its bins depend on, in pixels."""
    return math.ceil(edges_px[-1]) + 1


def border_bins(values: NDArray[np.uint8], edges_px: Sequence[float], *, rim: int) -> NDArray[np.uint8]:
    r"""
    Bin of distance from the nearest class border, for the inner pixels of a window.

    A pixel touches a border if one of its four neighbours has another class; nodata and the edge of the map do
    not count as borders. The distance of a pixel is :math:`d + 1/2` pixels, :math:`d` the Euclidean distance between
    its centre and that of the nearest pixel that touches a border.

    Parameters
    ----------
    values : (rows + 2 rim, cols + 2 rim) array of uint8
        Class values; 0 is nodata.
    edges_px : sequence of float
        Bin k reaches from edge k - 1, not included, to edge k.
    rim : int
        At least `rim_px`, for exact bins.

    Returns
    -------
    (rows, cols) array of uint8
        0 to ``len(edges_px)``.

    Examples
    --------
    >>> row = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 2]], np.uint8)
    >>> border_bins(np.pad(row, 4), [1, 2], rim=4).tolist()
    [[2, 2, 1, 0, 0, 1, 2, 2, 2]]
    """
    limits = np.floor((np.asarray(edges_px, np.float64) - 0.5) ** 2).astype(np.uint16)
    above = _rows_to_border(values, np.uint8(rim_px(edges_px)))
    return _bins(above, limits, rim)


def pixel_side_m(grid: GeoBox) -> float | None:
    """Side of a pixel in metres; None where CRS units are no lengths on the ground, or pixels are not square."""
    step = grid.affine
    width, height = math.hypot(step.a, step.d), math.hypot(step.b, step.e)
    if not has_true_lengths(grid) or abs(width / height - 1) > 1e-3:
        return None
    return width * float(raster_crs(grid).linear_units_factor[1])


# Conditional expressions instead of min(), and separate loops: the compiler then processes 32 pixels at once.


@njit(cache=True, nogil=True)
def _rows_to_border(
    values: NDArray[np.uint8], far: np.uint8
) -> NDArray[np.uint8]:  # pragma: no cover - compiled
    """Rows to the nearest pixel of the column that touches a border; `far` where that is further."""
    rows, cols = values.shape
    out = np.full((rows, cols), far, np.uint8)
    for i in range(rows):
        for k in range(max(0, i - 1), min(rows, i + 2)):
            for j in range(cols):
                here, there = values[i, j], values[k, j]
                touches = (here != there) & (here != 0) & (there != 0)
                out[i, j] = np.uint8(0) if touches else out[i, j]
        for j in range(cols - 1):
            here, there = values[i, j], values[i, j + 1]
            touches = (here != there) & (here != 0) & (there != 0)
            out[i, j] = np.uint8(0) if touches else out[i, j]
        for j in range(1, cols):
            here, there = values[i, j], values[i, j - 1]
            touches = (here != there) & (here != 0) & (there != 0)
            out[i, j] = np.uint8(0) if touches else out[i, j]
    for i in range(1, rows):
        for j in range(cols):
            further = np.uint8(out[i - 1, j] + np.uint8(1))
            out[i, j] = further if further < out[i, j] else out[i, j]
    for i in range(rows - 2, -1, -1):
        for j in range(cols):
            further = np.uint8(out[i + 1, j] + np.uint8(1))
            out[i, j] = further if further < out[i, j] else out[i, j]
    return out


@njit(cache=True, nogil=True)
def _bins(
    above: NDArray[np.uint8], limits: NDArray[np.uint16], rim: int
) -> NDArray[np.uint8]:  # pragma: no cover - compiled
    """Number of limits that the squared distance exceeds, for the pixels inside the rim."""
    rows, cols = above.shape[0] - 2 * rim, above.shape[1] - 2 * rim
    reach = int(np.sqrt(limits[-1]))
    out = np.zeros((rows, cols), np.uint8)
    square = np.empty(cols + 2 * rim, np.uint16)
    nearest = np.empty(cols, np.uint16)
    for i in range(rows):
        for j in range(cols + 2 * rim):
            distance = np.uint16(above[i + rim, j])
            square[j] = np.uint16(distance * distance)
        for j in range(cols):
            nearest[j] = square[j + rim]
        for step in range(1, reach + 1):
            extra = np.uint16(step * step)
            left, right = square[rim - step : rim - step + cols], square[rim + step : rim + step + cols]
            for j in range(cols):
                lower = left[j] if left[j] < right[j] else right[j]
                lower = np.uint16(lower + extra)
                nearest[j] = lower if lower < nearest[j] else nearest[j]
        line = out[i]
        for limit in limits:
            for j in range(cols):
                line[j] = np.uint8(line[j] + np.uint8(1)) if nearest[j] > limit else line[j]
    return out
