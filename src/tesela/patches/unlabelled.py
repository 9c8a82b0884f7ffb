"""Windows of scenes without labels, read into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.features import rasterize

from tesela.core.errors import InputError, join_words
from tesela.core.grid import window_grid
from tesela.core.machine import memory_bytes
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.scenes import SceneReader

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

MOST_WINDOWS = 4096
"""Windows that are read; more scenes give them from more places."""

LEAST_DATA = 0.5
"""Least share of a window's pixels with data."""

_MEMORY_SHARE = 1 / 6


@dataclass(frozen=True, eq=False)
class UnlabelledWindows:
    """Square windows of scenes."""

    images: NDArray[np.float32]
    """(windows, bands, size, size): standardised, 0 without data."""
    valid: NDArray[np.bool_]
    """(windows, size, size): pixels with data in all bands."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, bands, size, size) float32 and valid pixels (n, size, size) int64 of some windows."""
        return torch.from_numpy(self.images[numbers]), torch.from_numpy(self.valid[numbers].astype(np.int64))


def read_windows(
    scenes: Sequence[Scene],
    standardisation: Standardisation,
    *,
    size_px: int,
    seed: int,
    left_out: gpd.GeoDataFrame | None = None,
) -> UnlabelledWindows:
    """
    Read windows that overlap by half, in random order, at most 4096 and a sixth of the memory.

    Windows with less than half of their pixels are not used.

    Parameters
    ----------
    scenes : sequence of Scene
    standardisation : Standardisation
        Names the bands, and brings them to the input of a network.
    size_px : int
    seed : int
        Draws the windows where there are more than are read.
    left_out : GeoDataFrame, optional
        Areas in any CRS whose pixels count as pixels without data.

    Raises
    ------
    InputError
        If a scene lacks a band, or no window is left.
    """
    chosen = [scene.select(standardisation.bands) for scene in scenes]
    areas = [None if left_out is None else left_out.to_crs(str(scene.grid.crs)).geometry for scene in chosen]
    places = [
        (number, row, col)
        for number, scene in enumerate(chosen)
        for row in _starts(scene.grid.shape[0], size_px)
        for col in _starts(scene.grid.shape[1], size_px)
    ]
    window_bytes = 4 * len(standardisation.bands) * size_px**2
    most = max(1, min(MOST_WINDOWS, int(memory_bytes() * _MEMORY_SHARE / window_bytes)))
    drawn = np.random.default_rng(seed).permutation(len(places))
    images: list[NDArray[np.float32]] = []
    valid: list[NDArray[np.bool_]] = []
    readers = [SceneReader(scene) for scene in chosen]
    try:
        for place in drawn.tolist():
            number, row, col = places[place]
            grid = window_grid(chosen[number].grid, row, col, size_px, size_px)
            image = readers[number].read(grid)
            image[:, _inside(areas[number], grid)] = np.nan
            there = np.isfinite(image).all(axis=0)
            if there.mean() < LEAST_DATA:
                continue
            images.append(standardisation.apply(image))
            valid.append(there)
            if len(images) == most:
                break
    finally:
        for reader in readers:
            reader.close()
    if not images:
        raise InputError(
            f"No window of {size_px} px of {join_words([scene.name for scene in scenes], most=3)} has data in half of "
            f"its pixels outside the test area. Take smaller patches or further scenes."
        )
    return UnlabelledWindows(np.stack(images), np.stack(valid))


def _starts(length: int, size_px: int) -> list[int]:
    """First rows (or columns) of windows that overlap by half and cover a scene; the last one ends with it."""
    last = max(length - size_px, 0)
    return sorted({*range(0, last + 1, max(1, size_px // 2)), last})


def _inside(areas: gpd.GeoSeries | None, grid: GeoBox) -> NDArray[np.bool_]:
    """(rows, cols): pixels whose centre lies in an area, or that an area touches."""
    if areas is None or areas.empty:
        return np.zeros(grid.shape, bool)
    near = areas.iloc[areas.sindex.query(grid.extent.geom)]
    if near.empty:
        return np.zeros(grid.shape, bool)
    drawn = rasterize(near, grid.shape, transform=grid.affine, default_value=1, fill=0, dtype="uint8")
    return np.asarray(drawn == 1)
