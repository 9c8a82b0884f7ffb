"""Pixel values: the numbers of an open raster on any grid, as stored, and where they are valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from tesela.core.errors import InputError
from tesela.core.grid import crs_of, pixel_offset
from tesela.io.masks import has_mask, read_mask
from tesela.io.raster import Closing, grid_of, open_dataset, raster_crs

NO_SCORE = 255
"""Stored where there is no confidence."""

_NAME = "confidence"


class ConfidenceReader(Closing):
    """Reads windows of a confidence raster, 0 to 100 %, on any grid; use it in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._data = open_dataset(path)
        names = list(self._data.descriptions)
        self._band = names.index(_NAME) + 1 if _NAME in names else 1
        kind = self._data.dtypes[self._band - 1]
        if kind != "uint8" or (self._data.count > 1 and _NAME not in names):
            bands = self._data.count
            self._data.close()
            raise InputError(
                f"{path}: holds {bands} bands of {kind}; a confidence raster has one of uint8, 0 to 100 "
                f"and 255 for none, or a band named '{_NAME}'. Write one with the map (tesela predict "
                "--confidence FILE)."
            )
        if self._data.colorinterp[self._band - 1] == ColorInterp.palette:
            self._data.close()
            raise InputError(
                f"{path}: has a palette, as maps have; a confidence raster holds 0 to 100. Give the one that was "
                f"written with the map (tesela predict --confidence FILE)."
            )

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """
        Confidence on a grid, (rows, cols) uint8: 0 to 100, 255 where there is none.

        Raises
        ------
        InputError
            If the file holds numbers from 101 to 254.
        """
        raw, valid = read_pixel_values(self._data, [self._band], grid, nodata=NO_SCORE, continuous=False)
        scores = np.where(valid[0], raw[0], NO_SCORE).astype(np.uint8)
        strange = scores[(scores > 100) & (scores < NO_SCORE)]
        if strange.size:
            raise InputError(
                f"{self.path}: holds {strange[0]}, but confidence runs from 0 to 100, with 255 for none. "
                "Scale it."
            )
        return scores


