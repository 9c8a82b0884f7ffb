"""Elevation and climate rasters averaged onto a coarse grid: the ancillary layers of a cube."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError
from tesela.core.grid import bounds_in, window_grid, windows
from tesela.io.pixel_values import read_numbers
from tesela.io.raster import grid_of, open_dataset, raster_crs

_SOURCE_PX = 3072
"""Side of the largest piece of a source that is read at once; float32 of it is 36 MiB."""

_MARGIN_PX = 3
"""Source pixels read around a piece, for slopes and interpolation."""

METRES_PER_DEGREE = 6_371_007.181 * np.pi / 180
"""Along a meridian of the sphere of MODIS."""


def average_onto(path: str | Path, grid: GeoBox, *, band: int = 1) -> NDArray[np.float32]:
    """
    Mean of a raster in each cell of a grid, weighted by area; interpolated where the cells are the smaller ones.

    Parameters
    ----------
    path : path
        Any raster that GDAL reads: elevation, precipitation, temperature.
    grid : GeoBox
        Of any CRS; the source is read in pieces, so it may be of any size.
    band : int
        Number of the band, from 1.

    Returns
    -------
    (rows, cols) array of float32
        In the raster's own unit, scale and offset of the file applied. NaN where it says nothing.

    Raises
    ------
    InputError
        If the file is missing, broken or has no such band.
    GridError
        If it has no CRS or does not reach the grid.

    Examples
    --------
    >>> average_onto("dem.tif", cube_grid)                                   # doctest: +SKIP
    """
    return _onto(path, grid, band=band, derive=None)


def terrain_layers(dem: str | Path, grid: GeoBox) -> dict[str, NDArray[np.float32]]:
    r"""
    Mean altitude and mean slope in each cell of a grid.

    The slope is that of the elevation model's own pixels, by Horn's eight neighbours [Horn1981]_,
    :math:`\arctan \sqrt{z_x^2 + z_y^2}`, and then averaged: the slope of averaged altitudes would lose the relief.

    Parameters
    ----------
    dem : path
        Elevation in metres, in projected metres or in degrees.
    grid : GeoBox

    Returns
    -------
    dict of (rows, cols) arrays of float32
        "altitude" in metres, "slope" in degrees; NaN where the model says nothing.

    Raises
    ------
    InputError, GridError
        As `average_onto`.
    """
    return {
        "altitude": _onto(dem, grid, band=1, derive=None),
        "slope": _onto(dem, grid, band=1, derive=slope_deg),
    }


def slope_deg(altitude_m: NDArray[np.float32], grid: GeoBox) -> NDArray[np.float32]:
    """
    Slope of the ground by Horn's method, in degrees; NaN at the border and beside missing pixels.

    Parameters
    ----------
    altitude_m : (rows, cols) array of float32
    grid : GeoBox
        Where the pixels lie; in degrees, a pixel is as wide as its parallel.

    Examples
    --------
    >>> from affine import Affine
    >>> east = np.arange(5, dtype=np.float32)[np.newaxis].repeat(5, axis=0) * 10
    >>> slope_deg(east, GeoBox((5, 5), Affine(10, 0, 0, 0, -10, 0), "EPSG:25830"))[2, 2].item()
    45.0
    """
    high = abs(float(grid.affine.e))
    wide = np.full((altitude_m.shape[0], 1), abs(float(grid.affine.a)), np.float64)
    if grid.crs is not None and not grid.crs.projected:
        rows = np.arange(altitude_m.shape[0])[:, np.newaxis] + 0.5
        latitude = float(grid.affine.f) + float(grid.affine.e) * rows
        wide = wide * METRES_PER_DEGREE * np.cos(np.radians(latitude))
        high *= METRES_PER_DEGREE
    z = altitude_m.astype(np.float64)
    smooth_y = z[:-2] + 2 * z[1:-1] + z[2:]
    smooth_x = z[:, :-2] + 2 * z[:, 1:-1] + z[:, 2:]
    east = (smooth_y[:, 2:] - smooth_y[:, :-2]) / (8 * wide[1:-1])
    south = (smooth_x[2:] - smooth_x[:-2]) / (8 * high)
    out = np.full(altitude_m.shape, np.nan, np.float32)
    out[1:-1, 1:-1] = np.degrees(np.arctan(np.hypot(east, south)))
    return out


Derive = Callable[[NDArray[np.float32], GeoBox], NDArray[np.float32]]


def _onto(path: str | Path, grid: GeoBox, *, band: int, derive: Derive | None) -> NDArray[np.float32]:
    out = np.full(tuple(grid.shape), np.nan, np.float32)
    with open_dataset(path) as data:
        if not 1 <= band <= data.count:
            raise InputError(f"{path}: has no band {band}; it has {data.count}.")
        own = grid_of(data)
        reached = False
        cells = _cells_at_once(own, grid)
        for row, col, window in windows(grid, cells):
            place = _window_of(own, window)
            if place is None:
                continue
            reached = True
            top, left, rows, cols = place
            piece = window_grid(own, top, left, rows, cols)
            raw, valid = read_numbers(data, [band], piece, nodata=data.nodata, continuous=True)
            values = raw[0].astype(np.float32) * np.float32(data.scales[band - 1])
            values += np.float32(data.offsets[band - 1])
            values[~valid[0] | ~np.isfinite(values)] = np.nan
            if derive is not None:
                values = derive(values, piece)
            shape = (int(window.shape[0]), int(window.shape[1]))
            out[row : row + shape[0], col : col + shape[1]] = _average(values, piece, window)
    if not reached:
        raise GridError(f"{path}: does not reach the grid. Give a raster of the same ground.")
    return out


def _average(values: NDArray[np.float32], own: GeoBox, grid: GeoBox) -> NDArray[np.float32]:
    out = np.full(tuple(grid.shape), np.nan, np.float32)
    shrinks = _ratio(own, grid) > 1.5
    with rasterio.Env():
        reproject(
            values,
            out,
            src_transform=own.affine,
            src_crs=raster_crs(own),
            src_nodata=np.nan,
            dst_transform=grid.affine,
            dst_crs=raster_crs(grid),
            dst_nodata=np.nan,
            resampling=Resampling.average if shrinks else Resampling.bilinear,
            init_dest_nodata=True,
        )
    return out


def _ratio(own: GeoBox, grid: GeoBox) -> float:
    """How many pixels of `own` lie along the side of a cell of `grid`."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    rows, cols = grid.shape
    across = (right - left) / abs(float(own.resolution.x)) / cols
    down = (top - bottom) / abs(float(own.resolution.y)) / rows
    return max(across, down)


