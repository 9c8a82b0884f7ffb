"""
The points of a sample, drawn from a map into a GeoPackage for interpreters.

Each pixel has a pseudo-random number that depends only on the seed and its position in the grid; a stratum's
points are its pixels with the smallest numbers. This is a simple random sample without replacement. It does not
depend on the windows in which the map is read, and a larger sample with the same seed contains the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError
from tesela.core.grid import windows
from tesela.core.hashing import mix_bits
from tesela.core.legend import Legend
from tesela.io.layers import legend_categories, write_layers
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import stratum_table
from tesela.io.point_style import choice_style
from tesela.io.raster import raster_crs
from tesela.io.tables import read_table
from tesela.sampling.design import WHOLE, SamplingDesign
from tesela.sampling.interpretation import CLASSES, LAYER, classes_table
from tesela.sampling.responses import class_values_at

if TYPE_CHECKING:
    import geopandas as gpd

_FULL = float(2**64)


@dataclass(frozen=True, eq=False)
class DrawnPoints:
    """Sampled pixels, in the random order in which they are interpreted."""

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    stratum: NDArray[np.int64]
    """Position in the design's strata."""


def draw_sample(
    strata: ClassMap,
    out: str | Path,
    *,
    design: SamplingDesign,
    crosswalk: Crosswalk | None = None,
    classes: Legend | None = None,
    show: ClassMap | None = None,
    hide_strata: bool = False,
    window_px: int = 2048,
) -> Path:
    """
    Draw a sample and write it for interpreters.

    The GeoPackage has the layer ``points`` (sample_id, stratum, x, y, reference, confidence, note; the last
    three empty), the tables ``strata`` and ``classes``, and the table ``key`` from sample_id to stratum.
    Interpreters fill `reference` with class codes, in the page of ``tesela review serve`` or in QGIS, where a style
    offers the classes as a list;
    `tesela.sampling.responses.read_sample` reads them back.

    Parameters
    ----------
    strata, crosswalk
        Those of `plan_sample`.
    classes : Legend, optional
        Classes that interpreters choose from; default: those of the strata.
    show : ClassMap, optional
        Map whose class interpreters see, in the field `map_class`; hidden by default, so that it does not
        influence them.
    hide_strata : bool
        Leave the stratum out of the points: where strata are classes, it reveals the map's class.

    Raises
    ------
    InputError
        If the map is not that of the design, or the file already holds responses.
    """
    if Path(out).suffix.lower() != ".gpkg":
        raise InputError(f"{out}: a sample is a GeoPackage; give a name that ends in .gpkg.")
    refuse_interpreted(out)
    points = draw_points(strata, design=design, crosswalk=crosswalk, window_px=window_px)
    legend = classes or (strata.legend if crosswalk is None else crosswalk.target)
    layers = {
        "points": _points_layer(strata, points, design=design, show=show, hide_strata=hide_strata),
        "strata": _strata_table(design),
        "key": _key_table(points, design),
        CLASSES: classes_table(legend),
    }
    return write_layers(out, layers, styles={LAYER: choice_style("reference", legend_categories(legend))})


def refuse_interpreted(path: str | Path) -> None:
    """
    Refuse to overwrite a sample that holds responses.

    Raises
    ------
    InputError
        If the file holds a sample with responses.
    """
    import pyogrio

    if not Path(path).is_file() or LAYER not in {str(name) for name, _ in pyogrio.list_layers(path)}:
        return
    responses = read_table(path, layer=LAYER).get("reference")
    count = 0 if responses is None else int((responses.fillna("").astype(str).str.strip() != "").sum())
    if count:
        raise InputError(
            f"{path}: {count} points of this sample have a response, which a new sample would overwrite. Write to "
            f"another file, or move this one away."
        )


def draw_points(
    strata: ClassMap, *, design: SamplingDesign, crosswalk: Crosswalk | None = None, window_px: int = 2048
) -> DrawnPoints:
    """Draw the pixels of a sample; see `draw_sample`."""
    table = _position_table(strata, design, crosswalk)
    wanted = np.array([item.points for item in design.strata], np.int64)
    sizes = np.array([item.size_px for item in design.strata], np.int64)
    mix = np.random.SeedSequence(design.seed).generate_state(1, np.uint64)[0]
    # more pixels pass than needed, so that one pass over the map is nearly always enough
    chance = np.minimum((wanted + 6 * np.sqrt(wanted) + 10) / np.maximum(sizes, 1), 1.0)
    while True:
        keys, index, place, counts = _below(strata, table, chance, mix=mix, window_px=window_px)
        if not np.array_equal(counts, sizes):
            raise InputError(
                f"{strata.path} has {counts.tolist()} px in the strata, the design {sizes.tolist()}: the map or the "
                f"crosswalk is a different one. Plan the sample again."
            )
        passed = np.bincount(place, minlength=len(wanted))
        if (passed >= wanted).all():
            break
        chance = np.minimum(chance * np.where(passed < wanted, 4, 1), 1.0)
    order = np.lexsort((index, keys))
    rank = np.zeros(len(order), np.int64)
    for h in range(len(wanted)):
        mine = place[order] == h
        rank[mine] = np.arange(mine.sum())
    chosen = order[rank < wanted[place[order]]]
    # every first part of this order holds the same share of each stratum, a valid sample if interpreters stop early
    late = keys[chosen] / _FULL * sizes[place[chosen]] / wanted[place[chosen]]
    chosen = chosen[np.lexsort((index[chosen], late))]
    cols = strata.grid.shape[1]
    return DrawnPoints(
        row=index[chosen] // cols, col=index[chosen] % cols, stratum=place[chosen].astype(np.int64)
    )


