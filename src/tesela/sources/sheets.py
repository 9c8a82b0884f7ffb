"""Map sheets: the outline of a sheet of the MTN50 grid, by its number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from shapely.geometry.base import BaseGeometry

from tesela.core.errors import InputError, join_words
from tesela.io.vector import open_layer, read_layer

if TYPE_CHECKING:
    import geopandas as gpd

_FIELDS = ("MTN50_CLAS", "CCFF50", "MTN50", "HOJA")
"""Fields that hold the number of a sheet, in CNIG's grid and its copies; matched without case."""

_NUMBER = re.compile(r"\d+")


def read_sheet(outlines: str | Path, number: str, *, crs: str) -> BaseGeometry:
    """
    Outline of a sheet.

    The real grid has irregular and combined sheets ("1106/1107"), so it is looked up and never computed.

    Parameters
    ----------
    outlines : path
        Layer of sheet outlines, such as CNIG's ``MTN50_ETRS89_Peninsula_Baleares_Canarias.shp``.
    number : str
        Number of the sheet, with or without leading zeros.
    crs : str
        CRS in which the outline is wanted.

    Raises
    ------
    InputError
        If the layer has no field of sheet numbers, or no such sheet.
    """
    layer = open_layer(outlines)
    names = {name.lower(): name for name in layer.fields}
    field = next((names[name.lower()] for name in _FIELDS if name.lower() in names), None)
    if field is None:
        raise InputError(
            f"{outlines}: no field holds sheet numbers (it has {join_words(layer.fields)}; known are "
            f"{join_words(_FIELDS)}). Give the sheet grid of CNIG, or bounds."
        )
    found: gpd.GeoDataFrame = read_layer(layer, columns=[field])
    wanted = _digits(number)
    rows = found[[bool(wanted & _digits(str(text))) for text in found[field]]]
    if rows.empty or not wanted:
        known = join_words(sorted(map(str, found[field])))
        raise InputError(f"{outlines}: has no sheet '{number}' (it has {known}).")
    outline: BaseGeometry = rows.to_crs(crs).geometry.union_all()
    return outline


def _digits(text: str) -> set[int]:
    """Numbers of a sheet: several for a combined one."""
    return {int(number) for number in _NUMBER.findall(text)}
