"""Sentinel-2-like images of a virtual landscape, each with a scene classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, unknown_name
from tesela.simulate.noise import fractal, ramp, smooth
from tesela.simulate.region.landscape import Landscape
from tesela.simulate.region.spectra import BANDS, CLOUD, REFLECTANCE, SEASONS, SOIL, STATES, looks
from tesela.simulate.region.surface import Surface, lay_surface

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True, eq=False)
class Clouds:
    """Effect of clouds on the light; arrays are (rows, cols)."""

    opacity: NDArray[np.float32]
    """0 clear .. 1 the surface is hidden."""
    shadow: NDArray[np.float32]
    """0 sunlit .. 1 fully in a cloud's shadow."""
    haze: NDArray[np.float32]
    """Aerosol relative to the usual amount, mean 0, variance about 1."""


def make_clouds(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    pixel_m: float,
    cover: float,
    sun_elevation_deg: float,
    sun_azimuth_deg: float,
) -> Clouds:
    """
    Draw fair-weather clouds over a share `cover` of the scene, 900 to 1600 m up.

    Shadows are the clouds moved away from the sun by height / tan(elevation); clouds outside the scene throw
    shadows into it.
    """
    haze = fractal(rng, shape, pixel_m=pixel_m, longest_m=6000, shortest_m=800)
    height_m = float(rng.uniform(900, 1600))
    away = height_m / float(np.tan(np.radians(sun_elevation_deg))) / pixel_m
    down = round(float(np.cos(np.radians(sun_azimuth_deg))) * away)
    right = round(-float(np.sin(np.radians(sun_azimuth_deg))) * away)
    margin = max(abs(down), abs(right)) + 1
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    field = fractal(rng, wide, pixel_m=pixel_m, longest_m=1300, shortest_m=20, gain=0.55)
    field += np.float32(0.45) * fractal(rng, wide, pixel_m=pixel_m, longest_m=9000, shortest_m=2000)
    if cover <= 0:
        clear = np.zeros(shape, np.float32)
        return Clouds(clear, clear, haze)
    inner = field[margin:-margin, margin:-margin]
    base = float(np.quantile(inner, 1 - min(cover, 1.0)))
    cloud = ramp(field, base - 0.10, base + 0.30)
    opacity = cloud[margin : margin + shape[0], margin : margin + shape[1]]
    top, left = margin - down, margin - right
    shadow = smooth(cloud, max(0.5, 15.0 / pixel_m))[top : top + shape[0], left : left + shape[1]]
    return Clouds(np.ascontiguousarray(opacity), np.ascontiguousarray(shadow), haze)


CloudRule = Literal["gaps", "keep", "none"]
"""Clouds of an image: set to nodata, kept, or not drawn."""

SCL_SHADOW, SCL_VEGETATION, SCL_BARE, SCL_WATER = 3, 4, 5, 6
SCL_UNSURE, SCL_MEDIUM_CLOUD, SCL_HIGH_CLOUD = 7, 8, 9
"""Values of the Sentinel-2 scene classification that occur here."""

_GROUP = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2)
"""Which tone (visible, near infrared, short-wave) moves each band."""
_FINE = (True, True, True, False, False, False, True, False, False, False)
"""Bands of 10 m; the others have 20 m and are blurred accordingly."""
_HAZE = (0.012, 0.009, 0.006, 0.005, 0.004, 0.003, 0.003, 0.003, 0.001, 0.001)
_SHADOWED = (0.34, 0.30, 0.26, 0.25, 0.24, 0.23, 0.23, 0.23, 0.20, 0.20)
"""Light in the shadow of a cloud, from the blue sky."""


@dataclass(frozen=True)
class Season:
    """Date of an image, with the position of the sun and the usual cloud cover."""

    name: str
    date: str
    sun_elevation_deg: float
    """At 37.5 degrees north about 10:50 UTC, from declination and hour angle."""
    sun_azimuth_deg: float
    cloud_cover: float
    """Default share of the scene under cloud."""


