"""Folds: patches shared out so that each is predicted by a network that never saw its ground."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.patches.balance import share_out
from tesela.patches.ground import metric_footprints, one_split_each, touched_blocks
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
