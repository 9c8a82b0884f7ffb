"""The loss of unmixing networks."""

from __future__ import annotations

import torch

from tesela.models.output import NetworkOutput, Tensor
from tesela.training.unmixing.settings import UnmixingSettings

_LEAST = 1e-6


def unmixing_loss(
    answer: NetworkOutput,
    targets: Tensor,
    *,
    values: Tensor,
    mask: Tensor,
    known: Tensor,
    parents: Tensor | None,
    settings: UnmixingSettings,
) -> Tensor:
    r"""
    Loss of an answer.

    Ours: :math:`w_k \mathrm{KL} + w_m \mathrm{MSE}` of the mean share, the same one level up, and the balanced error of
    imputation. Published, with its sums left as they are: :math:`0.25 \sum_{t, e} \mathrm{MAE} + 0.75 \, \mathrm{MSE}`
    of each direction, and a tenth of their disagreement.

    Parameters
    ----------
    targets : (..., classes) tensor
    values, mask : (..., steps, bands) tensors
        What the network was asked to explain: before months were hidden from it.
    known : (...) tensor of bool
        Pixels that teach.
    parents : (classes, parents) tensor, optional
        Classes one level up; see `parent_matrix`.
    """
    if settings.published:
        return _published(answer, targets, known, settings)
    shares, wanted = answer.shares[known], targets[known]
    loss = _divergence(answer, shares, wanted, known) * settings.kl + _squared(shares, wanted) * settings.mse
    if parents is not None and settings.upper:
        above, wanted_above = shares @ parents, wanted @ parents
        part = (
            _cross_entropy(above, wanted_above) * settings.kl + _squared(above, wanted_above) * settings.mse
        )
        loss = loss + settings.upper * part
    if answer.imputation_error is not None and answer.disagreement is not None:
        estimates = 6 * values.shape[-2]  # three per step and direction
        loss = loss + settings.imputation * answer.imputation_error / estimates
        loss = loss + settings.consistency * answer.disagreement
    if answer.rebuilt is not None:
        off = ((answer.rebuilt - values) * mask)[known]
        loss = loss + 0.1 * off.square().sum() / mask[known].sum().clamp_min(1)
    return loss


def _published(answer: NetworkOutput, targets: Tensor, known: Tensor, settings: UnmixingSettings) -> Tensor:
    assert answer.imputation_error is not None
    assert answer.disagreement is not None
    wanted = targets[known]
    off = torch.stack([(head[known] - wanted).square().sum() for head in answer.heads]).sum()
    judged = settings.mse * off / (len(wanted) + 1e-5)
    return settings.imputation * answer.imputation_error + judged + settings.consistency * answer.disagreement


def _divergence(answer: NetworkOutput, shares: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of shares, or the negative log-likelihood of a Dirichlet."""
    if answer.concentration is None:
        return _cross_entropy(shares, wanted)
    classes = wanted.shape[-1]
    inside = wanted * (1 - classes * 1e-3) + 1e-3  # a Dirichlet has no density at exact zeros
    parameters = shares * answer.concentration[known][..., None]
    likelihood = (
        torch.lgamma(parameters.sum(-1))
        - torch.lgamma(parameters).sum(-1)
        + ((parameters - 1) * inside.log()).sum(-1)
    )
    return -likelihood.mean() / classes


def _cross_entropy(shares: Tensor, wanted: Tensor) -> Tensor:
    return -(wanted * shares.clamp_min(_LEAST).log()).sum(-1).mean()


def _squared(shares: Tensor, wanted: Tensor) -> Tensor:
    return (shares - wanted).square().sum(-1).mean()
