"""PNOA: sheet, zone and year in the name of a Spanish orthophoto."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from tesela.core.errors import GridError, InputError, join_words
from tesela.io.vector import open_layer, read_layer

if TYPE_CHECKING:
    import geopandas as gpd


_FIELDS = ("MTN50_CLAS", "CCFF50", "MTN50", "HOJA")
"""Fields of the sheet number, in CNIG's grid and its copies; case does not matter."""

_NUMBER = re.compile(r"\d+")


def read_sheet(outlines: str | Path, number: str, *, crs: str) -> BaseGeometry:
    """
    Outline of a sheet.

    The grid has irregular and combined sheets ("1106/1107"): outlines are looked up, not computed.

    Parameters
    ----------
    outlines : path
        Layer of sheet outlines, such as CNIG's ``MTN50_ETRS89_Peninsula_Baleares_Canarias.shp``.
    number : str
        Number of the sheet, with or without leading zeros.
    crs : str
        CRS of the returned outline.

    Raises
    ------
    InputError
        If the layer has no field of sheet numbers, or no such sheet.
    """
    layer = open_layer(outlines)
    names = {name.casefold(): name for name in layer.fields}
    field = next((names[name.casefold()] for name in _FIELDS if name.casefold() in names), None)
    if field is None:
        raise InputError(
            f"{outlines}: no field holds sheet numbers (it has {join_words(layer.fields)}; supported are "
            f"{join_words(_FIELDS)}). Give the sheet grid of CNIG, or bounds."
        )
    sheets: gpd.GeoDataFrame = read_layer(layer, columns=[field])
    wanted = _digits(number)
    rows = sheets[[bool(wanted & _digits(str(text))) for text in sheets[field]]]
    if rows.empty or not wanted:
        numbers = join_words(sorted(map(str, sheets[field])))
        raise InputError(f"{outlines}: has no sheet '{number}' (it has {numbers}).")
    outline: BaseGeometry = rows.to_crs(crs).geometry.union_all()
    return outline


def _digits(text: str) -> set[int]:
    """Numbers of a sheet: several for a combined one."""
    return {int(number) for number in _NUMBER.findall(text)}


_NAME = re.compile(
    r"PNOA_(?P<year>MA|\d{4})_OF_ETRS89_HU(?P<zone>28|29|30|31)_h(?P<series>50|25)_(?P<sheet>\d{4})"
    r"(?:_(?P<quarter>[1-4]))?(?:\..+)?",
    re.IGNORECASE,
)

_EPSG = {28: (25828, 4083), 29: (25829,), 30: (25830,), 31: (25831,)}
"""EPSG codes by UTM zone, that of the name first; files of the Canaries can be in REGCAN95 instead of ETRS89."""


@dataclass(frozen=True)
class PnoaName:
    """
    Parts of a file name, such as ``PNOA_MA_OF_ETRS89_HU30_h25_0559_1.tif``.

    Examples
    --------
    >>> name = PnoaName.parse("PNOA_MA_OF_ETRS89_HU30_h25_0559_1.tif")
    >>> name.sheet, name.quarter, name.epsg
    ('0559', 1, 25830)
    """

    sheet: str
    """MTN50 sheet, four digits."""
    quarter: int | None
    """Quarter 1 to 4 of the sheet (MTN25), or None for the whole of it."""
    zone: int
    """UTM zone, 28 to 31."""
    year: int | None
    """Year of the flight; None for the current mosaic (MA)."""

    @classmethod
    def parse(cls, path: str | PurePath) -> PnoaName | None:
        """Read a file name; None if it is not a PNOA name."""
        match = _NAME.fullmatch(PurePath(path).name)
        if match is None:
            return None
        year, quarter = match["year"], match["quarter"]
        return cls(
            sheet=match["sheet"],
            quarter=None if quarter is None else int(quarter),
            zone=int(match["zone"]),
            year=None if year.upper() == "MA" else int(year),
        )

    @property
    def epsg(self) -> int:
        """EPSG code of ETRS89 in the zone."""
        return _EPSG[self.zone][0]

    def __str__(self) -> str:
        quarter = "" if self.quarter is None else f"-{self.quarter}"
        return f"sheet {self.sheet}{quarter}, zone {self.zone}"


def check_zone(path: str | PurePath, grid: GeoBox) -> PnoaName | None:
    """
    Compare the zone in a file name with the CRS of the file.

    Raises
    ------
    GridError
        If they differ: the file was reprojected or has a wrong CRS.
    """
    name = PnoaName.parse(path)
    if name is None or grid.crs is None:
        return name
    if grid.crs.epsg is not None and int(grid.crs.epsg) not in _EPSG[name.zone]:
        raise GridError(
            f"{path}: the name has UTM zone {name.zone} (EPSG:{name.epsg}), the file is in EPSG:{grid.crs.epsg}. "
            f"Give it its own CRS (gdal_edit.py -a_srs EPSG:{name.epsg}), or, if it was reprojected, another name."
        )
    return name


def check_one_sheet(paths: Iterable[str | PurePath]) -> PnoaName | None:
    """
    Check that the files of one scene are of one sheet and zone.

    Returns
    -------
    PnoaName or None
        Name of the first file with a PNOA name.

    Raises
    ------
    InputError
        If they are of several sheets: each sheet is a scene of its own, on its own grid.
    """
    names = [name for path in paths if (name := PnoaName.parse(path)) is not None]
    sheets = {(name.sheet, name.quarter, name.zone): name for name in names}
    if len(sheets) > 1:
        raise InputError(
            f"One scene has files of several sheets or zones ({join_words(sheets.values())}). Bands of one scene "
            f"cover the same area: write a [[scenes]] entry for each sheet."
        )
    return names[0] if names else None
