"""Grids: their windows, whether two share their pixels, and how they name and leave their CRS."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import pyproj
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError

_METRES_PER_DEGREE = 111_319.49
"""Along the equator of WGS 84."""

_ALIGNED = 1e-3
"""Two grids are the same when their pixels differ by less than a thousandth of a pixel."""


def window_grid(grid: GeoBox, row: int, col: int, rows: int, cols: int) -> GeoBox:
    """Window of a grid, which may reach past its edges."""
    return GeoBox((rows, cols), grid.affine * Affine.translation(col, row), grid.crs)


def windows(grid: GeoBox, size_px: int) -> Iterator[tuple[int, int, GeoBox]]:
    """Row, column and grid of square windows that cover a grid once, cut at its edges."""
    rows, cols = grid.shape
    for row in range(0, rows, size_px):
        for col in range(0, cols, size_px):
            yield row, col, window_grid(grid, row, col, min(size_px, rows - row), min(size_px, cols - col))


def pixel_offset(own: GeoBox, grid: GeoBox) -> tuple[int, int] | None:
    """Row and column of `grid`'s corner in `own`, or None where the pixels of the two do not coincide."""
    if own.crs != grid.crs:
        return None
    step = ~own.affine * grid.affine
    if max(abs(step.a - 1), abs(step.e - 1), abs(step.b), abs(step.d)) * max(grid.shape) > _ALIGNED:
        return None
    row, col = round(step.f), round(step.c)
    if max(abs(step.f - row), abs(step.c - col)) > _ALIGNED:
        return None
    return row, col


def bounds_in(grid: GeoBox, crs: str) -> tuple[float, float, float, float]:
    """
    Left, bottom, right and top of a grid in another CRS, x before y; its sides may bend.

    Raises
    ------
    GridError
        If the grid has no CRS.
    """
    left, bottom, right, top = grid.extent.boundingbox
    change = pyproj.Transformer.from_crs(crs_of(grid).to_wkt(), crs, always_xy=True)
    bounds = change.transform_bounds(left, bottom, right, top, densify_pts=21)
    return float(bounds[0]), float(bounds[1]), float(bounds[2]), float(bounds[3])


def crs_of(grid: GeoBox) -> CRS:
    """
    CRS of a grid that must have one.

    Raises
    ------
    GridError
        If it has none.
    """
    if grid.crs is None:
        raise GridError(
            "The grid has no coordinate system. Give its scene or map the right one (gdal_edit.py -a_srs EPSG:....), "
            "then try again."
        )
    return grid.crs


def crs_text(grid: GeoBox) -> str:
    """CRS of a grid as text: "EPSG:25830", or WKT where it has no such code; see `crs_of`."""
    crs = crs_of(grid)
    code = epsg_of(crs)
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def epsg_of(crs: CRS) -> int | None:
    """EPSG code of a CRS, or None; kept, as the search for what has none takes a tenth of a second."""
    return _search_epsg(str(crs))


@functools.lru_cache(maxsize=256)
def _search_epsg(text: str) -> int | None:
    code = CRS(text).epsg
    return None if code is None else int(code)


def check_utm_zone(name: str, zone: int, grid: GeoBox) -> None:
    """
    Check that a grid is in a UTM zone.

    Raises
    ------
    GridError
        If it is in another one, or in no zone at all.
    """
    own = crs_of(grid).proj.utm_zone
    if own is None or int(own[:-1]) != zone:
        raise GridError(
            f"Scene '{name}' is given for UTM zone {zone}, but its file is in {crs_text(grid)}"
            f"{f', zone {own}' if own else ''}. Correct the zone, or the CRS of the file (gdal_edit.py -a_srs)."
        )


_TRUE_AREA = 0.01
"""Largest error of areas in a CRS of true lengths."""

_EVEN_AREA = 0.05
"""Largest difference of the areas of two pixels of a map that are counted as one size: 2.5 % from their mean."""


