"""Kernels around the network: numbers in a file to scaled windows, scores to classes; compiled by numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True, error_model="numpy")
def scale_window(
    raw: NDArray[np.generic],
    row: int,
    col: int,
    gain: NDArray[np.float32],
    bias: NDArray[np.float32],
    nodata: NDArray[np.float64],
    out: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> int:
    """
    Cut a window from raw numbers, scale it for the network, and say where it is valid.

    Parameters
    ----------
    raw : (bands, rows, cols) array
        Numbers as stored.
    row, col : int
        Corner of the window in `raw`; it may reach past the end.
    gain, bias : (bands,) arrays of float32
        Scaled = raw x gain + bias.
    nodata : (bands,) array of float64
        Number that means no data, NaN for none; numbers that are not finite are never valid.
    out : (height, width, bands) array of float32
        Filled; 0 where a number is not valid and past the end.
    valid : (height, width) array of bool
        Filled: True where all bands are valid.

    Returns
    -------
    int
        Count of valid pixels.
    """
    bands, rows, cols = raw.shape
    height, width = valid.shape
    count = 0
    for i in range(height):
        inside = row + i < rows
        for j in range(width):
            good = inside and col + j < cols
            for b in range(bands):
                scaled = np.float32(0)
                if good:
                    number = raw[b, row + i, col + j]
                    value = np.float32(number)
                    if np.isfinite(value) and np.float64(number) != nodata[b]:
                        scaled = value * gain[b] + bias[b]
                    else:
                        good = False
                        for before in range(b):
                            out[i, j, before] = 0
                out[i, j, b] = scaled
            valid[i, j] = good
            count += good
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pick_classes(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    values: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """
    Class with the highest score; the first one on a tie; 0 where the image is not valid.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
    valid : (rows, cols) array of bool
    values : (256,) array of uint8
        From the position of a class to its value in a raster.
    out : (rows, cols) array of uint8
    """
    rows, cols, classes = scores.shape
    for i in range(rows):
        for j in range(cols):
            best = np.uint8(0)
            highest = scores[i, j, 0]
            for k in range(1, classes):
                score = scores[i, j, k]
                if score > highest:
                    highest = score
                    best = np.uint8(k)
            out[i, j] = values[best] if valid[i, j] else np.uint8(0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def weigh_classes(
    scores: NDArray[np.float32],
    valid: NDArray[np.bool_],
    confidence: NDArray[np.uint8],
    entropy: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
) -> None:
    r"""
    Softmax of the scores, quantised: confidence :math:`\max p`, entropy :math:`-\sum p \ln p / \ln K`, all :math:`p`.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
    valid : (rows, cols) array of bool
    confidence, entropy : (rows, cols) arrays of uint8
        Per cent, 0 to 100; 255 where the image is not valid.
    probabilities : (classes, rows, cols) array of uint8, or (0, 0, 0) to leave them out
        1/254 steps: 0 to 254; 255 where the image is not valid.
    """
    rows, cols, classes = scores.shape
    keep = probabilities.shape[0] > 0
    p = np.empty(classes, np.float32)
    scale = np.float32(1.0 / np.log(max(classes, 2)))
    for i in range(rows):
        for j in range(cols):
            if not valid[i, j]:
                confidence[i, j] = 255
                entropy[i, j] = 255
                if keep:
                    for k in range(classes):
                        probabilities[k, i, j] = 255
                continue
            highest = scores[i, j, 0]
            for k in range(1, classes):
                highest = max(highest, scores[i, j, k])
            total = np.float32(0)
            for k in range(classes):
                p[k] = np.exp(scores[i, j, k] - highest)
                total += p[k]
            disorder = np.float32(0)
            top = np.float32(0)
            for k in range(classes):
                p[k] /= total
                top = max(top, p[k])
                if p[k] > 0:
                    disorder -= p[k] * np.log(p[k])
                if keep:
                    probabilities[k, i, j] = np.uint8(p[k] * np.float32(254) + np.float32(0.5))
            confidence[i, j] = np.uint8(top * np.float32(100) + np.float32(0.5))
            entropy[i, j] = np.uint8(min(disorder * scale, np.float32(1)) * np.float32(100) + np.float32(0.5))
