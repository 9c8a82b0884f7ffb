"""The composition of SIOSE AR's polygons: T_VALORES looked up by polygon, however long the table is."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tesela.core.errors import InputError
from tesela.sources.siose.geopackage import SioseFile

if TYPE_CHECKING:
    import pandas as pd


class Composition:
    """
    Rows of T_VALORES by polygon; use it in a `with` block.

    A province has millions of rows and no index on them. They are copied once, with an index, into a scratch
    database that lies on disk, so that memory does not grow with the table.
    """

    def __init__(self, file: SioseFile) -> None:
        if file.values is None:
            raise InputError(
                f"{file.path}: has no table T_VALORES, which tells what polygons are made of and their species. "
                f"Take the whole GeoPackage, or the covers of largest share (--mode majority)."
            )
        self._file = file
        self._folder = tempfile.TemporaryDirectory(prefix="tesela-siose-")
        self._base = sqlite3.connect(Path(self._folder.name) / "values.sqlite", uri=True)

    def __enter__(self) -> Self:
        columns = self._file.value_columns
        species = f'"{columns["species"]}"' if "species" in columns else "NULL"
        try:
            self._base.execute("PRAGMA journal_mode = OFF")
            self._base.execute(
                "ATTACH DATABASE ? AS siose", (f"{self._file.path.resolve().as_uri()}?mode=ro",)
            )
            self._base.execute(
                f'CREATE TABLE parts AS SELECT "{columns["polygon"]}" AS polygon, '
                f'CAST("{columns["cover"]}" AS TEXT) AS cover, CAST("{columns["share"]}" AS REAL) AS percent, '
                f'CAST({species} AS TEXT) AS species FROM siose."{self._file.values}"'
            )
            self._base.execute("CREATE INDEX by_polygon ON parts (polygon)")
            self._base.execute("CREATE TEMP TABLE wanted (polygon, number INTEGER)")
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(f"{self._file.path}: T_VALORES cannot be read ({error}).") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch database."""
        self._base.close()
        self._folder.cleanup()

    def of(self, polygons: Sequence[object]) -> pd.DataFrame:
        """
        What some polygons are made of.

        Returns
        -------
        DataFrame
            number (position in `polygons`), cover (ID_COBERTURA as text), percent, species (FF_SP as text or None).
        """
        import pandas as pd

        self._base.execute("DELETE FROM wanted")
        self._base.executemany(
            "INSERT INTO wanted VALUES (?, ?)", ((item, number) for number, item in enumerate(polygons))
        )
        rows = self._base.execute(
            "SELECT number, cover, percent, species FROM wanted JOIN parts USING (polygon) ORDER BY number, parts.rowid"
        ).fetchall()
        return pd.DataFrame(rows, columns=["number", "cover", "percent", "species"])
