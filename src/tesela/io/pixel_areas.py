"""Areas of pixels: outlines, polygons and pixel sizes of a grid in square metres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError
from tesela.core.grid import has_equal_pixels, has_true_lengths
from tesela.core.legend import NODATA, Legend
from tesela.io.maps import ClassMap
from tesela.io.raster import raster_crs

if TYPE_CHECKING:
    import geopandas as gpd


def outline(grid: GeoBox, crs: str) -> shapely.Polygon:
    """Outline of a grid in another CRS, with 32 points along each edge."""
    rows, cols = grid.shape
    along = np.linspace(0, 1, 33)[:-1]
    zero, one = np.zeros_like(along), np.ones_like(along)
    col = cols * np.concatenate([along, one, along[::-1] + 1 / 32, zero])
    row = rows * np.concatenate([zero, along, one, along[::-1] + 1 / 32])
    step = grid.affine
    x, y = step.a * col + step.b * row + step.c, step.d * col + step.e * row + step.f
    to = pyproj.Transformer.from_crs(raster_crs(grid).to_wkt(), crs, always_xy=True)
    return shapely.Polygon(np.column_stack(to.transform(x, y)))


def areas_on(grid: GeoBox, within: gpd.GeoDataFrame | None) -> gpd.GeoDataFrame | None:
    """The areas in the CRS of the grid; points are added along their edges where the CRS changes."""
    if within is None:
        return None
    if within.crs is None:
        raise GridError("The areas to assess within have no coordinate system; set it (set_crs).")
    areas = within[~(within.geometry.isna() | within.geometry.is_empty)]
    crs = raster_crs(grid).to_wkt()
    if areas.crs != crs:
        step = shapely.length(areas.geometry.to_numpy()) / 128 + 1e-9
        areas = areas.set_geometry(areas.geometry.segmentize(step)).to_crs(crs)
    return areas.reset_index(drop=True)


def pixels_inside(grid: GeoBox, areas: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Pixels of a grid whose centres lie in polygons of the same CRS, (rows, cols) of bool."""
    from rasterio.features import geometry_mask

    near = areas.geometry.iloc[areas.sindex.query(grid.extent.geom, predicate="intersects")]
    if near.empty:
        return np.zeros(grid.shape, np.bool_)
    return np.asarray(geometry_mask(near, grid.shape, transform=grid.affine, invert=True), np.bool_)


def numbers_on(grid: GeoBox, areas: gpd.GeoDataFrame, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """
    Number of the polygon around each pixel's centre, (rows, cols) int32; 0 outside all.

    Parameters
    ----------
    areas : GeoDataFrame
        In the grid's CRS; where polygons overlap, the first one counts.
    numbers : (polygons,) array of int32
        One for each polygon, from 1.
    """
    from rasterio.features import rasterize

    near = np.sort(areas.sindex.query(grid.extent.geom, predicate="intersects"))[::-1]
    out = np.zeros(grid.shape, np.int32)
    if near.size:
        shapes = zip(areas.geometry.iloc[near], numbers[near].tolist(), strict=True)
        rasterize(shapes, out=out, transform=grid.affine)
    return out


def pixel_area_m2(grid: GeoBox) -> float:
    """Mean area of a pixel; geodesic where the units of the CRS are no true lengths."""
    if not has_true_lengths(grid):
        return _geodesic_m2(grid) / math.prod(grid.shape)
    step = grid.affine
    metres = float(raster_crs(grid).linear_units_factor[1])
    return float(abs(step.a * step.e - step.b * step.d)) * metres**2


_WIDEST_DEG = 90.0
"""Wider outlines are cut in two: on the globe the inside of one that goes around it is not the smaller side."""


def _geodesic_m2(grid: GeoBox) -> float:
    """Area of a grid on the ellipsoid."""
    shape = outline(grid, "EPSG:4326")
    west, _, east, _ = shape.bounds
    cols = int(grid.shape[1])
    if east - west > _WIDEST_DEG and cols > 1:
        return _geodesic_m2(grid[:, : cols // 2]) + _geodesic_m2(grid[:, cols // 2 :])
    area_m2, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)
    return float(abs(area_m2))


def stratum_table(legend: Legend, crosswalk: Crosswalk | None) -> tuple[NDArray[np.uint8], Legend]:
    """Table of 256 from a map's values to those of its strata, and the legend of the strata."""
    if crosswalk is not None:
        return crosswalk.table(legend), crosswalk.target
    table = np.zeros(256, np.uint8)
    table[list(legend.values)] = legend.values
    assert table[NODATA] == NODATA
    return table, legend


def equal_pixels_m2(source: ClassMap) -> float:
    """
    Area of one pixel in square metres, for a map whose pixels all have one size; see `pixel_area_m2`.

    Raises
    ------
    GridError
        If the areas of its pixels on the ellipsoid differ by more than 5 %: in degrees, and in Web Mercator or the
        conic projection of EPSG:3034 over several degrees of latitude.
    """
    if not has_equal_pixels(source.grid):
        raise GridError(
            f"{source.path} is in {source.grid.crs}, where pixels do not all have the same area. "
            f"Warp it to an equal-area or UTM system first (gdalwarp -t_srs EPSG:3035 -r near)."
        )
    return pixel_area_m2(source.grid)
