"""Patches that overlap: which of its pixels a patch is the first to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def first_shown(rows: pd.DataFrame, size_px: int) -> Iterator[NDArray[np.bool_]]:
    """
    For each patch in turn, the pixels that no patch before it covers: each covered pixel once in all.

    Parameters
    ----------
    rows : DataFrame
        Patches with the columns scene, row and col, rows of a patch table.
    size_px : int
        Side of a patch.

    Yields
    ------
    (size, size) array of bool
    """
    seen: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for scene, row, col in zip(rows["scene"], rows["row"].astype(int), rows["col"].astype(int), strict=True):
        own = np.ones((size_px, size_px), bool)
        down, right = row // size_px, col // size_px
        for cell in ((scene, down + i, right + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            for other_row, other_col in seen.get(cell, ()):
                top, left = other_row - row, other_col - col
                own[max(top, 0) : max(top + size_px, 0), max(left, 0) : max(left + size_px, 0)] = False
        seen.setdefault((scene, down, right), []).append((row, col))
        yield own