def _cells_at_once(own: GeoBox, grid: GeoBox) -> int:
    """Side of the windows of `grid` that keep the pieces of `own` small."""
    middle = window_grid(grid, grid.shape[0] // 2, grid.shape[1] // 2, 1, 1)
    return int(np.clip(_SOURCE_PX / _ratio(own, middle), 1, 256))


def _window_of(own: GeoBox, grid: GeoBox) -> tuple[int, int, int, int] | None:
    """Row, column, rows and columns of `own` that `grid` needs; None where they do not meet."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    corners = [~own.affine * point for point in ((left, top), (right, bottom))]
    cols, rows = (sorted(side) for side in zip(*corners, strict=True))
    asked = Window.from_slices(
        (int(np.floor(rows[0])) - _MARGIN_PX, int(np.ceil(rows[1])) + _MARGIN_PX),
        (int(np.floor(cols[0])) - _MARGIN_PX, int(np.ceil(cols[1])) + _MARGIN_PX),
        boundless=True,
    )
    top_row, left_col = max(0, int(asked.row_off)), max(0, int(asked.col_off))
    bottom_row = min(int(own.shape[0]), int(asked.row_off + asked.height))
    right_col = min(int(own.shape[1]), int(asked.col_off + asked.width))
    if bottom_row <= top_row or right_col <= left_col:
        return None
    return top_row, left_col, bottom_row - top_row, right_col - left_col
