"""The minimum width: narrower parts of areas go to the areas beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.flooding import continue_classes, give_narrow
from tesela.generalise.labelling import find, label_regions
from tesela.generalise.opening import Disc, find_narrow, open_classes
from tesela.generalise.strips import Plan, Strip
from tesela.generalise.unit import NO_CLASSES, NO_PRIORITY, Tally
from tesela.io.scratch import ScratchRaster


@dataclass(frozen=True)
class Moves:
    """Pixels that changed class in a strip, and their connected pieces."""

    pixels: NDArray[np.int64]
    codes: NDArray[np.uint16]
    """Class before x 256 + class after, of each piece."""
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]


def count_moves(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Moves:
    """Compare a strip before and after."""
    codes: NDArray[np.uint16] = np.zeros(before.shape, np.uint16)
    pixels = np.zeros((256, 256), np.int64)
    _code_moves(before, after, codes, pixels)
    labels, count = label_regions(codes)
    piece_codes = np.zeros(count, np.uint16)
    _piece_codes(labels, codes, piece_codes)
    return Moves(pixels, piece_codes, labels[0].copy(), labels[-1].copy())


class Pieces:
    """Counts connected pieces of pixels with the same change, across strips."""

    def __init__(self) -> None:
        self._codes: list[NDArray[np.uint16]] = []
        self._seams: list[tuple[NDArray[np.int32], NDArray[np.int32], int, int]] = []
        self._bottom: tuple[NDArray[np.int32], int] | None = None
        self._count = 0

    def add(self, moves: Moves) -> None:
        """Add the next strip below."""
        first = self._count
        if self._bottom is not None:
            self._seams.append((self._bottom[0], moves.top, self._bottom[1], first))
        self._bottom = (moves.bottom, first)
        self._codes.append(moves.codes)
        self._count += len(moves.codes)

    def areas(self) -> NDArray[np.int64]:
        """Pieces by class value before and after, (256, 256)."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, np.uint16)
        parent = np.arange(len(codes), dtype=np.int64)
        for above, below, first_above, first_below in self._seams:
            _join_pieces(parent, codes, above, below, first_above, first_below)
        single = codes[parent == np.arange(len(codes))]
        return np.bincount(single.astype(np.int64), minlength=1 << 16).reshape(256, 256)


@njit(nogil=True, cache=True)
def _code_moves(before, after, codes, pixels):  # type: ignore[no-untyped-def]
    rows, cols = before.shape
    for y in range(rows):
        for x in range(cols):
            a, b = before[y, x], after[y, x]
            pixels[a, b] += 1
            if a != b:
                codes[y, x] = np.uint16(a) * np.uint16(256) + np.uint16(b)


@njit(nogil=True, cache=True)
def _piece_codes(labels, codes, piece_codes):  # type: ignore[no-untyped-def]
    rows, cols = labels.shape
    for y in range(rows):
        for x in range(cols):
            if labels[y, x] >= 0:
                piece_codes[labels[y, x]] = codes[y, x]


@njit(nogil=True, cache=True)
def _join_pieces(parent, codes, above, below, first_above, first_below):  # type: ignore[no-untyped-def]
    for x in range(above.size):
        if above[x] >= 0 and below[x] >= 0:
            a, b = above[x] + first_above, below[x] + first_below
            if codes[a] == codes[b]:
                a, b = find(parent, a), find(parent, b)
                if a != b:
                    parent[max(a, b)] = min(a, b)


Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True)
class WidthRule:
    """What is narrow, and which neighbour gets it."""

    disc: Disc
    ranks: NDArray[np.int32]
    """(256, 256): rank of a neighbour's class (column) for a class (row); lower is better."""
    exempt: NDArray[np.bool_]
    """(256,): class values whose areas may be narrow; they neither lose nor gain pixels here."""
    edges: str = "keep"
    """"keep": each class continues beyond the edge and under nodata; "merge": it ends there."""

    @property
    def halo_px(self) -> int:
        """Rows around a strip that its result depends on: mark narrow parts, give them away, mark again."""
        return 2 * self.disc.reach_px + self.disc.side_px + 2


