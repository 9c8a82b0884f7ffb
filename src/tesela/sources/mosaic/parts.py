"""The tiles of a mosaic as bytes, made by this process or by the workers of a cluster."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.io.http import RetryPolicy
from tesela.io.images import NOT_COUNTED
from tesela.io.parts import PartStore, run_tasks
from tesela.io.remote import Rasters
from tesela.sources.areas import Area
from tesela.sources.mosaic.compositing import CompositeOptions, compose_tile
from tesela.sources.periods import Period
from tesela.sources.providers import Catalogue
from tesela.sources.sensor import Granule, Sensor

Observations = tuple[tuple[Granule, ...], ...]


@dataclass(frozen=True)
class MosaicTile:
    """One tile: its number and window."""

    number: int
    window: GeoBox


@dataclass(frozen=True, eq=False)
class TilePlan:
    """What every tile of a mosaic needs."""

    sensor: Sensor
    area: Area
    period: Period
    options: CompositeOptions
    observations: Observations

    def make(self, window: GeoBox, rasters: Rasters, pool: Executor) -> NDArray[np.uint8]:
        """Packed values and counts of a window, see `unpack`; errors as `compose_tile`."""
        inside = self.area.inside(window)
        if not inside.any():
            values = np.zeros((len(self.options.bands), *inside.shape), np.uint16)
            return pack(values, np.full(inside.shape, NOT_COUNTED, np.uint8))
        values, count = compose_tile(
            window,
            self.observations,
            sensor=self.sensor,
            options=self.options,
            period=self.period,
            rasters=rasters,
            pool=pool,
        )
        values[:, ~inside] = 0
        count[~inside] = NOT_COUNTED
        return pack(values, count)


@dataclass(frozen=True, eq=False)
class _Task:
    """What a worker gets with each tile."""

    run: str
    plan: TilePlan
    catalogue: Catalogue
    patience: RetryPolicy
    workers: int


def run_on_cluster(
    address: str,
    plan: TilePlan,
    tiles: Sequence[MosaicTile],
    store: PartStore,
    *,
    catalogue: Catalogue,
    patience: RetryPolicy,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    """
    Make tiles on the workers of a Dask scheduler; address and errors as `tesela.io.parts.run_tasks`.

    Each worker process reads from the servers of the catalogue with `workers` threads and the same retries.
    """
    if not tiles:
        return
    task = _Task(uuid.uuid4().hex, plan, catalogue, patience, workers)
    run_tasks(address, tiles, partial(_make_tile, task=task), store=store, advance=advance)


_opened: dict[str, Rasters] = {}
"""By run: a worker process keeps its files open from tile to tile."""
_one_at_a_time = threading.Lock()
"""The memory limit holds for one tile at a time."""


def _make_tile(tile: MosaicTile, store: PartStore, *, task: _Task) -> None:
    """Make one part, on a worker; see `run_tasks`."""
    with _one_at_a_time, ThreadPoolExecutor(task.workers) as pool:
        store.write(tile.number, task.plan.make(tile.window, _rasters(task), pool))


def _rasters(task: _Task) -> Rasters:
    if task.run not in _opened:
        for old in _opened.values():
            old.close()
        _opened.clear()
        _opened[task.run] = Rasters(task.catalogue.web(task.patience))
    return _opened[task.run]


def pack(values: NDArray[np.uint16], count: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack as layers of bytes: the low bytes of all bands, the high bytes, the counts."""
    low, high = (values & 255).astype(np.uint8), (values >> 8).astype(np.uint8)
    return np.concatenate([low, high, count[np.newaxis]])


def unpack(layers: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Values (bands, rows, cols) and counts (rows, cols) of packed layers."""
    bands = (len(layers) - 1) // 2
    values = np.empty((bands, *layers.shape[1:]), np.uint16)
    values[:] = layers[bands : 2 * bands]
    values <<= 8
    values |= layers[:bands]
    return values, layers[-1]
