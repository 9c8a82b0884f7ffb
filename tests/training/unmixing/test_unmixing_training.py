"""Losses and validation of unmixing, by hand."""

import math

import numpy as np
import pytest
import torch

from tesela.models.output import NetworkOutput, UnmixingNetwork
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.batches import VAL, PixelSource
from tesela.training.unmixing.loop import unmixing_loss, validate
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import fit_scaling, train_unmixing
from unmixing_scene import make_table

SETTINGS = UnmixingSettings(kl=1, mse=4, parent_weight=0.5)
PARENTS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Two classes below one, the third below another."""
LABELLED = torch.tensor([True, False])
OURS = math.log(2) + 4 * (0.25 + 0.0625 + 0.0625)
"""Cross-entropy and squared error of 0.5, 0.25, 0.25 where 1, 0, 0 is true."""
ABOVE = -math.log(0.75) + 4 * (0.0625 + 0.0625)
"""The same one level up: 0.75, 0.25 where 1, 0 is true."""


def loss(*, parents: torch.Tensor | None = None, rebuilt: torch.Tensor | None = None) -> float:
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    targets = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    values = torch.zeros(2, 2, 1)
    mask = torch.tensor([[[1.0], [0.0]], [[1.0], [1.0]]])
    output = NetworkOutput(shares=shares, heads=shares[None], rebuilt=rebuilt)
    value = unmixing_loss(
        output, targets, values=values, mask=mask, labelled=LABELLED, parents=parents, settings=SETTINGS
    )
    return float(value)


def test_the_loss_is_that_of_the_labelled_pixels() -> None:
    assert loss() == pytest.approx(OURS)


def test_the_level_above_counts_with_its_weight() -> None:
    assert loss(parents=PARENTS) == pytest.approx(OURS + 0.5 * ABOVE)


def test_the_endmember_decoder_answers_for_observed_values_only() -> None:
    rebuilt = torch.tensor([[[1.0], [5.0]], [[7.0], [7.0]]])  # 5 in a gap, 7 in a pixel without label
    assert loss(rebuilt=rebuilt) == pytest.approx(OURS + 0.1)


class Equal(UnmixingNetwork):
    """Gives every class the same share."""

    def answer(self, values: torch.Tensor, mask: torch.Tensor, static: torch.Tensor) -> NetworkOutput:
        shares = torch.full((*values.shape[:-2], 3), 1 / 3)
        return NetworkOutput(shares=shares, heads=shares[None])


def source_of(table: PixelTable) -> PixelSource:
    mean, std, scaling = fit_scaling(table)
    return PixelSource(table, scaling, mean, std)


def test_validation_uses_the_validation_pixels() -> None:
    table = make_table()
    wanted = table.targets[table.splits == VAL].astype(np.float64)
    rmse = np.sqrt(((wanted - 1 / 3) ** 2).mean(axis=0)).mean()
    assert validate(Equal(), source_of(table), None) == pytest.approx(rmse, rel=1e-5)


def test_the_weights_of_the_smallest_error_are_kept() -> None:
    settings = UnmixingSettings(model="mlp", context=0, epochs=5, batch_size=64, validate_every=1, ema=0.0)
    scores = train_unmixing(make_table(), settings=settings, quiet=True).header.scores
    curve, epoch = scores["curve"][0], scores["epoch"][0]  # type: ignore[index]
    assert len(curve) == 5
    assert len(set(curve)) > 1
    assert scores["val_rmse"] == min(curve) == curve[epoch - 1]
