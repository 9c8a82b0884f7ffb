"""Table 4.1 of the common reporting tables: the transition matrix of an inventory year, and its workbook."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.accounting.trajectories import Trajectories
from tesela.core.errors import InputError, LegendError, join_words, unknown_name
from tesela.core.legend import Legend
from tesela.core.plain_text import cell_text, check_text
from tesela.io.manifest import write_whole

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

CATEGORIES: Mapping[str, str] = {
    "forest_land": "Forest land (managed)",
    "forest_land_unmanaged": "Forest land (unmanaged)",
    "cropland": "Cropland",
    "grassland": "Grassland (managed)",
    "grassland_unmanaged": "Grassland (unmanaged)",
    "wetlands": "Wetlands (managed)",
    "wetlands_unmanaged": "Wetlands (unmanaged)",
    "settlements": "Settlements",
    "other_land": "Other land",
}
"""Rows and columns in the order of the table, by the code of the category."""

NOTATION_KEYS = {
    "NO": "not occurring",
    "NE": "not estimated",
    "NA": "not applicable",
    "IE": "included elsewhere",
    "C": "confidential",
}

_SIZE = len(CATEGORIES)
_HA_PER_KHA = 1000.0

SHEET = "Table4.1"
HEADER_ROW = 8
FIRST_COLUMN = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NOTHING_KHA = 1e-12
"""Largest rounding error of sums that cancel: 10 square millimetres."""


@dataclass(frozen=True, eq=False)
class TransitionTable:
    """The transition matrix of one inventory year, with its reported sums."""

    year: int
    matrix_kha: NDArray[np.float64]
    """(9, 9): from the row's category to the column's, in the order of `CATEGORIES`; 0 in cells with a notation key."""
    initial_kha: NDArray[np.float64]
    """(9,): area at the end of the year before, the last column."""
    final_kha: NDArray[np.float64]
    """(9,): area at the end of this year, the row below the matrix."""
    keys: Mapping[tuple[int, int], str]
    """Notation keys of cells without a number."""

    @property
    def absent(self) -> tuple[int, ...]:
        """Positions of the categories that the account does not have: a key on the diagonal and no area."""
        areas = self.initial_kha + self.final_kha
        return tuple(i for i in range(_SIZE) if (i, i) in self.keys and areas[i] == 0)

    @property
    def net_kha(self) -> NDArray[np.float64]:
        """Net change of each category, (9,)."""
        return self.final_kha - self.initial_kha


def transition_table(
    trajectories: Trajectories, year: int, *, absent: Mapping[str, str] | str = "NO"
) -> TransitionTable:
    """
    Table 4.1 of an inventory year: the annual change matrix in kilohectares.

    Cells without area, of categories that the account has, are "NO".

    Parameters
    ----------
    absent : str or mapping
        Notation key of categories that the account does not have (unmanaged land), for all or by code: "NO" where
        all land is managed, "IE" where it is included in managed land.

    Raises
    ------
    LegendError
        If the categories are not those of the table.
    """
    legend = trajectories.legend
    positions = _positions(legend)
    matrix = np.zeros((_SIZE, _SIZE))
    matrix[np.ix_(positions, positions)] = trajectories.annual_changes_ha(year) / _HA_PER_KHA
    keys: dict[tuple[int, int], str] = {}
    codes = list(CATEGORIES)
    for i in range(_SIZE):
        for j in range(_SIZE):
            lacking = [codes[k] for k in (i, j) if k not in positions]
            if lacking:
                chosen = {absent if isinstance(absent, str) else absent.get(code, "NO") for code in lacking}
                keys[i, j] = "IE" if "IE" in chosen and "NO" not in chosen else sorted(chosen)[-1]
            elif matrix[i, j] == 0:
                keys[i, j] = "NO"
    unknown = sorted(set(keys.values()) - set(NOTATION_KEYS))
    if unknown:
        raise InputError(f"{unknown_name('notation key', unknown[0], NOTATION_KEYS)}")
    initial, final = np.zeros(_SIZE), np.zeros(_SIZE)
    initial[positions] = trajectories.areas_ha(year - 1) / _HA_PER_KHA
    final[positions] = trajectories.areas_ha(year) / _HA_PER_KHA
    return TransitionTable(year, matrix, initial, final, keys)


def _positions(legend: Legend) -> list[int]:
    codes = list(CATEGORIES)
    unknown = [code for code in legend.codes if code not in CATEGORIES]
    if unknown:
        raise LegendError(
            f"Table 4.1 has no row for {join_words(unknown)} of legend '{legend.address}'; its categories "
            f"are {join_words(codes)}. Give a crosswalk to them."
        )
    return [codes.index(code) for code in legend.codes]


def write_table41(
    path: str | Path,
    tables: Sequence[TransitionTable],
    *,
    title: str = "",
    sheets: Mapping[str, Sequence[Sequence[object]]] | None = None,
) -> Path:
    """
    Write the tables of all years into one workbook; the same tables give the same bytes.

    Sheet ``Table4.1`` holds the last year, ``Table4.1 2019`` and so on the earlier years. Each has its header
    in row 8, the categories in column B and numbers in kha from column C, then total unmanaged land and initial
    area; final area and net change are below the matrix.

    Parameters
    ----------
    title : str
        Country or region, for the head of the table.
    sheets : mapping, optional
        More sheets by name, as rows with the header first.
    """
    from openpyxl import Workbook

    check_text(title, what="The title")
    for values in (row for rows in (sheets or {}).values() for row in rows):
        for value in values:
            check_text(str(value), what="The text")
    if not tables:
        raise InputError("Table 4.1 needs at least one inventory year, that is two maps of different years.")
    book = Workbook()
    latest, *older = sorted(tables, key=lambda table: -table.year)
    sheet = book.active
    assert sheet is not None
    sheet.title = SHEET
    _fill(sheet, latest, title=title)
    for table in older:
        _fill(book.create_sheet(f"{SHEET} {table.year}"), table, title=title)
    for name, rows in (sheets or {}).items():
        _fill_rows(book.create_sheet(name), rows)
    for page in book.worksheets:
        _without_formulas(page)
    with write_whole(path) as part:
        part.write_bytes(_same_bytes(book))
    return Path(path)


def read_table41(path: str | Path, *, sheet: str = SHEET) -> TransitionTable:
    """
    Read Table 4.1 of a workbook, written by `write_table41` or submitted in the same layout.

    Text cells are notation keys and count as 0.

    Raises
    ------
    InputError
        If the file, the sheet or the matrix is missing.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, data_only=True)
    except (OSError, InvalidFileException, zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path} is no readable workbook ({error}).") from None
    if sheet not in book.sheetnames:
        raise InputError(f"{path}: {unknown_name('sheet', sheet, book.sheetnames)}")
    page = book[sheet]
    block = [
        [page.cell(HEADER_ROW + 1 + i, FIRST_COLUMN + j).value for j in range(_SIZE + 3)]
        for i in range(_SIZE + 1)
    ]
    if block[0][0] is None or not str(block[0][0]).lower().startswith("forest"):
        raise InputError(
            f"{path}: cell B{HEADER_ROW + 1} of {sheet} holds {block[0][0]!r}; in Table 4.1 it holds "
            f"'Forest land'."
        )
    cells = [row[1 : _SIZE + 1] for row in block]
    numbers = np.array([[_number(cell) for cell in row] for row in cells])
    keys = {
        (i, j): cell.strip()
        for i, row in enumerate(cells[:_SIZE])
        for j, cell in enumerate(row)
        if isinstance(cell, str)
    }
    initial = np.array([_number(row[_SIZE + 2]) for row in block[:_SIZE]])
    head = " ".join(str(page.cell(r, c).value) for r in range(1, HEADER_ROW) for c in range(1, 14))
    year = re.search(r"Inventory ((?:19|20)\d\d)\b", head) or re.search(r"\b((?:19|20)\d\d)\b", head)
    return TransitionTable(int(year[1]) if year else 0, numbers[:_SIZE], initial, numbers[_SIZE], keys)


