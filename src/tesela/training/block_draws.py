"""Blocks drawn with replacement, and weights of members to try on each draw: what every choice on validation shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_UNIT_PATCHES = 4
"""Side, in patches, of the blocks that are drawn with replacement: neighbours are alike."""
LEAST_BLOCKS = 8


def draw_blocks(blocks: int, *, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each block is drawn, (draws, blocks): as many blocks as there are, with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws)


def square_blocks(
    scene: NDArray[np.int64], row: NDArray[np.int64], col: NDArray[np.int64], *, size_px: int
) -> NDArray[np.int64]:
    """
    Number of the block of each pixel, (pixels,): a square of four by four patches of one scene.

    A block goes by the place of the pixel: of patches that overlap, those that show it are no units of their own. Where
    blocks are fewer than `LEAST_BLOCKS`, they are of two by two patches, or of single ones.

    Parameters
    ----------
    scene, row, col : (pixels,) array of int64
        Number of the scene, and the place in it.
    size_px : int
        Side of a patch.
    """
    result = np.zeros(scene.size, np.int64)
    for side in (_UNIT_PATCHES, _UNIT_PATCHES // 2, 1):
        down, right = row // (side * size_px), col // (side * size_px)
        keys = (scene * (down.max(initial=0) + 1) + down) * (right.max(initial=0) + 1) + right
        names, result = np.unique(keys, return_inverse=True)
        if len(names) >= LEAST_BLOCKS:
            break
    return result


def weight_grid(members: int, *, steps: int) -> NDArray[np.float64]:
    """
    All weights of so many members that are multiples of 1 / `steps` and sum to 1, (weights, members).

    Examples
    --------
    >>> weight_grid(2, steps=2).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """

    def parts(left: int, number: int) -> list[tuple[int, ...]]:
        if number == 1:
            return [(left,)]
        return [(first, *rest) for first in range(left + 1) for rest in parts(left - first, number - 1)]

    return np.array(parts(steps, members)) / steps
