"""Fitting of trees to drawn pixels: which features they see, boosted or as a forest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.training.segmentation.boosting import (
    Boosted,
    BoostingSettings,
    average_boosted,
    boost,
    boost_series,
)
from tesela.training.segmentation.tree_pixels import TreePixels

KEPT_FEATURES = 80
"""Features that the final trees see: those of the largest gain in a first training. More cost time and gain nothing."""

BOOSTED_TREES = 300
"""Fewer lose rare classes; ``benchmarks/tree_count.py`` compares numbers, and rules by validation pixels."""
FOREST_TREES = 100

_FIRST_TREES = 60
_FOREST_DEPTH = 16
_FOREST_STEP = 10
"""Trees of a forest that are grown between two looks at the clock."""
_FOREST_LEAF = 5
"""Least pixels of a leaf of a forest."""


def keep_features(
    pixels: TreePixels,
    spec: FeatureSpec,
    *,
    classes: int,
    seed: int,
    deadline: Callable[[], bool] = lambda: False,
) -> tuple[FeatureSpec, TreePixels]:
    """The `KEPT_FEATURES` that gain most in a first boosting on all features, and the pixels with these only."""
    if len(spec.features) <= KEPT_FEATURES:
        return spec, pixels
    kept = best_features(pixels, classes=classes, seed=seed, deadline=deadline)
    return spec.select(kept.tolist()), pixels.of_features(kept)


def best_features(
    pixels: TreePixels, *, classes: int, seed: int, deadline: Callable[[], bool] = lambda: False
) -> NDArray[np.int64]:
    """Positions of the `KEPT_FEATURES` that gain most in a first boosting, ascending."""
    settings = BoostingSettings(trees=_FIRST_TREES, seed=seed, features=0.3)
    gain = boost(pixels.values, pixels.classes, count=classes, settings=settings, deadline=deadline).gain
    return np.sort(np.argsort(-gain, kind="stable")[:KEPT_FEATURES])


def fit_chosen(
    form: str,
    pixels: TreePixels,
    *,
    spec: FeatureSpec,
    classes: int,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    trees: int,
    seed: int,
    deadline: Callable[[], bool] = lambda: False,
    grown: Callable[[int], None] = lambda number: None,
) -> ClassTrees:
    """
    Fit trees on all features of drawn pixels.

    Parameters
    ----------
    form : {"boosting", "forest"}
    spec : FeatureSpec
        What the features are.
    mean, std : (bands,) array of float64
        Standardisation of the bands.
    trees : int
        How many are grown.
    deadline : callable
        True when no more trees must be grown.
    grown : callable
        Called with the number of trees so far.
    """
    if form == "boosting":
        architecture, arrays = _fit_boosting(pixels, spec, classes, trees, seed, deadline, grown)
    else:
        architecture, arrays = _fit_forest(pixels, spec, classes, trees, seed, deadline, grown)
    return ClassTrees(architecture).fill({**arrays, "mean": mean, "std": std})


_Fit = tuple[ClassTreesArchitecture, Mapping[str, NDArray[Any]]]


def _fit_boosting(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
    grown: Callable[[int], None],
) -> _Fit:
    made = grow_boosted(pixels, classes, trees=trees, seed=seed, deadline=deadline, grown=grown)
    architecture = ClassTreesArchitecture(
        spec.bands, classes, "boosting", len(made.feature), BoostingSettings.depth, 0, spec
    )
    return architecture, {
        "feature": made.feature,
        "threshold": made.threshold,
        "leaf": made.leaf,
        "baseline": made.baseline,
    }


def grow_boosted(
    pixels: TreePixels,
    classes: int,
    *,
    trees: int,
    seed: int,
    held_out: TreePixels | None = None,
    series: int = 2,
    deadline: Callable[[], bool] = lambda: False,
    grown: Callable[[int], None] = lambda number: None,
) -> Boosted:
    """
    Boosted trees in several series, whose scores are averaged: less noise than one series of as many trees.

    See `fit_chosen` for the parameters.
    """
    made = boost_series(
        pixels.values,
        pixels.classes,
        count=classes,
        settings=BoostingSettings(trees=trees, seed=seed, features=0.4),
        series=min(series, trees),
        deadline=deadline,
        grown=grown,
    )
    return average_boosted(made)


def _fit_forest(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
    grown: Callable[[int], None],
) -> _Fit:
    from sklearn.ensemble import ExtraTreesClassifier

    values = pixels.values.T.astype(np.float32)
    forest = ExtraTreesClassifier(
        0,
        min_samples_leaf=_FOREST_LEAF,
        max_depth=_FOREST_DEPTH,
        max_features=0.3,
        n_jobs=torch.get_num_threads(),
        random_state=seed,
        warm_start=True,
    )
    while forest.n_estimators < trees and (not forest.n_estimators or not deadline()):
        forest.set_params(n_estimators=min(trees, forest.n_estimators + _FOREST_STEP))
        forest.fit(values, pixels.classes)
        grown(forest.n_estimators)
    arrays = forest_arrays(forest, classes=classes)
    architecture = ClassTreesArchitecture(
        spec.bands,
        classes,
        "forest",
        len(arrays["root"]),
        max(int(item.get_depth()) for item in forest.estimators_) or 1,
        len(arrays["feature"]),
        spec,
    )
    return architecture, arrays


def forest_arrays(forest: Any, *, classes: int) -> dict[str, NDArray[Any]]:
    """
    Nodes of a fitted forest of scikit-learn as the buffers of `ClassTrees`: the same answers.

    Features are whole numbers, so a threshold may be rounded down. The right child of a node stands behind its left
    one; a leaf is its own left child.
    """
    feature, threshold, left, leaf, root = [], [], [], [], []
    start = 0
    for estimator in forest.estimators_:
        tree = estimator.tree_
        order, place = _siblings_together(tree.children_left, tree.children_right)
        ends = tree.children_left[order] < 0
        shares = np.zeros((len(order), classes), np.float32)
        frequency = tree.value[order, 0, :]
        shares[:, np.asarray(forest.classes_, int)] = frequency / frequency.sum(1, keepdims=True)
        feature.append(np.where(ends, 0, tree.feature[order]))
        threshold.append(np.where(ends, 32767, np.floor(np.clip(tree.threshold[order], -32768, 32767))))
        left.append(np.where(ends, np.arange(len(order)), place[tree.children_left[order]]) + start)
        leaf.append(shares)
        root.append(start)
        start += len(order)
    return {
        "feature": np.concatenate(feature).astype(np.int32),
        "threshold": np.concatenate(threshold).astype(np.int16),
        "left": np.concatenate(left).astype(np.int32),
        "leaf": np.concatenate(leaf),
        "root": np.array(root, np.int32),
    }


def _siblings_together(
    left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order of the nodes, level by level, in which a right child follows its left one; and each node's place in it."""
    order = [0]
    for node in order:
        if left[node] >= 0:
            order += [int(left[node]), int(right[node])]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return np.array(order), place