def _fill(sheet: Worksheet, table: TransitionTable, *, title: str) -> None:
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
    from openpyxl.utils import get_column_letter

    bold, line = Font(name="Calibri", bold=True), Side(style="thin", color="999999")
    labels = list(CATEGORIES.values())
    sheet["B1"] = "TABLE 4.1 LAND TRANSITION MATRIX"
    sheet["B2"] = "Areas and changes in areas between the previous and the current inventory year"
    sheet["B3"], sheet["B4"] = title, f"Inventory {table.year}"
    sheet["B6"] = "kha; NO not occurring, NE not estimated, NA not applicable, IE included elsewhere"
    header = ["FROM: / TO:", *labels, "Total unmanaged land", "Initial area"]
    for j, text in enumerate(header):
        cell = sheet.cell(HEADER_ROW, FIRST_COLUMN + j, text)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        cell.fill = PatternFill("solid", fgColor="E8E8E8")
    unmanaged = [i for i, code in enumerate(CATEGORIES) if code.endswith("_unmanaged")]
    absent = {i: table.keys[i, i] for i in table.absent}
    for i, label in enumerate(labels):
        row = [table.keys.get((i, j), table.matrix_kha[i, j]) for j in range(_SIZE)]
        numeric = [row[j] for j in unmanaged if not isinstance(row[j], str)]
        total = table.matrix_kha[i, unmanaged].sum() if numeric else row[unmanaged[0]]
        _write_row(sheet, HEADER_ROW + 1 + i, [label, *row, total, absent.get(i, table.initial_kha[i])])
    for step, (name, numbers) in enumerate((("Final area", table.final_kha), ("Net change", table.net_kha))):
        row = [absent.get(j, numbers[j]) for j in range(_SIZE)]
        present = [j for j in unmanaged if j not in absent]
        total = numbers[unmanaged].sum() if present else absent[unmanaged[0]]
        _write_row(sheet, HEADER_ROW + 1 + _SIZE + step, [name, *row, total, numbers.sum()])
    for row_cells in sheet.iter_rows(
        HEADER_ROW, HEADER_ROW + _SIZE + 2, FIRST_COLUMN, FIRST_COLUMN + _SIZE + 2
    ):
        for cell in row_cells:
            cell.border = Border(left=line, right=line, top=line, bottom=line)
            if cell.column > FIRST_COLUMN and cell.row > HEADER_ROW:
                cell.number_format = "#,##0.0000"
                cell.alignment = Alignment(horizontal="right")
    for name in ("B1", "B4"):
        sheet[name].font = bold
    sheet.row_dimensions[HEADER_ROW].height = 44  # two or three lines in each heading
    sheet.column_dimensions["A"].width = 2
    for j in range(_SIZE + 3):
        sheet.column_dimensions[get_column_letter(FIRST_COLUMN + j)].width = 26 if j == 0 else 13
    _fit_page(sheet)
    sheet.page_setup.fitToHeight = 1


