"""Thinning: fewer pixels to train on, drawn evenly over classes and area."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tesela.patches.pixels import NO_SPLIT, PixelTable
from tesela.patches.table import SPLITS

BLOCK_PX = 16
"""Side of the blocks, that of the tiles on which networks with neighbours are trained."""

_ROWS_AT_ONCE = 1 << 16

TRAIN, VAL = SPLITS.index("train"), SPLITS.index("val")


def thin_pixels(
    table: PixelTable, amount: float, *, by: Literal["pixel", "block"] = "pixel", seed: int = 0
) -> PixelTable:
    """
    Keep a part of the pixels of train and val; the others stay as neighbours, in no split.

    Pixels are ordered by their largest class, then by block, and every k-th is taken from a random start: each class
    keeps its share, and so does each part of the area.

    Parameters
    ----------
    amount : float
        Share of the pixels, or above 1 the number of training pixels; val is thinned by the same share.
    by : {"pixel", "block"}
        Draw single pixels, which differ most from each other, or whole blocks of `BLOCK_PX`, for networks that are
        trained on tiles.
    """
    count = int((table.splits == TRAIN).sum())
    share = amount if amount <= 1 else amount / max(count, 1)
    if share >= 1:
        return table
    generator = np.random.default_rng(seed)
    splits = table.splits.copy()
    for split in (TRAIN, VAL):
        pixels = np.flatnonzero(table.splits == split)
        draw = _drawn_pixels if by == "pixel" else _drawn_blocks
        kept = draw(table, pixels, share, generator)
        splits[pixels] = NO_SPLIT
        splits[kept] = split
    return replace(table, splits=splits)


def _drawn_pixels(
    table: PixelTable, pixels: NDArray[np.intp], share: float, generator: np.random.Generator
) -> NDArray[np.intp]:
    order = np.lexsort((generator.random(len(pixels)), _block_of(table, pixels), _class_of(table, pixels)))
    return pixels[order[_every(len(pixels), share, generator)]]


def _drawn_blocks(
    table: PixelTable, pixels: NDArray[np.intp], share: float, generator: np.random.Generator
) -> NDArray[np.intp]:
    numbers, inverse = np.unique(_block_of(table, pixels), return_inverse=True)
    classes = _class_of(table, pixels)
    held = np.zeros((len(numbers), int(classes.max(initial=0)) + 1), np.int32)
    np.add.at(held, (inverse, classes), 1)
    order = np.lexsort((generator.random(len(numbers)), held.argmax(1)))
    kept = np.zeros(len(numbers), np.bool_)
    kept[order[_every(len(numbers), share, generator)]] = True
    return pixels[kept[inverse]]


def _every(count: int, share: float, generator: np.random.Generator) -> NDArray[np.intp]:
    """Positions at even distances from a random start; at least one of `count`."""
    kept = min(count, max(1, round(share * count)))
    return np.asarray((np.arange(kept) + generator.random()) * count // kept, np.intp)


def _block_of(table: PixelTable, pixels: NDArray[np.intp]) -> NDArray[np.int64]:
    """Number of each pixel's block; all years of a pixel without a grid are one."""
    rows = table.rows[pixels].astype(np.int64)
    if table.grid is None:
        return rows
    return rows // BLOCK_PX * (1 << 32) + table.cols[pixels] // BLOCK_PX


def _class_of(table: PixelTable, pixels: NDArray[np.intp]) -> NDArray[np.int64]:
    """Position of each pixel's largest class."""
    largest = np.zeros(len(pixels), np.int64)
    for start in range(0, len(pixels) if table.targets.shape[1] else 0, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        largest[part] = table.targets[pixels[part]].argmax(1)
    return largest
