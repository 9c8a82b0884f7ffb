r"""
The encoder of several dates.

Each date goes through the same encoder. At the deepest level a learned query weighs the dates of each cell, by several
heads (L-TAE, [Garnot2020]_); the weights, brought to the size of each level, average the features of all levels
over the dates (U-TAE, [Garnot2021]_). A date without data at a pixel gets no weight there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

HEADS = 8
"""Heads of the attention; each weighs an eighth of the channels of a level."""

HIDDEN_DATES = 0.1
"""Share of the dates of a patch that training hides at random, so that gaps are no news in mapping."""

_KEY = 8
_HARMONICS = 4


class DatesEncoder(nn.Module):
    """
    An encoder applied to each date, and the attention that joins the dates.

    Parameters
    ----------
    encoder : torch.nn.Module
        Of smp: (batch, bands of one date, static ones and two of its day, rows, cols) to features of strides 1 to 32.
    dates : sequence of sequence of int
        Positions of the bands of each date, the same number for all.
    static : sequence of int
        Positions of the bands that the encoder sees with each date.
    days : sequence of int
        Day of the year of each date.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dates: Sequence[Sequence[int]],
        static: Sequence[int],
        days: Sequence[int],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._dates, self._static = [list(bands) for bands in dates], list(static)
        channels: list[int] = encoder.out_channels  # type: ignore[assignment]
        self.position = nn.Linear(2 * _HARMONICS, channels[-1])
        self.key = nn.Conv2d(channels[-1], HEADS * _KEY, 1)
        self.query = nn.Parameter(torch.empty(HEADS, _KEY))
        nn.init.normal_(self.query, std=math.sqrt(2 / _KEY))
        self.scale = nn.ModuleList(nn.Linear(2 * _HARMONICS, max(count, 1)) for count in channels[1:])
        for module in self.scale:
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.seasons: torch.Tensor
        self.register_buffer("seasons", _seasons(days), persistent=False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """
        Features of all dates together.

        Parameters
        ----------
        images : (batch, bands, rows, cols) tensor of float
            Standardised; a date is 0 in all of its bands where it has no data.

        Returns
        -------
        list of (batch, channels, rows / stride, cols / stride) tensors
            As the encoder's of one date; the first is the image itself.
        """
        count = len(self._dates)
        series = torch.stack([images[:, bands] for bands in self._dates], 1)  # (b, dates, bands, r, c)
        if self.training and count > 1:
            series = series * _shown(series)[:, :, None, None, None]
        there = (series != 0).any(2).to(series.dtype)  # (b, dates, r, c)
        batch, _, rows, cols = images.shape
        day = self.seasons[:, [0, _HARMONICS]].to(series.dtype)  # sine and cosine of the year
        seen = [series, day[None, :, :, None, None].expand(batch, -1, -1, rows, cols)]
        if self._static:
            seen.insert(1, images[:, None, self._static].expand(-1, count, -1, -1, -1))
        features = self.encoder(torch.cat(seen, 2).flatten(0, 1))
        if count == 1:
            return [images, *features[1:]]
        weights = self._weigh(features[-1], there)
        joined = [
            self._join(level, weights, there, self.scale[number]) for number, level in enumerate(features[1:])
        ]
        return [images, *joined]

    def _weigh(self, deepest: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Logits of the dates, (batch, heads, dates, rows, cols) of the deepest level."""
        batch, count = there.shape[:2]
        rows, cols = deepest.shape[-2:]
        placed = deepest.reshape(batch, count, -1, rows, cols) + self.position(self.seasons)[:, :, None, None]
        keys: torch.Tensor = self.key(F.relu(placed.flatten(0, 1)))
        keys = keys.reshape(batch * count, HEADS, _KEY, rows, cols)
        logits = (keys * self.query[:, :, None, None]).sum(2) / math.sqrt(_KEY)
        return logits.reshape(batch, count, HEADS, rows, cols).transpose(1, 2)

    def _join(
        self, level: torch.Tensor, logits: torch.Tensor, there: torch.Tensor, scale: nn.Module
    ) -> torch.Tensor:
        """Mean of the features of a level over the dates, weighted by attention and by the share of data."""
        batch, count = there.shape[:2]
        rows, cols = level.shape[-2:]
        channels = level.shape[1]
        if not channels:  # a level that the encoder leaves out
            return level[:batch]
        heads = HEADS if channels % HEADS == 0 else 1
        share = F.adaptive_avg_pool2d(there, (rows, cols))[:, None]  # (b, 1, dates, r, c)
        finer = F.interpolate(logits.flatten(1, 2), (rows, cols), mode="bilinear", align_corners=False)
        finer = finer.reshape(batch, HEADS, count, rows, cols).float()
        if heads == 1:
            finer = finer.mean(1, keepdim=True)
        weights = torch.exp(finer - finer.amax(2, keepdim=True)) * share
        weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
        weights = weights.to(level.dtype).transpose(1, 2)[:, :, :, None]  # (b, dates, heads, 1, r, c)
        values = (
            level.reshape(batch, count, channels, rows, cols) * (1 + scale(self.seasons))[:, :, None, None]
        )
        values = values.reshape(batch, count, heads, channels // heads, rows, cols)
        joined: torch.Tensor = (values * weights).sum(1).flatten(1, 2)
        return joined


def _seasons(days: Sequence[int]) -> torch.Tensor:
    """(dates, 2 x harmonics): sines and cosines of the day of the year."""
    angle = torch.tensor(days, dtype=torch.float32)[:, None] * (2 * math.pi / 365.25)
    angles = angle * torch.arange(1, _HARMONICS + 1)
    return torch.cat([angles.sin(), angles.cos()], 1)


def _shown(series: torch.Tensor) -> torch.Tensor:
    """(batch, dates): 0 for dates to hide; of each patch one date with data stays."""
    filled = (series != 0).flatten(2).any(2)
    chance = torch.rand(series.shape[:2], device=series.device)
    hidden = chance < HIDDEN_DATES
    last = torch.where(filled, chance, -1.0).argmax(1, keepdim=True)
    return (~hidden.scatter(1, last, False)).to(series.dtype)
