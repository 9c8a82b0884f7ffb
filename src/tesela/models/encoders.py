"""Pixel encoders: from a series with gaps to an embedding."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from tesela.models.answer import Tensor

ACROSS = 64
"""Channels of the convolutions of `TemporalConvolution`."""


def month_signals(months: tuple[int, ...]) -> Tensor:
    """Sine and cosine of the year at each month, (steps, 2): December lies beside January."""
    angle = 2 * math.pi * (torch.tensor(months, dtype=torch.float32) - 1) / 12
    return torch.stack([angle.sin(), angle.cos()], -1)


class SeriesMlp(nn.Module):
    """Two dense layers over all values and masks of a series."""

    def __init__(self, bands: int, months: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * bands * len(months), 256),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(256, width),
            nn.ReLU(),
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Embed (n, steps, bands) series, as (n, width)."""
        embedded: Tensor = self.layers(torch.cat([values, mask], -1))
        return embedded


class TemporalConvolution(nn.Module):
    """
    Convolutions along the year over values, masks and months, then a dense layer [Pelletier2019]_.

    A series of twelve different months is a ring, and is convolved as one.
    """

    def __init__(self, bands: int, months: tuple[int, ...], width: int) -> None:
        super().__init__()
        ring = len(set(months)) == len(months) == 12
        self.register_buffer("signals", month_signals(months), persistent=False)
        self.signals: Tensor
        channels = [2 * bands + 2, ACROSS, ACROSS]
        blocks: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            mode: Literal["circular", "zeros"] = "circular" if ring else "zeros"
            blocks += [
                nn.Conv1d(inputs, outputs, 3, padding=1, padding_mode=mode),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            ]
        self.convolutions = nn.Sequential(*blocks)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(ACROSS * len(months), width), nn.ReLU()
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Embed (n, steps, bands) series, as (n, width)."""
        signals = self.signals.to(values.dtype).expand(len(values), -1, -1)
        steps = torch.cat([values, mask, signals], -1).transpose(1, 2)
        embedded: Tensor = self.dense(self.convolutions(steps))
        return embedded


class TemporalAttention(nn.Module):
    """
    Lightweight temporal attention, after Garnot and Landrieu [Garnot2020]_.

    Each head has one learned query, and looks at its own slice of the channels; months without any observation get no
    attention. `weights` of the last call can be looked at.
    """

    def __init__(
        self, bands: int, months: tuple[int, ...], width: int, *, heads: int = 16, keys: int = 8
    ) -> None:
        super().__init__()
        while width % heads:
            heads //= 2
        self.heads, self.keys = heads, keys
        self.register_buffer("signals", month_signals(months), persistent=False)
        self.signals: Tensor
        self.lift = nn.Sequential(nn.Linear(2 * bands + 2, width), nn.LayerNorm(width), nn.ReLU())
        self.key = nn.Linear(width, heads * keys)
        self.query = nn.Parameter(torch.randn(heads, keys) / math.sqrt(keys))
        self.dense = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Embed (n, steps, bands) series, as (n, width)."""
        count, steps, _ = values.shape
        signals = self.signals.to(values.dtype).expand(count, -1, -1)
        lifted = self.lift(torch.cat([values, mask, signals], -1))
        weights = self.attention(lifted, mask)
        slices = lifted.view(count, steps, self.heads, -1)
        seen = torch.einsum("nsh,nshc->nhc", weights, slices).reshape(count, -1)
        embedded: Tensor = self.dense(seen)
        return embedded

    def attention(self, lifted: Tensor, mask: Tensor) -> Tensor:
        """Weight of each month for each head, (n, steps, heads); they sum to 1 over the months."""
        keys = self.key(lifted).view(*lifted.shape[:2], self.heads, self.keys)
        scores = (keys * self.query).sum(-1) / math.sqrt(self.keys)
        empty = (mask.sum(-1, keepdim=True) == 0).to(scores.dtype)
        return torch.softmax(
            scores - 30 * empty, 1
        )  # a finite step down: pixels without any month stay finite


ENCODERS: dict[str, Callable[[int, tuple[int, ...], int], nn.Module]] = {
    "mlp": SeriesMlp,
    "ltae": TemporalAttention,
    "tempcnn": TemporalConvolution,
}
"""Pixel encoders by name."""
