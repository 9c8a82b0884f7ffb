"""Reading the planes of a stack on any grid: scale, nodata and masks are applied before pixels are averaged."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.grid import crs_text, pixel_offset
from tesela.io.cube import Cube, is_cube, open_cube
from tesela.io.pixel_values import is_valid, read_pixel_values
from tesela.io.raster import Closing
from tesela.sources.source_raster import SourceRaster
from tesela.sources.stack.planes import Plane, array_axes, open_zarr

if TYPE_CHECKING:
    import xarray as xr

_OPEN = 256
"""Planes whose files stay open."""


@dataclass(frozen=True)
class MaskRule:
    """Which pixels a mask band leaves out: those with one of some values, or with one of some bits."""

    band: str
    values: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()

    def hides(self, numbers: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Where the numbers of the band leave a pixel out."""
        if self.bits:
            flags = np.nan_to_num(numbers.astype(np.float64)).astype(np.int64)
            return np.asarray((flags & sum(1 << bit for bit in self.bits)) != 0, np.bool_)
        return np.isin(numbers, self.values)


def parse_mask(text: str) -> MaskRule:
    """
    Read a mask: "SCL=0,1,3,8,9,10" hides pixels with these values, "QA_PIXEL:1,3,4" those with one of these bits.

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> parse_mask("QA_PIXEL:1,3,4")
    MaskRule(band='QA_PIXEL', values=(), bits=(1, 3, 4))
    """
    match = re.fullmatch(r"\s*([^=:]+?)\s*([=:])\s*(\d+(?:\s*,\s*\d+)*)\s*", text)
    if match is None:
        raise InputError(
            f"'{text}' is no mask; write SCL=0,1,3,8,9,10 for values, or QA_PIXEL:1,3,4 for bits."
        )
    numbers = tuple(int(part) for part in match[3].split(","))
    return MaskRule(match[1], numbers) if match[2] == "=" else MaskRule(match[1], bits=numbers)


@dataclass(frozen=True)
class Unit:
    """How stored numbers become quantities, where the files do not declare it."""

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise InputError("The scale is 0; it is a number other than 0, such as 0.0001.")


class PlaneReader(Closing):
    """Reads planes on any grid, (rows, cols) float32 with NaN where there is no data; files stay open."""

    def __init__(self, planes: Sequence[Plane], unit: Unit, masks: Sequence[MaskRule]) -> None:
        self._unit = unit
        self._masks = tuple(masks)
        self._of_mask = {
            (plane.scene, plane.band): plane
            for plane in planes
            if plane.band in {rule.band for rule in self._masks}
        }
        self._open: OrderedDict[tuple[str, int, str, int], _PlaneSource] = OrderedDict()
        self._cubes: dict[str, Cube | None] = {}

    def close(self) -> None:
        """Close all files."""
        for source in self._open.values():
            source.close()
        self._open.clear()

    def grid(self, plane: Plane) -> GeoBox:
        """Grid of the pixels of a plane."""
        return self._source(plane).grid

    def read(self, plane: Plane, grid: GeoBox, *, shrinks: bool) -> NDArray[np.float32]:
        """
        A plane on a grid: its own pixels where they coincide, else averaged or interpolated.

        Raises
        ------
        InputError
            If the file is broken, or the image has no mask.
        """
        source = self._source(plane)
        if pixel_offset(source.grid, grid) is not None:
            return np.asarray(source.values(grid)[0], np.float32)
        try:
            return np.asarray(source.onto(grid, shrinks=shrinks)[0], np.float32)
        except GridError:  # a tile that lies elsewhere
            return np.full(tuple(grid.shape), np.nan, np.float32)

    def shrinks(self, plane: Plane, grid: GeoBox) -> bool:
        """Whether the cells of a grid average several pixels of a plane."""
        return self._source(plane).shrinks(grid)

    def _source(self, plane: Plane) -> _PlaneSource:
        key = (plane.address, plane.at, plane.variable, plane.level)
        source = self._open.pop(key, None)
        if source is None:
            hidden = []
            for rule in self._masks:
                masking = self._of_mask.get((plane.scene, rule.band))
                if masking is None:
                    raise InputError(
                        f"{plane.address}: there is no mask '{rule.band}' of this image ({plane.scene}). Give the "
                        f"files of all masks, or leave the mask out."
                    )
                hidden.append((rule, self._new_source(masking, Unit(), ())))
            source = self._new_source(plane, self._unit, hidden)
        self._open[key] = source
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return source

    def _new_source(
        self, plane: Plane, unit: Unit, hidden: Sequence[tuple[MaskRule, _PlaneSource]]
    ) -> _PlaneSource:
        source = (
            _ArraySource(plane, self._cube(plane.address))
            if plane.variable
            else _PlaneSource([plane.address], bands=[plane.at])
        )
        source.unit, source.hidden = unit, hidden
        return source

    def _cube(self, path: str) -> Cube | None:
        """The cube that a Zarr folder is: one for all its planes, so that each of its files is checked once."""
        if path not in self._cubes:
            self._cubes[path] = open_cube(path) if is_cube(path) else None
        return self._cubes[path]


