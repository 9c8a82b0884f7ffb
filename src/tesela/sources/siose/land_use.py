"""Land use of SIOSE AR: HILUCS codes, which decide the LULUCF category where cover alone does not tell it."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.io.legends import use_rules
from tesela.io.vector import code_texts
from tesela.sources.siose.geopackage import SioseFile


@cache
def _rules(legend: str) -> tuple[tuple[tuple[str, ...], frozenset[str], str], ...]:
    return tuple(
        (
            tuple(text.replace(".", "") for text in row["use"].split()),
            frozenset(row["covers"].split()),
            row["to"],
        )
        for row in use_rules(legend)
    )


def decided_by_use(
    legend: str, codes: NDArray[np.object_], covers: NDArray[np.object_], uses: NDArray[np.object_]
) -> NDArray[np.object_]:
    """
    Classes with land use: where a row of the table of the legend has the cover and the use, its class counts.

    Parameters
    ----------
    legend : str
        Name of a legend with a table of uses ("lulucf"); of others the codes are returned as they are.
    codes, covers, uses : (n,) arrays of str
        Class by cover, ID_COBERTURA, and HILUCS ("411", "4_1_1" or 411); empty where not known.
    """
    out = codes.copy()
    digits = np.array([re.sub(r"\D", "", str(use)) for use in uses], object)
    undecided = codes != ""
    for prefixes, among, to in _rules(legend):
        fits = undecided & np.isin(covers.astype(str), list(among))
        fits &= np.array([text.startswith(prefixes) for text in digits], np.bool_)
        out[fits] = to
        undecided &= ~fits
    return out


class ParcelUses:
    """
    HILUCS of the largest part of each parcel, from T_USOS, for files whose polygons do not name it.

    The table is copied once, with an index, to a temporary database: memory does not grow with it.
    """

    def __init__(self, file: SioseFile) -> None:
        self._file = file
        self._folder = tempfile.TemporaryDirectory(prefix="tesela-siose-")
        self._base = sqlite3.connect(Path(self._folder.name) / "uses.sqlite", uri=True)

    def __enter__(self) -> Self:
        columns = self._file.use_columns
        area = f'"{columns["area"]}"' if "area" in columns else "0"
        try:
            self._base.execute("PRAGMA journal_mode = OFF")
            address = f"{self._file.path.resolve().as_uri()}?mode=ro"
            self._base.execute("ATTACH DATABASE ? AS siose", (address,))
            self._base.execute(
                f'CREATE TABLE uses AS SELECT "{columns["parcel"]}" AS parcel, '
                f'CAST("{columns["use"]}" AS TEXT) AS use, CAST({area} AS REAL) AS area FROM siose."{self._file.uses}"'
            )
            self._base.execute("CREATE INDEX by_parcel ON uses (parcel)")
        except sqlite3.DatabaseError as error:
            self.__exit__(None, None, None)
            raise InputError(f"{self._file.path}: T_USOS cannot be read ({error}).") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        self._folder.cleanup()

    def of(self, parcels: Sequence[object]) -> NDArray[np.object_]:
        """HILUCS of some parcels as text, "" where there is none."""
        found = {}
        for parcel in dict.fromkeys(parcels):
            row = self._base.execute(
                "SELECT use FROM uses WHERE parcel = ? ORDER BY area DESC LIMIT 1", (parcel,)
            ).fetchone()
            found[parcel] = "" if row is None or row[0] is None else str(row[0])
        return np.array([found[parcel] for parcel in parcels], object)


def uses_of(values: object) -> NDArray[np.object_]:
    """HILUCS of a column as text."""
    return code_texts(values)  # type: ignore[arg-type]  # a column


_YEAR = re.compile(r"(?<!\d)(19|20)\d{2}")


def years_of(dates: Sequence[object]) -> NDArray[np.int64]:
    """Year of each FECHA_REF ("2017-07-01", "01/07/2017", "20170701", 2017), 0 where there is none."""
    matches = [_YEAR.search(str(date)) for date in dates]
    return np.array([0 if match is None else int(match[0]) for match in matches], np.int64)
