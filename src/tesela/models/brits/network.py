r"""
BRITS: recurrent imputation of a series in two directions, with class shares at the end.

Written from the equations of Cao et al. [Cao2018]_ with the ancillary branch of Rodriguez-Ortega et al.
[RodriguezOrtega2024]_. Per direction, with values :math:`x_t`, masks :math:`m_t` and months since the last observation
:math:`\delta_t`:

.. math::

    \gamma^h_t &= \exp(-\max(0, W_\gamma \delta_t + b_\gamma)), \quad
    \gamma^x_t = \exp(-\max(0, w_x \odot \delta_t + b_x)) \\
    \hat h &= h_{t-1} \odot \gamma^h_t, \quad \hat x_t = W_x \hat h + b \\
    x^c_t &= m_t \odot x_t + (1 - m_t) \odot \hat x_t, \quad \hat z_t = W_z x^c_t + b, \; \mathrm{diag}(W_z) = 0 \\
    \alpha_t &= \sigma(W_\alpha [\gamma^x_t, m_t] + b), \quad
    \hat c_t = \alpha_t \odot \hat z_t + (1 - \alpha_t) \odot \hat x_t \\
    c^c_t &= m_t \odot x_t + (1 - m_t) \odot \hat c_t, \quad (h_t, c_t) = \mathrm{LSTM}([c^c_t, m_t], \hat h, c_{t-1})

The published system leaves out the :math:`\sigma` of :math:`\alpha`.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from tesela.models.brits.kernels import advance_cell, decay_hidden
from tesela.models.output import NetworkOutput, Tensor, UnmixingNetwork

HIDDEN = 100
"""Hidden units of the published network."""
EMBEDDING = 50
"""Units of its ancillary branch."""


def months_since(mask: Tensor) -> Tensor:
    r"""
    Steps since the last observation: :math:`\delta_0 = 1`, :math:`\delta_t = 1 + (1 - m_{t-1}) \delta_{t-1}`.

    Parameters
    ----------
    mask : (steps, ...) tensor
        1 where there is an observation; in the order of the direction.

    Examples
    --------
    >>> months_since(torch.tensor([1.0, 0.0, 0.0, 1.0])).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    steps = [torch.ones_like(mask[0])]
    for seen in mask[:-1]:
        steps.append(1 + (1 - seen) * steps[-1])
    return torch.stack(steps)


