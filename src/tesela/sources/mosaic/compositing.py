"""Compositing one tile of a mosaic: its observations are read, clouds masked, and one value composed for each pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import bounds_in, window_grid
from tesela.io.remote import Rasters
from tesela.sources.periods import Period
from tesela.sources.sensor import Granule, Sensor

Stack = NDArray[np.uint16]
"""(observations, bands, rows, cols) reflectance x 10000; 0 in all bands where an observation has no clear view."""

Rule = Callable[[Stack, NDArray[np.float32]], NDArray[np.uint16]]
"""From a stack and the (observations, rows, cols) scores of its pixels to (bands, rows, cols)."""

FAR_M = 1000.0
"""Longest cloud distance that the rule `best` distinguishes; each tile is read with this margin."""


@dataclass(frozen=True)
class CompositeOptions:
    """How observations become a mosaic."""

    bands: tuple[str, ...]
    rule: str
    masked: tuple[int, ...]
    """Classes of the mask that are left out."""
    buffer_m: float = 60.0

    @property
    def reach_m(self) -> float:
        """Distance within which a cloud can change the value of a pixel."""
        return max(self.buffer_m, FAR_M) if self.rule == "best" else self.buffer_m


@numba.njit(cache=True, nogil=True)
def median(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Median of each band; for an even number the mean of the two middle ones, rounded half up."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    held = np.empty(count, np.uint16)
    for row in range(rows):
        for col in range(cols):
            for band in range(bands):
                n = 0
                for k in range(count):
                    value = stack[k, band, row, col]
                    if value == 0:
                        continue
                    slot = n
                    while slot > 0 and held[slot - 1] > value:
                        held[slot] = held[slot - 1]
                        slot -= 1
                    held[slot] = value
                    n += 1
                if n:
                    out[band, row, col] = (int(held[(n - 1) // 2]) + int(held[n // 2]) + 1) // 2
    return out


@numba.njit(cache=True, nogil=True)
def best(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """All bands of the observation with the highest score; the first of equal ones."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    for row in range(rows):
        for col in range(cols):
            chosen = -1
            for k in range(count):
                if stack[k, 0, row, col] and (chosen < 0 or score[k, row, col] > score[chosen, row, col]):
                    chosen = k
            if chosen >= 0:
                for band in range(bands):
                    out[band, row, col] = stack[chosen, band, row, col]
    return out


