"""Terrain: slope, aspect and relative position of elevation pixels."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError

METRES_PER_DEGREE = 6_371_007.181 * np.pi / 180
"""Along a meridian of the sphere of MODIS."""

MOST_NEIGHBOURHOOD_PX = 1024
"""Largest side of a neighbourhood: its elevation pixels are held in memory."""

_STEPS_PER_M = 1024
"""Elevations are rounded to these steps before they are summed, so that sums are exact in float64."""

_BANDS = {
    "altitude": ("altitude",),
    "slope": ("slope",),
    "aspect": ("aspect_sin", "aspect_cos"),
    "position": ("position",),
}

DERIVATIVES = tuple(_BANDS)
"""What `terrain_bands` derives from elevation."""


def band_names(derivatives: tuple[str, ...]) -> tuple[str, ...]:
    """
    Names of the bands of some derivatives.

    Examples
    --------
    >>> band_names(("slope", "aspect"))
    ('slope', 'aspect_sin', 'aspect_cos')
    """
    return tuple(name for item in derivatives for name in _BANDS[item])


def terrain_bands(
    altitude_m: NDArray[np.float32], grid: GeoBox, derivatives: tuple[str, ...], *, sides_px: tuple[int, int]
) -> NDArray[np.float32]:
    r"""
    Derive bands from elevation, pixel by pixel.

    * altitude: the elevation, in metres;
    * slope: :math:`\arctan \sqrt{z_x^2 + z_y^2}` by Horn's method [Horn1981]_, in degrees;
    * aspect: sine and cosine of the direction in which the terrain falls, clockwise from the north of the grid; 0 both
      where it is flat;
    * position: elevation above the mean of a square neighbourhood, in metres: ridges above 0, valleys below.

    At the border and beside missing pixels the gradient is that of the pairs of pixels that are there.

    Parameters
    ----------
    altitude_m : (rows, cols) array of float32
        NaN where there is no data.
    grid : GeoBox
        Grid of the pixels, in metres or degrees.
    derivatives : tuple of str
        Of `DERIVATIVES`.
    sides_px : (int, int)
        Rows and columns of the neighbourhood of "position" on each side of a pixel, see `neighbourhood_px`.

    Returns
    -------
    (bands, rows, cols) array of float32
        In the order of `band_names`; NaN where there is no elevation.
    """
    bands: dict[str, NDArray[np.float32]] = {"altitude": altitude_m}
    if "slope" in derivatives or "aspect" in derivatives:
        east, south = _gradient(altitude_m, grid, edges=True)
        steepness = np.hypot(east, south)
        bands["slope"] = np.degrees(np.arctan(steepness)).astype(np.float32)
        size = np.where(steepness > 0, steepness, 1)
        bands["aspect_sin"] = (-east / size).astype(np.float32)
        bands["aspect_cos"] = (south / size).astype(np.float32)
    if "position" in derivatives:
        bands["position"] = altitude_m - _neighbourhood_mean(altitude_m, sides_px)
    return np.stack([bands[name] for name in band_names(derivatives)])


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
    east, south = _gradient(altitude_m, grid, edges=False)
    return np.degrees(np.arctan(np.hypot(east, south))).astype(np.float32)


def neighbourhood_px(grid: GeoBox, neighbourhood_m: float) -> tuple[int, int]:
    """
    Rows and columns on each side of a pixel that its neighbourhood holds; at least one.

    Raises
    ------
    InputError
        If the neighbourhood has more than `MOST_NEIGHBOURHOOD_PX` pixels by the side.
    """
    wide, high = _sizes_m(grid)
    sides = [max(1, round(neighbourhood_m / 2 / size)) for size in (high, float(np.median(wide)))]
    if 2 * max(sides) > MOST_NEIGHBOURHOOD_PX:
        raise InputError(
            f"A neighbourhood of {neighbourhood_m:g} m has {2 * max(sides) + 1} elevation pixels by the side, at most "
            f"{MOST_NEIGHBOURHOOD_PX + 1} are possible. Take a smaller one, or coarser elevation (gdalwarp -r average)."
        )
    return sides[0], sides[1]


def _sizes_m(grid: GeoBox) -> tuple[NDArray[np.float64], float]:
    """Width of the pixels of each row and height of all pixels, in metres."""
    high = abs(float(grid.affine.e))
    wide = np.full(int(grid.shape[0]), abs(float(grid.affine.a)), np.float64)
    if grid.crs is not None and not grid.crs.projected:
        rows = np.arange(len(wide)) + 0.5
        latitude = float(grid.affine.f) + float(grid.affine.e) * rows
        wide = wide * METRES_PER_DEGREE * np.cos(np.radians(latitude))
        high *= METRES_PER_DEGREE
    return wide, high


def _gradient(
    altitude_m: NDArray[np.float32], grid: GeoBox, *, edges: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rise per metre to the east and to the south; `edges`: also where neighbours are missing."""
    wide, high = _sizes_m(grid)
    east, south = (np.full(altitude_m.shape, np.nan) for _ in range(2))
    _horn(altitude_m, wide, high, edges, east, south)
    east *= np.sign(float(grid.affine.a))
    south *= -np.sign(float(grid.affine.e))
    return east, south


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _horn(z, wide, high, edges, east, south):  # type: ignore[no-untyped-def]
    rows, cols = z.shape
    near = np.empty((3, 3))
    for y in range(rows):
        for x in range(cols):
            if edges and np.isnan(z[y, x]):
                continue
            whole = True  # the pixel itself does not count
            for i in range(3):
                for j in range(3):
                    v, u = y + i - 1, x + j - 1
                    inside = 0 <= v < rows and 0 <= u < cols
                    near[i, j] = np.float64(z[v, u]) if inside else np.nan
                    whole = whole and ((i == 1 and j == 1) or not np.isnan(near[i, j]))
            if whole:
                left = near[0, 0] + 2 * near[1, 0] + near[2, 0]
                right = near[0, 2] + 2 * near[1, 2] + near[2, 2]
                above = near[0, 0] + 2 * near[0, 1] + near[0, 2]
                below = near[2, 0] + 2 * near[2, 1] + near[2, 2]
                east[y, x] = (right - left) / (8 * wide[y])
                south[y, x] = (below - above) / (8 * high)
            elif edges:
                east[y, x] = _rise(near) / wide[y]
                south[y, x] = _rise(near.T) / high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _rise(near):  # type: ignore[no-untyped-def]
    """Rise from column to column of 3 x 3 pixels, by the pairs that are there; 0 where the middle is alone."""
    total, weights = 0.0, 0.0
    for i in range(3):
        weight = 2.0 if i == 1 else 1.0
        left, middle, right = near[i, 0], near[i, 1], near[i, 2]
        if not np.isnan(right - left):
            rise = (right - left) / 2
        elif not np.isnan(right - middle):
            rise = right - middle
        elif not np.isnan(middle - left):
            rise = middle - left
        else:
            continue
        total += weight * rise
        weights += weight
    return total / weights if weights > 0 else 0.0


def _neighbourhood_mean(altitude_m: NDArray[np.float32], sides_px: tuple[int, int]) -> NDArray[np.float32]:
    """Mean of the pixels with data in the square around each pixel."""
    known = ~np.isnan(altitude_m)
    sums = np.where(known, np.rint(altitude_m.astype(np.float64) * _STEPS_PER_M), 0)
    counts = known.astype(np.float64)
    for axis, side in enumerate(sides_px):
        sums, counts = _window_sums(sums, side, axis), _window_sums(counts, side, axis)
    with np.errstate(invalid="ignore"):
        mean = sums / counts / _STEPS_PER_M
    return np.where(known, mean, np.nan).astype(np.float32)


def _window_sums(values: NDArray[np.float64], side: int, axis: int) -> NDArray[np.float64]:
    """Sums of `side` values on either side of each one, cut at the border."""
    count = values.shape[axis]
    totals = np.insert(np.cumsum(values, axis=axis), 0, 0, axis=axis)
    positions = np.arange(count)
    last = np.minimum(positions + side + 1, count)
    first = np.maximum(positions - side, 0)
    return np.asarray(totals.take(last, axis=axis) - totals.take(first, axis=axis), np.float64)
