"""
Seeded random fields that are the same, byte for byte, on every machine.

Arrays are combined with ``+ - * /``, square roots and comparisons only, which IEEE 754 rounds the same
way everywhere; no FFT, no BLAS, no vectorised ``exp`` or ``sin``, whose last bit depends on the processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LEVEL_SCALE = (1.0, 1.83, 2.02, 2.08)
"""Inverse standard deviation of unit white noise after 0, 1, 2, 3 and more refinements."""


def refine(coarse: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Double the resolution of a field by cubic B-spline subdivision.

    New values are ``(a + 6 b + c) / 8`` on the old samples and ``(b + c) / 2`` between them, along each axis.

    Parameters
    ----------
    coarse : (rows, cols) array of float32

    Returns
    -------
    (2 * (rows - 2), 2 * (cols - 2)) array of float32
        The border sample of each side is used up by the kernel.
    """
    half = np.empty((2 * (coarse.shape[0] - 2), coarse.shape[1]), np.float32)
    half[0::2] = (coarse[:-2] + coarse[2:]) * np.float32(0.125) + coarse[1:-1] * np.float32(0.75)
    half[1::2] = (coarse[1:-1] + coarse[2:]) * np.float32(0.5)
    fine = np.empty((half.shape[0], 2 * (half.shape[1] - 2)), np.float32)
    fine[:, 0::2] = (half[:, :-2] + half[:, 2:]) * np.float32(0.125) + half[:, 1:-1] * np.float32(0.75)
    fine[:, 1::2] = (half[:, 1:-1] + half[:, 2:]) * np.float32(0.5)
    return fine


def refine_to(coarse: NDArray[np.float32], shape: tuple[int, int], *, halvings: int) -> NDArray[np.float32]:
    """Refine `coarse` (edge samples repeated outwards) `halvings` times and cut it to `shape`."""
    field = np.pad(coarse, 2, mode="edge")
    margin = 2
    for _ in range(halvings):
        field = refine(field)
        margin = 2 * (margin - 1)
    return np.ascontiguousarray(field[margin : margin + shape[0], margin : margin + shape[1]])


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    pixel_m: float,
    longest_m: float,
    shortest_m: float,
    gain: float = 0.5,
) -> NDArray[np.float32]:
    """
    Draw a sum of smooth noises from long to short wavelengths, of mean 0 and variance about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Consumed; the amount drawn depends on `shape` and the wavelengths only.
    shape : (rows, cols)
    pixel_m : float
        Side of a pixel in metres.
    longest_m, shortest_m : float
        Spacing of the coarsest and finest noise lattice in metres, rounded to `pixel_m` times a power of 2.
    gain : float
        Amplitude of each lattice relative to the one twice as coarse.

    Returns
    -------
    (rows, cols) array of float32
    """
    top = max(0, int(np.rint(np.log2(longest_m / pixel_m))))
    bottom = min(top, max(0, int(np.rint(np.log2(shortest_m / pixel_m)))))
    needed = [shape]
    for _ in range(top):
        rows, cols = needed[-1]
        needed.append((rows // 2 + 4, cols // 2 + 4))
    amplitude = 1.0
    total = sum(gain ** (2 * k) for k in range(top - bottom + 1))
    field = np.zeros(needed[top], np.float32)
    for level in range(top, -1, -1):
        if level >= bottom:
            scale = amplitude * _LEVEL_SCALE[min(level, 3)] / total**0.5
            field += rng.standard_normal(needed[level], dtype=np.float32) * np.float32(scale)
            amplitude *= gain
        if level:
            shift = rng.integers(0, 2, 2)  # the lattices of two fields then share no nodes
            rows, cols = needed[level - 1]
            field = refine(field)[shift[0] : shift[0] + rows, shift[1] : shift[1] + cols]
    return np.ascontiguousarray(field)


def smooth(field: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Blur `field` (rows, cols) with a Gaussian of `sigma_px` pixels; borders are mirrored."""
    from scipy.ndimage import correlate1d

    radius = max(1, int(3.0 * sigma_px + 0.5))
    steps = np.arange(-radius, radius + 1)
    kernel = np.round(np.exp(-0.5 * (steps / sigma_px) ** 2), 9)
    kernel /= kernel.sum()
    blurred = correlate1d(field, kernel, axis=0, mode="mirror", output=np.float32)
    return np.asarray(correlate1d(blurred, kernel, axis=1, mode="mirror", output=np.float32))


def ramp(
    values: NDArray[np.float32], low: float | NDArray[np.float32], high: float | NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rise smoothly (cubic) from 0 where `values` <= `low` to 1 where they are >= `high`."""
    part = np.clip((values - low) / (np.asarray(high, np.float32) - low), 0, 1)
    part = part.astype(np.float32)
    return np.asarray(part * part * (np.float32(3.0) - np.float32(2.0) * part), np.float32)


def mean_by(labels: NDArray[np.int32], values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the mean of `values` over each of `count` labels (0 where a label does not occur)."""
    flat = labels.ravel()
    total = np.bincount(flat, values.ravel(), count)
    return (total / np.maximum(np.bincount(flat, minlength=count), 1)).astype(np.float32)


def draw(rng: np.random.Generator, shares: Sequence[float], size: int) -> NDArray[np.uint8]:
    """Draw `size` indices 0 .. len(shares)-1, each in proportion to its share."""
    edges = np.cumsum(np.asarray(shares, np.float64))
    return np.searchsorted(edges / edges[-1], rng.random(size), side="right").astype(np.uint8)


def balance(scores: NDArray[np.float32], shares: Sequence[float]) -> NDArray[np.float32]:
    """
    Find an addition to the scores of each class that gives the class about its share of the sites.

    Parameters
    ----------
    scores : (classes, sites) array of float32
        A site goes to the class with the highest score.
    shares : sequence of float
        One per class; only their proportions count.

    Returns
    -------
    (classes,) array of float32
        Additions of mean 0, approached in 60 small steps; classes without suitable sites stay rarer.
    """
    wanted = np.asarray(shares, np.float64) / np.sum(shares)
    bias = np.zeros(len(wanted))
    for step in range(60):
        won = np.bincount(np.argmax(scores + bias[:, None], axis=0), minlength=len(wanted))
        bias += (wanted - won / scores.shape[1]) * (1.2 if step < 30 else 0.4)
    return np.asarray(np.round(bias - bias.mean(), 5), np.float32)
