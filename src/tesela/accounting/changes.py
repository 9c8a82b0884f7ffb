"""Changes: pairs of classes, before and after, as classes of a legend of their own."""

from __future__ import annotations

from pathlib import Path

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import LegendError
from tesela.core.grid import windows
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.pixel_areas import stratum_table
from tesela.sampling.change_codes import change_legend, change_values

_WINDOW_PX = 2048


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
