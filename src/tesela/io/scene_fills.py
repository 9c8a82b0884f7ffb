"""Fill values of a scene that no file declares, found in a sample of its stored numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import InputError
from tesela.core.notes import note
from tesela.core.scene import Band, Scene
from tesela.io.invalid_numbers import undeclared_fill
from tesela.io.masks import has_mask, read_mask
from tesela.io.pixel_values import broken_file, is_valid
from tesela.io.raster import open_dataset

_WINDOWS = 5
_SIDE_PX = 64


def declare_fills(scene: Scene) -> Scene:
    """
    The scene with its undeclared fill values as nodata, where its `invalid` is "nodata"; 25 windows a band are read.

    Raises
    ------
    InputError
        If a band has a fill value that no file declares (see `tesela.io.invalid_numbers.undeclared_fill`) and `invalid`
        is "error", or the band has another nodata number already.
    """
    bands = tuple(_declared(band, scene) for band in scene.bands)
    return scene if bands == scene.bands else replace(scene, bands=bands)


def _declared(band: Band, scene: Scene) -> Band:
    values = _sample(band)
    fill = undeclared_fill(values)
    if fill is None:
        return band
    share = float((values == fill).mean())
    if scene.invalid == "error" or band.nodata is not None:
        raise InputError(
            f"Band '{band.name}' of {band.path} holds {fill:g} in {share:.1%} of a sample, far from all its other "
            f"numbers: a fill value that the file does not declare as nodata. Declare it (gdal_edit.py -a_nodata "
            f"{fill:g}, or "
            f"--nodata {fill:g})"
            + ("." if band.nodata is not None else ', or pass invalid = "nodata" (--invalid nodata).')
        )
    note(f"Band '{band.name}' of {band.path}: {fill:g}, in {share:.1%} of a sample, is taken as nodata.")
    return replace(band, nodata=fill)


def _sample(band: Band) -> NDArray[np.generic]:
    """Stored numbers with data from windows all over the file, (numbers,)."""
    if np.dtype(band.dtype).itemsize < 2:
        return np.empty(0, band.dtype)
    with open_dataset(band.path) as data:
        rows, cols = (
            np.unique(np.linspace(0, max(0, length - _SIDE_PX), _WINDOWS).astype(int)).tolist()
            for length in (data.height, data.width)
        )
        parts = []
        try:
            for row in rows:
                for col in cols:
                    window = Window(col, row, min(_SIDE_PX, data.width), min(_SIDE_PX, data.height))
                    part = data.read(band.index, window=window)
                    valid = is_valid(part, band.nodata)
                    if band.mask and has_mask(data):
                        valid &= read_mask(data, window)
                    parts.append(part[valid])
        except RasterioError as error:
            raise broken_file(band.path, error) from None
    return np.concatenate(parts)
