"""Assessing an abundance map against reference shares, in one pass over both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.abundance.calibration import ShareCalibration
from tesela.assessment.abundance.document import AbundanceDocument, make_document
from tesela.assessment.abundance.remaining import RemainingErrors
from tesela.assessment.abundance.scores import AbundanceSums, intervals
from tesela.core.errors import GridError, InputError
from tesela.core.grid import pixel_offset, pixel_size_m, windows
from tesela.core.legend import Legend, sum_to_level
from tesela.io.abundance import AbundanceMap, ErrorWriter
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import open_dataset

BLOCK_M = (18_000.0, 15_000.0)
"""Width and height of the blocks of the bootstrap: those of the published split."""

DENSITY_BINS = 50
_BLOCK_CELLS = 512
_DRAWN_CELLS = 420
"""Longest side of the pictures; a drawn cell is the mean of its pixels."""


@dataclass(frozen=True, eq=False)
class Overview:
    """Reduced maps for the pictures: means over square groups of pixels."""

    map_shares: NDArray[np.float32]
    """(classes, rows, cols) of the map, everywhere; NaN where it has no data."""
    reference_shares: NDArray[np.float32]
    """(classes, rows, cols) of the reference, everywhere."""
    rmse: NDArray[np.float32]
    """(rows, cols) over classes and evaluated pixels; NaN without any."""
    rrmse: NDArray[np.float32]
    cell_px: int
    """Pixels along the side of a drawn cell."""


@dataclass(frozen=True, eq=False)
class AbundanceAssessment:
    """Result of `assess_abundance`: sums, from which all figures follow."""

    map_path: str
    reference_path: str
    grid: GeoBox
    sums: AbundanceSums
    """Over all evaluated pixels."""
    block_names: tuple[str, ...]
    """Blocks with evaluated pixels: "row.column", from 1."""
    block_sums: tuple[AbundanceSums, ...]
    density: NDArray[np.int64]
    """(classes, 50, 50) evaluated pixels by share of the reference (first) and of the map."""
    levels: Mapping[int, AbundanceSums]
    """Sums at coarser levels of the legend, by depth."""
    overview: Overview
    remaining: RemainingErrors
    calibration: ShareCalibration | None = None

    @property
    def legend(self) -> Legend:
        """Legend of the map."""
        return self.sums.legend

    @cached_property
    def intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends of the 95 % block-bootstrap intervals of the mean scores, in the order of `SCORES`."""
        flat = np.stack([sums.flat for sums in self.block_sums])
        return intervals(flat, len(self.legend))

    def to_dict(self) -> AbundanceDocument:
        """All figures, for JSON; null where one is undefined."""
        return make_document(
            self.sums,
            paths=(self.map_path, self.reference_path),
            intervals=self.intervals,
            levels=self.levels,
            blocks=dict(zip(self.block_names, self.block_sums, strict=True)),
            remaining=self.remaining.to_dict(),
            calibration=None if self.calibration is None else self.calibration.to_dict(),
        )


