"""Masks: which pixels of a file its mask or alpha band marks as valid, and which band is alpha."""

from __future__ import annotations

import functools
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from tesela.core.errors import InputError


def alpha_band(data: rasterio.DatasetReader) -> int | None:
    """
    Number of the band that is an alpha mask, from 1; None if there is none.

    GDAL tags the fourth band of any file of four bytes as alpha unless an option says otherwise, so a band with a
    name of its own ("B08", "nir") is imagery, whatever its tag.
    """
    for index, kind in enumerate(data.colorinterp, start=1):
        name = (data.descriptions[index - 1] or "").strip().lower()
        if kind == ColorInterp.alpha and data.count > 1 and (not name or "alpha" in name):
            return index
    return None


def has_mask(data: rasterio.DatasetReader) -> bool:
    """
    Whether a mask or an alpha band of the file marks valid pixels, besides its nodata value.

    Raises
    ------
    InputError
        If the mask is a file beside the raster (``.msk``) and has another size.
    """
    if alpha_band(data) is not None:
        return True
    shared = any(map(_is_shared, data.mask_flag_enums))
    beside = Path(f"{data.name}.msk")
    if shared and beside.is_file():
        _check_size(str(beside), beside.stat().st_mtime_ns, data.name, data.width, data.height)
    return shared


def read_mask(data: rasterio.DatasetReader, window: Window) -> NDArray[np.bool_]:
    """Where the mask or the alpha band marks valid pixels, (rows, cols) of bool; for files that `has_mask`."""
    alpha = alpha_band(data)
    if alpha is not None:
        return np.asarray(data.read(alpha, window=window) > 0, np.bool_)
    shared = [_is_shared(flags) for flags in data.mask_flag_enums].index(True) + 1
    return np.asarray(data.read_masks(shared, window=window) > 0, np.bool_)


@functools.lru_cache(maxsize=256)
def _check_size(mask: str, _: int, name: str, width: int, height: int) -> None:
    """GDAL reads the windows of a larger mask at its own corner, and reports those of a smaller one as broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(mask) as data:
            own = (data.width, data.height)
    if own != (width, height):
        raise InputError(
            f"{mask}: the mask has {own[0]} x {own[1]} pixels, but {name} {width} x {height}: it belongs to another "
            f"raster. Delete it, or get the one of this raster."
        )


def _is_shared(flags: list[MaskFlags]) -> bool:
    """Whether a mask beside or inside the file marks the valid pixels of a band."""
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


@contextmanager
def without_alpha(data: rasterio.DatasetReader) -> Iterator[rasterio.DatasetReader]:
    """The open file with its alpha band as a band like the others: GDAL masks by an alpha band wherever it warps."""
    name = f"/vsimem/{uuid.uuid4().hex}.vrt"
    rasterio.shutil.copy(data, name, driver="VRT")
    try:
        with rasterio.open(name, "r+") as plain:
            plain.colorinterp = [
                ColorInterp.undefined if kind == ColorInterp.alpha else kind for kind in data.colorinterp
            ]
        with rasterio.open(name) as plain:
            yield plain
    finally:
        rasterio.shutil.delete(name, driver="VRT")
