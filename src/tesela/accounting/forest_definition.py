"""The forest definition: mapped forest below the national minimum of area or crown cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesela.accounting.connected_areas import ComponentCounter, strips
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import equal_pixels_m2, stratum_table
from tesela.io.scenes import SceneReader


@dataclass(frozen=True)
class ForestRule:
    """Minimum area and crown cover of a forest stand; the default, 1 ha and 20 %, is that of Spain."""

    min_area_ha: float = 1.0
    min_cover: float = 20.0
    """Minimum mean crown cover of a stand in per cent; checked where a layer of tree cover is given."""
    category: str = "forest_land"


@dataclass(frozen=True)
class ForestFinding:
    """Forest of one date compared with a `ForestRule`."""

    year: int
    stands: int
    """Connected areas of forest (pixels that share a side)."""
    small: int
    """Stands under the minimum area, without those at the map's edge, which may be larger."""
    small_ha: float
    open: int | None
    """Stands of sufficient area with insufficient crown cover; None without a layer of tree cover."""
    open_ha: float | None


def apply_forest_definition(
    source: ClassMap,
    year: int,
    *,
    rule: ForestRule,
    crosswalk: Crosswalk | None = None,
    tree_cover: Scene | None = None,
) -> ForestFinding:
    """
    Count the stands of a map that do not meet the forest definition; memory grows only with the stands.

    Parameters
    ----------
    crosswalk : Crosswalk, optional
        From the map's classes to the categories.
    tree_cover : Scene, optional
        Its first band is crown cover in per cent; pixels without a value do not count in the mean of a stand.

    Raises
    ------
    InputError
        If the crown cover is not from 0 to 100.
    """
    table, legend = stratum_table(source.legend, crosswalk)
    forest = legend[rule.category].value
    pixel_ha = equal_pixels_m2(source) / 10_000
    counter = ComponentCounter(quantities=3)
    cover = None if tree_cover is None else SceneReader(tree_cover)
    rows = source.grid.shape[0]
    try:
        with MapReader(source) as reader:
            for row, window in strips(source.grid):
                stands = (table[reader.read(window)] == forest).astype(np.uint8)
                edge = np.zeros(stands.shape)
                edge[:, [0, -1]] = 1
                if row == 0:
                    edge[0] = 1
                if row + len(stands) == rows:
                    edge[-1] = 1
                percent = np.full(stands.shape, np.nan)
                if cover is not None:
                    percent = cover.read(window)[0].astype(np.float64)
                valid = np.isfinite(percent)
                strange = percent[valid & ((percent < 0) | (percent > 100))]
                if strange.size:
                    raise InputError(
                        f"The tree cover of {year} holds {strange[0]:g}; it is the share of crowns in per cent, 0 to "
                        f"100. Declare its nodata value (gdal_edit.py -a_nodata), or give it in per cent."
                    )
                counter.add(stands, edge, np.where(valid, percent, 0), valid.astype(np.float64))
    finally:
        if cover is not None:
            cover.close()
    roots, sums = counter.totals()
    pixels, on_edge, percent_sum, valid_px = sums[roots == np.arange(len(roots))].T
    area = pixels * pixel_ha
    small = (area < rule.min_area_ha * (1 - 1e-9)) & (on_edge == 0)
    sparse = ~small & (valid_px > 0) & (percent_sum < rule.min_cover * valid_px)
    return ForestFinding(
        year=year,
        stands=len(area),
        small=int(small.sum()),
        small_ha=float(area[small].sum()),
        open=None if cover is None else int(sparse.sum()),
        open_ha=None if cover is None else float(area[sparse].sum()),
    )
