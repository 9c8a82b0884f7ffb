"""Self-training: an expert learns a scene without labels from its own most confident predictions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.errors import ExpertError
from tesela.core.legend import IGNORE
from tesela.models.expert import Expert
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.training.segmentation.network_transfer import (
    blend_batch_norm,
    has_batch_norm,
    make_batch,
    tune_network,
)
from tesela.training.segmentation.tree_fit import fit_chosen
from tesela.training.segmentation.tree_pixels import TreePixels, crop_features

KEPT_SHARE = 0.5
"""Share of the pixels of each predicted class, the most confident ones, from which an expert learns."""

TUNING_S = 10.0
"""Most processor time that the networks of an expert learn further."""

_LEAST_PIXELS = 20
_MOST_PIXELS = 40_000
_BALANCED_PIXELS = 20_000
_ROUNDS = 60
_LEAST_SHARE = 1e-3

Images = Sequence[NDArray[np.floating]]


class Adjustable(Protocol):
    """A network of which numbers can be added to the scores of each class."""

    def add_to_scores(self, values: torch.Tensor) -> None:
        """Add for good."""


@dataclass(frozen=True)
class Pseudolabels:
    """What an expert predicts in the windows of a scene."""

    inside: tuple[NDArray[np.bool_], ...]
    """(rows, cols) of each window: pixels with data, outside the margin."""
    confident: tuple[NDArray[np.int64], ...]
    """(rows, cols) of each window: positions in the legend, 255 where the expert is less confident."""

    @property
    def count(self) -> int:
        """Pixels from which an expert learns."""
        return sum(int((part != IGNORE).sum()) for part in self.confident)


def self_train(
    expert: Expert, images: Images, *, before: Expert | None = None, seconds: float = TUNING_S, seed: int = 0
) -> Expert:
    """
    Learn a scene from the expert's own predictions [Scudder1965]_.

    The more confident half of the pixels of each predicted class are labels. Trees: new trees, as many as there are,
    learn from them, with the features of the expert; the scores of the new expert are the mean of old and new trees.
    Networks: a few steps, see `tesela.training.segmentation.network_transfer.tune_network`. A fused expert: each of
    its members learns. Then a number is added to the scores of each class, so that each is predicted as often as
    before: what is learnt from confident pixels spreads rare classes too far.

    Parameters
    ----------
    images : sequence of (bands, rows, cols) arrays of float
        Windows of the scene in physical quantities, NaN where there is no data; wider than twice the margin of the
        expert.
    before : Expert, optional
        The expert before its standardisation was fitted to the scene; then each class is predicted as often as by the
        mean of both.
    seconds : float
        Most processor time that networks learn.

    Raises
    ------
    ExpertError
        If the windows hold too few pixels with data.
    """
    inside = tuple(_inside(expert, image) for image in images)
    scores = _scores(expert, images, inside)
    labels = _most_confident(scores, inside, seed=seed)
    if labels.count < _LEAST_PIXELS:
        raise ExpertError(
            f"The scene has {scores.shape[1]} pixels to learn from, too few for self-training. Take --transfer shift."
        )
    learned = _learn(expert, images, labels, seconds=seconds, seed=seed)
    wanted = predicted_shares(scores)
    if before is not None:
        wanted = (wanted + predicted_shares(_scores(before, images, inside))) / 2
    added = balance_scores(_scores(learned, images, inside), wanted)
    cast("Adjustable", learned.network).add_to_scores(torch.from_numpy(added))
    return learned


def adapt_batch_norm(expert: Expert, images: Images) -> Expert:
    """
    Mix the statistics of batch normalisation with those of a scene, in all networks of an expert.

    Parameters
    ----------
    images : sequence of (bands, rows, cols) arrays of float
        Windows of the scene in physical quantities, NaN where there is no data.

    Raises
    ------
    ExpertError
        If no network of the expert has batch normalisation.
    """
    members = models_of(expert)
    if not any(map(has_batch_norm, members)):
        raise ExpertError(
            f"The expert ({expert.header.architecture.summary}) has no batch normalisation to adapt. Take --transfer "
            f"auto."
        )
    batch, _ = make_batch(expert, images, [np.full(image.shape[1:], IGNORE, np.int64) for image in images])
    return with_models(
        expert,
        [blend_batch_norm(member, batch) if has_batch_norm(member) else member for member in members],
    )


def changed_share(first: Expert, second: Expert, images: Images) -> float:
    """Share of the pixels with data of the windows of a scene that two experts with one legend classify differently."""
    inside = tuple(_inside(first, image) for image in images)
    one, other = (_scores(item, images, inside).argmax(0) for item in (first, second))
    return float((one != other).mean()) if len(one) else 0.0


def models_of(expert: Expert) -> list[nn.Module]:
    """The members of a fused expert, or its one network."""
    network = expert.network
    return list(network.members) if isinstance(network, FusedNetwork) else [network]


def predicted_shares(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """How often each class has the highest of (classes, pixels) scores, (classes,)."""
    shares: NDArray[np.float64] = np.bincount(scores.argmax(0), minlength=len(scores)) / max(
        scores.shape[1], 1
    )
    return shares


def balance_scores(scores: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """
    Numbers to add to the scores of each class, so that classes are predicted in given shares.

    Parameters
    ----------
    scores : (classes, pixels) array of float32
    shares : (classes,) array of float64
        Wanted shares of the pixels.

    Examples
    --------
    >>> scores = np.log(np.linspace([0.9, 0.1], [0.4, 0.6], 100).T).astype(np.float32)
    >>> predicted_shares(scores + balance_scores(scores, np.array([0.5, 0.5]))[:, None]).round(1).tolist()
    [0.5, 0.5]
    """
    some = scores[:, :: max(1, -(-scores.shape[1] // _BALANCED_PIXELS))]
    added = np.zeros(len(scores))
    for step in range(_ROUNDS):
        now = predicted_shares((some + added[:, None]).astype(np.float32))
        rate = 0.5 if step < _ROUNDS // 2 else 0.2
        added += rate * np.log((shares + _LEAST_SHARE) / (now + _LEAST_SHARE))
    made: NDArray[np.float32] = (added - added.mean()).astype(np.float32)
    return made


def _learn(expert: Expert, images: Images, labels: Pseudolabels, *, seconds: float, seed: int) -> Expert:
    """The expert with each of its models trained further."""
    members = models_of(expert)
    networks = sum(not isinstance(member, ClassTrees) for member in members)
    made: list[nn.Module] = []
    for member in members:
        if isinstance(member, ClassTrees):
            made.append(_grow_trees(expert, member, images, labels, seed=seed))
        else:
            batch, targets = make_batch(expert, images, labels.confident)
            made.append(tune_network(member, batch, targets, seconds=seconds / networks, seed=seed))
    return with_models(expert, made)


def with_models(expert: Expert, models: Sequence[nn.Module]) -> Expert:
    """The expert with other models in place of its own: one, or as many as the members of a fused expert."""
    old = expert.header.architecture
    planned = old.members if isinstance(old, FusedArchitecture) else (old,)
    plans = [
        model.architecture if isinstance(model, ClassTrees) else plan
        for model, plan in zip(models, planned, strict=True)
    ]
    if not isinstance(old, FusedArchitecture):
        return Expert(replace(expert.header, architecture=plans[0]), models[0])
    architecture = replace(old, members=tuple(plans))  # type: ignore[arg-type]
    network = copy.deepcopy(expert.network)
    network.members = nn.ModuleList(models)
    return Expert(replace(expert.header, architecture=architecture), network.eval().requires_grad_(False))


def _grow_trees(
    expert: Expert, trees: ClassTrees, images: Images, labels: Pseudolabels, *, seed: int
) -> ClassTrees:
    """The trees, with as many that have learnt the labels."""
    made = trees.architecture
    mean, std = (trees.get_buffer(name).numpy().astype(np.float64) for name in ("mean", "std"))
    values, classes = [], []
    for image, label in zip(images, labels.confident, strict=True):
        scaled = np.ascontiguousarray(expert.scaled(image).transpose(1, 2, 0))
        inner = _inner(label.shape, made.spec.margin_px)
        chosen = label[inner] != IGNORE
        values.append(crop_features(scaled, made.spec, mean, std)[:, chosen])
        classes.append(label[inner][chosen])
    fresh = fit_chosen(
        made.form,
        TreePixels(np.concatenate(values, axis=1), np.concatenate(classes)),
        spec=made.spec,
        classes=made.classes,
        mean=mean,
        std=std,
        trees=made.trees,
        seed=seed,
    )
    return join_trees(trees, fresh)


def _inner(shape: tuple[int, ...], margin_px: int) -> tuple[slice, slice]:
    return slice(margin_px, shape[0] - margin_px), slice(margin_px, shape[1] - margin_px)


def _inside(expert: Expert, image: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Pixels with data, outside the margin."""
    mask = np.zeros(image.shape[1:], bool)
    inner = _inner(mask.shape, int(getattr(expert.network, "margin_px", 0)))
    mask[inner] = np.isfinite(image).all(0)[inner]
    return mask


