"""Class shares of cells: sums to coarser levels, and the size of the cells on the ground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_METRES_PER_DEGREE = 111_319.49
"""Along the equator of WGS 84."""


def sum_to_level(shares: NDArray[np.floating], legend: Legend, depth: int) -> NDArray[np.float32]:
    """
    Shares of the classes of a coarser level: each is the sum of its children's.

    Parameters
    ----------
    shares : (classes, ...) array of float
        In the order of `legend`; NaN stays NaN.

    Returns
    -------
    (classes of the level, ...) array of float32
    """
    coarse = legend.level(depth)
    parents = coarse.index_table[legend.level_table(depth)[list(legend.values)]]
    out = np.zeros((len(coarse), *shares.shape[1:]), np.float64)
    np.add.at(out, parents, shares)
    return out.astype(np.float32)


def pixel_size_m(grid: GeoBox) -> tuple[float, float]:
    """Width and height of a pixel in metres; of a grid in degrees, at its middle on the sphere."""
    width, height = abs(float(grid.resolution.x)), abs(float(grid.resolution.y))
    if grid.crs is not None and grid.crs.geographic:
        middle = math.radians(grid.extent.centroid.coords[0][1])
        return width * _METRES_PER_DEGREE * math.cos(middle), height * _METRES_PER_DEGREE
    return width, height
