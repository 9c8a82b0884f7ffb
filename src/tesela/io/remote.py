"""Remote rasters: opened once, read by window, read again after a network failure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from tesela.core.errors import InputError, NetworkError
from tesela.io.http import Web
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import Closing, grid_of, open_dataset

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

T = TypeVar("T")


def is_remote(address: str | Path) -> bool:
    """Whether an address is on a server, not a path."""
    return str(address).startswith(("http://", "https://", "s3://"))


class Rasters(Closing):
    """
    Reads bands of rasters on any grid, whether files or addresses; use it in a `with` block, from any thread.

    The rasters used last stay open, at most `most_open`. When GDAL cannot read a remote window, `Web` first fetches one
    byte of the file, with all its retries, and then the window is read again. A lasting refusal of the server is
    raised as its error. No window is left out.
    """

    def __init__(self, web: Web, *, most_open: int = 256) -> None:
        self.web = web
        self._most_open = most_open
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all rasters; a later read opens them again."""
        for opened in self._open.values():
            opened.close()
        self._open.clear()

    def read(
        self, address: str, grid: GeoBox, *, band: int = 1, nodata: float | None, continuous: bool
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """
        Numbers of one band on a grid, as stored, and where they are valid: two (rows, cols) arrays.

        Raises
        ------
        InputError
            If there is no such raster, or it is broken.
        NetworkError
            If its server fails or refuses.
        """
        values, valid = self._use(
            address,
            lambda data: read_pixel_values(data, [band], grid, nodata=nodata, continuous=continuous),
        )
        return values[0], valid[0]

    def read_small(self, address: str, side_px: int, *, band: int = 1) -> NDArray[np.number]:
        """Nearest pixels of a raster shrunk to at most `side_px` on a side: (rows, cols)."""

        def read(data: rasterio.DatasetReader) -> NDArray[np.number]:
            step = max(1.0, max(data.height, data.width) / side_px)
            shape = (max(1, int(data.height / step)), max(1, int(data.width / step)))
            values: NDArray[np.number] = data.read(band, out_shape=shape)
            return values

        return self._use(address, read)

    def nodata(self, address: str) -> float | None:
        """Nodata value that a raster declares; errors as `read`."""
        return self._use(address, lambda data: None if data.nodata is None else float(data.nodata))

    def grid(self, address: str) -> GeoBox:
        """Grid of a raster; errors as `read`."""
        return self._use(address, grid_of)

    def _use(self, address: str, work: Callable[[rasterio.DatasetReader], T]) -> T:
        opened = self._get(address)
        with opened.lock:
            return opened.use(self.web, work)

    def _get(self, address: str) -> _Opened:
        old = []
        with self._lock:
            opened_raster = self._open.pop(address, None) or _Opened(address)
            self._open[address] = opened_raster
            while len(self._open) > self._most_open:
                old.append(self._open.popitem(last=False)[1])
        for opened in old:
            opened.close()
        return opened_raster


_DRIVERS = ["GTiff", "JP2OpenJPEG", "JP2KAK", "PNG", "JPEG", "HFA", "HDF4", "HDF5", "netCDF", "GRIB"]
"""Formats that hold their own pixels. A VRT of a server could name files of this machine."""


class _Opened:
    """A raster that is opened when it is first read; one thread at a time uses it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lock = threading.Lock()
        self._data: rasterio.DatasetReader | None = None

    def use(self, web: Web, work: Callable[[rasterio.DatasetReader], T]) -> T:
        if not is_remote(self.address):
            self._data = self._data or open_dataset(self.address)
            return _guarded(work, self._data, self.address)
        tries = web.patience.tries
        for attempt in range(tries):
            try:
                with rasterio.Env(**_options(web)):
                    if self._data is None:
                        name = _gdal_name(self.address, web)
                        self._data = rasterio.DatasetReader(name, driver=_DRIVERS)
                    return work(self._data)
            except (RasterioError, InputError) as error:
                self._forget()
                if attempt < tries - 1:
                    web.ask_again(self.address, attempt)
                    continue
                if not self.address.startswith("s3://"):
                    web.get(self.address, span=(0, 1))  # a refusal of the server is raised here
                raise _given_up(self.address, error, tries) from None
        raise AssertionError("a raster is read at least once")

    def close(self) -> None:
        with self.lock:
            self._forget()

    def _forget(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None


def _guarded(work: Callable[[rasterio.DatasetReader], T], data: rasterio.DatasetReader, address: str) -> T:
    try:
        return work(data)
    except RasterioError as error:
        raise InputError(f"{address}: cannot be read, the file is broken or truncated ({error}).") from None


def _given_up(address: str, error: Exception, tries: int) -> NetworkError:
    words = " ".join(str(error).split())
    return NetworkError(
        f"{address.split('?')[0]}: could not be read, {tries} times in a row, though its server responds ({words}). "
        f"Run the same command again: finished work is kept. Leave the scene out with --without if the file is broken."
    )


def _gdal_name(address: str, web: Web) -> str:
    if address.startswith("s3://"):
        return "/vsis3/" + address.removeprefix("s3://")
    return "/vsicurl/" + web.address(address)


def _options(web: Web) -> dict[str, str]:
    limit = f"{web.patience.timeout_s:g}"
    return {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_TIMEOUT": limit,
        "GDAL_HTTP_CONNECTTIMEOUT": limit,
        "GDAL_HTTP_MAX_RETRY": "0",  # the retries are ours
        "CPL_VSIL_CURL_USE_HEAD": "NO",  # signed addresses are signed for GET
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http",  # what GDAL cached of a failed response goes with the file
        "CPL_VSIL_CURL_CHUNK_SIZE": "65536",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
