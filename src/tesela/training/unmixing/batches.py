"""Batches of pixels: single ones, or tiles with their neighbours, masked, mixed and rotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.models.output import Tensor
from tesela.models.unmixing_header import SeriesScaling, scale_series
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.settings import UnmixingSettings

TILE_PX = 16
"""Side of the tiles on which a network with context is trained."""

TRAIN, VAL, TEST = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Tensors of (n, ...) single pixels, or of (windows, rows, cols, ...) tiles."""

    values: Tensor
    mask: Tensor
    shown: Tensor
    """The mask that the network gets: some months are hidden."""
    static: Tensor
    targets: Tensor
    """Of the inner pixels, where there is a margin."""
    labelled: Tensor
    """Inner pixels whose targets count."""
    margin_px: int

    def to(self, device: torch.device) -> Batch:
        """Move all tensors to a device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

    @property
    def inner(self) -> tuple[Tensor, Tensor]:
        """Values and mask of the pixels that are predicted."""
        if not self.margin_px:
            return self.values, self.mask
        cut = (slice(None), slice(self.margin_px, -self.margin_px), slice(self.margin_px, -self.margin_px))
        return self.values[cut], self.mask[cut]


class PixelSource:
    """
    Scaled pixels of a table as tensors, batch by batch; pixel -1 is without any observation.

    Nothing is copied before it is needed, so a table that is a mapped file is trained on without being loaded.
    """

    def __init__(
        self, table: PixelTable, scaling: SeriesScaling, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        self.table = table
        self.scaling, self.mean, self.std = scaling, np.array(mean, np.float32), np.array(std, np.float32)
        self._positions: NDArray[np.int32] | None = None

    def chosen(self, split: int) -> NDArray[np.int64]:
        """Pixels of a split."""
        return np.flatnonzero(self.table.splits == split)

    def inputs(self, pixels: NDArray[np.integer]) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled series and mask, (..., steps, bands), and scaled layers (..., layers) of (...) pixels."""
        raw, layers = self.table.inputs_at(pixels)
        values, mask = scale_series(raw, self.mean, self.std)
        static = self.scaling.scaled_layers(layers)
        return torch.from_numpy(values), torch.from_numpy(mask), torch.from_numpy(static)

    def targets(self, pixels: NDArray[np.integer]) -> Tensor:
        """Shares of (...) pixels, (..., classes); 0 at pixel -1."""
        shares = self.table.targets[pixels]
        shares[pixels < 0] = 0
        return torch.from_numpy(shares)

    def series(self, pixels: NDArray[np.integer]) -> NDArray[np.float32]:
        """Scaled series (..., steps, bands) of (...) pixels, NaN for gaps."""
        values, mask, _ = self.inputs(pixels)
        return np.where(mask.numpy() > 0, values.numpy(), np.float32(np.nan))

    def window(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.int32]:
        """Pixels of a window of the grid, which may reach past the edges; -1 where there are none."""
        if self._positions is None:
            self._positions = self.table.positions()
        grid = self._positions
        out = np.full((rows, cols), -1, np.int32)
        top, left = max(0, row), max(0, col)
        bottom, right = min(grid.shape[0], row + rows), min(grid.shape[1], col + cols)
        if top < bottom and left < right:
            out[top - row : bottom - row, left - col : right - col] = grid[top:bottom, left:right]
        return out

    def batch(self, pixels: NDArray[np.integer], *, margin_px: int, split: int) -> Batch:
        """Batch of (n,) pixels, or of (windows, rows, cols) with a margin."""
        at = pixels.astype(np.int64)
        inside = (
            at[:, margin_px : at.shape[1] - margin_px, margin_px : at.shape[2] - margin_px]
            if at.ndim == 3
            else at
        )
        values, mask, static = self.inputs(at)
        return Batch(
            values=values,
            mask=mask,
            shown=mask,
            static=static,
            targets=self.targets(inside),
            labelled=torch.from_numpy((self.table.splits[inside] == split) & (inside >= 0)),
            margin_px=margin_px if at.ndim == 3 else 0,
        )

    def read_ahead(self, pixels: NDArray[np.integer]) -> None:
        """Read the series of some pixels in the order of the file, so that the system has them in its cache."""
        ordered = np.sort(pixels)
        for start in range(0, len(ordered), CHUNK_PX):
            self.table.values[ordered[start : start + CHUNK_PX]]


CHUNK_PX = 1024
"""Pixels that are read together from a large table: 0.4 MB of 12 months and 7 bands."""

