"""Unmixing models: one contract for all, baselines, training, pretraining, files."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tesela.core.beta import beta_parameters
from tesela.core.errors import ExpertError, InputError
from tesela.core.legend import sum_to_level
from tesela.models.ensemble import join_experts
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.header import read_architecture
from tesela.models.inference import TorchRunner, prior_of, unmix
from tesela.models.mixing import purest_endmembers, unmix_linear
from tesela.models.trees import project_to_simplex, stack_features
from tesela.training.settings import SettingsError
from tesela.training.unmixing.calibration import calibrate, fit_variance, unmix_pixels
from tesela.training.unmixing.loop import load_start
from tesela.training.unmixing.members import fit_weights
from tesela.training.unmixing.pretraining import pretrain
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import BANDS, LEGEND, STEPS, make_table

QUICK = {"epochs": 2, "batch_size": 128, "trees": 4, "accelerator": "cpu"}
MODELS: dict[str, dict[str, object]] = {
    "brits as published": {"published": True},
    "brits": {"model": "brits"},
    "mlp": {"model": "mlp", "context": 0},
    "attention": {"model": "ltae", "context": 0, "ensemble_size": 2},
    "convolution": {"model": "tempcnn", "context": 2, "mixup": 0.5},
    "dirichlet, endmembers": {
        "model": "tempcnn",
        "context": 0,
        "head": "dirichlet",
        "endmember_decoder": True,
    },
    "forest": {"model": "forest", "context": 1},
    "boosting": {"model": "boosting", "context": 0},
    "fclsu": {"model": "fclsu"},
    "nnls": {"model": "nnls"},
}


@cache
def expert(name: str) -> Expert:
    if name == "joined":
        return join_experts([expert("convolution"), expert("forest"), expert("attention")])
    return train_unmixing(make_table(), UnmixingSettings(**QUICK, **MODELS[name]))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*MODELS, "joined"])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_shares_are_not_negative_and_sum_to_one_for_any_input(name: str, data: st.DataObject) -> None:
    one = expert(name)
    side = one.header.patch_size_px + 2
    numbers = st.one_of(
        st.just(float("nan")),
        st.just(float("inf")),
        st.floats(-(2.0**99), 2.0**99, width=32),
        st.floats(0, 1, width=32),
    )
    values = data.draw(arrays.arrays(np.float32, (1, side, side, STEPS, BANDS), elements=numbers))
    layers = data.draw(arrays.arrays(np.float32, (1, side, side, 2), elements=numbers))
    predicted = unmix(one.header, TorchRunner(one.network), values, layers)  # type: ignore[arg-type]
    assert predicted.shares.shape == (1, 3, 3, 3)
    assert (np.isnan(predicted.shares) == predicted.unseen[..., None]).all()
    shares = predicted.shares[~predicted.unseen]
    assert (shares >= 0).all()
    assert np.abs(shares.sum(-1) - 1).max(initial=0) < 1e-6
    if predicted.deviation is not None:
        assert np.isfinite(predicted.deviation[~predicted.unseen]).all()


@pytest.mark.parametrize("name", [*MODELS, "joined"])
def test_extreme_series_get_valid_shares(name: str) -> None:
    one = expert(name)
    side = one.header.patch_size_px + 4
    gap = np.full((STEPS, BANDS), np.nan, np.float32)
    single = gap.copy()
    single[5, 1] = 0.3
    whole = np.ones_like(gap)
    extremes = {
        "gap": gap,
        "infinite": gap + np.inf,
        "huge": whole * np.finfo(np.float32).max,
        "hugely negative": whole * np.finfo(np.float32).min,
        "zero": whole * 0,
        "constant": whole * 0.25,
        "one observation": single,
    }
    for kind, series in extremes.items():
        values = np.broadcast_to(series, (1, side, side, STEPS, BANDS)).copy()
        for layer in (np.nan, 0, 1e30):
            layers = np.full((1, side, side, 2), layer, np.float32)
            predicted = unmix(one.header, TorchRunner(one.network), values, layers)  # type: ignore[arg-type]
            unseen = kind in ("gap", "infinite")
            assert (predicted.unseen == unseen).all()
            if unseen:
                assert np.isnan(predicted.shares).all()
                continue
            assert (predicted.shares >= 0).all()
            assert np.abs(predicted.shares.sum(-1) - 1).max() < 1e-6


@pytest.mark.parametrize("name", [*MODELS, "joined"])
def test_pixels_never_observed_have_no_shares_and_are_marked(name: str) -> None:
    table, one = make_table(), expert(name)
    predicted = unmix_pixels(one, table)
    never = ~np.isfinite(table.values).any((1, 2))
    assert never.sum() == 4
    assert (predicted.unseen == never).all()
    assert one.header.series is not None
    assert np.isnan(predicted.shares[never]).all()
    assert np.isfinite(predicted.shares[~never]).all()
    assert predicted.deviation is None or np.isnan(predicted.deviation[never]).all()
    assert np.allclose(prior_of(one.header), table.targets[table.splits == 0].mean(0), atol=1e-6)


@pytest.mark.parametrize("name", [*MODELS, "joined"])
def test_a_saved_expert_predicts_the_same(name: str, tmp_path: Path) -> None:
    one = expert(name)
    assert read_architecture(one.header.architecture.to_dict()) == one.header.architecture
    again = open_expert(save_expert(tmp_path / "expert.safetensors", one))
    assert again.header == one.header
    table = make_table(seed=1)
    np.testing.assert_array_equal(unmix_pixels(again, table).shares, unmix_pixels(one, table).shares)


def test_chosen_pixels_come_in_their_order() -> None:
    table = make_table()
    chosen = np.array([100, 7, 300, 8])
    for name in ("mlp", "convolution"):
        whole = unmix_pixels(expert(name), table).shares
        assert np.allclose(
            unmix_pixels(expert(name), table, chosen).shares, whole[chosen], atol=1e-6, equal_nan=True
        )


def without_variance(one: Expert) -> Expert:
    """The expert without its calibration."""
    document = one.header.to_dict()
    document.pop("variance", None)
    return Expert(ExpertHeader.from_dict(document), one.network)


def test_ensembles_brits_and_dirichlets_have_a_variance_of_their_own() -> None:
    table = make_table()
    for name in ("attention", "brits", "dirichlet, endmembers", "joined"):
        deviation = unmix_pixels(without_variance(expert(name)), table).deviation
        assert deviation is not None
        assert (deviation > 0).any()
    assert unmix_pixels(without_variance(expert("mlp")), table).deviation is None


@pytest.mark.parametrize("name", MODELS)
def test_on_validation_pixels_errors_are_as_large_as_the_claimed_deviation(name: str) -> None:
    table, one = make_table(), expert(name)
    val = (table.splits == 1) & np.isfinite(table.values).any((1, 2))
    for level in (1, 2):
        predicted = unmix_pixels(one, table, val, level=level)
        assert predicted.deviation is not None
        assert (predicted.deviation**2 <= predicted.shares * (1 - predicted.shares) + 1e-6).all()
        error = predicted.shares - sum_to_level(table.targets[val].T, LEGEND, level).T
        assert np.sqrt((predicted.deviation**2).mean()) == pytest.approx(np.sqrt((error**2).mean()), rel=0.1)


def test_a_known_variance_is_recovered() -> None:
    generator = np.random.default_rng(0)
    shares = generator.dirichlet([0.3] * 4, 8000)
    own = 0.3 * shares * (1 - shares) * generator.random(shares.shape)
    true = 0.5 * own + 0.2 * shares * (1 - shares)
    truth = generator.beta(*beta_parameters(shares, np.sqrt(true)))
    variance = fit_variance(truth, shares, np.sqrt(own))
    assert variance.own == pytest.approx(0.5, abs=0.15)
    assert variance.mixed == pytest.approx(0.2, abs=0.03)
    assert fit_variance(truth, shares, None).own == 0


def test_a_sample_of_pixels_holds_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    shares = generator.dirichlet([0.3] * 4, 8000)
    most = shares * (1 - shares)
    own = 0.5 * most * generator.random(shares.shape)
    true = own.copy()
    true[:, 0] = 0.25 * most[:, 0]  # the network's own variance says nothing about the first class
    truth = generator.beta(*beta_parameters(shares, np.sqrt(true)))
    whole = fit_variance(truth, shares, np.sqrt(own))
    monkeypatch.setattr("tesela.training.unmixing.calibration._MOST_SHARES", shares.size // 4)
    assert fit_variance(truth, shares, np.sqrt(own)).own == pytest.approx(whole.own, abs=0.15)


def test_the_deviation_of_a_sum_is_that_of_the_members_sums() -> None:
    table, one = make_table(), without_variance(expert("attention"))
    fine, coarse = unmix_pixels(one, table), unmix_pixels(one, table, level=1)
    seen = ~fine.unseen
    assert np.abs(coarse.shares[:, 0] - fine.shares[:, :2].sum(1))[seen].max() < 1e-6
    assert fine.deviation is not None
    assert coarse.deviation is not None
    # two classes that sum to 1 have equal deviations
    assert np.abs(coarse.deviation[:, 0] - coarse.deviation[:, 1])[seen].max() < 1e-6
    assert np.abs(coarse.deviation[seen, 1] - fine.deviation[seen, 2]).max() < 1e-6


def test_joined_experts_can_be_calibrated() -> None:
    table, joined = make_table(), expert("joined")
    assert joined.header.variance == ()
    assert len(calibrate(joined, table).header.variance) == LEGEND.depth
    with pytest.raises(InputError, match="no shares of the expert's legend"):
        calibrate(joined, table.at_level(1))
    unsplit = dataclasses.replace(table, splits=np.zeros(len(table), np.uint8))
    with pytest.raises(InputError, match="No pixel is in val"):
        calibrate(joined, unsplit)


@pytest.mark.parametrize(
    "variance", [[[1, 2]], [[1, 0], [float("nan"), 1]], [[1, 0], [-1, 1]], "much", [[1], [2]]]
)
def test_the_variance_of_an_unknown_file_is_checked(variance: object) -> None:
    with pytest.raises(ExpertError, match="variance"):
        ExpertHeader.from_dict(expert("mlp").header.to_dict() | {"variance": variance})


def test_headers_written_before_their_keys_were_renamed_can_be_read() -> None:
    header = expert("dirichlet, endmembers").header
    document = header.to_dict()
    document["doubt"] = document.pop("variance")
    architecture = dict(document["architecture"])  # type: ignore[call-overload]
    architecture["mixture"] = architecture.pop("endmember_decoder")
    assert ExpertHeader.from_dict(document | {"architecture": architecture}) == header


def test_endmembers_of_the_decoder_can_be_read() -> None:
    spectra = expert("dirichlet, endmembers").network.decoder.endmembers  # type: ignore[union-attr]
    assert spectra.shape == (3, STEPS, BANDS)  # type: ignore[union-attr]


def test_pure_and_half_pixels_unmix_to_their_shares() -> None:
    spectra = np.random.default_rng(0).normal(size=(3, 10))
    wanted = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    seen = np.ones((3, 10), bool)
    seen[2, :6] = False
    values = np.where(seen, wanted @ spectra, 1e9)
    for constrained in (True, False):
        predicted = unmix_linear(values, seen, spectra, constrained=constrained)
        assert np.abs(predicted - wanted).max() < 1e-4


def test_the_sum_constrains_the_fit_of_fclsu_only() -> None:
    spectra, half = np.eye(2), np.array([[0.5, 0.0]])  # a dark pixel of the first class
    seen = np.ones((1, 2), bool)
    assert unmix_linear(half, seen, spectra, constrained=False) == pytest.approx(np.array([[1.0, 0.0]]))
    # (a - 0.5)^2 + (1 - a)^2 is least at a = 0.75
    assert unmix_linear(half, seen, spectra) == pytest.approx(np.array([[0.75, 0.25]]), abs=1e-5)


def test_endmembers_are_the_medians_of_the_purest_pixels() -> None:
    values = np.array([[[1.0]], [[3.0]], [[9.0]], [[np.nan]]])
    targets = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 1.0]])
    assert purest_endmembers(values, targets, pixels=2).ravel().tolist() == [2.0, 9.0]


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.float64, (4, 5), elements=st.floats(-10, 10)))
def test_the_projection_is_the_nearest_point_of_the_simplex(values: np.ndarray) -> None:
    nearest = project_to_simplex(values)
    assert (nearest >= 0).all()
    assert np.abs(nearest.sum(1) - 1).max() < 1e-9
    others = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    gaps = ((values[:, None] - others) ** 2).sum(-1).min(1)
    assert (((values - nearest) ** 2).sum(1) <= gaps + 1e-9).all()


def test_trees_predict_as_scikit_learn_does() -> None:
    from sklearn.ensemble import RandomForestRegressor

    table, one = make_table(), expert("forest")
    assert one.header.architecture.summary == "random forest, 4 trees"
    flat_table = make_table()
    predicted = train_unmixing(flat_table, UnmixingSettings(**QUICK, model="forest", context=0))  # type: ignore[arg-type]
    mean, std = np.array(predicted.header.mean, np.float32), np.array(predicted.header.std, np.float32)
    assert predicted.header.series is not None
    layers = predicted.header.series.scaled_layers(table.static)
    features = stack_features((table.values - mean) / std, layers, filled=True)
    train = table.splits == 0
    peer = RandomForestRegressor(4, min_samples_leaf=3, max_features=1 / 3, random_state=0)
    peer.fit(features[train], table.targets[train].astype(np.float64))
    shares = unmix_pixels(predicted, table).shares
    seen = np.isfinite(table.values).any((1, 2))
    assert np.abs(shares - peer.predict(features))[seen].max() < 1e-5


@pytest.mark.parametrize("model", ["brits", "tempcnn"])
def test_pretrained_weights_start_a_training(model: str) -> None:
    table = make_table(missing=0.1)
    plan = UnmixingSettings(**QUICK, model=model, context=0)  # type: ignore[arg-type]
    start = pretrain(table, plan, epochs=3)
    assert not any(name.endswith("out.weight") for name in start)
    network = train_unmixing(table, dataclasses.replace(plan, epochs=1)).network
    assert load_start(network, start) == set(start)  # type: ignore[arg-type]
    made = train_unmixing(table, plan, start=start)
    predicted = unmix_pixels(made, table)
    assert np.isfinite(predicted.shares[~predicted.unseen]).all()


def test_weights_of_an_expert_of_another_legend_start_a_training() -> None:
    table = make_table()
    coarse = train_unmixing(table.at_level(1), UnmixingSettings(**QUICK, **MODELS["mlp"]))  # type: ignore[arg-type]
    made = train_unmixing(
        table,
        UnmixingSettings(**QUICK, **MODELS["mlp"]),  # type: ignore[arg-type]
        start=coarse.network.state_dict(),
    )
    assert made.header.legend == LEGEND
    with pytest.raises(ExpertError, match="No tensor of the pretrained network fits"):
        load_start(made.network, {"strange": torch.zeros(1)})  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_expert() -> None:
    plan = UnmixingSettings(**QUICK, **MODELS["convolution"])  # type: ignore[arg-type]
    one, other = (train_unmixing(make_table(), plan).network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_networks_learn_linear_mixing() -> None:
    table = make_table(missing=0.1)
    plan = UnmixingSettings(model="mlp", context=0, epochs=60, batch_size=64, accelerator="cpu")
    predicted = unmix_pixels(train_unmixing(table, plan), table, table.splits == 2)
    off = predicted.shares - table.targets[table.splits == 2]
    assert np.sqrt((off**2).mean()) < 0.12


def test_wrong_settings_and_tables_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"month_mask is 0\.7, but must be from 0 to 0\.5"):
        UnmixingSettings(month_mask=0.7)
    with pytest.raises(SettingsError, match="the paper trained BRITS"):
        UnmixingSettings(published=True, model="mlp")
    table = make_table()
    unsplit = dataclasses.replace(table, splits=np.full(len(table), 255, np.uint8))
    with pytest.raises(InputError, match="No pixel is in train"):
        train_unmixing(unsplit)
    with pytest.raises(InputError, match="fitted at once"):
        pretrain(table, UnmixingSettings(model="forest"))
    with pytest.raises(ExpertError, match="the expert needs"):
        unmix(
            expert("mlp").header,
            TorchRunner(expert("mlp").network),  # type: ignore[arg-type]
            np.zeros((4, STEPS, BANDS + 1), np.float32),
            np.zeros((4, 2), np.float32),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "unknown"}, "Unknown architecture 'unknown'"),
        ({"embedding": 10**9}, "embedding is 1000000000"),
        ({"encoder": "os.system"}, "Unknown encoder 'os.system'"),
        ({"head": "linear"}, "Unknown head .linear."),
        ({"months": 5}, "months is 5, a list"),
    ],
)
def test_the_architecture_of_an_unknown_file_is_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ExpertError, match=message):
        read_architecture(expert("mlp").header.architecture.to_dict() | change)


def test_trees_that_point_outside_themselves_are_refused() -> None:
    one = expert("boosting")
    table = make_table()
    broken = one.network.left.clone()  # type: ignore[union-attr, operator]
    network = type(one.network)(one.header.architecture)  # type: ignore[call-arg, arg-type]
    network.load_state_dict({**one.network.state_dict(), "left": torch.zeros_like(broken)})
    with pytest.raises(ExpertError, match="point outside themselves"):
        unmix_pixels(Expert(one.header, network), table)


def test_members_are_joined_by_weights_and_a_killed_training_keeps_the_finished_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = make_table(), tmp_path / "joined.safetensors"
    plan = UnmixingSettings(**QUICK, members=("mlp", "mlp", "forest"), context=2)  # type: ignore[arg-type]
    whole = train_unmixing(table, plan, out=out, quiet=True)
    assert read_architecture(whole.header.architecture.to_dict()) == whole.header.architecture
    weights = whole.header.scores["weights"]
    assert sum(weights) == pytest.approx(1, abs=1e-3)  # type: ignore[arg-type]
    first, second = whole.network.members[:2]  # type: ignore[index, union-attr]
    assert not torch.equal(first.head.out.weight, second.head.out.weight), "each has its own seed"
    assert "2 x mlp" in whole.header.architecture.summary
    assert not (tmp_path / ".training").exists()
    wanted = out.read_bytes()
    out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("tesela.training.unmixing.train.fit_classic", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError, match="by zero"):
            train_unmixing(table, plan, out=out, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("tesela.training.unmixing.train._train_networks", lambda *_, **__: 1 / 0)
        train_unmixing(table, plan, out=out, quiet=True)
    assert out.read_bytes() == wanted


def test_the_weights_of_members_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.random((3, 200, 4))
    truth = np.tensordot([0.2, 0.0, 0.8], predicted, axes=1)
    assert fit_weights(predicted, truth) == pytest.approx((0.2, 0.0, 0.8), abs=1e-3)
    with pytest.raises(ExpertError, match=r"2 experts got the weights 0\.5"):
        join_experts([expert("mlp"), expert("forest")], weights=(0.5,))
