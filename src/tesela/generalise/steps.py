"""The steps of a generalisation, one after another on the same raster."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import RecipeError
from tesela.core.legend import Legend
from tesela.generalise.change_log import Move, Remainder, moves_of
from tesela.generalise.mosaic import MosaicRule, build_mosaics
from tesela.generalise.opening import Disc
from tesela.generalise.regions import RegionGraph, build_graph
from tesela.generalise.strips import Plan
from tesela.generalise.unit import NO_CLASSES, flag_reason, merge_graph, paint_graph
from tesela.generalise.width import WidthRule, survey_narrow, widen
from tesela.io.cog import BLOCK_PX
from tesela.io.scratch import ScratchRaster

Progress = Callable[[int, int], None]
"""Called with the passes over the map done and in total."""


@dataclass(frozen=True)
class Task:
    """Options of a generalisation, in the units of the map."""

    legend: Legend
    pixel_m: tuple[float, float]
    """Width and height of a pixel."""
    mmu_m2: float
    min_width_m: float
    ranks: NDArray[np.int32]
    """(256, 256): rank of a neighbour's class (column) for a class (row), by value; lower is better."""
    edges: str
    exempt: NDArray[np.bool_]
    """(256,): class values whose areas may be narrow."""
    rules: tuple[MosaicRule, ...]
    rounds: int
    plan: Plan

    def __post_init__(self) -> None:
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
        """Area of a pixel."""
        return self.pixel_m[0] * self.pixel_m[1]

    @property
    def unit_px(self) -> int:
        """Pixels from which an area reaches the unit."""
        return max(1, math.ceil(self.mmu_m2 / self.pixel_m2 - 1e-6))

    @property
    def width(self) -> WidthRule | None:
        """Rule of the minimum width, or None for a width of at most one pixel."""
        disc = Disc(self.min_width_m / self.pixel_m[0])
        return WidthRule(disc, self.ranks, self.exempt, self.edges) if disc.side_px > 1 else None

    @property
    def passes(self) -> int:
        """Largest number of passes over the map, including reading and writing."""
        return 3 + bool(self.rules) + (2 + 2 * self.rounds if self.width else 0)


@dataclass
class PassCounter:
    """Counts passes over the map and reports them."""

    progress: Progress | None
    total: int
    done: int = 0

    def tick(self) -> None:
        """Count one pass."""
        self._show(min(self.done + 1, self.total))

    def finish(self) -> None:
        """Report the end, perhaps after fewer rounds than the limit."""
        self._show(self.total)

    def _show(self, done: int) -> None:
        self.done = done
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass
class Steps:
    """The steps, on two scratch rasters; `current` holds the map."""

    task: Task
    current: ScratchRaster
    spare: ScratchRaster
    counter: PassCounter
    moves: list[Move] = field(default_factory=list)
    below: list[Remainder] = field(default_factory=list)
    rounds: int = 0
    settled: bool = False

    def run(self) -> None:
        """Mosaics, then rounds of width and unit, until the map stops changing or the rounds are used up."""
        task = self.task
        if task.rules:
            graph = self._graph(task.unit_px)
            build_mosaics(graph, legend=task.legend, rules=task.rules, unit_px=task.unit_px, edges=task.edges)
            self._paint(graph, "mosaic")
            del graph
        width = task.width
        if width is None:
            self.rounds = 1
            self._apply_unit()
            self.settled = True
            return
        self._drop_discs(width)
        latest = _digest(self.current)
        while self.rounds < task.rounds and not self.settled:
            logged = len(self.moves)
            self.rounds += 1
            self._widen(width)
            if width.disc.area_px > task.unit_px:
                self._drop_discs(width)
            self._apply_unit()
            before, latest = latest, _digest(self.current)
            self.settled = before == latest
            if self.settled:
                del self.moves[logged:]  # one step undid the moves of the other

    def _drop_discs(self, rule: WidthRule) -> None:
        """Areas too small for the disc are narrow everywhere; they go whole, by the rules of the unit."""
        graph = self._graph(rule.disc.area_px)
        self._merge(graph, rule.disc.area_px, exempt=self.task.exempt)
        self._paint(graph, "width")

    def _widen(self, rule: WidthRule) -> None:
        tally = widen(self.current, self.spare, rule=rule, plan=self.task.plan)
        self.current, self.spare = self.spare, self.current
        self.moves += moves_of(tally, self.task.legend, reason="width", round_number=self.rounds)
        self.counter.tick()

    def _apply_unit(self) -> None:
        task = self.task
        graph = self._graph(task.unit_px)
        self._merge(graph, task.unit_px, exempt=NO_CLASSES)
        self.below = _remainders(graph, task)
        self._paint(graph, "unit")

    def _graph(self, unit_px: int) -> RegionGraph:
        return build_graph(self.current.read, self.current.shape, unit_px=unit_px, plan=self.task.plan)

    def _merge(self, graph: RegionGraph, unit_px: int, *, exempt: NDArray[np.bool_]) -> None:
        merge_graph(graph, unit_px=unit_px, ranks=self.task.ranks, edges=self.task.edges, exempt=exempt)

    def _paint(self, graph: RegionGraph, reason: str) -> None:
        tally = paint_graph(graph, self.current.read, self.current, plan=self.task.plan)
        self.moves += moves_of(tally, self.task.legend, reason=reason, round_number=self.rounds)
        self.counter.tick()

    def survey(self, draw: Callable[[int, NDArray[np.uint8]], None] | None) -> NDArray[np.int64]:
        """Pixels that are narrow now, by class value; `draw` gets them row by row."""
        rule = self.task.width
        counts = np.zeros(256, np.int64)
        if rule is not None:
            counts = survey_narrow(self.current, rule=rule, plan=self.task.plan, draw=draw)
            self.counter.tick()
        return counts


def _digest(raster: ScratchRaster) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for first in range(0, raster.shape[0], BLOCK_PX):
        digest.update(raster.read(first, min(first + BLOCK_PX, raster.shape[0])).data)
    return digest.digest()


def _remainders(graph: RegionGraph, task: Task) -> list[Remainder]:
    roots = graph.roots
    roots = roots[graph.size[roots] < task.unit_px]
    totals: dict[tuple[str, str], list[int]] = {}
    codes = {item.value: item.code for item in task.legend.classes}
    keys = graph.value[roots].astype(np.int64) * 256 + graph.flags[roots]
    for key in np.unique(keys):
        sizes = graph.size[roots[keys == key]]
        reason = flag_reason(int(key) % 256) if task.edges == "keep" else "alone"
        entry = totals.setdefault((codes[int(key) // 256], reason), [0, 0])
        entry[0] += len(sizes)
        entry[1] += int(sizes.sum())
    return [
        Remainder(code, reason, areas, pixels) for (code, reason), (areas, pixels) in sorted(totals.items())
    ]
