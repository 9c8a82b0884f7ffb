"""Planes of a stack: which band of which file or array holds which band of which date."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tesela.core.errors import InputError, join_words
from tesela.io.raster import open_dataset
from tesela.sources.stack.dates import find_date

if TYPE_CHECKING:
    import rasterio
    import xarray as xr

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".nc", ".nc4")
"""Files that are read of a folder."""

_NETCDF = (".nc", ".nc4")
_NUMBER = re.compile(r"v?\d+m?|[hT]?\d\d[A-Za-z]?.*\d.*", re.IGNORECASE)
"""Words of a name that are no band: versions, resolutions, tiles."""

_FAMILIES = ("SR", "ST", "QA")
"""First words of the names of Landsat's bands."""


@dataclass(frozen=True)
class Plane:
    """One band of one date."""

    address: str
    """File, subdataset of a NetCDF file, or folder of a Zarr."""
    at: int
    """Number of the band in the file, from 1; of a Zarr, the position of the date."""
    date: str
    """"2013-01" or "2013-01-09"."""
    band: str
    """Name of the band."""
    scene: str
    """What the planes of one image share: a mask of the same scene belongs to it."""
    variable: str = ""
    """Array of a Zarr."""
    level: int = -1
    """Position along the array's `band` axis; -1 without one."""


def find_planes(sources: Iterable[str | Path], *, dates: Sequence[str] = ()) -> list[Plane]:
    """
    Find the dates and bands of files, folders, patterns, NetCDF and Zarr.

    Parameters
    ----------
    sources : paths
        Rasters with the date in their names ("ndvi_2010-01.tif", "LC08_..._20200105_..._SR_B4.TIF") or in the names
        of their bands ("NDVI_2010_01"), folders of such, patterns ("ndvi/*.tif"), NetCDF files with a time axis, and
        Zarr folders that xarray opens.
    dates : sequence of str, optional
        Dates of the bands of a single file, or of the files in order, where names have none.

    Raises
    ------
    InputError
        If nothing is found, or a file has no date.
    """
    planes: list[Plane] = []
    undated: list[str] = []
    files = _files(sources)
    for file in files:
        found = _of_zarr(file) if Path(file).is_dir() else _of_file(file)
        if not found:
            undated.append(file)
        planes += found
    if dates:
        return _dated(files, dates)
    if undated:
        raise InputError(
            f"{undated[0]}: neither its name nor its bands contain a date (2010-01, 20100131, A2010001). Leave it "
            f"out (folder/*_2010*.tif), or give the dates in order (--dates 2010-01..2010-12)."
        )
    return planes


def _files(sources: Iterable[str | Path]) -> list[str]:
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if any(letter in path.name for letter in "*?[") and not path.exists():
            matches = sorted(str(item) for item in path.parent.glob(path.name))
            if not matches:
                raise InputError(f"{source}: no file matches.")
            files += matches
        elif is_zarr(path):
            files.append(str(path))
        elif path.is_dir():
            inside = [item for item in sorted(path.rglob("*")) if item.suffix.lower() in SUFFIXES]
            if not inside:
                raise InputError(f"{source}: holds no raster ({join_words(SUFFIXES)}).")
            files += [str(item) for item in inside]
        elif not path.exists():
            raise InputError(f"{source}: no such file.")
        else:
            files.append(str(path))
    if not files:
        raise InputError("A stack needs files: give rasters, folders, NetCDF or Zarr.")
    return files


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr folder, of either format."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs", ".zmetadata"))


def _of_file(path: str) -> list[Plane]:
    """Dated bands of a raster; none where there is no date."""
    if Path(path).suffix.lower() in _NETCDF:
        return _of_netcdf(path)
    stem = Path(path).stem
    in_name = find_date(stem)
    with open_dataset(path) as data:
        names = [text or "" for text in data.descriptions]
        count = data.count
    in_bands = [find_date(name) for name in names]
    if all(in_bands) and (count > 1 or in_name is None):
        return [
            Plane(path, number, found[0], found[1] or _word(stem)[0], f"{stem} {found[0]}")
            for number, found in enumerate(in_bands, start=1)
            if found is not None
        ]
    if in_name is None:
        return []
    date, rest = in_name
    if count == 1:
        band, scene = _word(rest)
        return [Plane(path, 1, date, names[0] or band, f"{scene} {date}")]
    return [
        Plane(path, number, date, name or f"band{number}", stem) for number, name in enumerate(names, start=1)
    ]


