"""TimeSpec4LULC as published: monthly series of labelled pixels, as JSON or CSV, without positions on a grid."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.io.manifest import write_text
from tesela.io.msmtu import BANDS

_SCALE = 10_000.0
_MONTHS = 12
_BAND = re.compile(r"(?:band|b|refl_b)_?0*([1-7])(?!\d)", re.IGNORECASE)
_MONTH = re.compile(r"(\d{4})[-_]?(0[1-9]|1[0-2])")
_KEY = "IdOfThePixel"


@dataclass(frozen=True, eq=False)
class LabelledSeries:
    """Twelve-month windows of labelled pixels."""

    values: NDArray[np.float32]
    """(windows, 12, 7) reflectance, NaN for gaps."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the files."""
    labels: NDArray[np.int64]
    """(windows,) position of the class of each."""
    pixels: NDArray[np.int64] | None = None
    """(windows,) number of the pixel of each: all years of a pixel have one; None: each window is its own pixel."""

    def __len__(self) -> int:
        return len(self.values)


def read_timespec(folder: str | Path) -> LabelledSeries:
    """
    Read the published files: one JSON per class, or one folder per class with one CSV per band or per month.

    A class is named after its file or folder, without the number or letter before its name. The series (262 months,
    March 2000 to December 2021) are cut into windows of twelve from the end, so each is a calendar year; months before
    the first whole year are dropped. Of CSVs, columns or files are sorted by their months ("2000_03"), and those after
    the last December are dropped too.

    Raises
    ------
    InputError
        If there are no such files, one is broken, or no series has twelve months.
    """
    root = Path(folder)
    series: dict[str, list[NDArray[np.float32]]] = {}
    for file in sorted(root.rglob("*.json")):
        series.setdefault(class_name(file.stem), []).append(_read_json(file))
    by_class: dict[Path, list[Path]] = {}
    for file in sorted(root.rglob("*.csv")):
        if _BAND.search(file.stem) or _MONTH.search(file.stem):
            by_class.setdefault(file.parent, []).append(file)
    for parent, files in by_class.items():
        read = _read_bands if all(_BAND.search(file.stem) for file in files) else _read_months
        series.setdefault(class_name(parent.name), []).append(read(parent, files))
    if not series:
        raise InputError(
            f"{folder}: holds neither JSON nor CSV series of TimeSpec4LULC. Give the unpacked folder."
        )
    windows = {name: np.concatenate([_windows(part) for part in parts]) for name, parts in series.items()}
    short = [name for name, part in windows.items() if not len(part)]
    if short:
        raise InputError(f"{folder}: the series of {join_words(short)} are shorter than twelve months.")
    years = [part.shape[1] // _MONTHS for parts in series.values() for part in parts for _ in part]
    return LabelledSeries(
        values=np.concatenate(list(windows.values())),
        classes=tuple(windows),
        labels=np.concatenate([np.full(len(part), k) for k, part in enumerate(windows.values())]),
        pixels=np.repeat(np.arange(len(years)), years),
    )


def write_timespec(series: LabelledSeries, folder: str | Path) -> Path:
    """Write one JSON per class in the published layout; each window is a pixel."""
    root = Path(folder)
    for k, name in enumerate(series.classes):
        pixels = []
        for values in series.values[series.labels == k].astype(np.float64) * _SCALE:
            seen = np.isfinite(values)
            pixels.append(
                {
                    "Pixel_Metadata": {
                        "Temporal_Availability_Percentage": {
                            band: 100 * float(seen[:, b].mean()) for b, band in enumerate(BANDS)
                        }
                    },
                    "Pixel_TS": {
                        band: [
                            value if there else None
                            for value, there in zip(values[:, b].tolist(), seen[:, b], strict=True)
                        ]
                        for b, band in enumerate(BANDS)
                    },
                }
            )
        write_text(root / f"{k + 1}{name}.json", json.dumps({"Pixels": pixels}))
    return root


def class_name(text: str) -> str:
    """
    Name of a class, without its number.

    Examples
    --------
    >>> class_name("12_DenseForest"), class_name("4Urban")
    ('DenseForest', 'Urban')
    """
    return re.sub(r"^[A-Z]?\d+[_\s.-]*", "", text).strip("_ ") or text


def _read_json(file: Path) -> NDArray[np.float32]:
    """(pixels, months, 7) reflectance."""
    try:
        pixels = json.loads(file.read_text(encoding="utf-8"))["Pixels"]
        parts = [
            _stack({band: _numbers(column) for band, column in pixel["Pixel_TS"].items()}, file)
            for pixel in pixels
        ]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: is no file of TimeSpec4LULC ({type(error).__name__}: {error}).") from None
    if not parts or len({part.shape for part in parts}) > 1:
        raise InputError(f"{file}: holds no pixels, or series of unequal length.")
    return np.stack(parts)


def _read_bands(parent: Path, files: Sequence[Path]) -> NDArray[np.float32]:
    """(pixels, months, 7) of the pixels that all bands have, from one CSV per band."""
    tables: dict[str, dict[str, NDArray[np.float32]]] = {}
    spans = set()
    for file in files:
        match = _BAND.search(file.stem)
        assert match is not None
        band = f"b{match[1]}"
        if band in tables:
            raise InputError(f"{file}: is a second file of band {match[1]}; one is needed.")
        months, tables[band] = _read_band(file)
        spans.add(months)
    if len(spans) > 1:
        raise InputError(f"{parent}: its bands do not have the same months.")
    shared = [key for key in next(iter(tables.values())) if all(key in table for table in tables.values())]
    if not shared:
        raise InputError(f"{parent}: its bands share no pixel.")
    series = np.stack(
        [_stack({band: table[key] for band, table in tables.items()}, parent) for key in shared]
    )
    return _until_december(series, months)


def _read_months(parent: Path, files: Sequence[Path]) -> NDArray[np.float32]:
    """(pixels, months, 7) of the pixels that all months have, from one CSV per month with a column per band."""
    tables: dict[int, dict[str, NDArray[np.float32]]] = {}
    for file in files:
        match = _MONTH.search(file.stem)
        if match is None:
            raise InputError(f"{file}: its name holds no month, such as 2000_03; other names beside it do.")
        rows = _read_rows(file)
        bands = [name for name in rows[0] if _BAND.fullmatch((name or "").removeprefix("sur_"))]
        number = int(match[1]) * _MONTHS + int(match[2])
        if number in tables:
            raise InputError(f"{file}: is a second file of its month; one is needed.")
        try:
            tables[number] = {
                row[_KEY]: _stack({name: _numbers([row[name]]) for name in bands}, file)[0] for row in rows
            }
        except ValueError as error:
            raise InputError(f"{file}: {error}.") from None
    months = _consecutive(parent, tables)
    shared = [key for key in tables[months[0]] if all(key in tables[number] for number in months)]
    if not shared:
        raise InputError(f"{parent}: its months share no pixel.")
    return _until_december(
        np.stack([np.stack([tables[number][key] for number in months]) for key in shared]), months
    )


def _consecutive(where: Path, numbers: Iterable[int]) -> tuple[int, ...]:
    """Months in order, counted from year 0."""
    months = tuple(sorted(numbers))
    if months != tuple(range(months[0], months[0] + len(months))):
        raise InputError(
            f"{where}: its {len(months)} months, from {_month_text(months[0])} to {_month_text(months[-1])}, have "
            f"gaps or occur twice."
        )
    return months


def _month_text(number: int) -> str:
    return f"{(number - 1) // _MONTHS}-{(number - 1) % _MONTHS + 1:02d}"


def _until_december(series: NDArray[np.float32], months: Sequence[int]) -> NDArray[np.float32]:
    ends = [number for number in months if number % _MONTHS == 0]
    return series[:, : ends[-1] - months[0] + 1] if ends else series[:, :0]


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV of pixels; each pixel occurs once."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as content:
            rows = list(csv.DictReader(content))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error}).") from None
    if not rows or _KEY not in rows[0]:
        raise InputError(f"{file}: has no column {_KEY}.")
    keys = [row[_KEY] for row in rows]
    twice = sorted({key for key, times in Counter(keys).items() if times > 1})
    if twice:
        raise InputError(f"{file}: pixel {join_words(twice, most=3)} occurs twice; keep one of its rows.")
    return rows


