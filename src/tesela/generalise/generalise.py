"""The generalisation of a map: mosaic classes, then rounds of minimum width and minimum mapping unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, RecipeError
from tesela.core.grid import crs_of, has_true_lengths, unit_m, window_grid
from tesela.core.legend import Legend
from tesela.core.notes import note
from tesela.generalise.change_log import ChangeLog, by_code
from tesela.generalise.mosaic import MosaicRule, find_rules
from tesela.generalise.priority import PriorityTable, find_priority, load_priority
from tesela.generalise.steps import PassCounter, Progress, Steps, Task
from tesela.generalise.strips import Plan
from tesela.generalise.unit import NO_PRIORITY
from tesela.io.cog import BLOCK_PX
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.outputs import check_file_outputs
from tesela.io.scratch import ScratchRaster


def generalise_map(
    source: ClassMap,
    out: str | Path,
    *,
    mmu_m2: float,
    min_width_m: float = 0.0,
    priority: PriorityTable | str | Path | None = None,
    edges: str = "keep",
    exempt: Sequence[str] = (),
    mosaic: bool | Sequence[MosaicRule] = False,
    rounds: int = 10,
    narrow_out: str | Path | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> tuple[ClassMap, ChangeLog]:
    """
    Generalise a class map to a minimum mapping unit and a minimum width.

    In order: mosaic classes, with `mosaic`; areas too small for a disc of the width go to neighbours; then rounds
    of width (parts narrower than the disc, see `drop_narrow_parts`) and unit (areas under the unit, see
    `drop_small_areas`), until the map stops changing or `rounds` are done. The last step is the unit, so only areas
    named in the log are smaller. The log also counts pixels that are still narrow, and `narrow_out` shows them.
    The result does not depend on strips or threads, nor on how the map is flipped or rotated. Memory is about 75
    bytes per area of the map, whatever its size in pixels, plus a few strips.

    Parameters
    ----------
    source : ClassMap
        In a projected CRS with square pixels; 0 is nodata and never changes.
    out : path
        The generalised map; it is written completely or not at all.
    mmu_m2 : float
        Minimum mapping unit in square metres (CORINE: 250,000); 0 keeps small areas.
    min_width_m : float
        Minimum width in metres (CORINE: 100); 0 keeps narrow parts.
    priority : PriorityTable, name or path of one, optional
        Which neighbour gets a small area, see `load_priority`; "auto" uses the shipped table of the legend where
        there is one. Default: no class is preferred, the longest shared border decides.
    edges : {"keep", "merge"}
        "keep": areas cut by the edge of the map or by nodata may continue beyond it, and are kept; "merge": they
        end there, and are treated like all others.
    exempt : sequence of str
        Codes of classes whose areas may be narrow, such as roads and rivers.
    mosaic : bool or sequence of MosaicRule
        True uses the shipped rules of the legend.
    rounds : int
        Largest number of rounds of width and unit, which undo each other a little. Most maps settle in 5 to 10
        rounds, and change little after 2. Generalising a settled map again changes nothing
        (`ChangeLog.settled`).
    narrow_out : path, optional
        Map of the pixels that are still narrow: their classes, nodata elsewhere.
    plan : Plan, optional
        Strips and threads.

    Returns
    -------
    ClassMap, ChangeLog

    Raises
    ------
    GridError
        If the CRS is in degrees, or the pixels are not square and there is a minimum width.
    LegendError
        If a code or table does not fit the legend.
    RecipeError
        If an option is out of range.

    References
    ----------
    CORINE Land Cover: 25 ha, 100 m, and a priority table for areas under the unit (EEA Technical report
    17/2007).
    """
    check_file_outputs([out, narrow_out], inputs=[source.path])
    _check_width(min_width_m, source.grid)
    legend = source.legend
    task = Task(
        legend=legend,
        pixel_m=_pixel_m(source.grid, square=min_width_m > 0),
        mmu_m2=mmu_m2,
        min_width_m=min_width_m,
        ranks=_ranks(priority, legend),
        edges=edges,
        exempt=_exempt(exempt, legend),
        rules=() if mosaic is False else find_rules(legend) if mosaic is True else tuple(mosaic),
        rounds=rounds,
        plan=plan or Plan(),
    )
    folder = Path(out).parent
    folder.mkdir(parents=True, exist_ok=True)
    shape = (int(source.grid.shape[0]), int(source.grid.shape[1]))
    counter = PassCounter(progress, task.passes)
    with ExitStack() as stack:
        first = stack.enter_context(ScratchRaster.like(shape, folder=folder))
        second = first
        if task.width is not None:
            second = stack.enter_context(ScratchRaster.like(shape, folder=folder))
        before = _load(source, first)
        counter.tick()
        steps = Steps(task, first, second, counter)
        steps.run()
        draw = None
        if narrow_out is not None:
            writer = stack.enter_context(MapWriter(narrow_out, source.grid, legend))
            draw = _rows_to(writer)
        narrow = steps.survey(draw)
        after = _save(steps.current, source, out)
        counter.finish()
    log = ChangeLog(
        legend=legend.address,
        pixel_m2=task.pixel_m2,
        mmu_m2=mmu_m2,
        min_width_m=min_width_m,
        edges=edges,
        rounds=steps.rounds,
        settled=steps.settled,
        before=by_code(before, legend),
        after=by_code(after, legend),
        moves=tuple(steps.moves),
        below=tuple(steps.below),
        narrow=by_code(narrow, legend),
    )
    record_step(
        "generalise",
        [out, narrow_out],
        inputs=[source.path],
        settings={
            "mmu": f"{mmu_m2 / 10_000:g} ha",
            "min_width": f"{min_width_m:g} m",
            "priority": _name_of(priority),
            "edges": edges,
            "exempt": list(exempt),
            "mosaic": [rule.target for rule in task.rules],
            "rounds": steps.rounds,
        },
        legend=legend.address,
    )
    return ClassMap(str(out), source.grid, legend), log


def _name_of(priority: PriorityTable | str | Path | None) -> str | None:
    return (
        priority.name if isinstance(priority, PriorityTable) else None if priority is None else str(priority)
    )


def _load(source: ClassMap, target: ScratchRaster) -> NDArray[np.int64]:
    rows, cols = target.shape
    counts = np.zeros(256, np.int64)
    with MapReader(source) as reader:
        for first in range(0, rows, BLOCK_PX):
            values = reader.read(window_grid(source.grid, first, 0, min(BLOCK_PX, rows - first), cols))
            counts += np.bincount(values.ravel(), minlength=256)
            target.write(first, values)
    return counts


def _rows_to(writer: MapWriter) -> Callable[[int, NDArray[np.uint8]], None]:
    return lambda first, values: writer.write(first, 0, values)


def _save(raster: ScratchRaster, source: ClassMap, out: str | Path) -> NDArray[np.int64]:
    rows = raster.shape[0]
    with MapWriter(out, source.grid, source.legend) as writer:
        for first in range(0, rows, BLOCK_PX):
            writer.write(first, 0, raster.read(first, min(first + BLOCK_PX, rows)))
        return writer.counts


def _pixel_m(grid: GeoBox, *, square: bool) -> tuple[float, float]:
    factor = unit_m(grid, what="Generalising")
    if not has_true_lengths(grid):
        note(
            f"10 units of {crs_of(grid)} are {10 * factor:.3g} m on the ground at the middle of the map; areas and "
            f"widths are those of the ground."
        )
    width, height = math.hypot(grid.affine.a, grid.affine.d), math.hypot(grid.affine.b, grid.affine.e)
    if square and abs(width / height - 1) > 1e-3:
        raise GridError(
            f"The map's pixels are {width:g} x {height:g}; the minimum width needs square ones. Resample it "
            f"(gdalwarp -r near -tr R R), or set the width to 0."
        )
    return width * factor, height * factor


_WIDE_PX = 1024
"""Widths up to this cost little, however small the map is."""
_MOST_WIDE_PX = 65_535
"""The sweeps count rows in two bytes."""


def _check_width(min_width_m: float, grid: GeoBox) -> None:
    """Refuse a width that no part of the map reaches: its disc alone could fill the memory."""
    pixel_m = _pixel_m(grid, square=min_width_m > 0)[0]
    most = min(max(*grid.shape, _WIDE_PX), _MOST_WIDE_PX)
    if not min_width_m / pixel_m <= most:
        raise RecipeError(
            f"The minimum width of {min_width_m:g} m is {min_width_m / pixel_m:.3g} pixels, but the map is "
            f"{max(grid.shape)} pixels long; no part of it is so wide. Give a smaller width (CORINE: 100 m)."
        )


def _ranks(priority: PriorityTable | str | Path | None, legend: Legend) -> NDArray[np.int32]:
    if priority is None:
        return NO_PRIORITY
    if priority == "auto":
        shipped = find_priority(legend)
        return NO_PRIORITY if shipped is None else shipped.ranks
    table = priority if isinstance(priority, PriorityTable) else load_priority(priority, legend)
    return table.ranks


def _exempt(codes: Sequence[str], legend: Legend) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[[legend[code].value for code in codes]] = True
    return table
