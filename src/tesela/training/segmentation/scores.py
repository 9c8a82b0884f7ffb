"""Scores on the validation patches, from counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.legend import IGNORE


@dataclass(frozen=True)
class ValidationScores:
    """Accuracy, intersection over union and F1; a class absent from both sides has none and is in no mean."""

    accuracy: float
    miou: float
    macro_f1: float
    iou: tuple[float | None, ...]
    """By class, in the order of the legend."""
    f1: tuple[float | None, ...]


def count_pairs(labels: torch.Tensor, found: torch.Tensor, *, classes: int) -> torch.Tensor:
    """
    Confusion counts over the labelled pixels.

    Parameters
    ----------
    labels, found : tensors of int64, of the same shape
        Positions of classes; 255 in `labels` is left out.

    Returns
    -------
    (classes, classes) tensor of int64
        Pixels by label (row) and prediction (column).
    """
    valid = labels != IGNORE
    pairs = labels[valid] * classes + found[valid]
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def validation_scores(counts: NDArray[np.int64]) -> ValidationScores:
    """
    Scores of a confusion matrix.

    Parameters
    ----------
    counts : (classes, classes) array of int64
        Pixels by label (row) and prediction (column).
    """
    hits = np.diag(counts).astype(float)
    either = counts.sum(0) + counts.sum(1)
    union, there = either - hits, either > 0
    iou = hits[there] / union[there]
    f1 = 2 * hits[there] / either[there]
    positions = np.flatnonzero(there)

    def by_class(values: NDArray[np.float64]) -> tuple[float | None, ...]:
        found = dict(zip(positions.tolist(), values.tolist(), strict=True))
        return tuple(found.get(position) for position in range(len(counts)))

    return ValidationScores(
        accuracy=float(hits.sum() / max(counts.sum(), 1)),
        miou=float(iou.mean()) if len(iou) else 0.0,
        macro_f1=float(f1.mean()) if len(f1) else 0.0,
        iou=by_class(iou),
        f1=by_class(f1),
    )
