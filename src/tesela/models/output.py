"""The output of unmixing networks, and the heads that make it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from tesela.core.legend import Legend

Tensor = torch.Tensor


class NetworkOutput(NamedTuple):
    """Shares of the classes, with what the network knows about them."""

    shares: Tensor
    """(..., classes): not negative, sum 1."""
    heads: Tensor
    """(heads, ..., classes): the shares whose mean is `shares`; the published loss scores each one separately."""
    imputed: Tensor | None = None
    """(..., steps, bands): the scaled series with its gaps filled, by networks that fill them."""
    imputation_error: Tensor | None = None
    """Sum over steps, estimates and directions of the mean absolute error of observed values."""
    disagreement: Tensor | None = None
    """Mean absolute difference of the series that the two directions fill in."""
    concentration: Tensor | None = None
    """(...): sum of the Dirichlet's parameters; the larger, the smaller the variance."""
    rebuilt: Tensor | None = None
    """(..., steps, bands): the scaled series as a linear mixture of endmembers."""
    presence: Tensor | None = None
    """(..., classes): logit of the probability that the share is above 0, by `HurdleHead`."""
    scores: Tensor | None = None
    """(..., classes): the numbers that `SparsemaxHead` projects."""


class UnmixingNetwork(nn.Module):
    """
    A network from pixel series to class shares.

    Networks with `margin_px` 0 take any leading dimensions. Others use neighbours: they take (windows, rows, cols, ...)
    and return (windows, rows - 2 margin, cols - 2 margin).
    """

    margin_px: int = 0
    """Pixels on each side that the shares of a pixel depend on."""

    @abstractmethod
    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """
        Shares with everything else that the network estimates.

        Parameters
        ----------
        values : (..., steps, bands) tensor
            Scaled series, anything finite where there is no observation.
        mask : (..., steps, bands) tensor
            1 where there is one, else 0.
        static : (..., layers) tensor
            Scaled ancillary layers; may be empty.
        """

    def forward(self, values: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """Shares only, (..., classes); parameters as `answer`."""
        return self.answer(values, mask, static).shares


class ShareHead(nn.Module):
    """
    Class shares by softmax.

    The classes are those of the finest level. Shares of the level above are their sums, so both levels always agree.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, embedded: Tensor) -> NetworkOutput:
        """Shares of (..., width) embeddings."""
        shares = torch.softmax(self.out(embedded), -1)
        return NetworkOutput(shares=shares, heads=shares[None])


class DirichletHead(nn.Module):
    r"""
    Class shares as the mean of a Dirichlet distribution.

    :math:`\alpha_c = \mathrm{softplus}(o_c) + 10^{-3}`; the shares are :math:`\alpha / S` with :math:`S = \sum_c
    \alpha_c`, and the variance of a share is :math:`s (1 - s) / (S + 1)`.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, embedded: Tensor) -> NetworkOutput:
        """Shares of (..., width) embeddings, with the concentration :math:`S`."""
        parameters = functional.softplus(self.out(embedded)) + 1e-3
        concentration = parameters.sum(-1, keepdim=True)
        shares = parameters / concentration
        return NetworkOutput(shares=shares, heads=shares[None], concentration=concentration[..., 0])


class SparsemaxHead(nn.Module):
    """Class shares by sparsemax [Martins2016]_: the nearest point of the simplex, where many shares are exactly 0."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, embedded: Tensor) -> NetworkOutput:
        """Shares of (..., width) embeddings."""
        scores = self.out(embedded)
        shares = sparsemax(scores)
        return NetworkOutput(shares=shares, heads=shares[None], scores=scores)


class HurdleHead(nn.Module):
    r"""
    Class shares behind a hurdle: is the class present, and if so, how much of it.

    With :math:`q = \mathrm{sigmoid}(g)` for presence, shares are :math:`q_c e^{a_c} / \sum_k q_k e^{a_k}`. In
    evaluation a class whose :math:`q` is below `LEAST_PRESENCE` has exactly 0, unless all are below.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 2 * classes)

    def forward(self, embedded: Tensor) -> NetworkOutput:
        """Shares of (..., width) embeddings."""
        amount, presence = self.out(embedded).chunk(2, -1)
        logits = amount + functional.logsigmoid(presence)
        if not self.training:
            absent = presence < math.log(LEAST_PRESENCE / (1 - LEAST_PRESENCE))
            logits = logits - 1e4 * (absent & ~absent.all(-1, keepdim=True)).to(logits.dtype)
        shares = torch.softmax(logits, -1)
        return NetworkOutput(shares=shares, heads=shares[None], presence=presence)


LEAST_PRESENCE = 0.2
"""Probability of being present below which `HurdleHead` gives a class no share."""

HEADS: dict[str, type[nn.Module]] = {
    "softmax": ShareHead,
    "dirichlet": DirichletHead,
    "sparsemax": SparsemaxHead,
    "hurdle": HurdleHead,
}
"""Heads of encoders by name."""


def sparsemax(scores: Tensor) -> Tensor:
    """
    Nearest point of the simplex, by Euclidean distance, to (..., classes) scores.

    Examples
    --------
    >>> sparsemax(torch.tensor([0.5, 0.9, -3.0])).tolist()
    [0.30000001192092896, 0.699999988079071, 0.0]
    """
    ordered = scores.sort(-1, descending=True).values
    counts = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
    excess = ordered.cumsum(-1) - 1
    inside = (ordered * counts > excess).sum(-1, keepdim=True)
    threshold = excess.gather(-1, inside - 1) / inside
    return (scores - threshold).clamp_min(0)


def parent_matrix(legend: Legend) -> Tensor | None:
    """
    Parent of each class, (classes, parents) of 0 and 1; None at the first level.

    Shares times this matrix are the shares of the level above.
    """
    if legend.upper is None:
        return None
    codes = legend.upper.codes
    matrix = torch.zeros(len(legend), len(codes))
    for row, item in enumerate(legend.classes):
        matrix[row, codes.index(item.parent)] = 1
    return matrix


def level_matrix(legend: Legend, depth: int) -> Tensor:
    """Ancestor of each class at a coarser level, (classes, classes of the level) of 0 and 1."""
    matrix = torch.eye(len(legend))
    while legend.depth > depth:
        above = parent_matrix(legend)
        assert above is not None
        assert legend.upper is not None
        matrix, legend = matrix @ above, legend.upper
    return matrix