def assess_abundance(
    map: AbundanceMap,
    reference: AbundanceMap,
    *,
    chosen: NDArray[np.bool_] | None = None,
    block_m: Sequence[float] = BLOCK_M,
    uncertainty: str | Path | None = None,
    errors: str | Path | None = None,
    level: int | None = None,
) -> AbundanceAssessment:
    """
    Assess an abundance map on all pixels that have shares on both sides; memory does not grow with the map.

    Parameters
    ----------
    map, reference : AbundanceMap
        Of the same pixels and legend; the reference may be of a finer level of the same tree.
    chosen : (rows, cols) array of bool, optional
        Pixels to evaluate, such as those of the test split.
    block_m : (float, float)
        Width and height of the blocks that the bootstrap draws.
    uncertainty : path, optional
        Standard deviation of each share, as `tesela unmix --uncertainty` writes it.
    errors : path, optional
        Raster to write: RMSE and RRMSE over the classes of each evaluated pixel.
    level : int, optional
        Coarser level of the legend at which both are assessed, without the uncertainty; default: that of the map.

    Raises
    ------
    GridError
        If the pixels differ.
    InputError
        If the legends differ, or no pixel can be evaluated.
    LegendError
        If the legend has no such level.
    """
    legend = map.legend if level is None else map.legend.level(level)
    _check(map, reference)
    collector = _Collector(map, legend, tuple(block_m))
    uncertainty = uncertainty if legend == map.legend else None
    with ExitStack() as stack:
        writer = None if errors is None else stack.enter_context(ErrorWriter(errors, map.grid))
        spread = None if uncertainty is None else stack.enter_context(open_dataset(uncertainty))
        if spread is not None and spread.count != len(legend):
            raise InputError(
                f"{uncertainty}: has {spread.count} bands, but the map {len(legend)} classes; give the raster that "
                f"`tesela unmix --uncertainty` wrote with this map."
            )
        for row, col, window in windows(map.grid, collector.step):
            estimate, truth = (
                part if side.legend == legend else sum_to_level(part, side.legend, legend.depth)
                for side, part in ((map, map.read(window)), (reference, reference.read(window)))
            )
            rows, cols = window.shape
            evaluated = np.asarray(np.isfinite(estimate).all(axis=0) & np.isfinite(truth).all(axis=0))
            if chosen is not None:
                evaluated &= chosen[row : row + rows, col : col + cols]
            deviation = None
            if spread is not None:
                raw, valid = read_pixel_values(
                    spread, list(range(1, len(legend) + 1)), window, nodata=spread.nodata, continuous=False
                )
                deviation = np.where(
                    valid, raw.astype(np.float32) * np.float32(spread.scales[0]), np.float32(np.nan)
                )
            pixel_errors = collector.add(row, col, truth, estimate, evaluated, deviation)
            if writer is not None:
                writer.write_errors(row, col, pixel_errors)
    if not collector.blocks:
        raise InputError(
            f"{map.path} and {reference.path} share no pixel to evaluate. Check that both cover the same area."
        )
    return collector.result(reference)


