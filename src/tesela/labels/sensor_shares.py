"""Shares as a sensor sees them: the cells shifted onto the image, each weighted by its point-spread function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, unknown_name

PSFS = ("none", "modis")
"""Point-spread functions by name."""

PARTS = 8
"""Parts of a cell along the scan, whose shares are exact and weighted one by one."""


class AreaReader(Protocol):
    """As `tesela.labels.fractions.ShareReader`."""

    block_cells: int

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """(planes, rows, cols) area of each plane in each cell of a window, in cells."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def check_psf(name: str) -> None:
    """
    Check the name of a point-spread function.

    Raises
    ------
    InputError
        If it is unknown.
    """
    if name not in PSFS:
        raise InputError(unknown_name("point-spread function", name, PSFS))


def shifted_grid(like: GeoBox, shift: tuple[float, float]) -> GeoBox:
    """Cells moved by (rows, columns), in cells: those that the image shows in place of `like`."""
    return GeoBox(like.shape, like.affine * Affine.translation(shift[1], shift[0]), like.crs)


def scan_weights(parts: int) -> NDArray[np.float64]:
    """
    Weights of the parts of three cells in the middle one, (3, parts): a triangle two cells wide; their sum is 1.

    The scanner's mirror turns by one cell while a detector integrates, so its response along the scan is the box of
    the detector convolved with that of the motion; across the scan it is the box alone (Tan et al. 2006).

    Examples
    --------
    >>> scan_weights(2).tolist()
    [[0.0, 0.125], [0.375, 0.375], [0.125, 0.0]]
    """
    edges = np.abs(np.linspace(-1.5, 1.5, 3 * parts + 1)).clip(max=1)
    from_middle = np.sign(np.linspace(-1.5, 1.5, 3 * parts + 1)) * (edges - edges**2 / 2)
    return np.asarray(np.diff(from_middle).reshape(3, parts))


class SensorShares:
    """
    Reads areas of classes through a point-spread function.

    Parameters
    ----------
    open_reader : callable of GeoBox
        Opens the reference on a grid of smaller cells.
    like : GeoBox
        Cells, shifted if the image is.
    """

    def __init__(self, open_reader: Callable[[GeoBox], AreaReader], like: GeoBox) -> None:
        rows, cols = (int(side) for side in like.shape)
        corner = like.affine * Affine.translation(-1, 0) * Affine.scale(1 / PARTS, 1)
        self._reader = open_reader(GeoBox((rows, (cols + 2) * PARTS), corner, like.crs))
        self._weights = scan_weights(PARTS)
        self.block_cells = max(1, self._reader.block_cells // (2 * PARTS))

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """(planes, rows, cols) area of each plane in the response of each cell of a window; 1 for all of it."""
        rows, cols = shape
        parts = self._reader.read(row, col * PARTS, (rows, (cols + 2) * PARTS))
        cells = parts.reshape(len(parts), rows, cols + 2, PARTS)
        return sum(
            (cells[:, :, at : at + cols] @ self._weights[at] for at in range(3)),
            np.zeros((len(parts), rows, cols)),
        )

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
