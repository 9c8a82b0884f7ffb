"""Arrays of xarray as inputs: a DataArray or Dataset with a CRS becomes raster files, written block by block."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError
from tesela.io.raster import horizontal_crs, raster_crs

if TYPE_CHECKING:
    import xarray as xr

_BUDGET_BYTES = 128 << 20
"""Pixels computed at a time; a single chunk of Dask may be larger."""

_STRIP_PX = 512

_Y_NAMES = ("y", "latitude", "lat", "northing")
_X_NAMES = ("x", "longitude", "lon", "easting")

_WRITTEN_AS = {"bool": "uint8", "float16": "float32", "longdouble": "float64", "float128": "float64"}
"""Types of numpy that GeoTIFF lacks."""


def is_array(source: object) -> TypeGuard[xr.DataArray | xr.Dataset]:
    """Whether an object is a DataArray or Dataset; xarray is not loaded for the question."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(source, (xarray.DataArray, xarray.Dataset))


def turned_array(data: xr.DataArray) -> xr.DataArray:
    """The array with rows from north to south and columns from west to east; errors as in `array_grid`."""
    turned: xr.DataArray = _north_up(data)[0]
    return turned


def array_grid(data: xr.DataArray | xr.Dataset) -> GeoBox:
    """
    Pixel grid of an array that follows the habits of rioxarray, odc-geo or the CF conventions.

    Raises
    ------
    GridError
        If it has no coordinate system, no coordinates of rows and columns, or they are not evenly spaced.
    """
    return _north_up(data)[1]


def array_bands(data: xr.DataArray | xr.Dataset) -> tuple[str, ...]:
    """Names that the bands of an array get as a scene; see `write_array`."""
    return tuple(name for plane in _planes_of(data) for name in plane.names)


def write_array(
    data: xr.DataArray | xr.Dataset,
    folder: Path,
    *,
    classes: bool = False,
    tags: Mapping[str, str] | None = None,
) -> list[Path]:
    """
    Write an array as GeoTIFFs, one for a DataArray, one for each variable of a Dataset.

    Arrays of Dask are computed chunk by chunk, others read by strips: never as a whole. Rows are written from north
    to south.

    Parameters
    ----------
    data : DataArray or Dataset
        Dimensions y and x (or latitude and longitude), and optionally one of bands and one of time, in any order.
        Bands are named by a coordinate of texts, else by the attribute `long_name`, else "band1", "band2", ...;
        those of a Dataset by its variables. Several times give "B04_2018-04-11". NaN is nodata, as is the number in
        the attribute `_FillValue`, `nodata` or `missing_value`; `scale_factor` and `add_offset` are kept.
    classes : bool
        Values are classes: NaN becomes 0, and floats become whole numbers.
    tags : mapping of str, optional
        Written into each file.

    Returns
    -------
    list of Path

    Raises
    ------
    GridError
        As `array_grid`.
    InputError
        If an array has other dimensions, complex numbers or texts, or the disk is full.
    """
    paths = []
    for number, plane in enumerate(_planes_of(data)):
        name = re.sub(r"[^\w.-]+", "_", plane.title).strip("._") or "array"
        path = folder / (f"{name}.tif" if not (folder / f"{name}.tif").exists() else f"{name}_{number}.tif")
        _write_plane(plane, path, classes=classes, tags=tags or {})
        paths.append(path)
    return paths


@dataclass(frozen=True)
class _Plane:
    """A variable as (bands, y, x), with the names of its bands."""

    title: str
    data: xr.DataArray
    grid: GeoBox
    names: tuple[str, ...]


def _planes_of(data: xr.DataArray | xr.Dataset) -> list[_Plane]:
    turned, grid = _north_up(data)
    rows, cols = _axes(turned)
    if hasattr(turned, "data_vars"):
        variables = [item for item in turned.data_vars.values() if rows in item.dims and cols in item.dims]
        return [_plane(item, grid, rows, cols, alone=False) for item in variables]
    return [_plane(turned, grid, rows, cols, alone=True)]


def _plane(data: xr.DataArray, grid: GeoBox, rows: Hashable, cols: Hashable, *, alone: bool) -> _Plane:
    if data.dtype.kind not in "biuf":
        raise InputError(
            f"{_called(data)}: holds {data.dtype} values; real numbers are needed. Convert them (.astype)."
        )
    further = [name for name in data.dims if name not in (rows, cols)]
    time = next((name for name in further if name == "time" or data[name].dtype.kind == "M"), None)
    bands = [name for name in further if name != time]
    if len(bands) > 1:
        raise InputError(
            f"{_called(data)}: has the dimensions {', '.join(map(str, data.dims))}; besides rows and columns one of "
            f"bands and one of time are read. Select in the others (.isel)."
        )
    band = bands[0] if bands else None
    own = _band_names(data, band, alone=alone)
    order = [name for name in (time, band) if name is not None]
    names = own
    if time is not None and data.sizes[time] > 1:
        names = [f"{name}_{date}" for date in _dates(data[time].values) for name in own]
    flat = data.transpose(*order, rows, cols)
    title = _name_of(data) or "array"
    return _Plane(title, flat, grid, tuple(names))


