"""Months of one block of a MODIS cube: observations summed by the day they were taken, then averaged."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError
from tesela.core.grid import bounds_in, window_grid
from tesela.io.http import RetryPolicy, Web
from tesela.io.remote import Rasters
from tesela.io.sinusoidal import SINUSOIDAL, modis_tile
from tesela.sources.modis.files import BANDS, DAY, QC, STATE, Composite, LayerAddress
from tesela.sources.modis.quality import BAND_COUNT, QualityRule, usable
from tesela.sources.providers import Catalogue

SCALE = 0.0001
"""Reflectance = number x this."""

Merge = Literal["satellites", "observations"]
"""How Terra and Aqua are merged: mean of the two monthly means, or mean of all observations."""

SATELLITES = ("MOD", "MYD")
_COARSER = 1.5
"""Cells larger than this many MODIS pixels average several; others take the nearest."""


@dataclass(frozen=True)
class Work:
    """All inputs of a block of a cube."""

    composites: tuple[Composite, ...]
    grid: GeoBox
    months: tuple[str, ...]
    """Every month in order, "2013-01"."""
    steps: int
    """Samples along the side of a cell, see `steps_for`."""
    climatology: bool
    rule: QualityRule
    merge: Merge
    catalogue: Catalogue | None = None
    """Catalogue whose addresses need a signature."""
    patience: RetryPolicy | None = None

    @property
    def times(self) -> tuple[str, ...]:
        """Times of the cube."""
        return tuple(f"{month:02d}" for month in range(1, 13)) if self.climatology else self.months


def open_rasters(catalogue: Catalogue | None, patience: RetryPolicy | None) -> Rasters:
    """Rasters of a catalogue, or of files and addresses that need no signature."""
    return Rasters(_web(catalogue, patience))


@lru_cache(maxsize=1)
def _web(catalogue: Catalogue | None, patience: RetryPolicy | None) -> Web:
    """One client for all blocks of a process: it keeps connections and signatures."""
    return Web(patience=patience) if catalogue is None else catalogue.web(patience)


def make_block(work: Work) -> NDArray[np.uint8]:
    """Values and counts of a block, packed: (times x bands, rows, 5 x cols) uint8."""
    sums, counts = _add_up(work)
    number = np.array([int(month[5:]) for month in work.months])
    rows, cols = work.grid.shape
    packed = np.empty((len(work.times), BAND_COUNT, rows, 5 * cols), np.uint8)
    for time in range(len(work.times)):  # one at a time: the means of all months are larger than their sums
        taken = np.flatnonzero(number == time + 1) if work.climatology else np.array([time], np.intp)
        means = [_means(sums[:, [month]], counts[:, [month]], merge=work.merge) for month in taken]
        value = (
            _nanmean(np.concatenate([values for values, _ in means]))
            if means
            else np.full((BAND_COUNT, rows, cols), np.nan)
        )
        seen = sum((part[0] for _, part in means), np.zeros((BAND_COUNT, rows, cols), np.int64))
        packed[time, ..., : 4 * cols] = np.ascontiguousarray(value.astype("<f4")).view(np.uint8)
        packed[time, ..., 4 * cols :] = np.minimum(seen, 255)
    return packed.reshape(-1, rows, 5 * cols)


def unpack(part: NDArray[np.uint8], times: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Values and counts of a packed block, (times, bands, rows, cols)."""
    whole = part.reshape(times, BAND_COUNT, *part.shape[1:])
    cols = whole.shape[-1] // 5
    values = np.ascontiguousarray(whole[..., : 4 * cols]).view("<f4")
    return values.astype(np.float32, copy=False), whole[..., 4 * cols :]


def bytes_per_cell(work: Work) -> int:
    """Bytes that a cell of a block takes at the peak: sums and counts, the composite being read, and the result."""
    sums = len(SATELLITES) * len(work.months) * BAND_COUNT * 6
    reading = 330 * work.steps**2 + len(SATELLITES) * BAND_COUNT * 6
    result = len(work.times) * BAND_COUNT * (4 + 1) * 3 + BAND_COUNT * 80
    return sums + reading + result


