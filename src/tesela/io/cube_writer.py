"""Writing cubes by blocks, as Zarr folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyproj
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import epsg_of
from tesela.io.cube import (
    CHECKSUMS,
    DIGEST,
    EMPTY,
    SERIES,
    VERSION,
    Cube,
    array_of,
    checksum,
    chunk_file,
    chunk_keys,
    metadata_digest,
    month_of,
)
from tesela.io.outputs import temporary_folder
from tesela.io.sinusoidal import named_wkt

if TYPE_CHECKING:
    import zarr

_CHUNK_BYTES = 4 << 20
"""
A chunk holds the whole series of a square of pixels, about this much: 64 x 64 of 12 months and 7 bands. Smaller ones
cost windows more and save a single series 1 ms (benchmarks/cube_chunks.py).
"""

_SHARDED_PX = 1 << 24
"""Cubes of more pixels, those of continents, are stored in shards of `_SHARD_CHUNKS` x `_SHARD_CHUNKS` chunks: as fast,
and a sixteenth of the files. GDAL 3.10 does not read shards, so smaller cubes have none."""

_SHARD_CHUNKS = 4


class CubeWriter:
    """
    Writes a cube by blocks; use it in a `with` block, at whose good end the folder appears as a whole.

    On an error nothing is left, and an older cube of that name stays.

    Parameters
    ----------
    grid : GeoBox
        Pixels; must have a CRS.
    times, bands, layers : sequences of str
        As in `Cube`; a cube has at least one time and band.
    units : str
        Unit of the values, for people: "reflectance".
    notes : mapping, optional
        Sources and rules, stored as JSON.

    Examples
    --------
    >>> with CubeWriter("a.zarr", grid, times=("2013-01",), bands=("red",)) as cube:     # doctest: +SKIP
    ...     cube.write(0, 0, values, counts)
    """

    def __init__(
        self,
        path: str | Path,
        grid: GeoBox,
        *,
        times: Sequence[str],
        bands: Sequence[str],
        layers: Sequence[str] = (),
        units: str = "",
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        for kind, names in (("time", times), ("band", bands), ("layer", layers)):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise InputError(f"{path}: {kind} {join_words(twice)} occurs twice; names must differ.")
        for time in times:
            month_of(time)
        if grid.crs is None:
            raise GridError(f"{path}: the grid has no coordinate system; a cube needs one.")
        self.path = Path(path)
        self.cube = Cube(str(path), grid, tuple(times), tuple(bands), tuple(layers), notes or {})
        self._sides = stored_sides(grid, len(times) * len(bands))
        self.chunk_px = self._sides[0] * self._sides[1]
        """Side of the squares that have a file each."""
        self._units = units
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        check_target(self.path)
        try:
            self._folder = self._stack.enter_context(temporary_folder(self.path))
            self._group = _create(self._folder / self.path.name, self.cube, self._sides, self._units)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error}).") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                made = self._folder / self.path.name
                files = {"/".join(map(str, key)): chunk_file(made, key) for key in chunk_keys(self._group)}
                self._group.attrs[EMPTY] = [name for name, file in files.items() if not file.exists()]
                self._group.attrs[CHECKSUMS] = {
                    name: checksum(file) for name, file in files.items() if file.exists()
                }
                _consolidate(made)
                _sign(made / "zarr.json")
                replace_folder(self._folder / self.path.name, self.path)
        finally:
            self._stack.close()

    def write(
        self,
        row: int,
        col: int,
        values: NDArray[np.floating],
        counts: NDArray[np.integer] | None = None,
    ) -> None:
        """
        Write the series of a window; windows of whole squares (`chunk_px`) may be written from several threads.

        Parameters
        ----------
        values : (time, band, rows, cols) array of float
            NaN for gaps.
        counts : (time, band, rows, cols) array of int, optional
            Observations behind each value, cut at 255; default: 1 where there is a value.
        """
        if counts is None:
            counts = np.isfinite(values).astype(np.uint8)
        self._write(SERIES, row, col, values.astype(np.float32, copy=False))
        self._write("counts", row, col, np.minimum(counts, 255).astype(np.uint8))

    def write_layers(self, row: int, col: int, layers: NDArray[np.floating]) -> None:
        """Write all ancillary layers of a window, (layers, rows, cols) float."""
        if not self.cube.layers and not len(layers):
            return
        self._write("layers", row, col, layers.astype(np.float32, copy=False))

    def _write(self, name: str, row: int, col: int, block: NDArray[Any]) -> None:
        array = array_of(self._group, name)
        rows, cols = block.shape[-2:]
        if (
            block.shape[:-2] != array.shape[:-2]
            or row + rows > array.shape[-2]
            or col + cols > array.shape[-1]
        ):
            raise InputError(
                f"{self.path}: a block of '{name}' has the shape {block.shape} at ({row}, {col}); the cube's is "
                f"{array.shape}."
            )
        try:
            array[..., row : row + rows, col : col + cols] = block
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error}).") from error


def replace_folder(made: Path, target: Path) -> None:
    """
    Move a finished folder to `target`, on the same disk, and remove the former one.

    Raises
    ------
    InputError
        If `target` is no Zarr folder, or cannot be replaced.
    """
    check_target(target)
    old = made.with_name(f"{made.name}.old")
    try:
        if target.exists():
            target.rename(old)
        made.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
    shutil.rmtree(old, ignore_errors=True)


def check_target(target: Path) -> None:
    """
    Check that a cube may be written to a path.

    Raises
    ------
    InputError
        If there is a file, or a folder with other files.
    """
    if target.is_file():
        raise InputError(f"{target}: is a file; name another output.")
    if target.is_dir() and any(target.iterdir()) and not (target / "zarr.json").exists():
        raise InputError(
            f"{target}: is a folder with other files, which a cube would replace. Name a folder of its own, such as "
            f"{target / 'cube.zarr'}."
        )


def _sign(metadata: Path) -> None:
    """Store the digest of the metadata in ``zarr.json``."""
    document = json.loads(metadata.read_text(encoding="utf-8"))
    document["attributes"][DIGEST] = metadata_digest(metadata.parent)
    metadata.write_text(json.dumps(document, indent=2), encoding="utf-8")


def stored_sides(grid: GeoBox, series: int) -> tuple[int, int]:
    """
    Side of a cube's chunks in pixels, and of its shards in chunks; 1 where it has none.

    Parameters
    ----------
    series : int
        Numbers of a pixel's series, times x bands.

    Examples
    --------
    >>> from affine import Affine
    >>> stored_sides(GeoBox((1900, 2200), Affine(460, 0, 0, 0, -460, 0), "EPSG:3035"), 12 * 7)
    (64, 1)
    """
    side = 16
    while series * 4 * (2 * side) ** 2 <= _CHUNK_BYTES and side < 512:
        side *= 2
    rows, cols = grid.shape
    return side, _SHARD_CHUNKS if int(rows) * int(cols) > _SHARDED_PX else 1


_COORDINATES = "month spatial_ref"
"""Coordinates beside those of the axes; with the CRS among them, xarray keeps it without being asked."""


def _consolidate(folder: Path) -> None:
    """Copy the metadata of all arrays into `zarr.json`, so that programs open the cube by one request."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # zarr: "not part of the specification yet"; GDAL, xarray, zarr-python read it
        zarr.consolidate_metadata(str(folder), zarr_format=3)


