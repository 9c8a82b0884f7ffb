"""Codes of change: pairs of classes, before and after, as classes of a legend of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import LegendError
from tesela.core.legend import NODATA, LandClass, Legend


def change_code(before: str, after: str) -> str:
    """
    Code of a change from one class to another.

    Examples
    --------
    >>> change_code("forest_land", "cropland")
    'forest_land>cropland'
    """
    return f"{before}>{after}"


def change_legend(legend: Legend) -> Legend:
    """
    Legend of all pairs of classes, ordered by the class before, then the class after.

    A pair has the colour of the class after; a class that stays is grey.

    Raises
    ------
    LegendError
        If the legend has more than 15 classes: 16 x 16 pairs do not fit into a byte.
    """
    size = len(legend)
    if size > 15:
        raise LegendError(
            f"Legend '{legend.address}' has {size} classes; changes can be mapped between at most 15. Give a "
            f"crosswalk to fewer, such as the six LULUCF categories."
        )
    pairs = [(before, after) for before in legend.classes for after in legend.classes]
    classes = tuple(
        LandClass(
            number,
            change_code(before.code, after.code),
            f"{before.name} remaining" if before == after else f"{before.name} to {after.name}",
            "#d9d9d9" if before == after else after.color,
        )
        for number, (before, after) in enumerate(pairs, start=1)
    )
    return Legend(f"{legend.name}-changes", classes)


def change_values(before: NDArray[np.uint8], after: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """
    Values of `change_legend(legend)` from the values of `legend` at two dates; 0 where either has none.

    Parameters
    ----------
    before, after : arrays of uint8, of one shape
    """
    first, second = legend.index_table[before], legend.index_table[after]
    pairs = first.astype(np.uint16) * len(legend) + second + 1
    return np.where((first == 255) | (second == 255), NODATA, pairs).astype(np.uint8)
