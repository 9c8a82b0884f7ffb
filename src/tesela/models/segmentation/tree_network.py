"""Trees for class maps: boosted trees and forests over window features, run by compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.errors import ExpertError
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.tree_kernels import (
    boosting_scratch,
    pack_boosting,
    pack_forest,
    run_boosting,
    run_forest,
)
from tesela.models.segmentation.window_features import arrays_of

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
    exportable = False
    """Whether other programs have operators for it, see `tesela.models.onnx_export`."""

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
        self._arrays: dict[str, tuple[NDArray[Any], ...]] | None = None

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
        scores = np.stack([self.planar_scores(image) for image in planes])
        return torch.from_numpy(scores).to(images.device)

    def scores(self, image: NDArray[np.float32], *, threads: int | None = None) -> NDArray[np.float32]:
        """Scores of one (rows, cols, bands) image, (rows, cols, classes)."""
        return self.planar_scores(image, threads=threads).transpose(1, 2, 0)

    def planar_scores(self, image: NDArray[np.float32], *, threads: int | None = None) -> NDArray[np.float32]:
        """Scores of one (rows, cols, bands) image, (classes, rows, cols)."""
        arrays, rows, cols = self._checked(), *image.shape[:2]
        image = np.ascontiguousarray(image, np.float32)
        plan, features = arrays_of(self.architecture.spec), len(self.architecture.spec.features)
        out = np.empty((self.classes, rows, cols), np.float32)
        kernel: Any = run_boosting if self.architecture.form == "boosting" else run_forest
        workers = max(1, min(threads or torch.get_num_threads(), rows // _ROWS))
        edges = np.linspace(0, rows, workers + 1).astype(int)

        def work(part: int) -> None:
            first, last = int(edges[part]), int(edges[part + 1])
            scratch = boosting_scratch(features, cols, self.classes)
            kernel(
                image, *arrays["standardisation"], plan, first, out[:, first:last], scratch, *arrays["trees"]
            )

        if workers == 1:
            work(0)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(work, range(workers)))
        return out

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

    def _checked(self) -> dict[str, tuple[NDArray[Any], ...]]:
        """
        The buffers as the kernels read them: those of the standardisation, and those of the trees.

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
        if made.form == "boosting":
            packed = pack_boosting(arrays["feature"], arrays["threshold"], arrays["leaf"])
        else:
            names = ("feature", "threshold", "left", "root", "leaf")
            packed = pack_forest(*(arrays[name] for name in names))
        self._arrays = {
            "standardisation": (arrays["mean"], arrays["std"]),
            "trees": (*packed.values(), arrays["baseline"]),
        }
        return self._arrays
