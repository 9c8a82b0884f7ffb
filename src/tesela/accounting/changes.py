"""Changes between two maps: pixel by pixel, and as the layer of areas above a minimum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.connected_areas import ComponentCounter, strips
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError
from tesela.core.grid import windows
from tesela.core.legend import NODATA, Legend
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.pixel_areas import equal_pixels_m2, stratum_table
from tesela.io.scenes import SceneReader
from tesela.sampling.change_codes import change_legend, change_values


@dataclass(frozen=True)
class ChangeLayer:
    """A map of changes, and what was left out of it."""

    map: ClassMap
    """Legend of class pairs; 0 where nothing changed, or nothing is known."""
    changed_ha: float
    doubtful_ha: float
    """Left out: one of the two classes was not certain enough."""
    small_ha: float
    """Left out: areas of one change under the minimum mapping unit."""


def map_change_layer(
    before: ClassMap,
    after: ClassMap,
    out: str | Path,
    *,
    min_area_m2: float = 50_000.0,
    confidence: tuple[Scene, Scene] | None = None,
    min_confidence: float = 50.0,
    crosswalk: Crosswalk | None = None,
) -> ChangeLayer:
    """
    Map changes as CORINE does: directly, in areas of 5 ha, and not as the difference of two status layers.

    The two maps are what one expert sees in two images, pixel by pixel and not generalised: a difference of
    generalised maps shows the generalisation. A pixel changed where its classes differ and both are certain;
    pixels that share a side and a change are one area, which stays when it has the minimum area.

    Parameters
    ----------
    min_area_m2 : float
        Minimum mapping unit of change; 50 000 m2 in CORINE [CLC]_.
    confidence : two Scenes, optional
        Confidence of the two maps in percent, as `tesela predict --confidence` writes it.
    min_confidence : float
        A class below it does not make a change.
    crosswalk : Crosswalk, optional
        To the classes whose changes are mapped; at most 15.

    Raises
    ------
    LegendError
        If the maps do not have one legend, or it has more than 15 classes.
    """
    (first, legend), (second, other) = (stratum_table(item.legend, crosswalk) for item in (before, after))
    if not legend.same_classes(other):
        raise LegendError(
            f"{before.path} is drawn in legend '{legend.address}' and {after.path} in '{other.address}'; "
            f"change is seen between two maps of one expert. Give a crosswalk from both."
        )
    if min_area_m2 < 0 or not 0 <= min_confidence <= 100:
        raise InputError(
            f"min_area_m2 is {min_area_m2} and min_confidence {min_confidence}; the one is at least 0, the "
            f"other 0 to 100 percent."
        )
    pairs, pixel_m2 = change_legend(legend), equal_pixels_m2(before)
    read = partial(
        _change_strips,
        before,
        after,
        tables=(first, second),
        legend=legend,
        confidence=confidence,
        min_confidence=min_confidence,
    )
    counter, doubtful_px = ComponentCounter(), 0
    for _, values, unsure in read():
        counter.add(values)
        doubtful_px += unsure
    sums = counter.totals()[1]
    kept = np.append(sums[:, 0] * pixel_m2 >= min_area_m2 * (1 - 1e-9), False)  # the last is for number -1
    again, small_px, changed_px = ComponentCounter(), 0, 0
    with MapWriter(out, before.grid, pairs) as writer:
        for row, values, _ in read():
            stays = kept[again.add(values)]
            changed_px += int(stays.sum())
            small_px += int((values != NODATA).sum() - stays.sum())
            writer.write(row, 0, np.where(stays, values, NODATA).astype(np.uint8))
    changed, doubtful, small = (n * pixel_m2 / 10_000 for n in (changed_px, doubtful_px, small_px))
    return ChangeLayer(ClassMap(str(out), before.grid, pairs), changed, doubtful, small)


def _change_strips(
    before: ClassMap,
    after: ClassMap,
    *,
    tables: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    legend: Legend,
    confidence: tuple[Scene, Scene] | None,
    min_confidence: float,
) -> Iterator[tuple[int, NDArray[np.uint8], int]]:
    """First row, changes (0 for none) and number of doubtful changes of each strip."""
    with ExitStack() as stack:
        readers = [stack.enter_context(MapReader(item)) for item in (before, after)]
        judges = [stack.enter_context(SceneReader(item)) for item in confidence or ()]
        for row, window in strips(before.grid):
            early, late = (table[reader.read(window)] for table, reader in zip(tables, readers, strict=True))
            values = np.where(early == late, NODATA, change_values(early, late, legend)).astype(np.uint8)
            sure = np.ones(values.shape, np.bool_)
            for judge in judges:
                sure &= judge.read(window)[0] >= min_confidence  # NaN is not
            unsure = int((~sure & (values != NODATA)).sum())
            yield row, np.where(sure, values, NODATA).astype(np.uint8), unsure


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
