"""Window features: what trees see of a pixel and of the windows around it, computed row by row in whole numbers."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.feature_spec import STEPS, FeatureSpec

_LARGEST = 32767


def quantise(
    image: NDArray[np.float32], spec: FeatureSpec, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """
    Layers of a standardised image in whole numbers.

    Parameters
    ----------
    image : (rows, cols, bands) array of float32
        Standardised; 0 in every band where there is no data.
    mean, std : (bands,) arrays of float32
        With which it was standardised: differences are taken of physical quantities.

    Returns
    -------
    (rows, layers, cols) array of int16, (rows, cols) array of uint8
        Layers, and 1 where there is data.
    """
    pairs = np.array(spec.differences, np.int32).reshape(-1, 2)
    rows, cols = image.shape[:2]
    layers = np.empty((rows, spec.layers, cols), np.int16)
    valid = np.empty((rows, cols), np.uint8)
    _quantise(np.ascontiguousarray(image, np.float32), pairs, mean, std, layers, valid)
    return layers, valid


def compute_features(
    image: NDArray[np.float32], spec: FeatureSpec, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.int16]:
    """
    All features of an image, (features, rows, cols) array of int16; parameters as `quantise`.

    For training; mapping computes them row by row (`feature_rows`) and keeps none.
    """
    layers, valid = quantise(image, spec, mean, std)
    out = np.empty((image.shape[0], len(spec.features), image.shape[1]), np.int16)
    feature_rows(layers, valid, spec.table(), 0, out)
    return np.ascontiguousarray(out.transpose(1, 0, 2))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _quantise(image, pairs, mean, std, layers, valid):  # type: ignore[no-untyped-def]
    rows, cols, bands = image.shape
    for y in range(rows):
        for x in range(cols):
            there = np.uint8(0)
            total = np.float32(0)
            for band in range(bands):
                value = image[y, x, band]
                if value != 0:
                    there = np.uint8(1)
                total += value
                layers[y, band, x] = np.int16(
                    min(max(np.rint(value * STEPS), np.float32(-_LARGEST)), np.float32(_LARGEST))
                )
            valid[y, x] = there
            for k in range(len(pairs)):
                a = image[y, x, pairs[k, 0]] * std[pairs[k, 0]] + mean[pairs[k, 0]]
                b = image[y, x, pairs[k, 1]] * std[pairs[k, 1]] + mean[pairs[k, 1]]
                size = abs(a) + abs(b)
                ratio = (a - b) / size if size > 0 else np.float32(0)
                layers[y, bands + k, x] = np.int16(np.rint(ratio * (32 * STEPS))) * there
            layers[y, bands + len(pairs), x] = np.int16(
                min(max(np.rint(total / bands * STEPS), np.float32(-_LARGEST)), np.float32(_LARGEST))
            )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def feature_rows(layers, valid, table, first, out):  # type: ignore[no-untyped-def]
    """
    Compute the features of some rows.

    Parameters
    ----------
    layers : (rows, layers, cols) array of int16
    valid : (rows, cols) array of uint8
    table : (features, 3) array of int32
        `FeatureSpec.table`.
    first : int
        First row that is wanted.
    out : (wanted rows, features, cols) array of int16
    """
    state = start_rows(layers, valid, table, first)
    for step in range(out.shape[0]):
        next_row(layers, valid, table, first + step, state, out[step])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def start_rows(layers, valid, table, first):  # type: ignore[no-untyped-def]
    """
    Running sums of the columns over the rows before `first`.

    There is one sum for each layer and side that a mean or a deviation needs, one of squares where it is a deviation,
    and one count of pixels with data for each side.
    """
    rows, _, cols = layers.shape
    count = len(table)
    group = np.full(count, -1, np.int32)  # position of the sums that a feature reads
    sums = 0
    for f in range(count):
        if table[f, 1] == 1 or table[f, 1] == 2:
            for g in range(f):
                if group[g] >= 0 and table[g, 0] == table[f, 0] and table[g, 2] == table[f, 2]:
                    group[f] = group[g]
                    break
            if group[f] < 0:
                group[f] = sums
                sums += 1
    layer_of = np.zeros(sums, np.int32)
    half_of = np.zeros(sums, np.int32)
    squared = np.zeros(sums, np.bool_)
    side_of = np.zeros(sums, np.int32)
    halves = np.zeros(sums, np.int32)
    sides = 0
    for f in range(count):
        if group[f] >= 0:
            s = group[f]
            layer_of[s], half_of[s] = table[f, 0], table[f, 2] // 2
            squared[s] |= table[f, 1] == 2
    for s in range(sums):
        side_of[s] = -1
        for k in range(sides):
            if halves[k] == half_of[s]:
                side_of[s] = k
        if side_of[s] < 0:
            halves[sides] = half_of[s]
            side_of[s] = sides
            sides += 1
    total = np.zeros((sums, cols), np.int32)
    square = np.zeros((sums, cols), np.int64)
    number = np.zeros((sides, cols), np.int32)
    for s in range(sums):
        for y in range(max(0, first - half_of[s] - 1), min(rows, first + half_of[s])):
            _add_row(layers[y, layer_of[s]], valid[y], 1, total[s], square[s], squared[s])
    for k in range(sides):
        for y in range(max(0, first - halves[k] - 1), min(rows, first + halves[k])):
            for x in range(cols):
                number[k, x] += valid[y, x]
    return group, (layer_of, half_of, side_of, squared), halves[:sides], total, square, number


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_row(values, there, sign, total, square, squared):  # type: ignore[no-untyped-def]
    for x in range(len(values)):
        total[x] += sign * np.int32(values[x]) * np.int32(there[x])
    if squared:
        for x in range(len(values)):
            value = np.int64(values[x]) * np.int64(there[x])
            square[x] += sign * value * value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def next_row(layers, valid, table, y, state, out):  # type: ignore[no-untyped-def]
    """Features of row `y`, (features, cols); rows come in order after `start_rows`."""
    group, of, halves, total, square, number = state
    layer_of, half_of, side_of, squared = of
    rows, _, cols = layers.shape
    sums = len(layer_of)
    means = np.empty((sums, cols), np.int16)
    deviations = np.empty((sums, cols), np.int16)
    weight = np.empty((len(halves), cols), np.float64)  # 1 / pixels with data in the window
    run = np.zeros(cols + 1, np.int64)
    squares = np.zeros(cols + 1, np.int64)
    for k in range(len(halves)):
        half = halves[k]
        if y + half < rows:
            for x in range(cols):
                number[k, x] += valid[y + half, x]
        if y - half - 1 >= 0:
            for x in range(cols):
                number[k, x] -= valid[y - half - 1, x]
        for x in range(cols):
            run[x + 1] = run[x] + number[k, x]
        for x in range(cols):
            weight[k, x] = 1.0 / max(run[min(cols, x + half + 1)] - run[max(0, x - half)], 1)
    for s in range(sums):
        layer, half, share = layer_of[s], half_of[s], weight[side_of[s]]
        if y + half < rows:
            _add_row(layers[y + half, layer], valid[y + half], 1, total[s], square[s], squared[s])
        if y - half - 1 >= 0:
            _add_row(layers[y - half - 1, layer], valid[y - half - 1], -1, total[s], square[s], squared[s])
        for x in range(cols):
            run[x + 1] = run[x] + total[s, x]
        for x in range(cols):
            sum_of = run[min(cols, x + half + 1)] - run[max(0, x - half)]
            means[s, x] = np.int16(np.rint(sum_of * share[x]))
        if squared[s]:
            for x in range(cols):
                squares[x + 1] = squares[x] + square[s, x]
            for x in range(cols):
                low, high = max(0, x - half), min(cols, x + half + 1)
                mean = (run[high] - run[low]) * share[x]
                spread = (squares[high] - squares[low]) * share[x] - mean * mean
                deviations[s, x] = np.int16(np.rint(np.sqrt(max(spread, 0.0))))
    for f in range(len(table)):
        layer, kind, half = table[f, 0], table[f, 1], table[f, 2] // 2
        row = out[f]
        if kind == 0:
            for x in range(cols):
                row[x] = layers[y, layer, x]
        elif kind == 1:
            for x in range(cols):
                row[x] = means[group[f], x]
        elif kind == 2:
            for x in range(cols):
                row[x] = deviations[group[f], x]
        elif kind == 5:
            up, down = max(0, y - half), min(rows - 1, y + half)
            for x in range(cols):
                left, right = max(0, x - half), min(cols - 1, x + half)
                dx = np.float32(0)
                dy = np.float32(0)
                if valid[y, left] and valid[y, right]:
                    dx = np.float32(layers[y, layer, right]) - np.float32(layers[y, layer, left])
                if valid[up, x] and valid[down, x]:
                    dy = np.float32(layers[down, layer, x]) - np.float32(layers[up, layer, x])
                row[x] = np.int16(min(np.rint(np.sqrt(dx * dx + dy * dy)), np.float32(_LARGEST)))
        else:
            _extreme_row(layers, valid, layer, y, half, np.int16(1 if kind == 4 else -1), row)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _extreme_row(layers, valid, layer, y, half, sign, row):  # type: ignore[no-untyped-def]
    """Largest of `sign` x value over the window, with the sign taken back; the pixel itself where nothing is there."""
    rows, _, cols = layers.shape
    best = np.full(cols, np.int16(-32768))
    for other in range(max(0, y - half), min(rows, y + half + 1)):
        values, there = layers[other, layer], valid[other]
        for x in range(cols):
            value = np.int16(values[x] * sign) if there[x] else np.int16(-32768)
            best[x] = max(best[x], value)
    wide = best.copy()
    for shift in range(1, half + 1):
        for x in range(shift, cols):
            wide[x] = max(wide[x], best[x - shift])
        for x in range(cols - shift):
            wide[x] = max(wide[x], best[x + shift])
    for x in range(cols):
        row[x] = np.int16(wide[x] * sign) if wide[x] > -32768 else np.int16(0)
