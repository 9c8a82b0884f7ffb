"""The heads of a training: the outputs of one expert, or those of several experts on one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.models.expert import Expert, ExpertHeader
from tesela.training.segmentation.losses import segmentation_loss
from tesela.training.segmentation.settings import SegmentationSettings


@dataclass(frozen=True)
class Head:
    """What one expert of a training learns, and where it is written."""

    header: ExpertHeader
    """Without training, scores and the rest of the provenance."""
    out: Path
    """The ``.safetensors`` file."""
    shares: NDArray[np.floating]
    """(patches, classes): share of the pixels of each of its training patches in each class."""
    val_patches: int
    """Number of its validation patches."""
    finish: Callable[[Expert], Expert] = lambda expert: expert
    """Called with the trained expert; what it returns is written."""

    @property
    def classes(self) -> int:
        """Number of its channels."""
        return len(self.header.legend)


def split_heads(
    logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[int]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """
    Outputs and labels by head.

    Parameters
    ----------
    logits : (batch, channels, rows, cols) tensor of float
        The channels of all heads, one head after another.
    labels : (batch, heads, rows, cols) tensor of int64
        Of a single head also (batch, rows, cols).
    classes : sequence of int
        Channels of each head.

    Returns
    -------
    list of ((batch, classes, rows, cols) tensor, (batch, rows, cols) tensor)
    """
    planes = labels.unsqueeze(1) if labels.ndim == logits.ndim - 1 else labels
    return list(zip(torch.split(logits, list(classes), dim=1), planes.unbind(1), strict=True))


def heads_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    classes: Sequence[int],
    settings: SegmentationSettings,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Mean loss of the heads; one without a labelled pixel in the batch adds nothing.

    Parameters
    ----------
    logits, labels, classes
        See `split_heads`.
    weight : (heads, most classes) tensor of float32, optional
        Weights of the classes of each head in the cross-entropy; those beyond the classes of a head do not count.

    Returns
    -------
    scalar tensor of float32
    """
    losses = [
        segmentation_loss(
            own,
            truth,
            kind=settings.loss,
            weight=None if weight is None else weight[number, : own.shape[1]],
            label_smoothing=settings.label_smoothing,
            border_weight=settings.border_weight,
            border_relaxation=settings.border_relaxation,
        )
        for number, (own, truth) in enumerate(split_heads(logits, labels, classes))
    ]
    return torch.stack(losses).mean()
