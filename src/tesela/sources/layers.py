"""Static layers, such as elevation, climate or land cover, joined from the items of a catalogue."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.core.grid import windows
from tesela.io.http import RetryPolicy
from tesela.io.images import write_bands
from tesela.io.remote import Rasters
from tesela.sources.areas import Area
from tesela.sources.catalogue import find_items
from tesela.sources.providers import Catalogue

_WINDOW_PX = 1024


def write_layer_mosaic(
    catalogue: Catalogue,
    area: Area,
    out: str | Path,
    *,
    collection: str,
    asset: str,
    year: int | None = None,
    classes: bool = False,
    nodata: float | None = None,
    workers: int = 8,
    patience: RetryPolicy | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """
    Join one asset of all items over an area into one raster; where items overlap the first gives the pixel.

    Elevation: ``collection="cop-dem-glo-30", asset="data"``. Land cover: ``"esa-worldcover", asset="map"`` with
    `classes`: no value is interpolated.

    Parameters
    ----------
    year : int, optional
        Of the items; default: all.
    classes : bool
        Take the nearest pixel instead of interpolating or averaging.
    nodata : float, optional
        Nodata value; default: 0 for classes; for quantities that of the files, NaN in the output.

    Returns
    -------
    Path
        `out`: uint8 for classes, else float32. The array is kept in memory.

    Raises
    ------
    InputError
        If there are no items, an item lacks the asset, a file is broken or has classes outside 0 to 255.
    NetworkError
        If a server fails.
    """
    first, last = (date(year, 1, 1), date(year, 12, 31)) if year else (date(1900, 1, 1), date(2100, 1, 1))
    web = catalogue.web(patience)
    items = find_items(catalogue, web, collection=collection, bounds=area.bounds, first=first, last=last)
    if not items:
        raise InputError(f"{catalogue.address} has no items of collection '{collection}' in this area.")
    for item in items:
        if asset not in item["assets"]:
            raise InputError(
                f"{item['id']} has no asset '{asset}'; it has {join_words(sorted(item['assets']))} (--asset)."
            )
    addresses = [str(item["assets"][asset]["href"]) for item in items]
    shape = (int(area.grid.shape[0]), int(area.grid.shape[1]))
    empty = 0 if classes else np.nan
    dtype = np.dtype(np.uint8 if classes else np.float32)
    values = np.full(shape, empty, dtype)
    with Rasters(web) as rasters, ThreadPoolExecutor(workers) as pool:

        def empty_of(address: str) -> float | None:
            if nodata is not None:
                return nodata
            return 0 if classes else rasters.nodata(address)

        parts = list(windows(area.grid, _WINDOW_PX))
        for done, (row, col, window) in enumerate(parts, start=1):
            here = np.full(tuple(window.shape), empty, dtype)
            missing = area.inside(window)
            read = pool.map(
                lambda address, window=window: rasters.read(
                    address, window, nodata=empty_of(address), continuous=not classes
                ),
                addresses,
            )
            for address, (raw, valid) in zip(addresses, read, strict=True):
                new = missing & valid
                if classes and not _are_bytes(raw[new]):
                    raise InputError(
                        f"{address}: holds classes outside 0 to 255, the range of a class raster. Translate them first "
                        f"(gdal_calc.py), or leave --classes out if they are quantities."
                    )
                here[new] = raw[new]
                missing &= ~new
            values[row : row + window.shape[0], col : col + window.shape[1]] = here
            progress(done, len(parts))
    return write_bands(
        out, values[np.newaxis], area.grid, names=(asset,), nodata=0 if classes else float("nan")
    )


def _are_bytes(numbers: NDArray[np.generic]) -> bool:
    return not numbers.size or (float(numbers.min()) >= 0 and float(numbers.max()) <= 255)
