"""The weights with which models for class maps are joined, fitted on the validation patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesela.training.block_draws import draw_blocks, weight_grid
from tesela.training.segmentation.validation import DRAWS, ValidationPixels

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Factors of the joined scores that are tried: below 1 the probabilities move towards each other."""

_STEPS = 10
"""Weights are multiples of one tenth."""

FLATTERY = 0.5
"""Part of a network's weight that trees get: the validation patches chose its epoch, so their loss flatters it."""

LEAST_DRAWS = 0.05
"""A member that a smaller share of the draws uses is not worth its time in every map."""

_MOST_PIXELS = 30_000


def fit_pool(members: Sequence[ValidationPixels], *, most_pixels: int = _MOST_PIXELS) -> tuple[float, ...]:
    """
    Weights of the members' logarithms of probability.

    The validation blocks are drawn with replacement many times; for each draw those weights are taken, multiples of
    one tenth of one of `SCALES`, that have the least cross-entropy, and the weights are their mean over the draws. A
    member that hardly any draw uses (`LEAST_DRAWS`) gets none.

    Parameters
    ----------
    members : sequence of ValidationPixels
        Scores of the same pixels.
    most_pixels : int
        Pixels, drawn at random, that are looked at.

    Returns
    -------
    tuple of float
        One weight for each member.
    """
    first = members[0]
    some = np.random.default_rng(0).permutation(len(first.classes))[:most_pixels]
    scores = [item.scores[some] for item in members]
    classes = first.classes[some]
    blocks, block = np.unique(first.block[some], return_inverse=True)
    weights = weight_grid(len(members), steps=_STEPS).tolist()
    losses = np.empty((len(weights), len(SCALES), len(blocks)))
    for w, weight in enumerate(weights):
        joined: NDArray[np.float32] = np.zeros_like(scores[0])
        for part, item in zip(scores, weight, strict=True):
            joined += np.float32(item) * part
        for s, scale in enumerate(SCALES):
            losses[w, s] = np.bincount(block, _cross_entropy(np.float32(scale) * joined, classes))
    losses /= len(classes)
    drawn = draw_blocks(len(blocks), draws=DRAWS)
    totals = np.tensordot(losses, drawn, (2, 1)).reshape(-1, len(drawn))
    tried = np.array([[scale * item for item in weight] for weight in weights for scale in SCALES])
    best = tried[totals.argmin(0)]
    used = (best > 0).mean(0) >= LEAST_DRAWS
    return tuple(round(float(item), 4) for item in np.where(used, best.mean(0), 0))


def _cross_entropy(scores: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of each pixel, (pixels,)."""
    top = scores.max(1)
    norm = np.log(np.exp(scores - top[:, None]).sum(1)) + top
    return np.asarray(norm - scores[np.arange(len(scores)), classes], np.float64)


def pool_scores(members: Sequence[ValidationPixels], weights: Sequence[float]) -> NDArray[np.float32]:
    """Logarithms of the joined class probabilities, (pixels, classes)."""
    total = np.zeros_like(members[0].scores)
    for item, weight in zip(members, weights, strict=True):
        total += np.float32(weight) * item.scores
    top = total.max(1, keepdims=True)
    return np.asarray(total - top - np.log(np.exp(total - top).sum(1, keepdims=True)), np.float32)
