"""Patches for training: in memory if they fit, in an order fixed by the seed, augmented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from tesela.core.legend import IGNORE
from tesela.core.machine import memory_bytes

Sample = tuple[torch.Tensor, torch.Tensor]
"""Scaled image (bands, size, size) float32 and labels int64, (size, size) or, of several heads, (heads, size, size)."""


LEAST_LABELLED = 0.75
"""Labelled pixels of a shifted patch, against those of the patch itself."""

_PLACES = 8


class Patches(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PaddedPatches(Dataset[Sample]):
    """Patches; numbers past the end give the first ones without labels: every device gets the same number."""

    def __init__(self, patches: Patches) -> None:
        self.patches = patches

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        image, labels = self.patches[index % len(self.patches)]
        return (image, labels) if index < len(self.patches) else (image, torch.full_like(labels, IGNORE))


class MemoryPatches:
    """Patches read once and kept: images as float32, labels as bytes."""

    def __init__(self, patches: Patches) -> None:
        image, labels = patches[0]
        self.images = torch.empty((len(patches), *image.shape))
        self.labels = torch.empty((len(patches), *labels.shape), dtype=torch.uint8)
        for index in range(len(patches)):
            image, labels = patches[index]
            self.images[index], self.labels[index] = image, labels.to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return self.images[index], self.labels[index].long()


class TrainSampler(Sampler[int]):
    """
    Order of the training patches in an epoch, which depends on seed, epoch and device only.

    Every device draws the same number of whole batches; the remaining patches come in another epoch.

    Parameters
    ----------
    chances : (count,) array of float, optional
        Probability of each patch; default: each comes once.
    steps : int, optional
        Batches of an epoch, on each device; patches come more than once where there are not enough.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        chances: NDArray[np.float64] | None = None,
        devices: int = 1,
        steps: int | None = None,
    ) -> None:
        self.count, self.seed, self.chances = count, seed, chances
        self.devices = devices
        self.epoch = 0
        whole = count // (batch_size * devices) if steps is None else steps
        self.share = max(whole * batch_size, min(batch_size, -(-count // devices)))

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.share

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.chances is None:
            order = np.resize(rng.permutation(self.count), self.share * self.devices)
        else:
            order = rng.choice(self.count, self.share * self.devices, p=self.chances)
        return iter(order[_rank() :: self.devices].tolist())


class ValidationSampler(Sampler[int]):
    """Every validation patch once, distributed over the devices; `PaddedPatches` fills their last ones up."""

    def __init__(self, count: int, *, devices: int = 1) -> None:
        self.count, self.devices = count, devices

    def __len__(self) -> int:
        return (self.count + self.devices - 1) // self.devices

    def __iter__(self) -> Iterator[int]:
        return iter(range(_rank(), len(self) * self.devices, self.devices))


def make_loader(
    patches: Patches, order: Sampler[int], *, batch_size: int, num_workers: int
) -> DataLoader[Sample]:
    """Batches in a given order; patches that are in memory need no processes to read them."""
    processes = 0 if isinstance(patches, MemoryPatches) else num_workers
    return DataLoader(
        PaddedPatches(patches),
        batch_size=batch_size,
        sampler=order,
        num_workers=processes,
        persistent_workers=processes > 0,
        pin_memory=torch.cuda.is_available(),
    )


def take_to_memory(patches: Patches, *, cache: str) -> Patches:
    """The same patches, read once and kept: "always", "never", or "auto": if they fit."""
    if cache == "always" or (cache == "auto" and fits_in_memory(len(patches), patches[0])):
        return MemoryPatches(patches)
    return patches


def fits_in_memory(count: int, sample: Sample) -> bool:
    """Whether so many samples take at most a third of the machine's memory."""
    image, labels = sample
    needed = count * (image.numel() * 4 + labels.numel())
    return needed <= memory_bytes() / 3


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def shift_patches(
    images: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator, *, size_px: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cut a window at a random place of each image of a batch.

    Of some places drawn the first is taken that holds at least `LEAST_LABELLED` of the labelled pixels that the window
    in the middle, the patch itself, holds; else the patch itself.

    Parameters
    ----------
    images : (batch, bands, side, side) tensor of float32
    labels : (batch, side, side) or (batch, heads, side, side) tensor of int64
        255 has no label; of several heads, a pixel with a label of any counts.
    rng : numpy Generator
        Source of all randomness: equal state, equal result.
    size_px : int
        Side of the windows, at most that of the images.

    Returns
    -------
    images : (batch, bands, size_px, size_px) tensor of float32
    labels : tensor of int64
        Likewise, of `size_px`.
    """
    side = images.shape[-1]
    margin = (side - size_px) // 2
    if side == size_px:
        return images, labels
    places = rng.integers(0, side - size_px + 1, (len(images), _PLACES, 2))
    places = np.concatenate(
        [places, np.full((len(images), 1, 2), margin)], axis=1
    )  # the patch itself is the last
    sums = np.zeros((len(images), side + 1, side + 1), np.int64)
    any_head = (labels != IGNORE).reshape(len(images), -1, side, side).any(1)
    sums[:, 1:, 1:] = any_head.cpu().numpy().cumsum(1).cumsum(2)
    number = np.arange(len(images))[:, None]
    top, left = places[..., 0], places[..., 1]
    bottom, right = top + size_px, left + size_px
    labelled = (
        sums[number, bottom, right]
        - sums[number, top, right]
        - sums[number, bottom, left]
        + sums[number, top, left]
    )
    good = labelled >= LEAST_LABELLED * labelled[:, -1:]
    chosen = places[np.arange(len(images)), good.argmax(1)]
    windows = [(slice(row, row + size_px), slice(col, col + size_px)) for row, col in chosen.tolist()]
    return (
        torch.stack([image[:, rows, cols] for image, (rows, cols) in zip(images, windows, strict=True)]),
        torch.stack([label[..., rows, cols] for label, (rows, cols) in zip(labels, windows, strict=True)]),
    )


def rotate_and_flip(images: torch.Tensor, position: int) -> torch.Tensor:
    """Put the last two axes in one of a square's eight positions: rotations by 90 degrees, from 4 on flipped first."""
    flipped = images.flip(-1) if position >= 4 else images
    return flipped.rot90(position % 4, (-2, -1))


def augment(
    images: torch.Tensor,
    labels: torch.Tensor,
    rng: np.random.Generator,
    *,
    flips_and_rotations: bool = True,
    brightness: float = 0.0,
    contrast: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Rotate, flip, brighten and stretch each patch of a batch at random.

    Parameters
    ----------
    images : (batch, bands, size, size) tensor of float32
        Scaled images; exact zeros are nodata and stay zero, as in prediction.
    labels : (batch, size, size) or (batch, heads, size, size) tensor of int64
    rng : numpy Generator
        Source of all randomness: equal state, equal result.
    flips_and_rotations : bool
        Draw one of the eight positions of a square for each patch.
    brightness, contrast : float
        Largest shift, in standard deviations, and largest relative stretch of a patch.

    Returns
    -------
    images, labels
        New tensors of the same shapes.
    """
    count = len(images)
    positions = rng.integers(0, 8, count) if flips_and_rotations else np.zeros(count, int)
    light = torch.from_numpy(rng.uniform(-1, 1, (2, count, 1, 1, 1)).astype(np.float32)).to(images.device)
    if positions.any():
        images, labels = images.clone(), labels.clone()
        for position in range(1, 8):
            chosen = torch.from_numpy(np.flatnonzero(positions == position)).to(images.device)
            if len(chosen):
                images[chosen] = rotate_and_flip(images[chosen], position)
                labels[chosen] = rotate_and_flip(labels[chosen], position)
    if brightness or contrast:
        changed = images * (1 + contrast * light[0]) + brightness * light[1]
        images = torch.where(images == 0, images, changed)
    return images, labels
