"""Changes between two maps: of every pixel, and as a layer of areas above a minimum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.accounting.change_odds import MIN_ODDS, ProbabilityReader, change_odds
from tesela.accounting.connected_areas import ComponentCounter, strips
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError
from tesela.core.grid import windows
from tesela.core.legend import NODATA, Legend
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.pixel_areas import equal_pixels_m2, stratum_table
from tesela.sampling.change_codes import change_legend, change_values


@dataclass(frozen=True)
class ChangeLayer:
    """A map of changes, with the areas left out of it."""

    map: ClassMap
    """In the legend of class pairs; 0 where nothing changed, or a map has no class."""
    changed_ha: float
    uncertain_ha: float
    """Left out because the probabilities speak too little for a change."""
    small_ha: float
    """Left out because the area of the change is below the minimum mapping unit."""
    later: ClassMap | None = None
    """Map of the later date, where it was asked for."""

    def to_dict(self) -> dict[str, float]:
        """Areas in hectares, for JSON."""
        return {
            "changed_ha": self.changed_ha,
            "uncertain_ha": self.uncertain_ha,
            "small_ha": self.small_ha,
        }


def map_change_layer(
    before: ClassMap,
    after: ClassMap,
    out: str | Path,
    *,
    min_area_m2: float = 50_000.0,
    probabilities: tuple[Scene, Scene] | None = None,
    min_odds: float = MIN_ODDS,
    crosswalk: Crosswalk | None = None,
    later: str | Path | None = None,
    base: ClassMap | None = None,
) -> ChangeLayer:
    """
    Map changes as CORINE does: directly, in areas of at least 5 ha, not as the difference of two status layers.

    Use two maps of one expert that are not generalised: the difference of generalised maps also shows effects of
    the generalisation. Pixels of one change that share a side are one area. It is kept if it has the minimum area, and
    if the odds of the change are high enough, as the geometric mean of its pixels.

    Parameters
    ----------
    min_area_m2 : float
        Minimum mapping unit of change; 50,000 m2 in CORINE [CLC]_.
    probabilities : two Scenes, optional
        Of the classes of each map, as `tesela predict --probabilities` writes them.
    min_odds : float
        Least odds of a change, see `tesela.accounting.change_odds`, 1 or more.
    crosswalk : Crosswalk, optional
        To the classes whose changes are mapped; at most 15.
    later : path, optional
        File for the map of the later date: `base` with the changes in it, and the later map where that has no class.
    base : ClassMap, optional
        In the classes whose changes are mapped; default: the earlier map.

    Raises
    ------
    LegendError
        If the maps do not have one legend, or it has more than 15 classes.
    InputError
        If no pixel has a class in both maps.
    """
    (first, legend), (second, other) = (stratum_table(item.legend, crosswalk) for item in (before, after))
    if not legend.same_classes(other):
        raise LegendError(
            f"{before.path} is in legend '{legend.address}' and {after.path} in '{other.address}'; "
            f"changes need two maps in one legend. Give a crosswalk from both."
        )
    if min_area_m2 < 0 or not 1 <= min_odds < np.inf:
        raise InputError(
            f"min_area_m2 is {min_area_m2} and min_odds {min_odds}; the first must be at least 0, the second 1."
        )
    pairs, pixel_m2 = change_legend(legend), equal_pixels_m2(before)
    read = partial(_change_strips, before, after, tables=(first, second), legend=legend)
    counter = ComponentCounter(quantities=0 if probabilities is None else 1)
    with ExitStack() as stack:
        scores = [
            stack.enter_context(ProbabilityReader(scene, item.legend, legend, table))
            for scene, item, table in zip(probabilities or (), (before, after), (first, second), strict=False)
        ]
        both = False
        for strip in read():
            both = both or bool(((strip.before != NODATA) & (strip.after != NODATA)).any())
            counter.add(strip.values, *([_log_odds(strip, scores, legend)] if scores else []))
    if not both:
        raise _nothing_in_both(before, after)
    sums = counter.totals()[1]
    likely = sums[:, 1] >= sums[:, 0] * (np.log(min_odds) - 1e-6) if scores else np.ones(len(sums), np.bool_)
    large = sums[:, 0] * pixel_m2 >= min_area_m2 * (1 - 1e-9)
    kept, doubtful = (np.append(item, False) for item in (likely & large, ~likely))  # the last: number -1
    second_pass, changed_px, uncertain_px, small_px = ComponentCounter(), 0, 0, 0
    with MapWriter(out, before.grid, pairs) as writer, ExitStack() as stack:
        whole = stack.enter_context(MapWriter(later, before.grid, legend)) if later is not None else None
        based = stack.enter_context(MapReader(base)) if base is not None else None
        for strip in read():
            numbers = second_pass.add(strip.values)
            stays, unlikely = kept[numbers], int(doubtful[numbers].sum())
            changed_px += int(stays.sum())
            uncertain_px += unlikely
            small_px += int((strip.values != NODATA).sum() - stays.sum()) - unlikely
            writer.write(strip.row, 0, np.where(stays, strip.values, NODATA).astype(np.uint8))
            if whole is not None:
                former = strip.before if based is None else based.read(strip.window)
                whole.write(strip.row, 0, np.where(stays | (former == NODATA), strip.after, former))
    changed_ha, uncertain_ha, small_ha = (n * pixel_m2 / 10_000 for n in (changed_px, uncertain_px, small_px))
    return ChangeLayer(
        ClassMap(str(out), before.grid, pairs),
        changed_ha,
        uncertain_ha,
        small_ha,
        None if later is None else ClassMap(str(later), before.grid, legend),
    )


@dataclass(frozen=True)
class _Strip:
    """A strip of full width of two maps, in the classes whose changes are mapped."""

    row: int
    window: GeoBox
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    values: NDArray[np.uint8]
    """Changes; 0 for none."""


def _change_strips(
    before: ClassMap,
    after: ClassMap,
    *,
    tables: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    legend: Legend,
) -> Iterator[_Strip]:
    with MapReader(before) as first, MapReader(after) as second:
        for row, window in strips(before.grid):
            early, late = tables[0][first.read(window)], tables[1][second.read(window)]
            values = np.where(early == late, NODATA, change_values(early, late, legend)).astype(np.uint8)
            yield _Strip(row, window, early, late, values)


def _log_odds(strip: _Strip, scores: list[ProbabilityReader], legend: Legend) -> NDArray[np.float64]:
    """Logarithm of the odds of each change; 0 without probabilities."""
    last = len(legend) - 1
    before, after = (np.minimum(legend.index_table[values], last) for values in (strip.before, strip.after))
    first, second = (reader.read(strip.window) for reader in scores)
    odds = change_odds(first, second, before.astype(np.intp), after.astype(np.intp))
    return np.nan_to_num(np.log(odds), nan=0.0).astype(np.float64)


_WINDOW_PX = 2048


def map_changes(
    before: ClassMap, after: ClassMap, out: str | Path, *, crosswalk: Crosswalk | None = None
) -> ClassMap:
    """
    Map the change of every pixel, on the grid of the earlier map.

    The classes of the result are the strata of a sample of change.

    Parameters
    ----------
    crosswalk : Crosswalk, optional
        From the maps' classes to those whose changes are mapped, such as the LULUCF categories.

    Raises
    ------
    LegendError
        If the maps do not have one legend.
    InputError
        If no pixel has a class in both maps.
    """
    (first, legend), (second, other) = (stratum_table(item.legend, crosswalk) for item in (before, after))
    if not legend.same_classes(other):
        raise LegendError(
            f"{before.path} is drawn in legend '{legend.address}' and {after.path} in '{other.address}'; "
            f"changes need one. Give a crosswalk from both, or translate one (tesela legend convert)."
        )
    pairs, both = change_legend(legend), False
    with (
        MapReader(before) as early,
        MapReader(after) as late,
        MapWriter(out, before.grid, pairs) as writer,
    ):
        for row, col, window in windows(before.grid, _WINDOW_PX):
            values = change_values(first[early.read(window)], second[late.read(window)], legend)
            both = both or bool((values != NODATA).any())
            writer.write(row, col, values)
        if not both:
            raise _nothing_in_both(before, after)
    return ClassMap(str(out), before.grid, pairs)


def _nothing_in_both(before: ClassMap, after: ClassMap) -> InputError:
    return InputError(
        f"No pixel has a class in both {before.path} and {after.path}: they do not overlap, or the crosswalk leaves "
        f"their classes out. Give maps of one area."
    )
