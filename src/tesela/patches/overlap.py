"""Patches that overlap: the pixels that they cover together, and those that each is the first to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def covered_px(rows: pd.DataFrame, size_px: int) -> int:
    """
    Pixels that at least one patch covers: the area of the union of squares, scene by scene.

    The corners of all patches divide a scene into strips of rows that the same patches cover; in a strip, each column
    where a patch starts adds the columns up to the next start, the side of a patch at the most.

    Parameters
    ----------
    rows : DataFrame
        Patches with the columns scene, row and col, rows of a patch table.
    size_px : int
        Side of a patch.

    Examples
    --------
    >>> import pandas as pd
    >>> covered_px(pd.DataFrame({"scene": ["a", "a"], "row": [0, 0], "col": [0, 3]}), 4)
    28
    """
    total = 0
    for _, patches in rows.groupby("scene", observed=True):
        row, col = (patches[name].to_numpy(np.int64) for name in ("row", "col"))
        order = np.argsort(row)
        row, col = row[order], col[order]
        edges = np.unique([row, row + size_px])
        first = np.searchsorted(row, edges - size_px, side="right")
        last = np.searchsorted(row, edges, side="right")
        for height, start, stop in zip(np.diff(edges), first[:-1], last[:-1], strict=True):
            if start < stop:
                starts = np.unique(col[start:stop])
                total += int(height) * (size_px + int(np.minimum(np.diff(starts), size_px).sum()))
    return total


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
