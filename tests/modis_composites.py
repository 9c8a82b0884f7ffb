"""MODIS composites, small, for several test modules."""

from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from tesela.core.grid import window_grid
from tesela.io.images import write_bands
from tesela.io.sinusoidal import modis_tile
from tesela.sources.modis.files import BANDS

GRID = window_grid(modis_tile(17, 5), 1200, 2000, 6, 5)


CLEAR = {"qc": 0, "state": 0b01_001_000}  # land, low aerosol


def write_composite(
    folder: Path,
    satellite: str = "MOD",
    day: str = "2013001",
    *,
    value: float | np.ndarray = 1000,
    qc: int | np.ndarray = CLEAR["qc"],
    state: int | np.ndarray = CLEAR["state"],
    seen: int | np.ndarray | None = None,
    grid: GeoBox = GRID,
) -> None:
    """One GeoTIFF per layer, named as Planetary Computer does."""

    def save(layer: str, content: float | np.ndarray, dtype: str) -> None:
        name = f"{satellite}09A1.A{day}.h17v05.061.2021220000000_{layer}.tif"
        values = np.broadcast_to(np.asarray(content), (1, *grid.shape)).astype(dtype)
        write_bands(folder / name, values, grid, names=(layer,))

    for number, band in enumerate(BANDS):
        save(band, np.asarray(value) + 10 * number if np.isscalar(value) else value, "int16")
    save("sur_refl_qc_500m", qc, "uint32")
    save("sur_refl_state_500m", state, "uint16")
    save("sur_refl_day_of_year", int(day[4:]) if seen is None else seen, "uint16")


def write_varied(folder: Path) -> None:
    """Two composites of 40 x 50 pixels: twelve blocks of the least memory."""
    rng = np.random.default_rng(0)
    grid = window_grid(modis_tile(17, 5), 1200, 2000, 40, 50)
    for day in ("2013001", "2013033"):
        state = np.where(rng.random(grid.shape) < 0.3, 1, CLEAR["state"])
        write_composite(
            folder, day=day, value=rng.integers(0, 9000, (1, *grid.shape)), state=state, grid=grid
        )


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Content of all files of a folder, by name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
