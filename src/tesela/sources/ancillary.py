"""Ancillary layers of a cube: coordinates, terrain, climate and any other raster, averaged over its cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import bounds_in, crs_of, window_grid, windows
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import grid_of, open_dataset, raster_crs

PUBLISHED = (
    "longitude",
    "latitude",
    "altitude",
    "slope",
    "precipitation",
    "evapotranspiration",
    "temperature_ave",
    "temperature_max",
    "temperature_min",
)
"""Names of the nine variables of Rodriguez-Ortega et al. (2024), in their order."""

_PLACE = ("longitude", "latitude")
_TERRAIN = ("altitude", "slope")
_BLOCK_CELLS = 512


@dataclass(frozen=True)
class Ancillary:
    """The layers of a cube in addition to its series, and their files."""

    dem: str | Path | None = None
    """Elevation in metres; gives "altitude" and "slope" (of the elevation pixels, in degrees), both averaged."""
    rasters: Mapping[str, str | Path] = field(default_factory=dict)
    """Raster by name of the layer, averaged over each cell: {"precipitation": "rain.tif"}."""
    place: bool = True
    """Whether "longitude" and "latitude" of the cell centres are layers, in degrees."""

    def __post_init__(self) -> None:
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise InputError(
                f"The layer {join_words(sorted(set(twice)))} is given twice; coordinates and elevation add their own "
                f"layers."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order: coordinates, terrain, then the others as given."""
        return (
            *(_PLACE if self.place else ()),
            *(_TERRAIN if self.dem is not None else ()),
            *self.rasters,
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the layers."""
        return tuple(Path(file) for file in (self.dem, *self.rasters.values()) if file is not None)

    def check(self, grid: GeoBox) -> None:
        """
        Check that all files exist and overlap a grid, before a long run.

        Raises
        ------
        GridError
            If a file does not overlap the grid, or has no CRS.
        InputError
            If a file is missing or broken.
        """
        outside = []
        for file in self.files:
            with open_dataset(file) as data:
                own = grid_of(data)
            left, bottom, right, top = own.extent.boundingbox
            box = bounds_in(grid, crs_of(own).to_wkt())
            if not (box[0] < right and box[2] > left and box[1] < top and box[3] > bottom):
                outside.append(str(file))
        if outside:
            raise GridError(
                f"{join_words(outside)}: does not reach the grid of the cube. Give rasters that cover its area."
            )

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """
        All layers on a grid, (layers, rows, cols) float32; NaN where a file has no data or does not reach.

        Raises
        ------
        InputError
            If a file is missing or broken.
        """
        out = np.full((len(self.names), *grid.shape), np.nan, np.float32)
        for row, col, window in windows(grid, _BLOCK_CELLS):
            rows, cols = window.shape
            out[:, row : row + rows, col : col + cols] = self._block(window)
        return out

    def _block(self, grid: GeoBox) -> NDArray[np.float32]:
        layers: list[NDArray[np.float32]] = []
        empty = np.full(tuple(grid.shape), np.nan, np.float32)
        if self.place:
            layers += place_layers(grid)
        if self.dem is not None:
            try:
                layers += terrain_layers(self.dem, grid).values()
            except GridError:
                layers += [empty, empty]
        for file in self.rasters.values():
            try:
                layers.append(average_onto(file, grid))
            except GridError:
                layers.append(empty)
        return np.stack(layers) if layers else np.zeros((0, *grid.shape), np.float32)


def place_layers(grid: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Longitude and latitude of the cell centres on WGS 84, two (rows, cols) arrays in degrees.

    Raises
    ------
    GridError
        If the grid has no CRS.
    """
    import pyproj

    if grid.crs is None:
        raise GridError("The grid has no coordinate system; longitude and latitude need one.")
    rows, cols = (part + 0.5 for part in np.indices(tuple(grid.shape)))
    a = grid.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    change = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, latitude = change.transform(x, y)
    return np.asarray(longitude, np.float32), np.asarray(latitude, np.float32)


_SOURCE_PX = 3072
"""Largest side of a source window: 36 MiB of float32."""

_MARGIN_PX = 3
"""Source pixels read around a window, for slopes and interpolation."""

METRES_PER_DEGREE = 6_371_007.181 * np.pi / 180
"""Along a meridian of the sphere of MODIS."""


def average_onto(path: str | Path, grid: GeoBox, *, band: int = 1) -> NDArray[np.float32]:
    """
    Mean of a raster in each cell of a grid, weighted by area; interpolated where cells are smaller than pixels.

    Parameters
    ----------
    path : path
        Any raster that GDAL reads: elevation, precipitation, temperature.
    grid : GeoBox
        In any CRS; the source is read by window and can have any size.
    band : int
        Number of the band, from 1.

    Returns
    -------
    (rows, cols) array of float32
        In the unit of the raster, with scale and offset of the file applied. NaN where it has no data.

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

    The slope of each elevation pixel comes from its eight neighbours [Horn1981]_,
    :math:`\arctan \sqrt{z_x^2 + z_y^2}`, and is then averaged: the slope of averaged altitudes would lose the relief.

    Parameters
    ----------
    dem : path
        Elevation in metres, in projected metres or in degrees.
    grid : GeoBox

    Returns
    -------
    dict of (rows, cols) arrays of float32
        "altitude" in metres, "slope" in degrees; NaN where the model has no data.

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
    Slope of the terrain by Horn's method, in degrees; NaN at the border and next to missing pixels.

    Parameters
    ----------
    altitude_m : (rows, cols) array of float32
    grid : GeoBox
        Grid of the pixels; in degrees, the width of a pixel follows its parallel.

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
            source = _window_of(own, window)
            if source is None:
                continue
            reached = True
            top, left, rows, cols = source
            piece = window_grid(own, top, left, rows, cols)
            raw, valid = read_pixel_values(data, [band], piece, nodata=data.nodata, continuous=True)
            values = raw[0].astype(np.float32) * np.float32(data.scales[band - 1])
            values += np.float32(data.offsets[band - 1])
            values[~valid[0] | ~np.isfinite(values)] = np.nan
            if derive is not None:
                values = derive(values, piece)
            shape = (int(window.shape[0]), int(window.shape[1]))
            out[row : row + shape[0], col : col + shape[1]] = _average(values, piece, window)
    if not reached:
        raise GridError(f"{path}: does not reach the grid. Give a raster of the same area.")
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
    """Number of pixels of `own` along the side of a cell of `grid`."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    rows, cols = grid.shape
    across = (right - left) / abs(float(own.resolution.x)) / cols
    down = (top - bottom) / abs(float(own.resolution.y)) / rows
    return max(across, down)


def _cells_at_once(own: GeoBox, grid: GeoBox) -> int:
    """Side of the windows of `grid` that keep the windows of `own` small."""
    middle = window_grid(grid, grid.shape[0] // 2, grid.shape[1] // 2, 1, 1)
    return int(np.clip(_SOURCE_PX / _ratio(own, middle), 1, 256))


def _window_of(own: GeoBox, grid: GeoBox) -> tuple[int, int, int, int] | None:
    """Row, column, rows and columns of `own` that `grid` needs; None if they do not overlap."""
    left, bottom, right, top = bounds_in(grid, str(own.crs.to_wkt() if own.crs else ""))
    corners = [~own.affine * point for point in ((left, top), (right, bottom))]
    cols, rows = (sorted(side) for side in zip(*corners, strict=True))
    needed = Window.from_slices(
        (int(np.floor(rows[0])) - _MARGIN_PX, int(np.ceil(rows[1])) + _MARGIN_PX),
        (int(np.floor(cols[0])) - _MARGIN_PX, int(np.ceil(cols[1])) + _MARGIN_PX),
        boundless=True,
    )
    top_row, left_col = max(0, int(needed.row_off)), max(0, int(needed.col_off))
    bottom_row = min(int(own.shape[0]), int(needed.row_off + needed.height))
    right_col = min(int(own.shape[1]), int(needed.col_off + needed.width))
    if bottom_row <= top_row or right_col <= left_col:
        return None
    return top_row, left_col, bottom_row - top_row, right_col - left_col
