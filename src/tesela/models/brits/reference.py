"""BRITS written as its equations are, to check and to time `tesela.models.brits.network`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from tesela.models.brits.network import Brits, Rits
from tesela.models.output import NetworkOutput, Tensor
from tesela.models.unmixers import BritsArchitecture


@dataclass(frozen=True)
class Cost:
    """Millions of floating-point operations for one pixel."""

    true_mflop: float
    """Of all matrix products of the equations, an addition and a multiplication for each weight."""
    published_mflop: float
    """As in Table II of the paper, by the profiler thop: biases and gates of the LSTM twice, no decay rates."""


def brits_cost(plan: BritsArchitecture, *, steps: int = 12) -> Cost:
    """
    Count the work of BRITS for one pixel.

    Examples
    --------
    >>> brits_cost(BritsArchitecture(bands=7, classes=4))
    Cost(true_mflop=2.267008, published_mflop=2.305504)
    """
    bands, hidden = plan.bands, plan.hidden
    gates = 4 * (2 * bands + hidden) * hidden
    estimates = hidden * bands + 2 * bands * bands
    rates = (
        bands * hidden + 2 * bands * bands
    )  # of hidden state, of values, and the weights of the other bands
    branch = plan.layers * plan.embedding + (hidden + plan.embedding) * hidden if plan.layers else 0
    ending = branch + hidden * plan.classes
    true = 2 * (steps * (gates + estimates + rates) + ending)
    counted = 2 * (steps * (gates + 16 * hidden + estimates) + ending)
    return Cost(2 * true / 1e6, 2 * counted / 1e6)


def reference_answer(network: Brits, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
    """
    Output of a network, by one plain operation after the other.

    Parameters
    ----------
    values, mask : (n, steps, bands) tensors
    static : (n, layers) tensor
    """
    ahead = _direction(network.ahead, values, mask, static)
    back = _direction(network.back, values.flip(1), mask.flip(1), static)
    filled_back = back[1].flip(1)
    return NetworkOutput(
        shares=(ahead[0] + back[0]) / 2,
        heads=torch.stack([ahead[0], back[0]]),
        imputed=(ahead[1] + filled_back) / 2,
        imputation_error=ahead[2] + back[2],
        disagreement=(ahead[1] - filled_back).abs().mean(),
    )


def _direction(one: Rits, values: Tensor, mask: Tensor, static: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shares, filled series and imputation error of one direction."""
    count, steps, bands = values.shape
    hidden = cell = values.new_zeros(count, one.hidden)
    delta = torch.ones_like(values[:, 0])
    error = values.new_zeros(())
    filled = []
    weight_in, weight_hidden = torch.split(one.gates.weight, [2 * bands, one.hidden], 1)
    no_bias = torch.zeros_like(one.gates.bias)
    diagonal = torch.eye(bands, dtype=values.dtype) * one.value_decay_weight
    for step in range(steps):
        x, m = values[:, step], mask[:, step]
        if step:
            delta = 1 + (1 - mask[:, step - 1]) * delta
        hidden_decay = torch.exp(-torch.relu(one.hidden_decay(delta)))
        value_decay = torch.exp(-torch.relu(functional.linear(delta, diagonal, one.value_decay_bias)))
        hidden = hidden * hidden_decay
        by_history = one.history(hidden)
        error = error + (torch.abs(x - by_history) * m).sum() / (m.sum() + 1e-5)
        patched = m * x + (1 - m) * by_history
        by_bands = functional.linear(patched, one.features.weight * one.off_diagonal, one.features.bias)
        error = error + (torch.abs(x - by_bands) * m).sum() / (m.sum() + 1e-5)
        weight = one.combine(torch.cat([value_decay, m], 1))
        if one.sigmoid:
            weight = torch.sigmoid(weight)
        combined = weight * by_bands + (1 - weight) * by_history
        error = error + (torch.abs(x - combined) * m).sum() / (m.sum() + 1e-5)
        whole = m * x + (1 - m) * combined
        hidden, cell = torch.lstm_cell(
            torch.cat([whole, m], 1), (hidden, cell), weight_in, weight_hidden, one.gates.bias, no_bias
        )
        filled.append(whole.unsqueeze(1))
    if one.ancillary is not None and one.join is not None:
        branch = torch.relu(one.ancillary(static))
        hidden = torch.relu(one.join(torch.cat([hidden, branch], 1)))
    return torch.softmax(one.out(hidden), 1), torch.cat(filled, 1), error
