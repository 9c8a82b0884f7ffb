"""Validation of any model for class maps: its scores on the validation patches, and what is chosen by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tesela.core.legend import IGNORE
from tesela.core.standardisation import Standardisation
from tesela.models.expert import log_frequencies
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable

PRIORS = tuple(round(0.1 * step, 1) for step in range(-5, 11))
"""Strengths of the logit adjustment that are tried; negative ones undo weights of classes in the loss."""

TOLERANCE = 0.003
"""Differences of the objective below this are noise: the smaller strength, or the cheaper model, wins."""

_MOST_PIXELS = 400_000


@dataclass(frozen=True)
class ValidationPixels:
    """Scores of labelled pixels of the validation patches."""

    scores: NDArray[np.float32]
    """(pixels, classes): logarithms of the class probabilities."""
    classes: NDArray[np.int64]
    """(pixels,): positions in the legend."""
    patch: NDArray[np.int64]
    """(pixels,): number of the patch."""

    def counts(self, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Confusion by patch, (patches, classes, classes): labels by row, predictions by column."""
        size = self.scores.shape[1]
        place = (self.patch * size + self.classes) * size + predicted
        patches = int(self.patch.max()) + 1
        return np.bincount(place, minlength=patches * size * size).reshape(patches, size, size)


def validate_model(
    network: nn.Module,
    table: PatchTable,
    standardisation: Standardisation,
    *,
    split: str = "val",
    seed: int = 0,
) -> ValidationPixels:
    """
    Apply a model to the patches of a split, at most 400,000 pixels of them.

    A model with a margin sees the scene around the patch, as in mapping.
    """
    stride = int(getattr(network, "stride", 1))
    margin = -(-int(getattr(network, "margin_px", 0)) // stride) * stride
    patches = PatchDataset(
        table,
        split,
        bands=standardisation.bands,
        mean=standardisation.mean,
        std=standardisation.std,
        dates=standardisation.dates,
        margin_px=margin,
    )
    each = max(1, _MOST_PIXELS // len(patches))
    scores, classes, numbers = [], [], []
    network.eval()
    for number in range(len(patches)):
        image, labels = patches[number]
        with torch.inference_mode():
            logits = network(image[None].contiguous(memory_format=torch.channels_last)).float().cpu()[0]
        inner = slice(margin, margin + table.size_px)
        flat = torch.log_softmax(logits[:, inner, inner].reshape(len(logits), -1).T, 1).numpy()
        label = labels.numpy().ravel()
        labelled = np.flatnonzero(label != IGNORE)
        chosen = np.random.default_rng([seed, number]).permutation(labelled)[:each]
        scores.append(flat[chosen])
        classes.append(label[chosen])
        numbers.append(np.full(len(chosen), number))
    return ValidationPixels(np.concatenate(scores), np.concatenate(classes), np.concatenate(numbers))


def class_frequencies(table: PatchTable, split: str = "train") -> NDArray[np.float64]:
    """Share of each class among the labelled pixels of a split."""
    shares = table.of_split(split)[table.share_columns].to_numpy(float).sum(axis=0)
    return np.asarray(shares / max(shares.sum(), 1e-12))


def objective_of(counts: NDArray[np.int64], objective: str) -> float:
    """Score of a confusion matrix: accuracy, macro F1 over the classes that the labels hold, or the mean of both."""
    hits, either = np.diag(counts), counts.sum(0) + counts.sum(1)
    accuracy = float(hits.sum() / max(counts.sum(), 1))
    present = counts.sum(1) > 0
    macro = float((2 * hits[present] / np.maximum(either[present], 1)).mean()) if present.any() else 0.0
    return {"accuracy": accuracy, "macro_f1": macro, "both": (accuracy + macro) / 2}[objective]


def choose_prior(pixels: ValidationPixels, frequencies: NDArray[np.float64], *, objective: str) -> float:
    r"""
    Strength of the logit adjustment with the best objective; of almost equal ones the smallest.

    The adjusted scores are :math:`s_k - \tau \ln f_k` [Menon2021]_.
    """
    logs = log_frequencies(frequencies)
    results = {}
    for strength in PRIORS:
        predicted = (pixels.scores - np.float32(strength) * logs).argmax(1)
        results[strength] = objective_of(pixels.counts(predicted).sum(0), objective)
    best = max(results.values())
    return min((item for item in PRIORS if results[item] >= best - TOLERANCE), key=abs)


def bootstrap_difference(
    first: NDArray[np.int64], second: NDArray[np.int64], *, objective: str, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the objective's difference, first less second, over patches drawn with replacement."""
    rng = np.random.default_rng(seed)
    number = len(first)
    differences = [
        objective_of(first[drawn].sum(0), objective) - objective_of(second[drawn].sum(0), objective)
        for drawn in (rng.integers(0, number, number) for _ in range(draws))
    ]
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)
