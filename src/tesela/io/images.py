"""Rasters of numbers: images, elevation and the like, written with band names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError
from tesela.io.cog import CogWriter
from tesela.io.manifest import write_text, write_whole
from tesela.io.ramp_style import image_style, ramp_style
from tesela.io.raster import raster_crs
from tesela.io.tiff import silence_libtiff

STEPS = 10_000
"""Reflectance is stored in steps of 1/10000; 0 is nodata."""

NOT_COUNTED = 255
"""In the raster of counts: outside the area. 0 is a gap."""


class MosaicWriter(CogWriter):
    """Writes an image by windows, as a COG with band names, scale and date: uint16, 0 nodata."""

    overviews = "mean"
    packing = "deflate"

    def __init__(self, path: str | Path, grid: GeoBox, *, names: Sequence[str], date: str) -> None:
        super().__init__(path, grid, bands=len(names), nodata=0, dtype="uint16")
        self.names = tuple(names)
        self.date = date

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Write band names, scale and date."""
        data.descriptions = self.names
        data.scales = (1 / STEPS,) * len(self.names)
        data.update_tags(TIFFTAG_DATETIME=f"{self.date.replace('-', ':')} 00:00:00")

    def finish_beside(self) -> None:
        """QGIS style: natural colours, up to a reflectance of 0.3."""
        write_text(self.path.with_suffix(".qml"), image_style(self.names, high=0.3))


class CountWriter(CogWriter):
    """Writes how many observations are valid in each pixel: uint8, 0 for a gap, 255 outside the area."""

    def __init__(self, path: str | Path, grid: GeoBox) -> None:
        super().__init__(path, grid, nodata=NOT_COUNTED)

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Name the band."""
        data.descriptions = ("observations",)

    def finish_beside(self) -> None:
        """QGIS style: ten observations or more are brightest."""
        write_text(self.path.with_suffix(".qml"), ramp_style(10.0, unit="observations"))


def write_bands(
    path: str | Path,
    values: NDArray[np.generic],
    grid: GeoBox,
    *,
    names: Sequence[str],
    nodata: float | None = None,
    scale: float = 1.0,
    date: str = "",
) -> Path:
    """
    Write an array as a tiled, compressed GeoTIFF that appears whole or not at all.

    Parameters
    ----------
    values : (bands, rows, cols) array
        Of any type that GeoTIFF can store.
    names : sequence of str
        One per band.
    scale : float
        Quantity = number x scale; stored in the file.
    date : str
        ISO date of the image, kept as ``TIFFTAG_DATETIME``.

    Raises
    ------
    GridError
        If `values` does not fit `grid`.
    InputError
        If `names` does not fit `values`, or the file cannot be written.
    """
    if values.ndim != 3 or values.shape[1:] != tuple(grid.shape):
        raise GridError(
            f"{path}: shape {values.shape}; the grid needs (bands, {grid.shape[0]}, {grid.shape[1]})."
        )
    if len(names) != len(values):
        raise InputError(f"{path}: {len(values)} bands but {len(names)} names; give one name per band.")
    profile = _profile(grid, len(values), values.dtype, nodata)
    with write_whole(path) as part:
        try:
            silence_libtiff()
            with rasterio.open(part, "w", **profile) as data:
                data.write(values)
                data.descriptions = tuple(names)
                data.scales = (scale,) * len(values)
                if date:
                    data.update_tags(TIFFTAG_DATETIME=f"{date.replace('-', ':')} 00:00:00")
        except (RasterioError, TypeError) as error:
            raise InputError(f"{path}: cannot be written ({error}).") from error
    return Path(path)


def write_band_windows(
    path: str | Path,
    windows: Iterable[tuple[int, int, NDArray[np.float32]]],
    grid: GeoBox,
    *,
    names: Sequence[str],
) -> Path:
    """
    Write bands of float32 by windows, as `write_bands`; one window at a time is in memory.

    Parameters
    ----------
    windows : iterable of (row, column, (bands, rows, cols) array of float32)
        Windows that do not overlap; NaN is nodata, and so are pixels in no window.
    names : sequence of str
        One per band.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    profile = _profile(grid, len(names), np.dtype(np.float32), np.nan)
    with write_whole(path) as part:
        try:
            silence_libtiff()
            with rasterio.open(part, "w", **profile) as data:
                data.descriptions = tuple(names)
                for row, col, values in windows:
                    data.write(values, window=Window(col, row, values.shape[2], values.shape[1]))
        except RasterioError as error:
            raise InputError(f"{path}: cannot be written ({error}).") from error
    return Path(path)


def _profile(grid: GeoBox, bands: int, dtype: np.dtype[Any], nodata: float | None) -> dict[str, object]:
    return {
        "driver": "GTiff",
        "width": grid.shape[1],
        "height": grid.shape[0],
        "count": bands,
        "dtype": dtype.name,
        "crs": raster_crs(grid),
        "transform": grid.affine,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "DEFLATE",
        "predictor": 3 if dtype.kind == "f" else 2,
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    }
