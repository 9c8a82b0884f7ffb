"""Ancillary layers of a cube: place, terrain, climate and any other raster, on its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import windows
from tesela.io.raster import open_dataset
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

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """
        All layers on a grid, (layers, rows, cols) float32; NaN where a file says nothing.

        Raises
        ------
        GridError
            If a file does not reach the grid at all.
        InputError
            If a file is missing or broken.
        """
        out = np.full((len(self.names), *grid.shape), np.nan, np.float32)
        reached = dict.fromkeys(map(str, self.files), False)
        for file in reached:
            open_dataset(file).close()
        for row, col, window in windows(grid, _BLOCK_CELLS):
            rows, cols = window.shape
            block = self._block(window, reached)
            out[:, row : row + rows, col : col + cols] = block
        outside = [file for file, seen in reached.items() if not seen]
        if outside:
            raise GridError(
                f"{join_words(outside)}: does not reach the grid of the cube. Give rasters of its ground."
            )
        return out

    def _block(self, grid: GeoBox, reached: dict[str, bool]) -> NDArray[np.float32]:
        found: list[NDArray[np.float32]] = []
        nothing = np.full(tuple(grid.shape), np.nan, np.float32)
        if self.place:
            found += place_layers(grid)
        if self.dem is not None:
            try:
                found += terrain_layers(self.dem, grid).values()
                reached[str(Path(self.dem))] = True
            except GridError:
                found += [nothing, nothing]
        for file in self.rasters.values():
            try:
                found.append(average_onto(file, grid))
                reached[str(Path(file))] = True
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