class _Collector:
    """Adds up the windows of map and reference."""

    def __init__(self, map: AbundanceMap, legend: Legend, block_m: Sequence[float]) -> None:
        self.map, self.legend = map, legend
        rows, cols = (int(side) for side in map.grid.shape)
        self.cell_px = max(1, math.ceil(max(rows, cols) / _DRAWN_CELLS))
        self.step = self.cell_px * max(1, _BLOCK_CELLS // self.cell_px)
        width_m, height_m = pixel_size_m(map.grid)
        self.across = ((np.arange(cols) + 0.5) * width_m // block_m[0]).astype(np.int64)
        self.down = ((np.arange(rows) + 0.5) * height_m // block_m[1]).astype(np.int64)
        count = len(legend)
        self.blocks: dict[tuple[int, int], AbundanceSums] = {}
        self.levels = {depth: AbundanceSums.empty(legend.level(depth)) for depth in range(1, legend.depth)}
        self.density = np.zeros((count, DENSITY_BINS, DENSITY_BINS), np.int64)
        self.calibration: ShareCalibration | None = None
        self.remaining = RemainingErrors.empty(legend)
        drawn = (math.ceil(rows / self.cell_px), math.ceil(cols / self.cell_px))
        self.drawn = np.zeros((2 * count + 2, *drawn))
        self.counts = np.zeros((3, *drawn))

    def add(
        self,
        row: int,
        col: int,
        truth: NDArray[np.float32],
        estimate: NDArray[np.float32],
        evaluated: NDArray[np.bool_],
        deviation: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Add a window; returns RMSE and RRMSE of its evaluated pixels, (2, rows, cols), NaN elsewhere."""
        legend = self.legend
        t, p = truth[:, evaluated].T, estimate[:, evaluated].T
        self.remaining += RemainingErrors.of(legend, truth, estimate, evaluated)
        down = self.down[row : row + truth.shape[1], np.newaxis]
        across = self.across[np.newaxis, col : col + truth.shape[2]]
        number = (down * (self.across[-1] + 1) + across)[evaluated]
        for block in np.unique(number):
            mine = number == block
            key = divmod(int(block), int(self.across[-1]) + 1)
            sums = AbundanceSums.of(legend, t[mine], p[mine])
            self.blocks[key] = self.blocks[key] + sums if key in self.blocks else sums
        for depth, sums in self.levels.items():
            coarse = sums.legend
            pair = [sum_to_level(part.T, legend, depth).T for part in (t, p)]
            self.levels[depth] = sums + AbundanceSums.of(coarse, *pair)
        for k in range(len(legend)):
            bins = [
                np.clip((part[:, k] * DENSITY_BINS).astype(np.intp), 0, DENSITY_BINS - 1) for part in (t, p)
            ]
            pairs = np.bincount(bins[0] * DENSITY_BINS + bins[1], minlength=DENSITY_BINS**2)
            self.density[k] += pairs.reshape(DENSITY_BINS, DENSITY_BINS)
        if deviation is not None:
            s = deviation[:, evaluated].T
            given = np.isfinite(s)
            part = ShareCalibration.of(t[given], p[given], s[given])
            self.calibration = part if self.calibration is None else self.calibration + part
        return self._draw(row, col, truth, estimate, evaluated)

    def _draw(
        self,
        row: int,
        col: int,
        truth: NDArray[np.float32],
        estimate: NDArray[np.float32],
        evaluated: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        squares = np.where(evaluated, ((estimate - truth) ** 2).sum(axis=0), 0.0)
        norms = np.where(evaluated, (truth**2).sum(axis=0), 0.0)
        seen = [np.isfinite(part).all(axis=0) for part in (estimate, truth)]
        layers = [np.where(there, part, 0.0) for there, part in zip(seen, (estimate, truth), strict=True)]
        parts = np.concatenate([*layers, squares[np.newaxis], norms[np.newaxis]])
        counts = np.stack([*seen, evaluated]).astype(np.float64)
        top, left = row // self.cell_px, col // self.cell_px
        for target, content in ((self.drawn, parts), (self.counts, counts)):
            pooled = _pooled(content, self.cell_px)
            target[:, top : top + pooled.shape[1], left : left + pooled.shape[2]] += pooled
        errors = np.full((2, *evaluated.shape), np.nan, np.float32)
        errors[0, evaluated] = np.sqrt(squares[evaluated] / len(truth))
        errors[1, evaluated] = np.sqrt(squares[evaluated] / norms[evaluated])
        return errors

    def result(self, reference: AbundanceMap) -> AbundanceAssessment:
        legend = self.legend
        keys = sorted(self.blocks)
        count = len(legend)
        with np.errstate(invalid="ignore", divide="ignore"):
            overview = Overview(
                map_shares=(self.drawn[:count] / self.counts[0]).astype(np.float32),
                reference_shares=(self.drawn[count : 2 * count] / self.counts[1]).astype(np.float32),
                rmse=np.sqrt(self.drawn[-2] / self.counts[2] / count).astype(np.float32),
                rrmse=np.sqrt(self.drawn[-2] / self.drawn[-1]).astype(np.float32),
                cell_px=self.cell_px,
            )
        return AbundanceAssessment(
            map_path=self.map.path,
            reference_path=reference.path,
            grid=self.map.grid,
            sums=sum((self.blocks[key] for key in keys), AbundanceSums.empty(legend)),
            block_names=tuple(f"{row + 1}.{col + 1}" for row, col in keys),
            block_sums=tuple(self.blocks[key] for key in keys),
            density=self.density,
            levels=self.levels,
            overview=overview,
            remaining=self.remaining,
            calibration=self.calibration,
        )


def _check(map: AbundanceMap, reference: AbundanceMap) -> None:
    if pixel_offset(map.grid, reference.grid) is None:
        raise GridError(
            f"{map.path} and {reference.path} have different pixels. Write the reference's shares on the map's grid "
            f"(tesela label REFERENCE --like MAP --fractions)."
        )
    fine, legend = reference.legend, map.legend
    if fine.name != legend.name or fine.depth < legend.depth or fine.level(legend.depth) != legend:
        raise InputError(
            f"{map.path} is in legend '{legend.address}', {reference.path} in '{fine.address}'; both must be in one "
            f"legend, the reference at the same or a finer level."
        )


def _pooled(content: NDArray[np.floating], cell_px: int) -> NDArray[np.float64]:
    """Sums over squares of pixels, the last ones cut at the edges."""
    rows, cols = content.shape[1:]
    down = np.add.reduceat(content.astype(np.float64), np.arange(0, rows, cell_px), axis=1)
    return np.asarray(np.add.reduceat(down, np.arange(0, cols, cell_px), axis=2))
