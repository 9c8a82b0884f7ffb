"""Gates: what the answers of an expert do to the ground that it was asked about; compiled by numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.mapping.kernels import softmax_terms


@numba.njit(cache=True, nogil=True, error_model="numpy")
def assign_child(
    scores: NDArray[np.float32],
    corner: tuple[int, int],
    asked: NDArray[np.bool_],
    table: NDArray[np.uint8],
    values: NDArray[np.uint8],
    surety: NDArray[np.float32],
) -> None:
    """
    Replace the class of each asked pixel by the best of those below it.

    Parameters
    ----------
    scores : (rows, cols, classes) array of float32
        Of a whole window.
    corner : (int, int)
        Row and column in the window of the first pixel of `asked`.
    asked : (kept rows, kept cols) array of bool
    table : (256, classes) array of uint8
        Value by the value above and the position of the answer.
    values : (kept rows, kept cols) array of uint8
        Changed where asked.
    surety : (kept rows, kept cols) array of float32
        Multiplied, where asked, by the probability of the class.
    """
    rows, cols = asked.shape
    p = np.empty(scores.shape[2], np.float32)
    for i in range(rows):
        for j in range(cols):
            if not asked[i, j]:
                continue
            best, total = softmax_terms(scores[corner[0] + i, corner[1] + j], p)
            values[i, j] = table[values[i, j], best]
            surety[i, j] /= total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_probability(
    scores: NDArray[np.float32],
    corner: tuple[int, int],
    asked: NDArray[np.bool_],
    weight: NDArray[np.float32],
    row: NDArray[np.uint8],
    below: NDArray[np.int64],
    open_weights: NDArray[np.float32],
    values: NDArray[np.uint8],
    surety: NDArray[np.float32],
) -> None:
    """
    Share out the probability of a class among those below it; the most probable class so far keeps the pixel.

    Parameters
    ----------
    scores, corner, asked
        As in `assign_child`.
    weight : (kept rows, kept cols) array of float32
        Probability of the class above.
    row : (classes,) array of uint8
        Value by the position of the answer.
    below : (classes,) array of int64
        Layer of `open_weights` that takes the probability of a class which other experts share out; -1 for the
        others.
    open_weights : (layers, kept rows, kept cols) array of float32
        Filled where asked.
    values : (kept rows, kept cols) array of uint8
        Most probable class so far; changed where asked and one is more probable.
    surety : (kept rows, kept cols) array of float32
        Its probability.
    """
    rows, cols = asked.shape
    classes = scores.shape[2]
    p = np.empty(classes, np.float32)
    for i in range(rows):
        for j in range(cols):
            if not asked[i, j]:
                continue
            _, total = softmax_terms(scores[corner[0] + i, corner[1] + j], p)
            for k in range(classes):
                share = weight[i, j] * (p[k] / total)
                if below[k] >= 0:
                    open_weights[below[k], i, j] = share
                elif share > surety[i, j]:
                    surety[i, j] = share
                    values[i, j] = row[k]


@numba.njit(cache=True, nogil=True)
def keep_parent(
    answered: NDArray[np.bool_],
    weight: NDArray[np.float32],
    value: int,
    values: NDArray[np.uint8],
    surety: NDArray[np.float32],
) -> None:
    """Let a class stand for itself where nobody shared its probability out; all arrays are (rows, cols)."""
    rows, cols = answered.shape
    for i in range(rows):
        for j in range(cols):
            if not answered[i, j] and weight[i, j] > surety[i, j]:
                surety[i, j] = weight[i, j]
                values[i, j] = value