def drop_narrow_parts(
    values: NDArray[np.uint8],
    *,
    width_px: float,
    ranks: NDArray[np.int32] = NO_PRIORITY,
    exempt: NDArray[np.bool_] = NO_CLASSES,
    edges: str = "keep",
    plan: Plan | None = None,
) -> NDArray[np.uint8]:
    """
    Give the parts of areas that are narrower than a width to the areas beside them, once.

    A part is narrow where no disc of the width fits into its class (morphological opening), except for what the
    opening removes at right-angled corners. Each narrow pixel gets the class of wide pixels that are within the
    width, through narrow pixels of its own class: the class of lowest rank, then the nearest, then the one that
    touches more of its sides, then the lowest value. Pixels that reach no wide pixels, or would be narrow in their
    new class too, do not change, so repeated calls come to an end. No rule depends on positions.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values; 0 is nodata.
    width_px : float
        Minimum width in pixels.

    Returns
    -------
    (rows, cols) array of uint8
    """
    result = ScratchRaster.of(np.empty_like(values))
    rule = WidthRule(Disc(width_px), np.ascontiguousarray(ranks), exempt, edges)
    widen(ScratchRaster.of(values), result, rule=rule, plan=plan or Plan())
    return result.read(0, values.shape[0])


def widen(source: ScratchRaster, target: ScratchRaster, *, rule: WidthRule, plan: Plan) -> Tally:
    """Apply `drop_narrow_parts` to a raster of any size, from one scratch raster to another."""
    strips = _tall(plan).strips(source.shape)

    def work(strip: Strip) -> Moves:
        window = _Window.around(strip, source, rule)
        narrow = window.narrow(rule)
        given = give_narrow(window.values, narrow, rule.ranks, rule.exempt, rule.disc.side_px)
        moved = given != window.values
        if moved.any():
            still_narrow = moved & replace(window, values=given).narrow(rule)
            given = np.where(still_narrow, window.values, given)
        before, after = window.cut(window.values), window.cut(given)
        target.write(strip.first, after)
        return count_moves(before, after)

    pixels = np.zeros((256, 256), np.int64)
    pieces = Pieces()
    for moves in plan.each(work, strips):
        pixels += moves.pixels
        pieces.add(moves)
    return Tally(pieces.areas(), pixels)


def survey_narrow(
    source: ScratchRaster,
    *,
    rule: WidthRule,
    plan: Plan,
    draw: Callable[[int, NDArray[np.uint8]], None] | None = None,
) -> NDArray[np.int64]:
    """
    Count the pixels of narrow parts by class value, (256,) int64.

    Parameters
    ----------
    draw : function of (row, values), optional
        Called with the classes of narrow pixels (0 elsewhere), strip by strip.
    """
    strips = _tall(plan).strips(source.shape)

    def work(strip: Strip) -> tuple[int, NDArray[np.uint8]]:
        window = _Window.around(strip, source, rule)
        values = np.where(window.cut(window.narrow(rule)), window.cut(window.values), np.uint8(0))
        return strip.first, values

    counts = np.zeros(256, np.int64)
    for first, values in plan.each(work, strips):
        counts += np.bincount(values.ravel(), minlength=256)
        if draw is not None:
            draw(first, values)
    counts[0] = 0
    return counts


def _tall(plan: Plan) -> Plan:
    """Strips four times as tall, because each is read with a halo."""
    return Plan(4 * plan.strip_px, plan.threads)


@dataclass(frozen=True)
class _Window:
    """A strip with its halo, and a margin of nodata at the end of the map."""

    values: NDArray[np.uint8]
    top: int
    rows: int
    margin: int

    @classmethod
    def around(cls, strip: Strip, source: ScratchRaster, rule: WidthRule) -> _Window:
        rows, cols = source.shape
        halo, margin = rule.halo_px, rule.disc.side_px
        first, stop = max(0, strip.first - halo), min(rows, strip.stop + halo)
        above = margin if first == 0 else 0
        below = margin if stop == rows else 0
        values = np.zeros((above + stop - first + below, cols + 2 * margin), np.uint8)
        values[above : above + stop - first, margin : margin + cols] = source.read(first, stop)
        return cls(values, above + strip.first - first, strip.stop - strip.first, margin)

    def cut(self, window: NDArray[Pixel]) -> NDArray[Pixel]:
        return window[self.top : self.top + self.rows, self.margin : window.shape[1] - self.margin]

    def narrow(self, rule: WidthRule) -> NDArray[np.bool_]:
        filled = self.values
        if rule.edges == "keep":
            filled = continue_classes(self.values, 2 * rule.disc.side_px)
        opened = open_classes(filled, rule.disc.half_runs, rule.disc.side_px)
        narrow: NDArray[np.bool_] = find_narrow(self.values, opened, rule.disc.corner_steps, rule.exempt)
        return narrow
