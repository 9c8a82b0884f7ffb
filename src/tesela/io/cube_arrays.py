"""Arrays of xarray as cubes: series of pixels with gaps, written to a temporary Zarr folder by blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from tesela.core.errors import InputError, wrong_kind
from tesela.io.arrays import array_blocks, array_grid, is_array, turned_array
from tesela.io.cube import SERIES, Cube
from tesela.io.cube import open_cube as open_folder
from tesela.io.cube_writer import CubeWriter
from tesela.io.held import Held

if TYPE_CHECKING:
    import xarray as xr

CubeSource: TypeAlias = Union[str, Path, Cube, "xr.DataArray", "xr.Dataset"]
"""What is opened as a cube."""


def open_cube(source: CubeSource) -> Cube:
    """
    Open a cube: a Zarr folder, a `Cube`, or an array with its series.

    Parameters
    ----------
    source : path, Cube, Dataset or DataArray
        A Dataset as `Cube.to_xarray` gives it, with the variables series, counts and layers (the latter two may be
        missing), or the series alone as a DataArray: dimensions time, band, y and x, float, NaN for gaps, with a CRS.
        It is computed block by block and written to a temporary folder.

    Raises
    ------
    GridError
        If an array has no CRS.
    InputError
        If it has other dimensions, or its times are no dates.
    """
    if isinstance(source, Cube):
        return source
    if is_array(source):
        held = Held()
        _write(source, held.folder / "cube.zarr")
        return replace(open_folder(held.folder / "cube.zarr"), held=held)
    if not isinstance(source, str | Path):
        raise wrong_kind("A cube", "a Zarr folder, a Cube, or a Dataset with series and a CRS", source)
    return open_folder(source)


def _write(source: xr.DataArray | xr.Dataset, path: Path) -> None:
    variables: dict[str, Any] = {SERIES: source}
    if hasattr(source, "data_vars"):
        variables = {name: source[name] for name in (SERIES, "counts", "layers") if name in source.data_vars}
    if SERIES not in variables:
        raise InputError(
            f"The Dataset has the variables {', '.join(map(str, source.data_vars))}; a cube needs its series in one "
            f"named '{SERIES}' (time, band, y, x)."
        )
    series = _as_dimensions(variables[SERIES], ("time", "band", "y", "x"))
    layers = None
    if "layers" in variables:
        layers = _as_dimensions(variables["layers"], ("layer", "y", "x"))
    with CubeWriter(
        path,
        array_grid(series),
        times=_times(source, series),
        bands=[str(name) for name in series["band"].values],
        layers=[] if layers is None else [str(name) for name in layers["layer"].values],
    ) as cube:
        shape = (series.sizes["time"], series.sizes["band"])
        given = variables.get("counts")
        counts = None if given is None else _as_dimensions(given, ("time", "band", "y", "x"))
        for row, col, block in array_blocks(series, shape[0] * shape[1]):
            values = block.reshape(*shape, *block.shape[-2:])
            window = {"y": slice(row, row + values.shape[-2]), "x": slice(col, col + values.shape[-1])}
            cube.write(row, col, values, None if counts is None else counts.isel(window).values)
            if layers is not None:
                cube.write_layers(row, col, layers.isel(window).values)


def _as_dimensions(data: xr.DataArray, wanted: tuple[str, ...]) -> xr.DataArray:
    if set(data.dims) != set(wanted):
        raise InputError(
            f"The DataArray '{data.name}' has the dimensions {', '.join(map(str, data.dims))}; a cube needs "
            f"{', '.join(wanted)}. Rename or add them (.rename, .expand_dims)."
        )
    turned: xr.DataArray = turned_array(data.transpose(*wanted))
    return turned


def _times(source: xr.DataArray | xr.Dataset, series: xr.DataArray) -> list[str]:
    """Times as a cube writes them: months where no two dates share one, else days."""
    stored = source.attrs.get("tesela")
    if isinstance(stored, str):
        named: list[str] = json.loads(stored).get("times", [])
        if len(named) == series.sizes["time"]:
            return named
    values = series["time"].values
    if values.dtype.kind != "M":
        return [str(value) for value in values]
    months = [str(value) for value in np.datetime_as_string(values, unit="M")]
    return (
        months
        if len(set(months)) == len(months)
        else [str(v) for v in np.datetime_as_string(values, unit="D")]
    )
