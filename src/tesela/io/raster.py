"""Images: opening scenes and reading their bands by window on any grid."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.scene import Band, Scene

# GDAL's block cache takes 5 % of the machine by default and is sized once per process. 128 MB holds a row of blocks
# of a class map 250,000 px wide; what readers need twice they keep themselves.
os.environ.setdefault("GDAL_CACHEMAX", "128")

_ALIGNED = 1e-3
"""Two grids are the same when their pixels lie within a thousandth of a pixel."""


def open_scene(
    source: str | Path | Sequence[str | Path],
    *,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    date: str = "",
    nonfinite: str = "error",
) -> Scene:
    """
    Describe one or several GeoTIFFs of the same ground as one scene; only headers are read.

    Parameters
    ----------
    source : path, or sequence of paths
        Files whose bands follow each other; a single text may join several paths with commas. The grid is that
        of the file with the smallest pixels; the others are resampled to it on reading.
    bands : sequence of str, optional
        Names in the order of the files; default: the names in the files, else "band1", "band2", ...
    scale, offset : float, optional
        Quantity = number x scale + offset; default: what the files say, else 1 and 0.
    nodata : float, optional
        Overrides what the files declare.
    nonfinite : {"error", "nodata"}
        What to do with NaN and infinity that no file declares as nodata.

    Raises
    ------
    InputError
        If a file is missing, broken or has another number of bands than names were given.
    GridError
        If a file has no CRS, or the files have two.
    """
    paths = _paths(source)
    if nonfinite not in ("error", "nodata"):
        raise InputError(f"nonfinite is '{nonfinite}'; it is 'error' or 'nodata'.")
    found: list[Band] = []
    grids: list[GeoBox] = []
    for path in paths:
        with open_dataset(path) as data:
            grids.append(grid_of(data))
            found.extend(_bands_of(data, str(path), first=len(found) + 1))
    systems = {str(grid.crs) for grid in grids}
    if len(systems) > 1:
        raise GridError(
            f"The files of one scene lie in two coordinate systems ({join_words(sorted(systems))}): "
            f"{join_words([path.name for path in paths])}. Warp them to one (gdalwarp -t_srs), or give them as "
            f"scenes of their own."
        )
    _check_same_ground(paths, grids)
    names = _band_names(found, bands, paths)
    described = tuple(
        replace(
            band,
            name=name,
            scale=band.scale if scale is None else scale,
            offset=band.offset if offset is None else offset,
            nodata=band.nodata if nodata is None else nodata,
        )
        for band, name in zip(found, names, strict=True)
    )
    finest = min(grids, key=lambda grid: abs(grid.resolution.x))
    return Scene(paths[0].stem, described, finest, date=date, nonfinite=nonfinite)


class SceneReader:
    """
    Reads windows of a scene; holds its files open, so use it in a `with` block, one per thread.

    Examples
    --------
    >>> with SceneReader(scene) as reader:                        # doctest: +SKIP
    ...     pixels = reader.read(scene.grid[0:512, 0:512])
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._stack = ExitStack()
        self._files: dict[str, rasterio.DatasetReader] = {}
        self._groups: dict[str, list[int]] = {}
        for position, band in enumerate(scene.bands):
            self._groups.setdefault(band.path, []).append(position)
        try:
            for path in self._groups:
                self._files[path] = self._stack.enter_context(open_dataset(path))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """
        Quantities of all bands on a grid: a window of the scene, or any other grid.

        On the scene's own pixels nothing is resampled. Elsewhere bands are interpolated bilinearly, or averaged
        where the asked pixels are more than 1.5 times larger.

        Parameters
        ----------
        grid : GeoBox
            May lie partly or wholly outside the scene.

        Returns
        -------
        (bands, rows, cols) array of float32
            NaN where there is no data.

        Raises
        ------
        InputError
            If a block of the file cannot be read, or holds NaN or infinity that the file does not declare.
        """
        out = np.full((len(self.scene.bands), *grid.shape), np.nan, np.float32)
        for path, positions in self._groups.items():
            indexes = [self.scene.bands[position].index for position in positions]
            nodata = self.scene.bands[positions[0]].nodata
            raw, valid = read_numbers(self._files[path], indexes, grid, nodata=nodata, continuous=True)
            for number, position in enumerate(positions):
                out[position] = self._quantity(self.scene.bands[position], raw[number], valid[number])
        return out

    def read_stored(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.generic]:
        """
        Numbers of a window that lies inside the scene, unscaled where the files allow it; see `stored_form`.

        Parameters
        ----------
        row, col : int
            Corner of the window.
        shape : (int, int)
            Rows and columns of the window.

        Returns
        -------
        (bands, rows, cols) array
        """
        if not self._stored_as_is:
            return self.read(window_grid(self.scene.grid, row, col, *shape))
        bands = self.scene.bands
        file = self._files[bands[0].path]
        window = Window(col, row, shape[1], shape[0])
        try:
            if len(self._files) == 1:
                raw: NDArray[np.generic] = file.read([band.index for band in bands], window=window)
            else:
                raw = np.stack([self._files[band.path].read(band.index, window=window) for band in bands])
        except RasterioError as error:
            raise _broken(bands[0].path, error) from None
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            for number, band in enumerate(bands):
                self._check_finite(band, raw[number], _is_valid(raw[number], band.nodata))
        return raw

    @property
    def stored_form(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Scale, offset and nodata (NaN for none) by band of what `read_stored` returns."""
        bands = self.scene.bands
        if not self._stored_as_is:
            return np.ones(len(bands)), np.zeros(len(bands)), np.full(len(bands), np.nan)
        return (
            np.array([band.scale for band in bands]),
            np.array([band.offset for band in bands]),
            np.array([np.nan if band.nodata is None else band.nodata for band in bands]),
        )

    @property
    def stored_bytes(self) -> int:
        """Bytes of one number of what `read_stored` returns."""
        return np.dtype(self.scene.bands[0].dtype).itemsize if self._stored_as_is else 4

    @property
    def block_rows(self) -> int:
        """Rows of the blocks in which the first file is stored."""
        return int(self._files[self.scene.bands[0].path].block_shapes[0][0])

    @cached_property
    def _stored_as_is(self) -> bool:
        """Whether all files share the scene's grid and one type, so that their numbers can be passed on."""
        same_grid = all(
            tuple(file.shape) == tuple(self.scene.grid.shape)
            and pixel_offset(grid_of(file), self.scene.grid) == (0, 0)
            for file in self._files.values()
        )
        masked = any(band.nodata is None and _has_mask(self._files[band.path]) for band in self.scene.bands)
        return same_grid and not masked and len({band.dtype for band in self.scene.bands}) == 1

    def _quantity(
        self, band: Band, raw: NDArray[np.generic], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and so invalid
            values = raw.astype(np.float32)
        if raw.dtype.kind == "f":
            self._check_finite(band, raw, valid)
            valid = valid & np.isfinite(values)
        values[~valid] = np.nan
        if band.scale != 1.0 or band.offset != 0.0:
            values = values * np.float32(band.scale) + np.float32(band.offset)
        return values

    def _check_finite(self, band: Band, raw: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
        count = int((valid & ~np.isfinite(raw.astype(np.float64))).sum())
        if count and self.scene.nonfinite == "error":
            raise InputError(
                f"Band '{band.name}' of {band.path} holds NaN or infinity ({count} px in one window) that the file "
                f"does not declare as nodata. Declare it (gdal_edit.py -a_nodata nan), or pass "
                f'nonfinite = "nodata" (--nonfinite nodata) to treat such pixels as nodata.'
            )


def read_numbers(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    grid: GeoBox,
    *,
    nodata: float | None,
    continuous: bool,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """
    Numbers of a file on a grid, as stored, and where they are valid.

    Parameters
    ----------
    continuous : bool
        True for images (bilinear, or average when shrinking); False for classes (nearest, always).

    Returns
    -------
    (bands, rows, cols) array of the file's dtype, (bands, rows, cols) array of bool
    """
    own = grid_of(data)
    nodata = _storable(nodata, data.dtypes[indexes[0] - 1])
    try:
        offset = pixel_offset(own, grid)
        if offset is not None:
            return _read_own(data, indexes, offset, (int(grid.shape[0]), int(grid.shape[1])), nodata)
        return _read_warped(data, indexes, own, grid, nodata=nodata, continuous=continuous)
    except RasterioError as error:
        raise _broken(data.name, error) from None


def pixel_offset(own: GeoBox, grid: GeoBox) -> tuple[int, int] | None:
    """Row and column of `grid`'s corner in `own`, or None where the pixels of the two do not coincide."""
    if own.crs != grid.crs:
        return None
    step = ~own.affine * grid.affine
    if max(abs(step.a - 1), abs(step.e - 1), abs(step.b), abs(step.d)) * max(grid.shape) > _ALIGNED:
        return None
    row, col = round(step.f), round(step.c)
    if max(abs(step.f - row), abs(step.c - col)) > _ALIGNED:
        return None
    return row, col


def window_grid(grid: GeoBox, row: int, col: int, rows: int, cols: int) -> GeoBox:
    """Window of a grid, which may reach past its edges."""
    return GeoBox((rows, cols), grid.affine * Affine.translation(col, row), grid.crs)


def bounds_in(grid: GeoBox, crs: str) -> tuple[float, float, float, float]:
    """
    Left, bottom, right and top of a grid in another CRS, x before y; its sides may bend.

    Raises
    ------
    GridError
        If the grid has no CRS.
    """
    import pyproj

    left, bottom, right, top = grid.extent.boundingbox
    change = pyproj.Transformer.from_crs(_wkt(grid), crs, always_xy=True)
    found = change.transform_bounds(left, bottom, right, top, densify_pts=21)
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])


def open_dataset(path: str | Path) -> rasterio.DatasetReader:
    """
    Open a raster for reading.

    Raises
    ------
    InputError
        If the file is missing or is no raster.
    """
    try:
        return rasterio.open(path)
    except RasterioIOError as error:
        if not str(path).startswith(("http://", "https://", "/vsi", "s3://")) and not Path(path).exists():
            raise InputError(f"{path}: no such file.") from None
        raise InputError(f"{path}: not a raster that GDAL can read ({_first_line(error)}).") from None


def grid_of(data: rasterio.DatasetReader) -> GeoBox:
    """
    Grid of an open raster.

    Raises
    ------
    GridError
        If it has no CRS or no geotransform.
    """
    if data.crs is None:
        raise GridError(
            f"{data.name}: has no coordinate system. Assign the right one (gdal_edit.py -a_srs EPSG:....), "
            f"then try again."
        )
    if data.transform.is_identity:
        raise GridError(
            f"{data.name}: has no geotransform. Georeference it (gdal_translate -a_ullr ...), then try again."
        )
    code = data.crs.to_epsg()
    return GeoBox((data.height, data.width), data.transform, f"EPSG:{code}" if code else data.crs.to_wkt())


def raster_crs(grid: GeoBox) -> rasterio.CRS:
    """CRS of a grid as rasterio takes it."""
    if grid.crs is None:
        raise GridError("The grid has no coordinate system; one is needed to place it.")
    return rasterio.CRS.from_user_input(f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else grid.crs.to_wkt())


def windows(grid: GeoBox, size_px: int) -> Iterator[tuple[int, int, GeoBox]]:
    """Row, column and grid of square windows that cover a grid once, cut at its edges."""
    rows, cols = grid.shape
    for row in range(0, rows, size_px):
        for col in range(0, cols, size_px):
            yield row, col, window_grid(grid, row, col, min(size_px, rows - row), min(size_px, cols - col))


def _read_own(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    corner: tuple[int, int],
    shape: tuple[int, int],
    nodata: float | None,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    (row, col), (rows, cols) = corner, shape
    top, left = max(0, row), max(0, col)
    bottom, right = min(data.height, row + rows), min(data.width, col + cols)
    dtype = data.dtypes[indexes[0] - 1]
    out = np.zeros((len(indexes), rows, cols), dtype)
    valid = np.zeros((len(indexes), rows, cols), np.bool_)
    if bottom > top and right > left:
        part = data.read(list(indexes), window=Window(left, top, right - left, bottom - top))
        place = (slice(None), slice(top - row, bottom - row), slice(left - col, right - col))
        out[place] = part
        valid[place] = _is_valid(part, nodata)
        if _has_mask(data):
            valid[place] &= (
                data.read_masks(list(indexes), window=Window(left, top, right - left, bottom - top)) > 0
            )
    return out, valid


def _read_warped(
    data: rasterio.DatasetReader,
    indexes: Sequence[int],
    own: GeoBox,
    grid: GeoBox,
    *,
    nodata: float | None,
    continuous: bool,
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    method = Resampling.nearest
    if continuous:
        method = Resampling.average if _coarser(own, grid) > 1.5 else Resampling.bilinear
    with WarpedVRT(
        data,
        crs=raster_crs(grid),
        transform=grid.affine,
        height=int(grid.shape[0]),
        width=int(grid.shape[1]),
        resampling=method,
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None and _has_mask(data) and ColorInterp.alpha not in data.colorinterp,
        tolerance=0.01,
        XSCALE="1",  # else GDAL widens the bilinear kernel by a ratio that differs from window to window
        YSCALE="1",
    ) as warped:
        numbers = warped.read(list(indexes))
        if nodata is None and _has_mask(data):
            alpha = warped.colorinterp.index(ColorInterp.alpha) + 1
            mask = np.repeat(warped.read([alpha]) > 0, len(indexes), axis=0)
        else:
            mask = warped.read_masks(list(indexes)) > 0
    if nodata is None:
        mask &= _inside(own, grid)
    return numbers, mask & _is_valid(numbers, nodata)


def _inside(own: GeoBox, grid: GeoBox) -> NDArray[np.bool_]:
    """Which pixel centres of `grid` lie inside `own`."""
    import pyproj

    rows, cols = grid.shape
    x, y = grid.affine * np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    if own.crs != grid.crs:
        to_own = pyproj.Transformer.from_crs(_wkt(grid), _wkt(own), always_xy=True)
        x, y = to_own.transform(x, y)
    col, row = ~own.affine * (x, y)
    inside: NDArray[np.bool_] = (col >= 0) & (row >= 0) & (col < own.shape[1]) & (row < own.shape[0])
    return inside


def _coarser(own: GeoBox, grid: GeoBox) -> float:
    """How many times larger the pixels of `grid` are than those of `own`, by the side."""
    import pyproj

    rows, cols = grid.shape
    x, y = (
        np.array(side, float) for side in zip(*[grid.affine * c for c in _corners(rows, cols)], strict=True)
    )
    if own.crs != grid.crs:
        to_own = pyproj.Transformer.from_crs(_wkt(grid), _wkt(own), always_xy=True)
        x, y = to_own.transform(x, y)
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 / (rows * cols)
    return math.sqrt(float(area) / abs(own.resolution.x * own.resolution.y))


def _corners(rows: int, cols: int) -> list[tuple[int, int]]:
    return [(0, 0), (cols, 0), (cols, rows), (0, rows)]


def _wkt(grid: GeoBox) -> str:
    if grid.crs is None:
        raise GridError("The grid has no coordinate system; one is needed to place it.")
    return str(grid.crs.to_wkt())


def _has_mask(data: rasterio.DatasetReader) -> bool:
    """Whether the file says what is valid by a mask or an alpha band, beside its nodata value."""
    return any(MaskFlags.per_dataset in flags for flags in data.mask_flag_enums)


def _storable(nodata: float | None, dtype: str) -> float | None:
    """The nodata value, or None if no number of this type can equal it: -9999 in a byte."""
    kind = np.dtype(dtype)
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    fits = math.isfinite(nodata) and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return nodata if fits else None


def _is_valid(numbers: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None:
        return np.ones(numbers.shape, np.bool_)
    if math.isnan(nodata):
        return ~np.isnan(numbers) if numbers.dtype.kind == "f" else np.ones(numbers.shape, np.bool_)
    return np.asarray(numbers != np.asarray(nodata).astype(numbers.dtype), np.bool_)


def _paths(source: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(source, Path):
        return [source]
    parts = source.split(",") if isinstance(source, str) else list(source)
    paths = [Path(str(part).strip()) for part in parts if str(part).strip()]
    if not paths:
        raise InputError("A scene needs at least one file; none was given.")
    return paths


def _bands_of(data: rasterio.DatasetReader, path: str, *, first: int) -> Iterator[Band]:
    alone = data.count == 1
    for index in data.indexes:
        name = data.descriptions[index - 1] or (Path(path).stem if alone else f"band{first + index - 1}")
        yield Band(
            name=name,
            path=path,
            index=index,
            dtype=data.dtypes[index - 1],
            nodata=data.nodatavals[index - 1],
            scale=data.scales[index - 1],
            offset=data.offsets[index - 1],
        )


def _band_names(found: Sequence[Band], names: Sequence[str] | None, paths: Sequence[Path]) -> list[str]:
    chosen = [band.name for band in found] if names is None else list(names)
    where = join_words([path.name for path in paths])
    if len(chosen) != len(found):
        raise InputError(
            f"{where} has {len(found)} bands, but {len(chosen)} names were given ({join_words(chosen)})."
        )
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise InputError(
            f"{where}: band name {join_words(twice)} stands twice. Name the bands (bands = [...] or --bands)."
        )
    return chosen


def _check_same_ground(paths: Sequence[Path], grids: Sequence[GeoBox]) -> None:
    first = grids[0].extent
    for path, grid in zip(paths[1:], grids[1:], strict=True):
        shared = (first & grid.extent).area
        if shared < 0.5 * min(first.area, grid.extent.area):
            raise GridError(
                f"{path.name} does not show the ground of {paths[0].name}; the files of one scene must. "
                f"Give files of other ground as scenes of their own."
            )


def _broken(path: str, error: Exception) -> InputError:
    return InputError(
        f"{path}: a window cannot be read, the file is broken or truncated ({_first_line(error)})."
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
