"""Maps of a region with known changes, for tests of accounts."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.accounting.trajectories import Trajectories
from tesela.core.legend import Legend
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map

LULUCF = open_legend("lulucf")
CORINE = open_legend("corine")
FOREST, CROP, GRASS, WET, TOWN, OTHER = range(1, 7)
YEARS = (2000, 2006, 2012, 2018, 2021, 2024)


def grid(rows: int, cols: int, *, size_m: float = 100.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(size_m, 0, 500_000.0, 0, -size_m, 4_100_000.0), "EPSG:25830")


def write(
    path: Path, values: NDArray[np.uint8], *, size_m: float = 100.0, legend: Legend = LULUCF
) -> ClassMap:
    return write_map(path, values, grid(*values.shape, size_m=size_m), legend=legend)


@dataclass(frozen=True)
class Region:
    """A region of 20 x 20 km, 200 x 200 pixels of 1 ha, with known changes."""

    values: tuple[NDArray[np.uint8], ...]
    changed: dict[tuple[int, int, int], int]
    """Pixels by (interval, before, after)."""

    def write(self, folder: Path) -> list[ClassMap]:
        return [write(folder / f"{y}.tif", v) for y, v in zip(YEARS, self.values, strict=True)]


@cache
def make_region() -> Region:
    """A region with changes in each interval; no pixel changes twice."""
    rng = np.random.default_rng(7)
    blocks = rng.choice(
        [FOREST, CROP, GRASS, WET, TOWN, OTHER], p=[0.4, 0.3, 0.15, 0.05, 0.05, 0.05], size=(10, 10)
    )
    values = [np.kron(blocks, np.ones((20, 20))).astype(np.uint8)]
    moves = [(CROP, TOWN), (CROP, FOREST), (GRASS, FOREST), (FOREST, GRASS), (GRASS, WET)]
    changed: dict[tuple[int, int, int], int] = {}
    fresh = np.ones((200, 200), np.bool_)
    for i in range(len(YEARS) - 1):
        now = values[-1].copy()
        for before, after in moves:
            # some stands of 4 x 5 pixels, never the same pixels twice, so that nothing flips back
            for _ in range(3):
                candidates = np.argwhere(fresh & (now == before))
                row, col = candidates[rng.integers(len(candidates))]
                row, col = row // 20 * 20 + rng.integers(1, 15), col // 20 * 20 + rng.integers(1, 14)
                part = np.s_[row : row + 4, col : col + 5]
                if not (fresh[part].all() and (now[part] == before).all()):
                    continue
                now[part], fresh[part] = after, False
                changed[i, before, after] = changed.get((i, before, after), 0) + 20
        values.append(now)
    return Region(tuple(values), changed)


def trajectories_of(
    *dates: NDArray[np.uint8], years: tuple[int, ...] = (), pixel_ha: float = 1.0
) -> Trajectories:
    """Trajectories of arrays of positions in the legend."""
    paths, counts = np.unique(np.stack([d.ravel() for d in dates], axis=1), axis=0, return_counts=True)
    return Trajectories(LULUCF, years or YEARS[: len(dates)], paths.astype(np.uint8), counts, pixel_ha)
