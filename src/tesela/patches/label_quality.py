r"""
Label quality: which patches have wrong labels, and the quality class of each.

The likelihood of error comes from predictions of models that were not trained on the patch. A wrong label is a whole
area that looks like another class, while the errors of a model are scattered. So a patch is divided into *pieces*, the
connected areas of one label, and each piece is assessed by the mean probabilities :math:`m_c` of its pixels. The usual
confidence of a model in the right label differs by class; with :math:`t_c` this mean over all pixels labelled *c*, a
piece labelled *y* has the score

.. math:: d = \max_{j \ne y} (m_j - t_j) - (m_y - t_y),

the margin of confident learning [Northcutt2021]_, applied to areas instead of single examples. The score of a patch is
the highest of its pieces, weighted by the square root of the part of the patch that the piece covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.legend import IGNORE
from tesela.patches.areas import metric_footprints, one_split_each, touched_blocks
from tesela.patches.balance import allocate_groups
from tesela.patches.table import NONE, QUALITIES, PatchTable

ERROR_LIKELIHOOD = "error_likelihood"
"""Column of the patch table: rank of a patch by the likelihood that its label is wrong, 0 to 1."""

REVIEW, AUTOMATIC = "review", "automatic"
"""Sources of a quality class, column quality_source: reviewers, or the ranking by models."""

_SIDES = 4
"""Default side of a block, in patches: neighbours, which look alike, are mostly in one fold."""


def fold_patches(
    table: PatchTable, folds: int, *, block_m: float | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """
    Fold of each patch, (patches,), 0, 1, ...; -1 for patches that overlap two folds.

    Square blocks are allocated to the folds so that every fold gets its part of every class.

    Parameters
    ----------
    block_m : float, optional
        Side of the blocks in metres; default: four times that of a patch, less where the area is too small.

    Raises
    ------
    InputError
        If there are fewer blocks than folds.
    """
    footprints = np.asarray(metric_footprints(table).to_numpy(), object)
    side = float(np.sqrt(shapely.area(footprints)).max())
    left, _, _, top = shapely.total_bounds(footprints)
    sides = range(_SIDES, 0, -1) if block_m is None else [block_m / side]
    for times in sides:
        patch, block, part = touched_blocks(footprints, side_m=times * side, anchor=(float(left), float(top)))
        if block.max() + 1 >= 3 * folds or times == sides[-1]:
            break
    if block.max() + 1 < folds:
        raise InputError(
            f"{len(table)} patches cover {block.max() + 1} blocks, too few for {folds} folds. Use smaller patches, or "
            "fewer folds."
        )
    content = np.zeros((block.max() + 1, len(table.legend)))
    np.add.at(content, block, table.frame[table.share_columns].to_numpy(float)[patch] * part[:, None])
    fold_of_block = allocate_groups(content, [1 / folds] * folds, seed=seed)[0]
    names = one_split_each(patch, fold_of_block[block].astype(str).astype(object), count=len(table))
    return np.array([-1 if name == NONE else int(name) for name in names], np.int64)


_PRIOR_PIECES = 2.0
"""Pieces of average confidence that are added to each class, so that rare classes have a usual confidence too."""


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
        Divide one patch into pieces.

        Parameters
        ----------
        labels : (rows, cols) array of uint8
            Positions in the legend, 255 for pixels without label.
        probabilities : (classes, rows, cols) array of float
            Of a model that was not trained on this patch.
        """
        from scipy.ndimage import label

        number = np.zeros(labels.shape, np.int64)
        label_of_piece: list[int] = []
        for value in np.unique(labels[labels != IGNORE]):
            areas, count = label(labels == value)
            number += np.where(areas > 0, areas + len(label_of_piece), 0)
            label_of_piece += [int(value)] * count
        flat, count = number.ravel(), len(label_of_piece)
        pixels = np.bincount(flat, minlength=count + 1)[1:]
        sums = [np.bincount(flat, layer.ravel(), minlength=count + 1)[1:] for layer in probabilities]
        means = np.stack(sums, axis=1) / np.maximum(pixels, 1)[:, None]
        return cls(np.full(count, patch, np.int64), np.array(label_of_piece, np.int64), pixels, means)

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


