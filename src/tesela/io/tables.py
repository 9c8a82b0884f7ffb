"""Tables in files: GeoPackage layers with or without geometry, and CSV."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError, unknown_name
from tesela.core.plain_text import cell_text
from tesela.io.manifest import write_whole

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def changing_rows(
    path: str | Path, *, layer: str, key: str
) -> Iterator[Callable[[object, Mapping[str, object]], None]]:
    """
    Change fields of a GeoPackage's rows in place, in one transaction: all or none, even when killed.

    Yields
    ------
    callable of (value of the field `key`, fields by name)
        Geometries and keys are never changed. Other programs that write the file wait for the change, and it
        waits for them.

    Raises
    ------
    InputError
        If the file cannot be written, or another program holds it for more than five seconds.
    """
    try:
        with closing(_connect(path)) as base:
            # triggers of the spatial index name these; they act on new geometries only, and there are none
            for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
                base.create_function(name, 1, lambda _: None)
            base.execute("PRAGMA synchronous = FULL")
            base.execute("BEGIN IMMEDIATE")

            def change(value: object, fields: Mapping[str, object]) -> None:
                parts = ", ".join(f"{_quoted(name)} = ?" for name in fields)
                base.execute(
                    f"UPDATE {_quoted(layer)} SET {parts} WHERE {_quoted(key)} = ?", (*fields.values(), value)
                )

            yield change
            base.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be changed ({error}). Is it open in another program?") from None


def copy_geopackage(source: str | Path, out: str | Path) -> None:
    """
    Copy a GeoPackage with all changes that other programs have written to its journal.

    Raises
    ------
    InputError
        If it cannot be read or written now.
    """
    try:
        with closing(_connect(source)) as base, closing(sqlite3.connect(out)) as copy:
            base.backup(copy)
    except sqlite3.Error as error:
        raise InputError(f"{source}: cannot be copied to {out} ({error}). Is the disk full?") from None


def _connect(path: str | Path) -> sqlite3.Connection:
    """Open a database that exists; create none."""
    return sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None
    )


def read_table(path: str | Path, *, layer: str | None = None) -> pd.DataFrame:
    """
    All rows of a table: a layer of a GeoPackage, a CSV, or anything else that GDAL reads.

    Parameters
    ----------
    layer : str, optional
        Needed where the file has several.

    Raises
    ------
    InputError
        If the file or the layer is not there, or cannot be read.
    """
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not Path(path).exists():
        raise InputError(f"{path}: no such file.")
    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer is not None and layer not in names:
            raise InputError(f"{path}: {unknown_name('layer', layer, names)}")
        table: pd.DataFrame = pyogrio.read_dataframe(path, layer=layer)
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path}: not a table that GDAL can read ({error}).") from None
    return table


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV with a header, whole or not at all; floats rounded by `rounded`, no text as a formula."""
    with write_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([cell_text(name) for name in columns])
        writer.writerows([cell_text(rounded(cell)) for cell in row] for row in rows)
    return Path(path)


def rounded(value: object) -> object:
    """
    Round a float to nine digits, six of them decimals where it is not tiny; other values stay.

    Examples
    --------
    >>> [rounded(number) for number in (0.1 + 0.2, 1234567.8912345, 2 / 3e7, 5)]
    [0.3, 1234567.89, 6.66667e-08, 5]
    """
    if not isinstance(value, float):
        return value
    number = float(f"{value:.9g}")
    return round(number, 6) if abs(number) >= 1e-3 else float(f"{number:.6g}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
