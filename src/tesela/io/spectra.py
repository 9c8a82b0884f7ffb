"""Spectra in files: CSV with one value in a row."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from tesela.core.errors import InputError, join_words
from tesela.core.plain_text import cell_text
from tesela.core.spectra import Spectra
from tesela.io.manifest import write_whole

COLUMNS = ("class", "month", "band", "value")
"""Head of the file; `month` is empty for spectra that hold all year."""


def write_spectra(path: str | Path, spectra: Spectra) -> Path:
    """Write spectra as CSV, whole or not at all; missing values are left out."""
    with write_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, series in zip(spectra.names, spectra.values, strict=True):
            for month, values in zip(spectra.months, series, strict=True):
                writer.writerows(
                    (cell_text(name), month or "", cell_text(band), f"{value:.6g}")
                    for band, value in zip(spectra.bands, values, strict=True)
                    if np.isfinite(value)
                )
    return Path(path)


def read_spectra(path: str | Path) -> Spectra:
    """
    Read spectra, such as those of a library, from CSV; equal rows are averaged.

    Raises
    ------
    InputError
        If the file is missing, lacks a column, or a value is no number.
    """
    values_of: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise InputError(
                    f"{path}: lacks the columns {join_words(lacking)}; it needs {', '.join(COLUMNS)}."
                )
            for row in reader:
                try:
                    month, value = int(row["month"] or 0), float(row["value"])
                except (TypeError, ValueError):
                    raise InputError(
                        f"{path}: line {reader.line_num} has month {row['month']!r} and value {row['value']!r}; "
                        f"it needs a month from 1 to 12 or none, and a number."
                    ) from None
                if not 0 <= month <= 12 or not np.isfinite(value):
                    raise InputError(
                        f"{path}: line {reader.line_num} has month {month} and value {value:g}; "
                        f"it needs a month from 1 to 12 or none, and a finite number."
                    )
                values_of[row["class"], month, row["band"]].append(value)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no CSV in UTF-8 ({error}).") from None
    if not values_of:
        raise InputError(f"{path}: holds no spectrum.")
    names = tuple(dict.fromkeys(name for name, _, _ in values_of))
    months = tuple(sorted({month for _, month, _ in values_of}))
    bands = tuple(dict.fromkeys(band for _, _, band in values_of))
    values = np.full((len(names), len(months), len(bands)), np.nan)
    for (name, month, band), numbers in values_of.items():
        values[names.index(name), months.index(month), bands.index(band)] = np.mean(numbers)
    return Spectra(names, months, bands, values)
