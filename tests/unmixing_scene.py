"""A small scene for tests of unmixing: known shares, mixed linearly, with noise and gaps."""

from __future__ import annotations

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.legend import Legend
from tesela.patches.pixels import PixelTable

ROWS, COLS, STEPS, BANDS = 20, 24, 12, 3
TIMES = tuple(f"2013-{month:02d}" for month in range(1, 13))
NAMES = ("red", "nir", "swir")
GRID = GeoBox((ROWS, COLS), Affine(463, 0, 0, 0, -463, 0), "EPSG:3035")
LEGEND = Legend.from_rows(
    "toy",
    [
        {"level": "1", "value": "1", "code": "1", "name": "Green", "color": "#00ff00"},
        {"level": "1", "value": "2", "code": "2", "name": "Bare", "color": "#808080"},
        {"level": "2", "value": "1", "code": "11", "name": "Forest", "color": "#00aa00", "parent": "1"},
        {"level": "2", "value": "2", "code": "12", "name": "Crops", "color": "#aaff00", "parent": "1"},
        {"level": "2", "value": "3", "code": "21", "name": "Soil", "color": "#806040", "parent": "2"},
    ],
)


def make_table(*, missing: float = 0.2, seed: int = 0) -> PixelTable:
    """Left third train, middle val, right test; the pixels of rows and columns 3 and 4 were never observed."""
    generator = np.random.default_rng(seed)
    spectra = generator.normal(0.3, 0.1, (3, STEPS, BANDS))
    shares = generator.dirichlet([0.5] * 3, (ROWS, COLS))
    values = np.einsum("rck,ktb->rctb", shares, spectra) + generator.normal(
        0, 0.01, (ROWS, COLS, STEPS, BANDS)
    )
    values[generator.random(values.shape) < missing] = np.nan
    values[3:5, 3:5] = np.nan
    rows, cols = np.mgrid[:ROWS, :COLS].astype(np.int32)
    return PixelTable(
        values=flat(values),
        static=generator.normal(0, 1, (ROWS * COLS, 2)).astype(np.float32),
        targets=flat(shares),
        rows=rows.ravel(),
        cols=cols.ravel(),
        splits=(cols.ravel() // 8).astype(np.uint8),
        times=TIMES,
        bands=NAMES,
        layers=("altitude", "slope"),
        legend=LEGEND,
        grid=GRID,
    )


def flat(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """(rows, cols, ...) as (pixels, ...)."""
    return image.reshape(ROWS * COLS, *image.shape[2:]).astype(np.float32)
