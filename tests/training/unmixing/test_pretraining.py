"""Pretraining on classes of other series, and the rates at which the training goes on from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.series_table import read_series_table
from tesela.io.timespec import LabelledSeries, read_timespec, write_timespec
from tesela.patches.pixel_split import split_by_pixel
from tesela.patches.pixels import NO_SPLIT, PixelTable, table_of_series, table_of_timespec
from tesela.training.unmixing.batches import PixelSource
from tesela.training.unmixing.loop import NetworkTraining
from tesela.training.unmixing.pretraining import pretrain, pure_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import fit_scaling, plan_network, train_unmixing
from unmixing_scene import BANDS, NAMES, STEPS, make_table

QUICK = {"epochs": 2, "batch_size": 128, "accelerator": "cpu"}


def pure_table(count: int = 60, *, years: int = 2) -> PixelTable:
    """Series of three classes that are easy to separate, two years of each pixel, without layers."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    values = labels[:, None, None] * 0.3 + rng.normal(0, 0.02, (count, STEPS, BANDS))
    series = np.repeat(values, years, axis=0)
    classes = tuple(LandClass(k + 1, str(k + 1), name, "#808080") for k, name in enumerate("abc"))
    return PixelTable(
        values=series.astype(np.float32),
        static=np.zeros((count * years, 0), np.float32),
        targets=np.eye(3, dtype=np.float32)[np.repeat(labels, years)],
        rows=np.repeat(np.arange(count), years).astype(np.int32),
        cols=np.tile(np.arange(years), count).astype(np.int32),
        splits=np.full(count * years, NO_SPLIT, np.uint8),
        times=tuple(f"{month:02d}" for month in range(1, 13)),
        bands=NAMES,
        layers=(),
        legend=Legend("pure", classes),
    )


@pytest.mark.parametrize("model", ["brits", "tempcnn"])
@pytest.mark.parametrize("kind", ["classes", "both"])
def test_classes_of_pure_series_are_learned_and_start_a_training(model: str, kind: str) -> None:
    table, series = make_table(), pure_table()
    context = 2 if model == "tempcnn" else 0
    plan = UnmixingSettings(model=model, context=context, **QUICK)  # type: ignore[arg-type]
    start = pretrain(series, plan, kind=kind, like=table, epochs=2, quiet=True)  # type: ignore[arg-type]
    assert start
    left_out = ("head.", "neighbours.", "film.", "ahead.out.", "ahead.ancillary.")
    assert not any(name.startswith(left_out) for name in start), "what other series do not train"
    again = pretrain(series, plan, kind=kind, like=table, epochs=2, quiet=True)  # type: ignore[arg-type]
    assert all(torch.equal(start[name], again[name]) for name in start)
    made = train_unmixing(table, plan, start=start, quiet=True)
    assert made.header.legend == table.legend


def test_pretrained_weights_tell_classes_apart_that_random_ones_do_not() -> None:
    table, series = make_table(), pure_table()
    plan = UnmixingSettings(model="mlp", context=0, epochs=1, batch_size=32, accelerator="cpu")
    start = pretrain(series, plan, kind="classes", like=table, epochs=15, quiet=True)
    mean, std, scaling = fit_scaling(table)
    bare = replace(series, static=np.full((len(series), 2), np.nan, np.float32), layers=table.layers)
    source = PixelSource(bare, scaling, mean, std)
    spreads = []
    for weights in (None, start):
        torch.manual_seed(0)
        network = plan_network(table, plan).build().eval()
        if weights is not None:
            network.load_state_dict(weights, strict=False)
        with torch.no_grad():
            embedded = network.embed(*source.inputs(np.arange(len(series))))  # type: ignore[operator]
        centres = torch.stack([embedded[series.targets.argmax(1) == k].mean(0) for k in range(3)])
        inside = torch.stack([embedded[series.targets.argmax(1) == k].var(0).mean() for k in range(3)]).mean()
        spreads.append(float(centres.var(0).mean() / inside))
    assert spreads[1] > 2 * spreads[0]


def test_the_body_is_trained_at_a_lower_rate_than_the_head() -> None:
    table, series = make_table(), pure_table()
    plan = UnmixingSettings(model="mlp", context=0, body_rate=0.25, **QUICK)  # type: ignore[arg-type]
    start = pretrain(series, plan, kind="classes", like=table, epochs=1, quiet=True)
    mean, std, scaling = fit_scaling(table)
    source = PixelSource(table, scaling, mean, std)
    training = NetworkTraining(plan_network(table, plan), source, plan, None, start=start)
    training.run_epoch()
    body, head = training.optimizer.param_groups
    assert body["lr"] == pytest.approx(0.25 * head["lr"])
    named = {id(item): name for name, item in training.network.named_parameters()}
    assert {named[id(item)].split(".")[0] for item in body["params"]} == {"encoder"}
    assert {named[id(item)].split(".")[0] for item in head["params"]} == {"film", "head"}
    plain = NetworkTraining(plan_network(table, plan), source, plan, None)
    assert len(plain.optimizer.param_groups) == 1