def _word(name: str) -> tuple[str, str]:
    """
    The band that a name ends with, and what stands before it: that of the image.

    Versions, resolutions and tiles are no bands; Landsat's bands are two words.

    Examples
    --------
    >>> _word("T30SVG_B04_10m"), _word("LC08_L2SP_190028_02_T1_QA_PIXEL")
    (('B04', 'T30SVG'), ('QA_PIXEL', 'LC08_L2SP_190028_02_T1'))
    """
    words = re.split(r"[-_. ]+", name)
    for last in range(len(words) - 1, -1, -1):
        if len(words[last]) > 1 and not _NUMBER.fullmatch(words[last]):
            first = last - 1 if last and words[last - 1] in _FAMILIES else last
            return "_".join(words[first : last + 1]), "_".join(words[:first])
    return "value", name


def _of_netcdf(path: str) -> list[Plane]:
    """Bands of the variables of a NetCDF file that have a time axis, through GDAL."""
    whole = str(Path(path).resolve())  # part of the names of subdatasets
    with open_dataset(whole) as data:
        addresses = list(data.subdatasets) or [whole]
    planes = []
    for address in addresses:
        with open_dataset(address) as data:
            axes = _netcdf_axes(data)
            if "time" not in axes or data.crs is None:
                continue
            name = data.tags(1).get("NETCDF_VARNAME") or address.rpartition(":")[2]
            times = _netcdf_times(data, axes["time"])
            if name == "counts":
                continue
            for number in data.indexes:
                at = dict(
                    zip(
                        axes,
                        np.unravel_index(number - 1, [len(values) for values in axes.values()]),
                        strict=True,
                    )
                )
                levels = [axes[axis][place] for axis, place in at.items() if axis != "time"]
                time, band = times[at["time"]], "_".join(levels if levels else [name])
                planes.append(Plane(address, number, time, band, f"{path} {time}"))
    if not planes:
        raise InputError(
            f"{path}: no variable has a time axis and a coordinate system. Write them by the CF conventions "
            f"(grid_mapping, time with units), as rioxarray's write_crs does."
        )
    return planes


def _netcdf_axes(data: rasterio.DatasetReader) -> dict[str, list[str]]:
    """Values of the axes beside y and x of an open variable, in the order in which its bands run through them."""
    tags = data.tags()
    names = [name for name in tags.get("NETCDF_DIM_EXTRA", "").strip("{}").split(",") if name]
    values = {name: tags.get(f"NETCDF_DIM_{name}_VALUES", "").strip("{}").split(",") for name in names}
    if names == ["time"] and len(values["time"]) != data.count:  # a single date is no list
        values["time"] = [data.tags(number).get("NETCDF_DIM_time", "") for number in data.indexes]
    return values if np.prod([len(item) for item in values.values()]) == data.count else {}


def _netcdf_times(data: rasterio.DatasetReader, values: Sequence[str]) -> list[str]:
    """Dates of the values of a time axis."""
    from xarray.coding.times import decode_cf_datetime

    units = data.tags().get("time#units", "")
    try:
        dates = decode_cf_datetime(np.array(values, float), units, data.tags().get("time#calendar"))
        return [str(date)[:10] for date in dates.astype("datetime64[D]")]
    except (ValueError, TypeError) as error:
        raise InputError(f"{data.name}: its dates '{units}' cannot be read ({error}).") from None


