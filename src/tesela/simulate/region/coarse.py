"""What a coarse sensor sees of a virtual landscape: its response, its months, and how ground and climate move them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from tesela.io.raster import raster_crs
from tesela.simulate.noise import fractal
from tesela.simulate.region.landscape import Landscape
from tesela.simulate.region.sensors import simulate_image
from tesela.simulate.region.spectra import BANDS, SEASONS
from tesela.simulate.region.surface import lay_surface

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

_MID_DAYS = (105.0, 196.0, 258.0)
"""Day of year of the seasons that the region knows: April, July, September."""

_DRYNESS = (0.22, -0.12, 0.10, 0.14, -0.02, 0.18, 0.26)
"""How much brighter each band is where it rains half as much as on average."""

_MOST_MISSING = 0.1
"""Part of a cell's response that may fall outside the region."""


@dataclass(frozen=True, eq=False)
class CoarseView:
    """A landscape in the cells of a coarse sensor; arrays are (rows, cols) of `grid` but for the first."""

    grid: GeoBox
    seasons: NDArray[np.float32]
    """(3, 7, rows, cols) reflectance in April, July and September; NaN at the edge of the region."""
    altitude_m: NDArray[np.float32]
    rain_mm: NDArray[np.float32]
    late_days: NDArray[np.float32]
    """How many days later than usual the seasons come: with altitude, and by chance of place."""

    def reflectance(self, day: float) -> NDArray[np.float32]:
        """(7, rows, cols) reflectance on a day of the year, 1 to 366, before clouds and noise."""
        shown = np.zeros(self.seasons.shape[1:], np.float32)
        for season, weight in enumerate(_season_weights(day - self.late_days)):
            shown += weight * self.seasons[season]
        dry = np.clip(1 - self.rain_mm / np.nanmean(self.rain_mm), -0.6, 0.6)
        return np.asarray(shown * (1 + np.float32(2) * _column(_DRYNESS) * dry), np.float32)


def view_coarsely(landscape: Landscape, grid: GeoBox) -> CoarseView:
    """
    Mix a landscape's pixels into the cells of a coarse sensor through its response.

    The response is that of a scanner: a triangle two cells wide along the row, for the mirror turns while the detector
    integrates, and a box of one cell across it. So a quarter of a cell's signal comes from its two neighbours.

    Parameters
    ----------
    grid : GeoBox
        Cells, in any CRS; those that see too little of the region are NaN.
    """
    surface = lay_surface(landscape)
    cells = _Response(landscape.grid, grid)
    mixing = np.array([[part.get(band, 0.0) for band in BANDS] for part in _MODIS], np.float32)
    seasons = []
    for season in SEASONS:
        image = simulate_image(landscape, season, surface=surface, clouds="none")
        fine = np.tensordot(mixing, image.values.astype(np.float32) / np.float32(10_000), axes=1)
        seasons.append(cells.mix(fine))
    altitude = cells.mix(landscape.altitude_m[np.newaxis])[0]
    rng = np.random.default_rng([landscape.seed, 30])
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    chance = [fractal(rng, shape, pixel_m=cells.side_m, longest_m=15_000, shortest_m=2_000) for _ in range(2)]
    rain = 380 + 0.45 * altitude + 55 * chance[0]
    late = 0.035 * altitude - 14 + 5 * chance[1]
    return CoarseView(
        grid, np.stack(seasons), altitude, np.asarray(rain, np.float32), np.asarray(late, np.float32)
    )


class _Response:
    """Averages fine pixels into cells."""

    def __init__(self, fine: GeoBox, cells: GeoBox) -> None:
        self.fine = fine
        self.side_m = abs(float(cells.resolution.x))
        self.steps = (
            max(3, round(self.side_m / abs(float(fine.resolution.x)))) | 1
        )  # odd: one lies in the middle
        rows, cols = cells.shape
        self.shape = (int(rows), int(cols))
        scale = cells.affine * Affine.translation(-1, 0) * Affine.scale(1 / self.steps)
        shape = (self.shape[0] * self.steps, (self.shape[1] + 2) * self.steps)  # one cell more on each side
        self.samples = GeoBox(shape, scale, cells.crs)
        ramp = np.arange(1, self.steps + 1, dtype=np.float64)
        self.triangle = np.concatenate([ramp, ramp[-2::-1]]) / self.steps**2

    def mix(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(bands, rows, cols) of cells from fine pixels; NaN where too little of the response is known."""
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
        known = np.isfinite(drawn)
        parts = []
        for content in (np.where(known, drawn, 0.0), known.astype(np.float32)):
            lines = content.reshape(len(values), self.shape[0], self.steps, -1).mean(axis=2)
            spread = convolve1d(lines, self.triangle, axis=-1, mode="constant")
            parts.append(spread[..., self.steps + self.steps // 2 : -self.steps : self.steps])
        total, weight = parts
        out = np.full(total.shape, np.nan, np.float32)
        np.divide(total, weight, out=out, where=weight > 1 - _MOST_MISSING)
        return out


def _season_weights(day: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, rows, cols) part of each season on a day, linear between their middles, round the year."""
    anchors = np.array([_MID_DAYS[2] - 365, *_MID_DAYS, _MID_DAYS[0] + 365])
    owner = np.array([2, 0, 1, 2, 0])
    place = (day - anchors[0]) % 365 + anchors[0]
    right = np.clip(np.searchsorted(anchors, place, side="right"), 1, 4)
    part = (place - anchors[right - 1]) / (anchors[right] - anchors[right - 1])
    out = np.zeros((3, *day.shape), np.float32)
    for season in range(3):
        out[season] += np.where(owner[right - 1] == season, 1 - part, 0)
        out[season] += np.where(owner[right] == season, part, 0)
    return out


def _column(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]
