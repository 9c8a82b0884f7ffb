"""Training of trees for class maps: pixels with their window features in, one expert out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
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
from tesela.training.segmentation.boosting import BoostingSettings, average_boosted, boost
from tesela.training.segmentation.finish import adjust_expert, library_versions, scores_of
from tesela.training.segmentation.imagery import training_imagery
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.validation import ValidationPixels, validate_model
from tesela.training.shell import today

KEPT_FEATURES = 80
"""Features that the final trees see: those of the largest gain in a first training. More cost time and gain nothing."""

USUAL_TREES = {"boosting": BoostingSettings.trees, "forest": 100}
"""Number of trees by form, unless the settings name one."""

HIDDEN_DATES = 0.1
"""Share of the dates of a training patch that are hidden at random, as for `unet_dates`."""

_FIRST_TREES = 60
_SERIES = 2
"""Series of boosted trees."""
_FOREST_DEPTH = 16
_FOREST_STEP = 10
"""Trees of a forest that are grown between two looks at the clock."""
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
    if settings.budget:
        compile_kernels()
    deadline = budget_deadline(settings.budget)
    expert, pixels = train_unadjusted(table, settings=settings, bands=bands, fingerprints=fingerprints)
    if settings.refit:
        expert = refit_trees(expert, table, settings=settings, deadline=deadline)
    return adjust_expert(expert, table=table, settings=settings, pixels=pixels)


def train_unadjusted(
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> tuple[Expert, ValidationPixels]:
    """
    Trees as by `train_trees`, neither fitted again nor adjusted, and their scores on the validation patches.

    Where they will be grown again, they take six tenths of the budget at most, and the choice of
    features half of that.
    """
    part = 0.6 if settings.refit else 1.0
    chosen, grown = (budget_deadline(settings.budget, part=item) for item in (part / 2, part))
    table.of_split("val")
    names = tuple(next(iter(table.scenes.values())).band_names if bands is None else bands)
    mean, std = band_statistics(table, "train", bands=names)
    spec = default_features(names, sides_px=settings.window_sides_px, texture=bool(settings.window_sides_px))
    drawn = draw_pixels(
        table, "train", spec=spec, bands=names, mean=mean, std=std, pixels=settings.pixels, seed=settings.seed
    )
    spec, drawn = keep_features(drawn, spec, classes=len(table.legend), seed=settings.seed, deadline=chosen)
    network = fit_chosen(
        settings.model,
        drawn,
        spec=spec,
        classes=len(table.legend),
        mean=mean,
        std=std,
        trees=_tree_count(settings),
        seed=settings.seed,
        deadline=grown,
    )
    header = ExpertHeader(
        architecture=network.architecture,
        legend=table.legend,
        bands=names,
        mean=tuple(float(item) for item in mean),
        std=tuple(float(item) for item in std),
        patch_size_px=table.size_px,
        pixel_size_m=next(iter(table.scenes.values())).pixel_size_m,
        imagery=training_imagery(table, bands=names, mean=mean, std=std, seed=settings.seed),
        training=asdict(settings),
        provenance=Provenance(
            seed=settings.seed,
            date=today(),
            versions=library_versions(),
            fingerprints=dict(fingerprints or {}),
        ),
    )
    pixels = validate_model(network, table, header.standardisation, seed=settings.seed)
    header = replace(header, scores=scores_of(pixels, codes=table.legend.codes))
    return Expert(header, network), pixels


def refit_trees(
    expert: Expert,
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    deadline: Callable[[], bool] = lambda: False,
) -> Expert:
    """
    Trees of the same features, grown on the patches of "train" and "val" together.

    The validation patches have chosen what was to choose; their labels then serve as the others do. The header keeps
    the scores that the trees had on them before.

    Parameters
    ----------
    expert : Expert
        From `train_unadjusted`.
    """
    plan, header = expert.header.architecture, expert.header
    assert isinstance(plan, ClassTreesArchitecture)
    area = {  # a patch among others that overlap it brings less of its own
        split: len(table.of_split(split)) / table.overlap(split) for split in ("train", "val")
    }
    parts = [
        draw_pixels(
            table,
            split,
            spec=plan.spec,
            bands=header.bands,
            mean=np.array(header.mean),
            std=np.array(header.std),
            pixels=max(1, round(settings.pixels * own / sum(area.values()))),
            seed=settings.seed,
        )
        for split, own in area.items()
    ]
    network = fit_chosen(
        settings.model,
        TreePixels(
            np.concatenate([part.values for part in parts], axis=1),
            np.concatenate([part.classes for part in parts]),
        ),
        spec=plan.spec,
        classes=plan.classes,
        mean=np.array(header.mean),
        std=np.array(header.std),
        trees=_tree_count(settings),
        seed=settings.seed,
        deadline=deadline,
    )
    return Expert(replace(header, architecture=network.architecture), network)


def _tree_count(settings: SegmentationSettings) -> int:
    return USUAL_TREES[settings.model] if settings.trees == "auto" else settings.trees


def compile_kernels() -> None:
    """Compile what features and boosted trees run by, once for an installation: it is no part of a budget."""
    spec, zero, one = default_features(("band",), sides_px=(3,)), np.zeros(1), np.ones(1)
    image: NDArray[np.float32] = np.zeros((8, 8, 1), np.float32)
    values = crop_features(image, spec, zero, one)
    pixels = TreePixels(np.zeros((len(values), 100), np.int16), np.arange(100) % 2)
    network = fit_chosen("boosting", pixels, spec=spec, classes=2, mean=zero, std=one, trees=2, seed=0)
    network(torch.zeros(1, 1, 8 + 2 * spec.margin_px, 8 + 2 * spec.margin_px))


def budget_deadline(budget: str, *, part: float = 1.0) -> Callable[[], bool]:
    """Whether the processor time of a part of a budget is used up."""
    if not budget:
        return lambda: False
    end = time.process_time() + part * parse_duration_s(budget)
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
    inner = slice(margin, image.shape[0] - margin)
    features = compute_features(image, spec, mean.astype(np.float32), std.astype(np.float32), rows=inner)
    return features[:, :, margin : image.shape[1] - margin]


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
    settings = BoostingSettings(trees=_FIRST_TREES, seed=seed, features=0.3)
    gain = boost(pixels.values, pixels.classes, count=classes, settings=settings, deadline=deadline).gain
    kept = np.sort(np.argsort(-gain, kind="stable")[:KEPT_FEATURES])
    return spec.select(kept.tolist()), TreePixels(np.ascontiguousarray(pixels.values[kept]), pixels.classes)


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
    deadline : callable
        True when no more trees must be grown.
    """
    if form == "boosting":
        architecture, arrays = _fit_boosting(pixels, spec, classes, trees, seed, deadline)
    else:
        architecture, arrays = _fit_forest(pixels, spec, classes, trees, seed, deadline)
    return ClassTrees(architecture).fill({**arrays, "mean": mean, "std": std})


_Fit = tuple[ClassTreesArchitecture, Mapping[str, NDArray[Any]]]


def _fit_boosting(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
) -> _Fit:
    """Several series of trees, whose scores are averaged: less noise than one series of as many trees."""
    series = min(_SERIES, trees)
    made = average_boosted(
        [
            boost(
                pixels.values,
                pixels.classes,
                count=classes,
                settings=BoostingSettings(
                    trees=trees // series + (number < trees % series), seed=seed + 1000 * number, features=0.4
                ),
                deadline=deadline,
            )
            for number in range(series)
        ]
    )
    architecture = ClassTreesArchitecture(
        spec.bands, classes, "boosting", len(made.feature), BoostingSettings.depth, 0, spec
    )
    return architecture, {
        "feature": made.feature,
        "threshold": made.threshold,
        "leaf": made.leaf,
        "baseline": made.baseline,
    }


def _fit_forest(
    pixels: TreePixels,
    spec: FeatureSpec,
    classes: int,
    trees: int,
    seed: int,
    deadline: Callable[[], bool],
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