def _create(folder: Path, cube: Cube, sides: tuple[int, int], units: str) -> zarr.Group:
    import zarr
    from zarr.codecs import BloscCodec

    rows, cols = cube.grid.shape
    group = zarr.open_group(str(folder), mode="w-", zarr_format=3)
    series = (len(cube.times), len(cube.bands))
    chunk_px, shard = sides
    chunks = (min(chunk_px, rows), min(chunk_px, cols))
    shards = (shard * chunks[0], shard * chunks[1])

    def create(
        name: str,
        lead: tuple[int, ...],
        dims: tuple[str, ...],
        dtype: DTypeLike,
        fill: float,
        **attributes: str,
    ) -> None:
        group.create_array(
            name,
            shape=(*lead, rows, cols),
            chunks=(*lead, *chunks),
            shards=(*lead, *shards) if shard > 1 else None,
            dtype=np.dtype(dtype),
            fill_value=fill,
            dimension_names=(*dims, "y", "x"),
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
            attributes={"grid_mapping": "spatial_ref", **attributes},
        )

    named = {"long_name": "series of each pixel; NaN for gaps", **({"units": units} if units else {})}
    create(SERIES, series, ("time", "band"), "float32", np.nan, coordinates=_COORDINATES, **named)
    create(
        "counts",
        series,
        ("time", "band"),
        "uint8",
        0,
        coordinates=_COORDINATES,
        long_name="observations behind each value",
    )
    if cube.layers:
        create(
            "layers",
            (len(cube.layers),),
            ("layer",),
            "float32",
            np.nan,
            long_name="layers that do not change",
            coordinates="spatial_ref",
        )
    for name, texts in (("band", cube.bands), ("layer", cube.layers)):
        if texts:
            _coordinate(group, name, np.array(texts, np.dtypes.StringDType()), "str")
    _coordinate(group, "time", days_of(cube.times, cube.notes), "int64", **_time_attributes(cube.times))
    _coordinate(group, "month", np.array(cube.months, np.int8), "int8", "time", long_name="month, 1 to 12")
    affine = cube.grid.affine
    assert cube.grid.crs is not None
    for name, first, step, count in (("x", affine.c, affine.a, cols), ("y", affine.f, affine.e, rows)):
        content = first + step * (np.arange(count) + 0.5)
        _coordinate(group, name, content, "float64", **_axis_attributes(name, cube.grid))
    wkt, code = named_wkt(cube.grid.crs), epsg_of(cube.grid.crs)
    transform = " ".join(repr(float(v)) for v in (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e))
    group.create_array(
        "spatial_ref",
        shape=(),
        dtype="int32",
        attributes={
            **pyproj.CRS.from_wkt(wkt).to_cf(),
            "crs_wkt": wkt,
            "spatial_ref": wkt,
            "GeoTransform": transform,
        },
        dimension_names=(),
    )
    group.attrs["Conventions"] = "CF-1.11"
    document = {
        "version": VERSION,
        "grid": {
            "shape": [int(rows), int(cols)],
            "transform": [float(v) for v in affine[:6]],
            "crs": f"EPSG:{code}" if code else wkt,
        },
        "times": list(cube.times),
        "bands": list(cube.bands),
        "layers": list(cube.layers),
        "notes": dict(cube.notes),
    }
    group.attrs["tesela"] = json.dumps(document)  # as text, which NetCDF can hold too
    return group


