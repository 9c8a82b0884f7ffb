"""The pyramid: tiles of a raster at every zoom, on the pixel grid of one map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import InputError
from tesela.core.grid import pixel_offset
from tesela.io.cog import BLOCK_PX
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import grid_of, open_dataset

TILE_PX = BLOCK_PX
"""Side of a tile: that of the blocks of our rasters, so that a tile is one block."""


@dataclass(frozen=True)
class Pyramid:
    """
    Tiles of a grid at every zoom: at level k a pixel of a tile is 2^k pixels of the grid wide.

    Examples
    --------
    >>> Pyramid(GeoBox((600, 1100), Affine(10, 0, 0, 0, -10, 0), "EPSG:32630")).levels
    3
    """

    grid: GeoBox

    @property
    def levels(self) -> int:
        """Number of levels down to the one where the whole grid is one tile."""
        longest = -(-max(self.grid.shape) // TILE_PX)
        return int(longest - 1).bit_length() + 1

    def tile(self, level: int, x: int, y: int) -> GeoBox:
        """
        Grid of a tile, which may reach past the grid's edges.

        Parameters
        ----------
        level : int
            Negative levels are finer than the grid itself.
        x, y : int
            Column and row of the tile, from the corner of the grid.
        """
        step = 2.0**level
        corner = Affine.translation(x * TILE_PX * step, y * TILE_PX * step)
        return GeoBox((TILE_PX, TILE_PX), self.grid.affine * corner * Affine.scale(step), self.grid.crs)

    def has(self, level: int, x: int, y: int) -> bool:
        """Whether a tile touches the grid."""
        side = TILE_PX * 2.0**level
        rows, cols = self.grid.shape
        return x >= 0 and y >= 0 and x * side < cols and y * side < rows


class TileReader:
    """
    Reads tiles of the first band of a raster of bytes; use it in one thread at a time.

    A raster on the pixels of the pyramid is read from its overviews; any other is warped, by nearest pixel.
    """

    def __init__(self, path: str | Path, pyramid: Pyramid) -> None:
        self.pyramid = pyramid
        self._data = open_dataset(path)
        offset = pixel_offset(grid_of(self._data), pyramid.grid)
        same_size = (self._data.height, self._data.width) == tuple(pyramid.grid.shape)
        self._own = offset == (0, 0) and same_size

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def read(self, level: int, x: int, y: int) -> NDArray[np.uint8]:
        """
        Values of a tile, (512, 512) uint8; 0 where there is no data.

        Raises
        ------
        InputError
            If a block of the file cannot be read.
        """
        if self._own and level >= 0:
            return self._read_own(level, x, y)
        tile = self.pyramid.tile(level, x, y)
        raw, valid = read_pixel_values(self._data, [1], tile, nodata=self._data.nodata, continuous=False)
        return np.where(valid[0], raw[0], 0).astype(np.uint8)

    def _read_own(self, level: int, x: int, y: int) -> NDArray[np.uint8]:
        data, side, step = self._data, TILE_PX << level, 1 << level
        left, top = x * side, y * side
        cols, rows = min(side, data.width - left), min(side, data.height - top)
        out = np.zeros((TILE_PX, TILE_PX), np.uint8)
        if cols <= 0 or rows <= 0:
            return out
        shape = (-(-rows // step), -(-cols // step))
        try:
            values = data.read(1, window=Window(left, top, cols, rows), out_shape=shape)
        except RasterioError as error:
            raise InputError(f"{data.name}: a tile cannot be read ({error}).") from None
        if data.nodata is not None and data.nodata != 0:
            values = np.where(values == data.nodata, 0, values)
        out[: shape[0], : shape[1]] = values
        return out


def has_overviews(path: str | Path) -> bool:
    """Whether a raster can be shown as a whole without reading all of it."""
    with open_dataset(path) as data:
        return max(data.shape) <= 4 * TILE_PX or bool(data.overviews(1))


def class_counts(path: str | Path) -> tuple[NDArray[np.int64], bool]:
    """
    Pixels of each value of a class map: from the attribute table beside it, else estimated from an overview.

    Returns
    -------
    (256,) array of int64, bool
        Whether the counts are exact.
    """
    counts = _table_counts(Path(f"{path}.aux.xml"))
    with open_dataset(path) as data:
        pixels = data.height * data.width
        if counts is not None and counts.sum() <= pixels:
            counts[0] = pixels - counts.sum()
            return counts, True
        step = max(1, int(np.ceil(max(data.shape) / (4 * TILE_PX))))
        shape = (-(-data.height // step), -(-data.width // step))
        values = data.read(1, out_shape=shape)
    counts_read = np.bincount(values.ravel().clip(0, 255).astype(np.uint8), minlength=256)
    return np.rint(counts_read * (pixels / values.size)).astype(np.int64), step == 1


def _table_counts(path: Path) -> NDArray[np.int64] | None:
    """Counts of the attribute table that `tesela.io.maps` writes; None where there is none."""
    from xml.etree import ElementTree

    try:
        table = ElementTree.parse(path).getroot().find(".//GDALRasterAttributeTable")
    except (OSError, ElementTree.ParseError):
        return None
    if table is None:
        return None
    usages = [field.findtext("Usage") for field in table.iter("FieldDefn")]
    counts = np.zeros(256, np.int64)
    try:
        value, count = usages.index("5"), usages.index("1")
        for row in table.iter("Row"):
            cells = [cell.text or "" for cell in row.iter("F")]
            counts[int(cells[value])] = int(cells[count])
    except (ValueError, IndexError):
        return None
    return counts
