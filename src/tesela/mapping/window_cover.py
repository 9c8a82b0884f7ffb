"""The cheapest cover of a gate mask by windows, by a cost model."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.machine import cache_folder
from tesela.io.manifest import write_text
from tesela.mapping.engines import Engine
from tesela.mapping.windows import Span, Strip, WindowPlan
from tesela.models.expert import Expert

_FIXED_PX = 16_384
"""Pixels added to each window where costs are not measured."""


def usual_costs(expert: Expert, engine: Engine, sizes: WindowSizes) -> tuple[float, ...]:
    """
    Costs of window sizes for an expert on this machine; measured once, then read from a file.

    Equal costs give equal covers, so a cascade that runs again writes the same bytes. Costs are stored by
    processor, threads, engine, network and sizes, in ``costs.json`` in the user's cache folder,
    see `tesela.core.machine.cache_folder`.
    """
    header = expert.header
    described = [
        platform.processor() or platform.machine(),
        os.cpu_count(),
        torch.get_num_threads(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        engine.name,
        type(expert.network).__name__,
        header.architecture.to_dict(),
        [sizes.window(size) for size in range(len(sizes))],
    ]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    file = cache_folder() / "costs.json"
    costs = _read(file).get(key)
    if isinstance(costs, list) and len(costs) == len(sizes):
        return tuple(float(cost) for cost in costs)
    measured = measure_costs(engine, sizes, bands=len(header.bands))
    with suppress(InputError, OSError):  # if not written, costs are measured again next time
        write_text(file, json.dumps({**_read(file), key: measured}, indent=1))
    return measured


def measure_costs(engine: Engine, sizes: WindowSizes, *, bands: int) -> tuple[float, ...]:
    """
    Cost of a window of each size on an engine, relative to the largest, in full batches.

    The cost per pixel relative to the largest window is rounded to eighths, so that small differences in timing give
    the same costs.
    """
    random = np.random.default_rng(0)
    seconds = []
    for size in range(len(sizes)):
        shape = (sizes.batch(size, engine), *sizes.window(size), bands)
        images = random.standard_normal(shape, np.float32)
        engine.scores(images)  # sets up the engine
        best = float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            engine.scores(images)
            best = min(best, time.perf_counter() - begun)
        seconds.append(best / images[..., 0].size)
    areas = [float(np.prod(sizes.window(size))) for size in range(len(sizes))]
    ratios = [max(0.125, round(8 * each / seconds[0]) / 8) for each in seconds]
    return tuple(ratio * area / areas[0] for ratio, area in zip(ratios, areas, strict=True))


def guess_costs(sizes: WindowSizes) -> tuple[float, ...]:
    """Costs as `measure_costs` returns them, from pixels alone, for jobs too small to measure."""
    costs = [float(np.prod(sizes.window(size))) + _FIXED_PX for size in range(len(sizes))]
    return tuple(cost / costs[0] for cost in costs)


def _read(file: Path) -> dict[str, object]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


_LEAST_PX = 64
"""Smallest side that a window keeps; margins of 32 px would cost more than three quarters of a smaller one."""


@dataclass(frozen=True)
class Tile:
    """One window of a cover: its corner, and the area for which it is kept, in pixels of the scene."""

    size: int
    """Position of its size in `WindowSizes`; 0 is the largest."""
    corner: tuple[int, int]
    rows: tuple[int, int]
    """First row that is kept, and one past the last."""
    cols: tuple[int, int]


@dataclass(frozen=True)
class WindowSizes:
    """Window sizes to choose from: that of the plan, then each keeps half the sides of the one before."""

    plan: WindowPlan
    kept: tuple[tuple[int, int], ...]
    """Rows and columns that a window keeps, by size; multiples of the network's stride."""

    @classmethod
    def of(cls, plan: WindowPlan, *, multiple_px: int) -> WindowSizes:
        """Sizes for a plan and the stride of its network."""
        granule = multiple_px * -(-32 // multiple_px)
        margins = 2 * plan.margin_px
        kept = [(plan.height_px - margins, plan.width_px - margins)]
        while max(kept[-1]) > _LEAST_PX and all(side > 0 and side % granule == 0 for side in kept[0]):
            rows, cols = (-(-side // 2 // granule) * granule for side in kept[-1])
            if (rows, cols) == kept[-1]:
                break
            kept.append((rows, cols))
        return cls(plan, tuple(kept))

    def __len__(self) -> int:
        return len(self.kept)

    def window(self, size: int) -> tuple[int, int]:
        """Rows and columns of a window."""
        rows, cols = self.kept[size]
        return rows + 2 * self.plan.margin_px, cols + 2 * self.plan.margin_px

    def batch(self, size: int, engine: Engine) -> int:
        """Windows in a full batch: as many pixels as the engine's batch of largest ones."""
        first, own = self.window(0), self.window(size)
        return max(1, engine.batch * first[0] * first[1] // (own[0] * own[1]))


def cover_mask(
    mask: NDArray[np.bool_], strip: Strip, *, sizes: WindowSizes, costs: Sequence[float], least_px: int
) -> tuple[list[Tile], int]:
    r"""
    Cover the pixels of a mask with windows at the least cost.

    The area that a window of the plan keeps is a square that may be cut into four, and each of these again. With the
    cost :math:`c_s` of a window of size :math:`s`, a square costs
    :math:`C_s = \min(c_s, \sum_{\text{four}} C_{s+1})`, and nothing where the mask is empty. This is the least cost
    of all covers by such squares, so never more than that of windows of any one size.

    Parameters
    ----------
    mask : (rows, cols) array of bool
        Over the rows and columns that the strip keeps.
    costs : sequence of float
        Cost of a window, by size.
    least_px : int
        In a square of the smallest size, fewer pixels than this are isolated. They get no window of their own, and
        are mapped only where another window covers them.

    Returns
    -------
    list of Tile, int
        Windows, largest first, and the number of isolated pixels that no window covers.
    """
    tiles: list[Tile] = []
    left_out = 0
    top, left = strip.corner
    for cols in strip.cols:
        square = _Square(mask, strip, cols, sizes)
        tiles += square.cheapest(costs, least_px)
        for rows_here, cols_here in square.isolated:
            here = mask[rows_here[0] - top : rows_here[1] - top, cols_here[0] - left : cols_here[1] - left]
            if not square.covered(rows_here[0], cols_here[0]):
                left_out += int(here.sum())
    tiles.sort(key=lambda tile: (tile.size, tile.corner))
    return tiles, left_out


class _Square:
    """The area that one window of the plan keeps, and its division into smaller windows."""

    def __init__(self, mask: NDArray[np.bool_], strip: Strip, cols: Span, sizes: WindowSizes) -> None:
        self.sizes = sizes
        self.margin = sizes.plan.margin_px
        self.starts = strip.rows.start, cols.start
        self.keep = (strip.rows.keep_start, strip.rows.keep_stop), (cols.keep_start, cols.keep_stop)
        self.tiles: list[Tile] = []
        self.isolated: list[tuple[tuple[int, int], tuple[int, int]]] = []
        top, left = strip.corner
        self.mask = mask[
            self.keep[0][0] - top : self.keep[0][1] - top, self.keep[1][0] - left : self.keep[1][1] - left
        ]

    def cheapest(self, costs: Sequence[float], least_px: int) -> list[Tile]:
        _, self.tiles = self._divide(0, (0, 0), self.sizes.kept[0], costs=costs, least_px=least_px)
        return self.tiles

    def covered(self, row: int, col: int) -> bool:
        """Whether a window covers a pixel."""
        return any(
            item.rows[0] <= row < item.rows[1] and item.cols[0] <= col < item.cols[1] for item in self.tiles
        )

    def _divide(
        self,
        size: int,
        corner: tuple[int, int],
        extent: tuple[int, int],
        *,
        costs: Sequence[float],
        least_px: int,
    ) -> tuple[float, list[Tile]]:
        """Cost and windows of a square; its corner counts from the first pixel inside the margins."""
        rows, cols = (
            self._own(axis, at, span) for axis, (at, span) in enumerate(zip(corner, extent, strict=True))
        )
        here = self._count(rows, cols)
        if not here:
            return 0.0, []
        if size + 1 == len(self.sizes):
            if here < least_px:
                self.isolated.append((rows, cols))
                return 0.0, []
            return costs[size], [self._tile(size, corner, rows, cols)]
        total, tiles = 0.0, []
        for part, part_extent in self._parts(size + 1, corner, extent):
            cost, parts = self._divide(size + 1, part, part_extent, costs=costs, least_px=least_px)
            total += cost
            tiles += parts
        if tiles and costs[size] <= total:
            return costs[size], [self._tile(size, corner, rows, cols)]
        return total, tiles

    def _count(self, rows: tuple[int, int], cols: tuple[int, int]) -> int:
        part = self.mask[
            rows[0] - self.keep[0][0] : rows[1] - self.keep[0][0],
            cols[0] - self.keep[1][0] : cols[1] - self.keep[1][0],
        ]
        return int(np.count_nonzero(part))

    def _parts(
        self, size: int, corner: tuple[int, int], extent: tuple[int, int]
    ) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        sides = self.sizes.kept[size]
        for row in range(0, extent[0], sides[0]):
            for col in range(0, extent[1], sides[1]):
                part = min(sides[0], extent[0] - row), min(sides[1], extent[1] - col)
                yield (corner[0] + row, corner[1] + col), part

    def _own(self, axis: int, at: int, span: int) -> tuple[int, int]:
        """Pixels kept along an axis; at the scene's edge they include the margin, and beyond it there are none."""
        keep_start, keep_stop = self.keep[axis]
        start = self.starts[axis] + self.margin + at
        first = keep_start if at == 0 else start
        stop = keep_stop if at + span >= self.sizes.kept[0][axis] else start + span
        return min(first, keep_stop), min(stop, keep_stop)

    def _tile(self, size: int, corner: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int]) -> Tile:
        """Window around a square; moved back where it would leave the plan's window."""
        most = self.sizes.window(0)
        own = self.sizes.window(size)
        at = tuple(self.starts[axis] + min(corner[axis], most[axis] - own[axis]) for axis in (0, 1))
        return Tile(size, (at[0], at[1]), rows, cols)
