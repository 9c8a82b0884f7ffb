r"""
Ranking: which patches' labels are most likely wrong, from predictions of networks that never saw them.

A wrong label is a whole area that looks like another class, while a network errs here and there everywhere. So the
*pieces* of a patch, its connected areas of one label, are judged, each by the mean probabilities :math:`m_c` of its
pixels. How sure of its own label a network usually is differs by class; with :math:`t_c` that mean over all pixels
labelled *c*, a piece labelled *y* is doubted by

.. math:: d = \max_{j \ne y} (m_j - t_j) - (m_y - t_y),

the margin of confident learning [Northcutt2021]_, taken of areas instead of single examples. A patch is doubted as
much as its most doubted piece, counted by the square root of the part of the patch that it fills.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import IGNORE

_SPARE_PIECES = 2.0
"""Pieces of all classes that are put to each class's own, so that rare classes have a usual sureness too."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Connected areas of one label, of any number of patches."""

    patch: NDArray[np.int64]
    """(pieces,) position of the patch."""
    label: NDArray[np.int64]
    """(pieces,) position of the label in the legend."""
    pixels: NDArray[np.int64]
    """(pieces,)"""
    probabilities: NDArray[np.float64]
    """(pieces, classes) means over the pixels."""

    @classmethod
    def of(cls, patch: int, labels: NDArray[np.uint8], probabilities: NDArray[np.floating]) -> Self:
        """
        Take one patch to pieces.

        Parameters
        ----------
        labels : (rows, cols) array of uint8
            Positions in the legend, 255 where nothing is judged.
        probabilities : (classes, rows, cols) array of float
            Of a network that was not taught with this patch.
        """
        from scipy.ndimage import label

        number = np.zeros(labels.shape, np.int64)
        found: list[int] = []
        for value in np.unique(labels[labels != IGNORE]):
            areas, count = label(labels == value)
            number += np.where(areas > 0, areas + len(found), 0)
            found += [int(value)] * count
        flat = number.ravel()
        pixels = np.bincount(flat, minlength=len(found) + 1)[1:]
        sums = [np.bincount(flat, layer.ravel(), minlength=len(found) + 1)[1:] for layer in probabilities]
        means = np.stack(sums, axis=1) / np.maximum(pixels, 1)[:, None]
        return cls(np.full(len(found), patch, np.int64), np.array(found, np.int64), pixels, means)

    @classmethod
    def join(cls, parts: Iterable[Pieces]) -> Self:
        """Pieces of all parts."""
        listed = list(parts)
        return cls(
            np.concatenate([part.patch for part in listed]),
            np.concatenate([part.label for part in listed]),
            np.concatenate([part.pixels for part in listed]),
            np.concatenate([part.probabilities for part in listed]),
        )


def usual_sureness(pieces: Pieces) -> NDArray[np.float64]:
    """
    Mean probability of a class where it is the label, (classes,).

    To each class two pieces of average size and sureness are put.
    """
    classes = pieces.probabilities.shape[1]
    own = pieces.probabilities[np.arange(len(pieces.label)), pieces.label]
    weight = pieces.pixels.astype(np.float64)
    overall = float((own * weight).sum() / weight.sum())
    spare = _SPARE_PIECES * float(weight.mean())
    sums = np.bincount(pieces.label, own * weight, minlength=classes)
    totals = np.bincount(pieces.label, weight, minlength=classes)
    return np.asarray((sums + overall * spare) / (totals + spare))


def piece_doubt(pieces: Pieces) -> NDArray[np.float64]:
    """Margin by which another class explains each piece better than its label, (pieces,), -2 to 2; see the module."""
    above = pieces.probabilities - usual_sureness(pieces)
    place = np.arange(len(pieces.label))
    own = above[place, pieces.label]
    above[place, pieces.label] = -np.inf
    return np.asarray(above.max(axis=1) - own)


def patch_doubt(pieces: Pieces, *, count: int) -> NDArray[np.float64]:
    """
    Doubt of each of `count` patches as its rank: the share of the patches that are doubted less, 0 to 1.

    Returns
    -------
    (count,) array of float
        NaN for patches without pieces.
    """
    total = np.bincount(pieces.patch, pieces.pixels, minlength=count)
    part = pieces.pixels / total[pieces.patch]
    margin = piece_doubt(pieces)
    worst = np.full(count, -np.inf)
    np.maximum.at(worst, pieces.patch, np.where(margin > 0, margin * np.sqrt(part), margin))
    judged = np.flatnonzero(total > 0)
    doubt = np.full(count, np.nan)
    ranks = np.searchsorted(np.sort(worst[judged]), worst[judged])
    doubt[judged] = ranks / max(1, len(judged) - 1)
    return doubt
