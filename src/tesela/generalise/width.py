"""The minimum width: narrower parts of areas go to the areas beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.generalise.labelling import PieceCounter, StripMoves, count_moves
from tesela.generalise.opening import Disc, find_narrow, list_pixels, open_classes
from tesela.generalise.strips import Plan, Strip
from tesela.generalise.unit import NO_CLASSES, NO_PRIORITY, Tally
from tesela.io.scratch import ScratchRaster

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

    def work(strip: Strip) -> StripMoves:
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
    pieces = PieceCounter()
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


@njit(nogil=True, cache=True)
def continue_classes(values: NDArray[np.uint8], steps: int) -> NDArray[np.uint8]:
    """Grow the classes into nodata by `steps` pixels; where two meet, the lower value wins."""
    rows, cols = values.shape
    filled = values.copy()
    queued = np.zeros((rows, cols), np.bool_)
    for y in range(rows):
        for x in range(cols):
            if values[y, x] == 0 and (
                (y > 0 and values[y - 1, x] != 0)
                or (y + 1 < rows and values[y + 1, x] != 0)
                or (x > 0 and values[y, x - 1] != 0)
                or (x + 1 < cols and values[y, x + 1] != 0)
            ):
                queued[y, x] = True
    front = list_pixels(queued)
    count = front.size
    for _ in range(steps):
        grown = np.empty(count, np.uint8)
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            best = 255
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                if 0 <= v < rows and 0 <= u < cols and filled[v, u] != 0:
                    best = min(best, filled[v, u])
            grown[k] = best
        after = np.empty(4 * count, np.int64)
        size = 0
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            filled[y, x] = grown[k]
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                if 0 <= v < rows and 0 <= u < cols and filled[v, u] == 0 and not queued[v, u]:
                    queued[v, u] = True
                    after[size] = v * cols + u
                    size += 1
        front, count = after, size
    return filled


@njit(nogil=True, cache=True)
def give_narrow(values, narrow, ranks, exempt, steps):  # type: ignore[no-untyped-def]
    """
    Give each narrow pixel the class of wide pixels within `steps` pixels, through narrow pixels of its class.

    Offers spread from pixel to pixel in rounds, all pixels of a round at once. An offer is a class; the lowest rank
    wins, then the earliest round.

    Parameters
    ----------
    values : (rows, cols) array of uint8
    narrow : (rows, cols) array of bool
    ranks : (256, 256) array of int32
    exempt : (256,) array of bool
        Class values that get no pixels.

    Returns
    -------
    (rows, cols) array of uint8
    """
    rows, cols = values.shape
    given = values.copy()
    taken = np.zeros((rows, cols), np.bool_)  # narrow pixels with an offer, which `given` holds
    queued = np.zeros((rows, cols), np.bool_)
    for y in range(rows):
        for x in range(cols):
            if narrow[y, x] and (
                (y > 0 and not narrow[y - 1, x])
                or (y + 1 < rows and not narrow[y + 1, x])
                or (x > 0 and not narrow[y, x - 1])
                or (x + 1 < cols and not narrow[y, x + 1])
            ):
                queued[y, x] = True
    front = list_pixels(queued)
    count = front.size
    for step in range(1, steps + 1):
        changed = np.empty(count, np.int64)
        offers = np.empty(count, np.uint8)
        size = 0
        for k in range(count):
            y, x = front[k] // cols, front[k] % cols
            queued[y, x] = False
            own = values[y, x]
            best = _best_offer(y, x, step == 1, values, narrow, given, taken, ranks[own], exempt)
            if best != 0 and (not taken[y, x] or ranks[own, best] < ranks[own, given[y, x]]):
                changed[size] = front[k]
                offers[size] = best
                size += 1
        for k in range(size):
            y, x = changed[k] // cols, changed[k] % cols
            given[y, x] = offers[k]
            taken[y, x] = True
        front = np.empty(4 * size, np.int64)
        count = 0
        for k in range(size):
            y, x = changed[k] // cols, changed[k] % cols
            for t in range(4):
                v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
                inside = 0 <= v < rows and 0 <= u < cols
                if inside and narrow[v, u] and not queued[v, u] and values[v, u] == values[y, x]:
                    queued[v, u] = True
                    front[count] = v * cols + u
                    count += 1
    return given


@njit(nogil=True, cache=True)
def _best_offer(y, x, from_wide, values, narrow, given, taken, rank, exempt):  # type: ignore[no-untyped-def]
    """Best class that a neighbour offers: wide neighbours in round one, narrow ones later."""
    rows, cols = values.shape
    own = values[y, x]
    offered = np.zeros(4, np.uint8)
    for t in range(4):
        v, u = y + (t == 0) - (t == 1), x + (t == 2) - (t == 3)
        if not (0 <= v < rows and 0 <= u < cols) or values[v, u] == 0:
            continue
        if from_wide:
            if not narrow[v, u] and values[v, u] != own and not exempt[values[v, u]]:
                offered[t] = values[v, u]
        elif narrow[v, u] and values[v, u] == own and taken[v, u]:
            offered[t] = given[v, u]
    best = np.uint8(0)
    most = 0
    for t in range(4):
        kind = offered[t]
        if kind == 0:
            continue
        votes = 0
        for s in range(4):
            votes += offered[s] == kind
        if (
            best == 0
            or rank[kind] < rank[best]
            or (rank[kind] == rank[best] and (votes > most or (votes == most and kind < best)))
        ):
            best, most = kind, votes
    return best
