"""Blocks drawn with replacement, and weights of members to try on each draw: what every choice on validation shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_blocks(blocks: int, *, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each block is drawn, (draws, blocks): as many blocks as there are, with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws)


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
