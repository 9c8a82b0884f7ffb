"""Series to pretrain on: a pixel table, a cube, or the published files of TimeSpec4LULC."""

from __future__ import annotations

from pathlib import Path

from tesela.core.errors import InputError
from tesela.io.cube import open_cube
from tesela.io.timespec import read_timespec
from tesela.patches.pixels import PixelTable, read_pixel_table, read_pixels
from tesela.patches.published import table_of_timespec


def read_series(path: str | Path) -> PixelTable:
    """
    Read pixels whose series are of use without their labels.

    Parameters
    ----------
    path : path
        A pixel table (.safetensors), a cube (Zarr folder), or a folder with the files of TimeSpec4LULC.

    Raises
    ------
    InputError
        If it is none of these, or broken.
    """
    place = Path(path)
    if place.suffix == ".safetensors":
        return read_pixel_table(place)
    if (place / "zarr.json").exists():
        return read_pixels(open_cube(place))
    if place.is_dir():
        return table_of_timespec(read_timespec(place))
    raise InputError(
        f"{path}: is no series to pretrain on; give a pixel table (.safetensors), a cube, or a folder of TimeSpec4LULC."
    )


def series_files(path: str | Path) -> list[Path]:
    """Files that stand for the series: when they change, pretraining starts anew."""
    place = Path(path)
    if not place.is_dir():
        return [place]
    header = place / "zarr.json"
    return [header] if header.exists() else sorted(file for file in place.rglob("*") if file.is_file())
