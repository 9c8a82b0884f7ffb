"""Sentinel-2 acquisitions and mosaics, small, for several test modules."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.io.http import RetryPolicy
from tesela.simulate.server.catalogue import Acquisition, write_acquisition, write_static_catalogue
from tesela.sources.areas import Area
from tesela.sources.mosaic.job import Mosaic
from tesela.sources.mosaic.mosaic import write_mosaics
from tesela.sources.periods import parse_periods
from tesela.sources.providers import open_catalogue

SIDE = 160


GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 440_000, 0, -10, 4_090_000), "EPSG:32630")


BANDS = ("B04", "B03", "B02")


PATIENCE = RetryPolicy(tries=4, timeout_s=1.5, first_wait_s=0.01)


def seen(
    day: int,
    level: int,
    *,
    clouds: Mapping[tuple[int, int], int] | None = None,
    grid: GeoBox = GRID,
    tile: str = "30SVF",
    baseline: str = "02.07",
    shifted: bool | None = None,
) -> Acquisition:
    """Vegetation of one reflectance in each band; `clouds` gives blocks of 32 px another class."""
    scl = np.full(grid.shape, 4, np.uint8)
    for (row, col), value in (clouds or {}).items():
        scl[32 * row : 32 * row + 32, 32 * col : 32 * col + 32] = value
    values = {band: np.full(grid.shape, level + number, np.uint16) for number, band in enumerate(BANDS)}
    moment = datetime(2018, 4, day, 10, 50, 31, tzinfo=UTC)
    return Acquisition(values, scl, grid, moment, tile=tile, baseline=baseline, pixels_shifted=shifted)


def catalogue_of(folder: Path, acquisitions: Sequence[Acquisition], layout: str = "earth-search") -> Path:
    for one in acquisitions:
        write_acquisition(folder, one, layout=layout)  # type: ignore[arg-type]
    write_static_catalogue(folder)
    return folder


def mosaic(where: str, out: Path, **options: object) -> Mosaic:
    settings: dict[str, object] = {
        "periods": parse_periods("4", 2018),
        "bands": "rgb",
        "buffer": 0,
        "patience": PATIENCE,
        "workers": 3,
    }
    area = options.pop("area", Area(GRID))
    return write_mosaics(open_catalogue(where), area, out, **{**settings, **options})[0]  # type: ignore[arg-type]
