"""Training of trees for class maps: pixels with their window features in, one expert out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.band_dates import STATIC
from tesela.core.errors import InputError
from tesela.core.legend import IGNORE
from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, ExpertHeader, Provenance
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec, default_features
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.window_features import compute_features
from tesela.patches.dataset import PatchDataset, band_statistics
from tesela.patches.table import PatchTable
from tesela.training.segmentation.boosting import BoostingSettings, boost
from tesela.training.segmentation.finish import adjust_expert, library_versions, scores_of
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.validation import validate_model
from tesela.training.shell import today

KEPT_FEATURES = 40
"""Features that the final trees see: those of the largest gain in a first training. More cost time and gain nothing."""

HIDDEN_DATES = 0.1
"""Share of the dates of a training patch that are hidden at random, as for `unet_dates`."""

_FIRST_TREES = 60
_FOREST_DEPTH = 16
_FOREST_LEAF = 5
"""Least pixels of a leaf of a forest."""


def train_trees(
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> Expert:
    """
    Train trees on pixels of the patches of split "train", with their adjustment chosen on "val".

    Parameters
    ----------
    settings : SegmentationSettings
        `model` is "boosting" or "forest".
    bands : sequence of str, optional
        Bands that the trees see; default: all of the first scene.

    Raises
    ------
    InputError
        If a split has no patches or no labels, or a band has no data.
    """
    table.of_split("val")
    names = tuple(next(iter(table.scenes.values())).band_names if bands is None else bands)
    mean, std = band_statistics(table, "train", bands=names)
    spec = default_features(names, sides_px=settings.window_sides_px, texture=bool(settings.window_sides_px))
    pixels = draw_pixels(
        table, "train", spec=spec, bands=names, mean=mean, std=std, pixels=settings.pixels, seed=settings.seed
    )
    network = fit_trees(
        settings.model,
        pixels,
        spec=spec,
        classes=len(table.legend),
        mean=mean,
        std=std,
        trees=settings.trees,
        seed=settings.seed,
        deadline=_deadline(settings.budget),
    )
    header = ExpertHeader(
        architecture=network.architecture,
        legend=table.legend,
        bands=names,
        mean=tuple(float(item) for item in mean),
        std=tuple(float(item) for item in std),
        patch_size_px=table.size_px,
        pixel_size_m=next(iter(table.scenes.values())).pixel_size_m,
        training=asdict(settings),
        provenance=Provenance(
            seed=settings.seed,
            date=today(),
            versions=library_versions(),
            fingerprints=dict(fingerprints or {}),
        ),
    )
    validation = validate_model(network, table, header.standardisation, seed=settings.seed)
    header = replace(header, scores=scores_of(validation, codes=table.legend.codes))
    return adjust_expert(Expert(header, network), table=table, settings=settings, pixels=validation)


def _deadline(budget: str) -> Callable[[], bool]:
    """Whether the processor time of a budget is used up."""
    if not budget:
        return lambda: False
    end = time.process_time() + parse_duration_s(budget)
    return lambda: time.process_time() >= end


@dataclass(frozen=True)
class TreePixels:
    """Pixels drawn from the patches of one split."""

    values: NDArray[np.int16]
    """(features, pixels)"""
    classes: NDArray[np.int64]
    """(pixels,): positions in the legend."""


def draw_pixels(
    table: PatchTable,
    split: str,
    *,
    spec: FeatureSpec,
    bands: Sequence[str],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    pixels: int,
    seed: int,
) -> TreePixels:
    """
    Draw labelled pixels, as many from each patch, and compute their features.

    Windows reach beyond the patch into the scene: a pixel has the features that it has in a map. Of several dates, some
    are hidden in some patches (`HIDDEN_DATES`), so that trees know of gaps.

    Raises
    ------
    InputError
        If no pixel of the split has a label.
    """
    dates, margin = spec.band_dates, spec.margin_px
    patches = PatchDataset(table, split, bands=bands, mean=mean, std=std, dates=dates, margin_px=margin)
    each = max(1, -(-pixels // len(patches)))
    values, classes = [], []
    for index in range(len(patches)):
        image, labels = patches[index]
        if dates:
            _hide_dates(image.numpy(), labels.numpy(), dates, np.random.default_rng([seed, index, 1]))
        flat = labels.numpy().ravel()
        labelled = np.flatnonzero(flat != IGNORE)
        rng = np.random.default_rng([seed, index])
        chosen = np.sort(rng.choice(labelled, min(each, len(labelled)), replace=False))
        features = crop_features(image.permute(1, 2, 0).contiguous().numpy(), spec, mean, std)
        values.append(features.reshape(len(features), -1)[:, chosen])
        classes.append(flat[chosen])
    drawn = TreePixels(np.concatenate(values, axis=1), np.concatenate(classes))
    if not drawn.classes.size:
        raise InputError(f"No pixel of split '{split}' has a label.")
    return drawn


def _hide_dates(
    image: NDArray[np.float32], labels: NDArray[np.int64], dates: Sequence[int], rng: np.random.Generator
) -> None:
    """Hide some dates of a patch, but not all, in place; pixels without any date left lose their label."""
    of_band = np.array(dates)
    chances = rng.random(of_band.max() + 1)
    hidden = (chances < HIDDEN_DATES) & (np.arange(len(chances)) != chances.argmax())
    if not hidden.any():
        return
    image[np.isin(of_band, np.flatnonzero(hidden))] = 0
    margin = (image.shape[-1] - labels.shape[-1]) // 2
    inner = slice(margin, margin + labels.shape[-1])
    labels[(image[of_band != STATIC][:, inner, inner] == 0).all(0)] = IGNORE


def crop_features(
    image: NDArray[np.float32], spec: FeatureSpec, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.int16]:
    """Features of an image without its margin, (features, rows, cols)."""
    margin = spec.margin_px
    features = compute_features(image, spec, mean.astype(np.float32), std.astype(np.float32))
    return features[:, margin : features.shape[1] - margin, margin : features.shape[2] - margin]


def fit_trees(
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
) -> ClassTrees:
    """
    Fit trees on drawn pixels, first on all features, then on the `KEPT_FEATURES` that gained most.

    Parameters
    ----------
    form : {"boosting", "forest"}
    deadline : callable
        True when no more boosted trees must be grown.
    """
    fit = _fit_boosting if form == "boosting" else _fit_forest
    importance = fit(pixels, spec, classes, min(trees, _FIRST_TREES), seed, deadline)[2]
    kept = np.sort(np.argsort(-importance, kind="stable")[:KEPT_FEATURES])
    chosen = TreePixels(pixels.values[kept], pixels.classes)
    small = spec.select([int(item) for item in kept])
    architecture, arrays, _ = fit(chosen, small, classes, trees, seed, deadline)
    return ClassTrees(architecture).fill({**arrays, "mean": mean, "std": std})


_Fit = tuple[ClassTreesArchitecture, Mapping[str, NDArray[Any]], NDArray[np.float64]]


def _fit_boosting(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
) -> _Fit:
    settings = BoostingSettings(
        trees=trees, seed=seed, features=0.3 if len(spec.features) > KEPT_FEATURES else 0.5
    )
    made = boost(
        pixels.values,
        pixels.classes,
        count=classes,
        settings=settings,
        deadline=deadline,
    )
    architecture = ClassTreesArchitecture(
        spec.bands, classes, "boosting", len(made.feature), settings.depth, 0, spec
    )
    arrays: dict[str, NDArray[Any]] = {
        "feature": made.feature,
        "threshold": made.threshold,
        "leaf": made.leaf,
        "baseline": made.baseline,
    }
    return architecture, arrays, made.gain


def _fit_forest(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
) -> _Fit:
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(
        trees,
        min_samples_leaf=_FOREST_LEAF,
        max_depth=_FOREST_DEPTH,
        max_features=0.3,
        n_jobs=-1,
        random_state=seed,
    ).fit(pixels.values.T.astype(np.float32), pixels.classes)
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
    return architecture, arrays, np.asarray(forest.feature_importances_)


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
