"""Ancillary layers of a cube: place, terrain, climate and any other raster, on its cells."""

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
from tesela.sources.terrain import average_onto, terrain_layers

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
    """Which layers a cube gets besides its series, and from which files."""

    dem: str | Path | None = None
    """Elevation in metres; gives "altitude" and "slope" (of its own pixels, in degrees), both averaged."""
    rasters: Mapping[str, str | Path] = field(default_factory=dict)
    """Raster by name of the layer, averaged over each cell: {"precipitation": "rain.tif"}."""
    place: bool = True
    """Whether "longitude" and "latitude" of the cell centres are layers, in degrees."""

    def __post_init__(self) -> None:
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise InputError(
                f"The layer {join_words(sorted(set(twice)))} is given twice; it comes with the place or the elevation."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order: place, terrain, then the others as given."""
        return (
            *(_PLACE if self.place else ()),
            *(_TERRAIN if self.dem is not None else ()),
            *self.rasters,
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that are read."""
        return tuple(Path(file) for file in (self.dem, *self.rasters.values()) if file is not None)

    def check(self, grid: GeoBox) -> None:
        """
        Check that all files are there and reach a grid, before long work.

        Raises
        ------
        GridError
            If a file does not reach the grid, or has no CRS.
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
                f"{join_words(outside)}: does not reach the grid of the cube. Give rasters of its ground."
            )

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """
        All layers on a grid, (layers, rows, cols) float32; NaN where a file says nothing or does not reach.

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
        found: list[NDArray[np.float32]] = []
        nothing = np.full(tuple(grid.shape), np.nan, np.float32)
        if self.place:
            found += place_layers(grid)
        if self.dem is not None:
            try:
                found += terrain_layers(self.dem, grid).values()
            except GridError:
                found += [nothing, nothing]
        for file in self.rasters.values():
            try:
                found.append(average_onto(file, grid))
            except GridError:
                found.append(nothing)
        return np.stack(found) if found else np.zeros((0, *grid.shape), np.float32)


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
        raise GridError("The grid has no coordinate system; one is needed to tell longitude and latitude.")
    rows, cols = (part + 0.5 for part in np.indices(tuple(grid.shape)))
    a = grid.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    change = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, latitude = change.transform(x, y)
    return np.asarray(longitude, np.float32), np.asarray(latitude, np.float32)
