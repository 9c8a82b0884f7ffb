"""Scores of a whole map with block-bootstrap intervals, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.assessment.scores import Scores
from tesela.core.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

FRAMES = ("classes", "overall")
"""Tables of an assessment in memory."""

_DRAWS = 2000


def check_frame(table: str) -> None:
    """
    Check the name of a table.

    Raises
    ------
    InputError
        If there is no such table.
    """
    if table not in FRAMES:
        raise InputError(unknown_name("table", table, FRAMES))


def overall_frame(scores: Scores, tiles: Sequence[NDArray[np.int64]], *, seed: int = 0) -> pd.DataFrame:
    """
    Accuracy, mean IoU and macro F1 of a map with their 95 % intervals.

    Neighbouring pixels are alike, so whole tiles are drawn with replacement, and the ends are percentiles of the scores
    of the sums. Few tiles give intervals that are too narrow; there should be ten or more.

    Parameters
    ----------
    tiles : sequence of (classes, classes) arrays of int64
        Confusion of each tile with an evaluated pixel.

    Returns
    -------
    DataFrame
        Index `score`: accuracy, mean_iou, macro_f1. Columns value, low, high (NaN with fewer than two tiles), tiles.

    Examples
    --------
    >>> scores_of_draws(np.array([[[3.0, 1.0], [0.0, 4.0]]])).round(3).tolist()
    [[0.875, 0.775, 0.873]]
    """
    import pandas as pd

    ends = np.full((2, 3), np.nan)
    if len(tiles) > 1:
        counts = np.stack(tiles).astype(np.float64)
        weights = np.random.default_rng(seed).multinomial(
            len(tiles), np.full(len(tiles), 1 / len(tiles)), size=_DRAWS
        )
        sums = (weights @ counts.reshape(len(tiles), -1)).reshape(_DRAWS, *counts.shape[1:])
        ends = np.percentile(scores_of_draws(sums), [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "score": ["accuracy", "mean_iou", "macro_f1"],
            "value": [scores.accuracy, scores.mean_iou, scores.macro_f1],
            "low": ends[0],
            "high": ends[1],
            "tiles": len(tiles),
        }
    ).set_index("score")


def scores_of_draws(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy, mean IoU and macro F1 of many confusions, (draws, K, K) -> (draws, 3); see `score` for the rules."""
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    margins = counts.sum(axis=-1) + counts.sum(axis=-2)
    present = margins > 0
    classes = np.maximum(present.sum(axis=-1), 1)
    safe = np.where(present, margins, 1.0)
    iou = (correct / np.where(present, margins - correct, 1.0)).sum(axis=-1) / classes
    f1 = (2 * correct / safe).sum(axis=-1) / classes
    accuracy = correct.sum(axis=-1) / np.maximum(counts.sum(axis=(-2, -1)), 1)
    return np.stack([accuracy, iou, f1], axis=-1)