_TOKEN = re.compile(r".*-[0-9a-f]{32}")


def _name_of(data: xr.DataArray | xr.Dataset) -> str | None:
    """Name that somebody gave an array; the tokens of Dask are none."""
    name = getattr(data, "name", None)
    return None if name is None or _TOKEN.fullmatch(str(name)) else str(name)


def _band_names(data: xr.DataArray, band: Hashable | None, *, alone: bool) -> list[str]:
    """Names of the bands of one time."""
    long_name = data.attrs.get("long_name")
    if band is None:
        name = _name_of(data)
        numbered = name is None or re.fullmatch(r"band_?\d+", name)
        if isinstance(long_name, str) and long_name and (alone or numbered):
            return [long_name]
        return [name or "band1"]
    count = data.sizes[band]
    prefix = "" if alone else f"{data.name}_"
    listed = [long_name] if isinstance(long_name, str) else list(long_name or ())
    if len(listed) == count and all(isinstance(name, str) and name for name in listed):
        return [f"{prefix}{name}" for name in listed]
    if band in data.coords and data[band].dtype.kind in "UOT":
        return [f"{prefix}{name}" for name in data[band].values]
    return [f"{prefix}band{number}" for number in range(1, count + 1)]


def _dates(times: NDArray[Any]) -> list[str]:
    """Times as text, by day where no two share one."""
    if times.dtype.kind != "M":
        return [str(time) for time in times]
    days = [str(time) for time in np.datetime_as_string(times, unit="D")]
    return (
        days
        if len(set(days)) == len(days)
        else [str(time) for time in np.datetime_as_string(times, unit="s")]
    )


def _axes(data: xr.DataArray | xr.Dataset) -> tuple[Hashable, Hashable]:
    names = {str(name).lower(): name for name in data.dims}
    for rows, cols in zip(_Y_NAMES, _X_NAMES, strict=True):
        if rows in names and cols in names:
            return names[rows], names[cols]
    raise GridError(
        f"{_called(data)}: has the dimensions {', '.join(map(str, data.dims)) or 'none'}; rows and columns are "
        f"needed, named y and x, or latitude and longitude. Rename them (.rename)."
    )


def _called(data: xr.DataArray | xr.Dataset) -> str:
    """An array in messages."""
    kind = type(data).__name__
    name = _name_of(data)
    return f"{kind} '{name}'" if name is not None else kind


