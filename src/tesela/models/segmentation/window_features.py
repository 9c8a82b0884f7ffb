"""Window features: what trees see of a pixel and of the windows around it, computed row by row in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.feature_spec import LARGEST, STATISTICS, STEPS, FeatureSpec

_HOLE = 16384
"""Added to or taken from pixels without data where an extreme is looked for; more than `LARGEST`."""


@dataclass(frozen=True)
class FeaturePlan:
    """What the kernels compute for a `FeatureSpec`, as arrays."""

    pairs: NDArray[np.int32]
    """(normalised differences, 2): positions of bands."""
    layers: NDArray[np.bool_]
    """(layers,): whether a feature reads it."""
    sums: NDArray[np.int32]
    """(sums, 6): layer, half of the side, position in `halves`, bits that values lose, rows of the mean and of the
    deviation among the features, -1 for none."""
    halves: NDArray[np.int32]
    """(sides,): half sides of the windows of sums."""
    others: NDArray[np.int32]
    """(others, 4): layer, position in `STATISTICS`, half of the side, row among the features."""
    margin_px: int


@lru_cache(maxsize=64)
def plan_features(spec: FeatureSpec) -> FeaturePlan:
    """Plan of a specification: windows that a mean and a deviation share are summed once."""
    sums: dict[tuple[int, int], list[int]] = {}
    halves: list[int] = []
    others = []
    used = np.zeros(spec.layers, np.bool_)
    for row, item in enumerate(spec.features):
        used[item.layer] = True
        half = item.side_px // 2
        if item.statistic in ("mean", "deviation"):
            if half not in halves:
                halves.append(half)
            entry = sums.setdefault(
                (item.layer, half), [item.layer, half, halves.index(half), lost_bits(item.side_px), -1, -1]
            )
            entry[4 if item.statistic == "mean" else 5] = row
        else:
            others.append([item.layer, STATISTICS.index(item.statistic), half, row])
    return FeaturePlan(
        np.array(spec.differences, np.int32).reshape(-1, 2),
        used,
        np.array(list(sums.values()), np.int32).reshape(-1, 6),
        np.array(halves, np.int32),
        np.array(others, np.int32).reshape(-1, 4),
        spec.margin_px,
    )


def lost_bits(side_px: int) -> int:
    """Bits that values lose before they are summed, so that the sum of squares of a window fits into 32 bits."""
    bits = 0
    while ((LARGEST >> bits) + 1) ** 2 * side_px**2 >= 1 << 32:
        bits += 1
    return bits


def compute_features(
    image: NDArray[np.float32],
    spec: FeatureSpec,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    *,
    rows: slice | None = None,
) -> NDArray[np.int16]:
    """
    Features of an image; for training, mapping computes them row by row (`next_row`) and keeps none.

    Parameters
    ----------
    image : (rows, cols, bands) array of float32
        Standardised; 0 in every band where there is no data.
    mean, std : (bands,) arrays of float32
        With which it was standardised: differences are taken of physical quantities.
    rows : slice, optional
        Rows that are wanted; default: all.

    Returns
    -------
    (features, rows, cols) array of int16
    """
    first, last, _ = (rows or slice(None)).indices(image.shape[0])
    out = np.empty((len(spec.features), max(0, last - first), image.shape[1]), np.int16)
    _all_rows(
        np.ascontiguousarray(image, np.float32),
        np.asarray(mean, np.float32),
        np.asarray(std, np.float32),
        *arrays_of(spec),
        first,
        out,
    )
    return out


def arrays_of(spec: FeatureSpec) -> tuple[NDArray[np.int32], ...]:
    """The plan of a specification in the order of the kernels' parameters."""
    plan = plan_features(spec)
    return plan.pairs, plan.layers, plan.sums, plan.halves, plan.others, plan.margin_px  # type: ignore[return-value]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _all_rows(image, mean, std, pairs, used, sums, halves, others, margin, first, out):  # type: ignore[no-untyped-def]
    state = start_rows(image, mean, std, pairs, used, sums, halves, margin, first)
    for step in range(out.shape[1]):
        next_row(
            image, mean, std, pairs, used, sums, halves, others, margin, first + step, state, out[:, step]
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def start_rows(image, mean, std, pairs, used, sums, halves, margin, first):  # type: ignore[no-untyped-def]
    """
    Quantised rows around row `first`, and the sums of their columns up to the row before it.

    Returns
    -------
    tuple of arrays
        What `next_row` reads and changes: layers of the last rows in turn and one row of zeros, where these have data,
        sums of the columns, of their squares, and the numbers of pixels with data. All have `margin` empty columns on
        both sides.
    """
    rows, cols = image.shape[:2]
    width = cols + 2 * margin
    turn = 2 * margin + 2
    layers = np.zeros((turn + 1, len(used), width), np.int16)
    there = np.zeros((turn + 1, width), np.int16)
    total = np.zeros((len(sums), width), np.int32)
    square = np.zeros((len(sums), width), np.uint32)
    number = np.zeros((len(halves), width), np.int32)
    for y in range(max(0, first - margin - 1), min(rows, first + margin)):
        slot = y % turn
        _quantise_row(image[y], mean, std, pairs, used, margin, layers[slot], there[slot])
        for s in range(len(sums)):
            if first - sums[s, 1] - 1 <= y < first + sums[s, 1]:
                _slide(
                    layers[slot, sums[s, 0]],
                    layers[turn, 0],
                    sums[s, 3],
                    total[s],
                    square[s],
                    sums[s, 5] >= 0,
                )
        for k in range(len(halves)):
            if first - halves[k] - 1 <= y < first + halves[k]:
                _count(there[slot], there[turn], number[k])
    return layers, there, total, square, number


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _quantise_row(image, mean, std, pairs, used, margin, layers, there):  # type: ignore[no-untyped-def]
    """Layers of a row (cols, bands) in whole numbers, (layers, width); 1 where there is data."""
    cols, bands = image.shape
    most = np.float32(LARGEST)
    planes = np.empty((bands, cols), np.float32)
    amount = np.zeros(cols, np.float32)
    total = np.zeros(cols, np.float32)
    here = there[margin : margin + cols]
    for band in range(bands):
        plane = planes[band]
        for x in range(cols):
            plane[x] = image[x, band]
        for x in range(cols):
            amount[x] += abs(plane[x])
            total[x] += plane[x]
        if used[band]:
            out = layers[band, margin : margin + cols]
            for x in range(cols):
                out[x] = np.int16(min(max(np.rint(plane[x] * np.float32(STEPS)), -most), most))
    for x in range(cols):
        here[x] = np.int16(1) if amount[x] > 0 else np.int16(0)
    for k in range(len(pairs)):
        if used[bands + k]:
            out = layers[bands + k, margin : margin + cols]
            one, other = planes[pairs[k, 0]], planes[pairs[k, 1]]
            gain, bias = std[pairs[k, 0]], mean[pairs[k, 0]]
            gain2, bias2 = std[pairs[k, 1]], mean[pairs[k, 1]]
            for x in range(cols):
                a = one[x] * gain + bias
                b = other[x] * gain2 + bias2
                size = max(abs(a) + abs(b), np.float32(1e-30))
                value = np.rint((a - b) / size * np.float32(32 * STEPS))
                out[x] = np.int16(min(max(value, -most), most)) * here[x]
    if used[bands + len(pairs)]:
        out = layers[bands + len(pairs), margin : margin + cols]
        gain = np.float32(STEPS) / np.float32(bands)
        for x in range(cols):
            out[x] = np.int16(min(max(np.rint(total[x] * gain), -most), most))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _slide(new, old, bits, total, square, squared):  # type: ignore[no-untyped-def]
    """Add a row to the sums of the columns and take another one away."""
    if squared:
        for x in range(len(total)):
            a, b = np.int32(new[x]) >> bits, np.int32(old[x]) >> bits
            total[x] += a - b
            square[x] += np.uint32(a * a) - np.uint32(b * b)
    else:
        for x in range(len(total)):
            total[x] += (np.int32(new[x]) >> bits) - (np.int32(old[x]) >> bits)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _count(new, old, number):  # type: ignore[no-untyped-def]
    for x in range(len(number)):
        number[x] += np.int32(new[x]) - np.int32(old[x])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def next_row(image, mean, std, pairs, used, sums, halves, others, margin, y, state, out):  # type: ignore[no-untyped-def]
    """Features of row `y`, (features, cols or more); rows come in order after `start_rows`."""
    layers, there, total, square, number = state
    rows, cols = image.shape[:2]
    turn = layers.shape[0] - 1
    width = cols + 2 * margin
    if y + margin < rows:
        slot = (y + margin) % turn
        _quantise_row(image[y + margin], mean, std, pairs, used, margin, layers[slot], there[slot])
    run = np.empty(width + 1, np.int32)
    squares = np.empty(width + 1, np.uint32)
    pixels = np.empty((len(halves), cols), np.int32)  # with data in the window
    share = np.empty((len(halves), cols), np.float32)  # 1 / pixels
    for k in range(len(halves)):
        half = halves[k]
        new = (y + half) % turn if y + half < rows else turn
        old = (y - half - 1) % turn if y - half - 1 >= 0 else turn
        _count(there[new], there[old], number[k])
        _scan(number[k], run)
        low, high = run[margin - half :], run[margin + half + 1 :]
        count, part = pixels[k], share[k]
        for x in range(cols):
            count[x] = high[x] - low[x]
            part[x] = np.float32(1) / np.float32(max(count[x], 1))
    for s in range(len(sums)):
        layer, half, side, bits = sums[s, 0], sums[s, 1], sums[s, 2], sums[s, 3]
        squared = sums[s, 5] >= 0
        new = (y + half) % turn if y + half < rows else turn
        old = (y - half - 1) % turn if y - half - 1 >= 0 else turn
        _slide(layers[new, layer], layers[old, layer], bits, total[s], square[s], squared)
        low, high = run[margin - half :], run[margin + half + 1 :]
        if squared:
            _scan_both(total[s], square[s], run, squares)
            below, above = squares[margin - half :], squares[margin + half + 1 :]
            _deviations(low, high, below, above, pixels[side], share[side], bits, out[sums[s, 5]])
        else:
            _scan(total[s], run)
        if sums[s, 4] >= 0:
            _means(low, high, share[side], bits, out[sums[s, 4]])
    for f in range(len(others)):
        layer, kind, half = others[f, 0], others[f, 1], others[f, 2]
        row = out[others[f, 3]]
        here = y % turn
        if kind == 0:
            values = layers[here, layer, margin:]
            for x in range(cols):
                row[x] = values[x]
        elif kind == 5:
            up = (y - half) % turn if y - half >= 0 else turn
            down = (y + half) % turn if y + half < rows else turn
            _gradients(layers, there, layer, (here, up, down), margin, half, row[:cols])
        else:
            first, last = max(0, y - half), min(rows, y + half + 1)
            _extremes(layers, there, layer, first, last, margin, half, kind == 4, row[:cols])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scan(total, run):  # type: ignore[no-untyped-def]
    """Sums of all columns to the left; they may wrap, their differences are exact."""
    before = np.int32(0)
    run[0] = before
    for x in range(len(total)):
        before += total[x]
        run[x + 1] = before


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scan_both(total, square, run, squares):  # type: ignore[no-untyped-def]
    before, squared = np.int32(0), np.uint32(0)
    run[0], squares[0] = before, squared
    for x in range(len(total)):
        before += total[x]
        squared += square[x]
        run[x + 1] = before
        squares[x + 1] = squared


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _means(low, high, share, bits, out):  # type: ignore[no-untyped-def]
    scale = np.float32(1 << bits)
    for x in range(len(share)):
        out[x] = np.int16(np.rint(np.float32(high[x] - low[x]) * share[x] * scale))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _deviations(low, high, below, above, pixels, share, bits, out):  # type: ignore[no-untyped-def]
    """Squares are taken from the rounded mean, in whole numbers, so that nothing is lost to rounding."""
    scale = np.float32(1 << bits)
    for x in range(len(share)):
        whole = np.int32(high[x] - low[x])
        mean = np.float32(whole) * share[x]
        near = np.rint(mean)
        middle = np.int32(near)
        lost = np.uint32(middle * np.int32(2 * whole - np.int32(pixels[x] * middle)))
        around = np.uint32(np.uint32(above[x] - below[x]) - lost)
        spread = np.float32(around) * share[x] - (mean - near) * (mean - near)
        out[x] = np.int16(np.rint(np.sqrt(max(spread, np.float32(0))) * scale))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gradients(layers, there, layer, slots, margin, half, out):  # type: ignore[no-untyped-def]
    here, up, down = slots
    left, right = layers[here, layer, margin - half :], layers[here, layer, margin + half :]
    above, below = layers[up, layer, margin:], layers[down, layer, margin:]
    west, east = there[here, margin - half :], there[here, margin + half :]
    north, south = there[up, margin:], there[down, margin:]
    for x in range(len(out)):
        dx = np.float32((np.int32(right[x]) - np.int32(left[x])) * np.int32(west[x] & east[x]))
        dy = np.float32((np.int32(below[x]) - np.int32(above[x])) * np.int32(north[x] & south[x]))
        out[x] = np.int16(np.rint(np.sqrt(dx * dx + dy * dy)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _extremes(layers, there, layer, first, last, margin, half, largest, out):  # type: ignore[no-untyped-def]
    """Smallest or largest value of the window, 0 where it has no data."""
    turn = layers.shape[0] - 1
    sign = np.int16(1) if largest else np.int16(-1)
    width = len(out) + 2 * half
    best = np.full(width, np.int16(-_HOLE), np.int16)
    for y in range(first, last):
        values, data = layers[y % turn, layer, margin - half :], there[y % turn, margin - half :]
        for x in range(width):
            value = np.int16(sign * values[x]) if data[x] > 0 else np.int16(-_HOLE)
            best[x] = max(best[x], value)
    # windows of 2, 4, 8... columns, then two of them that overlap
    wide, side = best.copy(), 1
    while 2 * side <= 2 * half + 1:
        further = wide[side:]
        for x in range(width - 2 * side + 1):
            best[x] = max(wide[x], further[x])
        side *= 2
        wide, best = best, wide
    further = wide[2 * half + 1 - side :]
    for x in range(len(out)):
        value = max(wide[x], further[x])
        out[x] = np.int16(sign * value) if value > -_HOLE else np.int16(0)