@numba.njit(cache=True, nogil=True)
def medoid(stack: Stack, score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """All bands of the observation with the smallest sum of Euclidean distances to the others [Flood2013]_."""
    count, bands, rows, cols = stack.shape
    out = np.zeros((bands, rows, cols), np.uint16)
    total = np.empty(count, np.float64)
    for row in range(rows):
        for col in range(cols):
            total[:] = 0.0
            for k in range(count):
                if stack[k, 0, row, col] == 0:
                    continue
                for other in range(k):
                    if stack[other, 0, row, col] == 0:
                        continue
                    square = 0.0
                    for band in range(bands):
                        step = float(stack[k, band, row, col]) - float(stack[other, band, row, col])
                        square += step * step
                    total[k] += np.sqrt(square)
                    total[other] += np.sqrt(square)
            chosen = -1
            for k in range(count):
                if stack[k, 0, row, col] and (chosen < 0 or total[k] < total[chosen]):
                    chosen = k
            if chosen >= 0:
                for band in range(bands):
                    out[band, row, col] = stack[chosen, band, row, col]
    return out


RULES: Mapping[str, Rule] = {"median": median, "best": best, "medoid": medoid}
"""By name."""


def scores(
    distance_m: NDArray[np.float32], days: NDArray[np.float32], *, half_days: float, most_m: float
) -> NDArray[np.float32]:
    r"""
    Score each pixel after [Griffiths2013]_: far from clouds and near the middle of the period is better.

    .. math:: s = d / d_\max + \exp(-t^2 / 2 \sigma^2)

    Parameters
    ----------
    distance_m : (observations, rows, cols) array of float32
        To the nearest cloud or shadow, at most `most_m`.
    days : (observations,) array of float32
        From the middle of the period.
    half_days : float
        Half the length of the period, :math:`\sigma`.
    """
    near = np.exp(-0.5 * (days / np.float32(half_days)) ** 2)
    return np.asarray(distance_m / np.float32(most_m) + near[:, np.newaxis, np.newaxis], np.float32)


@dataclass(frozen=True, eq=False)
class _View:
    """The part of one observation that covers a tile."""

    granules: tuple[Granule, ...]
    source: NDArray[np.int16]
    """(rows, cols): number of the granule that gives the pixel; -1 where none has a clear view."""
    distance_m: NDArray[np.float32]


def compose_tile(
    window: GeoBox,
    observations: Sequence[Sequence[Granule]],
    *,
    sensor: Sensor,
    options: CompositeOptions,
    period: Period,
    rasters: Rasters,
    pool: Executor,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """
    Mosaic of a window.

    Returns
    -------
    (bands, rows, cols) array of uint16, (rows, cols) array of uint8
        Reflectance x 10000, 0 where there is no clear view; and the count of valid observations, at most 254.

    Raises
    ------
    InputError, NetworkError
        If any scene cannot be read: no tile is composed of fewer scenes than the mosaic lists.
    """
    pixel_m = _pixel_m(window)
    margin = math.ceil(options.reach_m / pixel_m) + 1
    rows, cols = (int(side) for side in window.shape)
    wide = window_grid(window, -margin, -margin, rows + 2 * margin, cols + 2 * margin)
    bounds = bounds_in(wide, "EPSG:4326")
    near = [tuple(one for one in group if _meets(one.bbox, bounds)) for group in observations]
    views = pool.map(
        lambda group: _view(
            group, wide, margin, sensor=sensor, options=options, pixel_m=pixel_m, rasters=rasters
        ),
        [group for group in near if group],
    )
    useful = [view for view in views if (view.source >= 0).any()]
    if not useful:
        return np.zeros((len(options.bands), rows, cols), np.uint16), np.zeros((rows, cols), np.uint8)
    stack = np.zeros((len(useful), len(options.bands), rows, cols), np.uint16)
    jobs = [
        (number, member, band)
        for number, view in enumerate(useful)
        for member in np.unique(view.source[view.source >= 0])
        for band in range(len(options.bands))
    ]

    def fill(job: tuple[int, int, int]) -> None:
        number, member, band = job
        granule = useful[number].granules[member]
        address = granule.bands[options.bands[band]]
        raw, valid = rasters.read(address, window, nodata=0, continuous=True)
        here = useful[number].source == member
        reflectance = harmonise(raw, valid, scale=sensor.spec.scale, offset=granule.offset)
        stack[number, band][here] = reflectance[here]

    for _ in pool.map(fill, jobs):
        pass
    lacking = (stack == 0).any(axis=1)
    stack.transpose(1, 0, 2, 3)[:, lacking] = 0
    days = np.array([period.days_from_middle(view.granules[0].moment) for view in useful], np.float32)
    distance = np.stack([view.distance_m for view in useful])
    score = scores(distance, days, half_days=period.half_days, most_m=options.reach_m or 1.0)
    count = np.minimum((~lacking).sum(axis=0), 254).astype(np.uint8)
    return RULES[options.rule](stack, score), count


def tile_side(memory_bytes: int, *, observations: int, bands: int) -> int:
    """
    Side of tiles whose stack fits the memory: a multiple of 128, at most 1024 pixels.

    Examples
    --------
    >>> tile_side(512 << 20, observations=12, bands=10)
    768
    """
    per_pixel = observations * (4 * bands + 16) + 8 * bands + 64
    side = math.isqrt(max(1, memory_bytes // per_pixel))
    return int(np.clip(side // 128 * 128, 128, 1024))


def harmonise(
    numbers: NDArray[np.generic], valid: NDArray[np.bool_], *, scale: float, offset: float
) -> NDArray[np.uint16]:
    """
    Reflectance x 10000 as uint16, at least 1; 0 where there is no data.

    Examples
    --------
    >>> harmonise(np.array([1500, 900, 0]), np.array([True, True, False]), scale=1e-4, offset=-0.1)
    array([500,   1,   0], dtype=uint16)
    """
    raw = numbers.astype(np.float64)
    values = np.rint(raw * (scale * 10_000) + offset * 10_000)
    return np.where(valid & (raw > 0), np.clip(values, 1, 65_535), 0).astype(np.uint16)


def cloud_distance(
    classes: NDArray[np.generic], *, cloudy: Collection[int], pixel_m: float, most_m: float
) -> NDArray[np.float32]:
    """
    Distance of each pixel to the nearest pixel of a cloudy class in metres, at most `most_m`, (rows, cols).

    Examples
    --------
    >>> cloud_distance(np.array([[4, 4, 9]]), cloudy=(3, 8, 9), pixel_m=10, most_m=1000)
    array([[20., 10.,  0.]], dtype=float32)
    """
    from scipy.ndimage import distance_transform_edt  # here: the extra `imagery`

    clouds = np.isin(classes, list(cloudy))
    if not clouds.any():
        return np.full(classes.shape, most_m, np.float32)
    distance = distance_transform_edt(~clouds) * pixel_m
    return np.asarray(np.minimum(distance, most_m), np.float32)


def is_clear(
    classes: NDArray[np.generic],
    distance_m: NDArray[np.float32],
    *,
    masked: Collection[int],
    buffer_m: float,
) -> NDArray[np.bool_]:
    """Pixels that are in no masked class and farther than the buffer from clouds and shadows."""
    return np.asarray(~np.isin(classes, list(masked)) & (distance_m > buffer_m), np.bool_)


def _view(
    group: tuple[Granule, ...],
    wide: GeoBox,
    margin: int,
    *,
    sensor: Sensor,
    options: CompositeOptions,
    pixel_m: float,
    rasters: Rasters,
) -> _View:
    """Join the masks of one pass: where two granules overlap, the first gives the pixel."""
    shape = (int(wide.shape[0]), int(wide.shape[1]))
    classes = np.zeros(shape, np.uint8)
    source = np.full(shape, -1, np.int16)
    for member, granule in enumerate(group):
        numbers, valid = rasters.read(granule.bands[sensor.spec.mask_band], wide, nodata=0, continuous=False)
        new = valid & (source < 0)
        classes[new] = sensor.classify(numbers)[new]
        source[new] = member
    most_m = options.reach_m or 1.0
    cloudy = [value for value in sensor.spec.cloudy if value in options.masked]
    distance = cloud_distance(classes, cloudy=cloudy, pixel_m=pixel_m, most_m=most_m + pixel_m)
    clear = is_clear(classes, distance, masked=options.masked, buffer_m=options.buffer_m)
    source[~clear] = -1
    inner = (slice(margin, shape[0] - margin), slice(margin, shape[1] - margin))
    return _View(group, source[inner], np.minimum(distance[inner], np.float32(most_m)))


def _pixel_m(grid: GeoBox) -> float:
    side = abs(float(grid.resolution.x))
    return side if grid.crs is None or grid.crs.projected else side * 111_320


def _meets(box: Sequence[float], bounds: Sequence[float]) -> bool:
    west, south, east, north = box
    across = (
        west <= bounds[2] or east >= bounds[0] if west > east else west <= bounds[2] and east >= bounds[0]
    )
    return bool(across and south <= bounds[3] and north >= bounds[1])
