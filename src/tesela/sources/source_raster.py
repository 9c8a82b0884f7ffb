"""Source rasters: files in their own pixels and CRS, brought onto the grid of a scene or a cube window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError
from tesela.core.grid import bounds_in, crs_of, window_grid, windows
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import Closing, grid_of, open_dataset, raster_crs

_SOURCE_PX = 3072
"""Largest side of a source window: 36 MiB of float32 a band."""

_MARGIN_PX = 3
"""Source pixels read around a window, for slopes and interpolation."""

_SHRINKS = 1.5
"""Pixels are averaged where cells are more than this many times larger, else interpolated."""

_LATTICE = 200
"""Rows and columns of pixels by which the covered share of a grid is counted."""

Derive = Callable[[NDArray[np.float32], GeoBox], NDArray[np.float32]]
"""Layers of the pixels of a source, from its bands and their grid: (layers, rows, cols)."""


class SourceRaster(Closing):
    """
    Bands of one file, or of several that continue each other, such as the sheets of an elevation model.

    Values are averaged over the cells of a grid that are larger than the pixels, and interpolated in smaller ones.
    Where files overlap, the first one with data counts. Files of another CRS are warped to the pixels of the first.

    Parameters
    ----------
    paths : sequence of paths
    bands : sequence of int
        Numbers of the bands, from 1.
    nearest : bool
        For classes: the pixel at the centre of each cell; nothing is averaged or interpolated.
    largest_px, source_px : int, optional
        Largest side of the windows of the grid, and of those of the files without their margin; default: 256 and 3072.

    Raises
    ------
    InputError
        If a file is missing, broken or has no such band.
    GridError
        If a file has no CRS.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        bands: Sequence[int],
        nearest: bool = False,
        largest_px: int = 256,
        source_px: int | None = None,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.bands = list(bands)
        self.nearest = nearest
        self.largest_px = largest_px
        self.source_px = source_px or _SOURCE_PX
        self._stack = ExitStack()
        self._files = []
        try:
            for path in self.paths:
                data = self._stack.enter_context(open_dataset(path))
                missing = [band for band in bands if not 1 <= band <= data.count]
                if missing:
                    raise InputError(f"{path}: has no band {missing[0]}; it has {data.count}.")
                self._files.append(data)
            self._grids = [grid_of(data) for data in self._files]
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @cached_property
    def grid(self) -> GeoBox:
        """Grid of the pixels: that of the first file, extended over the others."""
        first, *others = self._grids
        wkt = crs_of(first).to_wkt()
        rows, cols = [0, int(first.shape[0])], [0, int(first.shape[1])]
        for grid in others:
            left, bottom, right, top = bounds_in(grid, wkt)
            for x, y in ((left, top), (right, bottom)):
                col, row = ~first.affine * (x, y)
                cols, rows = [*cols, round(col)], [*rows, round(row)]
        shape = (max(rows) - min(rows), max(cols) - min(cols))
        return GeoBox(shape, first.affine * Affine.translation(min(cols), min(rows)), first.crs)

    def covered(self, grid: GeoBox) -> float:
        """Share of the pixels of a grid whose centres lie on the files, with data or not, 0 to 1."""
        rows, cols = (np.unique(np.linspace(0, side - 1, _LATTICE).astype(int)) + 0.5 for side in grid.shape)
        across, down = np.meshgrid(cols, rows)
        a = grid.affine
        x, y = a.a * across + a.b * down + a.c, a.d * across + a.e * down + a.f
        inside = np.zeros(x.shape, np.bool_)
        for own in self._grids:
            change = pyproj.Transformer.from_crs(crs_of(grid).to_wkt(), crs_of(own).to_wkt(), always_xy=True)
            col, row = ~own.affine * change.transform(x, y)
            inside |= (col >= 0) & (row >= 0) & (col <= own.shape[1]) & (row <= own.shape[0])
        return float(inside.mean())

    def onto(
        self,
        grid: GeoBox,
        derive: Derive | None = None,
        *,
        margin_px: int = _MARGIN_PX,
        shrinks: bool | None = None,
    ) -> NDArray[np.float32]:
        """
        All layers on a grid, (layers, rows, cols) float32; NaN where there is no data.

        Parameters
        ----------
        derive : callable of (bands, grid), optional
            Makes layers of the pixels before they are averaged: the slope of averaged altitudes would lose the relief.
        margin_px : int
            Pixels around each one on which `derive` depends.
        shrinks : bool, optional
            Average or interpolate; default: see `shrinks`. For windows of one grid it is decided once.

        Raises
        ------
        GridError
            If no file reaches the grid.
        """
        averaged = self.shrinks(grid) if shrinks is None else shrinks
        out: NDArray[np.float32] | None = None
        for row, col, window in windows(grid, self._cells_at_once(grid)):
            source = _window_of(self.grid, window, max(margin_px, _MARGIN_PX))
            if source is None:
                continue
            piece = window_grid(self.grid, *source)
            layers = self._read(piece)
            if derive is not None:
                layers = derive(layers, piece)
            if out is None:
                out = np.full((len(layers), *grid.shape), np.nan, np.float32)
            rows, cols = window.shape
            out[:, row : row + rows, col : col + cols] = self._warp(layers, piece, window, averaged=averaged)
        if out is None:
            raise GridError(
                f"{', '.join(self.paths)}: does not reach the grid. Give a raster of the same area."
            )
        return out

    def shrinks(self, grid: GeoBox) -> bool:
        """Whether the cells in the middle of a grid are so large that pixels are averaged over them."""
        return _ratio(self.grid, _middle(grid)) > _SHRINKS

    def _read(self, grid: GeoBox) -> NDArray[np.float32]:
        """Quantities of the bands on a window of the own grid; NaN where there is no data."""
        out = np.full((len(self.bands), *grid.shape), np.nan, np.float32)
        for data in self._files:
            nodata = data.nodatavals[self.bands[0] - 1]
            raw, valid = read_pixel_values(data, self.bands, grid, nodata=nodata, continuous=not self.nearest)
            for band, number in enumerate(self.bands):
                values = raw[band].astype(np.float32) * np.float32(data.scales[number - 1])
                values += np.float32(data.offsets[number - 1])
                known = valid[band] & np.isfinite(values) & np.isnan(out[band])
                out[band][known] = values[known]
        return out

    def _warp(
        self, values: NDArray[np.float32], own: GeoBox, grid: GeoBox, *, averaged: bool
    ) -> NDArray[np.float32]:
        out = np.full((len(values), *grid.shape), np.nan, np.float32)
        method = Resampling.average if averaged else Resampling.bilinear
        for band, layer in enumerate(values):  # alone: pixels missing in one layer are not in the others
            reproject(
                layer,
                out[band],
                src_transform=own.affine,
                src_crs=raster_crs(own),
                src_nodata=np.nan,
                dst_transform=grid.affine,
                dst_crs=raster_crs(grid),
                dst_nodata=np.nan,
                resampling=Resampling.nearest if self.nearest else method,
                init_dest_nodata=True,
            )
        return out

    def _cells_at_once(self, grid: GeoBox) -> int:
        """Side of the windows of a grid that keep the windows of the source small."""
        return int(np.clip(self.source_px / _ratio(self.grid, _middle(grid)), 1, self.largest_px))


