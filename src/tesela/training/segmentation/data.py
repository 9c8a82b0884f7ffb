"""Patches for training: in memory where they fit, in an order that a seed fixes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from tesela.core.legend import IGNORE

Sample = tuple[torch.Tensor, torch.Tensor]
"""Scaled image (bands, size, size) float32 and labels (size, size) int64."""


class Patches(Protocol):
    """Anything that gives samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PaddedPatches(Dataset[Sample]):
    """Patches; numbers past the end give the first ones without labels, to even out the devices' shares."""

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
    Order of the training patches in an epoch: a function of seed, epoch and device, and of nothing else.

    Every device draws the same number of whole batches; what is left over comes in another epoch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        chances: NDArray[np.float64] | None = None,
        devices: int = 1,
    ) -> None:
        self.count, self.seed, self.chances = count, seed, chances
        self.devices = devices
        self.epoch = 0
        self.share = max(count // (batch_size * devices) * batch_size, min(batch_size, -(-count // devices)))

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
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
    """Every validation patch once, dealt out to the devices; `PaddedPatches` evens their shares."""

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
    """The same patches, read once and kept: "always", "never", or "auto", where they fit."""
    if cache == "always" or (cache == "auto" and fits_in_memory(len(patches), patches[0])):
        return MemoryPatches(patches)
    return patches


def fits_in_memory(count: int, sample: Sample) -> bool:
    """Whether so many samples take at most a third of the machine's memory."""
    image, labels = sample
    needed = count * (image.numel() * 4 + labels.numel())
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        there = 8 << 30
    return needed <= there / 3


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
