"""Experts of one region in another: distance, refusal, alignment and self-training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from tests.segmentation_scene import LEGEND, make_patch_table
from typer.testing import CliRunner

from tesela.chains.transfer import adapt_expert
from tesela.cli.app import app
from tesela.core.errors import ExpertError, InputError, RecipeError
from tesela.core.training_imagery import TrainingImagery, describe_imagery
from tesela.io.scenes import open_scene
from tesela.mapping.alignment import align, with_alignment
from tesela.mapping.predict import predict_map
from tesela.mapping.scene_distance import check_imagery, sample_pixels, sample_windows
from tesela.models.expert import Expert, open_expert, save_expert
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.training.segmentation.losses import segmentation_loss
from tesela.training.segmentation.network_transfer import blend_batch_norm, make_batch, tune_network
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.transfer import (
    adapt_batch_norm,
    join_trees,
    predicted_shares,
    self_train,
)
from tesela.training.segmentation.trees import train_trees

COLOURS = np.array([[0.1, 0.1], [0.2, 0.8], [0.9, 0.5]])
"""Of the classes of `make_patch_table`, red and nir."""


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> Expert:
    table = make_patch_table(tmp_path_factory.mktemp("source"))
    settings = SegmentationSettings(model="boosting", trees=30, pixels=4000, window_sides_px=(3,))
    return train_trees(table, settings=settings)


def write_target(
    path: Path, *, gain: float = 1.0, offset: float = 0.0, shares: tuple[float, ...] = (0.6, 0.3, 0.1)
) -> NDArray[np.int64]:
    """A scene of the same colours under another light, with another share of each class; returns the classes."""
    rng = np.random.default_rng(3)
    classes = np.kron(rng.choice(3, (20, 24), p=shares), np.ones((8, 8), int))
    image = COLOURS[classes] + rng.normal(0, 0.05, (*classes.shape, 2))
    image = (gain * image + offset).transpose(2, 0, 1).astype(np.float32)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 2, "height": 160, "width": 192}
    transform = rasterio.Affine(10, 0, 600_000, 0, -10, 4_200_000)
    with rasterio.open(path, "w", crs="EPSG:32630", transform=transform, **profile) as data:
        data.write(image)
        data.descriptions = ("red", "nir")
    return classes


def accuracy(expert: Expert, path: Path, classes: NDArray[np.int64]) -> float:
    predict_map(expert, open_scene(path), path.with_name("map.tif"), engine="torch")
    with rasterio.open(path.with_name("map.tif")) as data:
        values = data.read(1)
    return float((values == np.array(LEGEND.values)[classes]).mean())


def test_training_describes_its_imagery_and_the_file_keeps_it(expert: Expert, tmp_path: Path) -> None:
    imagery = expert.header.imagery
    assert imagery is not None
    assert len(imagery.centres) == 6  # two parts for each of three classes
    again = open_expert(save_expert(tmp_path / "a.safetensors", expert)).header.imagery
    assert again == imagery
    low, middle, high = (np.array(imagery.quantiles)[:, k] for k in (0, 4, -1))
    assert (low < middle).all()
    assert (middle < high).all()
    np.testing.assert_allclose(low, 0.0, atol=0.1)  # darkest colour 0.1, noise 0.05


def test_a_header_with_wrong_imagery_is_refused(expert: Expert) -> None:
    imagery = expert.header.imagery
    assert imagery is not None
    with pytest.raises(ExpertError, match="does not describe 2 bands"):
        replace(expert.header, imagery=replace(imagery, centres=((0.0,),)))
    with pytest.raises(ExpertError, match="must be above 0"):
        replace(expert.header, imagery=replace(imagery, reach=0.0))
    with pytest.raises(ExpertError, match="training imagery is wrong"):
        TrainingImagery.from_dict({"quantiles": 3})


def test_the_same_imagery_is_near_whatever_the_share_of_each_class(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "near.tif", shares=(0.9, 0.05, 0.05))
    distance = check_imagery(expert.header, open_scene(tmp_path / "near.tif"))
    assert distance is not None
    assert not distance.is_far
    assert max(map(abs, distance.shift)) > 0.3  # means alone would call it far


def test_another_light_is_far_and_noted_in_one_line(
    expert: Expert, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_target(tmp_path / "far.tif", offset=0.25)
    distance = check_imagery(expert.header, open_scene(tmp_path / "far.tif"))
    assert distance is not None
    assert distance.is_far
    assert len(caplog.messages) == 1
    assert "far from the training imagery" in caplog.messages[0]
    assert "--transfer auto" in caplog.messages[0]


@pytest.mark.parametrize("gain", [10_000.0, 0.0001])
def test_another_scale_is_refused_unless_any_scene_is_wanted(
    expert: Expert, tmp_path: Path, gain: float
) -> None:
    write_target(tmp_path / "scaled.tif", gain=gain)
    scene = open_scene(tmp_path / "scaled.tif")
    with pytest.raises(InputError, match=r"band red has mean .* another scale, unit or band"):
        predict_map(expert, scene, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()
    assert predict_map(expert, scene, tmp_path / "map.tif", any_scene=True).pixels == 160 * 192


def test_shift_wins_back_what_another_light_costs_though_the_shares_differ(
    expert: Expert, tmp_path: Path
) -> None:
    classes = write_target(tmp_path / "far.tif", offset=-0.25)
    scene = open_scene(tmp_path / "far.tif")
    raw = accuracy(expert, tmp_path / "far.tif", classes)
    made = adapt_expert(expert, scene, method="auto")
    assert made.steps == ("shift", "self_training")
    assert made.after.far < 0.05 < made.before.far
    np.testing.assert_allclose(
        np.array(made.expert.header.mean) - np.array(expert.header.mean), -0.25, atol=0.03
    )
    assert accuracy(made.expert, tmp_path / "far.tif", classes) > max(0.98, raw + 0.3)


def test_auto_leaves_a_near_scene_alone(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "near.tif")
    made = adapt_expert(expert, open_scene(tmp_path / "near.tif"))
    assert made.steps == ("none",)
    assert made.expert.header.mean == expert.header.mean
    assert made.expert.network is expert.network


def test_scene_takes_mean_and_deviation_of_the_scene(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "far.tif", gain=2.0)
    pixels = sample_pixels(open_scene(tmp_path / "far.tif"))
    header = with_alignment(expert.header, align(expert.header, pixels, method="scene"))
    np.testing.assert_allclose(header.mean, pixels.mean(0), rtol=0.02)
    np.testing.assert_allclose(header.std, pixels.std(0), rtol=0.02)


def test_self_training_adds_as_many_trees_and_is_the_mean_of_both(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "far.tif", offset=0.1)
    scene = open_scene(tmp_path / "far.tif")
    made = adapt_expert(expert, scene, method="self_training", any_scene=True)  # 0.1 looks like Sentinel-2's
    assert made.self_trained
    network, old = made.expert.network, expert.network
    assert isinstance(network, ClassTrees)
    assert isinstance(old, ClassTrees)
    assert network.architecture.trees == 2 * old.architecture.trees
    again = open_expert(save_expert(tmp_path / "adapted.safetensors", made.expert))
    assert again.header.training["transfer"] == {"method": "self_training", "steps": list(made.steps)}


def unet_expert(like: Expert) -> Expert:
    """An expert of the same bands and classes with a network of random weights."""
    plan = UnetArchitecture.plan(bands=2, classes=4, encoder="resnet18", decoder="small")
    torch.manual_seed(0)
    return Expert(replace(like.header, architecture=plan), plan.build().eval().requires_grad_(False))


def squares(count: int = 6, *, offset: float = 0.0) -> list[NDArray[np.float32]]:
    """Windows of 48 px of the classes' colours."""
    rng = np.random.default_rng(5)
    windows = []
    for _ in range(count):
        classes = np.kron(rng.integers(0, 3, (6, 6)), np.ones((8, 8), int))
        image = COLOURS[classes] + rng.normal(offset, 0.05, (48, 48, 2))
        windows.append(image.transpose(2, 0, 1).astype(np.float32))
    return windows


