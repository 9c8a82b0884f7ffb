"""Kernel of unmixing trees: a block of pixels goes through a tree level by level, without branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
"""Pixels that go through a tree together: their walks do not wait for each other."""

_GAP_LEFT = np.int32(1 << 30)
"""Added to the feature of nodes whose gaps go left."""


class PackedTrees(NamedTuple):
    """Nodes of all trees, in each tree by level; the right child stands behind the left one, a leaf is its own."""

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    value: NDArray[np.float64]
    root: NDArray[np.int32]
    levels: NDArray[np.int32]
    output: NDArray[np.int32]


def pack_trees(arrays: Mapping[str, NDArray[Any]]) -> PackedTrees:
    """
    Pack the buffers of `tesela.models.trees.Trees`.

    A float32 number is below or equal to a float64 threshold exactly if it is to the next lower float32.

    Parameters
    ----------
    arrays : mapping
        `feature` (-1: leaf), `threshold`, `left`, `right`, `gap_left` and `value` of the nodes, `root` and `output` of
        the trees; children stand behind their parents, and no node has two.
    """
    order, left, root, levels = _by_level(
        arrays["feature"], arrays["left"], arrays["right"], arrays["root"].astype(np.int64)
    )
    inner = arrays["feature"][order] >= 0
    exact = arrays["threshold"][order]
    with np.errstate(over="ignore"):
        threshold = exact.astype(np.float32)
    above = threshold > exact
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    gap_left = arrays["gap_left"][order].astype(bool) | ~inner
    feature = np.where(inner, arrays["feature"][order], 0).astype(np.int32)
    return PackedTrees(
        feature=feature + _GAP_LEFT * gap_left.astype(np.int32),
        threshold=np.where(inner, threshold, np.float32(np.inf)),
        left=left,
        value=np.ascontiguousarray(arrays["value"][order]),
        root=root,
        levels=levels,
        output=arrays["output"].astype(np.int32),
    )


@numba.njit(cache=True)
def _by_level(feature, left, right, roots):  # type: ignore[no-untyped-def]
    """Old number of each new node, its left child, and the new root and the depth of each tree."""
    order = np.empty(len(feature) + len(roots), np.int64)
    child = np.empty(len(order), np.int32)
    root, levels = np.empty(len(roots), np.int32), np.zeros(len(roots), np.int32)
    count = 0
    for tree in range(len(roots)):
        root[tree] = count
        order[count] = roots[tree]
        begin, count = count, count + 1
        while True:
            end = count
            for at in range(begin, end):
                node = order[at]
                child[at] = at
                if feature[node] >= 0:
                    child[at] = count
                    order[count], order[count + 1] = left[node], right[node]
                    count += 2
            if count == end:
                break
            levels[tree] += 1
            begin = end
    return order[:count], child[:count], root, levels


def add_leaves(features: NDArray[np.float32], sums: NDArray[np.float64], trees: PackedTrees) -> None:
    """
    Add the leaves of all trees, in their order.

    Parameters
    ----------
    features : (pixels, features) array of float32
        NaN for gaps.
    sums : (pixels, classes) array of float64
        Changed: each tree adds its values from its output on.
    """
    _add_leaves(features, sums, *trees)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_leaves(features, sums, feature, threshold, left, value, root, levels, output):  # type: ignore[no-untyped-def]
    outputs = value.shape[1]
    node = np.empty(_BLOCK, np.int32)
    mask = _GAP_LEFT - np.int32(1)
    for begin in range(0, len(features), _BLOCK):
        size = min(_BLOCK, len(features) - begin)
        for tree in range(len(root)):
            for i in range(size):
                node[i] = root[tree]
            for _ in range(levels[tree]):
                for i in range(size):
                    at = node[i]
                    packed = feature[at]
                    number = features[begin + i, packed & mask]
                    gap_goes_left = (packed > mask) & (number != number)
                    node[i] = left[at] + np.int32(not ((number <= threshold[at]) | gap_goes_left))
            for i in range(size):
                at = node[i]
                for k in range(outputs):
                    sums[begin + i, output[tree] + k] += value[at, k]
