"""Augmentation: the same ground, turned, mirrored and under another light."""

from __future__ import annotations

import numpy as np
import torch


def turn(images: torch.Tensor, position: int) -> torch.Tensor:
    """Put the last two axes in one of a square's eight positions: quarter turns, from 4 on mirrored first."""
    mirrored = images.flip(-1) if position >= 4 else images
    return mirrored.rot90(position % 4, (-2, -1))


def augment(
    images: torch.Tensor,
    labels: torch.Tensor,
    rng: np.random.Generator,
    *,
    turns: bool = True,
    brightness: float = 0.0,
    contrast: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Turn, mirror, brighten and stretch each patch of a batch at random.

    Parameters
    ----------
    images : (batch, bands, size, size) tensor of float32
        Scaled images; exact zeros are nodata and stay zero, as the network sees nodata when it predicts.
    labels : (batch, size, size) tensor of int64
    rng : numpy Generator
        Source of all randomness: equal state, equal result.
    turns : bool
        Draw one of the eight positions of a square for each patch.
    brightness, contrast : float
        Largest shift, in standard deviations, and largest relative stretch of a patch.

    Returns
    -------
    images, labels
        New tensors of the same shapes.
    """
    count = len(images)
    positions = rng.integers(0, 8, count) if turns else np.zeros(count, int)
    light = torch.from_numpy(rng.uniform(-1, 1, (2, count, 1, 1, 1)).astype(np.float32)).to(images.device)
    if positions.any():
        images, labels = images.clone(), labels.clone()
        for position in range(1, 8):
            chosen = torch.from_numpy(np.flatnonzero(positions == position)).to(images.device)
            if len(chosen):
                images[chosen] = turn(images[chosen], position)
                labels[chosen] = turn(labels[chosen], position)
    if brightness or contrast:
        changed = images * (1 + contrast * light[0]) + brightness * light[1]
        images = torch.where(images == 0, images, changed)
    return images, labels
