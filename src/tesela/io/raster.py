"""Rasters: opening a file that GDAL reads, and its grid."""

from __future__ import annotations

import functools
import math
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import pyproj
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError

from tesela.core.errors import GridError, InputError
from tesela.core.grid import crs_text
from tesela.io.addresses import check_no_secret, is_address
from tesela.io.vector.address import is_vector


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
        If the file is missing or is no raster, or its address holds a password.
    """
    check_no_secret(path)
    try:
        return rasterio.open(re.sub(r"^zip://([^!]+)!/?", r"/vsizip/\1/", str(path)))
    except RasterioIOError as error:
        if not is_address(path) and not Path(path).exists():
            raise InputError(f"{path}: no such file.") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        if str(path).lower().endswith(".ecw") and not _has_driver("ECW"):
            raise InputError(
                f"{path}: is an ECW, which this GDAL has no driver for (it needs the ECW SDK). Take the sheet as COG "
                f"or GeoTIFF, or convert it where a GDAL has the driver, such as QGIS for Windows: "
                f"gdal_translate -of COG -co COMPRESS=DEFLATE {Path(str(path)).name} image.tif"
            ) from None
        raise InputError(f"{path}: not a raster that GDAL can read ({reason}).{_remedy(path)}") from None


def _remedy(path: str | Path) -> str:
    """How to correct a path that GDAL cannot read as a raster; empty where its name does not show the mistake."""
    name = str(path).lower()
    if is_address(path):
        return " Download it, and give its path." if "://" in name and not name.startswith("zip:") else ""
    if Path(path).is_dir():
        return " It is a folder: name a raster in it."
    if name.endswith((".zip", ".tar", ".tgz", ".tar.gz")):
        prefix = "/vsizip/" if name.endswith(".zip") else "/vsitar/"
        return f" Name the raster in it ({prefix}{path}/NAME.tif), or unpack it."
    if name.endswith(".gz"):
        return f" Unpack it, or give /vsigzip/{path}."
    return " It is a file of polygons: are the arguments in their order?" if is_vector(path) else ""


def _has_driver(name: str) -> bool:
    with rasterio.Env() as env:
        return name in env.drivers()


_HALF_TURN = 180.0


def grid_of(data: rasterio.DatasetReader) -> GeoBox:
    """
    Grid of an open raster; one that lies wholly beyond 180 degrees east (356 for 4 west) is brought back by a turn.

    Raises
    ------
    GridError
        If it has no CRS or no geotransform, or its CRS is a local one that lies nowhere on the Earth.
    """
    if data.crs is None and data.gcps[0]:
        raise GridError(
            f"{data.name}: has ground control points but no grid. Warp it (gdalwarp -r near -t_srs EPSG:....), then "
            f"try again."
        )
    if data.crs is None:
        raise GridError(
            f"{data.name}: has no coordinate system. Assign the right one (gdal_edit.py -a_srs EPSG:....), "
            f"then try again."
        )
    if data.transform.is_identity:
        raise GridError(
            f"{data.name}: has no geotransform. Georeference it (gdal_translate -a_ullr ...), then try again."
        )
    if data.transform.is_degenerate or not all(map(math.isfinite, data.transform)):
        raise GridError(
            f"{data.name}: its pixels have no extent (geotransform {data.transform.to_gdal()}). Georeference it "
            f"(gdal_translate -a_ullr ...), then try again."
        )
    shape = (data.height, data.width)
    grid = GeoBox(shape, data.transform, horizontal_crs(data.crs, data.name))
    if grid.crs is not None and grid.crs.geographic and grid.extent.boundingbox.left >= _HALF_TURN:
        return GeoBox(shape, Affine.translation(-2 * _HALF_TURN, 0) * data.transform, grid.crs)
    return grid


def horizontal_crs(given: rasterio.CRS, where: str) -> str:
    """
    A CRS of GDAL without heights, as text that pyproj knows.

    Raises
    ------
    GridError
        If it is a local one.
    """
    text, local = _known_crs(given.to_wkt())
    if local:
        raise GridError(
            f"{where}: its coordinate system {local}, without a place on the Earth. Assign the right one "
            f"(gdal_edit.py -a_srs EPSG:....), then try again."
        )
    return text


@functools.lru_cache(maxsize=256)
def _known_crs(wkt: str) -> tuple[str, str]:
    """
    Text of `horizontal_crs`, and what a local CRS is.

    Kept: the search for the code of a CRS without one takes a twentieth of a second, and each window that is read
    asks for it.
    """
    given = rasterio.CRS.from_wkt(wkt)
    code = given.to_epsg()
    try:
        crs = pyproj.CRS.from_user_input(f"EPSG:{code}" if code else wkt)
    except pyproj.exceptions.CRSError:  # a code that GDAL's tables have and those of pyproj lack
        crs = pyproj.CRS.from_wkt(wkt)
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
        code = crs.to_epsg()
    local = "" if crs.is_geographic or crs.is_projected else f"'{crs.name}' is a local one ({crs.type_name})"
    return f"EPSG:{code}" if code and crs.to_authority() else str(crs.to_wkt()), local


def raster_crs(grid: GeoBox) -> rasterio.CRS:
    """CRS of a grid as rasterio takes it."""
    return rasterio.CRS.from_user_input(crs_text(grid))
