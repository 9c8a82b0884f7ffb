"""Tables of labelled series: one CSV, one row a series, with its class and a column for each band and month."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words

_COLUMN = re.compile(r"(?P<band>.+?)[_.-](?P<month>0?[1-9]|1[0-2])$")
_CLASS, _PIXEL = "class", "pixel"


@dataclass(frozen=True, eq=False)
class SeriesTable:
    """Series of pixels of one class each."""

    values: NDArray[np.float32]
    """(series, months, bands), NaN for gaps."""
    months: tuple[int, ...]
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """(series,) position of the class."""
    pixels: NDArray[np.int64]
    """(series,) number of the pixel: several years of one pixel have the same."""


def read_series_table(path: str | Path) -> SeriesTable:
    """
    Read a CSV of labelled series.

    The column "class" names the class, and each other column of the form BAND_MONTH, such as ``ndvi_01``, holds the
    values of a band in a month, in the unit of the cube. Empty cells are gaps. Rows with the same "pixel", an optional
    column, are years of one pixel. Further columns are skipped.

    Raises
    ------
    InputError
        If there is no class, no value column, a band lacks a month, or a cell is not a number.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            names, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}).") from None
    columns = {name: match for name in names if (match := _COLUMN.fullmatch(name))}
    if _CLASS not in names or not columns or not rows:
        raise InputError(
            f"{path}: holds {len(rows)} rows of {join_words(names) or 'nothing'}; a column 'class' and columns such "
            f"as ndvi_01 to ndvi_12 were needed."
        )
    bands = tuple(dict.fromkeys(match["band"] for match in columns.values()))
    months = tuple(sorted({int(match["month"]) for match in columns.values()}))
    places = {(match["band"], int(match["month"])): name for name, match in columns.items()}
    lacking = [f"{band}_{month:02d}" for band in bands for month in months if (band, month) not in places]
    if lacking:
        raise InputError(
            f"{path}: lacks the columns {join_words(lacking)}; every band needs the same months."
        )
    values = np.full((len(rows), len(months), len(bands)), np.nan, np.float32)
    for (band, month), name in places.items():
        for number, row in enumerate(rows):
            cell = (row[name] or "").strip()
            try:
                values[number, months.index(month), bands.index(band)] = float(cell) if cell else np.nan
            except ValueError:
                raise InputError(
                    f"{path}: '{cell}' in row {number + 2}, column {name}, is no number."
                ) from None
    names_of_class = [(row[_CLASS] or "").strip() for row in rows]
    classes = tuple(dict.fromkeys(names_of_class))
    keys = [row.get(_PIXEL) or f"row {number}" for number, row in enumerate(rows)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return SeriesTable(
        values,
        months,
        bands,
        classes,
        np.array([classes.index(name) for name in names_of_class], np.int64),
        np.array([numbers[key] for key in keys], np.int64),
    )
