"""Cubes: pixel time series with gaps, and layers that do not change in time, in one Zarr folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, unknown_name, wrong_kind
from tesela.core.grid import pixel_offset
from tesela.io.arrays import array_grid, is_array
from tesela.io.raster import grid_of, open_dataset
from tesela.io.scenes import open_scene

if TYPE_CHECKING:
    import xarray as xr
    import zarr

VERSION = 2
SERIES = "series"
"""Name of the array of the values."""

EMPTY = "empty_chunks"
"""Attribute that lists the chunks without values ("series/0/3"): they have no file, as those that vanish."""

CHECKSUMS = "checksums"
"""Attribute with the checksums of the chunks that have a file, by the same names."""

DIGEST = "digest"
"""Attribute with the digest of the metadata from which a cube is read."""

_LAYOUT = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")

_NAME_OF = {1: "values", 2: SERIES}
"""Name of that array by version: xarray has an attribute `values` of its own."""

_MONTH = re.compile(r"(?:\d{4}-)?(\d{2})(?:-\d{2})?")


@dataclass(frozen=True)
class Cube:
    """
    Series and layers of the pixels of a grid, as a Zarr folder that xarray opens too.

    The folder holds `series` (time, band, y, x) float32 with NaN for gaps, `counts` (time, band, y, x) uint8 with
    the observations behind each value, and `layers` (layer, y, x) float32 with what does not change in time; `time` as
    dates, `month` beside it, and the CRS as the CF conventions write them.
    """

    path: str
    grid: GeoBox
    times: tuple[str, ...]
    """Dates in order: "2013-01" for a month, "2013-01-09" for a day, "01" for a month of no certain year."""
    bands: tuple[str, ...]
    """Names of the bands of the series, in order."""
    layers: tuple[str, ...] = ()
    """Names of the ancillary layers, in order."""
    notes: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Sources and rules, as the program that built the cube describes them."""
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary folder of a cube made from an array; see `tesela.io.held`."""

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return (
            f"<Cube {Path(self.path).name}: {len(self.times)} times x {len(self.bands)} bands, "
            f"{len(self.layers)} layers, {rows} x {cols} px of {self.grid.resolution.x:g}>"
        )

    @property
    def months(self) -> tuple[int, ...]:
        """Month of each time, 1 to 12."""
        return tuple(month_of(time) for time in self.times)

    @property
    def chunk_px(self) -> int:
        """Side of the squares in files of their own, chunks or shards: windows of whole squares are read fastest."""
        return file_sides(self._array(self._series))[0]

    def read(self, grid: GeoBox | None = None) -> NDArray[np.float32]:
        """
        Series of a window, (time, band, rows, cols) float32, NaN for gaps and outside the cube.

        Parameters
        ----------
        grid : GeoBox, optional
            A window of the cube's own pixels, which may reach past its edges; default: all of it.

        Raises
        ------
        GridError
            If the pixels of `grid` are not the cube's.
        InputError
            If a chunk is broken, or its file has vanished.
        """
        return np.asarray(self._read(self._series, grid, outside=np.nan), np.float32)

    def read_counts(self, grid: GeoBox | None = None) -> NDArray[np.uint8]:
        """Observations behind each value of a window, (time, band, rows, cols) uint8; as `read`."""
        return np.asarray(self._read("counts", grid, outside=0), np.uint8)

    def read_layers(
        self, names: Sequence[str] | None = None, grid: GeoBox | None = None
    ) -> NDArray[np.float32]:
        """
        Ancillary layers of a window, (layers, rows, cols) float32, NaN where there is no data.

        Parameters
        ----------
        names : sequence of str, optional
            Which, in this order; default: all.
        """
        chosen = self.layers if names is None else tuple(names)
        for name in chosen:
            if name not in self.layers:
                raise InputError(f"{self.path}: {unknown_name('layer', name, self.layers)}")
        if not chosen:
            rows, cols = (self.grid if grid is None else grid).shape
            return np.zeros((0, rows, cols), np.float32)
        values = self._read("layers", grid, outside=np.nan)
        return np.asarray(values[[self.layers.index(name) for name in chosen]], np.float32)

    def to_xarray(self) -> xr.Dataset:
        """Open the folder with xarray; lazily where Dask is installed."""
        import xarray as xr

        data: xr.Dataset = xr.open_zarr(self.path, consolidated=False, decode_coords="all")
        return data

    @cached_property
    def _series(self) -> str:
        return _series_name(self._group)

    @cached_property
    def _group(self) -> zarr.Group:
        return _open_group(self.path)

    def _array(self, name: str) -> zarr.Array[Any]:
        return array_of(self._group, name)

    def _read(self, name: str, grid: GeoBox | None, *, outside: float) -> NDArray[Any]:
        array = self._array(name)
        wanted = self.grid if grid is None else grid
        offset = pixel_offset(self.grid, wanted)
        if offset is None:
            raise GridError(
                f"{self.path}: the window has other pixels; a cube is read on its own pixels only. Warp "
                f"the other raster to the cube's grid, or build the cube on its grid."
            )
        row, col = offset
        rows, cols = wanted.shape
        top, left = max(0, row), max(0, col)
        bottom, right = min(self.grid.shape[0], row + rows), min(self.grid.shape[1], col + cols)
        out = np.full((*array.shape[:-2], rows, cols), outside, array.dtype)
        if top < bottom and left < right:
            self.check_files(name, (top, bottom), (left, right))
            try:
                block = array[..., top:bottom, left:right]
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{self.path}: a chunk of '{name}' cannot be read, the folder is broken ({error}). "
                    f"Build the cube again."
                ) from None
            out[..., top - row : bottom - row, left - col : right - col] = block
        return out

    @cached_property
    def _empty(self) -> frozenset[str] | None:
        """Chunks without values, which have no file; None where the cube does not list them."""
        listed = self._group.attrs.get(EMPTY)
        return frozenset(map(str, listed)) if isinstance(listed, list) else None

    @cached_property
    def _checksums(self) -> dict[str, str]:
        """Checksums of the files that have not been read yet; none in cubes of earlier versions."""
        stored = self._group.attrs.get(CHECKSUMS)
        return {str(key): str(value) for key, value in stored.items()} if isinstance(stored, dict) else {}

    def check_files(self, name: str, rows: tuple[int, int], cols: tuple[int, int]) -> None:
        """
        Check that the files of a window of an array are those that were written, each once.

        Zarr reads a chunk whose file has vanished as empty, and other bytes as other numbers.

        Raises
        ------
        InputError
            If a file has vanished, or is another.
        """
        if self._empty is None or name not in (self._series, "counts", "layers"):
            return
        side_y, side_x = file_sides(self._array(name))
        for i in range(rows[0] // side_y, (rows[1] - 1) // side_y + 1):
            for j in range(cols[0] // side_x, (cols[1] - 1) // side_x + 1):
                file = chunk_file(Path(self.path), (name, i, j))
                if f"{name}/{i}/{j}" not in self._empty and not file.exists():
                    raise InputError(f"{file}: has vanished, the cube is incomplete. Build the cube again.")
                wanted = self._checksums.get(f"{name}/{i}/{j}")
                if wanted is not None and checksum(file) != wanted:
                    raise InputError(
                        f"{file}: is not the file that was written, the cube is damaged. Build the cube again."
                    )
                self._checksums.pop(f"{name}/{i}/{j}", None)


def checksum(file: Path) -> str:
    """Checksum of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, xxhash.xxh3_64).hexdigest()