def _add_up(work: Work) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Sums and counts of the usable numbers, (satellites, months, bands, rows, cols)."""
    rows, cols = work.grid.shape
    shape = (len(SATELLITES), len(work.months), BAND_COUNT, rows, cols)
    sums, counts = np.zeros(shape, np.int32), np.zeros(shape, np.uint16)
    with open_rasters(work.catalogue, work.patience) as rasters:
        for composite in work.composites:
            if not _meets(composite, work.grid):
                continue
            satellite = SATELLITES.index(composite.satellite)
            raw, good, month = _observe(composite, rasters, work)
            for number in np.unique(month[month >= 0]):
                here = good & (month == number)
                sums[satellite, number] += _pool(np.where(here, raw, 0), work.steps, np.int32)
                counts[satellite, number] += _pool(here, work.steps, np.uint16)
    return sums, counts


def _observe(
    composite: Composite, rasters: Rasters, work: Work
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int16]]:
    """Numbers, usability and month of each pixel; the month is a position in the months of the work, or -1."""
    grid = _finer(work.grid, work.steps)
    layers = {}
    inside = np.ones(tuple(grid.shape), np.bool_)
    for name in (*BANDS, QC, STATE, DAY):
        layer = composite.layers[name]
        values, valid = rasters.read(layer.address, grid, band=layer.band, nodata=None, continuous=False)
        layers[name] = _whole_numbers(values, layer)
        inside &= valid
    raw = np.stack([layers[name] for name in BANDS])
    qc, state = layers[QC] & 0xFFFFFFFF, layers[STATE] & 0xFFFF
    good = usable(raw, qc.astype(np.uint32), state.astype(np.uint16), work.rule) & inside
    return raw.astype(np.int32), good, _month_numbers(layers[DAY], composite.start, work.months)


def _whole_numbers(values: NDArray[np.generic], layer: LayerAddress) -> NDArray[np.int64]:
    if values.dtype.kind == "f":
        known = values[np.isfinite(values)]
        if known.size and np.abs(known).max() <= 2 and (known != np.rint(known)).any():
            raise InputError(
                f"{layer.address}: holds reflectances of 0 to 1; the numbers of the product are needed, reflectance x "
                f"10000. Export them without scaling, or make a cube of them with tesela mosaic stack."
            )
    if values.dtype == np.float32:
        raise InputError(
            f"{layer.address}: holds float32, which cannot hold the quality bits. Export it as integers or float64."
        )
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float64), nan=-28_672, posinf=-28_672, neginf=-28_672)
    return values.astype(np.int64)


def _month_numbers(day: NDArray[np.int64], start: datetime.date, months: Sequence[str]) -> NDArray[np.int16]:
    """Position of the month of each pixel's day of year; a day before the composite's first is next year's."""
    table = np.full(367, -1, np.int16)
    first = start.timetuple().tm_yday
    for number in range(1, 367):
        year = start.year + (number < first)
        date = datetime.date(year, 1, 1) + datetime.timedelta(days=number - 1)
        name = f"{date:%Y-%m}"
        if name in months:
            table[number] = months.index(name)
    return table[np.where((day >= 1) & (day <= 366), day, 0)]


def _means(
    sums: NDArray[np.int32], counts: NDArray[np.uint16], *, merge: Merge
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Reflectance and observations by month and band; NaN where there are none."""
    if merge == "observations":
        sums, counts = sums.sum(axis=0, keepdims=True), counts.sum(axis=0, keepdims=True)
    means = np.full(sums.shape, np.nan)
    np.divide(sums * SCALE, counts, out=means, where=counts > 0)
    return _nanmean(means), counts.sum(axis=0, dtype=np.int64)


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the finite values over the first axis; NaN where there are none."""
    there = np.isfinite(values).sum(axis=0)
    out = np.full(values.shape[1:], np.nan)
    np.divide(np.nansum(values, axis=0), there, out=out, where=there > 0)
    return out


def _pool(values: NDArray[np.generic], steps: int, dtype: type[np.integer]) -> NDArray[Any]:
    """Sum over squares of `steps` x `steps` samples."""
    if steps == 1:
        return values.astype(dtype)
    bands, rows, cols = values.shape
    squares = values.reshape(bands, rows // steps, steps, cols // steps, steps)
    return np.asarray(squares.sum(axis=(2, 4), dtype=dtype))


def steps_for(own: GeoBox, grid: GeoBox) -> int:
    """Samples along the side of a cell: 1, or two per MODIS pixel where cells are larger."""
    middle = window_grid(grid, int(grid.shape[0]) // 2, int(grid.shape[1]) // 2, 1, 1)
    assert own.crs is not None
    left, bottom, right, top = bounds_in(middle, own.crs.to_wkt())
    ratio = math.sqrt(abs((right - left) * (top - bottom) / (own.resolution.x * own.resolution.y)))
    return math.ceil(2 * ratio) if ratio > _COARSER else 1


def _finer(grid: GeoBox, steps: int) -> GeoBox:
    rows, cols = grid.shape
    return GeoBox((rows * steps, cols * steps), grid.affine * Affine.scale(1 / steps), grid.crs)


def _meets(composite: Composite, grid: GeoBox) -> bool:
    """Whether a tile touches a grid; True for composites without a tile in the name."""
    if not composite.tile:
        return True
    tile = modis_tile(int(composite.tile[1:3]), int(composite.tile[4:6])).boundingbox
    left, bottom, right, top = bounds_in(grid, SINUSOIDAL)
    return bool(left < tile.right and right > tile.left and bottom < tile.top and top > tile.bottom)
