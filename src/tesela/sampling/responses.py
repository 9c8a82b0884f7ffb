"""The interpreters' responses: an interpreted sample read from its file, with the map's class at each point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, join_words
from tesela.core.grid import window_grid
from tesela.core.legend import NODATA, Legend
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import stratum_table
from tesela.io.raster import raster_crs
from tesela.io.rows import read_rows
from tesela.io.tables import read_table
from tesela.io.vector import NO_CODE, code_texts, find_field
from tesela.sampling.change_codes import change_code, change_legend
from tesela.sampling.error_matrix import Sample
from tesela.sampling.interpretation import LAYER, points_table, strata_table

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_PX = 512
"""Points are read by squares of this side, the usual block of a class map."""


def read_sample(
    path: str | Path,
    maps: ClassMap | Sequence[ClassMap],
    *,
    crosswalk: Crosswalk | Sequence[Crosswalk | None] | None = None,
    responses: str | Path | None = None,
    field: str = "reference",
) -> Sample:
    """
    Read an interpreted sample, with the class of a map at each point.

    Parameters
    ----------
    path : path
        GeoPackage that `tesela.sampling.draw.draw_sample` wrote.
    maps : ClassMap, or two of them
        The map to assess, which may differ from the map of the strata. With two maps, earlier then later, the
        change between them is assessed, and responses have the form "forest_land>cropland".
    crosswalk : Crosswalk, or one (or None) per map, optional
        From the maps' classes to those in which they are assessed; responses may be codes of either legend.
    responses : path, optional
        Table with the fields sample_id and `field`, if the responses are in another file.
    field : str
        Field of the responses; empty where there is none.

    Raises
    ------
    InputError
        If a table or field is missing, or a map has no class at a point.
    LegendError
        If a response is not a code of the legend.
    """
    assessed = (maps,) if isinstance(maps, ClassMap) else tuple(maps)
    if len(assessed) not in (1, 2):
        raise InputError(
            f"A sample assesses one map, or the change between two; {len(assessed)} maps were given."
        )
    points, strata, key = points_table(path), strata_table(path), read_table(path, layer="key")
    column = _column(
        points if responses is None else _read_responses(responses, field), field, where=responses or path
    )
    ids = [int(number) for number in key["sample_id"]]
    drawn = _points_of(ids, points, where=path)
    unknown = sorted(set(column) - set(ids))
    if unknown:
        raise InputError(
            f"{responses or path}: sample_id {join_words(unknown, most=6)} is no point of {path}. Are these the "
            f"responses to another sample?"
        )
    crosswalks = (
        [crosswalk] * len(assessed)
        if crosswalk is None or isinstance(crosswalk, Crosswalk)
        else list(crosswalk)
    )
    legend = assessed[0].legend if crosswalks[0] is None else crosswalks[0].target
    mapped = [
        _codes_at(item, drawn, crosswalk=table, path=path)
        for item, table in zip(assessed, crosswalks, strict=True)
    ]
    codes = legend.codes if len(assessed) == 1 else change_legend(legend).codes
    translation = _translation(legend, crosswalks)
    return Sample.from_points(
        [str(code) for code in key["stratum"]],
        mapped[0] if len(assessed) == 1 else [change_code(a, b) for a, b in zip(*mapped, strict=True)],
        [translation.get(code, code) for code in (column.get(number, "") for number in ids)],
        sizes_px=dict(zip(strata["stratum"].astype(str), strata["size_px"].astype(int), strict=True)),
        classes=codes,
        pixel_area_ha=float(strata["pixel_area_m2"].iloc[0]) / 10_000,
        seed=int(strata["seed"].iloc[0]),
    )


def class_values_at(
    source: ClassMap, x: NDArray[np.float64], y: NDArray[np.float64], *, crs: str
) -> NDArray[np.uint8]:
    """
    Values of a map at points, 0 outside the map; each block of the file is read once.

    Parameters
    ----------
    x, y : (n,) arrays
        In `crs`, as WKT.
    """
    map_crs = raster_crs(source.grid).to_wkt()
    if pyproj.CRS.from_user_input(crs) != pyproj.CRS.from_user_input(map_crs):
        x, y = pyproj.Transformer.from_crs(crs, map_crs, always_xy=True).transform(x, y)
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
    """Rows of the drawn points, in the order of `ids`; `points` may have been edited."""
    lost, added = sorted(set(ids) - set(points["sample_id"])), sorted(set(points["sample_id"]) - set(ids))
    if added:
        raise InputError(
            f"{where}: sample_id {join_words(added, most=6)} was not drawn (table 'key'): points placed by hand "
            f"are no random sample. Remove them, or restore the table."
        )
    if lost:
        raise InputError(
            f"{where}: {len(lost)} of the {len(ids)} points drawn are missing (sample_id {join_words(lost, most=6)}); "
            f"the rest does not represent the map. Restore them, with an empty `reference` if there is no response."
        )
    return points.set_index("sample_id").loc[list(ids)]


def _codes_at(
    source: ClassMap, drawn: pd.DataFrame, *, crosswalk: Crosswalk | None, path: str | Path
) -> list[str]:
    table, legend = stratum_table(source.legend, crosswalk)
    x, y = drawn["x"].to_numpy(np.float64), drawn["y"].to_numpy(np.float64)
    values = table[class_values_at(source, x, y, crs=drawn.crs.to_wkt())]
    lost = int((values == NODATA).sum())
    if lost:
        raise InputError(
            f"{source.path} has no class at {lost} of the {len(x)} points of {path}: the sample does not "
            f"represent this map. Draw one within the area of the map."
        )
    codes = {item.value: item.code for item in legend.classes}
    return [codes[int(value)] for value in values]


def _read_responses(path: str | Path, field: str) -> pd.DataFrame:
    """Responses in another file: the points of a copied sample, or any table with sample_id and the field."""
    import pandas as pd
    import pyogrio

    if Path(path).suffix.lower() in (".gpkg", ".sqlite", ".geojson", ".shp", ".fgb"):
        if not Path(path).exists():
            raise InputError(f"{path}: no such file.")
        several = Path(path).suffix.lower() == ".gpkg" and len(pyogrio.list_layers(path)) > 1
        return read_table(path, layer=LAYER if several else None)
    rows = read_rows(path, columns=("sample_id", field.casefold()), kind="response")
    return pd.DataFrame(
        [
            (row["sample_id"], row[field.casefold()])
            for row in rows
            if row["sample_id"] or row[field.casefold()]
        ],
        columns=["sample_id", field],
    )


def _column(table: pd.DataFrame, field: str, *, where: str | Path) -> dict[int, str]:
    """Responses by sample_id, as text; empty where there is none."""
    fields = [str(name) for name in table.columns]
    id_field, field = (find_field(name, fields, where=where) for name in ("sample_id", field))
    texts = code_texts(table[id_field])
    odd = sorted({text for text in texts if not text.isdecimal()})
    if odd:
        raise InputError(
            f"{where}: a sample_id is no number ({join_words(map(repr, odd), most=3)}). Copy them from the sample."
        )
    ids = [int(text) for text in texts]
    twice = sorted({number for number in ids if ids.count(number) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise InputError(
            f"{where}: sample_id {join_words(twice)} is there twice; each point has one response."
        )
    codes = ["" if code == NO_CODE else str(code) for code in code_texts(table[field])]
    return dict(zip(ids, codes, strict=True))


def _translation(legend: Legend, crosswalks: Sequence[Crosswalk | None]) -> dict[str, str]:
    """From the codes allowed in a response to those of the assessed legend, or of its changes."""
    by_value = {item.value: item.code for item in legend.classes}
    own = {code: code for code in legend.codes}
    sides = [
        {
            code: by_value[value]
            for code, value in (table.main_target if table else {}).items()
            if value != NODATA
        }
        | own
        for table in crosswalks
    ]
    if len(sides) == 1:
        return sides[0]
    return {
        change_code(a, b): change_code(first, last)
        for a, first in sides[0].items()
        for b, last in sides[1].items()
    }
