"""Table 4.1: the workbook, its sums, other readers, and a table as a country submitted it."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from known_land import YEARS, make_region, trajectories_of
from repository import DATA
from tesela.accounting.accounting import account_maps
from tesela.accounting.checks import check_tables
from tesela.accounting.table41 import (
    CATEGORIES,
    TransitionTable,
    read_table41,
    transition_table,
    write_table41,
)
from tesela.io.maps import ClassMap
from tesela.io.tables import read_table


@pytest.fixture
def maps(tmp_path: Path) -> list[ClassMap]:
    return make_region().write(tmp_path)


def test_the_workbook_has_the_layout_of_table_41_and_its_sums_are_right(
    maps: list[ClassMap], tmp_path: Path
) -> None:
    accounts = account_maps(maps[::2], YEARS[::2], tmp_path / "out", title="Region")
    book = openpyxl.load_workbook(accounts.files["table41"], data_only=True)
    assert book.sheetnames[:2] == ["Table4.1", "Table4.1 2020"]
    assert {"Areas", "Changes", "Cohorts", "Checks", "Crosswalk", "Notes"} <= set(book.sheetnames)
    sheet = book["Table4.1"]
    assert sheet["B4"].value == "Inventory 2021"
    header = [sheet.cell(8, column).value for column in range(2, 14)]
    assert header[1:10] == list(CATEGORIES.values())
    assert header[10:] == ["Total unmanaged land", "Initial area"]
    assert [sheet.cell(row, 2).value for row in range(9, 20)] == [
        *CATEGORIES.values(),
        "Final area",
        "Net change",
    ]
    for name in [name for name in book.sheetnames if name.startswith("Table4.1")]:
        page = book[name]
        cells = [[page.cell(row, column).value for column in range(3, 12)] for row in range(9, 18)]
        numbers = np.array([[cell if isinstance(cell, float) else 0.0 for cell in row] for row in cells])
        assert {cell for row in cells for cell in row if isinstance(cell, str)} == {"NO"}
        assert all(page.cell(row, column).value == "NO" for row in (10, 13, 15) for column in range(3, 12))
        for i, row in enumerate(range(9, 18)):
            initial = page.cell(row, 13).value
            assert numbers[i].sum() == pytest.approx(0 if initial == "NO" else initial)
            final, net = page.cell(18, 3 + i).value, page.cell(19, 3 + i).value
            assert numbers[:, i].sum() == pytest.approx(0 if final == "NO" else final)
            if final != "NO":
                assert net == pytest.approx(final - initial, abs=1e-12)
        assert numbers.sum() == pytest.approx(40.0)  # kha
        assert page.cell(18, 13).value == pytest.approx(40.0)
    tables = [read_table41(accounts.files["table41"], sheet=name) for name in ("Table4.1", "Table4.1 2020")]
    assert [table.year for table in tables] == [2021, 2020]
    assert all(check.passed for check in check_tables(tables))


def test_the_workbook_prints_on_few_pages(maps: list[ClassMap], tmp_path: Path) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out", title="Region")
    book = openpyxl.load_workbook(accounts.files["table41"])
    for page in book.worksheets:
        assert page.page_setup.orientation == "landscape"
        assert page.sheet_properties.pageSetUpPr.fitToPage
        assert page.page_setup.fitToWidth == 1
        assert page.oddFooter.center.text == "&A, page &P of &N"
        is_table = page.title.startswith("Table4.1")
        assert page.page_setup.fitToHeight == (
            1 if is_table else 0
        )  # a table is one page, a list as many as it needs
        assert page.print_title_rows == (None if is_table else "$1:$1")


def test_numbers_of_the_tables_are_rounded(maps: list[ClassMap], tmp_path: Path) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out")
    for name in ("areas", "changes", "cohorts"):
        text = accounts.files[name].read_text(encoding="utf-8")
        cells = [cell for line in text.splitlines()[1:] for cell in line.split(",")]
        assert max(len(cell.partition(".")[2]) for cell in cells if "e" not in cell) <= 6, name


def test_other_readers_read_the_table(maps: list[ClassMap], tmp_path: Path) -> None:
    """The public readers of submitted tables take the header from row 8 and columns B to M; GDAL reads alone."""
    accounts = account_maps(maps, YEARS, tmp_path / "out")
    frame = pd.read_excel(accounts.files["table41"], sheet_name="Table4.1", header=7, usecols="B:M")
    assert frame.shape == (11, 12)
    assert frame.iloc[:, 0].tolist()[-2:] == ["Final area", "Net change"]
    final = pd.to_numeric(frame.iloc[9, 1:10], errors="coerce").sum()
    assert final == pytest.approx(frame["Initial area"].iloc[9])
    other = read_table(accounts.files["table41"], layer="Areas")
    assert len(other) >= 25 * 6


def test_libreoffice_opens_the_workbook(maps: list[ClassMap], tmp_path: Path) -> None:
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed.")
    accounts = account_maps(maps, YEARS, tmp_path / "out")
    profile = f"-env:UserInstallation=file://{tmp_path / 'profile'}"
    subprocess.run(
        [
            office,
            profile,
            "--headless",
            "--convert-to",
            "csv",
            "--outdir",
            tmp_path,
            accounts.files["table41"],
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    assert "Forest land (managed)" in (tmp_path / "table4.1.csv").read_text(encoding="utf-8")


# --- the real table of a country, as it was submitted


def test_the_submitted_table_of_spain_passes_its_checks_after_a_round_trip(tmp_path: Path) -> None:
    """Its numbers are rounded nowhere, so that sums must agree to the square metre."""

    root = DATA
    path = root.parent / "facts" / "crt_table4_1_spain_2023.csv"
    if not path.exists():
        pytest.skip("The table of Spain is not among the shared facts.")
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    cells = [row[1:] for row in rows]
    matrix = np.array([[0.0 if cell.isalpha() else float(cell) for cell in row] for row in cells])
    keys = {(i, j): cell for i, row in enumerate(cells) for j, cell in enumerate(row) if cell.isalpha()}
    table = TransitionTable(2023, matrix, matrix.sum(axis=1), matrix.sum(axis=0), keys)
    back = read_table41(write_table41(tmp_path / "spain.xlsx", [table], title="Spain"))
    assert back.matrix_kha.tolist() == matrix.tolist()
    assert back.keys == keys
    assert back.final_kha.sum() == pytest.approx(50_624.27175, abs=1e-4)
    assert back.initial_kha[0] == pytest.approx(18_091.005, abs=1e-3)
    assert all(check.passed for check in check_tables([back]))


# --- figures by hand


def table_of(
    year: int, matrix: dict[tuple[int, int], float], keys: dict[tuple[int, int], str]
) -> TransitionTable:
    values = np.zeros((9, 9))
    for cell, kha in matrix.items():
        values[cell] = kha
    return TransitionTable(year, values, values.sum(axis=1), values.sum(axis=0), keys)


def test_unmanaged_land_small_areas_and_net_changes_are_written_as_they_are(tmp_path: Path) -> None:
    forest, unmanaged, crop = 0, 1, 2
    numbers = {
        (forest, forest): 5.0,
        (forest, unmanaged): 0.5,
        (unmanaged, unmanaged): 2.0,
        (crop, forest): 1e-4,
    }
    keys = {(i, j): "NO" for i in range(9) for j in range(9) if (i, j) not in numbers}
    book = openpyxl.load_workbook(write_table41(tmp_path / "t.xlsx", [table_of(2020, numbers, keys)]))
    sheet = book["Table4.1"]
    row = {name: [sheet.cell(9 + k, column).value for column in range(3, 14)] for k, name in enumerate("abc")}
    assert row["a"] == [5.0, 0.5, *["NO"] * 7, 0.5, 5.5]
    assert row["b"] == ["NO", 2.0, *["NO"] * 7, 2.0, 2.0]
    assert (row["c"][0], row["c"][2]) == (1e-4, "NO")
    final, net = ([sheet.cell(line, column).value for column in range(3, 14)] for line in (18, 19))
    assert final[:2] == [pytest.approx(5.0001), 2.5]
    assert net[:2] == [pytest.approx(-0.4999), 0.5]
    assert (final[9], final[10]) == (2.5, pytest.approx(7.5001))
    with zipfile.ZipFile(tmp_path / "t.xlsx") as parts:
        assert parts.read("docProps/core.xml").count(b"2000-01-01T00:00:00Z") == 2


def test_all_unmanaged_land_of_a_row_is_added_up(tmp_path: Path) -> None:
    codes = list(CATEGORIES)
    forest, grass = codes.index("forest_land_unmanaged"), codes.index("grassland_unmanaged")
    table = table_of(2021, {(0, 0): 5.0, (0, grass): 0.25, (forest, forest): 2.0, (forest, grass): 0.5}, {})
    sheet = openpyxl.load_workbook(write_table41(tmp_path / "t.xlsx", [table]))["Table4.1"]
    assert [sheet.cell(9 + row, 12).value for row in range(3)] == [0.25, 2.5, 0]
    assert sheet.cell(18, 12).value == 2.75  # final area


def test_absent_categories_have_the_key_that_was_given() -> None:
    trajectories = trajectories_of(np.zeros(4, np.uint8), np.zeros(4, np.uint8), years=(2000, 2001))
    codes = list(CATEGORIES)
    forest, grass = codes.index("forest_land_unmanaged"), codes.index("grassland_unmanaged")
    table = transition_table(trajectories, 2001, absent="IE")
    assert {table.keys[forest, j] for j in range(9)} == {"IE"}
    assert table.keys[codes.index("cropland"), codes.index("cropland")] == "NO"
    assert table.matrix_kha[0, 0] == pytest.approx(0.004)
    mixed = transition_table(trajectories, 2001, absent={"forest_land_unmanaged": "IE"})
    assert (mixed.keys[forest, 0], mixed.keys[grass, 0], mixed.keys[forest, grass]) == ("IE", "NO", "NO")