def read_pixel_values(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    grid: GeoBox,
    *,
    nodata: float | None,
    continuous: bool,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """
    Pixel values of a file on a grid, as stored, and where they are valid.

    Parameters
    ----------
    continuous : bool
        True for images (bilinear, or average when shrinking); False for classes (nearest, always).

    Returns
    -------
    (bands, rows, cols) array of the file's dtype, (bands, rows, cols) array of bool
    """
    own = grid_of(data)
    nodata = _storable(nodata, data.dtypes[indexes[0] - 1])
    try:
        offset = pixel_offset(own, grid)
        if offset is not None:
            return _read_own(data, indexes, offset, (int(grid.shape[0]), int(grid.shape[1])), nodata)
        return _read_warped(data, indexes, own, grid, nodata=nodata, continuous=continuous)
    except RasterioError as error:
        raise broken_file(data.name, error) from None


def _read_own(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    corner: tuple[int, int],
    shape: tuple[int, int],
    nodata: float | None,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    (row, col), (rows, cols) = corner, shape
    top, left = max(0, row), max(0, col)
    bottom, right = min(data.height, row + rows), min(data.width, col + cols)
    out = np.zeros((len(indexes), rows, cols), data.dtypes[indexes[0] - 1])
    valid = np.zeros(out.shape, np.bool_)
    if bottom <= top or right <= left:
        return out, valid
    window = Window(left, top, right - left, bottom - top)
    part = data.read(list(indexes), window=window)
    seen = is_valid(part, nodata)
    if has_mask(data):
        seen &= read_mask(data, window)
    if part.shape == out.shape:
        return part, seen
    target = np.s_[:, top - row : bottom - row, left - col : right - col]
    out[target], valid[target] = part, seen
    return out, valid


def _read_warped(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    own: GeoBox,
    grid: GeoBox,
    *,
    nodata: float | None,
    continuous: bool,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    method = Resampling.nearest
    if continuous:
        method = Resampling.average if _coarser(own, grid) > 1.5 else Resampling.bilinear
    masked = has_mask(data)
    settings = {
        "src_transform": own.affine,
        "crs": raster_crs(grid),
        "transform": grid.affine,
        "height": int(grid.shape[0]),
        "width": int(grid.shape[1]),
        "tolerance": 0.01,
        "XSCALE": "1",  # else GDAL widens the bilinear kernel by a ratio that differs from window to window
        "YSCALE": "1",
        "UNIFIED_SRC_NODATA": "NO",  # else a number counts as data where any other band has data
    }
    with WarpedVRT(
        data,
        resampling=method,
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None and masked and ColorInterp.alpha not in data.colorinterp,
        **settings,
    ) as warped:
        numbers = warped.read(list(indexes))
        if nodata is None and masked:
            alpha = warped.colorinterp.index(ColorInterp.alpha) + 1
            mask = np.repeat(warped.read([alpha]) > 0, len(indexes), axis=0)
        else:
            mask = np.ones(numbers.shape, np.bool_)  # the numbers show their nodata, also outside the file
    if nodata is None:
        mask &= _inside(own, grid)
    elif masked:  # both a nodata number and a mask: GDAL takes the number alone
        mask &= _warped_mask(data, settings)
    return numbers, mask & is_valid(numbers, nodata)


def _warped_mask(data: rasterio.DatasetReader, settings: dict[str, Any]) -> NDArray[np.bool_]:
    """Mask or alpha band of a file on another grid, by the nearest pixel."""
    with WarpedVRT(
        data,
        resampling=Resampling.nearest,
        src_nodata=None,
        nodata=None,
        add_alpha=ColorInterp.alpha not in data.colorinterp,
        **settings,
    ) as warped:
        alpha = warped.colorinterp.index(ColorInterp.alpha) + 1
        return np.asarray(warped.read(alpha) > 0, np.bool_)


def _inside(own: GeoBox, grid: GeoBox) -> NDArray[np.bool_]:
    """Which pixel centres of `grid` are inside `own`."""
    rows, cols = grid.shape
    x, y = grid.affine * np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    if own.crs != grid.crs:
        to_own = pyproj.Transformer.from_crs(crs_of(grid).to_wkt(), crs_of(own).to_wkt(), always_xy=True)
        x, y = to_own.transform(x, y)
    col, row = ~own.affine * (x, y)
    inside: NDArray[np.bool_] = (col >= 0) & (row >= 0) & (col < own.shape[1]) & (row < own.shape[0])
    return inside


def _coarser(own: GeoBox, grid: GeoBox) -> float:
    """How many times larger the pixels of `grid` are than those of `own`, by the side."""
    rows, cols = grid.shape
    x, y = (
        np.array(side, float) for side in zip(*[grid.affine * c for c in _corners(rows, cols)], strict=True)
    )
    if own.crs != grid.crs:
        to_own = pyproj.Transformer.from_crs(crs_of(grid).to_wkt(), crs_of(own).to_wkt(), always_xy=True)
        x, y = to_own.transform(x, y)
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 / (rows * cols)
    return math.sqrt(float(area) / abs(own.resolution.x * own.resolution.y))


def _corners(rows: int, cols: int) -> list[tuple[int, int]]:
    return [(0, 0), (cols, 0), (cols, rows), (0, rows)]


def _storable(nodata: float | None, dtype: str) -> float | None:
    """The nodata value, or None if the type cannot store it: -9999 in a byte."""
    kind = np.dtype(dtype)
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    fits = math.isfinite(nodata) and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return nodata if fits else None


def is_valid(numbers: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Where values of a file are not its nodata value."""
    if nodata is None:
        return np.ones(numbers.shape, np.bool_)
    if math.isnan(nodata):
        return ~np.isnan(numbers) if numbers.dtype.kind == "f" else np.ones(numbers.shape, np.bool_)
    return np.asarray(numbers != np.asarray(nodata).astype(numbers.dtype), np.bool_)


def broken_file(path: str, error: RasterioError) -> InputError:
    """Error for a window that cannot be read, of a file that could be opened."""
    reason = (str(error.__cause__ or error).partition("\n")[0] or type(error).__name__).rstrip(".")
    return InputError(
        f"{path}: a window cannot be read, the file is broken or truncated ({reason}). Get or make it again."
    )
