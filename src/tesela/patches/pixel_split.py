"""The split of pixels by square blocks into train, validation and test, as in Rodriguez-Ortega et al. (2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import pixel_size_m
from tesela.patches.balance import allocate_groups
from tesela.patches.pixels import NO_SPLIT, PixelTable
from tesela.patches.table import SPLITS

BLOCK_M = (18_000.0, 15_000.0)
"""Width and height of the published blocks: about 1250 pixels of 460 m."""

FRACTIONS = (0.64, 0.16, 0.2)
"""Train, val and test: the published 80 % and 20 %, and a fifth of the first for validation."""


def split_pixels(
    table: PixelTable,
    *,
    block_m: Sequence[float] = BLOCK_M,
    fractions: Sequence[float] = FRACTIONS,
    buffer_m: float = 0.0,
    seed: int = 0,
    balanced: bool = True,
) -> PixelTable:
    """
    Split pixels by blocks into train, val and test.

    Blocks start at the upper left corner of the grid. With `balanced` they are allocated so that each split gets
    its part of every class; else at random, as published. Pixels closer than `buffer_m` to a later split are not
    used: those of train beside val and test, those of val beside test.

    Parameters
    ----------
    block_m : (float, float)
        Width and height of the blocks in metres.
    fractions : sequence of float
        Target shares of train, val and test; they sum to 1.
    buffer_m : float
        Least distance between the centres of pixels of different splits, in metres.

    Raises
    ------
    GridError
        If the pixels have no grid, or a block is smaller than a pixel.
    InputError
        If there are too few blocks, or no pixel is left for a split.
    """
    wanted = _check_fractions(fractions)
    if table.grid is None:
        raise GridError("The pixels have no grid, so there are no blocks. Read them from a cube.")
    width_m, height_m = pixel_size_m(table.grid)
    if block_m[0] < width_m or block_m[1] < height_m:
        raise GridError(
            f"Blocks of {block_m[0]:g} x {block_m[1]:g} m are smaller than a pixel ({width_m:.0f} x {height_m:.0f} m). "
            f"Use larger blocks."
        )
    across = ((table.cols + 0.5) * width_m // block_m[0]).astype(np.int32)
    down = ((table.rows + 0.5) * height_m // block_m[1]).astype(np.int32)
    _, block = np.unique(down * np.int64(1 << 32) + across, return_inverse=True)
    count = int(block.max()) + 1
    needed = sum(part > 0 for part in wanted)
    if count < needed:
        raise InputError(
            f"The pixels are in {count} blocks of {block_m[0]:g} x {block_m[1]:g} m; {needed} splits need "
            f"{needed} or more. Use smaller blocks or a larger area."
        )
    if balanced:
        content = np.ones((len(table), 1)) if table.legend is None else table.targets
        held = np.stack([np.bincount(block, weights=column, minlength=count) for column in content.T], axis=1)
        chosen = allocate_groups(held.astype(np.float64), wanted, seed=seed)[0]
    else:
        chosen = _drawn(np.bincount(block), wanted, seed=seed)
    splits = chosen[block].astype(np.uint8)
    if buffer_m > 0:
        splits = _apart(table, splits, size_m=(height_m, width_m), buffer_m=buffer_m)
    empty = [name for code, name in enumerate(SPLITS) if wanted[code] > 0 and not (splits == code).any()]
    if empty:
        raise InputError(
            f"No pixel is left for {join_words(empty)}: {count} blocks of {block_m[0]:g} x {block_m[1]:g} m are too "
            f"few for a buffer of {buffer_m:g} m. Use smaller blocks, or a smaller buffer."
        )
    return replace(table, splits=splits)


def split_by_pixel(table: PixelTable, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> PixelTable:
    """
    Split series without positions at random into train, val and test, class by class.

    All years of a pixel go into one split: they are so alike that a model would be tested on what it was trained on.

    Parameters
    ----------
    table : PixelTable
        Without grid; `rows` is the number of the pixel.

    Raises
    ------
    InputError
        If the fractions are wrong.
    """
    wanted = _check_fractions(fractions)
    pixels, first = np.unique(table.rows, return_index=True)
    largest = table.targets[first].argmax(1) if table.targets.shape[1] else np.zeros(len(pixels), np.intp)
    rng = np.random.default_rng(seed)
    chosen = np.empty(len(pixels), np.uint8)
    for label in np.unique(largest):
        mine = rng.permutation(np.flatnonzero(largest == label))
        reached = (np.arange(len(mine)) + 0.5) / len(mine)
        chosen[mine] = np.searchsorted(np.cumsum(wanted)[:-1], reached, side="right")
    return replace(table, splits=chosen[np.searchsorted(pixels, table.rows)])


def _check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    wanted = tuple(float(part) for part in fractions)
    if len(wanted) != len(SPLITS) or not min(wanted) >= 0 or not abs(sum(wanted) - 1) <= 1e-6:
        raise InputError(f"The shares are {join_words(wanted)}; give three that sum to 1: train, val, test.")
    return wanted


def _drawn(sizes: NDArray[np.intp], wanted: Sequence[float], *, seed: int) -> NDArray[np.intp]:
    """Blocks in random order, divided at the target shares of the pixels; each split gets one or more."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    reached = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
    chosen = np.empty(len(sizes), np.intp)
    chosen[order] = np.searchsorted(np.cumsum(wanted)[:-1], reached, side="right")
    for code in np.flatnonzero(np.asarray(wanted) > 0):
        if not (chosen == code).any():
            chosen[order[np.flatnonzero(chosen[order] == np.bincount(chosen).argmax())[0]]] = code
    return chosen


def _apart(
    table: PixelTable, splits: NDArray[np.uint8], *, size_m: tuple[float, float], buffer_m: float
) -> NDArray[np.uint8]:
    """Remove the pixels of a split that are closer than `buffer_m` to one of a later split."""
    from scipy.ndimage import distance_transform_edt

    assert table.grid is not None
    later = np.ones(tuple(table.grid.shape), np.bool_)
    out = splits.copy()
    for code in range(len(SPLITS) - 1, 0, -1):
        mine = splits == code
        later[table.rows[mine], table.cols[mine]] = False
        if later.all():
            continue
        near = distance_transform_edt(later, sampling=size_m)[table.rows, table.cols] < buffer_m
        out[near & (splits < code)] = NO_SPLIT
    return out
