"""Batches, scaling, rates and pretraining of unmixing, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tesela.models.output import parent_matrix
from tesela.patches.pixels import PixelTable, read_pixel_table
from tesela.training.unmixing import batches as batches_module
from tesela.training.unmixing import classic
from tesela.training.unmixing.batches import TRAIN, PixelSource, training_batches
from tesela.training.unmixing.loop import NetworkTraining, validate
from tesela.training.unmixing.pretraining import _Pretext
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import fit_scaling, plan_network, train_unmixing
from unmixing_scene import BANDS, COLS, LEGEND, ROWS, STEPS, flat, make_table

PLAIN = UnmixingSettings(
    model="mlp", context=0, batch_size=64, month_mask=0.0, mixup=0.0, accelerator="cpu", epochs=5
)


def source_of(table: PixelTable) -> PixelSource:
    mean, std, scaling = fit_scaling(table)
    return PixelSource(table, scaling, mean, std)


def mixed_linearly() -> tuple[PixelTable, torch.Tensor]:
    """A table whose scaled series are exactly linear in the shares, and its scaled spectra."""
    generator = np.random.default_rng(3)
    spectra = generator.normal(0.3, 0.1, (3, STEPS, BANDS))
    shares = generator.dirichlet([0.5] * 3, (ROWS, COLS))
    table = replace(
        make_table(),
        values=flat(np.einsum("rck,ktb->rctb", shares, spectra)),
        targets=flat(shares),
    )
    mean, std, _ = fit_scaling(table)
    return table, torch.from_numpy(((spectra - np.array(mean)) / np.array(std)).astype(np.float32))


@pytest.mark.parametrize(("margin_px", "batch_size"), [(0, 64), (2, 1024)])
def test_mixed_pixels_have_mixed_targets(margin_px: int, batch_size: int) -> None:
    table, spectra = mixed_linearly()
    settings, mixed = replace(PLAIN, mixup=1.0, batch_size=batch_size), 0
    batches = training_batches(
        source_of(table), settings, margin_px=margin_px, generator=np.random.default_rng(0)
    )
    known = {tuple(row) for row in table.targets.round(5).tolist()}
    for batch in batches:
        values, mask = batch.inner
        whole = batch.labelled & (mask.sum((-2, -1)) == STEPS * BANDS)
        series = torch.einsum("...k,ksb->...sb", batch.targets, spectra)
        assert (values - series)[whole].abs().max() < 1e-3
        rows = batch.targets[whole].numpy().round(5).tolist()
        mixed += sum(tuple(row) not in known for row in rows)
    assert mixed > 10


def test_hidden_months_are_hidden_from_the_network_only() -> None:
    table = make_table(missing=0.0)
    source, generator = source_of(table), np.random.default_rng(0)
    batches = list(training_batches(source, replace(PLAIN, month_mask=0.3), margin_px=0, generator=generator))
    mask, shown = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("mask", "shown"))
    hidden = mask[..., 0] * (1 - shown[..., 0])
    assert 0.25 < float(hidden.sum() / mask[..., 0].sum()) < 0.35
    assert ((shown == shown[..., :1]) | (mask == 0)).all()  # whole months
    assert hidden.mean(1).std() > 0.17  # each pixel has a rate of its own; one rate for all gives 0.13
    for batch in training_batches(source, PLAIN, margin_px=0, generator=generator):
        assert (batch.shown == batch.mask).all()


def test_every_training_pixel_comes_once_in_an_epoch() -> None:
    table = make_table()
    batches = list(training_batches(source_of(table), PLAIN, margin_px=0, generator=np.random.default_rng(0)))
    targets = torch.cat([batch.targets for batch in batches]).numpy()
    assert all(batch.labelled.all() for batch in batches)
    wanted = table.targets[table.splits == TRAIN]
    assert sorted(map(tuple, targets.tolist())) == sorted(map(tuple, wanted.tolist()))


def test_scaling_is_that_of_the_training_pixels() -> None:
    table = make_table()
    train = table.take(table.splits == TRAIN)
    mean, std, scaling = fit_scaling(table)
    assert np.allclose(mean, np.nanmean(train.values, axis=(0, 1)), atol=1e-6)
    assert np.allclose(std, np.nanstd(train.values, axis=(0, 1)), atol=1e-6)
    assert np.allclose(scaling.layer_mean, train.static.mean(0), atol=1e-6)
    assert np.allclose(scaling.layer_std, train.static.std(0), atol=1e-6)
    bare = replace(table, static=table.static[:, :0], layers=())
    assert fit_scaling(bare)[2].layer_mean == ()


def rates(settings: UnmixingSettings) -> list[float]:
    """Learning rate of each step, relative to the highest."""
    table = make_table()
    training = NetworkTraining(plan_network(table, settings), source_of(table), settings, None)
    seen: list[float] = []
    step = training.optimizer.step
    training.optimizer.step = lambda: (seen.append(training.optimizer.param_groups[0]["lr"]), step())[1]  # type: ignore[method-assign]
    while not training.finished:
        training.run_epoch()
    return [rate / settings.learning_rate for rate in seen]


def test_the_rate_rises_then_falls_as_half_a_cosine() -> None:
    seen = rates(replace(PLAIN, warmup=0.2))  # 160 pixels by 64: 3 steps in each of 5 epochs
    assert seen[:4] == pytest.approx([0.01, 1 / 3, 2 / 3, 1.0])
    falling = [0.5 * (1 + np.cos(np.pi * (step / 15 - 0.2) / 0.8)) for step in range(3, 15)]
    assert seen[3:] == pytest.approx(falling)


def test_the_published_rate_falls_by_epochs() -> None:
    settings = UnmixingSettings(published=True, epochs=4, accelerator="cpu").resolved
    seen = rates(replace(settings, batch_size=80))
    assert seen == pytest.approx(np.repeat([0.5 * (1 + np.cos(np.pi * n / 4)) for n in range(4)], 2))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_weights_that_were_validated_are_kept(ema: float) -> None:
    table, settings = make_table(), replace(PLAIN, ema=ema, epochs=3, validate_every=1)
    source = source_of(table)
    training = NetworkTraining(plan_network(table, settings), source, settings, parent_matrix(LEGEND))
    while not training.finished:
        training.run_epoch()
    training.network.load_state_dict(training.stopping.weights)
    kept = validate(training.network, source, parent_matrix(LEGEND))
    assert kept == pytest.approx(training.stopping.best, abs=1e-6)
    assert training.curve == pytest.approx(sorted(training.curve, reverse=True), abs=0.02)


def test_pretraining_counts_hidden_values_only() -> None:
    table = make_table(missing=0.0)
    network = plan_network(table, PLAIN).build().eval()
    model = _Pretext(network, "gaps", table)
    assert model.rebuild is not None
    torch.nn.init.zeros_(model.rebuild.weight)
    torch.nn.init.zeros_(model.rebuild.bias)
    values = torch.ones(2, STEPS, BANDS)
    values[:, 3:] = 100
    mask, shown = torch.ones_like(values), torch.ones_like(values)
    shown[:, :2] = 0
    values[1, :2], mask[1, :2] = 50, 0  # gaps do not count
    static, targets = torch.zeros(2, 2), torch.zeros(2, len(LEGEND))
    assert model(values, mask, shown * mask, static, targets).item() == pytest.approx(1.0)


def test_large_tables_are_shuffled_by_chunks_and_each_pixel_comes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches_module, "CHUNK_PX", 8)
    monkeypatch.setattr(batches_module, "BUFFER_CHUNKS", 4)
    table, generator = make_table(), np.random.default_rng(0)
    batches = list(
        training_batches(source_of(table), replace(PLAIN, batch_size=30), margin_px=0, generator=generator)
    )
    assert [len(batch.targets) for batch in batches[:-1]] == [30] * (len(batches) - 1)
    targets = torch.cat([batch.targets for batch in batches]).numpy()
    wanted = table.targets[table.splits == TRAIN]
    assert sorted(map(tuple, targets.tolist())) == sorted(map(tuple, wanted.tolist()))
    tiles = list(training_batches(source_of(table), PLAIN, margin_px=2, generator=generator))
    assert all(batch.labelled.any() for batch in tiles)


def test_a_table_on_disk_trains_to_the_same_bytes(tmp_path: Path) -> None:
    table, settings = make_table(), replace(PLAIN, epochs=2)
    mapped = read_pixel_table(table.write(tmp_path / "p.safetensors"))
    assert isinstance(mapped.values, np.memmap)
    experts = [train_unmixing(one, settings, quiet=True) for one in (table, mapped)]
    first, second = (expert.network.state_dict() for expert in experts)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("model", "context"), [("mlp", 0), ("tempcnn", 2), ("forest", 1), ("fclsu", 0)])
def test_thinned_trainings_use_a_part_of_the_pixels(model: str, context: int) -> None:
    settings = replace(PLAIN, model=model, context=context, thinning=0.5, epochs=1, trees=3)
    expert = train_unmixing(make_table(), settings, quiet=True)
    assert expert.header.training["thinning"] == 0.5
    if model == "forest":
        assert expert.header.scores["pixels"] == (make_table().splits == TRAIN).sum() / 2


def test_trees_of_many_pixels_are_thinned_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(PLAIN, model="forest", trees=3)
    monkeypatch.setattr(classic, "_MOST_NUMBERS", 100 * (2 * STEPS * BANDS + 2))
    scores = train_unmixing(make_table(), settings, quiet=True).header.scores
    assert 40 < scores["pixels"] <= 100  # type: ignore[operator]


def test_members_that_are_thinned_in_different_ways_are_joined() -> None:
    settings = replace(
        PLAIN, members=("mlp", "tempcnn", "forest"), context=2, thinning=0.5, epochs=1, trees=3
    )
    expert = train_unmixing(make_table(), settings, quiet=True)
    assert len(expert.header.scores["weights"]) == 3  # type: ignore[arg-type]