BUFFER_CHUNKS = 128
"""Chunks whose pixels are shuffled together: every batch of 512 pixels holds some of most of them."""


def shuffled_parts(pixels: NDArray[np.int64], generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """
    The pixels of an epoch in parts to shuffle: one, unless there are more than a buffer holds.

    Parts of a large table are random chunks of it, so that a file on disk is read in pieces, not pixel by pixel.
    """
    if len(pixels) <= CHUNK_PX * BUFFER_CHUNKS:
        return [pixels]
    chunks = np.split(pixels, np.flatnonzero(np.diff(pixels // CHUNK_PX)) + 1)
    order = generator.permutation(len(chunks))
    groups = [order[start : start + BUFFER_CHUNKS] for start in range(0, len(order), BUFFER_CHUNKS)]
    return [np.concatenate([chunks[chunk] for chunk in group]) for group in groups]


def training_batches(
    source: PixelSource, settings: UnmixingSettings, *, margin_px: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """
    Draw the batches of one epoch.

    Without a margin every training pixel comes once. With one, tiles are drawn at random around training pixels until
    they hold as many pixels, each tile rotated and flipped at random. Large tables are shuffled by `shuffled_parts`.
    """
    parts = shuffled_parts(source.chosen(TRAIN), generator)
    rest = np.zeros(0, np.int64)
    for number, part in enumerate(parts):
        if len(parts) > 1:
            source.read_ahead(part)
        if margin_px:
            yield from _tile_batches(source, part, settings, margin_px, generator)
            continue
        order = np.concatenate([rest, generator.permutation(part)])
        whole = len(order) if number == len(parts) - 1 else len(order) - len(order) % settings.batch_size
        for start in range(0, whole, settings.batch_size):
            batch = source.batch(
                order[start : min(start + settings.batch_size, whole)], margin_px=0, split=TRAIN
            )
            yield _augmented(batch, settings, generator)
        rest = order[whole:]


def _tile_batches(
    source: PixelSource,
    pixels: NDArray[np.int64],
    settings: UnmixingSettings,
    margin_px: int,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    tiles = max(1, settings.batch_size // TILE_PX**2)
    for _ in range(max(1, round(len(pixels) / settings.batch_size))):
        drawn = pixels[generator.integers(len(pixels), size=tiles)]
        windows = np.stack([_tile(source, int(pixel), margin_px, generator) for pixel in drawn])
        yield _augmented(source.batch(windows, margin_px=margin_px, split=TRAIN), settings, generator)


def _tile(
    source: PixelSource, pixel: int, margin_px: int, generator: np.random.Generator
) -> NDArray[np.int32]:
    """Tile with this pixel somewhere in it, rotated and flipped."""
    row, col = int(source.table.rows[pixel]), int(source.table.cols[pixel])
    up, back = generator.integers(TILE_PX, size=2)
    side = TILE_PX + 2 * margin_px
    tile = source.window(row - int(up) - margin_px, col - int(back) - margin_px, side, side)
    rotated = np.rot90(tile, int(generator.integers(4)))
    return rotated[::-1] if generator.integers(2) else rotated


def _augmented(batch: Batch, settings: UnmixingSettings, generator: np.random.Generator) -> Batch:
    """The batch with some pixels mixed, and some months hidden."""
    values, mask, static, targets = batch.values, batch.mask, batch.static, batch.targets
    labelled = batch.labelled
    if settings.mixup:
        # under linear mixing the spectrum of two half pixels is the mean of both; gaps of either remain gaps
        count = len(values)
        other = torch.from_numpy(generator.permutation(count))
        drawn = generator.beta(0.4, 0.4, count) * (generator.random(count) < settings.mixup)
        part = torch.from_numpy(drawn.astype(np.float32))
        mask = torch.where(_wide(part, mask) > 0, mask * mask[other], mask)
        values, static, targets = (
            torch.lerp(item, item[other], _wide(part, item)) for item in (values, static, targets)
        )
        labelled = labelled & (labelled[other] | (_wide(part, labelled) == 0))
    shown = mask
    if settings.month_mask:
        rate = generator.random((*mask.shape[:-2], 1, 1), dtype=np.float32) * 2 * settings.month_mask
        kept = generator.random((*mask.shape[:-1], 1), dtype=np.float32) >= rate
        shown = mask * torch.from_numpy(kept.astype(np.float32))
    return Batch(values, mask, shown, static, targets, labelled, batch.margin_px)


def _wide(part: Tensor, item: Tensor) -> Tensor:
    return part.view(-1, *[1] * (item.ndim - 1))
