"""Trees, fused experts and what is chosen on the validation patches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import rasterio

from segmentation_scene import QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.core.units import parse_duration_s
from tesela.io.maps import open_map, write_map
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert, open_expert, read_header
from tesela.models.segmentation.feature_spec import default_features
from tesela.patches.table import PatchTable, make_patches
from tesela.training.segmentation import auto, network_refit
from tesela.training.segmentation.boosting import BoostingSettings, average_boosted, boost, boost_series
from tesela.training.segmentation.data import Patches
from tesela.training.segmentation.heads import Head
from tesela.training.segmentation.network_refit import refit_network
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.train import train_segmentation
from tesela.training.segmentation.tree_pixels import draw_pixels
from tesela.training.segmentation.trees import train_unadjusted
from tesela.training.segmentation.validation import class_frequencies, validate_model

TREES = SegmentationSettings(model="boosting", trees=30, pixels=4000, window_sides_px=(3, 7), seed=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    return make_patch_table(tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize("model", ["boosting", "forest"])
def test_trees_learn_and_give_the_same_bytes_again(table: PatchTable, tmp_path: Path, model: str) -> None:
    settings = replace(TREES, model=model)
    files = [train_segmentation(table, tmp_path / f"{k}.safetensors", settings=settings) for k in range(2)]
    header = read_header(files[0])
    assert header.scores["macro_f1"] > 0.95
    assert header.training["model"] == model
    assert header.architecture.kind == "class_trees"
    np.testing.assert_allclose(header.frequencies, class_frequencies(table))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_trees_are_grown_again_with_the_validation_patches(table: PatchTable, tmp_path: Path) -> None:
    """A class that only validation patches hold is known after; the scores stay those from before."""
    rows = table.frame
    of_val = (rows["col"] >= 2 * table.size_px).to_numpy()  # two thirds
    (name,) = table.labels
    with rasterio.open(table.labels[name]) as data:
        values = data.read(1)
    values[:, 2 * table.size_px :] = 40
    path = write_map(tmp_path / "labels.tif", values, table.scenes[name].grid, legend=table.legend).path
    frame = rows.assign(split=np.where(of_val, "val", "train"))
    moved = replace(table, frame=frame, labels={name: path})
    again, once = (
        open_expert(
            train_segmentation(moved, tmp_path / f"{refit}.safetensors", settings=replace(TREES, refit=refit))
        )
        for refit in (True, False)
    )
    assert again.header.scores["f1"] == once.header.scores["f1"]
    assert again.header.scores["f1"]["s"] == 0
    made = [
        predict_map(expert, table.scenes[name], tmp_path / f"{number}.tif")
        for number, expert in enumerate((again, once))
    ]
    snow = []
    for item in made:
        with rasterio.open(item.map.path) as data:
            snow.append(int((data.read(1) == 40).sum()))
    assert snow[0] > 0.5 * values.size
    assert snow[1] == 0


def test_both_splits_count_by_area_when_trained_on_again(table: PatchTable, tmp_path: Path) -> None:
    """Training patches that overlap by half, validation patches that do not: each pixel has the same chance."""
    scenes, labels = list(table.scenes.values()), [open_map(path) for path in table.labels.values()]
    size = table.size_px
    dense, apart = (
        make_patches(scenes, labels, size_px=size, stride_px=step).frame for step in (size // 2, size)
    )
    half = 4 * size
    dense, apart = dense[dense["col"] + size <= half], apart[apart["col"] >= half]
    (name,) = table.labels
    with rasterio.open(table.labels[name]) as data:
        values = data.read(1)
    values[:, half:] = np.where(values[:, half:] > 0, 40, 0)  # all of "val" is snow
    path = write_map(tmp_path / "labels.tif", values, table.scenes[name].grid, legend=table.legend).path
    frame = pd.concat([dense.assign(split="train"), apart.assign(split="val")], ignore_index=True)
    mixed = replace(table, frame=frame, stride_px=size // 2, labels={name: path})
    columns = len(dense["col"].unique()) / 2 + 0.5, len(dense["row"].unique()) / 2 + 0.5
    assert mixed.overlap("train") == pytest.approx(len(dense) / (columns[0] * columns[1]))
    assert mixed.overlap("val") == 1
    bands = scenes[0].band_names
    spec = default_features(bands, sides_px=())
    options = {"spec": spec, "bands": bands, "mean": np.zeros(2), "std": np.ones(2), "seed": 0}
    every, some = (draw_pixels(mixed, ("train", "val"), pixels=pixels, **options) for pixels in (10**6, 3000))
    without = 3 * 5 + 4 * 4  # without data, without a label
    assert every.classes.size == (columns[0] * columns[1] + len(apart)) * size**2 - without
    assert some.classes.size == 3000
    area = columns[0] * columns[1], len(apart)
    for item in (every, some):
        assert (item.classes == 3).mean() == pytest.approx(area[1] / sum(area), abs=0.02)
    chances = network_refit._even_chances(None, mixed)
    assert chances is not None
    assert chances[-1] / chances[0] == pytest.approx(mixed.overlap("train"))


def test_a_network_is_trained_again_with_the_validation_patches(table: PatchTable, tmp_path: Path) -> None:
    """It learns from their labels, and keeps the input and the scores that it had before."""
    settings = replace(QUICK, epochs=3, prior=0.0)
    first = open_expert(
        train_segmentation(table, tmp_path / "first.safetensors", settings=settings, quiet=True)
    )
    seen: list[int] = []
    fit_of = network_refit.fit_experts

    def fit(heads: Sequence[Head], train: Patches, val: Patches | None, **others: Any) -> list[Path]:
        seen.append(len(train))
        assert val is None
        return fit_of(heads, train, val, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_refit, "fit_experts", fit)
        out = tmp_path / "again.safetensors"
        again = refit_network(first, table, out, settings=settings, quiet=True)
        refit_network(first, table, out, settings=settings, quiet=True)  # is there already
    assert seen == [len(table.of_split("train")) + len(table.of_split("val"))]
    assert again.header.scores == first.header.scores
    assert again.header.standardisation == first.header.standardisation
    pixels = validate_model(again.network, table, again.header.standardisation)
    assert (pixels.scores.argmax(1) == pixels.classes).mean() > 0.9


@pytest.mark.parametrize("refit", [True, False])
def test_auto_trains_the_network_again_where_the_budget_allows_it(
    table: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    budgets = []

    def again(network: Expert, *_: object, settings: SegmentationSettings, **__: object) -> Expert:
        budgets.append(settings.budget)
        return network

    monkeypatch.setattr(auto, "refit_network", again)
    monkeypatch.setattr(auto, "_LEAST_BUDGET_S", 0.5)
    monkeypatch.setattr(auto, "_LEAST_REFIT_S", 1.0)
    settings = replace(
        QUICK, model="auto", budget="6 s", trees=10, pixels=2000, window_sides_px=(3,), refit=refit
    )
    train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    assert len(budgets) == refit
    assert all(parse_duration_s(budget) <= 3 for budget in budgets)


def test_a_map_by_trees_has_no_seams(table: PatchTable, tmp_path: Path) -> None:
    expert = open_expert(train_segmentation(table, tmp_path / "a.safetensors", settings=TREES))
    scene = next(iter(table.scenes.values()))
    small = predict_map(expert, scene, tmp_path / "small.tif", window_px=64, overlap_px=0)
    whole = predict_map(expert, scene, tmp_path / "whole.tif", window_px=1024)
    with rasterio.open(small.map.path) as one, rasterio.open(whole.map.path) as other:
        np.testing.assert_array_equal(one.read(), other.read())
        assert (one.read(1)[:3, :5] == 0).all()  # nodata stays nodata


def test_auto_tries_trees_and_a_network_and_keeps_one(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, model="auto", epochs=3, trees=20, pixels=3000, window_sides_px=(3,))
    out = train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    tried = read_header(out).scores["tried"]
    assert {"boosting", "unet"} <= {row["model"] for row in tried}
    assert sum(row["chosen"] for row in tried) == 1
    chosen = next(row for row in tried if row["chosen"])
    assert chosen["lead_over_chosen"] == [0.0, 0.0]
    assert chosen["macro_f1"] > 0.95
    assert all(row["lead_over_chosen"][0] <= 0 for row in tried)  # none is measurably better
    assert open_expert(out).header.training["model"] == "auto"
    assert not list((tmp_path / ".training").glob("*.auto*"))


def test_a_small_budget_leaves_the_network_out(table: PatchTable, tmp_path: Path) -> None:
    settings = replace(QUICK, model="auto", budget="10 s", trees=10, pixels=2000, window_sides_px=(3,))
    out = train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True)
    assert {row["model"] for row in read_header(out).scores["tried"]} <= {
        "boosting",
        "forest",
        "boosting x forest",
    }


def test_the_epochs_of_a_network_are_fitted_to_the_budget(table: PatchTable, tmp_path: Path) -> None:
    few, many = (
        read_header(
            train_segmentation(
                table,
                tmp_path / f"{seconds}.safetensors",
                settings=replace(QUICK, budget=f"{seconds} s", epochs=1000),
                quiet=True,
            )
        )
        for seconds in (1, 4)
    )
    assert 1 <= few.scores["epoch"] < 1000
    log = (tmp_path / "logs" / "4" / "metrics.csv").read_text().splitlines()
    assert len((tmp_path / "logs" / "1" / "metrics.csv").read_text().splitlines()) < len(log)
    assert many.training["budget"] == "4 s"


def test_boosting_finds_the_feature_and_the_threshold_behind_noisy_labels() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1000, (4, 3000)).astype(np.int16)
    classes = (values[2] > 200).astype(int)
    noisy = np.where(rng.random(3000) < 0.2, 1 - classes, classes)
    settings = BoostingSettings(trees=20, depth=1, features=1.0)
    made = boost(values[:, :2000], noisy[:2000], count=2, settings=settings)
    assert made.gain.argmax() == 2
    assert np.abs(np.median(made.threshold[made.feature == 2]) - 200) < 40
    assert (made.scores(values[:, 2000:]).argmax(1) == classes[2000:]).mean() > 0.97
    np.testing.assert_allclose(np.exp(made.baseline), np.bincount(noisy[:2000]) / 2000, atol=1e-6)


def test_series_of_trees_are_averaged() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-1000, 1000, (3, 500)).astype(np.int16)
    classes = (values[0] + values[1] > 0).astype(int)
    series = [
        boost(values, classes, count=2, settings=BoostingSettings(trees=5, seed=seed, features=1.0))
        for seed in range(2)
    ]
    joined = average_boosted(series)
    assert len(joined.feature) == 10
    np.testing.assert_allclose(
        joined.scores(values), (series[0].scores(values) + series[1].scores(values)) / 2, atol=1e-5
    )


def test_boosting_stops_at_its_deadline_with_all_series_alike() -> None:
    values = np.arange(-50, 50, dtype=np.int16)[None]
    classes = (values[0] > 0).astype(int)
    settings = BoostingSettings(trees=50)
    made = boost(values, classes, count=2, settings=settings, deadline=lambda: True)
    assert len(made.feature) == 1
    looks = iter([False] * 8 + [True])
    series = boost_series(values, classes, count=2, settings=settings, series=3, deadline=lambda: next(looks))
    assert [len(item.feature) for item in series] == [4, 4, 3]


@pytest.mark.parametrize("form", ["boosting", "forest"])
def test_growing_trees_tell_how_far_they_are(
    table: PatchTable, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESELA_PROGRESS", "json")
    train_unadjusted(table, settings=replace(TREES, model=cast(Any, form), trees=20, pixels=1000))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [events[0], events[-1]] == [
        {"work": "training", "done": done, "total": 20, "text": ""} for done in (0, 20)
    ]


def test_trees_without_labels_are_refused(table: PatchTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="val"):
        train_segmentation(
            table.with_splits(np.full(len(table), "train", object)),
            tmp_path / "a.safetensors",
            settings=TREES,
        )


def test_the_published_recipe_is_plain_and_can_start_from_scratch() -> None:
    plain = SegmentationSettings(published=True, weights="random").resolved
    assert (plain.loss, plain.imbalance_strategy, plain.ema, plain.prior) == ("ce", "none", 0.0, 0.0)
    assert (plain.optimizer, plain.epochs, plain.patience, plain.flips_and_rotations) == (
        "adam",
        100,
        0,
        False,
    )
    assert plain.weights is None
    assert SegmentationSettings(published=True).resolved.weights == "imagenet"
    assert json.dumps(plain.__dict__)
