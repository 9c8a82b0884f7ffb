"""The series network: a pixel encoder, ancillary layers, neighbours, and a head."""

from __future__ import annotations

import torch
from torch import nn

from tesela.core.errors import ExpertError
from tesela.models.answer import Answer, Tensor, UnmixingNetwork
from tesela.models.encoders import ENCODERS
from tesela.models.heads import DirichletHead, ShareHead
from tesela.models.mixing import MixtureDecoder
from tesela.models.unmixers import EncoderArchitecture

CONTEXT_WIDTH = 64
"""Channels of what a pixel tells its neighbours."""


class Film(nn.Module):
    """Ancillary layers scale and shift each channel of an embedding [Perez2018]_; at first they change nothing."""

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

    Each pixel is embedded once, however many neighbours ask. Pixels without any observation, and those beyond the
    edge, tell nothing.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.tell = nn.Conv2d(width, CONTEXT_WIDTH, 1)
        blocks: list[nn.Module] = []
        for _ in range(count):
            blocks += [nn.Conv2d(CONTEXT_WIDTH, CONTEXT_WIDTH, 3), nn.ReLU()]
        self.convolutions = nn.Sequential(*blocks, nn.Dropout(0.2))

    def forward(self, embedded: Tensor, there: Tensor) -> Tensor:
        """Look around (windows, rows, cols, width) embeddings; the answer is smaller by the margin."""
        told = self.tell(embedded.permute(0, 3, 1, 2)) * there.unsqueeze(1)
        heard: Tensor = self.convolutions(told)
        return heard.permute(0, 2, 3, 1)


class SeriesNetwork(UnmixingNetwork):
    """Encoder, `Film` where there are ancillary layers, `Neighbours` where wanted, and a head."""

    def __init__(self, architecture: EncoderArchitecture) -> None:
        super().__init__()
        made = architecture
        self.margin_px = made.context
        self.width = made.embedding
        self.encoder = ENCODERS[made.encoder](made.bands, made.months, made.embedding)
        self.film = Film(made.layers, made.embedding) if made.layers else None
        self.neighbours = Neighbours(made.embedding, made.context) if made.context else None
        width = made.embedding + (CONTEXT_WIDTH if made.context else 0)
        self.dropout = nn.Dropout(0.2)
        self.head = (DirichletHead if made.dirichlet else ShareHead)(width, made.classes)
        self.decoder = MixtureDecoder(made.classes, len(made.months), made.bands) if made.mixture else None

    def embed(self, values: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """Embed each pixel by itself, (..., width)."""
        leading = values.shape[:-2]
        flat = values.reshape(-1, *values.shape[-2:]), mask.reshape(-1, *mask.shape[-2:])
        embedded: Tensor = self.encoder(flat[0] * flat[1], flat[1])
        if self.film is not None:
            embedded = self.film(embedded, static.reshape(len(embedded), -1))
        return embedded.reshape(*leading, -1)

    def answer(self, values: Tensor, mask: Tensor, static: Tensor) -> Answer:
        """See `UnmixingNetwork.answer`."""
        embedded = self.embed(values, mask, static)
        margin = self.margin_px
        if self.neighbours is not None:
            if values.ndim != 5 or min(values.shape[1:3]) <= 2 * margin:
                raise ExpertError(
                    f"A network that sees {margin} px of neighbours was given series of shape {tuple(values.shape)}; "
                    f"(windows, rows, cols, steps, bands) with more than {2 * margin} rows and cols were needed."
                )
            there = (mask.sum((-2, -1)) > 0).to(embedded.dtype)
            heard = self.neighbours(embedded, there)
            inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
            embedded = torch.cat([embedded[inner], heard], -1)
        found: Answer = self.head(self.dropout(embedded))
        if self.decoder is not None:
            found = found._replace(rebuilt=self.decoder(found.shares))
        return found
