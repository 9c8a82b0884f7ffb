"""Scenes: one or several files opened as one image, read by window on any grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError, join_words, wrong_kind
from tesela.core.grid import bounds_in, crs_of, pixel_offset, window_grid
from tesela.core.scene import Band, Scene
from tesela.io.addresses import is_address
from tesela.io.arrays import is_array, write_array
from tesela.io.held import Held
from tesela.io.invalid_numbers import invalid_numbers
from tesela.io.masks import alpha_band, has_mask, without_alpha
from tesela.io.pixel_values import broken_file, is_valid, read_pixel_values
from tesela.io.raster import Closing, grid_of, open_dataset

if TYPE_CHECKING:
    import xarray as xr

SceneSource: TypeAlias = Union[str, Path, Sequence[str | Path], Scene, "xr.DataArray", "xr.Dataset"]
"""What is opened as a scene."""

_MOST_CHECKED_PX = 1 << 24
"""Larger windows are read for pictures only."""


def open_scene(
    source: SceneSource,
    *,
    bands: Sequence[str] | None = None,
    dates: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    date: str = "",
    invalid: str = "error",
) -> Scene:
    """
    Describe one or several GeoTIFFs of the same area as one scene; only headers are read.

    A DataArray or Dataset is written to a temporary file by blocks, which goes with the last scene that refers to it;
    see `tesela.io.arrays.write_array` for its bands.

    Parameters
    ----------
    source : path, sequence of paths, DataArray, Dataset or Scene
        Files, or addresses that GDAL reads (http://, zip://, /vsizip/), whose bands follow each other; a single text
        may join several with commas. The grid is that of the file with the smallest pixels; the others are resampled
        to it on reading.
    bands : sequence of str, optional
        Names in the order of the files; default: the names in the files, else "band1", "band2", ... With `dates`
        those of one file, or of all. An alpha band is a mask and has no name, but where names are given for all bands
        of the files, it is a band like the others (near infrared that is tagged as alpha).
    dates : sequence of str, optional
        Date of each file ("2018-04-11", "april"), which is put behind the names of its bands: "B04_april".
    scale, offset : float, optional
        Quantity = number x scale + offset; default: those of the files, else 1 and 0.
    nodata : float, optional
        Overrides what the files declare.
    invalid : {"error", "nodata"}
        What to do with NaN, infinity and other numbers that no sensor gives and no file declares as nodata; see
        `tesela.io.invalid_numbers`.

    Raises
    ------
    InputError
        If a file is missing, broken, holds complex numbers or has another number of bands than names were given.
    GridError
        If a file or an array has no CRS, or the files have two.
    """
    if isinstance(source, Scene):
        return replace(source, invalid=invalid) if invalid != "error" else source
    if is_array(source):
        held = Held()
        made = open_scene(
            write_array(source, held.folder),
            bands=bands,
            dates=dates,
            scale=scale,
            offset=offset,
            nodata=nodata,
            date=date,
            invalid=invalid,
        )
        return replace(made, held=held)
    listed_paths = source if isinstance(source, list | tuple) else [source]
    if not all(isinstance(part, str | Path) for part in listed_paths):
        raise wrong_kind(
            "A scene", "a path, several paths, a DataArray or Dataset with a CRS, or a Scene", source
        )
    paths = _paths(source if isinstance(source, str) else [str(part) for part in listed_paths])
    if invalid not in ("error", "nodata"):
        raise InputError(f"invalid is '{invalid}'; it is 'error' or 'nodata'.")
    if scale is not None and (not math.isfinite(scale) or scale == 0):
        raise InputError(f"The scale is {scale:g}; it is a number other than 0, such as 0.0001.")
    if offset is not None and not math.isfinite(offset):
        raise InputError(f"The offset is {offset:g}; it is a number.")
    listed: list[Band] = []
    alphas: dict[str, int | None] = {}
    grids: list[GeoBox] = []
    for path in paths:
        with open_dataset(path) as data:
            grids.append(grid_of(data))
            listed.extend(_bands_of(data, str(path), first=len(listed) + 1))
            alphas[str(path)] = alpha_band(data)
    systems = {str(grid.crs) for grid in grids}
    if len(systems) > 1:
        raise GridError(
            f"The files of one scene have two coordinate systems ({join_words(sorted(systems))}): "
            f"{join_words([Path(path).name for path in paths])}. Warp them to one (gdalwarp -t_srs), or give them as "
            f"scenes of their own."
        )
    _check_same_area(paths, grids)
    listed = _without_masks(listed, alphas, named=0 if bands is None else len(bands), dated=dates is not None)
    if dates is not None:
        bands = _dated_names(listed, bands, paths, dates)
    names = _band_names(listed, bands, paths)
    described = tuple(
        replace(
            band,
            name=name,
            scale=band.scale if scale is None else scale,
            offset=band.offset if offset is None else offset,
            nodata=band.nodata if nodata is None else nodata,
        )
        for band, name in zip(listed, names, strict=True)
    )
    finest = min(grids, key=lambda grid: abs(grid.resolution.x))
    return Scene(Path(paths[0]).stem, described, finest, date=date, invalid=invalid)


class SceneReader(Closing):
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
        self._groups: dict[tuple[str, str, str], list[int]] = {}
        for position, band in enumerate(scene.bands):  # GDAL takes one type and one nodata number at a time
            self._groups.setdefault((band.path, band.dtype, str(band.nodata)), []).append(position)
        try:
            for path, mask in dict.fromkeys((band.path, band.mask) for band in scene.bands):
                data = self._stack.enter_context(open_dataset(path))
                if not mask and ColorInterp.alpha in data.colorinterp:
                    data = self._stack.enter_context(without_alpha(data))
                self._files[path] = data
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """
        Quantities of all bands on a grid: a window of the scene, or any other grid.

        On the scene's own pixels nothing is resampled. Elsewhere bands are interpolated bilinearly, or averaged
        where the pixels of `grid` are more than 1.5 times larger.

        Parameters
        ----------
        grid : GeoBox
            May be partly or wholly outside the scene.

        Returns
        -------
        (bands, rows, cols) array of float32
            NaN where there is no data.

        Raises
        ------
        InputError
            If a block of the file cannot be read, or holds numbers that no sensor gives and the file does not declare.
        """
        out = np.full((len(self.scene.bands), *grid.shape), np.nan, np.float32)
        for (path, _, _), positions in self._groups.items():
            indexes = [self.scene.bands[position].index for position in positions]
            nodata = self.scene.bands[positions[0]].nodata
            own = grid_of(self._files[path])
            if pixel_offset(own, grid) is None:  # resampling would mix what is invalid with its neighbours
                strange = self._strange_number(self._files[path], positions, own, grid)
                nodata = strange if nodata is None else nodata
            raw, valid = read_pixel_values(self._files[path], indexes, grid, nodata=nodata, continuous=True)
            for number, position in enumerate(positions):
                out[position] = self._quantity(self.scene.bands[position], raw[number], valid[number])
        return out

    def read_stored(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.generic]:
        """
        Stored values of a window inside the scene, unscaled where the files allow it; see `stored_form`.

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
            raise broken_file(bands[0].path, error) from None
        for number, band in enumerate(bands):
            strange = invalid_numbers(raw[number], band.fills)
            if strange is not None:
                self._check_invalid(band, raw[number], strange & is_valid(raw[number], band.nodata))
                if raw.dtype.kind == "f":
                    raw[number][strange] = np.nan
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
        """Bytes of one value that `read_stored` returns."""
        return np.dtype(self.scene.bands[0].dtype).itemsize if self._stored_as_is else 4

    @property
    def block_rows(self) -> int:
        """Rows of the blocks in which the first file is stored."""
        return int(self._files[self.scene.bands[0].path].block_shapes[0][0])

    @cached_property
    def _stored_as_is(self) -> bool:
        """Whether all files share the scene's grid and one type, so that stored values can be used as they are."""
        same_grid = all(
            tuple(file.shape) == tuple(self.scene.grid.shape)
            and pixel_offset(grid_of(file), self.scene.grid) == (0, 0)
            for file in self._files.values()
        )
        masked = any(has_mask(self._files[band.path]) for band in self.scene.bands)
        fills = self.scene.invalid == "nodata" and any(band.fills for band in self.scene.bands)
        return same_grid and not masked and not fills and len({band.dtype for band in self.scene.bands}) == 1

    def _quantity(
        self, band: Band, raw: NDArray[np.generic], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        strange = invalid_numbers(raw, band.fills)
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and so invalid
            values = raw.astype(np.float32)
        if strange is not None:
            self._check_invalid(band, raw, strange & valid)
            valid = valid & ~strange
        values[~valid] = np.nan
        if band.scale != 1.0 or band.offset != 0.0:
            values = values * np.float32(band.scale) + np.float32(band.offset)
        return values

    def _strange_number(
        self, data: rasterio.DatasetReader, positions: Sequence[int], own: GeoBox, grid: GeoBox
    ) -> float | None:
        """A number that no sensor gives, among the pixels of a file that are resampled to a grid; None without one."""
        window = _window_of(own, grid)
        if window is None or window.width * window.height > _MOST_CHECKED_PX:
            return None
        found: set[float] = set()
        for position in positions:
            band = self.scene.bands[position]
            if not band.fills and np.dtype(band.dtype).kind != "f":
                continue
            raw = data.read(band.index, window=window)
            strange = invalid_numbers(raw, band.fills)
            if strange is not None:
                strange &= is_valid(raw, band.nodata)
                self._check_invalid(band, raw, strange)
                found |= {float(number) for number in np.unique(raw[strange]) if np.isfinite(number)}
        if len(found) > 1 or (found and self.scene.bands[positions[0]].nodata is not None):
            raise InputError(
                f"{data.name}: holds {join_words(f'{number:g}' for number in sorted(found))} beside its nodata number, "
                f"and its pixels are not those of the scene. Warp it to them (gdalwarp -srcnodata)."
            )
        return found.pop() if found else None

    def _check_invalid(self, band: Band, raw: NDArray[np.generic], strange: NDArray[np.bool_]) -> None:
        count = int(strange.sum())
        if count and self.scene.invalid == "error":
            raise InputError(
                f"Band '{band.name}' of {band.path} holds {raw[strange][0]:g} ({count} px in one window), which no "
                f"sensor gives and the file does not declare as nodata. Declare it (gdal_edit.py -a_nodata), or pass "
                f'invalid = "nodata" (--invalid nodata) to treat all such pixels as nodata.'
            )


def _window_of(own: GeoBox, grid: GeoBox) -> Window | None:
    """Window of a file that covers a grid, with a pixel or two around it; None where they do not meet."""
    left, bottom, right, top = bounds_in(grid, crs_of(own).to_wkt())
    corners = [
        ~own.affine * corner for corner in ((left, top), (right, top), (left, bottom), (right, bottom))
    ]
    cols, rows = zip(*corners, strict=True)
    first_row, last_row = max(0, math.floor(min(rows)) - 2), min(own.shape[0], math.ceil(max(rows)) + 2)
    first_col, last_col = max(0, math.floor(min(cols)) - 2), min(own.shape[1], math.ceil(max(cols)) + 2)
    if first_row >= last_row or first_col >= last_col:
        return None
    return Window(first_col, first_row, last_col - first_col, last_row - first_row)


def _paths(source: str | Path | Sequence[str | Path]) -> list[str]:
    if isinstance(source, Path):
        return [str(source)]
    whole = isinstance(source, str) and "," in source and Path(source).is_file()
    parts = (
        source.split(",") if isinstance(source, str) and not whole else list([source] if whole else source)
    )
    # An address stays as it is: a path would lose one of the two slashes of http://.
    paths = [text if is_address(text) else str(Path(text)) for part in parts if (text := str(part).strip())]
    if not paths:
        raise InputError("A scene needs at least one file; none was given.")
    return paths


def _bands_of(data: rasterio.DatasetReader, path: str, *, first: int) -> Iterator[Band]:
    alone = data.count == 1
    mask = ColorInterp.alpha not in data.colorinterp or alpha_band(data) is not None
    for index in data.indexes:
        if data.dtypes[index - 1].startswith("complex"):
            raise InputError(
                f"{path}: holds complex numbers ({data.dtypes[index - 1]}); a scene needs real ones. Take the "
                f"amplitude (gdal_translate DERIVED_SUBDATASET:AMPLITUDE:FILE OUT.tif)."
            )
        name = data.descriptions[index - 1] or (Path(path).stem if alone else f"band{first + index - 1}")
        yield Band(
            name=name,
            path=path,
            index=index,
            dtype=data.dtypes[index - 1],
            nodata=data.nodatavals[index - 1],
            scale=data.scales[index - 1],
            offset=data.offsets[index - 1],
            mask=mask,
        )


def _without_masks(
    listed: Sequence[Band], alphas: Mapping[str, int | None], *, named: int, dated: bool
) -> list[Band]:
    """The bands without alpha bands; with them, where as many names are given as there are bands in all."""
    kept = [band for band in listed if alphas[band.path] != band.index]
    if len(kept) == len(listed):
        return list(listed)
    first = [band for band in listed if band.path == listed[0].path]
    if named == len(listed) or (dated and named == len(first)):
        return [replace(band, mask=band.mask and alphas[band.path] is None) for band in listed]
    return kept


def _dated_names(
    listed: Sequence[Band], names: Sequence[str] | None, paths: Sequence[str], dates: Sequence[str]
) -> list[str]:
    if len(dates) != len(paths) or len(set(dates)) != len(dates) or not all(dates):
        raise InputError(
            f"{len(dates)} dates were given for {len(paths)} files ({join_words(dates)}). Give each file a date of its "
            f"own, in the order of the files."
        )
    by_path: dict[str, list[Band]] = {}
    for band in listed:
        by_path.setdefault(band.path, []).append(band)
    if len(by_path) != len(paths):
        raise InputError(
            f"A file stands twice in {join_words([Path(path).name for path in paths])}; dates need one each."
        )
    if names is not None and len(names) == len(listed):
        own = list(names)
    elif names is not None:
        for path, bands in by_path.items():
            if len(bands) != len(names):
                raise InputError(
                    f"{Path(path).name} has {len(bands)} bands, but {len(names)} names were given "
                    f"({join_words(names)}). With dates, name the bands of one file; all files have the same."
                )
        own = list(names) * len(paths)
    else:
        own = [band.name if len(by_path[band.path]) > 1 else "band1" for band in listed]
    of_path = {str(path): date for path, date in zip(paths, dates, strict=True)}
    return [f"{name}_{of_path[band.path]}" for name, band in zip(own, listed, strict=True)]


def _band_names(listed: Sequence[Band], names: Sequence[str] | None, paths: Sequence[str]) -> list[str]:
    chosen = [band.name for band in listed] if names is None else list(names)
    where = join_words([Path(path).name for path in paths])
    if len(chosen) != len(listed):
        raise InputError(
            f"{where} has {len(listed)} bands, but {len(chosen)} names were given ({join_words(chosen)}). "
            f"Name each band, in the order of the files."
        )
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        which = f"band name {twice[0]} occurs" if len(twice) == 1 else f"band names {join_words(twice)} occur"
        raise InputError(
            f"{where}: {which} more than once. Of one area at several dates, give the date of each file (dates = [...] "
            f"in a recipe, --dates on the command line); else name the bands (bands = [...], --bands)."
        )
    return chosen


def _check_same_area(paths: Sequence[str], grids: Sequence[GeoBox]) -> None:
    first = grids[0].extent
    for path, grid in zip(paths[1:], grids[1:], strict=True):
        shared = (first & grid.extent).area
        if shared < 0.5 * min(first.area, grid.extent.area):
            raise GridError(
                f"{Path(path).name} does not cover the area of {Path(paths[0]).name}; the files of one scene must. "
                f"Give files of other areas as scenes of their own."
            )