def days_of(times: Sequence[str], notes: Mapping[str, Any]) -> NDArray[np.int64]:
    """
    Days since 1970-01-01 of the times of a cube; of a month its first day.

    Months of no certain year get the first year of `notes["months"]`, 2001 if there is none.
    """
    span = notes.get("months")
    year = str(span[0])[:4] if isinstance(span, list | tuple) and len(str(span[0])) >= 7 else "2001"
    dates = [time if len(time) > 2 else f"{year}-{time}" for time in times]
    return np.array(dates, "datetime64[D]").astype(np.int64)


def _time_attributes(times: Sequence[str]) -> dict[str, str]:
    attributes = {
        "units": "days since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "standard_name": "time",
        "axis": "T",
    }
    if any(len(time) == 2 for time in times):
        attributes["comment"] = "means of equal months of several years; the year is that of the first"
    return attributes


def _axis_attributes(name: str, grid: GeoBox) -> dict[str, str]:
    """CF attributes of a coordinate, so that programs find the axes by them."""
    assert grid.crs is not None
    if grid.crs.geographic:
        kind, unit = ("longitude", "degrees_east") if name == "x" else ("latitude", "degrees_north")
    else:
        kind, unit = f"projection_{name}_coordinate", str(grid.crs.units[0] or "m")
    return {"standard_name": kind, "units": "m" if unit == "metre" else unit, "axis": name.upper()}


def _coordinate(
    group: zarr.Group, name: str, content: NDArray[Any], dtype: str, dim: str = "", **attributes: str
) -> None:
    array = group.create_array(
        name,
        shape=content.shape,
        dtype=dtype,
        dimension_names=(dim or name,),
        attributes=dict(attributes),
    )
    array[:] = content
