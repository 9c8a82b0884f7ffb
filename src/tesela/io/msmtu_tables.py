"""CSV files of Andalusia-MSMTU: shares by partition, and ancillary variables, of numbered pixels."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.core.legend import Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend

PARTITIONS = ("train", "validation", "test")

CLASS_CODES: Mapping[int, Mapping[str, str]] = {
    1: {"1": "artificial", "2": "agricultural-lands", "4": "terrestrial-lands", "5": "wetlands"},
    2: {row.code: row.to for row in open_crosswalk("sipna-codes", open_legend("sipna-2")).rows},
}
"""Published class codes by level, and our codes of legend "sipna"; level 2 is the crosswalk sipna-codes__sipna."""

_NUMBER, _LARGEST = "square_id", "Class_max"
_COVERED = (0.5, 1.01)
"""Least and most that the shares of a pixel may sum to: a part of it may have no class."""
_TIE = 0.01
"""Shares this near to each other may both be called the largest."""


@dataclass(frozen=True)
class PixelCsv:
    """Rows of a CSV, by the number of their pixel."""

    file: Path
    columns: tuple[str, ...]
    rows: Mapping[int, Mapping[str, str]]

    def number(self, pixel: int, column: str) -> float:
        """Value of a cell; NaN where it is empty."""
        text = self.rows[pixel][column].strip()
        try:
            return float(text) if text else math.nan
        except ValueError:
            raise InputError(
                f"{self.file}: '{text}' of pixel {pixel}, column {column}, is no number."
            ) from None


def read_pixel_csv(file: Path) -> PixelCsv | None:
    """
    Read a CSV with a column of pixel numbers, "square_id" or one without a name; None if there is no such column.

    Raises
    ------
    InputError
        If it is no text, a row has too few or too many cells, a number is broken, or a pixel or column occurs twice.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as content:
            lines = [line for line in csv.reader(content) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error}).") from None
    if len(lines) < 2:
        return None
    header = [name.strip() for name in lines[0]]
    if _NUMBER not in header and "" in header:
        header[header.index("")] = _NUMBER
    if _NUMBER not in header:
        if _is_labels(file):
            raise InputError(f"{file}: has no column {_NUMBER}; its columns are {join_words(header)}.")
        return None
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{file}: column {join_words(twice)} occurs twice; names must differ.")
    rows: dict[int, dict[str, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise InputError(
                f"{file}: row {number} has {len(line)} cells, the header {len(header)}. Was the file cut off?"
            )
        row = dict(zip(header, line, strict=True))
        try:
            pixel = pixel_number(row[_NUMBER])
        except ValueError:
            raise InputError(
                f"{file}: '{row[_NUMBER]}' of row {number} is no number of a pixel ({_NUMBER})."
            ) from None
        if pixel in rows:
            raise InputError(f"{file}: pixel {pixel} occurs twice; keep one of its rows.")
        rows[pixel] = row
    return PixelCsv(file, tuple(header), rows)


def pixel_number(value: object) -> int:
    """
    Read the number of a pixel, "236" or "0000236" or 236.0; else ValueError.

    Examples
    --------
    >>> pixel_number("0000236"), pixel_number(239.0)
    (236, 239)
    """
    number = float(str(value))
    if not (math.isfinite(number) and number == int(number) and 0 <= number < 1 << 53):
        raise ValueError(f"{value} is no whole number")
    return int(number)


def shares_of(
    tables: Sequence[PixelCsv], rows: Mapping[int, int], *, level: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """
    Shares and partitions of pixels at one level.

    Parameters
    ----------
    tables : sequence of PixelCsv
        Those named after partitions of the level count; others are skipped.
    rows : mapping of int to int
        Row of each pixel in the result; other pixels are skipped.

    Returns
    -------
    shares : (pixels, classes) array of float32
        Scaled to sum to 1; NaN where a pixel has none.
    splits : (pixels,) array of uint8
        Partition, 255 where a pixel is in none.

    Raises
    ------
    InputError
        If a class has no column, shares are broken, a pixel is in two partitions, or no pixel has shares.
    """
    legend, codes = open_legend(f"sipna-{level}"), CLASS_CODES[level]
    shares = np.full((len(rows), len(legend)), np.nan, np.float32)
    splits = np.full(len(rows), 255, np.uint8)
    named = [
        table for table in tables if _is_labels(table.file) and f"level_{level}" in table.file.as_posix()
    ]
    for table in named:
        columns = _class_columns(table, legend, codes)
        for pixel in table.rows:
            k = rows.get(pixel)
            if k is None:
                continue
            if splits[k] != 255:
                raise InputError(
                    f"{table.file}: pixel {pixel} is also in the partition {PARTITIONS[splits[k]]}; a pixel "
                    f"belongs to one."
                )
            shares[k] = _shares_of_pixel(table, pixel, columns, legend, codes)
            splits[k] = PARTITIONS.index(table.file.stem)
    if named and (splits == 255).all():
        raise InputError(
            f"{named[0].file.parent}: holds shares of none of the pixels that have a series. Are both of one data set?"
        )
    return shares, splits


def ancillary_of(
    tables: Sequence[PixelCsv], rows: Mapping[int, int]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Ancillary variables by name, of each pixel, from tables of that folder or with longitude and latitude."""
    for table in tables:
        if table.file.parent.name == "ancillary" or {"longitude", "latitude"} <= set(table.columns):
            names = [name for name in table.columns if name not in (_NUMBER, "")]
            for pixel in table.rows:
                if pixel in rows:
                    yield pixel, {name: table.number(pixel, name) for name in names}


def _is_labels(file: Path) -> bool:
    return file.stem in PARTITIONS and "level_" in file.as_posix()


def _shares_of_pixel(
    table: PixelCsv, pixel: int, columns: Sequence[str], legend: Legend, codes: Mapping[str, str]
) -> NDArray[np.float64]:
    shares = np.array([table.number(pixel, name) for name in columns])
    total = float(shares.sum())
    unit = 100 if total > 2 else 1  # some tables are in per cent
    least, most = _COVERED
    if not (np.isfinite(shares).all() and shares.min() >= 0 and least <= total / unit <= most):
        raise InputError(
            f"{table.file}: the shares of pixel {pixel} are {join_words(f'{share:g}' for share in shares)}; none may "
            f"be lacking or negative, and they must sum to 1 (or 100), at least to {least:g} of it."
        )
    shares /= total
    largest = table.rows[pixel].get(_LARGEST, "").strip().removesuffix(".0")
    if largest in codes and shares[legend.codes.index(codes[largest])] < shares.max() - _TIE:
        raise InputError(
            f"{table.file}: {_LARGEST} of pixel {pixel} is {largest}, but its largest share is that of "
            f"'{columns[int(shares.argmax())]}'. Were columns moved or renamed?"
        )
    return shares


def _class_columns(table: PixelCsv, legend: Legend, codes: Mapping[str, str]) -> list[str]:
    """Column of each class of the legend, by published code, our code or our name."""
    by_name = {name.lower(): name for name in table.columns}
    published = {name: code for code, name in codes.items()}
    columns, lacking = [], []
    for item in legend.classes:
        for key in (published[item.code], item.code, item.name.lower()):
            if key in by_name:
                columns.append(by_name[key])
                break
        else:
            lacking.append(f"{published[item.code]} ({item.name})")
    if lacking:
        raise InputError(
            f"{table.file}: has no column for {join_words(lacking)}; its columns are {join_words(table.columns)}."
        )
    return columns
