"""The generalisation of a map: mosaic classes, then rounds of minimum width and minimum mapping unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, RecipeError
from tesela.core.legend import Legend
from tesela.generalise.ledger import Ledger, Move, Remainder, by_code, moves_of
from tesela.generalise.mosaic import MosaicRule, build_mosaics, find_rules
from tesela.generalise.opening import Disc
from tesela.generalise.priority import PriorityTable, find_priority, load_priority
from tesela.generalise.regions import RegionGraph, build_graph
from tesela.generalise.strips import Plan
from tesela.generalise.unit import NO_PRIORITY, flag_reason, merge_graph, paint_graph
from tesela.generalise.width import WidthRule, survey_narrow, widen
from tesela.io.maps import BLOCK_PX, ClassMap, MapReader, MapWriter
from tesela.io.raster import window_grid
from tesela.io.scratch import ScratchRaster

Progress = Callable[[int, int], None]
"""Given passes over the map done and in all."""


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
    rounds: int = 2,
    narrow_out: str | Path | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> tuple[ClassMap, Ledger]:
    """
    Generalise a class map to a minimum mapping unit and a minimum width.

    In order: mosaic classes, if asked for; areas too small to hold a disc of the width go to neighbours; then
    rounds of width (parts narrower than the disc, see `drop_narrow_parts`) and unit (areas under the unit, see
    `drop_small_areas`), until nothing moves or `rounds` are done. It ends on the unit: no area under it is left but
    those named in the ledger. Ground that is narrow even then is counted there, and drawn if `narrow_out` is given.
    The answer does not depend on strips or threads, nor on how the map is mirrored or turned. Memory is some 60
    bytes per area of the map, whatever its size in pixels, plus a few strips.

    Parameters
    ----------
    source : ClassMap
        In a projected CRS with square pixels; 0 is nodata, never changed nor given away.
    out : path
        Where the generalised map goes; it appears whole or not at all.
    mmu_m2 : float
        Minimum mapping unit in square metres (CORINE: 250 000); 0 leaves small areas alone.
    min_width_m : float
        Minimum width in metres (CORINE: 100); 0 leaves narrow parts alone.
    priority : PriorityTable, name or path of one, optional
        Who gets the ground, see `load_priority`; "auto" takes the shipped table of the legend where there is one.
        Default: no class goes before another, the longest shared border decides.
    edges : {"keep", "merge"}
        "keep": areas cut by the edge of the map or by nodata may go on beyond and are no less than the unit;
        "merge": they end there and are treated like all others.
    exempt : sequence of str
        Codes of classes whose areas may be narrow, such as roads and rivers.
    mosaic : bool or sequence of MosaicRule
        True takes the shipped rules of the legend.
    rounds : int
        Most rounds of width and unit; width and unit undo each other a little.
    narrow_out : path, optional
        Map of the ground that stays narrow: its classes, nodata elsewhere.
    plan : Plan, optional
        Strips and threads.

    Returns
    -------
    ClassMap, Ledger

    Raises
    ------
    GridError
        If the CRS is in degrees, or the pixels are not square and a width is asked for.
    LegendError
        If a code or table does not fit the legend.
    RecipeError
        If an option is out of range.

    References
    ----------
    CORINE Land Cover: 25 ha, 100 m, and a priority table for areas under the unit (EEA Technical report 17/2007).
    """
    legend = source.legend
    task = _Task(
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
    task.check()
    folder = Path(out).parent
    folder.mkdir(parents=True, exist_ok=True)
    shape = (int(source.grid.shape[0]), int(source.grid.shape[1]))
    clock = _Clock(progress, task.passes)
    with ExitStack() as stack:
        first = stack.enter_context(ScratchRaster.like(shape, folder=folder))
        second = stack.enter_context(ScratchRaster.like(shape, folder=folder if task.min_width_m > 0 else None))
        before = _load(source, first)
        clock.tick()
        work = _Work(task, first, second, clock)
        work.run()
        narrow = _survey(work, source.grid, narrow_out)
        after = _save(work.current, Path(out), source.grid, legend)
        clock.tick()
    ledger = Ledger(
        legend=legend.address,
        pixel_m2=task.pixel_m2,
        mmu_m2=mmu_m2,
        min_width_m=min_width_m,
        edges=edges,
        rounds=work.rounds,
        before=by_code(before, legend),
        after=by_code(after, legend),
        moves=tuple(work.moves),
        below=tuple(work.below),
        narrow=by_code(narrow, legend),
    )
    return ClassMap(str(out), source.grid, legend), ledger


@dataclass(frozen=True)
class _Task:
    legend: Legend
    pixel_m: tuple[float, float]
    mmu_m2: float
    min_width_m: float
    ranks: NDArray[np.int32]
    edges: str
    exempt: NDArray[np.bool_]
    rules: tuple[MosaicRule, ...]
    rounds: int
    plan: Plan

    def check(self) -> None:
        problems = []
        if self.mmu_m2 < 0 or self.min_width_m < 0:
            problems.append("unit and width must not be negative")
        if self.edges not in ("keep", "merge"):
            problems.append(f'edges is "{self.edges}" and must be "keep" or "merge"')
        if self.rounds < 1:
            problems.append(f"rounds is {self.rounds} and must be at least 1")
        if problems:
            raise RecipeError(f"Generalisation: {'; '.join(problems)}.")

    @property
    def pixel_m2(self) -> float:
        return self.pixel_m[0] * self.pixel_m[1]

    @property
    def unit_px(self) -> int:
        """Pixels from which an area reaches the unit."""
        return max(1, math.ceil(self.mmu_m2 / self.pixel_m2 - 1e-6))

    @property
    def width(self) -> WidthRule | None:
        disc = Disc(self.min_width_m / self.pixel_m[0])
        return WidthRule(disc, self.ranks, self.exempt, self.edges) if disc.side_px > 1 else None

    @property
    def passes(self) -> int:
        return 3 + bool(self.rules) + (2 if self.width else 0) + self.rounds * (2 if self.width else 1)


@dataclass
class _Clock:
    progress: Progress | None
    total: int
    done: int = 0

    def tick(self, passes: int = 1) -> None:
        self.done = min(self.done + passes, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass
class _Work:
    """The steps, on two scratch rasters of which one holds the map as it is."""

    task: _Task
    current: ScratchRaster
    spare: ScratchRaster
    clock: _Clock
    moves: list[Move] = field(default_factory=list)
    below: list[Remainder] = field(default_factory=list)
    rounds: int = 0

    def run(self) -> None:
        task = self.task
        if task.rules:
            with self._graph(task.unit_px) as graph:
                build_mosaics(graph, legend=task.legend, rules=task.rules, unit_px=task.unit_px, edges=task.edges)
                self._paint(graph, "mosaic")
        width = task.width
        if width is not None:
            with self._graph(width.disc.area_px) as graph:
                self._merge(graph, width.disc.area_px, spared=task.exempt)
                self._paint(graph, "width")
        for number in range(1, task.rounds + 1):
            self.rounds = number
            moved = self._widen(width) if width is not None else 0
            moved += self._apply_unit()
            if moved == 0 or width is None:
                break

    def _widen(self, rule: WidthRule) -> int:
        tally = widen(self.current, self.spare, rule=rule, plan=self.task.plan)
        self.current, self.spare = self.spare, self.current
        self.moves += moves_of(tally, self.task.legend, reason="width", round_number=self.rounds)
        self.clock.tick()
        return tally.moved_px

    def _apply_unit(self) -> int:
        task = self.task
        with self._graph(task.unit_px) as graph:
            self._merge(graph, task.unit_px, spared=np.zeros(256, np.bool_))
            self.below = _remainders(graph, task)
            return self._paint(graph, "unit")

    @contextmanager
    def _graph(self, unit_px: int) -> Iterator[RegionGraph]:
        yield build_graph(self.current.read, self.current.shape, unit_px=unit_px, plan=self.task.plan)

    def _merge(self, graph: RegionGraph, unit_px: int, *, spared: NDArray[np.bool_]) -> None:
        merge_graph(graph, unit_px=unit_px, ranks=self.task.ranks, edges=self.task.edges, spared=spared)

    def _paint(self, graph: RegionGraph, reason: str) -> int:
        tally = paint_graph(graph, self.current.read, self.current, plan=self.task.plan)
        self.moves += moves_of(tally, self.task.legend, reason=reason, round_number=self.rounds)
        self.clock.tick()
        return tally.moved_px


def _remainders(graph: RegionGraph, task: _Task) -> list[Remainder]:
    roots = graph.roots
    roots = roots[graph.size[roots] < task.unit_px]
    found: dict[tuple[str, str], list[int]] = {}
    codes = {item.value: item.code for item in task.legend.classes}
    keys = graph.value[roots].astype(np.int64) * 256 + graph.flags[roots]
    for key in np.unique(keys):
        sizes = graph.size[roots[keys == key]]
        reason = flag_reason(int(key) % 256) if task.edges == "keep" else "alone"
        entry = found.setdefault((codes[int(key) // 256], reason), [0, 0])
        entry[0] += len(sizes)
        entry[1] += int(sizes.sum())
    return [Remainder(code, reason, areas, pixels) for (code, reason), (areas, pixels) in sorted(found.items())]


def _load(source: ClassMap, target: ScratchRaster) -> NDArray[np.int64]:
    rows, cols = target.shape
    counts = np.zeros(256, np.int64)
    with MapReader(source) as reader:
        for first in range(0, rows, BLOCK_PX):
            values = reader.read(window_grid(source.grid, first, 0, min(BLOCK_PX, rows - first), cols))
            counts += np.bincount(values.ravel(), minlength=256)
            target.write(first, values)
    return counts


def _save(raster: ScratchRaster, out: Path, grid: GeoBox, legend: Legend) -> NDArray[np.int64]:
    rows = raster.shape[0]
    with MapWriter(out, grid, legend) as writer:
        for first in range(0, rows, BLOCK_PX):
            writer.write(first, 0, raster.read(first, min(first + BLOCK_PX, rows)))
        return writer.counts


def _survey(work: _Work, grid: GeoBox, narrow_out: str | Path | None) -> NDArray[np.int64]:
    rule = work.task.width
    if rule is None:
        return np.zeros(256, np.int64)
    if narrow_out is None:
        counts = survey_narrow(work.current, rule=rule, plan=work.task.plan)
    else:
        with MapWriter(narrow_out, grid, work.task.legend) as writer:
            counts = survey_narrow(
                work.current,
                rule=rule,
                plan=work.task.plan,
                draw=lambda first, values: writer.write(first, 0, values),
            )
    work.clock.tick()
    return counts


def _pixel_m(grid: GeoBox, *, square: bool) -> tuple[float, float]:
    crs = grid.crs
    if crs is None or not crs.projected:
        raise GridError(
            f"The map's CRS ({crs}) is not in metres, so its pixels have no constant area. Bring it to a projected "
            f"CRS (gdalwarp -r near -t_srs EPSG:3035), then try again."
        )
    factor = float(crs.proj.axis_info[0].unit_conversion_factor)
    width, height = math.hypot(grid.affine.a, grid.affine.d), math.hypot(grid.affine.b, grid.affine.e)
    if square and abs(width / height - 1) > 1e-3:
        raise GridError(
            f"The map's pixels are {width:g} x {height:g}; the minimum width needs square ones. Resample it "
            f"(gdalwarp -r near -tr R R), or leave the width out."
        )
    return width * factor, height * factor


def _ranks(priority: PriorityTable | str | Path | None, legend: Legend) -> NDArray[np.int32]:
    if priority is None:
        return NO_PRIORITY
    if priority == "auto":
        found = find_priority(legend)
        return NO_PRIORITY if found is None else found.ranks
    table = priority if isinstance(priority, PriorityTable) else load_priority(priority, legend)
    return table.ranks


def _exempt(codes: Sequence[str], legend: Legend) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[[legend[code].value for code in codes]] = True
    return table
