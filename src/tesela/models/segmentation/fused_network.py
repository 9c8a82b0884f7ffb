r"""
The network of a fused expert.

The scores of class :math:`k` are :math:`\sum_m w_m \log p_{mk} + b_k`, with the class probabilities :math:`p_m` of the
members: a logarithmic opinion pool [GenestZidek1986]_.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tesela.models.segmentation.fused import FusedArchitecture


class FusedNetwork(nn.Module):
    """Members that see the same image, and the weights by which their logarithms of probability are added."""

    def __init__(self, architecture: FusedArchitecture, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bands, self.classes, self.stride = architecture.bands, architecture.classes, architecture.stride
        self.members = nn.ModuleList(members)
        self.traceable = any(getattr(member, "traceable", True) for member in members)
        """Whether a compiler gains anything: engines run the members one by one, and trees are compiled already."""
        self.margin_px = max(int(getattr(member, "margin_px", 0)) for member in members)
        self.weight: torch.Tensor
        self.register_buffer("weight", torch.ones(len(members)))
        self.bias: torch.Tensor
        self.register_buffer("bias", torch.zeros(architecture.classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (batch, classes, rows, cols) of (batch, bands, rows, cols) standardised images."""
        return self.join([member(images) for member in self.members])

    def join(self, scores: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of the expert from those of its members, each (batch, classes, rows, cols)."""
        total: torch.Tensor | None = None
        for part, weight in zip(scores, self.weight, strict=True):
            part = weight * torch.log_softmax(part.float(), 1)
            total = part if total is None else total + part
        assert total is not None
        return total + self.bias[:, None, None]

    @torch.no_grad()
    def add_to_scores(self, values: torch.Tensor) -> None:
        """Add a number to all scores of each class, for good."""
        self.bias += values.to(self.bias)