def open_zarr(path: str) -> xr.Dataset:
    """
    Open a Zarr folder with xarray, without reading values.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    import xarray as xr

    try:
        data: xr.Dataset = xr.open_dataset(path, engine="zarr", chunks=None, decode_coords="all")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{path}: xarray cannot open this Zarr folder ({error}).") from None
    return data


def _of_zarr(path: str) -> list[Plane]:
    """Bands of the arrays of a Zarr folder that have the axes time, y and x, and perhaps band."""
    data = open_zarr(path)
    planes = []
    for name, array in data.data_vars.items():
        spatial = array_axes(array)
        if "time" not in array.dims or spatial is None or str(name) == "counts":
            continue
        others = [dim for dim in array.dims if dim not in ("time", *spatial)]
        if len(others) > 1:
            continue
        times = _zarr_times(path, data["time"].to_numpy())
        if not others:
            planes += [Plane(path, at, time, str(name), time, str(name)) for at, time in enumerate(times)]
            continue
        names = [str(label) for label in data[others[0]].to_numpy()]
        planes += [
            Plane(path, at, time, band, time, str(name), level)
            for at, time in enumerate(times)
            for level, band in enumerate(names)
        ]
    if not planes:
        raise InputError(
            f"{path}: no array has the axes time, y and x (it holds "
            f"{join_words(f'{name} {tuple(array.dims)}' for name, array in data.data_vars.items()) or 'none'})."
        )
    return planes


def array_axes(array: xr.DataArray) -> tuple[str, str] | None:
    """Names of the axes down and across an array: y and x, or latitude and longitude; None without them."""
    for pair in (("y", "x"), ("lat", "lon"), ("latitude", "longitude")):
        if set(pair) <= set(array.dims):
            return pair
    return None


def _zarr_times(path: str, values: Any) -> list[str]:
    kind = np.asarray(values).dtype.kind
    if kind == "M":
        return [str(day) for day in np.asarray(values).astype("datetime64[D]")]
    if kind in "OTU":
        found = [find_date(str(value)) for value in values]
        if all(found):
            return [item[0] for item in found if item is not None]
    raise InputError(
        f"{path}: its 'time' holds no dates (dtype {np.asarray(values).dtype}); write datetime64."
    )


def _dated(files: Sequence[str], dates: Sequence[str]) -> list[Plane]:
    """Planes of files without dates, given their dates in order: one per band of a single file, or one per file."""
    counts, names = [], []
    for file in files:
        with open_dataset(file) as data:
            counts.append(data.count)
            names.append([text or "" for text in data.descriptions])
    if len(files) == 1 and counts[0] == len(dates):
        band, _ = _word(Path(files[0]).stem)
        return [Plane(files[0], number, date, band, date) for number, date in enumerate(dates, start=1)]
    if len(files) == len(dates):
        return [
            Plane(
                file,
                number,
                date,
                name or (f"band{number}" if count > 1 else _word(Path(file).stem)[0]),
                file,
            )
            for file, date, count, texts in zip(files, dates, counts, names, strict=True)
            for number, name in enumerate(texts, start=1)
        ]
    have = f"{counts[0]} bands" if len(files) == 1 else f"{len(files)} files"
    raise InputError(f"{len(dates)} dates are given, but there are {have}; give one date for each, in order.")


def choose_bands(
    planes: Sequence[Plane], bands: Sequence[str] | None, *, masks: Iterable[str] = ()
) -> list[Plane]:
    """
    Keep the planes of some bands, or give the bands other names.

    Parameters
    ----------
    bands : sequence of str, optional
        Names of bands that the files have, to keep in this order; or as many other names as the files have bands, to
        rename them in order. Default: all.
    masks : names
        Bands that only mask others; they are kept for that, and are no bands of the cube.

    Raises
    ------
    InputError
        If a name is no band and the number does not fit, or a mask is no band.
    """
    apart = set(masks)
    found = list(dict.fromkeys(plane.band for plane in planes))
    for name in apart - set(found):
        raise InputError(f"The mask '{name}' is no band of the files; they have {join_words(found)}.")
    masking = [plane for plane in planes if plane.band in apart]
    rest = [plane for plane in planes if plane.band not in apart]
    own = [name for name in found if name not in apart]
    if bands is None or list(bands) == own:
        return rest + masking
    if set(bands) <= set(own):
        order = {name: position for position, name in enumerate(bands)}
        kept = [plane for plane in rest if plane.band in order]
        return sorted(kept, key=lambda plane: order[plane.band]) + masking
    if len(bands) != len(own):
        raise InputError(
            f"The files have the bands {join_words(own)}, not {join_words(sorted(set(bands) - set(own)))}. Name some "
            f"of them, or as many new names as there are bands ({len(own)})."
        )
    names = dict(zip(own, bands, strict=True))
    return [replace(plane, band=names[plane.band]) for plane in rest] + masking


def check_once(planes: Sequence[Plane]) -> None:
    """
    Check that no array holds one band of one date twice by name.

    Raises
    ------
    InputError
        If bands of one file and date have the same name.
    """
    twice = [
        key
        for key, times in Counter((p.address, p.date, p.band, p.level) for p in planes).items()
        if times > 1
    ]
    if twice:
        address, date, band, _ = twice[0]
        raise InputError(
            f"{address}: has the band '{band}' of {date} twice; name the bands of the file apart (gdal_edit.py or "
            f"rasterio: descriptions), or give their names (--bands)."
        )
