"""Cubes: pixel time series with gaps, and the layers that stay the same, as one Zarr folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words, unknown_name
from tesela.io.raster import pixel_offset

if TYPE_CHECKING:
    import xarray as xr
    import zarr

_CHUNK_BYTES = 4 << 20
"""A chunk holds the whole series of a square of pixels, about this much."""

_VERSION = 1
_MONTH = re.compile(r"(?:\d{4}-)?(\d{2})(?:-\d{2})?")


@dataclass(frozen=True)
class Cube:
    """
    Series and layers of the pixels of a grid, as a Zarr folder that xarray opens too.

    The folder holds `values` (time, band, y, x) float32 with NaN for gaps, `counts` (time, band, y, x) uint8 with
    the observations behind each value, and `layers` (layer, y, x) float32 with what does not change in time.
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
    """What the builder says about sources and rules."""

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
        """Side of the squares in which the folder is stored: windows of whole squares are read fastest."""
        return int(self._group["values"].chunks[2])

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
            If a chunk is broken.
        """
        return np.asarray(self._read("values", grid, outside=np.nan), np.float32)

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
        found = self._read("layers", grid, outside=np.nan)
        return np.asarray(found[[self.layers.index(name) for name in chosen]], np.float32)

    def to_xarray(self) -> xr.Dataset:
        """Open the folder with xarray; lazily where Dask is installed."""
        import xarray as xr

        return xr.open_zarr(self.path, consolidated=False, decode_coords="all")

    @cached_property
    def _group(self) -> zarr.Group:
        return _open_group(self.path)

    def _read(self, name: str, grid: GeoBox | None, *, outside: float) -> NDArray[Any]:
        array = self._group[name]
        wanted = self.grid if grid is None else grid
        offset = pixel_offset(self.grid, wanted)
        if offset is None:
            raise GridError(
                f"{self.path}: a window of other pixels was asked for; a cube is read on its own pixels only. Warp "
                f"the other raster to the cube's grid, or build the cube on its grid."
            )
        row, col = offset
        rows, cols = wanted.shape
        top, left = max(0, row), max(0, col)
        bottom, right = min(self.grid.shape[0], row + rows), min(self.grid.shape[1], col + cols)
        out = np.full((*array.shape[:-2], rows, cols), outside, array.dtype)
        if top < bottom and left < right:
            try:
                found = array[..., top:bottom, left:right]
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{self.path}: a chunk of '{name}' cannot be read, the folder is broken ({error}). "
                    f"Build the cube again."
                ) from None
            out[..., top - row : bottom - row, left - col : right - col] = found
        return out


def open_cube(path: str | Path) -> Cube:
    """
    Describe a cube; only its headers are read.

    Raises
    ------
    InputError
        If there is no such folder, or it is no cube of Tesela.
    """
    group = _open_group(path)
    document = dict(group.attrs).get("tesela")
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise InputError(
            f"{path}: is no cube that this version reads (no 'tesela' of version {_VERSION} in its attributes). "
            f"Build it again (tesela mosaic)."
        )
    from affine import Affine

    place = document["grid"]
    grid = GeoBox(tuple(place["shape"]), Affine(*place["transform"]), place["crs"])
    return Cube(
        str(path),
        grid,
        tuple(document["times"]),
        tuple(document["bands"]),
        tuple(document["layers"]),
        document["notes"],
    )


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
                raise InputError(f"{path}: {kind} {join_words(twice)} stands twice; names must differ.")
        for time in times:
            month_of(time)
        if grid.crs is None:
            raise GridError(f"{path}: the grid has no coordinate system; a cube needs one.")
        self.path = Path(path)
        self.cube = Cube(str(path), grid, tuple(times), tuple(bands), tuple(layers), notes or {})
        self.chunk_px = _chunk_px(len(times) * len(bands))
        self._units = units

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
            self._group = _create(self._folder / self.path.name, self.cube, self.chunk_px, self._units)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error}).") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                replace_folder(self._folder / self.path.name, self.path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(
        self,
        row: int,
        col: int,
        values: NDArray[np.floating],
        counts: NDArray[np.integer] | None = None,
    ) -> None:
        """
        Write the series of a window; windows of whole chunks (`chunk_px`) may be written from several threads.

        Parameters
        ----------
        values : (time, band, rows, cols) array of float
            NaN for gaps.
        counts : (time, band, rows, cols) array of int, optional
            Observations behind each value, at most 255 are told; default: 1 where there is a value.
        """
        if counts is None:
            counts = np.isfinite(values).astype(np.uint8)
        self._write("values", row, col, values.astype(np.float32, copy=False))
        self._write("counts", row, col, np.minimum(counts, 255).astype(np.uint8))

    def write_layers(self, row: int, col: int, layers: NDArray[np.floating]) -> None:
        """Write all ancillary layers of a window, (layers, rows, cols) float."""
        self._write("layers", row, col, layers.astype(np.float32, copy=False))

    def _write(self, name: str, row: int, col: int, block: NDArray[Any]) -> None:
        array = self._group[name]
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


def replace_folder(made: Path, target: Path) -> None:
    """
    Put a finished folder in the place of `target`, on the same disk.

    Raises
    ------
    InputError
        If `target` is a file, or cannot be replaced.
    """
    if target.is_file():
        raise InputError(f"{target}: is a file; name another output.")
    old = made.with_name(f"{made.name}.old")
    try:
        if target.exists():
            target.rename(old)
        made.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
    shutil.rmtree(old, ignore_errors=True)


def _chunk_px(series: int) -> int:
    """Side of the largest square of a power of two whose series fill no more than a chunk."""
    side = 16
    while series * 4 * (2 * side) ** 2 <= _CHUNK_BYTES and side < 512:
        side *= 2
    return side


def _open_group(path: str | Path) -> zarr.Group:
    import zarr

    try:
        return zarr.open_group(str(path), mode="r", zarr_format=3)
    except (FileNotFoundError, NotADirectoryError):
        what = "no such folder" if not Path(path).exists() else "is no Zarr folder"
        raise InputError(f"{path}: {what}; a cube is a Zarr folder, written by `tesela mosaic`.") from None
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: the Zarr folder is broken ({error}). Build the cube again.") from None


def _create(folder: Path, cube: Cube, chunk_px: int, units: str) -> zarr.Group:
    import zarr

    rows, cols = cube.grid.shape
    group = zarr.open_group(str(folder), mode="w-", zarr_format=3)
    series = (len(cube.times), len(cube.bands))
    chunks = (min(chunk_px, rows), min(chunk_px, cols))

    def create(
        name: str, lead: tuple[int, ...], dims: tuple[str, ...], dtype: DTypeLike, fill: float
    ) -> None:
        group.create_array(
            name,
            shape=(*lead, rows, cols),
            chunks=(*lead, *chunks),
            dtype=np.dtype(dtype),
            fill_value=fill,
            dimension_names=(*dims, "y", "x"),
            compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
            attributes={
                "grid_mapping": "spatial_ref",
                **({"units": units} if name == "values" and units else {}),
            },
        )

    create("values", series, ("time", "band"), "float32", np.nan)
    create("counts", series, ("time", "band"), "uint8", 0)
    if cube.layers:
        create("layers", (len(cube.layers),), ("layer",), "float32", np.nan)
    for name, texts in (("time", cube.times), ("band", cube.bands), ("layer", cube.layers)):
        if texts:
            _coordinate(group, name, np.array(texts, np.dtypes.StringDType()), "str")
    affine = cube.grid.affine
    _coordinate(group, "x", affine.c + affine.a * (np.arange(cols) + 0.5), "float64")
    _coordinate(group, "y", affine.f + affine.e * (np.arange(rows) + 0.5), "float64")
    assert cube.grid.crs is not None
    wkt = cube.grid.crs.to_wkt()
    place = " ".join(repr(float(v)) for v in (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e))
    group.create_array(
        "spatial_ref",
        shape=(),
        dtype="int32",
        attributes={"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": place},
        dimension_names=(),
    )
    group.attrs["tesela"] = {
        "version": _VERSION,
        "grid": {
            "shape": [int(rows), int(cols)],
            "transform": [float(v) for v in affine[:6]],
            "crs": f"EPSG:{cube.grid.crs.epsg}" if cube.grid.crs.epsg else wkt,
        },
        "times": list(cube.times),
        "bands": list(cube.bands),
        "layers": list(cube.layers),
        "notes": dict(cube.notes),
    }
    return group


def _coordinate(group: zarr.Group, name: str, content: NDArray[Any], dtype: str) -> None:
    array = group.create_array(name, shape=content.shape, dtype=dtype, dimension_names=(name,))
    array[:] = content
