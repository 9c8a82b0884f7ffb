"""Monthly cubes from MOD09A1 and MYD09A1: Terra and Aqua merged, block by block, also on a Dask cluster."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import window_grid
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter, check_target, stored_sides
from tesela.io.http import RetryPolicy
from tesela.io.manifest import write_text
from tesela.io.parts import PartStore, run_tasks
from tesela.io.remote import is_remote
from tesela.io.sinusoidal import SINUSOIDAL, TILE_PX, modis_tile
from tesela.sources.ancillary import Ancillary
from tesela.sources.modis.files import BANDS, Composite, LayerAddress, find_composites
from tesela.sources.modis.months import (
    Merge,
    Work,
    bytes_per_cell,
    make_block,
    open_rasters,
    steps_for,
    unpack,
)
from tesela.sources.modis.quality import QualityRule
from tesela.sources.providers import Catalogue


def write_modis_cube(
    sources: Iterable[str | Path | Composite],
    out: str | Path,
    *,
    grid: GeoBox | None = None,
    months: tuple[str, str] | None = None,
    climatology: bool = False,
    rule: QualityRule | None = None,
    merge: Merge = "satellites",
    ancillary: Ancillary | None = None,
    memory_bytes: int = 256 << 20,
    catalogue: Catalogue | None = None,
    patience: RetryPolicy | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Cube:
    r"""
    Make a cube of monthly reflectances from 8-day composites of Terra and Aqua.

    An observation counts in the month of its own day of year, not in that of its composite. For month *m*
    and band *b*, with :math:`V_s` the usable observations of satellite *s*,

    .. math:: \bar x_s = \frac{1}{|V_s|} \sum_{i \in V_s} x_i, \qquad x = \frac{1}{|S|} \sum_{s \in S} \bar x_s,

    where *S* are the satellites with at least one. Without any observation the value is a gap.

    Parameters
    ----------
    sources : paths, addresses or composites
        As in `find_composites`.
    out : path
        Folder of the cube. A run that was killed continues from its last block.
    grid : GeoBox, optional
        Cells of the cube; default: the MODIS pixels of all tiles. On another grid a cell takes the nearest pixel, or,
        if it is more than 1.5 times larger, the mean of its pixels: quality bits cannot be interpolated.
    months : (str, str), optional
        First and last, "2012-01" and "2013-12"; default: those of the composites.
    climatology : bool
        Average equal months of all years into twelve, as Rodriguez-Ortega et al. did with 2012 and 2013.
    rule : QualityRule, optional
        Which observations are usable.
    merge : {"satellites", "observations"}
        Mean of the means of both satellites, or mean of all observations.
    ancillary : Ancillary, optional
        Additional layers; default: longitude and latitude.
    memory_bytes : int
        Memory for the sums and counts of each block.
    catalogue, patience : optional
        Catalogue of the sources, if their addresses need a signature, and the retries for its servers.
    cluster : str, optional
        Make the blocks on the workers of a Dask scheduler: "local" or its address. All workers need the files and
        the output under the same paths. The cube is the same.
    progress : callable of (int, int)
        Number of blocks done, and of all.

    Raises
    ------
    InputError
        If a name cannot be read, a layer is missing or broken, or a month has no composite.
    """
    check_target(Path(out))
    if merge not in ("satellites", "observations"):
        raise InputError(unknown_name("merge", merge, ("satellites", "observations")))
    given = list(sources)
    composites = [item for item in given if isinstance(item, Composite)]
    others = [item for item in given if not isinstance(item, Composite)]
    composites += find_composites(others) if others else []
    chosen = _months(composites, months)
    spans = {month for item in composites for month in _months_of(item)}
    own, whole = _own_grids(composites, catalogue, patience)
    cells = grid or whole
    work = Work(
        composites=tuple(item for item in composites if set(_months_of(item)) & set(chosen)),
        grid=cells,
        months=tuple(chosen),
        steps=steps_for(own, cells),
        climatology=climatology,
        rule=rule or QualityRule(),
        merge=merge,
        catalogue=catalogue,
        patience=patience,
    )
    if not work.composites:
        raise InputError(
            f"There is no composite in {chosen[0]} to {chosen[-1]}; those given are of {join_words(sorted(spans))}."
        )
    _check_months(spans, chosen, climatology=climatology)
    layers = Ancillary() if ancillary is None else ancillary
    layers.check(cells)
    with PartStore(out) as store:
        blocks = list(_blocks(work, memory_bytes))
        store.start(_plan(work, blocks, layers))
        _make(work, blocks, store, cluster=cluster, progress=progress)
        writer = CubeWriter(
            out,
            work.grid,
            times=work.times,
            bands=BANDS,
            layers=layers.names,
            units="reflectance",
            notes=_notes(work),
        )
        with writer:
            for number, (row, col, rows, cols) in enumerate(blocks):
                writer.write(row, col, *unpack(store.read(number), len(work.times)))
                writer.write_layers(row, col, layers.read(window_grid(work.grid, row, col, rows, cols)))
        store.remove()
    return open_cube(out)


def _check_months(spans: set[str], chosen: Sequence[str], *, climatology: bool) -> None:
    """Refuse months without a composite between more that have one; of a climatology those without one in any year."""
    there = [number for number, month in enumerate(chosen) if month in spans]
    lacking = [month for month in chosen[there[0] : there[-1] + 1] if month not in spans]
    if climatology:
        numbers = {month[5:] for month in spans}
        lacking = [month for month in lacking if month[5:] not in numbers]
    if 0 < len(lacking) < len(there):
        raise InputError(
            f"There is no composite of {join_words(lacking)}, but of the months before and after: files are missing. "
            f"Restore them, or name months without a gap (--first and --last; months in a recipe)."
        )


def _make(
    work: Work,
    blocks: Sequence[tuple[int, int, int, int]],
    store: PartStore,
    *,
    cluster: str | None,
    progress: Callable[[int, int], None],
) -> None:
    """Make the missing blocks."""
    left = [
        CubeBlock(number, window_grid(work.grid, *block))
        for number, block in enumerate(blocks)
        if not store.has(number)
    ]
    done = len(blocks) - len(left)
    progress(done, len(blocks))

    def advance(_: int) -> None:
        nonlocal done
        done += 1
        progress(done, len(blocks))

    if cluster is not None:
        run_blocks(cluster, work, left, store=store, advance=advance)
        return
    for block in left:
        store.write(block.number, make_block(replace(work, grid=block.grid)))
        advance(block.number)


def _own_grids(
    composites: Sequence[Composite], catalogue: Catalogue | None, patience: RetryPolicy | None
) -> tuple[GeoBox, GeoBox]:
    """Grid of the first file, and of all tiles together; the same if the names contain no tiles."""
    with open_rasters(catalogue, patience) as rasters:
        first = rasters.grid(composites[0].layers[BANDS[0]].address)
    tiles = {(int(item.tile[1:3]), int(item.tile[4:6])) for item in composites if item.tile}
    if len(tiles) < 2:
        return first, first
    cols, rows = [tile[0] for tile in tiles], [tile[1] for tile in tiles]
    corner = modis_tile(min(cols), min(rows))
    shape = ((max(rows) - min(rows) + 1) * TILE_PX, (max(cols) - min(cols) + 1) * TILE_PX)
    return first, GeoBox(shape, corner.affine, SINUSOIDAL)


def _months_of(composite: Composite) -> list[str]:
    """Months of the eight days of a composite."""
    last = composite.start + datetime.timedelta(days=7)
    return [f"{date:%Y-%m}" for date in (composite.start, last)]


def _months(composites: Sequence[Composite], wanted: tuple[str, str] | None) -> list[str]:
    days = sorted(item.start for item in composites)
    wanted = wanted or (f"{days[0]:%Y-%m}", f"{days[-1]:%Y-%m}")
    try:
        first, last = (datetime.date.fromisoformat(f"{text}-01") for text in wanted)
    except ValueError:
        raise InputError(
            f"'{wanted[0]}' to '{wanted[1]}' are no months; write 2012-01 and 2013-12."
        ) from None
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    if not numbers:
        raise InputError(f"{wanted[0]} comes after {wanted[1]}; give the first month first.")
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in numbers]


def _blocks(work: Work, memory_bytes: int) -> Iterable[tuple[int, int, int, int]]:
    """Row, column, rows and columns of blocks whose sums fit in the memory, of whole files of the cube if possible."""
    side = max(16, 16 * int(math.sqrt(memory_bytes / bytes_per_cell(work)) / 16))
    file_px = math.prod(stored_sides(work.grid, len(work.times) * len(BANDS)))
    side -= side % file_px if side > file_px else 0
    rows, cols = work.grid.shape
    for row in range(0, rows, side):
        for col in range(0, cols, side):
            yield row, col, min(side, rows - row), min(side, cols - col)


def _notes(work: Work) -> dict[str, object]:
    return {
        "source": "MOD09A1 and MYD09A1",
        "composites": len(work.composites),
        "months": [work.months[0], work.months[-1]],
        "climatology": work.climatology,
        "merge": work.merge,
        "rule": asdict(work.rule),
    }


def _plan(work: Work, blocks: Sequence[tuple[int, int, int, int]], layers: Ancillary) -> dict[str, object]:
    """Inputs of the blocks; files are compared by name."""
    return {
        **_notes(work),
        "files": sorted(
            {layer.address.split("?")[0] for item in work.composites for layer in item.layers.values()}
        ),
        "grid": [*work.grid.shape, *list(work.grid.affine)[:6], str(work.grid.crs)],
        "blocks": [list(block) for block in blocks],
        "times": list(work.times),
    }


@dataclass(frozen=True)
class CubeBlock:
    """One block: its number and cells."""

    number: int
    grid: GeoBox


@dataclass(frozen=True)
class _Task:
    """What a worker gets with each block; the list of composites, which can be long, is in a file."""

    work: Work
    composites: str


def run_blocks(
    address: str, work: Work, blocks: Sequence[CubeBlock], *, store: PartStore, advance: Callable[[int], None]
) -> None:
    """
    Make blocks on the workers of a Dask scheduler.

    Each worker process reads the files itself. For the address, errors and lost workers see
    `tesela.io.parts.run_tasks`.
    """
    if not blocks:
        return
    listed = store.folder.resolve() / "composites.json"
    write_text(listed, json.dumps([_document(item) for item in work.composites]))
    task = _Task(replace(work, composites=()), str(listed))
    run_tasks(address, blocks, partial(_make_block, task=task), store=store, advance=advance)


def _make_block(block: CubeBlock, store: PartStore, *, task: _Task) -> None:
    """Make one block, on a worker; see `run_tasks`."""
    composites = _listed(task.composites, Path(task.composites).stat().st_mtime_ns)
    store.write(block.number, make_block(replace(task.work, composites=composites, grid=block.grid)))


@lru_cache(maxsize=1)
def _listed(path: str, modified: int) -> tuple[Composite, ...]:
    """Composites of a list, cached by the process until the list changes."""
    del modified
    return tuple(
        Composite(
            item["satellite"],
            datetime.date.fromisoformat(item["start"]),
            item["tile"],
            {name: LayerAddress(**layer) for name, layer in item["layers"].items()},
        )
        for item in json.loads(Path(path).read_text(encoding="utf-8"))
    )


def _document(composite: Composite) -> dict[str, object]:
    """Composite as JSON, with absolute paths: workers run in other folders."""
    layers = {
        name: asdict(replace(layer, address=_absolute(layer.address)))
        for name, layer in composite.layers.items()
    }
    return {
        "satellite": composite.satellite,
        "start": composite.start.isoformat(),
        "tile": composite.tile,
        "layers": layers,
    }


def _absolute(address: str) -> str:
    """Absolute path of a file; addresses and names of subdatasets stay as they are."""
    path = Path(address)
    return str(path.resolve()) if not is_remote(address) and path.exists() else address