class Rits(nn.Module):
    """One direction of `Brits`."""

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        layers: int,
        hidden: int = HIDDEN,
        embedding: int = EMBEDDING,
        sigmoid: bool = True,
    ) -> None:
        super().__init__()
        self.hidden, self.bands, self.sigmoid = hidden, bands, sigmoid
        self.gates = nn.Linear(2 * bands + hidden, 4 * hidden)
        self.hidden_decay = nn.Linear(bands, hidden)
        self.history = nn.Linear(hidden, bands)
        self.features = nn.Linear(bands, bands)
        self.combine = nn.Linear(2 * bands, bands)
        self.out = nn.Linear(hidden, classes)
        self.value_decay_weight = nn.Parameter(torch.empty(bands))
        self.value_decay_bias = nn.Parameter(torch.empty(bands))
        self.register_buffer("off_diagonal", 1 - torch.eye(bands), persistent=False)
        self.off_diagonal: Tensor
        doubled = torch.ones(4 * hidden)
        doubled[2 * hidden : 3 * hidden] = 2
        self.register_buffer("doubled", doubled, persistent=False)
        self.doubled: Tensor
        self.ancillary = nn.Linear(layers, embedding) if layers else None
        self.join = nn.Linear(hidden + embedding, hidden) if layers else None
        self._draw()

    def _draw(self) -> None:
        """Draw the weights as the published code does."""
        for module in (self.gates, self.hidden_decay, self.features):
            for item in module.parameters():
                nn.init.uniform_(
                    item, -1 / math.sqrt(self._spread(module)), 1 / math.sqrt(self._spread(module))
                )
        for item in (self.value_decay_weight, self.value_decay_bias):
            nn.init.uniform_(item, -1 / math.sqrt(self.bands), 1 / math.sqrt(self.bands))

    def _spread(self, module: nn.Linear) -> int:
        return self.hidden if module is self.gates else module.out_features

    def forward(
        self, values: Tensor, mask: Tensor, deltas: Tensor, static: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """
        Impute the series step by step, and predict the shares at its end.

        Parameters
        ----------
        values, mask, deltas : (steps, n, bands) tensors
            In the order of the direction.
        static : (n, layers) tensor

        Returns
        -------
        shares : (n, classes) tensor
        filled : (steps, n, bands) tensor
        estimates : three (steps, n, bands) tensors
            Of history, of the other bands, and combined.
        """
        # biases are a column beside the weights, and a one is beside the mask: cheaper than adding them afterwards
        weight_in, weight_hidden = torch.split(self.gates.weight, [2 * self.bands, self.hidden], 1)
        gate_in = torch.cat([weight_in, self.gates.bias[:, None]], 1)
        gate_weight = torch.cat([gate_in, weight_hidden], 1) * self.doubled[:, None]
        decay_weight = torch.cat([self.hidden_decay.weight, self.hidden_decay.bias[:, None]], 1)
        ones = torch.ones_like(mask[..., :1])
        mask_one, deltas_one = torch.cat([mask, ones], -1), torch.cat([deltas, ones], -1)
        feature_weight = self.features.weight * self.off_diagonal
        fading = torch.exp(-torch.relu(deltas * self.value_decay_weight + self.value_decay_bias))
        weights = functional.linear(torch.cat([fading, mask], -1), self.combine.weight, self.combine.bias)
        if self.sigmoid:
            weights = torch.sigmoid(weights)
        seen, unseen = values * mask, 1 - mask
        hidden = cell = values.new_zeros(values.shape[1], self.hidden)
        estimates: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        filled = []
        for step in range(len(values)):
            if step:
                hidden = decay_hidden(hidden, functional.linear(deltas_one[step], decay_weight))
                by_history = self.history(hidden)
            else:
                by_history = self.history.bias.expand(values.shape[1], -1)
            patched = torch.addcmul(seen[step], unseen[step], by_history)
            by_bands = functional.linear(patched, feature_weight, self.features.bias)
            combined = torch.lerp(by_history, by_bands, weights[step])
            whole = torch.addcmul(seen[step], unseen[step], combined)
            if step:
                taken = torch.cat([whole, mask_one[step], hidden], -1)
                gates = functional.linear(taken, gate_weight)
            else:
                taken = torch.cat([whole, mask_one[step]], -1)
                gates = functional.linear(taken, gate_weight[:, : 2 * self.bands + 1])
            hidden, cell = advance_cell(gates, cell)
            filled.append(whole)
            for estimate, item in zip(estimates, (by_history, by_bands, combined), strict=True):
                estimate.append(item)
        if self.ancillary is not None and self.join is not None:
            branch = torch.relu(self.ancillary(static))
            hidden = torch.relu(self.join(torch.cat([hidden, branch], -1)))
        shares = torch.softmax(self.out(hidden), -1)
        first, second, third = (torch.stack(estimate) for estimate in estimates)
        return shares, torch.stack(filled), (first, second, third)


class Brits(UnmixingNetwork):
    """
    Two independent `Rits`, one forward in time and one backward; the shares are the mean of both.

    Parameters
    ----------
    bands, classes : int
    layers : int
        Ancillary layers, 0 or more.
    sigmoid : bool
        Whether the weights of the two estimates pass a sigmoid; the published network leaves it out.
    legacy : {"", "deltas", "order"}
        Mistakes of the published code to repeat, to compare with its results: "deltas" takes the months since the last
        observation of the backward direction from the forward masks, as its training does; "order" also gives the
        reversed series to both directions, as its prediction script does.
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        layers: int = 0,
        hidden: int = HIDDEN,
        embedding: int = EMBEDDING,
        sigmoid: bool = True,
        legacy: str = "",
    ) -> None:
        super().__init__()
        self.legacy = legacy
        self.ahead, self.back = (
            Rits(bands, classes, layers=layers, hidden=hidden, embedding=embedding, sigmoid=sigmoid)
            for _ in range(2)
        )

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """See `UnmixingNetwork.answer`; fills the gaps of the series."""
        leading, (steps, bands) = values.shape[:-2], values.shape[-2:]
        x = values.reshape(-1, steps, bands).transpose(0, 1)
        m = mask.reshape(-1, steps, bands).transpose(0, 1)
        s = static.reshape(x.shape[1], -1)
        reverse = (x.flip(0), m.flip(0))
        deltas = months_since(m), months_since(m if self.legacy else reverse[1])
        first = (x, m, deltas[0]) if self.legacy != "order" else (*reverse, deltas[1])
        ahead, filled_ahead, estimates_ahead = self.ahead(*first, s)
        back, filled_back, estimates_back = self.back(*reverse, deltas[1], s)
        filled_back = filled_back.flip(0)
        heads = torch.stack([ahead, back])
        filled = (filled_ahead + filled_back) / 2
        error = _observed_error(first[0], first[1], estimates_ahead) + _observed_error(
            *reverse, estimates_back
        )
        return NetworkOutput(
            shares=heads.mean(0).reshape(*leading, -1),
            heads=heads.reshape(2, *leading, -1),
            imputed=filled.transpose(0, 1).reshape(values.shape),
            imputation_error=error,
            disagreement=(filled_ahead - filled_back).abs().mean(),
        )


def _observed_error(values: Tensor, mask: Tensor, estimates: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Mean absolute error over the observed values of each step, summed over steps and estimates."""
    per_step = mask / (mask.sum((1, 2), keepdim=True) + 1e-5)
    off = sum(((values - estimate).abs() for estimate in estimates), torch.zeros_like(values))
    return (off * per_step).sum()
