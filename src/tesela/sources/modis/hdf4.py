"""HDF4 files of MODIS where GDAL cannot read them: written once as GeoTIFF, through pyhdf."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words
from tesela.io.images import write_bands
from tesela.io.sinusoidal import SINUSOIDAL

_CORNERS = {
    "left": r"UpperLeftPointMtrs=\((-?[\d.]+),",
    "top": r"UpperLeftPointMtrs=\(-?[\d.]+,(-?[\d.]+)\)",
    "right": r"LowerRightMtrs=\((-?[\d.]+),",
    "bottom": r"LowerRightMtrs=\(-?[\d.]+,(-?[\d.]+)\)",
}


def convert_hdf4(path: str | Path, layers: Sequence[str]) -> Path:
    """
    Write the layers of an HDF4 file as one GeoTIFF of int32 beside it, ``NAME.hdf.gtiff``, unless it is there.

    Quality bits keep their places: the highest one becomes the sign.

    Parameters
    ----------
    layers : sequence of str
        Names of the arrays of the file.

    Raises
    ------
    ImportError
        If pyhdf is not installed.
    InputError
        If the file is broken, has no MODIS grid, or lacks a layer.
    """
    opened, broken = import_module("pyhdf.SD").SD, import_module("pyhdf.error").HDF4Error
    source = Path(path)
    target = source.with_name(f"{source.name}.gtiff")
    if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return target
    try:
        file = opened(str(source))
        missing = [name for name in layers if name not in file.datasets()]
        if missing:
            raise InputError(
                f"{path}: lacks {join_words(missing)}; it has {join_words(sorted(file.datasets())) or 'nothing'}."
            )
        text = str(file.attributes().get("StructMetadata.0", ""))
        planes = [np.asarray(file.select(name).get()) for name in layers]
        file.end()
    except broken as error:
        raise InputError(f"{path}: the file is broken ({error}). Download it again.") from None
    shape = planes[0].shape
    numbers = np.stack([plane.astype(np.int64).astype(np.uint32).view(np.int32) for plane in planes])
    write_bands(target, numbers, _grid(path, text, (int(shape[0]), int(shape[1]))), names=tuple(layers))
    return target


def _grid(path: str | Path, text: str, shape: tuple[int, int]) -> GeoBox:
    """Grid of the file's first 500 m grid, from its metadata."""
    found = {name: re.search(pattern, text) for name, pattern in _CORNERS.items()}
    values = {name: float(match[1]) for name, match in found.items() if match is not None}
    if len(values) < len(_CORNERS) or "GCTP_SNSOID" not in text:
        raise InputError(f"{path}: has no sinusoidal grid in its metadata (StructMetadata.0).")
    rows, cols = shape
    step = (values["right"] - values["left"]) / cols, (values["bottom"] - values["top"]) / rows
    return GeoBox(shape, Affine(step[0], 0, values["left"], 0, step[1], values["top"]), SINUSOIDAL)
