"""Self-training: trees learn a scene without labels from their own most confident predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError
from tesela.models.expert import Expert
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.training.segmentation.trees import TreePixels, crop_features, fit_chosen

KEPT_SHARE = 0.5
"""Share of the pixels of each predicted class, the most confident ones, from which the trees learn."""

_LEAST_PIXELS = 20
_MOST_PIXELS = 40_000


def self_train(expert: Expert, images: Sequence[NDArray[np.floating]], *, seed: int = 0) -> Expert:
    """
    Add trees that learn a scene from the expert's own predictions [Scudder1965]_.

    New trees, as many as there are, learn from the more confident half of the pixels of each predicted class, with the
    features of the expert. The scores of the new expert are the mean of old and new trees.

    Parameters
    ----------
    images : sequence of (bands, rows, cols) arrays of float
        Windows of the scene in physical quantities, NaN where there is no data; wider than twice the margin of the
        expert.

    Raises
    ------
    ExpertError
        If the expert is not one of trees, or the windows hold too few pixels with data.
    """
    network = expert.network
    if not isinstance(network, ClassTrees):
        raise ExpertError(
            f"Self-training is for trees, but the expert is {expert.header.architecture.summary}. Take --transfer "
            f"shift or scene."
        )
    made = network.architecture
    mean, std = (network.get_buffer(name).numpy().astype(np.float64) for name in ("mean", "std"))
    values, classes, confidence = [], [], []
    for image in images:
        scaled = np.ascontiguousarray(expert.scaled(image).transpose(1, 2, 0))
        inner = _inner(scaled.shape[:2], made.spec)
        scores = network.scores(scaled)[inner]
        valid = np.isfinite(image).all(0)[inner]
        features = crop_features(scaled, made.spec, mean, std)
        values.append(features[:, valid])
        classes.append(scores.argmax(-1)[valid])
        top = scores.max(-1, keepdims=True)
        confidence.append(1 / np.exp(scores - top).sum(-1)[valid])
    pixels = TreePixels(np.concatenate(values, axis=1), np.concatenate(classes).astype(np.int64))
    chosen = _most_confident(pixels.classes, np.concatenate(confidence), seed=seed)
    if len(chosen) < _LEAST_PIXELS:
        raise ExpertError(
            f"The scene has {len(pixels.classes)} pixels to learn from, too few for self-training. Take --transfer "
            f"shift."
        )
    learned = TreePixels(pixels.values[:, chosen], pixels.classes[chosen])
    fresh = fit_chosen(
        made.form,
        learned,
        spec=made.spec,
        classes=made.classes,
        mean=mean,
        std=std,
        trees=made.trees,
        seed=seed,
    )
    joined = join_trees(network, fresh)
    return Expert(replace(expert.header, architecture=joined.architecture), joined)


def _inner(shape: tuple[int, ...], spec: FeatureSpec) -> tuple[slice, slice]:
    margin = spec.margin_px
    return slice(margin, shape[0] - margin), slice(margin, shape[1] - margin)


def _most_confident(
    classes: NDArray[np.int64], confidence: NDArray[np.floating], *, seed: int
) -> NDArray[np.int64]:
    """Positions of the more confident pixels of each class that is predicted often enough."""
    kept = []
    for position in np.unique(classes):
        own = np.flatnonzero(classes == position)
        if len(own) >= _LEAST_PIXELS:
            order = own[np.argsort(-confidence[own], kind="stable")]
            kept.append(order[: int(len(own) * KEPT_SHARE)])
    if not kept:
        return np.empty(0, np.int64)
    chosen = np.concatenate(kept)
    some = np.random.default_rng(seed).permutation(len(chosen))[:_MOST_PIXELS]
    return np.sort(chosen[some])


def join_trees(first: ClassTrees, second: ClassTrees) -> ClassTrees:
    """Trees whose scores are the mean of both: of logits (boosting), or of frequencies (forest)."""
    made, other = first.architecture, second.architecture
    arrays = [{name: item.numpy() for name, item in one.named_buffers()} for one in (first, second)]
    joined = {
        name: np.concatenate([item[name] for item in arrays]) for name in ("feature", "threshold", "leaf")
    }
    if made.form == "boosting":
        joined["leaf"] = joined["leaf"] / 2
        joined["baseline"] = (arrays[0]["baseline"] + arrays[1]["baseline"]) / 2
    else:
        joined["left"] = np.concatenate([arrays[0]["left"], arrays[1]["left"] + made.nodes])
        joined["root"] = np.concatenate([arrays[0]["root"], arrays[1]["root"] + made.nodes])
        joined["baseline"] = arrays[0]["baseline"]
    architecture: ClassTreesArchitecture = replace(
        made,
        trees=made.trees + other.trees,
        depth=max(made.depth, other.depth),
        nodes=made.nodes + other.nodes,
    )
    network = ClassTrees(architecture).fill({**joined, "mean": arrays[0]["mean"], "std": arrays[0]["std"]})
    return network.eval().requires_grad_(False)