_SEASONS = {
    "april": Season("april", "2018-04-15", 57.3, 143.5, 0.05),
    "july": Season("july", "2018-07-15", 67.1, 128.9, 0.01),
    "september": Season("september", "2018-09-15", 51.4, 148.6, 0.03),
}


@dataclass(frozen=True, eq=False)
class SensorImage:
    """One date's image as arrays."""

    season: Season
    bands: tuple[str, ...]
    values: NDArray[np.uint16]
    """(bands, rows, cols) reflectance times 10,000, 1 and up; 0 is nodata."""
    scl: NDArray[np.uint8]
    """(rows, cols) scene classification of the Sentinel-2 level 2A products, clouds marked also in gaps."""
    grid: GeoBox


def simulate_image(
    landscape: Landscape,
    season: str,
    *,
    surface: Surface | None = None,
    clouds: CloudRule = "gaps",
    cloud_cover: float | None = None,
    take: int = 0,
) -> SensorImage:
    """
    Simulate an image of a landscape in ten Sentinel-2 bands.

    A pixel is a mixture of a cover and its background; the density depends on parcel, soil, moisture and planting
    rows. Then come relief (a C-corrected cosine law), haze, clouds and their shadows, the blur of 10 m and
    20 m bands, and noise of about 0.3 % reflectance.

    Parameters
    ----------
    landscape : Landscape
    season : {"april", "july", "september"}
    surface : Surface, optional
        Result of `lay_surface(landscape)`, to save time over several seasons.
    clouds : {"gaps", "keep", "none"}
        Clouds, their edges and shadows become nodata, stay in the image, or are not drawn.
    cloud_cover : float, optional
        Share of the scene under cloud, 0 to 0.9; default: that of the season.
    take : int
        Number of the image in the season: each has its own clouds and noise.

    Raises
    ------
    InputError
        If the season or rule is unknown, or the cloud cover out of range.

    Examples
    --------
    >>> from tesela.simulate.region.landscape import make_landscape
    >>> simulate_image(make_landscape(size_px=200, seed=3), "july").values.shape
    (10, 200, 200)
    """
    if season not in _SEASONS:
        raise InputError(unknown_name("season", season, SEASONS))
    if clouds not in ("gaps", "keep", "none"):
        raise InputError(unknown_name("cloud rule", clouds, ("gaps", "keep", "none")))
    when = _SEASONS[season]
    cover = when.cloud_cover if cloud_cover is None else cloud_cover
    if not 0 <= cover <= 0.9:
        raise InputError(f"cloud_cover is {cover:g}; give the share of the scene under cloud, 0 to 0.9.")
    surface = lay_surface(landscape) if surface is None else surface
    rng = np.random.default_rng([landscape.seed, 20 + SEASONS.index(season), *([take] if take else [])])
    pixel_m = abs(float(landscape.grid.affine.a))
    sky = make_clouds(
        rng,
        (landscape.truth.shape[0], landscape.truth.shape[1]),
        pixel_m=pixel_m,
        cover=0.0 if clouds == "none" else cover,
        sun_elevation_deg=when.sun_elevation_deg,
        sun_azimuth_deg=when.sun_azimuth_deg,
    )
    top, share, background = _mixture(surface, landscape, season)
    light = _light(landscape, when, pixel_m=pixel_m)
    values = np.empty((len(BANDS), *landscape.truth.shape), np.uint16)
    for band in range(len(BANDS)):
        table = REFLECTANCE[:, band]
        seen = table[background] + (table[top] - table[background]) * share
        seen *= surface.tone[_GROUP[band]] * light
        seen *= 1 - np.float32(1 - _SHADOWED[band]) * sky.shadow
        seen += np.float32(_HAZE[band]) * (1 + np.float32(0.35) * sky.haze)
        seen += (CLOUD[band] - seen) * sky.opacity
        seen = smooth(seen, (5.5 if _FINE[band] else 10.5) / pixel_m)
        noise = rng.standard_normal(seen.shape, dtype=np.float32)
        seen += noise * (np.float32(0.0025) + np.float32(0.008) * seen)
        values[band] = np.clip(np.rint(seen * np.float32(10_000)), 1, 20_000).astype(np.uint16)
    scl = _classify(values, sky)
    if clouds == "gaps":
        values[:, _hidden(sky)] = 0
    return SensorImage(when, BANDS, values, scl, landscape.grid)


