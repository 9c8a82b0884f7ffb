"""Gates: kernels that apply an expert's scores to the pixels of its gate mask; compiled by numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.mapping.kernels import softmax_terms


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
