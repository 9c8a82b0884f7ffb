"""Networks in another region: statistics of batch normalisation, and self-training, from windows without labels."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tesela.core.legend import IGNORE
from tesela.models.expert import Expert
from tesela.training.segmentation.data import augment
from tesela.training.segmentation.losses import segmentation_loss

SCENE_SHARE = 0.5
"""Weight of a scene in the statistics of batch normalisation: in ``benchmarks/transfer.py`` all weights from 0.3 to 0.6
gain alike, and 1 loses where the shares of the classes differ."""

_BATCH = 8
_STEPS = 60
_RATE = 2e-4
_LEAST_STEPS = 4


def make_batch(
    expert: Expert, images: Sequence[NDArray[np.floating]], labels: Sequence[NDArray[np.int64]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Windows and labels as a network takes them, padded at the bottom and the right by pixels without data.

    Parameters
    ----------
    images : sequence of (bands, rows, cols) arrays of float
        Physical quantities, NaN where there is no data.
    labels : sequence of (rows, cols) arrays of int64

    Returns
    -------
    (windows, bands, rows, cols) tensor of float32, (windows, rows, cols) tensor of int64
        Rows and columns are the same for all windows, and multiples of the network's stride.
    """
    stride = int(getattr(expert.network, "stride", 1))
    rows, cols = (-(-max(image.shape[axis] for image in images) // stride) * stride for axis in (1, 2))
    batch = torch.zeros(len(images), len(images[0]), rows, cols)
    targets = torch.full((len(images), rows, cols), IGNORE)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        height, width = label.shape
        batch[number, :, :height, :width] = torch.from_numpy(expert.scaled(image))
        targets[number, :height, :width] = torch.from_numpy(label)
    return batch, targets


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network keeps statistics of batch normalisation."""
    return any(isinstance(module, _BatchNorm) and module.track_running_stats for module in network.modules())


def blend_batch_norm(network: nn.Module, images: torch.Tensor, *, share: float = SCENE_SHARE) -> nn.Module:
    r"""
    A copy of a network with batch normalisation of a scene [Li2018]_, [Schneider2020]_.

    The statistics of each layer are those of a mixture of training and scene: with a share :math:`w` of the scene,
    mean :math:`(1 - w) m_0 + w m_1` and variance :math:`(1 - w) v_0 + w v_1 + w (1 - w) (m_0 - m_1)^2`.

    Parameters
    ----------
    images : (windows, bands, rows, cols) tensor of float32
        Standardised windows from all over the scene, 0 where there is no data.
    share : float
        Share :math:`w` of the scene, from 0 to 1.
    """
    made = copy.deepcopy(network).eval()
    layers = [module for module in made.modules() if isinstance(module, _BatchNorm)]
    before = [(_stats(layer), layer.momentum) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    with torch.no_grad():
        order = np.random.default_rng(0).permutation(len(images))
        for part in np.array_split(order, -(-len(images) // _BATCH)):
            made(images[part].contiguous(memory_format=torch.channels_last))
    for layer, ((mean, variance), momentum) in zip(layers, before, strict=True):
        own_mean, own_variance = _stats(layer)
        gap = (own_mean - mean).square()
        layer.running_mean = (1 - share) * mean + share * own_mean
        layer.running_var = (1 - share) * variance + share * own_variance + share * (1 - share) * gap
        layer.momentum = momentum
    return made.eval().requires_grad_(False)


def _stats(layer: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean.clone(), layer.running_var.clone()


def tune_network(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    seconds: float,
    seed: int = 0,
) -> nn.Module:
    """
    A copy of a network that has learnt further from labels of its own.

    At most 60 steps of AdamW and cross-entropy, with statistics of batch normalisation that do not move. The weights
    are the mean of those before and after [Wortsman2022]_.

    Parameters
    ----------
    images : (windows, bands, rows, cols) tensor of float32
        Standardised, 0 where there is no data.
    labels : (windows, rows, cols) tensor of int64
        Positions of classes; 255 is left out.
    seconds : float
        Most processor time.
    """
    started = time.process_time()
    images, labels = _squares(images, 0.0), _squares(labels, IGNORE)  # rotations need them
    made = copy.deepcopy(network).requires_grad_(True).eval()
    optimizer = torch.optim.AdamW(made.parameters(), lr=_RATE, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    for step in range(_STEPS):
        spent = time.process_time() - started
        if step >= _LEAST_STEPS and spent + spent / step > seconds:
            break
        chosen = rng.choice(len(images), min(_BATCH, len(images)), replace=False)
        batch, wanted = augment(images[chosen], labels[chosen], rng, brightness=0.1, contrast=0.1)
        loss = segmentation_loss(made(batch.contiguous(memory_format=torch.channels_last)), wanted, kind="ce")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        for old, new in zip(network.parameters(), made.parameters(), strict=True):
            new.copy_((old + new) / 2)
    return made.eval().requires_grad_(False)


def _squares(windows: torch.Tensor, value: float) -> torch.Tensor:
    """Windows whose last two axes are alike, filled at the bottom or the right."""
    rows, cols = windows.shape[-2:]
    side = max(rows, cols)
    return functional.pad(windows, (0, side - cols, 0, side - rows), value=value)
