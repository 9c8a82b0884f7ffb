"""PNOA: what the name of a Spanish orthophoto says of its sheet, its zone and its year."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words

_NAME = re.compile(
    r"PNOA_(?P<year>MA|\d{4})_OF_ETRS89_HU(?P<zone>28|29|30|31)_h(?P<series>50|25)_(?P<sheet>\d{4})"
    r"(?:_(?P<quarter>[1-4]))?(?:\..+)?",
    re.IGNORECASE,
)

_EPSG = {28: (25828, 4083), 29: (25829,), 30: (25830,), 31: (25831,)}
"""EPSG codes by UTM zone, the one of the name first; the Canaries' files may say REGCAN95 instead of ETRS89."""


@dataclass(frozen=True)
class PnoaName:
    """
    What a file name says, such as ``PNOA_MA_OF_ETRS89_HU30_h25_0559_1.tif``.

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
        """Read a file name; None where it is not PNOA's."""
        found = _NAME.fullmatch(PurePath(path).name)
        if found is None:
            return None
        year, quarter = found["year"], found["quarter"]
        return cls(
            sheet=found["sheet"],
            quarter=None if quarter is None else int(quarter),
            zone=int(found["zone"]),
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
    Compare the zone that a file name tells with the CRS of the file.

    Raises
    ------
    GridError
        If they differ: the file was reprojected or got a wrong CRS, which nothing else would show.
    """
    name = PnoaName.parse(path)
    if name is None or grid.crs is None:
        return name
    if grid.crs.epsg is not None and int(grid.crs.epsg) not in _EPSG[name.zone]:
        raise GridError(
            f"{path}: the name says UTM zone {name.zone} (EPSG:{name.epsg}), the file is in EPSG:{grid.crs.epsg}. "
            f"Give it its own CRS (gdal_edit.py -a_srs EPSG:{name.epsg}), or, if it was reprojected, another name."
        )
    return name


def check_one_sheet(paths: Iterable[str | PurePath]) -> PnoaName | None:
    """
    Check that the files of one scene are of one sheet and zone.

    Returns
    -------
    PnoaName or None
        Of the first file whose name is PNOA's.

    Raises
    ------
    InputError
        If they are of several: sheets are scenes of their own, each on its own grid.
    """
    names = [name for path in paths if (name := PnoaName.parse(path)) is not None]
    places = {(name.sheet, name.quarter, name.zone): name for name in names}
    if len(places) > 1:
        raise InputError(
            f"One scene is given files of several sheets or zones ({join_words(places.values())}). Bands of one "
            f"scene share their ground: write a [[scenes]] entry for each sheet."
        )
    return names[0] if names else None
