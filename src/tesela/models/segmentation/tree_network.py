"""Trees for class maps: boosted trees and forests over window features, run by compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.errors import ExpertError
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.window_features import next_row, quantise, start_rows

_BLOCK = 256
"""Pixels that go through all trees together: their features and sums stay in the cache."""

_ROWS = 64
"""Least rows that a thread takes: the windows above its first row are summed once more."""


class ClassTrees(nn.Module):
    """
    Scores of classes from trees.

    The window features of each row are computed, sent through the trees and forgotten, so memory does not grow with
    the number of features. Scores are logits (boosting) or logarithms of mean frequencies (forest).
    """

    stride = 1
    traceable = False
    """The kernels are compiled already: no other compiler takes them."""

    def __init__(self, architecture: ClassTreesArchitecture) -> None:
        super().__init__()
        self.architecture = made = architecture
        self.bands, self.classes = made.bands, made.classes
        self.margin_px = made.spec.margin_px
        buffers: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "mean": ((made.bands,), torch.float32),
            "std": ((made.bands,), torch.float32),
            "baseline": ((made.classes,), torch.float32),
        }
        if made.form == "boosting":
            buffers |= {
                "feature": ((made.trees, made.depth), torch.int32),
                "threshold": ((made.trees, made.depth), torch.int16),
                "leaf": ((made.trees, 1 << made.depth, made.classes), torch.float32),
            }
        else:
            buffers |= {
                "feature": ((made.nodes,), torch.int32),
                "threshold": ((made.nodes,), torch.int16),
                "left": ((made.nodes,), torch.int32),
                "root": ((made.trees,), torch.int32),
                "leaf": ((made.nodes, made.classes), torch.float32),
            }
        for name, (shape, kind) in buffers.items():
            self.register_buffer(name, torch.zeros(shape, dtype=kind))
        self._arrays: dict[str, NDArray[Any]] | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """
        Score every class in every pixel.

        Parameters
        ----------
        images : (batch, bands, rows, cols) tensor of float
            Standardised images, 0 in all bands where there is no data.

        Returns
        -------
        (batch, classes, rows, cols) tensor of float
        """
        planes = images.detach().cpu().float().permute(0, 2, 3, 1).contiguous().numpy()
        scores = np.stack([self.scores(image) for image in planes])
        return torch.from_numpy(scores).permute(0, 3, 1, 2).to(images.device)

    def scores(self, image: NDArray[np.float32], *, threads: int | None = None) -> NDArray[np.float32]:
        """Scores of one (rows, cols, bands) image, (rows, cols, classes)."""
        arrays = self._checked()
        spec, rows = self.architecture.spec, image.shape[0]
        layers, valid = quantise(image, spec, arrays["mean"], arrays["std"])
        padded = -(-self.classes // 8) * 8
        out = np.empty((*image.shape[:2], padded), np.float32)
        table = spec.table()
        kernel = _boosting_kernel(padded) if self.architecture.form == "boosting" else _forest_kernel(padded)
        trees = [arrays[name] for name in _READ[self.architecture.form]]
        workers = max(1, min(threads or torch.get_num_threads(), rows // _ROWS))
        edges = np.linspace(0, rows, workers + 1).astype(int)

        def work(part: int) -> None:
            first, last = int(edges[part]), int(edges[part + 1])
            kernel(layers, valid, table, first, out[first:last], *trees)

        if workers == 1:
            work(0)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(work, range(workers)))
        return out[..., : self.classes]

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Put the arrays of a training into the buffers."""
        for name, array in arrays.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(array)).to(buffer.dtype))
        self._arrays = None
        return self

    @torch.no_grad()
    def add_to_scores(self, values: torch.Tensor) -> None:
        """Add a number to all scores of each class, for good."""
        self.get_buffer("baseline").add_(values.to(torch.float32))
        self._arrays = None

    def _checked(self) -> dict[str, NDArray[Any]]:
        """
        The buffers as arrays, with the leaves padded to a multiple of eight classes.

        Raises
        ------
        ExpertError
            If a number points outside the trees: a file may come from a stranger.
        """
        if self._arrays is not None:
            return self._arrays
        made = self.architecture
        arrays = {name: buffer.detach().cpu().numpy() for name, buffer in self.named_buffers()}
        wrong = ((arrays["feature"] < 0) | (arrays["feature"] >= len(made.spec.features))).any()
        if made.form == "forest":
            own, left = np.arange(made.nodes), arrays["left"]
            inner = left != own
            wrong |= ((left[inner] <= own[inner]) | (left[inner] + 1 >= made.nodes)).any()
            wrong |= ((arrays["root"] < 0) | (arrays["root"] >= made.nodes)).any()
        if wrong or not all(np.isfinite(arrays[name]).all() for name in ("leaf", "mean", "std")):
            raise ExpertError(
                "The trees of this expert point outside themselves. Train or get the expert again."
            )
        padded = -(-made.classes // 8) * 8
        for name in ("leaf", "baseline"):
            width = [(0, 0)] * (arrays[name].ndim - 1) + [(0, padded - made.classes)]
            arrays[name] = np.ascontiguousarray(np.pad(arrays[name], width))
        if made.form == "forest":
            arrays |= _pack_forest(arrays)
        self._arrays = arrays
        return arrays


def _pack_forest(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Each node as one number (left child, feature, threshold), read at once; and the levels of each tree."""
    left, own = arrays["left"].astype(np.int64), np.arange(len(arrays["left"]))
    threshold = arrays["threshold"].astype(np.int64) & 0xFFFF
    packed = (left << 32) | (arrays["feature"].astype(np.int64) << 16) | threshold
    depth = np.zeros(len(left), np.int32)
    for node in np.flatnonzero(left != own):  # children stand behind their parents
        depth[left[node]] = depth[left[node] + 1] = depth[node] + 1
    ends = np.append(arrays["root"][1:], len(left))
    levels = [depth[start:end].max(initial=0) for start, end in zip(arrays["root"], ends, strict=True)]
    return {"packed": packed, "levels": np.array(levels, np.int32)}


_READ: dict[str, Sequence[str]] = {
    "boosting": ("feature", "threshold", "leaf", "baseline"),
    "forest": ("packed", "root", "levels", "leaf", "baseline"),
}
"""Buffers that a kernel reads, in its order."""

_KERNELS: dict[tuple[str, int], Any] = {}


def _boosting_kernel(padded: int) -> Any:
    """Kernel for a number of classes, known when it is compiled."""
    key = ("boosting", padded)
    if key in _KERNELS:
        return _KERNELS[key]

    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def run(layers, valid, table, first, out, feature, threshold, leaf, baseline):  # type: ignore[no-untyped-def]
        rows, cols = out.shape[:2]
        trees, depth = feature.shape
        features = np.empty((len(table), cols), np.int16)
        place = np.empty(_BLOCK, np.uint8)  # unsigned: no index is checked for counting from the end
        block = np.zeros((len(table), _BLOCK), np.int16)
        scores = np.empty((_BLOCK, padded), np.float32)
        state = start_rows(layers, valid, table, first)
        for y in range(rows):
            next_row(layers, valid, table, first + y, state, features)
            for begin in range(0, cols, _BLOCK):
                size = min(_BLOCK, cols - begin)
                for f in range(len(table)):
                    row = features[f]
                    for i in range(size):
                        block[f, i] = row[begin + i]
                for i in range(_BLOCK):
                    for k in range(padded):
                        scores[i, k] = baseline[k]
                for tree in range(trees):
                    for i in range(_BLOCK):
                        place[i] = 0
                    for level in range(depth):
                        values, least = block[feature[tree, level]], threshold[tree, level]
                        bit = np.uint8(1 << level)
                        for i in range(_BLOCK):
                            place[i] |= bit if values[i] > least else np.uint8(0)
                    leaves = leaf[tree]
                    for i in range(_BLOCK):
                        chosen = leaves[place[i]]
                        for k in range(padded):
                            scores[i, k] += chosen[k]
                for i in range(size):
                    for k in range(padded):
                        out[y, begin + i, k] = scores[i, k]

    _KERNELS[key] = run
    return run


def _forest_kernel(padded: int) -> Any:
    """Kernel for a number of classes, known when it is compiled."""
    key = ("forest", padded)
    if key in _KERNELS:
        return _KERNELS[key]

    @numba.njit(cache=True, nogil=True, error_model="numpy")
    def run(layers, valid, table, first, out, packed, root, levels, leaf, baseline):  # type: ignore[no-untyped-def]
        rows, cols = out.shape[:2]
        features = np.empty((len(table), cols), np.int16)
        node = np.empty(_BLOCK, np.int32)
        scores = np.empty((_BLOCK, padded), np.float32)
        pixels = np.empty((_BLOCK, len(table)), np.int16)  # the features of one pixel lie together
        state = start_rows(layers, valid, table, first)
        trees = len(root)
        for y in range(rows):
            next_row(layers, valid, table, first + y, state, features)
            for begin in range(0, cols, _BLOCK):
                size = min(_BLOCK, cols - begin)
                for i in range(size):
                    for f in range(len(table)):
                        pixels[i, f] = features[f, begin + i]
                for i in range(size):
                    for k in range(padded):
                        scores[i, k] = 0
                for tree in range(trees):
                    for i in range(size):
                        node[i] = root[tree]
                    for _ in range(
                        levels[tree]
                    ):  # a leaf is its own left child, and no feature exceeds its threshold
                        for i in range(size):
                            one = packed[node[i]]
                            value = pixels[i, (one >> 16) & 0xFFFF]
                            node[i] = np.int32(one >> 32) + np.int32(value > np.int16(one & 0xFFFF))
                    for i in range(size):
                        at = node[i]
                        for k in range(padded):
                            scores[i, k] += leaf[at, k]
                for i in range(size):
                    for k in range(padded):
                        mean = max(scores[i, k] / trees, np.float32(1e-6))
                        out[y, begin + i, k] = np.log(mean) + baseline[k]

    _KERNELS[key] = run
    return run
