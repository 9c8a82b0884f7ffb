"""Trees: random forests and boosted trees as plain arrays, so that an expert file of them runs no code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.errors import ExpertError
from tesela.models.gap_filling import fill_gaps
from tesela.models.leaf_sums import PackedTrees, add_leaves, pack_trees
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import TreesArchitecture
from tesela.models.window_moments import margin_of_windows, window_moments

_TYPES = {
    "feature": torch.int32,
    "threshold": torch.float64,
    "left": torch.int32,
    "right": torch.int32,
    "gap_left": torch.uint8,
}


class Trees(UnmixingNetwork):
    """
    A random forest (the mean of leaves of shares) or boosted trees (sums per class, put onto the simplex).

    Features are the scaled values of the pixel, of its neighbours where `neighbours` is above 0, its layers, means and
    deviations of values and layers over windows, and the pixel's series with its gaps filled. A gap is NaN, and each
    node has a branch for gaps. Numbers are compared as in scikit-learn, so the results are equal.
    """

    exportable = False
    """Whether other programs have operators for it, see `tesela.models.onnx_export`."""

    def __init__(self, architecture: TreesArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.margin_px = max(architecture.neighbours, margin_of_windows(architecture.windows))
        for name, kind in _TYPES.items():
            self.register_buffer(name, torch.zeros(architecture.nodes, dtype=kind))
        self.feature: Tensor
        self.feature.fill_(-1)
        self.register_buffer(
            "value", torch.zeros(architecture.nodes, architecture.outputs, dtype=torch.float64)
        )
        self.register_buffer("root", torch.zeros(architecture.trees, dtype=torch.int32))
        self.register_buffer("output", torch.zeros(architecture.trees, dtype=torch.int32))
        self.register_buffer("baseline", torch.zeros(architecture.classes, dtype=torch.float64))
        self.baseline: Tensor
        self.value: Tensor
        self._nodes: tuple[tuple[int, int, int], PackedTrees] | None = None

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """See `UnmixingNetwork.answer`."""
        series = np.where(mask.cpu().numpy() > 0, values.cpu().numpy(), np.nan)
        plan = self.architecture
        features = stack_features(
            series,
            static.cpu().numpy(),
            neighbours=plan.neighbours,
            windows=plan.windows,
            filled=plan.filled,
        )
        nodes = self._packed(features.shape[-1])
        flat = np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float32)
        sums = np.zeros((len(flat), plan.classes))
        add_leaves(flat, sums, nodes)
        forest = plan.outputs == plan.classes
        parts = sums / plan.trees if forest else project_to_simplex(sums + self.baseline.cpu().numpy())
        shares = torch.from_numpy(parts).to(values).reshape(*features.shape[:-1], plan.classes)
        return NetworkOutput(shares=shares, heads=shares[None])

    def _packed(self, features: int) -> PackedTrees:
        """The nodes as the kernel reads them, packed again only when they changed."""
        state = (self.value.data_ptr(), self.value._version, self.feature._version)
        if self._nodes is None or self._nodes[0] != state:
            arrays = {
                name: getattr(self, name).cpu().numpy() for name in (*_TYPES, "value", "root", "output")
            }
            self._check(arrays, features)
            self._nodes = state, pack_trees(arrays)
        return self._nodes[1]

    def _check(self, arrays: dict[str, NDArray[Any]], features: int) -> None:
        """Refuse trees that point outside themselves or in circles: a file may come from an unknown source."""
        plan = self.architecture
        inner = arrays["feature"] >= 0
        own = np.flatnonzero(inner)
        down = np.stack([arrays["left"][inner], arrays["right"][inner]])
        if (
            (arrays["feature"] >= features).any()
            or (down <= own).any()
            or (down >= plan.nodes).any()
            or len(np.unique(np.append(down, arrays["root"])))
            < down.size + len(arrays["root"])  # no node twice
            or ((arrays["root"] < 0) | (arrays["root"] >= plan.nodes)).any()
            or ((arrays["output"] < 0) | (arrays["output"] >= plan.classes)).any()
        ):
            raise ExpertError(
                "The trees of this expert point outside themselves. Train or get the expert again."
            )


class _Forest(Protocol):
    estimators_: Any


def forest_arrays(forest: _Forest) -> dict[str, NDArray[Any]]:
    """Nodes of a fitted random forest of scikit-learn, as the buffers of `Trees`."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*_TYPES, "value")}
    roots, start = [], 0
    for estimator in forest.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        parts["feature"].append(np.where(leaf, -1, tree.feature))
        parts["threshold"].append(tree.threshold)
        parts["left"].append(tree.children_left + start)
        parts["right"].append(tree.children_right + start)
        parts["gap_left"].append(tree.missing_go_to_left)
        parts["value"].append(tree.value[:, :, 0])
        roots.append(start)
        start += len(leaf)
    arrays = {name: np.concatenate(items) for name, items in parts.items()}
    return arrays | {"root": np.array(roots), "output": np.zeros(len(roots)), "baseline": np.zeros(0)}


