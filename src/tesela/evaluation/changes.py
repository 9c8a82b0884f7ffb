"""Changes: pairs of classes, before and after, as classes of a legend of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import LegendError
from tesela.core.grid import windows
from tesela.core.legend import NODATA, LandClass, Legend
from tesela.evaluation.sampling import stratum_table
from tesela.io.maps import ClassMap, MapReader, MapWriter

_WINDOW_PX = 2048


def change_code(before: str, after: str) -> str:
    """
    Code of a change; the same class twice is no change.

    Examples
    --------
    >>> change_code("forest_land", "cropland")
    'forest_land>cropland'
    """
    return f"{before}>{after}"


def change_legend(legend: Legend) -> Legend:
    """
    All pairs of the classes of a legend, the class before being the slower index.

    Colours are those of the class after; what did not change is grey.

    Raises
    ------
    LegendError
        If the legend has more than 15 classes: 16 x 16 pairs do not fit into a byte.
    """
    size = len(legend)
    if size > 15:
        raise LegendError(
            f"Legend '{legend.address}' has {size} classes; changes are mapped between at most 15. Give a "
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


def map_changes(
    before: ClassMap, after: ClassMap, out: str | Path, *, crosswalk: Crosswalk | None = None
) -> ClassMap:
    """
    Map which class became which, pixel by pixel on the grid of the earlier map.

    Its classes are the strata of a sample of change.

    Parameters
    ----------
    crosswalk : Crosswalk, optional
        From the maps' classes to those whose changes are mapped, such as the LULUCF categories.
    """
    (first, legend), (second, other) = (stratum_table(item.legend, crosswalk) for item in (before, after))
    if not legend.same_classes(other):
        raise LegendError(
            f"{before.path} is drawn in legend '{legend.address}' and {after.path} in '{other.address}'; "
            f"changes need one. Give a crosswalk from both, or translate one (tesela legend convert)."
        )
    pairs = change_legend(legend)
    with (
        MapReader(before) as early,
        MapReader(after) as late,
        MapWriter(out, before.grid, pairs) as writer,
    ):
        for row, col, window in windows(before.grid, _WINDOW_PX):
            writer.write(
                row, col, change_values(first[early.read(window)], second[late.read(window)], legend)
            )
    return ClassMap(str(out), before.grid, pairs)