def usual_confidence(pieces: Pieces) -> NDArray[np.float64]:
    """
    Mean probability of a class over the pixels with this label, (classes,).

    Each class gets two additional pieces of average size and confidence.
    """
    classes = pieces.probabilities.shape[1]
    own = pieces.probabilities[np.arange(len(pieces.label)), pieces.label]
    weight = pieces.pixels.astype(np.float64)
    overall = float((own * weight).sum() / weight.sum())
    prior = _PRIOR_PIECES * float(weight.mean())
    sums = np.bincount(pieces.label, own * weight, minlength=classes)
    totals = np.bincount(pieces.label, weight, minlength=classes)
    return np.asarray((sums + overall * prior) / (totals + prior))


def piece_error_likelihood(pieces: Pieces) -> NDArray[np.float64]:
    """Margin by which another class explains each piece better than its label, (pieces,), -2 to 2; see the module."""
    above = pieces.probabilities - usual_confidence(pieces)
    index = np.arange(len(pieces.label))
    own = above[index, pieces.label]
    above[index, pieces.label] = -np.inf
    return np.asarray(above.max(axis=1) - own)


def patch_error_likelihood(pieces: Pieces, *, count: int) -> NDArray[np.float64]:
    """
    Rank of each of `count` patches by its likelihood of error: the share of patches with a lower score, 0 to 1.

    Returns
    -------
    (count,) array of float
        NaN for patches without pieces.
    """
    total = np.bincount(pieces.patch, pieces.pixels, minlength=count)
    part = pieces.pixels / total[pieces.patch]
    margin = piece_error_likelihood(pieces)
    score = np.full(count, -np.inf)
    np.maximum.at(score, pieces.patch, np.where(margin > 0, margin * np.sqrt(part), margin))
    ranked = np.flatnonzero(total > 0)
    likelihood = np.full(count, np.nan)
    ranks = np.searchsorted(np.sort(score[ranked]), score[ranked])
    likelihood[ranked] = ranks / max(1, len(ranked) - 1)
    return likelihood


def with_quality(table: PatchTable, qualities: Mapping[str, str], *, source: str) -> PatchTable:
    """
    The same patches with quality classes in the columns quality and quality_source.

    Parameters
    ----------
    qualities : mapping of str to str
        "high", "medium" or "low" by patch_id. Other patches keep their class; an automatic class does not replace
        one by reviewers.
    source : {"review", "automatic"}
    """
    frame = table.frame
    patches = frame["patch_id"].astype(str).to_list()
    quality = frame["quality"].to_list()
    sources = frame["quality_source"].to_list() if "quality_source" in frame.columns else [""] * len(frame)
    for index, patch in enumerate(patches):
        kept = source == AUTOMATIC and quality[index] and sources[index] != AUTOMATIC
        if patch in qualities and not kept:
            quality[index], sources[index] = qualities[patch], source
    return replace(table, frame=frame.assign(quality=quality, quality_source=sources))


def automatic_quality(table: PatchTable, *, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> PatchTable:
    """
    Give patches that nobody reviewed a quality class by their likelihood of error, lowest first.

    This is a substitute where there is no time for a review: column quality_source is "automatic". A low automatic
    class means that models disagree with the label, not that it is wrong; do not publish scores on patches chosen
    this way.

    Parameters
    ----------
    table : PatchTable
        Ranked: with the column error_likelihood, see `patch_error_likelihood`.
    shares : sequence of float
        Parts of the patches that become high, medium and low.

    Raises
    ------
    InputError
        If the table is not ranked, or the shares are not three that sum to 1.
    """
    if ERROR_LIKELIHOOD not in table.frame.columns:
        raise InputError(
            f"Automatic quality classes need the column {ERROR_LIKELIHOOD}. Rank the table first (tesela review rank "
            "TABLE)."
        )
    if len(shares) != len(QUALITIES) or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise InputError(
            f"The shares of the quality classes are {', '.join(f'{share:g}' for share in shares)}; give three that sum "
            f"to 1, for {', '.join(QUALITIES)}."
        )
    frame = table.frame[table.frame[ERROR_LIKELIHOOD].notna()]
    order = np.argsort(frame[ERROR_LIKELIHOOD].to_numpy(float), kind="stable")
    bounds = np.rint(np.cumsum(shares)[:-1] * len(order)).astype(int)
    patches = frame["patch_id"].astype(str).to_numpy(object)[order]
    qualities = {
        str(patch): quality
        for quality, part in zip(QUALITIES, np.split(patches, bounds), strict=True)
        for patch in part
    }
    return with_quality(table, qualities, source=AUTOMATIC)
