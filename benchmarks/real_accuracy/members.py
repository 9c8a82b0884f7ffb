"""Members of a fused expert on a task of ``real_accuracy.py``: pixels, boosted trees and networks, and their scores."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import tesela
from real_accuracy.ours import make_table
from real_accuracy.sets import DataSet
from real_accuracy.task import TEST, TRAIN, VAL, Task, make_task
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.segmentation.feature_spec import FeatureSpec, default_features
from tesela.models.segmentation.window_features import compute_features
from tesela.patches.dataset import band_statistics
from tesela.training.segmentation.boosting import Boosted
from tesela.training.segmentation.network_refit import refit_network
from tesela.training.segmentation.sizing import sized_settings
from tesela.training.segmentation.tree_fit import BOOSTED_TREES, best_features, grow_boosted
from tesela.training.segmentation.tree_pixels import TreePixels
from tesela.training.segmentation.validation import ValidationPixels
from tesela.training.shell import EarlyStopping

PIXELS, FOLDS = 60_000, 4
Planes = dict[str, NDArray[np.float32]]
"""(pixels, classes) scores of each scene, by its name."""


@dataclass(frozen=True)
class Trial:
    """A task with the window features of all its scenes."""

    task: Task
    spec: FeatureSpec
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    features: dict[str, NDArray[np.int16]]
    """(features, pixels) of each scene, by its name."""
    seconds: float

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.task.data.classes)

    def pixels(self, planes: Planes, split: int) -> ValidationPixels:
        """Scores of the labelled pixels of a split; units are the blocks."""
        parts = []
        for scene in self.task.data.scenes:
            chosen = np.flatnonzero(self.task.mask(scene, split))
            parts.append(
                (
                    planes[scene.name][chosen],
                    scene.labels.ravel()[chosen].astype(np.int64) - 1,
                    scene.units.ravel()[chosen],
                )
            )
        scores, classes, units = (np.concatenate(item) for item in zip(*parts, strict=True))
        block = np.unique(units, return_inverse=True)[1]
        return ValidationPixels(scores, classes, block, block)


def prepare(data: DataSet, seed: int, seconds: float) -> Trial:
    """Features of all scenes, in the standardisation of the training area."""
    task = make_task(data, seed)
    with tempfile.TemporaryDirectory() as folder:
        table = make_table(task, Path(folder))
        mean, std = band_statistics(table, "train", bands=data.bands)
    spec = default_features(data.bands, **({"sides_px": (), "texture": False} if data.pixels_only else {}))
    features = {}
    for scene in data.scenes:
        image = ((np.moveaxis(scene.image, 0, 2) - mean) / std).astype(np.float32)
        made = compute_features(
            np.ascontiguousarray(image), spec, mean.astype(np.float32), std.astype(np.float32)
        )
        features[scene.name] = made.reshape(len(spec.features), -1)
    return Trial(task, spec, mean, std, features, seconds)


def draw(
    trial: Trial, columns: Planes | None = None
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int32]]:
    """Features, with further columns where there are some, classes and units of training pixels."""
    rng = np.random.default_rng(trial.task.seed)
    total = sum(int(trial.task.mask(scene, TRAIN).sum()) for scene in trial.task.data.scenes)
    values, classes, units = [], [], []
    for scene in trial.task.data.scenes:
        chosen = np.flatnonzero(trial.task.mask(scene, TRAIN))
        number = min(len(chosen), int(np.ceil(len(chosen) * PIXELS / total)))
        chosen = np.sort(rng.choice(chosen, number, replace=False))
        part = trial.features[scene.name][:, chosen]
        values.append(
            part if columns is None else np.concatenate([part, quantised(columns[scene.name][chosen])])
        )
        classes.append(scene.labels.ravel()[chosen].astype(np.int64) - 1)
        units.append(scene.units.ravel()[chosen])
    return np.concatenate(values, axis=1), np.concatenate(classes), np.concatenate(units)


def quantised(scores: NDArray[np.float32]) -> NDArray[np.int16]:
    """Scores (pixels, classes) as features (classes, pixels)."""
    return np.asarray(np.clip(scores.T * 1000, -32000, 32000), np.int16)


def with_validation(trial: Trial) -> Trial:
    """The trial whose validation units train, too."""
    split = np.where(trial.task.split == VAL, TRAIN, trial.task.split)
    return replace(trial, task=replace(trial.task, split=split))


def grow(
    values: NDArray[np.int16],
    classes: NDArray[np.int64],
    count: int,
    *,
    series: int = 2,
    seed: int = 0,
) -> tuple[Boosted, NDArray[np.int64]]:
    """Boosted trees on the features of the largest gain, and which they are."""
    drawn = TreePixels(values, classes)
    kept = best_features(drawn, classes=count, seed=seed)
    made = grow_boosted(
        drawn.of_features(kept),
        count,
        trees=BOOSTED_TREES,
        seed=seed,
        series=series,
    )
    return made, kept


def apply(trial: Trial, model: Boosted, kept: NDArray[np.int64], columns: Planes | None = None) -> Planes:
    """Scores of all scenes by trees."""
    planes = {}
    for name, features in trial.features.items():
        values = features if columns is None else np.concatenate([features, quantised(columns[name])])
        planes[name] = log_probabilities(model.scores(np.ascontiguousarray(values[kept])))
    return planes


def log_probabilities(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of probabilities, (pixels, classes)."""
    return np.asarray(torch.log_softmax(torch.from_numpy(scores), 1).numpy(), np.float32)


