"""The sinusoidal grid of the MODIS land products, at 500 m."""

from __future__ import annotations

import math

import pyproj
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from tesela.core.grid import bounds_in, epsg_of

_METRE = 'LENGTHUNIT["metre",1]'
_DEGREE = 'ANGLEUNIT["degree",0.0174532925199433]'

SINUSOIDAL = (
    'PROJCRS["MODIS Sinusoidal",BASEGEOGCRS["MODIS sphere",DATUM["Not specified (MODIS sphere)",'
    f'ELLIPSOID["MODIS sphere",6371007.181,0,{_METRE}]],PRIMEM["Greenwich",0,{_DEGREE}]],'
    f'CONVERSION["Sinusoidal",METHOD["Sinusoidal"],PARAMETER["Longitude of natural origin",0,{_DEGREE}],'
    f'PARAMETER["False easting",0,{_METRE}],PARAMETER["False northing",0,{_METRE}]],'
    f'CS[Cartesian,2],AXIS["(E)",east,ORDER[1],{_METRE}],AXIS["(N)",north,ORDER[2],{_METRE}]]'
)
"""CRS of the MODIS land products, a sphere; it has no EPSG code, so it is written with its name."""

TILE_M = 2 * math.pi * 6_371_007.181 / 36
"""Side of a tile: 1,111,950.52 m; there are 36 x 18."""

TILE_PX = 2400


def modis_tile(column: int, row: int) -> GeoBox:
    """
    Grid of a 500 m tile, such as h17v05.

    Examples
    --------
    >>> modis_tile(17, 5).shape.yx, round(modis_tile(17, 5).affine.c, 4)
    ((2400, 2400), -1111950.5198)
    """
    pixel = TILE_M / TILE_PX
    corner = (column - 18) * TILE_M, (9 - row) * TILE_M
    return GeoBox((TILE_PX, TILE_PX), Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), SINUSOIDAL)


def modis_grid(like: GeoBox) -> GeoBox:
    """Sinusoidal 500 m grid of whole MODIS pixels that covers another grid."""
    left, bottom, right, top = bounds_in(like, SINUSOIDAL)
    pixel = TILE_M / TILE_PX
    cols = math.floor(left / pixel), math.ceil(right / pixel)
    rows = math.floor(-top / pixel), math.ceil(-bottom / pixel)
    shape = (rows[1] - rows[0], cols[1] - cols[0])
    return GeoBox(shape, Affine(pixel, 0, cols[0] * pixel, 0, -pixel, -rows[0] * pixel), SINUSOIDAL)


def named_wkt(crs: CRS) -> str:
    """
    WKT of a CRS; that of the MODIS products is named, which files often call "unknown" or "unnamed".

    Examples
    --------
    >>> named_wkt(CRS("+proj=sinu +R=6371007.181 +units=m"))[:26]
    'PROJCRS["MODIS Sinusoidal"'
    """
    if epsg_of(crs) is None and crs.proj == pyproj.CRS.from_wkt(SINUSOIDAL):
        return SINUSOIDAL
    return str(crs.to_wkt())
