"""Land divided by people: blocks of farmland, and the parcels within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.simulate.noise import fractal

_STRIPS = 64
"""Strips, and fields within a strip, that a block may hold before their numbers repeat."""


@dataclass(frozen=True, eq=False)
class LandBlocks:
    """Territories of irregular shape that cover a region, numbered 0 .. count-1."""

    index: NDArray[np.int32]
    """(rows, cols): which block."""
    edge: NDArray[np.float32]
    """(rows, cols): distance to the next block in metres, roughly; 0 on the boundary."""
    row: NDArray[np.float32]
    """(count,) row of the block's seed in pixels."""
    col: NDArray[np.float32]
    """(count,) column of the block's seed in pixels."""
    east_m: NDArray[np.float32]
    """(rows, cols) bent coordinates in which block boundaries are straight."""
    south_m: NDArray[np.float32]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return len(self.row)


def make_blocks(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    pixel_m: float,
    spacing_m: float,
    bend_m: float,
    bend_length_m: float,
) -> LandBlocks:
    """
    Cover a region with blocks about `spacing_m` across, their edges bent by up to about `bend_m`.

    LandBlocks are the cells nearest to jittered lattice points, in coordinates bent by smooth noise.
    """
    rows, cols = shape
    bent = []
    for axis in range(2):
        bend = fractal(
            rng, shape, pixel_m=pixel_m, longest_m=bend_length_m, shortest_m=bend_length_m / 8, gain=0.45
        )
        centre = (np.arange(shape[axis], dtype=np.float32) + np.float32(0.5)) * np.float32(pixel_m)
        along = centre[:, None] if axis == 0 else centre[None, :]
        bent.append((along + bend * np.float32(bend_m)).astype(np.float32))
    south, east = bent
    lattice = (int(rows * pixel_m / spacing_m) + 7, int(cols * pixel_m / spacing_m) + 7)
    jitter = (rng.random((*lattice, 2), dtype=np.float32) * np.float32(0.9) + np.float32(0.05)).astype(
        np.float32
    )
    index, edge = _nearest(south, east, jitter, spacing_m)
    where = np.arange(lattice[0] * lattice[1])
    points = jitter.reshape(-1, 2)
    row = (where // lattice[1] - 3 + points[:, 0]) * spacing_m / pixel_m
    col = (where % lattice[1] - 3 + points[:, 1]) * spacing_m / pixel_m
    return LandBlocks(index, edge, row.astype(np.float32), col.astype(np.float32), east, south)


def make_parcels(
    rng: np.random.Generator,
    blocks: LandBlocks,
    *,
    width_m: NDArray[np.float32],
    length_m: NDArray[np.float32],
    turn: NDArray[np.float32],
) -> tuple[NDArray[np.int32], int]:
    """
    Divide every block into strips of irregular width and the strips into parcels of irregular length.

    Parameters
    ----------
    blocks : LandBlocks
    width_m, length_m : (blocks,) array of float32
        Usual width of a strip, and length of a parcel along it.
    turn : (blocks,) array of float32
        Direction of the strips in radians.

    Returns
    -------
    (rows, cols) array of int32, int
        Parcel numbers 0 .. count-1 in the order of their blocks, and their count.
    """
    cosine = np.round(np.cos(turn.astype(np.float64)), 6).astype(np.float32)
    sine = np.round(np.sin(turn.astype(np.float64)), 6).astype(np.float32)
    uneven = rng.random((_STRIPS * _STRIPS, 2), dtype=np.float32)
    offset = rng.integers(0, _STRIPS * _STRIPS, blocks.count).astype(np.int32)
    code = _strips(
        blocks.index, blocks.south_m, blocks.east_m, cosine, sine, width_m, length_m, uneven, offset
    )
    used = np.zeros(blocks.count * _STRIPS * _STRIPS, np.bool_)
    used[code.ravel()] = True
    number = np.cumsum(used, dtype=np.int32) - np.int32(1)
    return number[code], int(number[-1]) + 1


@njit(cache=True)
def _nearest(
    south: NDArray[np.float32], east: NDArray[np.float32], jitter: NDArray[np.float32], spacing: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the lattice point nearest to each pixel, and how much farther the second nearest is."""
    rows, cols = south.shape
    high, wide = jitter.shape[0], jitter.shape[1]
    index = np.empty((rows, cols), np.int32)
    edge = np.empty((rows, cols), np.float32)
    for r in range(rows):
        for c in range(cols):
            y = south[r, c] / spacing + 3.0
            x = east[r, c] / spacing + 3.0
            row = min(max(int(y), 2), high - 3)
            col = min(max(int(x), 2), wide - 3)
            first = 1e30
            second = 1e30
            best = 0
            for i in range(row - 2, row + 3):
                for j in range(col - 2, col + 3):
                    dy = i + jitter[i, j, 0] - y
                    dx = j + jitter[i, j, 1] - x
                    far = dy * dy + dx * dx
                    if far < first:
                        second = first
                        first = far
                        best = i * wide + j
                    elif far < second:
                        second = far
            index[r, c] = best
            edge[r, c] = (second**0.5 - first**0.5) * spacing
    return index, edge


@njit(cache=True)
def _strips(
    block: NDArray[np.int32],
    south: NDArray[np.float32],
    east: NDArray[np.float32],
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
    width: NDArray[np.float32],
    length: NDArray[np.float32],
    uneven: NDArray[np.float32],
    offset: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Return block * 4096 + strip * 64 + field for each pixel; strip edges follow a jittered ladder."""
    rows, cols = block.shape
    n = 64
    code = np.empty((rows, cols), np.int32)
    for r in range(rows):
        for c in range(cols):
            b = block[r, c]
            p = (east[r, c] * cosine[b] + south[r, c] * sine[b]) / width[b]
            q = (south[r, c] * cosine[b] - east[r, c] * sine[b]) / length[b]
            k = int(np.floor(p))
            at = (offset[b] + k * 7) % (n * n)
            if p - k < 0.7 * uneven[at, 0]:
                k -= 1
                at = (offset[b] + k * 7) % (n * n)
            q += 9.0 * uneven[at, 1]
            m = int(np.floor(q))
            at = (offset[b] + k * 131 + m * 17) % (n * n)
            if q - m < 0.6 * uneven[at, 0]:
                m -= 1
            code[r, c] = (b * n + k % n) * n + m % n
    return code