def train_unet(task: Task, seconds: float) -> Planes:
    """Scores of all scenes by a U-Net trained on the training area of a task."""
    with tempfile.TemporaryDirectory() as folder:
        expert = tesela.train_segmentation(
            make_table(task, Path(folder)), network_settings(task, seconds), quiet=True
        )
    return network_planes(task, expert.header, expert.network)


def network_settings(task: Task, seconds: float) -> tesela.SegmentationSettings:
    """Those of a U-Net of so many processor seconds."""
    return tesela.SegmentationSettings(model="unet", prior=0.0, budget=f"{seconds:.0f} s", seed=task.seed)


def train_unets(task: Task, seconds: float) -> tuple[Planes, Planes, Planes]:
    """Scores by a U-Net of the best epoch, by its last weights, and by one trained again with the validation area."""
    last: list[dict[str, torch.Tensor]] = []

    class Watching(EarlyStopping):
        def update(self, score: float, network: nn.Module, *, epoch: int) -> bool:
            last[:] = [{name: item.detach().clone() for name, item in network.state_dict().items()}]
            return super().update(score, network, epoch=epoch)

    with tempfile.TemporaryDirectory() as folder:
        table = make_table(task, Path(folder))
        settings = sized_settings(network_settings(task, seconds), table)
        with mock.patch("tesela.training.segmentation.task.EarlyStopping", Watching):
            expert = tesela.train_segmentation(table, settings, quiet=True)
        [weights] = last
        again = refit_network(
            Expert(expert.header, expert.network),
            table,
            Path(folder) / "again.safetensors",
            settings=settings,
            quiet=True,
        )
    best = network_planes(task, expert.header, expert.network)
    expert.network.load_state_dict({name: weights[name] for name in expert.network.state_dict()})
    return (
        best,
        network_planes(task, expert.header, expert.network),
        network_planes(task, again.header, again.network),
    )


def network_planes(task: Task, header: ExpertHeader, network: nn.Module) -> Planes:
    """Scores of all scenes by a network."""
    mean, std = (np.array(item)[:, None, None] for item in (header.mean, header.std))
    stride, edge = int(network.stride), 32
    planes = {}
    for scene in task.data.scenes:
        image = ((scene.image - mean) / std).astype(np.float32)
        rows, cols = image.shape[1:]
        widths = ((0, 0), (edge, edge + -rows % stride), (edge, edge + -cols % stride))
        padded = torch.from_numpy(np.pad(image, widths, mode="reflect"))[None]
        with torch.inference_mode():
            scores = torch.log_softmax(network(padded).float(), 1)[0]
        inner = scores[:, edge : edge + rows, edge : edge + cols]
        planes[scene.name] = inner.reshape(len(inner), -1).T.contiguous().numpy()
    return planes


def half_tasks(task: Task) -> list[Task]:
    """The task with each half of its training units; the other half is in no split that trains."""
    rng = np.random.default_rng(task.seed)
    units = rng.permutation(np.flatnonzero(task.split == TRAIN))
    halves = []
    for half in range(2):
        split = task.split.copy()
        split[units[half::2]] = TEST
        halves.append(replace(task, split=split))
    return halves


def out_of_fold_networks(trial: Trial) -> Planes:
    """Scores by two networks of half the training area and half the time: the other's where one was trained."""
    tasks = half_tasks(trial.task)
    made = [train_unet(task, trial.seconds / 2) for task in tasks]
    planes = {}
    for scene in trial.task.data.scenes:
        mean = log_probabilities((made[0][scene.name] + made[1][scene.name]) / 2)
        for own, other in ((0, 1), (1, 0)):
            trained = (tasks[own].split[scene.units] == TRAIN).ravel()
            mean[trained] = made[other][scene.name][trained]
        planes[scene.name] = mean
    return planes


def out_of_fold_trees(trial: Trial) -> Planes:
    """Scores by trees that saw no pixel of the unit."""
    values, classes, units = draw(trial)
    whole, kept = grow(values, classes, trial.classes)
    planes = apply(trial, whole, kept)
    rng = np.random.default_rng(trial.task.seed)
    names = rng.permutation(np.unique(units))
    for fold in range(FOLDS):
        left_out = names[fold::FOLDS]
        inside = ~np.isin(units, left_out)
        model, own = grow(values[:, inside], classes[inside], trial.classes)
        for scene in trial.task.data.scenes:
            place = np.isin(scene.units, left_out).ravel()
            if place.any():
                part = np.ascontiguousarray(trial.features[scene.name][own][:, place])
                planes[scene.name][place] = log_probabilities(model.scores(part))
    return planes


def with_bands(data: DataSet, planes: Planes) -> DataSet:
    """The set with probabilities as further bands."""
    scenes = []
    for scene in data.scenes:
        extra = np.exp(planes[scene.name]).T.reshape(-1, *scene.labels.shape)
        scenes.append(replace(scene, image=np.concatenate([scene.image, extra]).astype(np.float32)))
    extra_names = tuple(f"share{number}" for number in range(len(data.classes)))
    return replace(data, scenes=tuple(scenes), bands=(*data.bands, *extra_names))
