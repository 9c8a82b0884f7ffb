"""Blocks of a MODIS cube as tasks of Dask workers that share a file system."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.core.errors import TeselaError
from tesela.io.cluster import run_tasks
from tesela.io.manifest import write_whole
from tesela.io.parts import PartStore
from tesela.io.remote import is_remote
from tesela.sources.modis.files import Composite, Place
from tesela.sources.modis.months import Work, make_block


@dataclass(frozen=True)
class Block:
    """One part: its number and cells."""

    number: int
    grid: GeoBox


@dataclass(frozen=True)
class _Told:
    """What a worker is told with each block: little, for the list of files, which may be long, lies in one."""

    work: Work
    composites: str
    output: str


def run_blocks(
    address: str, work: Work, blocks: Sequence[Block], *, store: PartStore, advance: Callable[[int], None]
) -> None:
    """
    Make the parts of these blocks on the workers of a Dask scheduler.

    Each worker process reads the files on its own. Address, errors and what becomes of lost workers: see
    `tesela.io.cluster.run_tasks`.
    """
    if not blocks:
        return
    listed = store.folder.resolve() / "composites.json"
    with write_whole(listed) as part:
        part.write_text(json.dumps([_document(item) for item in work.composites]), encoding="utf-8")
    told = _Told(replace(work, composites=()), str(listed), str(store.output.resolve()))
    run_tasks(address, blocks, partial(_make_block, told=told), store=store, advance=advance)


def _make_block(block: Block, *, told: _Told) -> int | TeselaError:
    """Make one part, on a worker; see `run_tasks`."""
    store = PartStore(told.output)  # not entered: the client holds its lock
    try:
        if not store.has(block.number):
            modified = Path(told.composites).stat().st_mtime_ns
            composites = _listed(told.composites, modified)
            store.write(block.number, make_block(replace(told.work, composites=composites, grid=block.grid)))
    except TeselaError as error:
        return type(error)(str(error))
    return block.number


@lru_cache(maxsize=1)
def _listed(path: str, modified: int) -> tuple[Composite, ...]:
    """Composites of a list, kept by this process until another list comes."""
    del modified
    return tuple(
        Composite(
            item["satellite"],
            datetime.date.fromisoformat(item["start"]),
            item["tile"],
            {name: Place(**place) for name, place in item["layers"].items()},
        )
        for item in json.loads(Path(path).read_text(encoding="utf-8"))
    )


def _document(composite: Composite) -> dict[str, object]:
    """Composite as JSON, with absolute paths: workers run in other folders."""
    layers = {
        name: asdict(replace(place, address=_absolute(place.address)))
        for name, place in composite.layers.items()
    }
    return {
        "satellite": composite.satellite,
        "start": composite.start.isoformat(),
        "tile": composite.tile,
        "layers": layers,
    }


def _absolute(address: str) -> str:
    """Address, or absolute path; names of subdatasets stay as they are."""
    path = Path(address)
    return str(path.resolve()) if not is_remote(address) and path.exists() else address