def write_image(image: SensorImage, path: str | Path, *, bands: Sequence[str] = BANDS) -> Path:
    """
    Write the chosen bands of an image as one GeoTIFF with band names, date and nodata 0.

    Raises
    ------
    InputError
        If a band is unknown or the file cannot be written.
    """
    from tesela.io.images import write_bands

    for band in bands:
        if band not in image.bands:
            raise InputError(unknown_name("band", band, image.bands))
    chosen = image.values[[image.bands.index(band) for band in bands]]
    return write_bands(path, chosen, image.grid, names=bands, nodata=0, scale=1e-4, date=image.season.date)


def _mixture(
    surface: Surface, landscape: Landscape, season: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Return cover, its share and the background of each pixel."""
    look = looks(season)
    state = surface.state[SEASONS.index(season)][landscape.parcel]
    state = np.where(surface.stand == 255, state, surface.stand)
    key = surface.kind.astype(np.int32) * STATES + state
    background = look.background[key]
    background = np.where(background == SOIL, surface.soil, background)
    usual = look.share[key]
    room = usual * (1 - usual) * np.float32(1.1)  # bare and full covers vary little
    share = usual + room * (np.float32(0.62) * surface.vigour + np.float32(0.75) * surface.rows)
    return look.top[key], np.clip(share, 0, 1).astype(np.float32), background


def _light(landscape: Landscape, when: Season, *, pixel_m: float) -> NDArray[np.float32]:
    r"""Return the light on a slope relative to level terrain, :math:`(\cos i + c) / (\cos z + c)`, c = 0.45."""
    relief = smooth(landscape.altitude_m, max(0.8, 9.0 / pixel_m))
    south, east = (np.asarray(part, np.float32) for part in np.gradient(relief, pixel_m))
    up = float(np.sin(np.radians(when.sun_elevation_deg)))
    flat = float(np.cos(np.radians(when.sun_elevation_deg)))
    to_east = flat * float(np.sin(np.radians(when.sun_azimuth_deg)))
    to_south = -flat * float(np.cos(np.radians(when.sun_azimuth_deg)))
    facing = np.float32(up) - east * np.float32(to_east) - south * np.float32(to_south)
    facing = np.maximum(facing / np.sqrt(1 + south * south + east * east), 0)
    return np.asarray((facing + np.float32(0.45)) / np.float32(up + 0.45), np.float32)


def _hidden(sky: Clouds) -> NDArray[np.bool_]:
    return np.asarray((sky.opacity > 0.04) | (sky.shadow > 0.15))


def _classify(values: NDArray[np.uint16], sky: Clouds) -> NDArray[np.uint8]:
    """Classify a scene as the level 2A processor does, roughly: clouds, shadows, water, plants, the rest."""
    red, near = (values[BANDS.index(band)].astype(np.float32) for band in ("B04", "B08"))
    short = values[BANDS.index("B11")]
    index = (near - red) / (near + red)
    scl = np.where(index > 0.42, SCL_VEGETATION, SCL_BARE)
    scl = np.where((index < 0.15) & (near < 1200) & (short < 900), SCL_WATER, scl)
    scl = np.where(sky.shadow > 0.15, SCL_SHADOW, scl)
    thick = ramp(sky.opacity, 0.0, 1.0)
    scl = np.where(sky.opacity > 0.04, SCL_UNSURE, scl)
    scl = np.where(thick > 0.10, SCL_MEDIUM_CLOUD, scl)
    return np.where(thick > 0.70, SCL_HIGH_CLOUD, scl).astype(np.uint8)
