"""The area of a mosaic: a box, polygons or the extent of a raster, with its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask

from tesela.core.errors import GridError, InputError
from tesela.core.grid import bounds_in
from tesela.io.cube import open_grid
from tesela.io.vector import open_layer, parse_address, read_layer

if TYPE_CHECKING:
    import shapely


@dataclass(frozen=True, eq=False)
class Area:
    """Area to cover: a grid and, if polygons are given, their outline in the CRS of the grid."""

    grid: GeoBox
    outline: shapely.Geometry | None = None
    """Pixels with the centre outside are left out; None: the whole grid."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return bounds_in(self.grid, "EPSG:4326")

    def inside(self, grid: GeoBox) -> NDArray[np.bool_]:
        """Which pixels of a window of the grid belong to the area, (rows, cols)."""
        shape = (int(grid.shape[0]), int(grid.shape[1]))
        if self.outline is None:
            return np.ones(shape, np.bool_)
        return np.asarray(
            geometry_mask([self.outline], shape, grid.affine, all_touched=False, invert=True), np.bool_
        )


def make_area(
    area: str | Path | None = None,
    *,
    layer: str | None = None,
    like: object = None,
    crs: str | None = None,
    resolution_m: float | None = None,
) -> Area:
    """
    Make the grid of an area; its corners are whole multiples of the resolution.

    Parameters
    ----------
    area : str or path
        "west,south,east,north" in degrees, or a file of polygons in any CRS.
    layer : str, optional
        Layer of the polygons; needed when the file has several.
    like : path, DataArray, Scene, map or GeoBox, optional
        What gives the grid; alone, or with polygons that cut it.
    crs : str, optional
        "EPSG:25830"; default: the UTM zone of the area's middle.
    resolution_m : float, optional
        Side of a pixel in the unit of the CRS; default 10.

    Raises
    ------
    InputError
        If the area cannot be read, or the options are missing or contradict each other.
    GridError
        If the CRS is unknown.

    Examples
    --------
    >>> make_area("-3.60,36.90,-3.50,37.00").grid.crs
    CRS('EPSG:32630')
    """
    import geopandas as gpd
    import shapely

    if area is None and like is None:
        raise InputError(
            "No area was given: --area west,south,east,north, --area polygons.gpkg, or --like raster.tif."
        )
    shapes: gpd.GeoSeries | None = None
    if area is not None:
        box = _parse_box(str(area))
        if box is not None:
            shapes = gpd.GeoSeries([shapely.segmentize(shapely.box(*box), 0.05)], crs="EPSG:4326")
        else:
            shapes = _read_polygons(area, layer)
    if like is not None:
        if crs is not None or resolution_m is not None:
            raise InputError("--like gives the grid: leave out --crs and --resolution, or --like.")
        grid = open_grid(like)
        return Area(grid, None if shapes is None else _union(shapes, grid))
    assert shapes is not None
    side = 10.0 if resolution_m is None else float(resolution_m)
    if not side > 0:
        raise InputError(f"A resolution of {side:g} is not valid; give a positive number (--resolution 10).")
    system = str(shapes.estimate_utm_crs()) if crs is None else crs
    try:
        projected = shapes.to_crs(system)
    except (ValueError, RuntimeError) as error:
        raise GridError(
            f"'{crs}' is not a coordinate system ({error}); write for example EPSG:25830."
        ) from None
    left, bottom, right, top = projected.total_bounds
    west, north = math.floor(left / side) * side, math.ceil(top / side) * side
    rows, cols = math.ceil((north - bottom) / side), math.ceil((right - west) / side)
    grid = GeoBox((max(rows, 1), max(cols, 1)), Affine(side, 0, west, 0, -side, north), system)
    is_box = area is not None and _parse_box(str(area)) is not None
    return Area(grid, None if is_box else _union(shapes, grid))


def _union(shapes: object, grid: GeoBox) -> shapely.Geometry:
    import geopandas as gpd

    assert isinstance(shapes, gpd.GeoSeries)
    assert grid.crs is not None
    outline: shapely.Geometry = shapes.to_crs(grid.crs.to_wkt()).union_all()
    return outline


def _read_polygons(path: str | Path, layer: str | None) -> object:
    file = parse_address(path).file
    if file is not None and not file.exists():
        raise InputError(
            f"Area '{path}' is neither four numbers (west,south,east,north in degrees) nor a file of polygons."
        )
    frame = read_layer(open_layer(path, layer=layer, option="--area-layer"), columns=[])
    shapes = frame.geometry[~frame.geometry.is_empty]
    if not len(shapes):
        raise InputError(f"{path}: contains no polygons, which an area needs.")
    return shapes


def _parse_box(text: str) -> tuple[float, float, float, float] | None:
    """Four numbers of a bounding box, or None if the text is not a box."""
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) != 4:
        raise InputError(f"Area '{text}' has {len(numbers)} numbers; write west,south,east,north in degrees.")
    west, south, east, north = numbers
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InputError(
            f"Area '{text}' is not a box in degrees: west < east within ±180, south < north within ±90. "
            f"If the area crosses the antimeridian, run the two sides separately."
        )
    return west, south, east, north