def metadata_digest(folder: Path) -> str:
    """
    Digest of the metadata from which a cube is read; other attributes may be added to a cube.

    Raises
    ------
    OSError, ValueError, LookupError, TypeError, AttributeError
        If they are not there, or broken.
    """
    document = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    arrays = document.get("consolidated_metadata", {}).get("metadata")
    read: dict[str, Any] = {name: document["attributes"].get(name) for name in ("tesela", EMPTY, CHECKSUMS)}
    for name in (SERIES, "counts", "layers"):
        file = folder / name / "zarr.json"
        plan = arrays.get(name) if arrays else json.loads(file.read_text()) if file.exists() else None
        read[name] = plan and {key: plan.get(key) for key in _LAYOUT}
    return xxhash.xxh3_64_hexdigest(json.dumps(read, sort_keys=True).encode())


def chunk_keys(group: zarr.Group) -> Iterator[tuple[str, int, int]]:
    """Name of the array, row and column of all files of a cube's series, counts and layers."""
    for name in (_series_name(group), "counts", "layers"):
        if name in group:
            array = array_of(group, name)
            rows, cols = (
                -(-length // side) for length, side in zip(array.shape[-2:], file_sides(array), strict=True)
            )
            yield from ((name, i, j) for i in range(rows) for j in range(cols))


def file_sides(array: zarr.Array[Any]) -> tuple[int, int]:
    """Rows and columns of the squares that have a file each: shards of several chunks, or chunks."""
    sides = (array.shards or array.chunks)[-2:]
    return int(sides[0]), int(sides[1])


def chunk_file(folder: Path, key: tuple[str, int, int]) -> Path:
    """File of a chunk or shard; one holds all times, bands or layers."""
    name, row, col = key
    lead = ("0",) if name == "layers" else ("0", "0")
    return folder.joinpath(name, "c", *lead, str(row), str(col))


def open_cube(path: str | Path) -> Cube:
    """
    Describe a cube; only its headers are read.

    Raises
    ------
    InputError
        If there is no such folder, or it is no cube of Tesela.
    """
    group = _open_group(path)
    _check_metadata(Path(path))
    document = _document(group)
    if document is None:
        raise InputError(
            f"{path}: is a Zarr folder, but no cube of Tesela. Make one of it: tesela mosaic stack {path} -o cube.zarr"
        )
    if not isinstance(document.get("version"), int) or document["version"] not in _NAME_OF:
        raise InputError(
            f"{path}: is a cube of version {document.get('version')}, but this Tesela reads up to {VERSION}. "
            f"Update Tesela, or build the cube again (tesela mosaic)."
        )
    from affine import Affine

    try:
        grid = document["grid"]
        cube = Cube(
            str(path),
            GeoBox(tuple(grid["shape"]), Affine(*grid["transform"]), grid["crs"]),
            tuple(document["times"]),
            tuple(document["bands"]),
            tuple(document["layers"]),
            document["notes"],
        )
        series = (len(cube.times), len(cube.bands), *cube.grid.shape)
        wanted = {_series_name(group): series, "counts": series}
        if cube.layers:
            wanted["layers"] = (len(cube.layers), *cube.grid.shape)
        shapes = {name: tuple(array_of(group, name).shape) for name in wanted}
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, OverflowError) as error:
        raise InputError(
            f"{path}: the cube is broken ({error!r} is missing or wrong). Build it again."
        ) from None
    if shapes != wanted:
        raise InputError(
            f"{path}: the cube is broken: its arrays have the shapes {shapes}, its attributes need {wanted}. "
            f"Build it again."
        )
    return cube