def _position_table(
    strata: ClassMap, design: SamplingDesign, crosswalk: Crosswalk | None
) -> NDArray[np.int16]:
    """Lookup table (256,) from a map's value to the position of its stratum, -1 for none."""
    values, legend = stratum_table(strata.legend, crosswalk)
    codes = [item.code for item in design.strata]
    position = np.full(256, -1, np.int16)
    for item in legend.classes:
        if codes == [WHOLE]:
            position[item.value] = 0
        elif item.code in codes:
            position[item.value] = codes.index(item.code)
    return position[values]


def _below(
    strata: ClassMap, table: NDArray[np.int16], chance: NDArray[np.float64], *, mix: np.uint64, window_px: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int16], NDArray[np.int64]]:
    """Keys, indices and strata of the pixels whose key is within their stratum's limit; pixel counts of all strata."""
    limits = np.array([min(int(share * _FULL), 2**64 - 1) for share in chance], np.uint64)
    parts = []
    sizes = np.zeros(len(chance), np.int64)
    with MapReader(strata) as reader:
        for row, col, window in windows(strata.grid, window_px):
            values = reader.read(window)
            *part, counts = _pass_limits(
                values,
                table,
                limits,
                first=np.int64(row) * strata.grid.shape[1] + col,
                cols=strata.grid.shape[1],
                mix=mix,
            )
            parts.append(part)
            sizes += counts
    keys, index, place = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return keys, index, place, sizes


def _pass_limits(
    values: NDArray[np.uint8],
    table: NDArray[np.int16],
    limits: NDArray[np.uint64],
    *,
    first: int,
    cols: int,
    mix: np.uint64,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int16], NDArray[np.int64]]:
    counts = np.zeros(len(limits), np.int64)
    size = _count_passing(values, table, limits, np.int64(first), np.int64(cols), mix, counts)
    keys, index, place = np.empty(size, np.uint64), np.empty(size, np.int64), np.empty(size, np.int16)
    _take_passing(values, table, limits, np.int64(first), np.int64(cols), mix, keys, index, place)
    return keys, index, place, counts


@njit(cache=True, nogil=True)
def _key(index: np.uint64, mix: np.uint64) -> np.uint64:  # pragma: no cover - compiled
    """The random number of a pixel, by SplitMix64."""
    return mix_bits((index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + mix)


@njit(cache=True, nogil=True)
def _count_passing(values, table, limits, first, cols, mix, counts):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    passing = 0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            place = table[values[r, c]]
            if place >= 0:
                counts[place] += 1
                if _key(np.uint64(first + r * cols + c), mix) <= limits[place]:
                    passing += 1
    return passing


@njit(cache=True, nogil=True)
def _take_passing(values, table, limits, first, cols, mix, keys, index, places):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    at = 0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            place = table[values[r, c]]
            if place >= 0:
                key = _key(np.uint64(first + r * cols + c), mix)
                if key <= limits[place]:
                    keys[at] = key
                    index[at] = first + r * cols + c
                    places[at] = place
                    at += 1


def _points_layer(
    strata: ClassMap, points: DrawnPoints, *, design: SamplingDesign, show: ClassMap | None, hide_strata: bool
) -> gpd.GeoDataFrame:
    import geopandas as gpd
    import shapely

    step = strata.grid.affine
    x = step.a * (points.col + 0.5) + step.b * (points.row + 0.5) + step.c
    y = step.d * (points.col + 0.5) + step.e * (points.row + 0.5) + step.f
    crs = raster_crs(strata.grid).to_wkt()
    columns: dict[str, object] = {"sample_id": np.arange(1, len(x) + 1)}
    if not hide_strata:
        columns["stratum"] = [design.strata[h].code for h in points.stratum]
    if show is not None:
        codes = {item.value: item.code for item in show.legend.classes}
        columns["map_class"] = [codes.get(int(v), "") for v in class_values_at(show, x, y, crs=crs)]
    columns |= {"x": x, "y": y, "reference": "", "confidence": "", "note": ""}
    return gpd.GeoDataFrame(columns, geometry=shapely.points(x, y), crs=crs)


def _strata_table(design: SamplingDesign) -> gpd.pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "stratum": item.code,
            "name": item.name,
            "size_px": item.size_px,
            "points": item.points,
            "pixel_area_m2": design.pixel_area_m2,
            "rule": design.rule,
            "seed": design.seed,
        }
        for item in design.strata
    ]
    return pd.DataFrame(rows)


def _key_table(points: DrawnPoints, design: SamplingDesign) -> gpd.pd.DataFrame:
    import pandas as pd

    codes = [design.strata[h].code for h in points.stratum]
    return pd.DataFrame({"sample_id": np.arange(1, len(codes) + 1), "stratum": codes})