def boosted_arrays(models: list[Any]) -> dict[str, NDArray[Any]]:
    """Nodes of fitted histogram gradient boosters of scikit-learn, one per class, as the buffers of `Trees`."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*_TYPES, "value")}
    roots, outputs, start = [], [], 0
    for position, model in enumerate(models):
        for (predictor,) in model._predictors:
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            parts["feature"].append(np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)))
            parts["threshold"].append(nodes["num_threshold"])
            parts["left"].append(nodes["left"].astype(np.int64) + start)
            parts["right"].append(nodes["right"].astype(np.int64) + start)
            parts["gap_left"].append(nodes["missing_go_to_left"])
            parts["value"].append(nodes["value"][:, None])
            roots.append(start)
            outputs.append(position)
            start += len(leaf)
    arrays = {name: np.concatenate(items) for name, items in parts.items()}
    baseline = np.array([float(model._baseline_prediction.ravel()[0]) for model in models])
    return arrays | {"root": np.array(roots), "output": np.array(outputs), "baseline": baseline}


def fill_trees(network: Trees, arrays: dict[str, NDArray[Any]]) -> Trees:
    """Put the arrays of `forest_arrays` or `boosted_arrays` into a network of their size."""
    for name, array in arrays.items():
        buffer = getattr(network, name)
        if array.size:
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(array)).to(buffer.dtype))
    return network


def stack_features(
    series: NDArray[np.floating],
    static: NDArray[np.floating],
    *,
    neighbours: int = 0,
    windows: Sequence[int] = (),
    filled: bool = False,
) -> NDArray[np.float32]:
    """
    Features of trees: series of the neighbours, layers, means and deviations over windows, then the filled series.

    Parameters
    ----------
    series : (..., steps, bands) array of float
        Scaled, NaN for gaps; (blocks, rows, cols, steps, bands) if there are neighbours or windows.
    static : (..., layers) array of float
    neighbours : int
        Pixels on each side.
    windows : sequence of int
        Odd sides of windows, in pixels. Layers count in them where a pixel has an observation.
    filled : bool
        The pixel's own series too, its gaps filled by `tesela.models.gap_filling.fill_gaps`.

    Returns
    -------
    (..., features) array of float32
        Smaller by the margin of the neighbours or of the largest window.
    """
    flat = series.reshape(*series.shape[:-2], -1)
    margin = max(neighbours, margin_of_windows(windows))
    if not margin:
        own, parts = series, [flat, static]
    else:
        rows, cols = flat.shape[1] - 2 * margin, flat.shape[2] - 2 * margin
        inner = np.s_[:, margin : margin + rows, margin : margin + cols]
        starts = range(margin - neighbours, margin + neighbours + 1)
        own, parts = series[inner], [flat[:, y : y + rows, x : x + cols] for y in starts for x in starts]
        parts.append(static[inner])
        if windows:
            parts.append(window_moments(channels_of(flat, static), windows, margin_px=margin))
    if filled:
        parts.append(fill_gaps(own).reshape(*own.shape[:-2], -1))
    return np.concatenate(parts, -1).astype(np.float32)


def channels_of(flat: NDArray[np.floating], static: NDArray[np.floating]) -> NDArray[np.floating]:
    """What windows are taken of: (..., steps x bands) values, and layers of pixels with an observation."""
    there = np.isfinite(flat).any(-1, keepdims=True)
    return np.concatenate([flat, np.where(there, static, np.nan)], -1)


def project_to_simplex(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Nearest point, by Euclidean distance, with coordinates from 0 that sum to 1 [Duchi2008]_.

    Parameters
    ----------
    values : (pixels, classes) array of float

    Examples
    --------
    >>> project_to_simplex(np.array([[0.5, 0.9, -3.0]])).round(2).tolist()
    [[0.3, 0.7, 0.0]]
    """
    ordered = -np.sort(-values, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    counts = np.arange(1, values.shape[1] + 1)
    last = ((ordered - excess / counts) > 0).sum(axis=1)
    shift = excess[np.arange(len(values)), last - 1] / last
    nearest: NDArray[np.float64] = np.maximum(values - shift[:, None], 0)
    return nearest
