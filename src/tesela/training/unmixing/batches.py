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
    """Scaled pixels of a table as tensors; pixel -1 is without any observation."""

    def __init__(
        self, table: PixelTable, scaling: SeriesScaling, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        values, mask = scale_series(table.values, np.array(mean, np.float32), np.array(std, np.float32))
        static = scaling.scaled_layers(table.static)
        self.values, self.mask, self.static, self.targets = (
            torch.from_numpy(np.concatenate([item, np.zeros_like(item[:1])]))
            for item in (values, mask, static, table.targets.astype(np.float32))
        )
        self.splits = torch.from_numpy(np.append(table.splits, 255))
        self.table = table
        self._positions: NDArray[np.int32] | None = None

    def chosen(self, split: int) -> NDArray[np.int64]:
        """Pixels of a split."""
        return np.flatnonzero(self.table.splits == split)

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
        at = torch.from_numpy(pixels.astype(np.int64))
        inside = (
            at[:, margin_px : at.shape[1] - margin_px, margin_px : at.shape[2] - margin_px]
            if at.ndim == 3
            else at
        )
        mask = self.mask[at]
        return Batch(
            values=self.values[at],
            mask=mask,
            shown=mask,
            static=self.static[at],
            targets=self.targets[inside],
            labelled=self.splits[inside] == split,
            margin_px=margin_px if at.ndim == 3 else 0,
        )


def training_batches(
    source: PixelSource, settings: UnmixingSettings, *, margin_px: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """
    Draw the batches of one epoch.

    Without a margin every training pixel comes once. With one, tiles are drawn at random around training pixels until
    they hold as many pixels, each tile rotated and flipped at random.
    """
    train = source.chosen(TRAIN)
    if not margin_px:
        order = generator.permutation(train)
        for start in range(0, len(order), settings.batch_size):
            batch = source.batch(order[start : start + settings.batch_size], margin_px=0, split=TRAIN)
            yield _augmented(batch, settings, generator)
        return
    tiles = max(1, settings.batch_size // TILE_PX**2)
    for _ in range(max(1, round(len(train) / settings.batch_size))):
        drawn = train[generator.integers(len(train), size=tiles)]
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