def _write_row(sheet: Worksheet, row: int, values: Iterable[str | float]) -> None:
    for j, value in enumerate(values):
        shown = value if isinstance(value, str) or abs(value) > _NOTHING_KHA else 0.0
        sheet.cell(row, FIRST_COLUMN + j, shown if isinstance(shown, str) else float(shown))


def _fill_rows(sheet: Worksheet, rows: Sequence[Sequence[object]]) -> None:
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for values in rows:
        sheet.append(
            ["" if isinstance(value, float) and not math.isfinite(value) else value for value in values]
        )
    for cell in sheet[1]:
        cell.font = Font(name="Calibri", bold=True)
    for number, cells in enumerate(sheet.iter_cols(), start=1):
        widest = max(len(str(cell.value)) for cell in cells if not isinstance(cell.value, float))
        sheet.column_dimensions[get_column_letter(number)].width = min(90, max(10, widest + 2))
        for cell in cells:
            if isinstance(cell.value, float):
                cell.number_format = "#,##0.00##"
    sheet.freeze_panes = "A2"
    sheet.print_title_rows = "1:1"
    _fit_page(sheet)


def _without_formulas(sheet: Worksheet) -> None:
    """Make text of all text: a class may be called "=1+1"."""
    for row in sheet.iter_rows():
        for cell in row:
            if isinstance(cell.value, str) and cell_text(cell.value) != cell.value:
                cell.data_type = "s"
                cell.quotePrefix = True


def _fit_page(sheet: Worksheet) -> None:
    """Print in landscape, all columns on one page, with the name of the sheet and the number of the page."""
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.paperSize = sheet.PAPERSIZE_A4
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.page_margins.left = sheet.page_margins.right = 0.4  # inches
    sheet.oddFooter.center.text = "&A, page &P of &N"


def _number(cell: object) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0


def _same_bytes(book: Workbook) -> bytes:
    """The workbook without the time of writing: the same account gives the same file."""
    raw, out = io.BytesIO(), io.BytesIO()
    book.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2000-01-01T00:00:00Z", content)
            target.writestr(zipfile.ZipInfo(item.filename, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