def _read_band(file: Path) -> tuple[tuple[int, ...], dict[str, NDArray[np.float32]]]:
    """Months, counted from year 0, and the series of each pixel, in their order."""
    rows = _read_rows(file)
    dated = {name: match for name in rows[0] if (match := _MONTH.search(name or ""))}
    if not dated:
        raise InputError(f"{file}: has no columns of months, such as 2000_03; it has {join_words(rows[0])}.")
    number = {name: int(match[1]) * _MONTHS + int(match[2]) for name, match in dated.items()}
    months = _consecutive(file, number.values())
    names = sorted(number, key=number.__getitem__)
    series: dict[str, NDArray[np.float32]] = {}
    for row in rows:
        try:
            series[row[_KEY]] = _numbers([row[name] for name in names])
        except ValueError as error:
            raise InputError(f"{file}: pixel {row[_KEY]}: {error}.") from None
    return months, series


def _stack(columns: Mapping[str, NDArray[np.float32]], where: Path) -> NDArray[np.float32]:
    by_number: dict[str, NDArray[np.float32]] = {}
    for band, column in columns.items():
        match = _BAND.search(band)
        if match is None:
            continue
        if match[1] in by_number:
            raise InputError(f"{where}: band {match[1]} occurs twice; it has {join_words(columns)}.")
        by_number[match[1]] = column
    lacking = [str(number) for number in range(1, 8) if str(number) not in by_number]
    if lacking:
        raise InputError(f"{where}: lacks band {join_words(lacking)}; it has {join_words(columns)}.")
    return np.stack([by_number[str(number)] for number in range(1, 8)], axis=-1)


def _numbers(column: Sequence[object]) -> NDArray[np.float32]:
    """Reflectance; empty cells, text and values out of the valid range are gaps."""
    values = np.array(
        [float("nan") if item in (None, "", "NA", "nan") else float(str(item)) for item in column]
    )
    values[(values < -100) | (values > 16_000)] = np.nan
    return (values / _SCALE).astype(np.float32)


def _windows(series: NDArray[np.float32]) -> NDArray[np.float32]:
    count = series.shape[1] // _MONTHS
    kept = series[:, series.shape[1] - count * _MONTHS :]
    return kept.reshape(len(series) * count, _MONTHS, series.shape[2])
