"""Calibration of unmixing experts: how far errors go, by what the network itself thinks of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.beta import probabilities_around
from tesela.core.errors import InputError
from tesela.core.shares import sum_to_level
from tesela.models.doubt import Doubt
from tesela.models.expert import Expert
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.apply import unmix_pixels
from tesela.training.unmixing.batches import VAL

_MOST_SHARES = 100_000
"""Shares whose likelihood is summed; more tell the same."""

_LEAST_LIKELIHOOD = 1e-6


def calibrate(expert: Expert, table: PixelTable) -> Expert:
    """
    Fit the doubt of an expert on the validation pixels, for each level of the legend.

    `train_unmixing` ends with this; call it for experts that were joined, or for the pixels of another region. Experts
    that cannot be unsure by themselves get the doubt that errors of shares like theirs had.

    Returns
    -------
    Expert
        The same network with another `ExpertHeader.doubt`; with none, where there is nothing to learn from: no pixel of
        val was observed, or all its shares are right.

    Raises
    ------
    InputError
        If the table has no shares of the expert's legend, or no pixel of val.
    """
    header = expert.header
    if table.legend != header.legend:
        raise InputError(
            "The pixels have no shares of the expert's legend. Read them with an abundance map of it."
        )
    val = table.splits == VAL
    if not val.any():
        raise InputError("No pixel is in val. Split the table first (split_pixels).")
    plain = Expert(replace(header, doubt=()), expert.network)
    doubts = []
    for level in range(1, header.legend.depth + 1):
        found = unmix_pixels(plain, table, val, level=level)
        truth = sum_to_level(table.targets[val].T, header.legend, level).T
        seen = ~found.unseen
        if not seen.any():
            return plain
        deviation = None if found.deviation is None else found.deviation[seen]
        doubts.append(fit_doubt(truth[seen], found.shares[seen], deviation))
    if not all(one.is_sound for one in doubts):
        return plain
    return Expert(replace(header, doubt=tuple(doubts)), expert.network)


def fit_doubt(
    truth: NDArray[np.floating], shares: NDArray[np.floating], deviation: NDArray[np.floating] | None
) -> Doubt:
    r"""
    The doubt under which the mean claimed variance is the mean squared error, and the truth is most likely.

    The parts of both terms, :math:`(1 - w)` of the network's own variance and *w* of :math:`m (1 - m)`, are those with
    the largest likelihood of the true shares under Beta distributions.

    Parameters
    ----------
    truth, shares : (pixels, classes) arrays of float
    deviation : (pixels, classes) array of float, optional
        The network's own.
    """
    from scipy.optimize import minimize_scalar

    t, m = (part.astype(np.float64) for part in (truth, shares))
    most = m * (1 - m)
    own = np.zeros_like(m) if deviation is None else deviation.astype(np.float64) ** 2
    step = max(1, m.size // _MOST_SHARES)  # of pixels, whose shares stay together: all classes are heard
    error, scales = ((t - m) ** 2).mean(), np.array([own.mean(), most.mean()])
    parts = np.divide(error, scales, out=np.zeros(2), where=scales > 0)

    def unlikely(mixed: float) -> float:
        variance = (1 - mixed) * parts[0] * own[::step] + mixed * parts[1] * most[::step]
        low, high = probabilities_around(t[::step], m[::step], np.sqrt(variance))
        return float(-np.log(np.maximum(high - low, _LEAST_LIKELIHOOD)).mean())

    mixed = 1.0
    if parts[0]:
        mixed = float(minimize_scalar(unlikely, bounds=(0, 1), method="bounded", options={"xatol": 0.01}).x)
    return Doubt(round(float((1 - mixed) * parts[0]), 6), round(float(mixed * parts[1]), 6))
