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
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.legend import IGNORE
from tesela.patches.areas import metric_footprints, one_split_each, touched_blocks
from tesela.patches.balance import share_out
from tesela.patches.table import NONE, PatchTable

_SIDES = 4
"""Patches along the side of a block, unless told otherwise: neighbours, which look alike, are mostly in one fold."""


def fold_patches(
    table: PatchTable, folds: int, *, block_m: float | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """
    Fold of each patch, (patches,), 0, 1, ...; -1 for those that touch the ground of two.

    Blocks of ground are shared out so that every fold gets its part of every class.

    Parameters
    ----------
    block_m : float, optional
        Side of the blocks in metres; default: four times that of a patch, less where the ground is too small.

    Raises
    ------
    InputError
        If there are fewer blocks than folds.
    """
    ground = np.asarray(metric_footprints(table).to_numpy(), object)
    side = float(np.sqrt(shapely.area(ground)).max())
    left, _, _, top = shapely.total_bounds(ground)
    sides = range(_SIDES, 0, -1) if block_m is None else [block_m / side]
    for times in sides:
        patch, block, part = touched_blocks(ground, side_m=times * side, anchor=(float(left), float(top)))
        if block.max() + 1 >= 3 * folds or times == sides[-1]:
            break
    if block.max() + 1 < folds:
        raise InputError(
            f"{len(table)} patches lie on {block.max() + 1} blocks of ground, too few for {folds} folds. Take smaller "
            "patches, or fewer folds."
        )
    content = np.zeros((block.max() + 1, len(table.legend)))
    np.add.at(content, block, table.frame[table.share_columns].to_numpy(float)[patch] * part[:, None])
    chosen = share_out(content, [1 / folds] * folds, seed=seed)[0]
    names = one_split_each(patch, chosen[block].astype(str).astype(object), count=len(table))
    return np.array([-1 if name == NONE else int(name) for name in names], np.int64)


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


def piece_error_likelihood(pieces: Pieces) -> NDArray[np.float64]:
    """Margin by which another class explains each piece better than its label, (pieces,), -2 to 2; see the module."""
    above = pieces.probabilities - usual_sureness(pieces)
    place = np.arange(len(pieces.label))
    own = above[place, pieces.label]
    above[place, pieces.label] = -np.inf
    return np.asarray(above.max(axis=1) - own)


def patch_error_likelihood(pieces: Pieces, *, count: int) -> NDArray[np.float64]:
    """
    Doubt of each of `count` patches as its rank: the share of the patches that are doubted less, 0 to 1.

    Returns
    -------
    (count,) array of float
        NaN for patches without pieces.
    """
    total = np.bincount(pieces.patch, pieces.pixels, minlength=count)
    part = pieces.pixels / total[pieces.patch]
    margin = piece_error_likelihood(pieces)
    worst = np.full(count, -np.inf)
    np.maximum.at(worst, pieces.patch, np.where(margin > 0, margin * np.sqrt(part), margin))
    judged = np.flatnonzero(total > 0)
    doubt = np.full(count, np.nan)
    ranks = np.searchsorted(np.sort(worst[judged]), worst[judged])
    doubt[judged] = ranks / max(1, len(judged) - 1)
    return doubt
