"""A year of a virtual region in MODIS: eight-day composites of two satellites, elevation, climate, truth."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import write_map
from tesela.io.raster import raster_crs
from tesela.io.sinusoidal import modis_grid
from tesela.simulate.noise import fractal
from tesela.simulate.region.landscape import Landscape, make_landscape
from tesela.simulate.region.sensors import simulate_image
from tesela.simulate.region.spectra import BANDS, KINDS, MATERIALS, REFLECTANCE, SEASONS
from tesela.simulate.region.surface import Surface, lay_surface

_MODIS = (
    {"B04": 1.0},
    {"B08": 0.4, "B8A": 0.6},
    {"B02": 1.0},
    {"B03": 1.0},
    {"B8A": 0.62, "B11": 0.34},
    {"B11": 1.0},
    {"B12": 1.0},
)
"""Each MODIS band as a mixture of the bands of the virtual region; 1240 nm lies between two."""

_MID_DAYS = (15.0, 105.0, 196.0, 258.0)
"""Day of year of the four seasons: January, April, July, September."""

_WINTER: dict[str, tuple[str, float, str]] = {
    "cereal": ("grass", 0.45, "soil"),
    "fallow": ("grass", 0.30, "soil"),
    "sunflower": ("stubble", 0.20, "soil"),
    "maize": ("stubble", 0.35, "soil"),
    "alfalfa": ("grass", 0.35, "soil"),
    "vegetables": ("crop", 0.25, "soil"),
    "vine": ("grass", 0.25, "soil"),
    "orchard": ("grass", 0.40, "soil"),
    "meadow": ("grass", 0.70, "soil"),
    "grassland": ("grass", 0.45, "soil"),
    "broadleaf": ("stubble", 0.60, "shrub"),
    "garden": ("grass", 0.55, "soil"),
}
"""Cover, its share and what is below it in January, by kind; the other kinds look as in April."""

_DRYNESS = (0.22, -0.12, 0.10, 0.14, -0.02, 0.18, 0.26)
"""Increase of the brightness of each band where rain is half of the average."""

_MOST_MISSING = 0.1
"""Largest part of the response of a cell outside the region."""


@dataclass(frozen=True, eq=False)
class CoarseView:
    """A landscape in the cells of a coarse sensor; arrays are (rows, cols) of `grid` but for the first."""

    grid: GeoBox
    seasons: NDArray[np.float32]
    """(4, 7, rows, cols) reflectance in January, April, July and September; NaN at the edge of the region."""
    altitude_m: NDArray[np.float32]
    rain_mm: NDArray[np.float32]
    late_days: NDArray[np.float32]
    """Delay of the seasons in days, with altitude and at random."""

    def reflectance(self, day: float) -> NDArray[np.float32]:
        """(7, rows, cols) reflectance on a day of the year, 1 to 366, before clouds and noise."""
        shown = np.zeros(self.seasons.shape[1:], np.float32)
        for season, weight in enumerate(_season_weights(day - self.late_days)):
            shown += weight * self.seasons[season]
        dry = np.clip(1 - self.rain_mm / np.nanmean(self.rain_mm), -0.6, 0.6)
        return np.asarray(shown * (1 + np.float32(2) * _column(_DRYNESS) * dry), np.float32)


def view_coarsely(landscape: Landscape, grid: GeoBox) -> CoarseView:
    """
    Mix the pixels of a landscape into the cells of a coarse sensor through its response.

    The response is that of a scanner: a triangle two cells wide along the row, because the mirror turns while the
    detector integrates, and a box of one cell across it. A quarter of the signal comes from the two neighbours.

    Parameters
    ----------
    grid : GeoBox
        Cells, in any CRS; cells with too little of their response inside the region are NaN.
    """
    surface = lay_surface(landscape)
    cells = _Response(landscape.grid, grid)
    mixing = np.array([[part.get(band, 0.0) for band in BANDS] for part in _MODIS], np.float32)
    seasons = []
    for season in SEASONS:
        image = simulate_image(landscape, season, surface=surface, clouds="none")
        bands = image.values.astype(np.float32) / np.float32(10_000)
        if season == "april":
            seasons.append(cells.mix(np.tensordot(mixing, _winter(bands, surface), axes=1)))
        seasons.append(cells.mix(np.tensordot(mixing, bands, axes=1)))
    altitude = cells.mix(landscape.altitude_m[np.newaxis])[0]
    rng = np.random.default_rng([landscape.seed, 30])
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    chance = [fractal(rng, shape, pixel_m=cells.side_m, longest_m=15_000, shortest_m=2_000) for _ in range(2)]
    rain = 380 + 0.45 * altitude + 55 * chance[0]
    late = 0.035 * altitude - 14 + 5 * chance[1]
    return CoarseView(
        grid, np.stack(seasons), altitude, np.asarray(rain, np.float32), np.asarray(late, np.float32)
    )


def _winter(april: NDArray[np.float32], surface: Surface) -> NDArray[np.float32]:
    """(bands, rows, cols) reflectance in January: fields are sown or bare, and trees without leaves."""
    number = {name: k for k, name in enumerate(MATERIALS)}
    out = april.copy()
    for kind, (top, share, below) in _WINTER.items():
        here = surface.kind == KINDS.index(kind)
        ground = surface.soil[here] if below == "soil" else np.full(int(here.sum()), number[below])
        hidden = np.clip(share * (1 + np.float32(0.5) * surface.vigour[here]), 0, 1)
        out[:, here] = (hidden * REFLECTANCE[number[top]][:, None]) + (1 - hidden) * REFLECTANCE[ground].T
    return out


class _Response:
    """Averages fine pixels into cells."""

    def __init__(self, fine: GeoBox, cells: GeoBox) -> None:
        self.fine = fine
        self.side_m = abs(float(cells.resolution.x))
        self.steps = (
            max(3, round(self.side_m / abs(float(fine.resolution.x)))) | 1
        )  # odd: one is in the middle
        rows, cols = cells.shape
        self.shape = (int(rows), int(cols))
        scale = cells.affine * Affine.translation(-1, 0) * Affine.scale(1 / self.steps)
        shape = (self.shape[0] * self.steps, (self.shape[1] + 2) * self.steps)  # one cell more on each side
        self.samples = GeoBox(shape, scale, cells.crs)
        ramp = np.arange(1, self.steps + 1, dtype=np.float64)
        self.triangle = np.concatenate([ramp, ramp[-2::-1]]) / self.steps**2

    def mix(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(bands, rows, cols) of cells from fine pixels; NaN where too little of the response has data."""
        from scipy.ndimage import convolve1d

        drawn = np.full((len(values), *self.samples.shape), np.nan, np.float32)
        with rasterio.Env():
            reproject(
                values,
                drawn,
                src_transform=self.fine.affine,
                src_crs=raster_crs(self.fine),
                dst_transform=self.samples.affine,
                dst_crs=raster_crs(self.samples),
                dst_nodata=np.nan,
                resampling=Resampling.nearest,
                init_dest_nodata=True,
            )
        valid = np.isfinite(drawn)
        parts = []
        for content in (np.where(valid, drawn, 0.0), valid.astype(np.float32)):
            lines = content.reshape(len(values), self.shape[0], self.steps, -1).mean(axis=2)
            spread = convolve1d(lines, self.triangle, axis=-1, mode="constant")
            parts.append(spread[..., self.steps + self.steps // 2 : -self.steps : self.steps])
        total, weight = parts
        out = np.full(total.shape, np.nan, np.float32)
        np.divide(total, weight, out=out, where=weight > 1 - _MOST_MISSING)
        return out


def _season_weights(day: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4, rows, cols) part of each season on a day, linear between their middles, round the year."""
    count = len(_MID_DAYS)
    anchors = np.array([_MID_DAYS[-1] - 365, *_MID_DAYS, _MID_DAYS[0] + 365])
    owner = np.array([count - 1, *range(count), 0])
    date = (day - anchors[0]) % 365 + anchors[0]
    right = np.clip(np.searchsorted(anchors, date, side="right"), 1, count + 1)
    part = (date - anchors[right - 1]) / (anchors[right] - anchors[right - 1])
    out = np.zeros((count, *day.shape), np.float32)
    for season in range(count):
        out[season] += np.where(owner[right - 1] == season, 1 - part, 0)
        out[season] += np.where(owner[right] == season, part, 0)
    return out


def _column(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]


LAYERS = (*(f"sur_refl_b{number:02d}" for number in range(1, 8)), "QA", "StateQA", "DayOfYear")
"""Names of the bands, as Google Earth Engine exports them."""

CLIMATE = ("precipitation", "evapotranspiration", "temperature_ave", "temperature_max", "temperature_min")

_CLOUDY = (0.55, 0.50, 0.50, 0.45, 0.35, 0.20, 0.08, 0.10, 0.25, 0.40, 0.50, 0.55)
"""Share of the area under clouds in a composite, by month."""

_LASTING = 0.85
"""Part of the variance of clouds that is the same all month: weather and relief keep some areas hidden for weeks."""

_FILL = -28_672
_CLEAR, _CLOUD = 0b01_001_000, 0b01_001_001
"""State: land and low aerosol, clear or cloudy."""
_DEAD_BAND_6 = 0b1000 << 22
"""Quality of Aqua's band 6: dead detectors."""
_NOT_MADE = 787_410_671
_CLIMATE_CELL = 500.0


@dataclass(frozen=True)
class CoarseRegion:
    """Paths of a virtual region seen by MODIS."""

    composites: tuple[Path, ...]
    """One GeoTIFF per satellite and eight days: seven bands, quality, state and day of year."""
    truth: Path
    """CORINE level 3 as grid codes, at the fine pixel."""
    altitude: Path
    climate: dict[str, Path]
    """Rasters by name of the layer."""


def write_coarse_region(
    out_dir: str | Path, *, size_px: int = 1200, pixel_m: float = 25.0, seed: int = 0, year: int = 2013
) -> CoarseRegion:
    """
    Make a landscape and write a year of its MODIS images.

    Cells mix the pixels of the known truth through the response of the sensor. Clouds come in blocks, mostly in
    winter, and may stay for a whole month, which leaves a gap; band 6 of Aqua misses every fourth row, as in reality.
    In January fields are sown or bare and trees without leaves. Seasons come later with altitude and dry land is
    brighter, which makes elevation and climate useful. All numbers are ours.

    Parameters
    ----------
    size_px, pixel_m, seed
        As in `make_landscape`; 1200 pixels of 25 m are 30 x 30 km, some 4,000 cells.

    Raises
    ------
    TeselaError
        If a parameter is out of range or a file cannot be written.
    """
    folder = Path(out_dir)
    landscape = make_landscape(size_px=size_px, pixel_m=pixel_m, seed=seed)
    view = view_coarsely(landscape, modis_grid(landscape.grid))
    truth = folder / "truth.tif"
    write_map(truth, landscape.truth, landscape.grid, legend=open_legend("corine-3"))
    return CoarseRegion(
        composites=_write_composites(folder / "modis", view, seed=seed, year=year),
        truth=truth,
        altitude=write_bands(
            folder / "altitude.tif", landscape.altitude_m[np.newaxis], landscape.grid, names=("altitude_m",)
        ),
        climate=_write_climate(folder, landscape),
    )


def _write_composites(folder: Path, view: CoarseView, *, seed: int, year: int) -> tuple[Path, ...]:
    rng = np.random.default_rng([seed, 31])
    shape = (int(view.grid.shape[0]), int(view.grid.shape[1]))
    cell_m = abs(float(view.grid.resolution.x))
    lasting = [
        fractal(
            np.random.default_rng([seed, 33, month]),
            shape,
            pixel_m=cell_m,
            longest_m=16_000,
            shortest_m=1_500,
        )
        for month in range(1, 13)
    ]
    made = []
    for start in range(1, 366, 8):
        first = datetime.date(year, 1, 1) + datetime.timedelta(days=start - 1)
        for satellite in ("MOD", "MYD"):
            stay = lasting[first.month - 1]
            layers = _composite(view, rng, stay, satellite=satellite, start=start, month=first.month)
            path = folder / f"{satellite}09A1_{first:%Y_%m_%d}.tif"
            made.append(write_bands(path, layers, view.grid, names=LAYERS, date=f"{first}"))
    return tuple(made)


def _composite(
    view: CoarseView,
    rng: np.random.Generator,
    lasting: NDArray[np.float32],
    *,
    satellite: str,
    start: int,
    month: int,
) -> NDArray[np.int32]:
    shape = (int(view.grid.shape[0]), int(view.grid.shape[1]))
    cell_m = abs(float(view.grid.resolution.x))
    passing = fractal(rng, shape, pixel_m=cell_m, longest_m=16_000, shortest_m=1_500)
    field = np.float32(math.sqrt(_LASTING)) * lasting + np.float32(math.sqrt(1 - _LASTING)) * passing
    hidden = field > np.quantile(field, 1 - _CLOUDY[month - 1])
    days = start + np.minimum(rng.integers(0, 8, (shape[0] // 6 + 1, shape[1] // 6 + 1)), max(0, 365 - start))
    seen = np.kron(days, np.ones((6, 6), np.int64))[: shape[0], : shape[1]]
    shown = view.reflectance(start + 3.5)
    shown = shown * np.float32(1.0 if satellite == "MOD" else 1.012)
    noise = rng.standard_normal(shown.shape, dtype=np.float32)
    shown = shown + noise * (np.float32(0.002) + np.float32(0.015) * np.abs(shown))
    shown = np.where(hidden, np.float32(0.45) + np.float32(0.05) * noise, shown)
    outside = np.isnan(view.seasons[0]).any(axis=0)
    layers = np.empty((len(LAYERS), *shape), np.int32)
    layers[:7] = np.where(outside, _FILL, np.clip(np.rint(np.nan_to_num(shown) * 10_000), -100, 16_000))
    quality = np.zeros(shape, np.int64)
    if satellite == "MYD":
        quality[3::4] = _DEAD_BAND_6
    layers[7] = np.where(outside, _NOT_MADE, quality)
    layers[8] = np.where(outside, 65_535, np.where(hidden, _CLOUD, _CLEAR))
    layers[9] = np.where(outside, 65_535, seen)
    return layers


def _write_climate(folder: Path, landscape: Landscape) -> dict[str, Path]:
    """Climate by altitude and position, on cells of 500 m."""
    side = abs(float(landscape.grid.resolution.x)) * landscape.truth.shape[0]
    cells = int(side // _CLIMATE_CELL)
    grid = GeoBox.from_bbox(landscape.grid.boundingbox, landscape.grid.crs, shape=(cells, cells))
    view = view_climate(landscape, grid)
    made = {}
    for name in CLIMATE:
        made[name] = write_bands(folder / f"{name}.tif", view[name][np.newaxis], grid, names=(name,))
    return made


def view_climate(landscape: Landscape, grid: GeoBox) -> dict[str, NDArray[np.float32]]:
    """Climate in the cells of a grid that spans the landscape, by name: mm a year and degrees Celsius."""
    rows, cols = (int(side) for side in grid.shape)
    down = np.minimum((np.arange(rows) + 0.5) * landscape.truth.shape[0] / rows, landscape.truth.shape[0] - 1)
    across = np.minimum(
        (np.arange(cols) + 0.5) * landscape.truth.shape[1] / cols, landscape.truth.shape[1] - 1
    )
    high = landscape.altitude_m[down.astype(int)[:, np.newaxis], across.astype(int)]
    rng = np.random.default_rng([landscape.seed, 32])
    cell_m = abs(float(grid.resolution.x))
    chance = [
        fractal(rng, (rows, cols), pixel_m=cell_m, longest_m=15_000, shortest_m=3_000) for _ in range(3)
    ]
    mean = 18.0 - 0.0065 * high + 0.3 * chance[0]
    layers = {
        "precipitation": 380 + 0.45 * high + 25 * chance[1],
        "evapotranspiration": 1150 - 0.25 * high + 20 * chance[2],
        "temperature_ave": mean,
        "temperature_max": mean + 6.5 + 0.2 * chance[1],
        "temperature_min": mean - 5.5 + 0.2 * chance[2],
    }
    return {name: np.asarray(values, np.float32) for name, values in layers.items()}
