"""Heads, trees, ensembles and encoders of unmixing networks, against values known by hand or by another library."""

import numpy as np
import pytest
import torch

from tesela.models.context import TemporalAttention, TemporalConvolution
from tesela.models.ensemble import Ensemble
from tesela.models.inference import own_variance
from tesela.models.mixing import LinearUnmixing
from tesela.models.output import DirichletHead, HurdleHead, NetworkOutput, UnmixingNetwork, sparsemax
from tesela.models.trees import project_to_simplex, stack_features
from tesela.models.unmixers import MixingArchitecture
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import make_table

MONTHS = tuple(range(1, 13))


def test_the_variance_of_a_dirichlet_is_that_of_torch() -> None:
    head = DirichletHead(4, 3)
    output = head(torch.randn(10, 4))
    assert output.concentration is not None
    peer = torch.distributions.Dirichlet(output.shares * output.concentration[:, None])
    assert torch.allclose(output.shares, peer.mean)
    variance = own_variance(NetworkOutput(*(None if item is None else item.detach() for item in output)))  # type: ignore[arg-type]
    assert np.allclose(variance, peer.variance.detach(), atol=1e-6)


def test_the_variance_of_heads_is_that_of_their_shares() -> None:
    heads = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]])
    output = NetworkOutput(shares=heads.mean(0), heads=heads)
    assert own_variance(output) == pytest.approx(np.array([[0.04, 0.04]]))
    assert own_variance(NetworkOutput(shares=heads[0], heads=heads[:1])) is None


def test_boosted_trees_predict_as_scikit_learn_does() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    table = make_table()
    settings = UnmixingSettings(model="boosting", context=0, windows=(), trees=6)
    expert = train_unmixing(table, settings, quiet=True)
    mean, std = np.array(expert.header.mean, np.float32), np.array(expert.header.std, np.float32)
    assert expert.header.series is not None
    scaled = (table.values - mean) / std
    layers = expert.header.series.scaled_layers(table.static)
    features = stack_features(np.clip(scaled, -10, 10), layers, filled=True)
    train, val = (table.splits == number for number in (0, 1))
    columns = []
    for position in range(3):
        peer = HistGradientBoostingRegressor(
            max_iter=6, learning_rate=0.1, max_leaf_nodes=31, min_samples_leaf=20, l2_regularization=1.0,
            early_stopping=True, n_iter_no_change=10, random_state=0,
        )  # fmt: skip
        wanted = table.targets[:, position].astype(np.float64)
        peer.fit(features[train], wanted[train], X_val=features[val], y_val=wanted[val])
        columns.append(peer.predict(features))
    seen = np.isfinite(table.values).any((1, 2))
    shares = unmix_pixels(expert, table).shares
    assert np.abs(shares - project_to_simplex(np.stack(columns, 1)))[seen].max() < 1e-5
    assert shares[seen].std(0).min() > 0.01


class Corner(UnmixingNetwork):
    """The first value of each pixel as the share of the first class, with a margin."""

    def __init__(self, margin_px: int) -> None:
        super().__init__()
        self.margin_px = margin_px

    def answer(self, values: torch.Tensor, mask: torch.Tensor, static: torch.Tensor) -> NetworkOutput:
        inner = slice(self.margin_px, values.shape[1] - self.margin_px)
        first = values[:, inner, inner, 0, 0]
        shares = torch.stack([first, 1 - first], -1)
        return NetworkOutput(shares=shares, heads=shares[None])


def test_networks_of_an_ensemble_predict_the_same_pixels() -> None:
    values = torch.rand(1, 7, 7, 2, 1)
    mask, static = torch.ones_like(values), torch.zeros(1, 7, 7, 0)
    output = Ensemble([Corner(0), Corner(2), Corner(1)]).answer(values, mask, static)
    assert torch.equal(output.heads[0], output.heads[1])
    assert torch.equal(output.heads[1], output.heads[2])
    assert torch.allclose(output.shares[..., 0], values[:, 2:5, 2:5, 0, 0])


def test_endmembers_of_one_class_share_it() -> None:
    plan = MixingArchitecture(1, 2, 3, 3, (0, 0, 1))
    network = LinearUnmixing(plan)
    network.endmembers.data.copy_(torch.eye(3)[..., None])
    values = torch.tensor([[[0.2], [0.3], [0.5]]])
    output = network.answer(values, torch.ones_like(values), torch.zeros(1, 0))
    assert output.shares[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_a_year_is_convolved_as_a_ring() -> None:
    encoder = TemporalConvolution(1, MONTHS, 8).eval()
    encoder.signals.zero_()
    values = torch.randn(3, 12, 1)
    stacked = [
        torch.cat([item, torch.ones_like(item), torch.zeros(3, 12, 2)], -1).transpose(1, 2)
        for item in (values, values.roll(5, 1))
    ]
    plain, rolled = (encoder.convolutions(item) for item in stacked)
    assert torch.allclose(plain.roll(5, 2), rolled, atol=1e-6)
    half = TemporalConvolution(1, MONTHS[:6], 8)
    assert {item.padding_mode for item in half.convolutions if isinstance(item, torch.nn.Conv1d)} == {"zeros"}


def test_months_without_observations_get_no_attention() -> None:
    encoder = TemporalAttention(1, MONTHS, 16).eval()
    mask = torch.ones(2, 12, 1)
    mask[:, 4:7] = 0
    weights = encoder.attention(torch.randn(2, 12, 16), mask)
    assert torch.allclose(weights.sum(1), torch.ones(2, encoder.heads))
    assert weights[:, 4:7].max() < 1e-9


@pytest.mark.parametrize("head", ["softmax", "dirichlet", "sparsemax", "hurdle"])
def test_every_head_learns_shares_that_sum_to_one(head: str) -> None:
    table = make_table()
    plan = UnmixingSettings(model="mlp", context=0, head=head, epochs=15, batch_size=64, accelerator="cpu")  # type: ignore[arg-type]
    expert = train_unmixing(table, plan, quiet=True)
    seen = np.isfinite(table.values).any((1, 2)) & (table.splits == 2)
    shares = unmix_pixels(expert, table, seen).shares
    assert np.abs(shares.sum(1) - 1).max() < 1e-6
    error = np.abs(shares - table.targets[seen]).mean()
    usual = np.abs(table.targets[seen] - table.targets.mean(0)).mean()
    assert error < 0.6 * usual


def test_sparsemax_is_the_projection_onto_the_simplex() -> None:
    scores = np.random.default_rng(0).normal(0, 2, (200, 7))
    shares = sparsemax(torch.from_numpy(scores)).numpy()
    assert np.allclose(shares, project_to_simplex(scores), atol=1e-12)
    assert (shares == 0).mean() > 0.3


def test_a_class_below_the_hurdle_has_no_share_at_all() -> None:
    head = HurdleHead(2, 3).eval()
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 2.0, -4.0, 2.0]))
    assert head(torch.zeros(1, 2)).shares.tolist() == [[0.5, 0.0, 0.5]]
    with torch.no_grad():
        head.out.bias[3:] = -4.0
    assert head(torch.zeros(1, 2)).shares.sum().item() == pytest.approx(1), "at least one class remains"