def is_cube(path: str | Path) -> bool:
    """Whether a Zarr folder was written as a cube."""
    try:
        return _document(_open_group(path)) is not None
    except InputError:
        return False


def open_grid(path: object) -> GeoBox:
    """Grid of a cube, of a scene of several files joined by commas, of any raster, array or object with a grid."""
    if isinstance(path, GeoBox):
        return path
    if is_array(path):
        return array_grid(path)
    if isinstance(grid := getattr(path, "grid", None), GeoBox):
        return grid
    if isinstance(path, list | tuple):
        return open_scene(path).grid
    if not isinstance(path, str | Path):
        raise wrong_kind(
            "The grid", "that of a path, a Scene, a map, a DataArray with a CRS, or a GeoBox", path
        )
    if "," in str(path) and not Path(path).exists():
        return open_scene(path).grid
    if (Path(path) / "zarr.json").exists():
        return open_cube(path).grid
    with open_dataset(path) as data:
        return grid_of(data)


def month_of(time: str) -> int:
    """
    Month of a cube's time, 1 to 12.

    Raises
    ------
    InputError
        If the text is neither "2013-01", "2013-01-09" nor "01".

    Examples
    --------
    >>> month_of("2013-07"), month_of("07")
    (7, 7)
    """
    match = _MONTH.fullmatch(time)
    if match is None or not 1 <= int(match[1]) <= 12:
        raise InputError(
            f"'{time}' is not a time of a cube; write 2013-01, 2013-01-09, or 01 for any January."
        )
    return int(match[1])


def _open_group(path: str | Path) -> zarr.Group:
    import zarr

    try:
        return zarr.open_group(str(path), mode="r", zarr_format=3)
    except (FileNotFoundError, NotADirectoryError):
        what = "no such folder" if not Path(path).exists() else "is no Zarr folder"
        raise InputError(f"{path}: {what}; a cube is a Zarr folder, written by `tesela mosaic`.") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{path}: the Zarr folder is broken ({error}). Build the cube again.") from None


def _check_metadata(folder: Path) -> None:
    """Refuse metadata that are not those that were written; cubes of earlier versions hold no digest of them."""
    try:
        attributes = json.loads((folder / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
        digest = attributes.get(DIGEST)
        signed = CHECKSUMS in attributes or (isinstance(digest, str) and len(digest) == 16)
        sound = not signed or digest == metadata_digest(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise InputError(
            f"{folder / 'zarr.json'}: is not the file that was written, the cube is damaged. Build the cube again."
        )


def _document(group: zarr.Group) -> dict[str, Any] | None:
    """What Tesela stored with a cube: JSON as text since version 2; None if the folder is no cube."""
    stored = dict(group.attrs).get("tesela")
    try:
        document = json.loads(stored) if isinstance(stored, str) else stored
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _series_name(group: zarr.Group) -> str:
    """Name of the array of the values, by the version of the cube."""
    document = _document(group)
    assert document is not None
    return _NAME_OF[document["version"]]


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Array of a group."""
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    return array
