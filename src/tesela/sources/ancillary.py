"""Ancillary layers of a cube: coordinates, terrain, climate and any other raster, averaged over its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import bounds_in, crs_of, windows
from tesela.io.raster import grid_of, open_dataset
from tesela.sources.source_raster import SourceRaster
from tesela.sources.terrain import slope_deg

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
    with SourceRaster([path], bands=(band,)) as source:
        mean: NDArray[np.float32] = source.onto(grid)[0]
    return mean


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
    with SourceRaster([dem], bands=(1,)) as source:
        altitude, slope = source.onto(grid, _altitude_and_slope)
    return {"altitude": altitude, "slope": slope}


def _altitude_and_slope(values: NDArray[np.float32], grid: GeoBox) -> NDArray[np.float32]:
    return np.stack([values[0], slope_deg(values[0], grid)])
