"""Losses over classes, with pixels left out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tesela.core.legend import IGNORE


def segmentation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    kind: str = "ce_dice",
    weight: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    border_weight: float = 1.0,
    border_relaxation: bool = False,
) -> torch.Tensor:
    r"""
    Cross-entropy, Dice, or their sum, over the labelled pixels.

    .. math::
        L_{CE} &= -\frac{\sum_i b_i w_{y_i} [(1 - s) \log p_{i y_i} + \frac{s}{C} \sum_c \log p_{ic}]}
                        {\sum_i b_i w_{y_i}} \\
        L_{Dice} &= 1 - \frac{1}{|P|} \sum_{c \in P} \frac{2 \sum_i b_i p_{ic} g_{ic}}{\sum_i b_i (p_{ic} + g_{ic})}

    for the classes :math:`P` that the labels of the batch hold [Milletari2016]_, with a weight :math:`b` of pixels that
    touch another class. Without a labelled pixel the loss is 0, and so is its gradient.

    Parameters
    ----------
    logits : (batch, classes, rows, cols) tensor of float
        In any precision; the sums are in float32.
    labels : (batch, rows, cols) tensor of int64
        Positions of classes; 255 is left out.
    kind : {"ce_dice", "ce", "dice"}
    weight : (classes,) tensor of float32, optional
        Weights of the classes in the cross-entropy.
    label_smoothing : float
        Share :math:`s`.
    border_weight : float
        Weight :math:`b` of labelled pixels with another class among their eight neighbours, see `border_pixels`; that
        of the others is 1.
    border_relaxation : bool
        In the cross-entropy of these pixels, add up the probabilities of all classes of the 3 x 3 window around them
        [Zhu2019]_: a border may lie a pixel off. They do not count in Dice.

    Returns
    -------
    scalar tensor of float32
    """
    classes = logits.shape[1]
    log_probs = torch.log_softmax(logits.float(), dim=1)  # (b, c, r, k)
    valid = labels != IGNORE  # (b, r, k)
    target = torch.where(valid, labels, 0).unsqueeze(1)  # (b, 1, r, k)
    part = valid.float()  # (b, r, k)
    border = border_pixels(labels) if border_weight != 1 or border_relaxation else None
    if border is not None:
        part = torch.where(border, border_weight * part, part)
    total = log_probs.new_zeros(())
    if kind != "dice":
        share = part if weight is None else weight[target.squeeze(1)] * part
        picked = log_probs.gather(1, target).squeeze(1)
        if border is not None and border_relaxation:
            picked = torch.where(border, _window_log_probs(log_probs, target, valid), picked)
        nll = -picked
        if label_smoothing:
            nll = (1 - label_smoothing) * nll - label_smoothing * log_probs.mean(1)
        total = total + (nll * share).sum() / share.sum().clamp_min(1e-6)
    if kind != "ce":
        if border is not None and border_relaxation:
            part = torch.where(border, 0.0, part)
        probs = log_probs.exp() * part.unsqueeze(1)
        truth = torch.zeros_like(probs).scatter_(1, target, (part > 0).unsqueeze(1).to(probs.dtype))
        area = (truth * part.unsqueeze(1)).sum((0, 2, 3))  # (c,)
        overlap = (probs * truth).sum((0, 2, 3))
        dice = (2 * overlap + 1) / (probs.sum((0, 2, 3)) + area + 1)  # + 1 pixel: no jump at tiny areas
        present = (area > 0).float()
        total = total + ((1 - dice) * present).sum() / present.sum().clamp_min(1)
    assert classes > 0
    return total


def border_pixels(labels: torch.Tensor) -> torch.Tensor:
    """
    Labelled pixels that have another class among their eight neighbours, (batch, rows, cols) bool.

    Parameters
    ----------
    labels : (batch, rows, cols) tensor of int64
        Positions of classes; 255 counts as no class.
    """
    valid = labels != IGNORE
    values = labels.float()
    high = functional.max_pool2d(torch.where(valid, values, -1.0), 3, stride=1, padding=1)
    low = -functional.max_pool2d(torch.where(valid, -values, -float(IGNORE)), 3, stride=1, padding=1)
    return valid & (high != low)


def _window_log_probs(log_probs: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Logarithm of the summed probabilities of all classes in the 3 x 3 window of each pixel, (b, r, k)."""
    truth = torch.zeros_like(log_probs).scatter_(1, target, valid.unsqueeze(1).to(log_probs.dtype))
    there = functional.max_pool2d(truth, 3, stride=1, padding=1) > 0
    there = there | ~there.any(1, keepdim=True)  # far from any label: all, whose sum is 1
    return torch.logsumexp(log_probs.masked_fill(~there, -1e9), 1)


def class_weights(pixels: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float32]:
    r"""
    Weight of each class by the inverse root of its frequency, at most tenfold around the mean.

    :math:`w_c \propto 1 / \sqrt{n_c}`, scaled so that a labelled pixel weighs 1 on average. The root is a
    compromise between no weights and equal classes: with 1 / n, classes of few and often wrong polygons would dominate.

    Parameters
    ----------
    pixels : (classes,) array of float or int
        Labelled pixels by class, or their shares; classes without any get weight 1.

    Returns
    -------
    (classes,) array of float32
    """
    counts = np.asarray(pixels, float)
    weights = np.ones(len(counts))
    present = counts > 0
    if present.any():
        raw = 1 / np.sqrt(counts[present])
        raw = np.clip(raw / np.average(raw, weights=counts[present]), 0.1, 10)
        weights[present] = raw / np.average(raw, weights=counts[present])
    return weights.astype(np.float32)


def patch_weights(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """
    Probability of each patch to be drawn: patches with rare classes come more often.

    Parameters
    ----------
    shares : (patches, classes) array of float
        Share of each patch's pixels in each class.

    Returns
    -------
    (patches,) array of float64
        The mean weight (see `class_weights`) of its labelled pixels; they sum to 1.
    """
    table = np.asarray(shares, float)
    weights = class_weights(table.sum(axis=0))
    labelled = np.maximum(table.sum(axis=1), 1e-9)
    chance = np.maximum((table * weights).sum(axis=1) / labelled, 1e-6)
    return np.asarray(chance / chance.sum(), np.float64)
