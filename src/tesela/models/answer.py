"""The answer of an unmixing network, and what all such networks have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import nn

Tensor = torch.Tensor


class Answer(NamedTuple):
    """What an unmixing network says of its pixels."""

    shares: Tensor
    """(..., classes): not negative, sum 1."""
    heads: Tensor
    """(heads, ..., classes): the shares whose mean is `shares`; the published loss judges each by itself."""
    imputed: Tensor | None = None
    """(..., steps, bands): the scaled series with its gaps filled, by networks that fill them."""
    imputation_error: Tensor | None = None
    """Sum over steps, estimates and directions of the mean absolute error of observed values."""
    disagreement: Tensor | None = None
    """Mean absolute difference of the series that the two directions fill in."""
    concentration: Tensor | None = None
    """(...): sum of the Dirichlet's parameters; the larger, the surer."""
    rebuilt: Tensor | None = None
    """(..., steps, bands): the scaled series as a linear mixture of endmembers."""


class UnmixingNetwork(nn.Module):
    """
    A network from pixel series to class shares.

    Networks with `margin_px` 0 take any leading dimensions; others see neighbours, take (windows, rows, cols, ...) and
    answer for (windows, rows - 2 margin, cols - 2 margin).
    """

    margin_px: int = 0
    """Pixels on each side that one answer depends on."""

    @abstractmethod
    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> Answer:
        """
        Answer with all that the network knows.

        Parameters
        ----------
        values : (..., steps, bands) tensor
            Scaled series, anything finite where there is no observation.
        mask : (..., steps, bands) tensor
            1 where there is one, else 0.
        static : (..., layers) tensor
            Scaled ancillary layers; there may be none.
        """

    def forward(self, values: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """Shares only, (..., classes); parameters as `answer`."""
        return self.answer(values, mask, static).shares
