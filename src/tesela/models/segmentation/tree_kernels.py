"""Kernels of trees: window features of a row, then the scores of all of its pixels."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.tree_vectors import (
    LANES,
    PIXELS,
    TOGETHER,
    add_leaf_rows,
    add_leaves,
    find_places,
    has_permutes,
)
from tesela.models.segmentation.window_features import next_row, start_rows

_CHUNK = 128
"""Trees whose leaves are found before they are summed: 16 KiB of places."""

_BLOCK = 512
"""Pixels that go through a forest together."""


def aligned_empty(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """An array that begins at a multiple of 64 bytes: a vector that crosses one is read twice."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array: NDArray[Any] = raw[start : start + size].view(kind).reshape(shape)
    return array


def pack_boosting(
    feature: NDArray[np.int32], threshold: NDArray[np.int16], leaf: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """
    Symmetric trees as `run_boosting` reads them.

    Leaves are rounded to whole numbers of a step, a power of two: the finest with which no sum of `_CHUNK` trees
    leaves 16 bits. Empty trees fill up to a multiple of `TOGETHER`.

    Parameters
    ----------
    feature, threshold : (trees, depth) arrays
    leaf : (trees, 2 ** depth, classes) array
    """
    trees, leaves, classes = leaf.shape
    missing = -trees % TOGETHER
    feature = np.pad(feature, ((0, missing), (0, 0)))
    threshold = np.pad(threshold, ((0, missing), (0, 0)))
    leaf = np.pad(leaf, ((0, missing), (0, 0), (0, 0)))
    most = max(
        float(np.abs(leaf[first : first + _CHUNK]).max(1).sum(0).max()) for first in range(0, trees, _CHUNK)
    )
    step = np.float32(2.0 ** np.ceil(np.log2(max(most, 1e-6) / 32_000)))
    whole = np.rint(leaf / step).astype(np.int16)
    splits = (feature.astype(np.int64) << 16 | threshold.astype(np.int64) & 0xFFFF).astype(np.uint32)
    packed: NDArray[np.int16]
    if leaves <= PIXELS and has_permutes():
        packed = aligned_empty((trees + missing, classes, PIXELS), np.int16)
        packed[:] = 0
        packed[:, :, :leaves] = whole.transpose(0, 2, 1)
    else:
        groups = -(-classes // LANES)
        packed = aligned_empty((groups, trees + missing, leaves, LANES), np.int16)
        padded = np.pad(whole, ((0, 0), (0, 0), (0, groups * LANES - classes)))
        packed[:] = padded.reshape(*whole.shape[:2], groups, LANES).transpose(2, 0, 1, 3)
    return {"splits": splits.view(np.int32), "leaf": packed, "step": np.array([step], np.float32)}


def boosting_scratch(features: int, cols: int, classes: int) -> tuple[NDArray[np.int16], ...]:
    """Scratch arrays of one thread: features of a row, places in a chunk of trees, sums."""
    padded = -(-cols // PIXELS) * PIXELS
    values = aligned_empty((features, padded), np.int16)
    values[:] = 0
    places = aligned_empty((_CHUNK, PIXELS), np.int16)
    return values, places, aligned_empty((-(-classes // LANES) * LANES, PIXELS), np.int16)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def run_boosting(image, mean, std, plan, first, out, scratch, splits, leaf, step, baseline):  # type: ignore[no-untyped-def]
    """
    Scores of symmetric trees for some rows.

    Parameters
    ----------
    image : (rows, cols, bands) array of float32
    plan : tuple
        `tesela.models.segmentation.window_features.arrays_of`.
    first : int
        First row that is wanted.
    out : (classes, wanted rows, cols) array of float32
    scratch : tuple
        `boosting_scratch`.
    splits, leaf, step : arrays
        `pack_boosting`.
    baseline : (classes,) array of float32
    """
    values, places, found = scratch
    classes, rows, cols = out.shape
    trees, depth = splits.shape
    state = start_rows(image, mean, std, plan, first)
    for y in range(rows):
        next_row(image, mean, std, plan, first + y, state, values)
        for begin in range(0, cols, PIXELS):
            size = min(PIXELS, cols - begin)
            for chunk in range(0, trees, _CHUNK):
                count = min(_CHUNK, trees - chunk)
                find_places(
                    values.ctypes.data + 2 * begin,
                    2 * values.shape[1],
                    splits.ctypes.data + 4 * depth * chunk,
                    count,
                    depth,
                    places.ctypes.data,
                )
                _sum_leaves(places, count, chunk, leaf, classes, found)
                for k in range(classes):
                    row, total = out[k, y, begin : begin + size], found[k]
                    if chunk == 0:
                        for i in range(size):
                            row[i] = baseline[k] + np.float32(total[i]) * step[0]
                    else:
                        for i in range(size):
                            row[i] += np.float32(total[i]) * step[0]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum_leaves(places, count, first, leaf, classes, found):  # type: ignore[no-untyped-def]
    """Sums of the leaves of some trees, in the form that `pack_boosting` chose, into (classes or more, 64) int16."""
    at = places.ctypes.data
    if leaf.ndim == 3:
        stride = 2 * PIXELS * classes
        add_leaves(at, count, stride, leaf.ctypes.data + first * stride, classes, found.ctypes.data)
        return
    groups, trees, leaves = leaf.shape[:3]
    rows = np.empty((PIXELS, LANES), np.int16)
    for group in range(groups):
        rows[:] = 0
        offset = 2 * LANES * leaves * (group * trees + first)
        add_leaf_rows(at, count, leaves, leaf.ctypes.data + offset, rows.ctypes.data)
        for k in range(LANES):
            for i in range(PIXELS):
                found[group * LANES + k, i] = rows[i, k]


def pack_forest(
    feature: NDArray[np.int32],
    threshold: NDArray[np.int16],
    left: NDArray[np.int32],
    root: NDArray[np.int32],
    leaf: NDArray[np.float32],
) -> dict[str, NDArray[Any]]:
    """
    A forest as `run_forest` reads it: each node as one number (left child, feature, threshold), read at once.

    Parameters
    ----------
    feature, threshold, left : (nodes,) arrays
        A leaf is its own left child; children stand behind their parents.
    root : (trees,) array
    leaf : (nodes, classes) array
        Class frequencies.
    """
    own = np.arange(len(left))
    packed = (
        left.astype(np.int64) << 32 | feature.astype(np.int64) << 16 | threshold.astype(np.int64) & 0xFFFF
    )
    depth = np.zeros(len(left), np.int32)
    for node in np.flatnonzero(left != own):
        depth[left[node]] = depth[left[node] + 1] = depth[node] + 1
    ends = np.append(root[1:], len(left))
    levels = [depth[start:end].max(initial=0) for start, end in zip(root, ends, strict=True)]
    return {"packed": packed, "root": root, "levels": np.array(levels, np.int32), "leaf": leaf}


@numba.njit(cache=True, nogil=True, error_model="numpy")
def run_forest(image, mean, std, plan, first, out, scratch, packed, root, levels, leaf, baseline):  # type: ignore[no-untyped-def]
    """Logarithms of the mean class frequencies of some rows; parameters as `run_boosting` and `pack_forest`."""
    values = scratch[0]
    classes, rows, cols = out.shape
    features, trees = len(values), len(root)
    node = np.empty(_BLOCK, np.int32)
    scores = np.empty((_BLOCK, classes), np.float32)
    pixels = np.empty((_BLOCK, features), np.int16)  # the features of one pixel lie together
    state = start_rows(image, mean, std, plan, first)
    for y in range(rows):
        next_row(image, mean, std, plan, first + y, state, values)
        for begin in range(0, cols, _BLOCK):
            size = min(_BLOCK, cols - begin)
            for f in range(features):
                row = values[f, begin : begin + size]
                for i in range(size):
                    pixels[i, f] = row[i]
            scores[:] = 0
            for tree in range(trees):
                for i in range(size):
                    node[i] = root[tree]
                for _ in range(levels[tree]):  # no feature exceeds the threshold of a leaf
                    for i in range(size):
                        one = packed[np.uint32(node[i])]
                        value = pixels[i, np.uint32((one >> 16) & 0xFFFF)]
                        node[i] = np.int32(one >> 32) + np.int32(value > np.int16(one & 0xFFFF))
                for i in range(size):
                    at = np.uint32(node[i])
                    for k in range(classes):
                        scores[i, k] += leaf[at, k]
            for k in range(classes):
                row = out[k, y, begin : begin + size]
                for i in range(size):
                    row[i] = np.log(max(scores[i, k] / trees, np.float32(1e-6))) + baseline[k]
