"""Validation of any model for class maps: its scores on the validation patches, and what is chosen by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import nn

from tesela.core.legend import IGNORE
from tesela.core.standardisation import Standardisation
from tesela.models.expert import log_frequencies
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable
from tesela.training.block_draws import draw_blocks, square_blocks

PRIORS = tuple(round(0.1 * step, 1) for step in range(-5, 11))
"""Strengths of the logit adjustment that are tried; negative ones undo weights of classes in the loss."""

USUAL_PRIOR = {"accuracy": 0.0, "both": 0.1, "macro_f1": 0.5}
"""
Strength by objective unless the validation patches show another to be better: few areas choose badly. In
``benchmarks/fusion.py`` these serve test area better than the best strength on the validation patches.
"""

_MOST_PIXELS = 400_000
DRAWS = 300


@dataclass(frozen=True)
class ValidationPixels:
    """Scores of labelled pixels of the validation patches."""

    scores: NDArray[np.float32]
    """(pixels, classes): logarithms of the class probabilities."""
    classes: NDArray[np.int64]
    """(pixels,): positions in the legend."""
    patch: NDArray[np.int64]
    """(pixels,): number of the patch."""
    block: NDArray[np.int64]
    """(pixels,): number of the block of neighbouring patches, the unit of intervals."""

    def counts(self, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Confusion by block, (blocks, classes, classes): labels by row, predictions by column."""
        size = self.scores.shape[1]
        place = (self.block * size + self.classes) * size + predicted
        blocks = int(self.block.max()) + 1
        return np.bincount(place, minlength=blocks * size * size).reshape(blocks, size, size)


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
    scores, classes, numbers, places = [], [], [], []
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
        places.append(chosen)
    patch = np.concatenate(numbers)
    block = pixel_blocks(table, split, patch, np.concatenate(places))
    return ValidationPixels(np.concatenate(scores), np.concatenate(classes), patch, block)


def pixel_blocks(
    table: PatchTable, split: str, patch: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.int64]:
    """
    Number of the block of each pixel of the patches of a split, (pixels,); see `square_blocks`.

    Parameters
    ----------
    patch : (pixels,) array of int64
        Number of the patch in the split.
    place : (pixels,) array of int64
        Position in the flattened patch.
    """
    rows = table.of_split(split)
    scene = np.unique(rows["scene"].to_numpy(str), return_inverse=True)[1][patch]
    row, col = (rows[name].to_numpy(np.int64)[patch] for name in ("row", "col"))
    return square_blocks(
        scene, row + place // table.size_px, col + place % table.size_px, size_px=table.size_px
    )


def class_frequencies(table: PatchTable, split: str = "train") -> NDArray[np.float64]:
    """Share of each class among the labelled pixels of a split."""
    shares = table.of_split(split)[table.share_columns].to_numpy(float).sum(axis=0)
    return np.asarray(shares / max(shares.sum(), 1e-12))


def objective_of(counts: NDArray[np.number], objective: str) -> NDArray[np.float64]:
    """
    Score of confusion matrices: accuracy, macro F1 over the classes that the labels hold, or the mean of both.

    Parameters
    ----------
    counts : (..., classes, classes) array
        Labels by row, predictions by column.

    Returns
    -------
    (...) array of float64
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    rows, columns = counts.sum(-1), counts.sum(-2)
    accuracy = hits.sum(-1) / np.maximum(rows.sum(-1), 1)
    f1 = np.where(rows > 0, 2 * hits / np.maximum(rows + columns, 1), 0.0)
    macro = f1.sum(-1) / np.maximum((rows > 0).sum(-1), 1)
    return np.asarray({"accuracy": accuracy, "macro_f1": macro, "both": (accuracy + macro) / 2}[objective])


def choose_prior(pixels: ValidationPixels, frequencies: NDArray[np.float64], *, objective: str) -> float:
    r"""
    Strength of the logit adjustment: the usual one, or the nearest better one that is as good as the best, measurably.

    The adjusted scores are :math:`s_k - \tau \ln f_k` [Menon2021]_. Measurably worse is: outside the 95 % interval of
    the difference, from its standard error over blocks drawn with replacement (`error_factor`). With the objective
    "both", a strength that is measurably less accurate than the usual one is not taken.
    """
    usual, logs = USUAL_PRIOR[objective], log_frequencies(frequencies)
    counts = [pixels.counts((pixels.scores - np.float32(strength) * logs).argmax(1)) for strength in PRIORS]
    if len(counts[0]) < 2:
        return usual  # nothing to measure by
    drawn = draw_blocks(len(counts[0]), draws=DRAWS)
    resampled = [np.tensordot(drawn, item, 1) for item in counts]
    start, results = PRIORS.index(usual), np.stack([objective_of(item, objective) for item in resampled])
    means = results.mean(1)
    good = means >= means[start]
    good &= ~measurably_above_zero(results[means.argmax()] - results, blocks=len(counts[0]))
    if objective == "both":
        accuracy = np.stack([objective_of(item, "accuracy") for item in resampled])
        good &= ~measurably_above_zero(accuracy[start] - accuracy, blocks=len(counts[0]))
    chosen = [PRIORS[item] for item in np.flatnonzero(good)]
    return min(chosen, key=lambda strength: (abs(strength - usual), strength), default=usual)


def measurably_above_zero(leads: NDArray[np.float64], *, blocks: int) -> NDArray[np.bool_]:
    """
    Whether the 95 % interval of a lead lies above zero, (...).

    Parameters
    ----------
    leads : (..., draws) array of float64
        The lead in each draw of so many blocks with replacement; see `error_factor`.
    """
    return np.asarray(leads.mean(-1) > error_factor(blocks) * leads.std(-1) + 1e-9)


def error_factor(blocks: int) -> float:
    """
    Half of a 95 % interval, in standard deviations of a mean over some blocks that are drawn with replacement.

    Student's t instead of the normal distribution, and the deviation of few blocks is too small by the root of
    (n - 1) / n.

    Examples
    --------
    >>> [round(error_factor(blocks), 2) for blocks in (4, 8, 30, 1000)]
    [3.67, 2.53, 2.08, 1.96]
    """
    return float(stdtrit(blocks - 1, 0.975) * np.sqrt(blocks / (blocks - 1)))


def difference_interval(
    first: NDArray[np.int64], second: NDArray[np.int64], *, objective: str, seed: int = 0
) -> tuple[float, float]:
    """
    95 % interval of the objective's difference, first less second: its mean over blocks drawn with replacement, and
    `error_factor` times its deviation to each side. One block says nothing: -1 to 1.
    """
    if len(first) < 2:
        return -1.0, 1.0
    drawn = draw_blocks(len(first), draws=DRAWS, seed=seed)
    one, other = (objective_of(np.tensordot(drawn, item, 1), objective) for item in (first, second))
    middle, half = (one - other).mean(), error_factor(len(first)) * (one - other).std()
    return float(max(middle - half, -1.0)), float(min(middle + half, 1.0))