@torch.no_grad()
def _scores(expert: Expert, images: Images, inside: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Scores of the pixels inside, one window after the other, (classes, pixels)."""
    parts = []
    for image, mask in zip(images, inside, strict=True):
        batch, _ = make_batch(expert, [image], [np.full(mask.shape, IGNORE, np.int64)])
        rows, cols = mask.shape
        parts.append(expert.network(batch)[0, :, :rows, :cols].float().numpy()[:, mask])
    return np.concatenate(parts, axis=1)


def _most_confident(
    scores: NDArray[np.float32], inside: tuple[NDArray[np.bool_], ...], *, seed: int
) -> Pseudolabels:
    """The more confident pixels of each class that is predicted often enough, at most 40,000 in all."""
    classes = scores.argmax(0)
    confidence = -np.log(np.exp(scores - scores.max(0)).sum(0))
    kept = []
    for position in np.unique(classes):
        own = np.flatnonzero(classes == position)
        if len(own) >= _LEAST_PIXELS:
            order = own[np.argsort(-confidence[own], kind="stable")]
            kept.append(order[: int(len(own) * KEPT_SHARE)])
    chosen = np.concatenate(kept) if kept else np.empty(0, np.int64)
    some = np.random.default_rng(seed).permutation(len(chosen))[:_MOST_PIXELS]
    flat = np.full(len(classes), IGNORE, np.int64)
    flat[chosen[some]] = classes[chosen[some]]
    confident, first = [], 0
    for mask in inside:
        label = np.full(mask.shape, IGNORE, np.int64)
        last = first + int(mask.sum())
        label[mask] = flat[first:last]
        confident.append(label)
        first = last
    return Pseudolabels(inside, tuple(confident))


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