def test_batch_norm_mixes_statistics_of_training_and_scene(expert: Expert) -> None:
    made = unet_expert(expert)
    batch, _ = make_batch(made, squares(offset=0.3), [np.full((48, 48), 255)] * 6)
    assert batch.shape == (6, 2, 64, 64)  # the next multiple of the stride
    first = next(item for item in made.network.modules() if isinstance(item, torch.nn.BatchNorm2d))
    seen = made.network.encoder.conv1(batch)  # type: ignore[union-attr,operator]
    mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
    for weight in (0.0, 0.5, 1.0):
        mixed = blend_batch_norm(made.network, batch, share=weight)
        layer = next(item for item in mixed.modules() if isinstance(item, torch.nn.BatchNorm2d))
        torch.testing.assert_close(layer.running_mean, weight * mean, atol=1e-4, rtol=1e-3)
        wanted = (
            (1 - weight) + weight * variance + weight * (1 - weight) * mean**2
        )  # mean 0, variance 1 before
        torch.testing.assert_close(layer.running_var, wanted, atol=1e-3, rtol=1e-2)
    assert float(first.running_mean.abs().max()) == 0.0  # type: ignore[union-attr]


def test_a_network_learns_labels_of_its_own_and_keeps_half_of_its_weights(expert: Expert) -> None:
    made = unet_expert(expert)
    windows = squares()
    truth = [np.where(image[1] > 0.65, 1, np.where(image[0] > 0.5, 2, 0)) for image in windows]
    batch, labels = make_batch(made, windows, truth)
    tuned = tune_network(made.network, batch, labels, seconds=3)
    losses = [float(segmentation_loss(item(batch), labels, kind="ce")) for item in (made.network, tuned)]
    assert losses[1] < losses[0]
    assert not any(item.requires_grad for item in tuned.parameters())


