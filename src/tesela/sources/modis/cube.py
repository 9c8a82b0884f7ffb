"""Monthly cubes from MOD09A1 and MYD09A1: quality bits, the pixel's own month, Terra and Aqua merged."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import window_grid
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter, check_target
from tesela.io.http import RetryPolicy
from tesela.io.parts import PartStore
from tesela.io.sinusoidal import SINUSOIDAL, TILE_PX, modis_tile
from tesela.sources.ancillary import Ancillary
from tesela.sources.modis.cluster import Block, run_blocks
from tesela.sources.modis.files import BANDS, Composite, find_composites
from tesela.sources.modis.months import SATELLITES, Merge, Work, make_block, open_rasters, steps_for, unpack
from tesela.sources.modis.quality import BAND_COUNT, QualityRule
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

    An observation counts in the month of its own day of year, not of the first day of its composite. For month *m*
    and band *b*, with :math:`V_s` the usable observations of satellite *s*,

    .. math:: \bar x_s = \frac{1}{|V_s|} \sum_{i \in V_s} x_i, \qquad x = \frac{1}{|S|} \sum_{s \in S} \bar x_s,

    where *S* are the satellites with at least one. Where there is none the value is a gap.

    Parameters
    ----------
    sources : paths, addresses or composites
        As `find_composites` takes them.
    out : path
        Folder of the cube. A build that was killed goes on where it was.
    grid : GeoBox, optional
        Cells of the cube; default: the MODIS pixels of all tiles. Elsewhere a cell takes the nearest pixel, and a
        cell more than 1.5 times larger the mean of its pixels: quality bits cannot be interpolated.
    months : (str, str), optional
        First and last, "2012-01" and "2013-12"; default: those of the composites.
    climatology : bool
        Average equal months of all years into twelve, as Rodriguez-Ortega et al. did with 2012 and 2013.
    rule : QualityRule, optional
        Which observations are usable.
    merge : {"satellites", "observations"}
        Mean of the means of both satellites, or of all observations alike.
    ancillary : Ancillary, optional
        Layers besides the series; default: longitude and latitude.
    memory_bytes : int
        Sums and counts held at a time, for each block in work.
    catalogue, patience : optional
        Whose addresses the sources are, where they must be signed, and how long to wait for its servers.
    cluster : str, optional
        Make the blocks on the workers of a Dask scheduler: "local" or its address. All must see the files and the
        output under the same paths. The cube is the same.
    progress : callable of (int, int)
        Blocks done and in all.

    Raises
    ------
    InputError
        If a name cannot be read, a layer is missing or broken, or no composite lies in the months.
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
            f"No composite lies in {chosen[0]} to {chosen[-1]}; there are {join_words(sorted(spans))}."
        )
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


def _make(
    work: Work,
    blocks: Sequence[tuple[int, int, int, int]],
    store: PartStore,
    *,
    cluster: str | None,
    progress: Callable[[int, int], None],
) -> None:
    """Make the blocks that are not there yet."""
    left = [
        Block(number, window_grid(work.grid, *block))
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
    """Grid of the first file, and of all tiles together; the same where the names tell no tiles."""
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
    """Months that the eight days of a composite may fall in."""
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
    """Row, column, rows and columns of blocks whose sums fit in the memory."""
    per_pixel = len(SATELLITES) * len(work.months) * BAND_COUNT * 24
    side = max(16, 16 * int(math.sqrt(memory_bytes / per_pixel) / 16))
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
    """What the parts depend on; files of the same names are taken for the same."""
    return {
        **_notes(work),
        "files": sorted(
            {place.address.split("?")[0] for item in work.composites for place in item.layers.values()}
        ),
        "grid": [*work.grid.shape, *list(work.grid.affine)[:6], str(work.grid.crs)],
        "blocks": [list(block) for block in blocks],
        "times": list(work.times),
    }
