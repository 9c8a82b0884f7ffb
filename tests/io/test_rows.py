"""Tables as spreadsheets save them: any separator, encoding, sheet and kind of cell."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from tesela.core import Crosswalk, LegendError
from tesela.core.crosswalk import CrosswalkRow
from tesela.core.errors import InputError
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.rows import read_rows

EXPECTED = [
    {"sample_id": "1", "reference": "112", "note": "Peñón, río"},
    {"sample_id": "2", "reference": "", "note": ""},
]
COLUMNS = ("sample_id", "reference")
COMMAS = 'sample_id,reference,note\n1,112,"Peñón, río"\n2,,\n'
SEMICOLONS = "SAMPLE_ID;Reference;Note;\r\n1.0;112.0;Peñón, río;\r\n2.0;;;\r\n;;;\r\n;;;\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        COMMAS,
        SEMICOLONS,
        "sep=;\r\n" + SEMICOLONS,
        SEMICOLONS.replace(";", "\t"),
        "Interpreter: Ana;;;\n\n" + SEMICOLONS,
        " sample_id ; reference ; note \n 1 ; 112,0 ; Peñón, río \n2;;\n",
    ],
    ids=["commas", "semicolons", "sep=", "tabs", "title", "blanks"],
)
def test_one_table_is_read_however_it_was_saved(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert read_rows(tmp_path / "t.csv", columns=COLUMNS) == EXPECTED


def workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize(
    "cells", [(1, 112, 2), (1.0, 112.0, 2.0), ("1", "112", "2"), ("1.0", " 112 ", "2.0")]
)
def test_workbooks_are_read_from_the_sheet_that_has_the_columns(
    tmp_path: Path, cells: tuple[object, ...]
) -> None:
    first, code, second = cells
    path = workbook(
        tmp_path / "t.xlsx",
        Readme=[["how to fill in"], ["text"]],
        Points=[
            ["Sample_ID", "REFERENCE", "Note"],
            [first, code, "Peñón, río"],
            [second, None, None],
            [None] * 3,
        ],
    )
    assert read_rows(path, columns=COLUMNS) == EXPECTED


def test_parquet_and_open_document_are_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"sample_id": [1.0, 2.0], "reference": [112.0, None], "note": ["Peñón, río", None]})
    table.to_parquet(tmp_path / "t.parquet")
    assert read_rows(tmp_path / "t.parquet", columns=COLUMNS) == EXPECTED
    import pyogrio

    pyogrio.write_dataframe(table, tmp_path / "t.ods", layer="Points", driver="ODS")
    assert read_rows(tmp_path / "t.ods", columns=COLUMNS) == EXPECTED


def test_tables_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    for path, message in (
        (tmp_path / "gone.csv", r"The answer file .*gone\.csv does not exist"),
        (
            write("a.csv", b"id;class\n1;112\n"),
            r"has no column sample_id, reference; its first row is 'id', 'class'",
        ),
        (write("b.csv", b"\x89PNG\0\0\x01\x02\xff" * 9), r"cannot be read \(it is not text\)"),
        (write("c.xlsx", b"no zip"), r"cannot be read \(no workbook of Excel"),
        (write("d.csv", b"sample_id;Reference;REFERENCE\n1;2;3\n"), "has the column reference twice"),
        (write("e.xls", b"\xd0\xcf\x11\xe0"), r"cannot be read \(the format of Excel before 2007\)"),
        (write("f.csv", b""), "its first row is empty"),
        (workbook(tmp_path / "g.xlsx", One=[["a"]], Two=[["b"]]), r"in any of its sheets \(One, Two\)"),
    ):
        with pytest.raises(InputError, match=message):
            read_rows(path, columns=COLUMNS, kind="answer")


LEGEND = "value;Code;NAME;color;\r\n1,0;forest;Bosque;#006600;\r\n2,0;other;Baldío;#cccccc;\r\n;;;;\r\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8"])
def test_legends_and_crosswalks_are_read_as_excel_saves_them(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "two.csv").write_bytes(LEGEND.encode(encoding))
    legend = open_legend(tmp_path / "two.csv")
    assert (legend.values, legend.names) == ((1, 2), ("Bosque", "Baldío"))
    rows = "From;To;Share\r\n311,0;forest;0,75\r\n311,0;other;0,25\r\n112;other;\r\n;;\r\n"
    (tmp_path / "c.csv").write_bytes(rows.encode(encoding))
    crosswalk = open_crosswalk("mine", legend, path=tmp_path / "c.csv")
    assert [(row.code, row.to, row.share) for row in crosswalk.rows] == [
        ("311", "forest", 0.75),
        ("311", "other", 0.25),
        ("112", "other", 1),
    ]


@pytest.mark.parametrize(
    "shares", [("1.5", "-0.5"), ("nan", "0.5"), ("nan", "nan"), ("inf", "-inf"), ("1e400", "0")]
)
def test_shares_that_are_no_parts_of_one_are_refused(tmp_path: Path, shares: tuple[str, str]) -> None:
    (tmp_path / "two.csv").write_text(LEGEND)
    legend = open_legend(tmp_path / "two.csv")
    (tmp_path / "c.csv").write_text(f"from,to,share\n112,forest,{shares[0]}\n112,other,{shares[1]}\n")
    with pytest.raises(LegendError, match=r"the shares of 112 -> .* are not parts of 1"):
        open_crosswalk("mine", legend, path=tmp_path / "c.csv")
    with pytest.raises(LegendError, match="are not parts of 1"):
        Crosswalk(
            "mine",
            legend,
            tuple(CrosswalkRow("112", to, float(s)) for to, s in zip(legend.codes, shares, strict=True)),
        )