def test_a_fused_expert_adapts_each_of_its_models(expert: Expert, tmp_path: Path) -> None:
    unet = unet_expert(expert)
    assert isinstance(unet.header.architecture, UnetArchitecture)
    assert isinstance(expert.network, ClassTrees)
    plan = FusedArchitecture((unet.header.architecture, expert.network.architecture))
    header = replace(expert.header, architecture=plan)
    fused = Expert(header, FusedNetwork(plan, [unet.network, expert.network]).eval())
    mixed = adapt_batch_norm(fused, squares())
    made = self_train(mixed, squares(), seconds=0.1)
    again = open_expert(save_expert(tmp_path / "fused.safetensors", made))
    assert isinstance(again.header.architecture, FusedArchitecture)
    trees = again.header.architecture.members[1]
    assert isinstance(trees, ClassTreesArchitecture)
    assert trees.trees == 2 * expert.network.architecture.trees
    with pytest.raises(ExpertError, match="has no batch normalisation to adapt"):
        adapt_batch_norm(expert, squares())


def test_batch_norm_leaves_the_bands_as_they_are_and_asks_for_networks(
    expert: Expert, tmp_path: Path
) -> None:
    write_target(tmp_path / "far.tif", offset=0.25)
    scene = open_scene(tmp_path / "far.tif")
    unet = unet_expert(expert)
    made = adapt_expert(unet, scene, method="batch_norm")
    assert made.steps == ("none", "batch_norm")
    assert made.summary.startswith("bands as they are, batch normalisation mixed with that of the scene; ")
    assert made.expert.header.mean == unet.header.mean
    with pytest.raises(ExpertError, match="has no batch normalisation"):
        adapt_expert(expert, scene, method="batch_norm")


def test_self_training_predicts_each_class_as_often_as_before(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "far.tif", offset=0.12)
    images = sample_windows(open_scene(tmp_path / "far.tif"), side_px=96)
    made = self_train(expert, images)
    shares = []
    for item in (expert, made):
        scores = [
            np.concatenate(
                [
                    item.network(make_batch(item, [image], [np.full((96, 96), 255)])[0])[0]
                    .numpy()[:, 1:-1, 1:-1]
                    .reshape(4, -1)
                ],
                1,
            )
            for image in images
        ]
        shares.append(predicted_shares(np.concatenate(scores, 1)))
    np.testing.assert_allclose(shares[1], shares[0], atol=0.02)


@pytest.mark.parametrize("form", ["boosting", "forest"])
def test_joined_trees_score_as_the_mean_of_both(form: str, tmp_path: Path) -> None:
    table = make_patch_table(tmp_path / "source")
    members = [
        train_trees(
            table,
            settings=SegmentationSettings(
                model=form, trees=4, pixels=500, window_sides_px=(), seed=seed, prior=0.0
            ),
        ).network
        for seed in (0, 1)
    ]
    first, second = members
    assert isinstance(first, ClassTrees)
    assert isinstance(second, ClassTrees)
    image = np.random.default_rng(0).normal(size=(9, 70, 2)).astype(np.float32)
    one, two, both = (item.scores(image) for item in (first, second, join_trees(first, second)))
    if form == "forest":
        one, two, both = np.exp(one), np.exp(two), np.exp(both)
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-4)


def test_what_cannot_be_adapted_is_refused_in_one_line(expert: Expert, tmp_path: Path) -> None:
    write_target(tmp_path / "scene.tif")
    scene = open_scene(tmp_path / "scene.tif")
    with pytest.raises(RecipeError, match="Unknown transfer method 'sceen': did you mean 'scene'"):
        adapt_expert(expert, scene, method="sceen")
    old = Expert(replace(expert.header, imagery=None), expert.network)
    with pytest.raises(ExpertError, match="does not describe its training imagery"):
        adapt_expert(old, scene)
    with pytest.raises(ExpertError, match="too few for self-training"):
        self_train(expert, [np.full((2, 40, 40), np.nan, np.float32)])


def test_predict_adapts_writes_the_adapted_expert_and_reports_the_distance(
    expert: Expert, tmp_path: Path
) -> None:
    write_target(tmp_path / "far.tif", offset=-0.25)
    save_expert(tmp_path / "a.safetensors", expert)
    result = CliRunner().invoke(
        app,
        [
            *("predict", str(tmp_path / "a.safetensors"), str(tmp_path / "far.tif")),
            *("-o", str(tmp_path / "map.tif"), "--engine", "torch", "--transfer", "auto"),
            *("--adapted", str(tmp_path / "adapted.safetensors"), "--json"),
        ],
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["transfer"]["alignment"] == "shift"
    assert document["distance"]["unlike_training"] < 0.05
    assert open_expert(tmp_path / "adapted.safetensors").header.training["transfer"]


def test_the_shift_is_found_whatever_the_shares_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(2000) % 2
    pixels = rng.normal(0, 0.2, (2000, 3)) + 2.0 * classes[:, None]
    made = describe_imagery(pixels, classes, mean=np.zeros(3), std=np.ones(3))
    rare = pixels[(classes == 0) | (rng.random(2000) < 0.1)]
    shift, likelihood = made.fit(rare + 0.5, move=True)
    np.testing.assert_allclose(shift, -0.5, atol=0.05)
    assert likelihood > made.fit(rare + 0.5)[1] + 1