def _north_up(data: xr.DataArray | xr.Dataset) -> tuple[Any, GeoBox]:
    """The array with rows from north to south and columns from west to east, and its grid."""
    import odc.geo.xr  # noqa: F401 - registers the accessor

    rows, cols = _axes(data)
    for name in (rows, cols):
        if name not in data.coords:
            raise GridError(
                f"{_called(data)}: dimension {name} has no coordinates, so the array lies nowhere. Assign them "
                f"(.odc.assign_crs after xr.DataArray.assign_coords, or rioxarray.open_rasterio)."
            )
    values = {name: np.asarray(data[name].values, np.float64) for name in (rows, cols)}
    if values[rows].size > 1 and values[rows][0] < values[rows][-1]:
        data = data.isel({rows: slice(None, None, -1)})
    if values[cols].size > 1 and values[cols][0] > values[cols][-1]:
        data = data.isel({cols: slice(None, None, -1)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odc-geo, where there is no CRS: our error says so
        crs = data.odc.crs
    if crs is None:
        raise GridError(
            f"{_called(data)}: has no coordinate system. Assign the right one (.rio.write_crs('EPSG:....') or "
            f".odc.assign_crs('EPSG:....')), then try again."
        )
    system = horizontal_crs(rasterio.CRS.from_wkt(crs.to_wkt()), _called(data))
    grid = GeoBox((data.sizes[rows], data.sizes[cols]), _transform(data, rows, cols), system)
    return data, grid


def _transform(data: xr.DataArray | xr.Dataset, rows: Hashable, cols: Hashable) -> Affine:
    """Transform of the coordinates; that of `spatial_ref`, which has more digits, where both agree."""
    y, x = (np.asarray(data[name].values, np.float64) for name in (rows, cols))
    stored = next(
        (
            str(item.attrs["GeoTransform"]).split()
            for item in data.coords.values()
            if "GeoTransform" in item.attrs
        ),
        [],
    )
    given = Affine.from_gdal(*map(float, stored)) if len(stored) == 6 else None
    if given is not None and _fits(given, y, x):
        return given
    if min(y.size, x.size) < 2:
        raise GridError(
            f"{_called(data)}: has one row or column, whose size its coordinates do not tell. Write its transform "
            f"(.rio.write_transform())."
        )
    step_y, step_x = (y[-1] - y[0]) / (y.size - 1), (x[-1] - x[0]) / (x.size - 1)
    made = Affine(step_x, 0.0, x[0] - step_x / 2, 0.0, step_y, y[0] - step_y / 2)
    if not (step_x and step_y and _fits(made, y, x)):
        raise GridError(
            f"{_called(data)}: its rows or columns are not evenly spaced. Bring it on a grid (.rio.reproject, "
            f".odc.reproject, or .interp)."
        )
    return made


def _fits(transform: Affine, y: NDArray[np.float64], x: NDArray[np.float64]) -> bool:
    """Whether coordinates are the centres of the pixels of a transform, to a hundredth of a pixel."""
    if transform.b or transform.d or not transform.a or not transform.e:
        return False
    cols = (x - transform.c) / transform.a - np.arange(x.size) - 0.5
    rows = (y - transform.f) / transform.e - np.arange(y.size) - 0.5
    return bool(max(np.abs(cols).max(initial=0), np.abs(rows).max(initial=0)) < 0.01)


def _nodata(data: xr.DataArray, dtype: np.dtype[Any]) -> float | None:
    """Number without data: that of the attributes, else NaN in floats."""
    for key in ("_FillValue", "nodata", "missing_value"):
        if data.attrs.get(key) is not None:
            return float(data.attrs[key])
    return float("nan") if dtype.kind == "f" else None


def _write_plane(plane: _Plane, path: Path, *, classes: bool, tags: Mapping[str, str]) -> None:
    data = plane.data
    dtype = np.dtype(_WRITTEN_AS.get(data.dtype.name, data.dtype.name))
    nodata = _nodata(data, dtype)
    if classes and dtype.kind == "f":
        dtype, nodata = np.dtype("int32"), 0.0
    count = len(plane.names)
    rows, cols = (int(side) for side in plane.grid.shape)
    profile: dict[str, object] = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "count": count,
        "dtype": dtype.name,
        "nodata": nodata,
        "crs": raster_crs(plane.grid),
        "transform": plane.grid.affine,
        "BIGTIFF": "IF_SAFER",
        "INTERLEAVE": "BAND",
        "ALPHA": "NO",
        "PHOTOMETRIC": "MINISBLACK",
    }
    if min(rows, cols) >= _STRIP_PX:
        profile |= {"tiled": True, "blockxsize": _STRIP_PX, "blockysize": _STRIP_PX}
    try:
        with rasterio.open(path, "w", **profile) as file:
            file.descriptions = plane.names
            file.scales = (float(data.attrs.get("scale_factor", 1.0)),) * count
            file.offsets = (float(data.attrs.get("add_offset", 0.0)),) * count
            file.update_tags(**tags)
            for top, left, block in array_blocks(data, count):
                values = _stored(block, dtype, nodata, where=_called(data), classes=classes)
                file.write(values, window=Window(left, top, values.shape[2], values.shape[1]))
    except (OSError, RasterioError) as error:
        raise InputError(
            f"{path.parent}: {_called(data)} cannot be written there ({error}). Make room, or name another folder "
            f"in the variable TMPDIR."
        ) from None


def _stored(
    block: NDArray[Any], dtype: np.dtype[Any], nodata: float | None, *, where: str, classes: bool
) -> NDArray[Any]:
    """A block as the file stores it."""
    if block.dtype.kind == "f":
        missing = np.isnan(block)
        if classes:
            known = block[~missing]
            if known.size and (known != np.rint(known)).any():
                raise InputError(
                    f"{where}: holds {known[known != np.rint(known)][0]:g}, which is not a class; a map of classes "
                    f"holds whole numbers."
                )
            return np.where(missing, 0, block).astype(dtype)
        if nodata is not None and not np.isnan(nodata):
            block = np.where(missing, block.dtype.type(nodata), block)
    return block.astype(dtype, copy=False)


def array_blocks(data: xr.DataArray, count: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """
    Blocks of an array whose last two dimensions are rows and columns; they follow its chunks and fit the budget.

    Yields
    ------
    int, int, (count, rows, cols) array
        Row and column of the corner, and pixels; all dimensions before the rows are joined to `count`.
    """
    rows, cols = data.dims[-2:]
    high, wide = data.sizes[rows], data.sizes[cols]
    size = count * data.dtype.itemsize
    if data.chunks is None:
        strip = max(1, _BUDGET_BYTES // max(1, size * wide))
        strip = strip // _STRIP_PX * _STRIP_PX or strip
        down, across = [strip] * -(-high // strip), [wide]
    else:
        down, across = list(data.chunks[-2]), list(data.chunks[-1])
    top = 0
    for height in down:
        left = 0
        while left < wide:
            width = 0
            for part in _from(across, left):
                if width and size * height * (width + part) > _BUDGET_BYTES:
                    break
                width += part
            block = data.isel({rows: slice(top, top + height), cols: slice(left, left + width)})
            values = np.asarray(block.values)
            yield top, left, values.reshape(count, *values.shape[-2:])
            left += width
        top += height


def _from(parts: Sequence[int], start: int) -> Iterator[int]:
    """Parts of a row that begin at `start` or behind it."""
    at = 0
    for part in parts:
        if at >= start:
            yield part
        at += part
