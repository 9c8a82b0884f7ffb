"""One tile of a mosaic: read what was seen of it, mask it, make one pixel of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import bounds_in, window_grid
from tesela.io.remote import Rasters
from tesela.sources.masking import MASKED, cloud_distance, is_clear
from tesela.sources.mosaic.compositing import RULES, scores
from tesela.sources.periods import Period
from tesela.sources.sentinel2.granules import Granule, harmonise

FAR_M = 1000.0
"""Pixels further than this from clouds are all equally far; read around each tile for the rule `best`."""


@dataclass(frozen=True)
class CompositeOptions:
    """How observations become a mosaic."""

    bands: tuple[str, ...]
    rule: str = "median"
    masked: tuple[int, ...] = MASKED
    buffer_m: float = 60.0

    @property
    def reach_m(self) -> float:
        """How far beyond a pixel its value may depend on clouds."""
        return max(self.buffer_m, FAR_M) if self.rule == "best" else self.buffer_m


@dataclass(frozen=True, eq=False)
class _Look:
    """What one observation shows of a tile."""

    granules: tuple[Granule, ...]
    source: NDArray[np.int16]
    """(rows, cols): which granule a pixel is taken from; -1 where none shows it clear."""
    distance_m: NDArray[np.float32]


def compose_tile(
    window: GeoBox,
    observations: Sequence[Sequence[Granule]],
    *,
    recipe: CompositeOptions,
    period: Period,
    rasters: Rasters,
    pool: Executor,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """
    Mosaic of a window.

    Returns
    -------
    (bands, rows, cols) array of uint16, (rows, cols) array of uint8
        Reflectance x 10000, 0 where nothing clear was seen; and the count of valid observations, at most 254.

    Raises
    ------
    InputError, NetworkError
        If any scene cannot be read: no part of a mosaic is made of fewer scenes than it says.
    """
    pixel_m = _pixel_m(window)
    margin = math.ceil(recipe.reach_m / pixel_m) + 1
    rows, cols = (int(side) for side in window.shape)
    wide = window_grid(window, -margin, -margin, rows + 2 * margin, cols + 2 * margin)
    bounds = bounds_in(wide, "EPSG:4326")
    near = [tuple(one for one in group if _meets(one.bbox, bounds)) for group in observations]
    looks = pool.map(
        lambda group: _look(group, wide, margin, recipe=recipe, pixel_m=pixel_m, rasters=rasters),
        [group for group in near if group],
    )
    useful = [look for look in looks if (look.source >= 0).any()]
    if not useful:
        return np.zeros((len(recipe.bands), rows, cols), np.uint16), np.zeros((rows, cols), np.uint8)
    stack = np.zeros((len(useful), len(recipe.bands), rows, cols), np.uint16)
    wanted = [
        (number, place, band)
        for number, look in enumerate(useful)
        for place in np.unique(look.source[look.source >= 0])
        for band in range(len(recipe.bands))
    ]

    def fill(job: tuple[int, int, int]) -> None:
        number, place, band = job
        granule = useful[number].granules[place]
        address = granule.bands[recipe.bands[band]]
        raw, valid = rasters.read(address, window, nodata=0, continuous=True)
        here = useful[number].source == place
        stack[number, band][here] = harmonise(raw, valid, granule.offset)[here]

    for _ in pool.map(fill, wanted):
        pass
    lacking = (stack == 0).any(axis=1)
    stack.transpose(1, 0, 2, 3)[:, lacking] = 0
    days = np.array([period.days_from_middle(look.granules[0].moment) for look in useful], np.float32)
    distance = np.stack([look.distance_m for look in useful])
    score = scores(distance, days, half_days=period.half_days, most_m=recipe.reach_m or 1.0)
    count = np.minimum((~lacking).sum(axis=0), 254).astype(np.uint8)
    return RULES[recipe.rule](stack, score), count


def tile_side(memory_bytes: int, *, observations: int, bands: int) -> int:
    """
    Side of the tiles whose stack stays within a budget: a multiple of 128, at most 1024 pixels.

    Examples
    --------
    >>> tile_side(512 << 20, observations=12, bands=10)
    768
    """
    per_pixel = observations * (4 * bands + 16) + 8 * bands + 64
    side = math.isqrt(max(1, memory_bytes // per_pixel))
    return int(np.clip(side // 128 * 128, 128, 1024))


def _look(
    group: tuple[Granule, ...],
    wide: GeoBox,
    margin: int,
    *,
    recipe: CompositeOptions,
    pixel_m: float,
    rasters: Rasters,
) -> _Look:
    """Lay the scene classifications of one pass over each other: of two granules the first shows a pixel."""
    shape = (int(wide.shape[0]), int(wide.shape[1]))
    scl = np.zeros(shape, np.uint8)
    source = np.full(shape, -1, np.int16)
    for place, granule in enumerate(group):
        classes, valid = rasters.read(granule.bands["SCL"], wide, nodata=0, continuous=False)
        new = valid & (source < 0)
        scl[new] = classes[new]
        source[new] = place
    most_m = recipe.reach_m or 1.0
    distance = cloud_distance(scl, masked=recipe.masked, pixel_m=pixel_m, most_m=most_m + pixel_m)
    clear = is_clear(scl, distance, masked=recipe.masked, buffer_m=recipe.buffer_m)
    source[~clear] = -1
    inner = (slice(margin, shape[0] - margin), slice(margin, shape[1] - margin))
    return _Look(group, source[inner], np.minimum(distance[inner], np.float32(most_m)))


def _pixel_m(grid: GeoBox) -> float:
    side = abs(float(grid.resolution.x))
    return side if grid.crs is None or grid.crs.projected else side * 111_320


def _meets(box: Sequence[float], bounds: Sequence[float]) -> bool:
    west, south, east, north = box
    across = (
        west <= bounds[2] or east >= bounds[0] if west > east else west <= bounds[2] and east >= bounds[0]
    )
    return bool(across and south <= bounds[3] and north >= bounds[1])
