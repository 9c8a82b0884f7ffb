"""The parts of a mosaic: tiles as bytes, made by this process or by the workers of a cluster."""

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

from tesela.core.errors import TeselaError
from tesela.io.cluster import run_tasks
from tesela.io.http import RetryPolicy
from tesela.io.images import NOT_COUNTED
from tesela.io.parts import PartStore
from tesela.io.remote import Rasters
from tesela.sources.areas import Area
from tesela.sources.mosaic.tiles import CompositeOptions, compose_tile
from tesela.sources.periods import Period
from tesela.sources.providers import Catalogue
from tesela.sources.sentinel2.granules import Granule

Observations = tuple[tuple[Granule, ...], ...]


@dataclass(frozen=True)
class Tile:
    """One part: its number and ground."""

    number: int
    window: GeoBox


@dataclass(frozen=True, eq=False)
class TilePlan:
    """What every tile of a mosaic is made of."""

    area: Area
    period: Period
    recipe: CompositeOptions
    observations: Observations

    def make(self, window: GeoBox, rasters: Rasters, pool: Executor) -> NDArray[np.uint8]:
        """Part of a window, see `unpack`; errors as `compose_tile`."""
        inside = self.area.inside(window)
        if not inside.any():
            values = np.zeros((len(self.recipe.bands), *inside.shape), np.uint16)
            return pack(values, np.full(inside.shape, NOT_COUNTED, np.uint8))
        values, count = compose_tile(
            window, self.observations, recipe=self.recipe, period=self.period, rasters=rasters, pool=pool
        )
        values[:, ~inside] = 0
        count[~inside] = NOT_COUNTED
        return pack(values, count)


@dataclass(frozen=True, eq=False)
class _Told:
    """What a worker is told with each tile."""

    run: str
    plan: TilePlan
    output: str
    catalogue: Catalogue
    patience: RetryPolicy
    workers: int


def run_on_cluster(
    address: str,
    plan: TilePlan,
    tiles: Sequence[Tile],
    store: PartStore,
    *,
    catalogue: Catalogue,
    patience: RetryPolicy,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    """
    Make these tiles on the workers of a Dask scheduler; address and errors as `tesela.io.cluster.run_tasks`.

    Each worker process reads from the catalogue's servers on its own, with `workers` threads and the same patience.
    """
    if not tiles:
        return
    told = _Told(uuid.uuid4().hex, plan, str(store.output.resolve()), catalogue, patience, workers)
    run_tasks(address, tiles, partial(_make_tile, told=told), store=store, advance=advance)


_opened: dict[str, Rasters] = {}
"""Of this worker process, by run: files stay open from tile to tile."""
_one_at_a_time = threading.Lock()
"""The budget of memory is that of one tile."""


def _make_tile(tile: Tile, *, told: _Told) -> int | TeselaError:
    """Make one part, on a worker; see `run_tasks`."""
    store = PartStore(told.output)  # not entered: the client holds its lock
    try:
        with _one_at_a_time, ThreadPoolExecutor(told.workers) as pool:
            if not store.has(tile.number):
                store.write(tile.number, told.plan.make(tile.window, _rasters(told), pool))
    except TeselaError as error:
        return type(error)(str(error))
    return tile.number


def _rasters(told: _Told) -> Rasters:
    if told.run not in _opened:
        for old in _opened.values():
            old.close()
        _opened.clear()
        _opened[told.run] = Rasters(told.catalogue.web(told.patience))
    return _opened[told.run]


def pack(values: NDArray[np.uint16], count: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Layers of bytes: the low ones of all bands, the high ones, the counts."""
    low, high = (values & 255).astype(np.uint8), (values >> 8).astype(np.uint8)
    return np.concatenate([low, high, count[np.newaxis]])


def unpack(layers: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Values (bands, rows, cols) and counts (rows, cols) of a part."""
    bands = (len(layers) - 1) // 2
    values = np.empty((bands, *layers.shape[1:]), np.uint16)
    values[:] = layers[bands : 2 * bands]
    values <<= 8
    values |= layers[:bands]
    return values, layers[-1]