def test_pixels_to_be_tested_on_and_mixed_ones_are_not_pretrained_on() -> None:
    series = pure_table()
    mixed = series.targets.copy()
    mixed[:10] = 1 / 3
    splits = series.splits.copy()
    splits[10:20], splits[20:30] = 2, 1
    kept = pure_pixels(replace(series, targets=mixed, splits=splits))
    assert len(kept) == len(series) - 30
    with pytest.raises(InputError, match="have 1 class with pixels of 90%"):
        pure_pixels(series.take(series.targets[:, 0] > 0))
    with pytest.raises(InputError, match=r'no classes\. Give labelled series, or set kind = "gaps"'):
        pure_pixels(replace(series, targets=series.targets[:, :0], legend=None))


def test_bands_and_months_are_found_by_name_and_lacking_ones_are_named() -> None:
    table, series = make_table(), pure_table()
    plan = UnmixingSettings(model="mlp", context=0, **QUICK)  # type: ignore[arg-type]
    turned = replace(
        series,
        values=np.roll(series.values, 3, axis=1)[..., ::-1].copy(),
        times=tuple(np.roll(series.times, 3).tolist()),
        bands=series.bands[::-1],
    )
    one, other = (
        pretrain(item, plan, kind="classes", like=table, epochs=1, quiet=True) for item in (series, turned)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(InputError, match="they lack swir"):
        pretrain(replace(series, bands=("red", "nir", "blue")), plan, kind="classes", like=table)
    with pytest.raises(InputError, match="Both must have the same months"):
        pretrain(
            replace(series, values=series.values[:, :6], times=series.times[:6]),
            plan,
            kind="classes",
            like=table,
        )


def test_members_are_pretrained_each_and_a_forest_is_not() -> None:
    table, series = make_table(), pure_table()
    plan = UnmixingSettings(members=("mlp", "ltae", "forest"), context=0, trees=3, **QUICK)  # type: ignore[arg-type]
    start = pretrain(series, plan, kind="classes", like=table, epochs=1, quiet=True)
    assert {name.split(":")[0] for name in start} == {"mlp", "ltae"}
    assert train_unmixing(table, plan, start=start, quiet=True).header.scores["weights"]


def test_all_years_of_a_pixel_are_in_one_split_and_every_class_in_each() -> None:
    table = split_by_pixel(pure_table(90, years=3), fractions=(0.6, 0.2, 0.2), seed=4)
    for pixel in range(90):
        assert len(set(table.splits[table.rows == pixel])) == 1
    for code, part in ((0, 0.6), (1, 0.2), (2, 0.2)):
        mine = table.splits == code
        assert mine.mean() == pytest.approx(part, abs=0.02)
        assert table.targets[mine].any(0).all()
    with pytest.raises(InputError, match="give three that sum to 1"):
        split_by_pixel(table, fractions=(0.5, 0.1))


def test_years_of_one_published_pixel_have_one_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((6, 24, 7)).astype(np.float32)
    series = LabelledSeries(values, ("Forest", "Water"), np.arange(6) // 3)
    table = table_of_timespec(read_timespec(write_timespec(series, tmp_path)))
    assert len(table) == 12
    assert np.bincount(table.rows).tolist() == [2] * 6
    assert sorted(set(table.cols.tolist())) == [0, 1]


def test_a_table_of_series_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "series.csv"
    names = [f"{band}_{month:02d}" for month in range(1, 13) for band in ("ndvi", "evi")]
    rows = [
        ",".join(["Forest", "7", *["0.5"] * 24]),
        ",".join(["Forest", "7", *["0.4"] * 24]),
        ",".join(["Water", "8", "", *["0.1"] * 23]),
    ]
    file.write_text("\n".join([",".join(["class", "pixel", *names]), *rows]) + "\n")
    table = table_of_series(read_series_table(file))
    assert table.bands == ("ndvi", "evi")
    assert table.rows.tolist() == [0, 0, 1]
    assert table.legend is not None
    assert table.legend.names == ("Forest", "Water")
    assert np.isnan(table.values[2, 0, 0])
    assert table.values[1, 5, 1] == pytest.approx(0.4)
    file.write_text("class,ndvi_01,evi_01,ndvi_02\nForest,1,2,3\n")
    with pytest.raises(InputError, match="lacks the columns evi_02"):
        read_series_table(file)
    file.write_text("class,ndvi_01\nForest,much\n")
    with pytest.raises(InputError, match="'much' in row 2, column ndvi_01, is no number"):
        read_series_table(file)
    file.write_text("name,ndvi_01\nForest,1\n")
    with pytest.raises(InputError, match="a column 'class'"):
        read_series_table(file)


def test_a_budget_sets_the_epochs_and_a_restart_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table()
    plan = UnmixingSettings(
        model="mlp", context=0, budget="8 s", batch_size=64, accelerator="cpu", patience=1
    )
    monkeypatch.setattr("tesela.training.unmixing.train.epoch_seconds", lambda *_: 2.0)
    made = train_unmixing(table, plan, out=tmp_path / "one.safetensors", quiet=True)
    assert made.header.training["budget"] == "8 s"
    assert made.header.scores["epoch"][0] <= 4  # type: ignore[index]
    assert len(made.header.scores["curve"][0]) == 2  # type: ignore[index] # after epochs 3 and 4
    monkeypatch.undo()
    quick = replace(plan, budget="0.01 s")
    assert train_unmixing(table, quick, quiet=True).header.scores["epoch"] == [1]
