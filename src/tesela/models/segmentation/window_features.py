"""Window features: what trees see of a pixel and of the windows around it, computed row by row in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.feature_spec import LARGEST, MISSING, STATISTICS, STEPS, FeatureSpec

_NONE = np.int16(MISSING)


@dataclass(frozen=True)
class FeaturePlan:
    """What the kernels compute for a `FeatureSpec`, as arrays."""

    pairs: NDArray[np.int32]
    """(normalised differences, 2): positions of bands."""
    layers: NDArray[np.bool_]
    """(layers,): whether a feature reads it."""
    planes: NDArray[np.int32]
    """(layers,): plane of data of each layer, `FeatureSpec.planes`."""
    sums: NDArray[np.int32]
    """(sums, 6): layer, half of the side, position in `windows`, bits that values lose, rows of the mean and of the
    deviation among the features, -1 for none."""
    windows: NDArray[np.int32]
    """(windows, 2): half of the side and plane of data of the windows of sums."""
    others: NDArray[np.int32]
    """(others, 5): layer, position in `STATISTICS`, half of the side, row among the features, plane of data."""
    margin_px: int


@lru_cache(maxsize=64)
def plan_features(spec: FeatureSpec) -> FeaturePlan:
    """Plan of a specification: windows that a mean and a deviation share are summed once."""
    sums: dict[tuple[int, int], list[int]] = {}
    windows: list[tuple[int, int]] = []
    others = []
    used = np.zeros(spec.layers, np.bool_)
    planes = spec.planes
    for row, item in enumerate(spec.features):
        used[item.layer] = True
        half = item.side_px // 2
        if item.statistic in ("mean", "deviation"):
            window = (half, planes[item.layer])
            if window not in windows:
                windows.append(window)
            entry = sums.setdefault(
                (item.layer, half), [item.layer, half, windows.index(window), lost_bits(item.side_px), -1, -1]
            )
            entry[4 if item.statistic == "mean" else 5] = row
        else:
            others.append([item.layer, STATISTICS.index(item.statistic), half, row, planes[item.layer]])
    return FeaturePlan(
        np.array(spec.differences, np.int32).reshape(-1, 2),
        used,
        np.array(planes, np.int32),
        np.array(list(sums.values()), np.int32).reshape(-1, 6),
        np.array(windows, np.int32).reshape(-1, 2),
        np.array(others, np.int32).reshape(-1, 5),
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
        arrays_of(spec),
        first,
        out,
    )
    return out


def arrays_of(spec: FeatureSpec) -> tuple[Any, ...]:
    """The plan of a specification as the kernels take it."""
    plan = plan_features(spec)
    return plan.pairs, plan.layers, plan.planes, plan.sums, plan.windows, plan.others, plan.margin_px


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _all_rows(image, mean, std, plan, first, out):  # type: ignore[no-untyped-def]
    state = start_rows(image, mean, std, plan, first)
    for step in range(out.shape[1]):
        next_row(image, mean, std, plan, first + step, state, out[:, step])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def start_rows(image, mean, std, plan, first):  # type: ignore[no-untyped-def]
    """
    Quantised rows around row `first`, and the sums of their columns up to the row before it.

    Parameters
    ----------
    image : (rows, cols, bands) array of float32
    mean, std : (bands,) arrays of float32
    plan : tuple
        `arrays_of`.

    Returns
    -------
    tuple of arrays
        What `next_row` reads and changes: layers of the last rows in turn and one row of zeros, where these have data,
        sums of the columns, of their squares, and the numbers of pixels with data. All have `margin` empty columns on
        both sides.
    """
    pairs, used, planes, sums, windows, _, margin = plan
    rows, cols = image.shape[:2]
    width = cols + 2 * margin
    turn = 2 * margin + 2
    layers = np.zeros((turn + 1, len(used), width), np.int16)
    there = np.zeros((turn + 1, planes.max() + 1, width), np.int16)
    total = np.zeros((len(sums), width), np.int32)
    square = np.zeros((len(sums), width), np.uint32)
    number = np.zeros((len(windows), width), np.int32)
    for y in range(max(0, first - margin - 1), min(rows, first + margin)):
        slot = y % turn
        _quantise_row(image[y], mean, std, pairs, used, planes, margin, layers[slot], there[slot])
        for s in range(len(sums)):
            layer, half, bits, squared = sums[s, 0], sums[s, 1], sums[s, 3], sums[s, 5] >= 0
            if first - half - 1 <= y < first + half:
                _slide(layers[slot, layer], layers[turn, 0], bits, total[s], square[s], squared)
        for k in range(len(windows)):
            if first - windows[k, 0] - 1 <= y < first + windows[k, 0]:
                _count(there[slot, windows[k, 1]], there[turn, 0], number[k])
    return layers, there, total, square, number


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _quantise_row(image, mean, std, pairs, used, planes, margin, layers, there):  # type: ignore[no-untyped-def]
    """Layers of a row (cols, bands) as (layers, width), and 1 where a plane has data as (planes, width)."""
    cols, bands = image.shape
    most = np.float32(LARGEST)
    values = np.empty((bands, cols), np.float32)
    total = np.zeros(cols, np.float32)
    there[:] = 0
    every = there[-1, margin : margin + cols]
    for band in range(bands):
        row, here = values[band], there[planes[band], margin : margin + cols]
        for x in range(cols):
            row[x] = image[x, band]
        for x in range(cols):
            here[x] |= np.int16(1) if row[x] != 0 else np.int16(0)
            total[x] += row[x]
        if used[band]:
            out = layers[band, margin : margin + cols]
            for x in range(cols):
                out[x] = np.int16(min(max(np.rint(row[x] * np.float32(STEPS)), -most), most))
    for plane in range(len(there) - 1):
        here = there[plane, margin : margin + cols]
        for x in range(cols):
            every[x] |= here[x]
    for k in range(len(pairs)):
        if used[bands + k]:
            out = layers[bands + k, margin : margin + cols]
            here = there[planes[bands + k], margin : margin + cols]
            one, other = values[pairs[k, 0]], values[pairs[k, 1]]
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
        number = np.zeros(cols, np.int32)  # bands with data
        for band in range(bands):
            here = there[planes[band], margin : margin + cols]
            for x in range(cols):
                number[x] += here[x]
        for x in range(cols):
            value = np.rint(total[x] * np.float32(STEPS) / np.float32(max(number[x], 1)))
            out[x] = np.int16(min(max(value, -most), most))


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
def next_row(image, mean, std, plan, y, state, out):  # type: ignore[no-untyped-def]
    """Features of row `y`, (features, cols or more) array of int16; rows come in order after `start_rows`."""
    pairs, used, planes, sums, windows, others, margin = plan
    layers, there, total, square, number = state
    rows, cols = image.shape[:2]
    turn = layers.shape[0] - 1
    width = cols + 2 * margin
    if y + margin < rows:
        slot = (y + margin) % turn
        _quantise_row(image[y + margin], mean, std, pairs, used, planes, margin, layers[slot], there[slot])
    run = np.empty(width + 1, np.int32)
    squares = np.empty(width + 1, np.uint32)
    pixels = np.empty((len(windows), cols), np.int32)  # with data in the window
    share = np.empty((len(windows), cols), np.float32)  # 1 / pixels
    for k in range(len(windows)):
        half, plane = windows[k, 0], windows[k, 1]
        new = (y + half) % turn if y + half < rows else turn
        old = (y - half - 1) % turn if y - half - 1 >= 0 else turn
        _count(there[new, plane], there[old, plane], number[k])
        _scan(number[k], run)
        low, high = run[margin - half :], run[margin + half + 1 :]
        count, part = pixels[k], share[k]
        for x in range(cols):
            count[x] = high[x] - low[x]
            part[x] = np.float32(1) / np.float32(max(count[x], 1))
    for s in range(len(sums)):
        layer, half, window, bits = sums[s, 0], sums[s, 1], sums[s, 2], sums[s, 3]
        squared = sums[s, 5] >= 0
        new = (y + half) % turn if y + half < rows else turn
        old = (y - half - 1) % turn if y - half - 1 >= 0 else turn
        _slide(layers[new, layer], layers[old, layer], bits, total[s], square[s], squared)
        low, high = run[margin - half :], run[margin + half + 1 :]
        if squared:
            _scan_both(total[s], square[s], run, squares)
            below, above = squares[margin - half :], squares[margin + half + 1 :]
            _deviations(low, high, below, above, pixels[window], share[window], bits, out[sums[s, 5]])
        else:
            _scan(total[s], run)
        if sums[s, 4] >= 0:
            _means(low, high, pixels[window], share[window], bits, out[sums[s, 4]])
    here = y % turn
    for f in range(len(others)):
        layer, kind, half, plane = others[f, 0], others[f, 1], others[f, 2], others[f, 4]
        row = out[others[f, 3], :cols]
        if kind == 0:
            values, data = layers[here, layer, margin:], there[here, plane, margin:]
            for x in range(cols):
                row[x] = values[x] if data[x] > 0 else _NONE
        elif kind == 5:
            up = (y - half) % turn if y - half >= 0 else turn
            down = (y + half) % turn if y + half < rows else turn
            _gradients(layers[:, layer], there[:, plane], (here, up, down), margin, half, row)
        else:
            first, last = max(0, y - half), min(rows, y + half + 1)
            _extremes(layers[:, layer], there[:, plane], first, last, margin, half, kind == 4, row)


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
def _means(low, high, pixels, share, bits, out):  # type: ignore[no-untyped-def]
    scale = np.float32(1 << bits)
    for x in range(len(share)):
        value = np.int16(np.rint(np.float32(high[x] - low[x]) * share[x] * scale))
        out[x] = value if pixels[x] > 0 else _NONE


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
        value = np.int16(np.rint(np.sqrt(max(spread, np.float32(0))) * scale))
        out[x] = value if pixels[x] > 0 else _NONE


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gradients(layer, there, slots, margin, half, out):  # type: ignore[no-untyped-def]
    here, up, down = slots
    left, right = layer[here, margin - half :], layer[here, margin + half :]
    above, below = layer[up, margin:], layer[down, margin:]
    west, east, own = there[here, margin - half :], there[here, margin + half :], there[here, margin:]
    north, south = there[up, margin:], there[down, margin:]
    for x in range(len(out)):
        dx = np.float32((np.int32(right[x]) - np.int32(left[x])) * np.int32(west[x] & east[x]))
        dy = np.float32((np.int32(below[x]) - np.int32(above[x])) * np.int32(north[x] & south[x]))
        value = np.int16(np.rint(np.sqrt(dx * dx + dy * dy)))
        out[x] = value if own[x] | west[x] | east[x] | north[x] | south[x] > 0 else _NONE


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _extremes(layer, there, first, last, margin, half, largest, out):  # type: ignore[no-untyped-def]
    """Smallest or largest value of the window."""
    turn = layer.shape[0] - 1
    sign = np.int16(1) if largest else np.int16(-1)
    width = len(out) + 2 * half
    best = np.full(width, _NONE, np.int16)
    for y in range(first, last):
        values, data = layer[y % turn, margin - half :], there[y % turn, margin - half :]
        for x in range(width):
            value = np.int16(sign * values[x]) if data[x] > 0 else _NONE
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
        out[x] = np.int16(sign * value) if value > _NONE else _NONE
