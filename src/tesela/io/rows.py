"""Rows of a table of text as spreadsheets and people save it: CSV of any separator and encoding, xlsx, ods, parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.core.plain_text import without_apostrophe

Row = list[str]

_SEPARATORS = (",", ";", "\t", "|")
_TITLE_ROWS = 20
"""The header is looked for in so many rows: people write titles above their tables."""

_WHOLE = re.compile(r"([+-]?\d+)[.,]0*")


def read_rows(
    path: str | Path,
    *,
    columns: Sequence[str] = (),
    kind: str = "table",
    error: type[InputError] = InputError,
) -> list[dict[str, str]]:
    """
    Read a table with a header.

    Separator and encoding are found out (UTF-8, UTF-16, else Windows-1252); of several sheets, the one with the
    columns is read. Names of columns are compared without case. Whole numbers lose their decimals (112.0, as a
    spreadsheet saves 112 in a column with gaps), blanks around cells are stripped, and empty rows are skipped.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.tsv`` or ``.txt``; ``.xlsx``; ``.ods``; ``.parquet``.
    columns : sequence of str
        Names of the columns that must be there, in lower case.
    kind : str
        What the table is, for messages.
    error : type
        Class of the errors that are raised.

    Returns
    -------
    list of dict of str to str
        One for each row, by name of the column in lower case; a missing cell is the empty text.

    Raises
    ------
    InputError
        If the file is missing or cannot be read, or lacks a column.
    """
    file = Path(path)
    if not file.is_file():
        raise error(f"The {kind} file {path} does not exist.")
    try:
        tables = _tables(file, columns)
    except (OSError, ValueError, KeyError, csv.Error) as cause:
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise error(f"The {kind} file {path} cannot be read ({reason}). Save it as CSV in UTF-8.") from None
    found = [(name, rows, _header_at(rows, columns)) for name, rows in tables]
    fitting = [(rows, at) for _, rows, at in found if at is not None]
    if not fitting:
        first = next((row for _, rows, _ in found for row in rows if any(row)), [])
        sheets = (
            f" in any of its sheets ({join_words(name for name, _, _ in found)})" if len(found) > 1 else ""
        )
        lacking = [name for name in columns if name not in [cell.casefold() for cell in first]]
        shown = join_words((repr(cell) for cell in first), most=8) or "empty"
        raise error(
            f"The {kind} file {path} has no column {join_words(lacking or columns)}{sheets}; its first row is {shown}. "
            "Columns are separated by commas, semicolons or tabs."
        )
    rows, at = fitting[0]
    names = [cell.casefold() for cell in rows[at]]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise error(f"The {kind} file {path} has the column {join_words(twice)} twice; keep one of them.")
    return [
        {name: _cell(row, index) for index, name in enumerate(names) if name}
        for row in rows[at + 1 :]
        if any(row)
    ]


def read_text(path: str | Path) -> str:
    """
    Text of a file in UTF-8 or UTF-16, else Windows-1252.

    Raises
    ------
    ValueError
        If the file is not text.
    """
    data = Path(path).read_bytes()
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding)
    head = data[:1000]
    if len(head) > 3 and head[1::2].count(0) > 0.4 * len(head):
        return data.decode("utf-16-le")
    if len(head) > 3 and head[::2].count(0) > 0.4 * len(head):
        return data.decode("utf-16-be")
    if b"\0" in data:
        raise ValueError("it is not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def decimal_number(text: str) -> float:
    """
    A number with a decimal point or comma.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> decimal_number("0,25"), decimal_number("1e-3")
    (0.25, 0.001)
    """
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _cell(row: Row, index: int) -> str:
    return row[index] if index < len(row) else ""


def _clean(cell: object) -> str:
    if cell is None or cell != cell:  # NaN
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    text = str(cell).strip().strip("\ufeff\u200b")
    match = _WHOLE.fullmatch(text)
    return match[1] if match else without_apostrophe(text)


def _cleaned(rows: Iterable[Iterable[object]]) -> list[Row]:
    return [[_clean(cell) for cell in row] for row in rows]


def _header_at(rows: list[Row], columns: Sequence[str]) -> int | None:
    """The row that names all columns; without any, the first one that is not empty."""
    for number, row in enumerate(rows[:_TITLE_ROWS]):
        names = {cell.casefold() for cell in row}
        if set(columns) <= names if columns else any(row):
            return number
    return None


def _tables(file: Path, columns: Sequence[str]) -> list[tuple[str, list[Row]]]:
    """Tables of a file, by name of the sheet."""
    suffix = file.suffix.lower()
    if suffix in (".xlsx", ".xlsm"):
        return _sheets(file)
    if suffix == ".ods":
        return _open_document(file)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        frame = pq.read_table(file).to_pandas(ignore_metadata=True)
        return [("", _cleaned([list(frame.columns), *frame.astype(object).to_numpy().tolist()]))]
    if suffix == ".xls":
        raise ValueError("the format of Excel before 2007")
    return [("", _separated(read_text(file), columns))]


def _separated(text: str, columns: Sequence[str]) -> list[Row]:
    """Rows of a CSV; the separator is the one that Excel states, else that under which the header has all columns."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        return _cleaned(csv.reader(io.StringIO(rest), delimiter=first.strip()[4]))
    tries = []
    for separator in _SEPARATORS:
        rows = _cleaned(csv.reader(io.StringIO(text), delimiter=separator))
        at = _header_at(rows, columns)
        head = rows[at] if at is not None else next((row for row in rows if any(row)), [])
        tries.append((at is not None, len(head), rows))
    best = max(tries, key=lambda item: item[:2])
    return best[2]


def _sheets(file: Path) -> list[tuple[str, list[Row]]]:
    import warnings
    import zipfile

    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = load_workbook(file, read_only=True, data_only=True)
            tables = [(sheet.title, _cleaned(sheet.iter_rows(values_only=True))) for sheet in book.worksheets]
            book.close()
    except (zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise ValueError(f"no workbook of Excel: {error}") from None
    return tables


def _open_document(file: Path) -> list[tuple[str, list[Row]]]:
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        tables = []
        for name in [str(name) for name, _ in pyogrio.list_layers(file)]:
            frame = pyogrio.read_dataframe(file, layer=name, HEADERS="FORCE", read_geometry=False)
            tables.append((name, _cleaned([list(frame.columns), *frame.astype(object).to_numpy().tolist()])))
    except (DataSourceError, DataLayerError) as error:
        raise ValueError(str(error)) from None
    return tables
