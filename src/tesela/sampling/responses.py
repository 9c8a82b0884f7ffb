"""The interpreters' answers: a sample read back from its file and met with the map it is to judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import window_grid
from tesela.core.legend import NODATA, Legend
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import stratum_table
from tesela.io.raster import raster_crs
from tesela.io.tables import read_table
from tesela.sampling.change_codes import change_code, change_legend
from tesela.sampling.error_matrix import Sample
from tesela.sampling.interpretation import points_table, strata_table

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_PX = 512
"""Points are read by squares of this side, the usual block of a class map."""


def read_sample(
    path: str | Path,
    maps: ClassMap | Sequence[ClassMap],
    *,
    crosswalk: Crosswalk | Sequence[Crosswalk | None] | None = None,
    answers: str | Path | None = None,
    field: str = "reference",
) -> Sample:
    """
    Read a sample that interpreters have filled in, with the class of a map at each point.

    Parameters
    ----------
    path : path
        GeoPackage that `tesela.sampling.draw.draw_sample` wrote.
    maps : ClassMap, or two of them
        The map to be judged, which need not be the one of the strata. With two maps, earlier then later, what
        is judged is their change, and answers are written "forest_land>cropland".
    crosswalk : Crosswalk, or one (or None) per map, optional
        From the maps' classes to those in which they are judged; answers may be codes of either legend.
    answers : path, optional
        Table with the fields sample_id and `field`, if the answers came back in another file.
    field : str
        Field of the answers; points where it is empty count as unanswered.

    Raises
    ------
    InputError
        If a table or field is missing, or a map has no class at a point.
    LegendError
        If an answer is not a code of the legend.
    """
    judged = (maps,) if isinstance(maps, ClassMap) else tuple(maps)
    if len(judged) not in (1, 2):
        raise InputError(
            f"A sample judges one map, or the change between two; {len(judged)} maps were given."
        )
    points, strata, key = points_table(path), strata_table(path), read_table(path, layer="key")
    column = _column(points if answers is None else read_table(answers), field, where=answers or path)
    ids = [int(number) for number in key["sample_id"]]
    place = _points_of(ids, points, where=path)
    strange = sorted(set(column) - set(ids))
    if strange:
        raise InputError(
            f"{answers or path}: sample_id {join_words(strange, most=6)} is no point of {path}. Are these the answers "
            f"to another sample?"
        )
    walks = (
        [crosswalk] * len(judged)
        if crosswalk is None or isinstance(crosswalk, Crosswalk)
        else list(crosswalk)
    )
    legend = judged[0].legend if walks[0] is None else walks[0].target
    mapped = [
        _codes_at(item, place, crosswalk=walk, path=path) for item, walk in zip(judged, walks, strict=True)
    ]
    codes = legend.codes if len(judged) == 1 else change_legend(legend).codes
    known = _translation(legend, walks)
    return Sample.from_points(
        [str(code) for code in key["stratum"]],
        mapped[0] if len(judged) == 1 else [change_code(a, b) for a, b in zip(*mapped, strict=True)],
        [known.get(answer, answer) for answer in (column.get(number, "") for number in ids)],
        sizes_px=dict(zip(strata["stratum"].astype(str), strata["size_px"].astype(int), strict=True)),
        classes=codes,
        pixel_area_ha=float(strata["pixel_area_m2"].iloc[0]) / 10_000,
        seed=int(strata["seed"].iloc[0]),
    )


def class_values_at(
    source: ClassMap, x: NDArray[np.float64], y: NDArray[np.float64], *, crs: str
) -> NDArray[np.uint8]:
    """
    Values of a map at points, 0 where it has none; each block of the file is read once.

    Parameters
    ----------
    x, y : (n,) arrays
        In `crs`, as WKT.
    """
    mine = raster_crs(source.grid).to_wkt()
    if pyproj.CRS.from_user_input(crs) != pyproj.CRS.from_user_input(mine):
        x, y = pyproj.Transformer.from_crs(crs, mine, always_xy=True).transform(x, y)
    step = ~source.grid.affine
    col = np.floor(step.a * x + step.b * y + step.c).astype(np.int64)
    row = np.floor(step.d * x + step.e * y + step.f).astype(np.int64)
    values = np.zeros(len(col), np.uint8)
    rows, cols = source.grid.shape
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    block = (row // _BLOCK_PX) * (cols // _BLOCK_PX + 1) + col // _BLOCK_PX
    with MapReader(source) as reader:
        for number in np.unique(block[inside]):
            here = np.flatnonzero(inside & (block == number))
            top, left = row[here].min(), col[here].min()
            height, width = row[here].max() - top + 1, col[here].max() - left + 1
            window = reader.read(window_grid(source.grid, int(top), int(left), int(height), int(width)))
            values[here] = window[row[here] - top, col[here] - left]
    return values


def _points_of(ids: Sequence[int], points: pd.DataFrame, *, where: str | Path) -> pd.DataFrame:
    """Rows of the points that were drawn, in the order of `ids`; `points` may have been edited elsewhere."""
    lost, added = sorted(set(ids) - set(points["sample_id"])), sorted(set(points["sample_id"]) - set(ids))
    if added:
        raise InputError(
            f"{where}: sample_id {join_words(added, most=6)} was not drawn (table 'key'): points that somebody "
            f"placed are no random sample. Remove them, or put the table back."
        )
    if lost:
        raise InputError(
            f"{where}: {len(lost)} of the {len(ids)} points drawn are gone (sample_id {join_words(lost, most=6)}), "
            f"and what is left stands for the map no more. Put them back; leave `reference` empty if unanswered."
        )
    return points.set_index("sample_id").loc[list(ids)]


def _codes_at(
    source: ClassMap, place: pd.DataFrame, *, crosswalk: Crosswalk | None, path: str | Path
) -> list[str]:
    table, legend = stratum_table(source.legend, crosswalk)
    x, y = place["x"].to_numpy(np.float64), place["y"].to_numpy(np.float64)
    values = table[class_values_at(source, x, y, crs=place.crs.to_wkt())]
    lost = int((values == NODATA).sum())
    if lost:
        raise InputError(
            f"{source.path} has no class at {lost} of the {len(x)} points of {path}: the sample does not "
            f"stand for this map. Draw one from the ground that the map shows."
        )
    codes = {item.value: item.code for item in legend.classes}
    return [codes[int(value)] for value in values]


def _column(table: pd.DataFrame, field: str, *, where: str | Path) -> dict[int, str]:
    """Answers by sample_id, as text; empty where there is none."""
    for name in ("sample_id", field):
        if name not in table.columns:
            raise InputError(f"{where}: {unknown_name('field', name, [str(c) for c in table.columns])}")
    try:
        ids = [int(number) for number in table["sample_id"]]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: a sample_id is no number ({error}). Take them from the sample.") from None
    twice = sorted({number for number in ids if ids.count(number) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise InputError(f"{where}: sample_id {join_words(twice)} stands twice; each point has one answer.")
    return dict(zip(ids, _texts(table[field]), strict=True))


def _texts(column: Iterable[object]) -> list[str]:
    """Codes as text: 311.0 and " 311 " are "311", nothing is ""."""
    texts = []
    for item in column:
        if item is None or (isinstance(item, float) and np.isnan(item)):
            texts.append("")
        elif isinstance(item, float) and item.is_integer():
            texts.append(str(int(item)))
        else:
            texts.append(str(item).strip())
    return texts


def _translation(legend: Legend, walks: Sequence[Crosswalk | None]) -> dict[str, str]:
    """From the codes that an answer may have to those of the judged legend, or of its changes."""
    by_value = {item.value: item.code for item in legend.classes}
    own = {code: code for code in legend.codes}
    sides = [
        {
            code: by_value[value]
            for code, value in (walk.main_target if walk else {}).items()
            if value != NODATA
        }
        | own
        for walk in walks
    ]
    if len(sides) == 1:
        return sides[0]
    return {
        change_code(a, b): change_code(first, last)
        for a, first in sides[0].items()
        for b, last in sides[1].items()
    }
