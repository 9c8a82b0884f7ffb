"""Kernels of mapping: stored numbers to standardised windows, scores to classes, classes to those behind a gate."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.io.invalid_numbers import MOST

_MOST = np.float32(MOST)


def scale_window(
    raw: NDArray[np.generic],
    corner: tuple[int, int],
    bands: NDArray[np.int64],
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    nodata: NDArray[np.float64],
    out: NDArray[np.float32],
    valid: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
) -> int:
    """
    Cut a window from stored numbers, standardise it for the network, and mark its valid pixels.

    Parameters
    ----------
    raw : (layers, rows, cols) array
        Stored numbers.
    corner : (int, int)
        Row and column of the window in `raw`; the window may reach past the end.
    bands : (bands,) array of int64
        Layers of `raw` that the network takes, in its order; -1 for one that the scene lacks.
    gain, bias : (bands,) arrays of float32
        Standardised = raw x gain + bias, see `tesela.core.standardisation`.
    nodata : (bands,) array of float64
        Nodata number, NaN for none; numbers that are not finite, or above 1e10, are never valid.
    out : (height, width, bands) array of float32
        Filled; 0 where a number of the date is not valid and past the end.
    valid : (height, width) array of bool
        Filled: True where all static bands and all bands of one date at least are valid.
    groups : (bands,) array of int64, optional
        Number of the date of each band, -1 for a static one; default: all are of one date.

    Returns
    -------
    int
        Number of valid pixels.
    """
    if groups is None:
        groups = np.zeros(len(bands), np.int64)
    count: int = _scale_window(raw, corner, bands, gain, bias, nodata, groups, out, valid)
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scale_window(raw, corner, bands, gain, bias, nodata, groups, out, valid):  # type: ignore[no-untyped-def]
    height, width = valid.shape
    row, col = corner
    inside = min(width, raw.shape[2] - col)
    dates = groups.max() + 1
    whole = np.empty((dates + 1, width), np.bool_)  # by date, then of the static bands
    count = 0
    for i in range(height):
        good = valid[i]
        good[:] = False
        if row + i >= raw.shape[1]:
            out[i] = 0
            continue
        out[i, inside:] = 0
        whole[:] = True
        # one plain loop per band, which the compiler vectorises
        for b in range(bands.size):
            part = whole[groups[b] if groups[b] >= 0 else dates]
            if bands[b] < 0:
                part[:] = False
                continue
            numbers = raw[bands[b], row + i]
            missing = nodata[b]
            for j in range(inside):
                value = np.float32(numbers[col + j])
                part[j] &= (abs(value) <= _MOST) & (np.float64(numbers[col + j]) != missing)
        static = whole[dates]
        for date in range(dates):
            part = whole[date]
            for j in range(inside):
                part[j] &= static[j]
                good[j] |= part[j]
        for j in range(inside):
            static[j] = good[j]
        for b in range(bands.size):
            part = whole[groups[b] if groups[b] >= 0 else dates]
            if bands[b] < 0:
                out[i, :inside, b] = 0
                continue
            numbers = raw[bands[b], row + i]
            for j in range(inside):
                scaled = np.float32(numbers[col + j]) * gain[b] + bias[b]
                out[i, j, b] = scaled if part[j] else np.float32(0)
        for j in range(inside):
            count += good[j]
    return count


def pick_classes(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    values: NDArray[np.uint8],
    *,
    corner: tuple[int, int],
    out: NDArray[np.uint8],
) -> None:
    """
    Write the class with the highest score, the first on a tie; 0 where the image is not valid.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
        Scores of a whole window; pixel by pixel or class by class in memory, with a loop for each.
    valid : (rows, cols) array of bool
    values : (256,) array of uint8
        From the position of a class to its value in a raster.
    corner : (int, int)
        First row and column of the window that are kept.
    out : (kept rows, kept cols) array of uint8
    """
    if scores.flags.c_contiguous:
        _pick_packed(scores, valid, values, corner, out)
    else:
        _pick_planar(np.ascontiguousarray(scores.transpose(2, 0, 1)), valid, values, corner, out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pick_packed(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    values: NDArray[np.uint8],
    corner: tuple[int, int],
    out: NDArray[np.uint8],
) -> None:
    rows, cols = out.shape
    classes = scores.shape[2]
    for i in range(rows):
        row = scores[corner[0] + i]
        for j in range(cols):
            column = corner[1] + j
            best = 0
            highest = row[column, 0]
            for k in range(1, classes):
                score = row[column, k]
                more = score > highest  # a selection, not a branch, which would be hard to predict
                highest = score if more else highest
                best = k if more else best
            out[i, j] = values[best] if valid[corner[0] + i, column] else np.uint8(0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pick_planar(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    values: NDArray[np.uint8],
    corner: tuple[int, int],
    out: NDArray[np.uint8],
) -> None:
    rows, cols = out.shape
    first, last = corner[1], corner[1] + cols
    highest = np.empty(cols, np.float32)
    best = np.empty(cols, np.uint8)
    for i in range(rows):
        row = scores[0, corner[0] + i, first:last]
        for j in range(cols):
            highest[j] = row[j]
            best[j] = 0
        for k in range(1, scores.shape[0]):
            row = scores[k, corner[0] + i, first:last]
            for j in range(cols):
                score, old = row[j], highest[j]
                highest[j] = score if score > old else old
                best[j] = np.uint8(k) if score > old else best[j]
        good = valid[corner[0] + i, first:last]
        for j in range(cols):
            out[i, j] = values[best[j]] if good[j] else np.uint8(0)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def softmax_terms(scores, p):  # type: ignore[no-untyped-def]
    """Fill `p` with the exponentials of scores minus the highest; return its position and the sum."""
    best, highest = 0, scores[0]
    for k in range(1, p.size):
        if scores[k] > highest:
            best, highest = k, scores[k]
    total = np.float32(0)
    for k in range(p.size):
        p[k] = np.exp(scores[k] - highest)
        total += p[k]
    return best, total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def weigh_classes(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    corner: tuple[int, int],
    confidence: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> None:
    r"""
    Quantise the softmax of the scores: confidence :math:`\max p`, entropy :math:`-\sum p \ln p / \ln K`, all :math:`p`.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
        Scores of a whole window.
    valid : (rows, cols) array of bool
    corner : (int, int)
        First row and column of the window that are kept.
    confidence, entropy : (kept rows, kept cols) arrays of uint8
        Per cent, 0 to 100; 255 where the image is not valid.
    probabilities : (classes, kept rows, kept cols) array of uint8, or (0, 0, 0) for none
        1/254 steps: 0 to 254; 255 where the image is not valid.
    """
    rows, cols = confidence.shape
    classes = scores.shape[2]
    keep = probabilities.shape[0] > 0
    p = np.empty(classes, np.float32)
    scale = np.float32(1.0 / np.log(max(classes, 2)))
    for i in range(rows):
        for j in range(cols):
            y, x = corner[0] + i, corner[1] + j
            if not valid[y, x]:
                confidence[i, j] = 255
                entropy[i, j] = 255
                if keep:
                    for k in range(classes):
                        probabilities[k, i, j] = 255
                continue
            best, total = softmax_terms(scores[y, x], p)
            disorder = np.float32(0)
            for k in range(classes):
                p[k] /= total
                if p[k] > 0:
                    disorder -= p[k] * np.log(p[k])
                if keep:
                    probabilities[k, i, j] = np.uint8(p[k] * np.float32(254) + np.float32(0.5))
            confidence[i, j] = np.uint8(p[best] * np.float32(100) + np.float32(0.5))
            entropy[i, j] = np.uint8(min(disorder * scale, np.float32(1)) * np.float32(100) + np.float32(0.5))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def assign_child(
    scores: NDArray[np.float32],
    corner: tuple[int, int],
    mask: NDArray[np.bool_],
    table: NDArray[np.uint8],
    values: NDArray[np.uint8],
    confidence: NDArray[np.float32],
) -> None:
    """
    Replace the class of each pixel of a mask by the best of the classes below it.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
        Scores of a whole window.
    corner : (int, int)
        Row and column in the window of the first pixel of `mask`.
    mask : (kept rows, kept cols) array of bool
    table : (256, classes) array of uint8
        Value by the value of the class above and the position of the best class.
    values : (kept rows, kept cols) array of uint8
        Class values; changed in the mask.
    confidence : (kept rows, kept cols) array of float32
        Multiplied, in the mask, by the probability of the class.
    """
    rows, cols = mask.shape
    p = np.empty(scores.shape[2], np.float32)
    for i in range(rows):
        for j in range(cols):
            if not mask[i, j]:
                continue
            best, total = softmax_terms(scores[corner[0] + i, corner[1] + j], p)
            values[i, j] = table[values[i, j], best]
            confidence[i, j] /= total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_probability(
    scores: NDArray[np.float32],
    corner: tuple[int, int],
    mask: NDArray[np.bool_],
    weight: NDArray[np.float32],
    row: NDArray[np.uint8],
    below: NDArray[np.int64],
    open_weights: NDArray[np.float32],
    values: NDArray[np.uint8],
    confidence: NDArray[np.float32],
) -> None:
    """
    Distribute the probability of a class over the classes below it, and keep the most probable class so far.

    Parameters
    ----------
    scores, corner, mask
        As in `assign_child`.
    weight : (kept rows, kept cols) array of float32
        Probability of the class above.
    row : (classes,) array of uint8
        Value by the position of the class.
    below : (classes,) array of int64
        Layer of `open_weights` for the probability of a class that other experts distribute further; -1 for
        other classes.
    open_weights : (layers, kept rows, kept cols) array of float32
        Filled in the mask.
    values : (kept rows, kept cols) array of uint8
        Most probable class so far; changed in the mask where one is more probable.
    confidence : (kept rows, kept cols) array of float32
        Its probability.
    """
    rows, cols = mask.shape
    classes = scores.shape[2]
    p = np.empty(classes, np.float32)
    for i in range(rows):
        for j in range(cols):
            if not mask[i, j]:
                continue
            _, total = softmax_terms(scores[corner[0] + i, corner[1] + j], p)
            for k in range(classes):
                share = weight[i, j] * (p[k] / total)
                if below[k] >= 0:
                    open_weights[below[k], i, j] = share
                elif share > confidence[i, j]:
                    confidence[i, j] = share
                    values[i, j] = row[k]


@numba.njit(cache=True, nogil=True)
def keep_parent(
    shared: NDArray[np.bool_],
    weight: NDArray[np.float32],
    value: int,
    values: NDArray[np.uint8],
    confidence: NDArray[np.float32],
) -> None:
    """Keep a class where no expert distributed its probability; all arrays are (rows, cols)."""
    rows, cols = shared.shape
    for i in range(rows):
        for j in range(cols):
            if not shared[i, j] and weight[i, j] > confidence[i, j]:
                confidence[i, j] = weight[i, j]
                values[i, j] = value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def divide_probability(
    scores: NDArray[np.float32],
    corner: tuple[int, int],
    mask: NDArray[np.bool_],
    source: int,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> None:
    """
    Divide the probability of a class among the classes below it, which leaves none to itself.

    Parameters
    ----------
    scores, corner, mask
        As in `assign_child`.
    source : int
        Layer of the class above; -1 for the first expert, which divides 1.
    targets : (classes,) array of int64
        Layer of each class.
    probabilities : (layers, kept rows, kept cols) array of float32
        Changed in the mask.
    """
    rows, cols = mask.shape
    p = np.empty(scores.shape[2], np.float32)
    for i in range(rows):
        for j in range(cols):
            if not mask[i, j]:
                continue
            _, total = softmax_terms(scores[corner[0] + i, corner[1] + j], p)
            weight = np.float32(1)
            if source >= 0:
                weight = probabilities[source, i, j]
                probabilities[source, i, j] = 0
            for k in range(targets.size):
                probabilities[targets[k], i, j] = weight * (p[k] / total)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def quantise_probability(
    probabilities: NDArray[np.float32],
    valid: NDArray[np.bool_],
    entropy: NDArray[np.uint8],
    steps: NDArray[np.uint8],
) -> None:
    """
    Entropy in per cent and probabilities in steps of 1/254, as `weigh_classes` writes them; 255 where not valid.

    Parameters
    ----------
    probabilities : (classes, rows, cols) array of float32
        They sum to 1.
    valid : (rows, cols) array of bool
    entropy : (rows, cols) array of uint8
        Filled.
    steps : (classes, rows, cols) array of uint8
        Filled.
    """
    classes, rows, cols = probabilities.shape
    scale = np.float32(1.0 / np.log(max(classes, 2)))
    for i in range(rows):
        for j in range(cols):
            disorder = np.float32(0)
            for k in range(classes):
                p = probabilities[k, i, j]
                if p > 0:
                    disorder -= p * np.log(p)
                steps[k, i, j] = (
                    np.uint8(p * np.float32(254) + np.float32(0.5)) if valid[i, j] else np.uint8(255)
                )
            share = min(max(disorder * scale, np.float32(0)), np.float32(1))
            entropy[i, j] = (
                np.uint8(share * np.float32(100) + np.float32(0.5)) if valid[i, j] else np.uint8(255)
            )