class _PlaneSource(SourceRaster):
    """One plane as a source raster, masked on its own pixels."""

    unit: Unit
    hidden: Sequence[tuple[MaskRule, _PlaneSource]]

    def values(self, grid: GeoBox) -> NDArray[np.float32]:
        """Quantities on a window of the own grid, (1, rows, cols); NaN where masked or without data."""
        return self._read(grid)

    def numbers(self, grid: GeoBox) -> NDArray[np.generic]:
        """Numbers as stored on any grid, by the nearest pixel; (rows, cols)."""
        raw, valid = self._stored(grid)
        return np.where(valid, raw, np.nan) if raw.dtype.kind == "f" else raw

    def close(self) -> None:
        """Close the file, and those of its masks."""
        super().close()
        for _, source in self.hidden:
            source.close()

    def _read(self, grid: GeoBox) -> NDArray[np.float32]:
        raw, valid = self._stored(grid)
        scale, offset = self._declared()
        scale = scale if self.unit.scale is None else self.unit.scale
        offset = offset if self.unit.offset is None else self.unit.offset
        values = raw.astype(np.float32) * np.float32(scale) + np.float32(offset)
        values[~valid] = np.nan
        for rule, source in self.hidden:
            values[rule.hides(source.numbers(grid))] = np.nan
        values[~np.isfinite(values)] = np.nan
        return values[np.newaxis]

    def _stored(self, grid: GeoBox) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        data, number = self._files[0], self.bands[0]
        nodata = data.nodatavals[number - 1] if self.unit.nodata is None else self.unit.nodata
        raw, valid = read_pixel_values(data, [number], grid, nodata=nodata, continuous=False)
        return raw[0], valid[0]

    def _declared(self) -> tuple[float, float]:
        data, number = self._files[0], self.bands[0]
        return float(data.scales[number - 1]), float(data.offsets[number - 1])


class _ArraySource(_PlaneSource):
    """One date, and perhaps band, of an array of a Zarr folder; `cube`: what checks its files."""

    def __init__(self, plane: Plane, cube: Cube | None) -> None:
        super().__init__([], bands=[1])
        self.paths = [plane.address]
        data = open_zarr(plane.address)
        axes = array_axes(data[plane.variable])
        assert axes is not None
        array = data[plane.variable].isel(time=plane.at)
        if plane.level >= 0:
            array = array.isel({next(dim for dim in array.dims if dim not in axes): plane.level})
        self._array: xr.DataArray = array.transpose(*axes)
        self._cube = cube
        self._grids = [_grid_of_array(plane.address, self._array)]

    def _stored(self, grid: GeoBox) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        own = self.grid
        offset = pixel_offset(own, grid)
        if offset is None:
            raise InputError(
                f"{self.paths[0]}: a mask must have the pixels of the arrays it masks; resample it to them."
            )
        (row, col), (rows, cols) = offset, grid.shape
        top, left = max(0, row), max(0, col)
        bottom, right = min(int(own.shape[0]), row + rows), min(int(own.shape[1]), col + cols)
        out = np.zeros((rows, cols), self._array.dtype)
        valid = np.zeros((rows, cols), np.bool_)
        if bottom > top and right > left:
            if self._cube is not None:
                self._cube.check_files(str(self._array.name), (top, bottom), (left, right))
            part = self._array[top:bottom, left:right].to_numpy()
            place = (slice(top - row, bottom - row), slice(left - col, right - col))
            out[place] = part
            valid[place] = is_valid(part, self.unit.nodata)
        return out, valid

    def _declared(self) -> tuple[float, float]:
        return 1.0, 0.0  # xarray has applied those of the file


def _grid_of_array(path: str, array: xr.DataArray) -> GeoBox:
    import odc.geo.xr  # noqa: F401 - gives arrays their grid

    grid = array.odc.geobox
    if grid is None or grid.crs is None:
        raise GridError(
            f"{path}: '{array.name}' has no coordinate system that odc-geo finds. Write it (rioxarray: "
            f"data.rio.write_crs('EPSG:....')), then try again."
        )
    if grid.affine.e > 0:
        raise GridError(
            f"{path}: '{array.name}' runs from south to north. Turn it (data.sortby('y', ascending=False))."
        )
    assert isinstance(grid, GeoBox)
    return GeoBox(grid.shape, grid.affine, crs_text(grid))
