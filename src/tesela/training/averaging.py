"""The moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage(nn.Module):
    r"""
    A copy of a network whose weights follow it slowly.

    :math:`\bar w_t = d_t \bar w_{t-1} + (1 - d_t) w_t` with
    :math:`d_t = \min(d, (1 + t) / (10 + t))`, so that short trainings are not held back by
    their random start. Statistics of batch norms are averaged alike.

    Parameters
    ----------
    network : torch.nn.Module
        The network to follow; it is copied, not changed.
    decay : float
        Decay :math:`d` per step, 0 to 1.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: torch.Tensor

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move one step towards the network."""
        step = int(self.steps) + 1
        self.steps.fill_(step)
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name in mine if mine[name].is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in floats], [theirs[name] for name in floats], share)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the averaged network."""
        result: torch.Tensor = self.network(images)
        return result

    def train(self, mode: bool = True) -> MovingAverage:
        """Stay in evaluation mode, whatever the owner does."""
        return super().train(False)
