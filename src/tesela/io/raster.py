"""Rasters: opening a file that GDAL reads, and its grid."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import pyproj
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError

from tesela.core.errors import GridError, InputError
from tesela.core.grid import crs_text


class Closing(ABC):
    """Closes itself at the end of a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the files."""


# GDAL's block cache takes 5 % of the machine by default and is sized once per process. 128 MB holds a row of blocks
# of a class map 250,000 px wide; readers keep themselves what they need twice.
os.environ.setdefault("GDAL_CACHEMAX", "128")


def open_dataset(path: str | Path) -> rasterio.DatasetReader:
    """
    Open a raster for reading.

    Raises
    ------
    InputError
        If the file is missing or is no raster.
    """
    try:
        return rasterio.open(path)
    except RasterioIOError as error:
        if not str(path).startswith(("http://", "https://", "/vsi", "s3://")) and not Path(path).exists():
            raise InputError(f"{path}: no such file.") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: not a raster that GDAL can read ({reason}).") from None


def grid_of(data: rasterio.DatasetReader) -> GeoBox:
    """
    Grid of an open raster.

    Raises
    ------
    GridError
        If it has no CRS or no geotransform.
    """
    if data.crs is None:
        raise GridError(
            f"{data.name}: has no coordinate system. Assign the right one (gdal_edit.py -a_srs EPSG:....), "
            f"then try again."
        )
    if data.transform.is_identity:
        raise GridError(
            f"{data.name}: has no geotransform. Georeference it (gdal_translate -a_ullr ...), then try again."
        )
    shape = (data.height, data.width)
    code = data.crs.to_epsg()
    try:
        return GeoBox(shape, data.transform, f"EPSG:{code}" if code else data.crs.to_wkt())
    except pyproj.exceptions.CRSError:  # a code that GDAL's tables have and those of pyproj lack
        return GeoBox(shape, data.transform, data.crs.to_wkt())


def raster_crs(grid: GeoBox) -> rasterio.CRS:
    """CRS of a grid as rasterio takes it."""
    return rasterio.CRS.from_user_input(crs_text(grid))