def unit_m(grid: GeoBox, *, what: str) -> float:
    """
    Metres in one unit of a grid's coordinates, on the ellipsoid at its middle where the CRS has no true lengths.

    Parameters
    ----------
    what : str
        What needs lengths, to name in the error: "The minimum width".

    Raises
    ------
    GridError
        If the pixels have no constant area (degrees; Web Mercator and EPSG:3034 over more than two degrees or five), or
        the grid has no CRS.
    """
    if not has_equal_pixels(grid):
        raise GridError(
            f"{what} needs a map in a projected CRS, but this one is in {crs_of(grid)}, whose pixels have no constant "
            f"area. Warp it (gdalwarp -r near -t_srs EPSG:3035), then try again."
        )
    unit = float(crs_of(grid).proj.axis_info[0].unit_conversion_factor)
    return unit if has_true_lengths(grid) else unit * _true_scales(grid, [(0.5, 0.5)])[0]


def has_true_lengths(grid: GeoBox) -> bool:
    """Whether areas in the units of the CRS are true to 1 %: not in degrees, Web Mercator or the cone of EPSG:3034."""
    if not crs_of(grid).projected:
        return False
    return all(abs(scale**2 - 1) < _TRUE_AREA for scale in _true_scales(grid, _NINE))


def has_equal_pixels(grid: GeoBox) -> bool:
    """Whether all pixels of a projected grid have one area on the ellipsoid, to 5 %."""
    if not crs_of(grid).projected:
        return False
    scales = _true_scales(grid, _NINE)
    return max(scales) ** 2 < (1 + _EVEN_AREA) * min(scales) ** 2


def pixel_size_m(grid: GeoBox) -> tuple[float, float]:
    """
    Width and height of a pixel in metres; of a grid in degrees, at its middle on the sphere.

    Feet are converted, and lengths of projections without true ones, such as Web Mercator, are corrected at the middle
    of the grid.
    """
    width, height = abs(float(grid.resolution.x)), abs(float(grid.resolution.y))
    if grid.crs is not None and grid.crs.geographic:
        middle = math.radians(grid.extent.centroid.coords[0][1])
        return width * _METRES_PER_DEGREE * math.cos(middle), height * _METRES_PER_DEGREE
    if grid.crs is None or not grid.crs.projected:
        return width, height
    unit = float(grid.crs.proj.axis_info[0].unit_conversion_factor or 1.0)
    scale = _true_scales(grid, [(0.5, 0.5)])[0]
    unit *= scale if abs(scale**2 - 1) > _TRUE_AREA else 1.0
    return width * unit, height * unit


_NINE = [(y, x) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0)]
"""Corners, middles of the sides and middle of a grid, as shares of its rows and columns."""


def _true_scales(grid: GeoBox, places: Sequence[tuple[float, float]]) -> list[float]:
    """Length on the ellipsoid of a metre of a projected CRS at places of a grid; 1 where it is unknown."""
    crs = crs_of(grid).proj
    unit = float(crs.axis_info[0].unit_conversion_factor or 1.0)
    half = 500 / unit
    rows, cols = (int(side) for side in grid.shape)
    middles = [grid.affine * (cols * x, rows * y) for y, x in places]
    corners = ((-half, -half), (half, -half), (half, half), (-half, half))
    change = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = change.transform(
        [x + dx for x, _ in middles for dx, _ in corners], [y + dy for _, y in middles for _, dy in corners]
    )
    globe = crs.get_geod()
    scales = []
    for first in range(0, 4 * len(places), 4):
        ring = lon[first : first + 4], lat[first : first + 4]
        if globe is None or not all(map(math.isfinite, (*ring[0], *ring[1]))):
            scales.append(1.0)
            continue
        area, _ = globe.polygon_area_perimeter(*ring)
        scales.append(math.sqrt(abs(area)) / 1000)
    return scales
