"""Heads: from an embedding to class shares that are not negative and sum to 1."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tesela.core.legend import Legend
from tesela.models.answer import Answer, Tensor


class ShareHead(nn.Module):
    """
    Class shares by softmax.

    The classes are those of the finest level. Those of the level above are their sums, so both levels always agree.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, embedded: Tensor) -> Answer:
        """Answer for (..., width) embeddings."""
        shares = torch.softmax(self.out(embedded), -1)
        return Answer(shares=shares, heads=shares[None])


class DirichletHead(nn.Module):
    r"""
    Class shares as the mean of a Dirichlet distribution.

    :math:`\alpha_c = \mathrm{softplus}(o_c) + 10^{-3}`; the shares are :math:`\alpha / S` with :math:`S = \sum_c
    \alpha_c`, and the variance of a share is :math:`s (1 - s) / (S + 1)`.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, embedded: Tensor) -> Answer:
        """Answer for (..., width) embeddings, with the concentration :math:`S`."""
        parameters = functional.softplus(self.out(embedded)) + 1e-3
        concentration = parameters.sum(-1, keepdim=True)
        shares = parameters / concentration
        return Answer(shares=shares, heads=shares[None], concentration=concentration[..., 0])


def parent_matrix(legend: Legend) -> Tensor | None:
    """
    Which class belongs to which one level up, (classes, parents) of 0 and 1; None at the first level.

    Multiplied by it, shares become those of the level above.
    """
    if legend.upper is None:
        return None
    codes = legend.upper.codes
    matrix = torch.zeros(len(legend), len(codes))
    for row, item in enumerate(legend.classes):
        matrix[row, codes.index(item.parent)] = 1
    return matrix


def level_matrix(legend: Legend, depth: int) -> Tensor:
    """Which class belongs to which of a coarser level, (classes, classes of the level) of 0 and 1."""
    matrix = torch.eye(len(legend))
    while legend.depth > depth:
        above = parent_matrix(legend)
        assert above is not None
        assert legend.upper is not None
        matrix, legend = matrix @ above, legend.upper
    return matrix