def _middle(grid: GeoBox) -> GeoBox:
    return window_grid(grid, grid.shape[0] // 2, grid.shape[1] // 2, 1, 1)


def _ratio(own: GeoBox, grid: GeoBox) -> float:
    """Number of pixels of `own` along the side of a cell of `grid`."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    rows, cols = grid.shape
    across = (right - left) / abs(float(own.resolution.x)) / cols
    down = (top - bottom) / abs(float(own.resolution.y)) / rows
    return max(across, down)


def _window_of(own: GeoBox, grid: GeoBox, margin_px: int) -> tuple[int, int, int, int] | None:
    """Row, column, rows and columns of `own` that `grid` needs; None if they do not overlap."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    corners = [~own.affine * point for point in ((left, top), (right, bottom))]
    cols, rows = (sorted(side) for side in zip(*corners, strict=True))
    needed = Window.from_slices(
        (int(np.floor(rows[0])) - margin_px, int(np.ceil(rows[1])) + margin_px),
        (int(np.floor(cols[0])) - margin_px, int(np.ceil(cols[1])) + margin_px),
        boundless=True,
    )
    top_row, left_col = max(0, int(needed.row_off)), max(0, int(needed.col_off))
    bottom_row = min(int(own.shape[0]), int(needed.row_off + needed.height))
    right_col = min(int(own.shape[1]), int(needed.col_off + needed.width))
    if bottom_row <= top_row or right_col <= left_col:
        return None
    return top_row, left_col, bottom_row - top_row, right_col - left_col
