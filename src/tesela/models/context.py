"""The series network: a pixel encoder, ancillary layers, neighbours, and a head."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from tesela.core.errors import ExpertError
from tesela.models.mixing import EndmemberDecoder
from tesela.models.output import HEADS, NetworkOutput, Tensor, UnmixingNetwork
from tesela.models.unmixers import EncoderArchitecture

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
        signals = self.signals.to(values.dtype).expand(values.shape[0], -1, -1)
        steps = torch.cat([values, mask, signals], -1).transpose(1, 2)
        embedded: Tensor = self.dense(self.convolutions(steps))
        return embedded


class TemporalAttention(nn.Module):
    """
    Lightweight temporal attention, after Garnot and Landrieu [Garnot2020]_.

    Each head has one learned query, and looks at its own slice of the channels; months without any observation get no
    attention.
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


CONTEXT_WIDTH = 64
"""Channels of the features that neighbours exchange."""


class Film(nn.Module):
    """Ancillary layers scale and shift each channel of an embedding [Perez2018]_; at first by nothing."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(layers, 32), nn.ReLU(), nn.Linear(32, 2 * width))
        last = self.layers[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, embedded: Tensor, static: Tensor) -> Tensor:
        """Change (n, width) embeddings by (n, layers) layers."""
        scale, shift = self.layers(static).chunk(2, -1)
        changed: Tensor = embedded * (1 + scale) + shift
        return changed


class Neighbours(nn.Module):
    """
    Convolutions over the embeddings of the pixels around.

    Each pixel is embedded once, however many neighbours use it. Pixels without any observation, and those beyond the
    edge, contribute 0.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.tell = nn.Conv2d(width, CONTEXT_WIDTH, 1)  # expert files name its tensors
        blocks: list[nn.Module] = []
        for _ in range(count):
            blocks += [nn.Conv2d(CONTEXT_WIDTH, CONTEXT_WIDTH, 3), nn.ReLU()]
        self.convolutions = nn.Sequential(*blocks, nn.Dropout(0.2))

    def forward(self, embedded: Tensor, there: Tensor) -> Tensor:
        """Convolve (windows, rows, cols, width) embeddings; the result is smaller by the margin."""
        features = self.tell(embedded.permute(0, 3, 1, 2)) * there.unsqueeze(1)
        around: Tensor = self.convolutions(features)
        return around.permute(0, 2, 3, 1)


class SeriesNetwork(UnmixingNetwork):
    """Encoder, `Film` for ancillary layers, `Neighbours` if the context is above 0, and a head."""

    def __init__(self, architecture: EncoderArchitecture) -> None:
        super().__init__()
        plan = architecture
        self.margin_px = plan.context
        self.width = plan.embedding
        self.encoder = ENCODERS[plan.encoder](plan.bands, plan.months, plan.embedding)
        self.film = Film(plan.layers, plan.embedding) if plan.layers else None
        self.neighbours = Neighbours(plan.embedding, plan.context) if plan.context else None
        width = plan.embedding + (CONTEXT_WIDTH if plan.context else 0)
        self.dropout = nn.Dropout(0.2)
        self.head = HEADS[plan.head](width, plan.classes)
        self.decoder = (
            EndmemberDecoder(plan.classes, len(plan.months), plan.bands) if plan.endmember_decoder else None
        )

    def embed(self, values: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """Embed each pixel by itself, (..., width)."""
        leading = values.shape[:-2]
        flat = values.reshape(-1, *values.shape[-2:]), mask.reshape(-1, *mask.shape[-2:])
        embedded: Tensor = self.encoder(flat[0] * flat[1], flat[1])
        if self.film is not None:
            embedded = self.film(embedded, static.reshape(embedded.shape[0], -1))
        return embedded.reshape(*leading, -1)

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> NetworkOutput:
        """See `UnmixingNetwork.answer`."""
        embedded = self.embed(values, mask, static)
        margin = self.margin_px
        if self.neighbours is not None:
            if values.ndim != 5 or min(values.shape[1:3]) <= 2 * margin:
                raise ExpertError(
                    f"A network that uses {margin} px of neighbours got series of shape {tuple(values.shape)}; "
                    f"(windows, rows, cols, steps, bands) with more than {2 * margin} rows and cols were needed."
                )
            there = (mask.sum((-2, -1)) > 0).to(embedded.dtype)
            around = self.neighbours(embedded, there)
            inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
            embedded = torch.cat([embedded[inner], around], -1)
        output: NetworkOutput = self._exact_head(self.dropout(embedded))
        if self.decoder is not None:
            output = output._replace(rebuilt=self.decoder(output.shares))
        return output

    def _exact_head(self, embedded: Tensor) -> NetworkOutput:
        """Shares of (..., width) embeddings; in float32 also where the rest is computed in bf16."""
        kind = embedded.device.type
        if not torch.is_autocast_enabled(kind):
            output: NetworkOutput = self.head(embedded)
            return output
        with torch.autocast(kind, enabled=False):
            exact: NetworkOutput = self.head(embedded.float())
        return exact
