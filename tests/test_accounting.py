"""Accounting: a region of known truth through six years, planted mistakes, the workbook, laws of sums."""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.legend import Legend
from tesela.evaluation.accounting import account_maps
from tesela.evaluation.change_layer import map_change_layer
from tesela.evaluation.changes import change_code, change_legend, change_values, map_changes
from tesela.evaluation.checks import check_changes, check_tables
from tesela.evaluation.cohorts import follow_cohorts
from tesela.evaluation.components import ComponentCounter
from tesela.evaluation.counts import Confusion
from tesela.evaluation.forest import ForestRule, judge_forest
from tesela.evaluation.histories import Histories, count_histories
from tesela.evaluation.points import draw_sample
from tesela.evaluation.sample import Sample
from tesela.evaluation.sampling import plan_sample
from tesela.evaluation.table41 import read_table41, write_table41
from tesela.evaluation.transitions import CATEGORIES, transition_table
from tesela.evaluation.uncertainty import ErrorModel, estimate_changes, simulate_changes
from tesela.io.legends import load_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.scenes import open_scene
from tesela.io.tables import read_table, write_geopackage

LULUCF = load_legend("lulucf")
CORINE = load_legend("corine")
FOREST, CROP, GRASS, WET, TOWN, OTHER = range(1, 7)
YEARS = (2000, 2006, 2012, 2018, 2021, 2024)


def grid(rows: int, cols: int, *, size_m: float = 100.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(size_m, 0, 500_000.0, 0, -size_m, 4_100_000.0), "EPSG:25830")


def write(
    path: Path, values: NDArray[np.uint8], *, size_m: float = 100.0, legend: Legend = LULUCF
) -> ClassMap:
    return write_map(path, values, grid(*values.shape, size_m=size_m), legend=legend)


@dataclass(frozen=True)
class Region:
    """A region of 20 x 20 km, 200 x 200 pixels of 1 ha, whose every change is known."""

    values: tuple[NDArray[np.uint8], ...]
    changed: dict[tuple[int, int, int], int]
    """Pixels by (interval, before, after)."""

    def write(self, folder: Path) -> list[ClassMap]:
        return [write(folder / f"{y}.tif", v) for y, v in zip(YEARS, self.values, strict=True)]


@pytest.fixture(scope="module")
def region() -> Region:
    rng = np.random.default_rng(7)
    blocks = rng.choice(
        [FOREST, CROP, GRASS, WET, TOWN, OTHER], p=[0.4, 0.3, 0.15, 0.05, 0.05, 0.05], size=(10, 10)
    )
    values = [np.kron(blocks, np.ones((20, 20))).astype(np.uint8)]
    moves = [(CROP, TOWN), (CROP, FOREST), (GRASS, FOREST), (FOREST, GRASS), (GRASS, WET)]
    changed: dict[tuple[int, int, int], int] = {}
    fresh = np.ones((200, 200), np.bool_)
    for i in range(len(YEARS) - 1):
        now = values[-1].copy()
        for before, after in moves:
            # some stands of 4 x 5 pixels, never the same ground twice, so that nothing flips back
            for _ in range(3):
                places = np.argwhere(fresh & (now == before))
                row, col = places[rng.integers(len(places))]
                row, col = row // 20 * 20 + rng.integers(1, 15), col // 20 * 20 + rng.integers(1, 14)
                part = np.s_[row : row + 4, col : col + 5]
                if not (fresh[part].all() and (now[part] == before).all()):
                    continue
                now[part], fresh[part] = after, False
                changed[i, before, after] = changed.get((i, before, after), 0) + 20
        values.append(now)
    return Region(tuple(values), changed)


@pytest.fixture
def maps(region: Region, tmp_path: Path) -> list[ClassMap]:
    return region.write(tmp_path)


def histories_of(*dates: NDArray[np.uint8], years: tuple[int, ...] = (), pixel_ha: float = 1.0) -> Histories:
    """Histories of arrays of positions in the legend."""
    paths, counts = np.unique(np.stack([d.ravel() for d in dates], axis=1), axis=0, return_counts=True)
    return Histories(LULUCF, years or YEARS[: len(dates)], paths.astype(np.uint8), counts, pixel_ha)


positions = arrays(np.uint8, (4, 60), elements=st.integers(0, 5))
spans = st.lists(st.integers(1, 25), min_size=3, max_size=3)


# --- a region of known truth


def test_the_account_of_a_known_region_states_what_is_known(
    region: Region, maps: list[ClassMap], tmp_path: Path
) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out", forest=ForestRule(min_area_ha=1.0))
    found = accounts.histories
    assert found.total_ha == 40_000
    for i, values in enumerate(region.values):
        assert found.mapped_areas_ha[i].tolist() == np.bincount(values.ravel(), minlength=7)[1:].tolist()
    for i in range(len(YEARS) - 1):
        matrix = found.changes_ha(i)
        for before in range(1, 7):
            for after in range(1, 7):
                if before != after:
                    assert matrix[before - 1, after - 1] == region.changed.get((i, before, after), 0)
    assert accounts.failed == ()
    assert [check.name for check in accounts.checks if check.passed is None] == ["forest crown cover"]
    assert len(accounts.tables) == 24


def test_the_files_hold_the_same_numbers(maps: list[ClassMap], tmp_path: Path) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out", title="Region")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{name}.csv" for name in ("areas", "changes", "remaining", "cohorts", "checks", "crosswalk")),
        "table4.1.xlsx",
        "accounts.json",
        "account.html",
        "manifest.json",
    }
    document = json.loads(accounts.files["accounts"].read_text(encoding="utf-8"))
    assert document["area_ha"] == 40_000
    assert document["changes"][2]["matrix_ha"] == accounts.histories.changes_ha(2).tolist()
    assert [check["passed"] for check in document["checks"]].count(False) == 0
    areas = read_table(accounts.files["areas"])
    of_2024 = areas[areas["year"].astype(int) == 2024]["area_ha"].astype(float)
    assert of_2024.tolist() == accounts.histories.mapped_areas_ha[-1].tolist()
    cohorts = read_table(accounts.files["cohorts"])
    by_year = cohorts["area_ha"].astype(float).groupby(cohorts["year"]).sum()
    assert by_year.to_numpy() == pytest.approx(40_000)
    lines = list(accounts.to_lines())
    assert sum(line.startswith("pass") for line in lines) == len(accounts.checks) - 1


def test_the_same_maps_give_the_same_bytes(maps: list[ClassMap], tmp_path: Path) -> None:
    one, two = (
        account_maps(maps[:2], YEARS[:2], tmp_path / name, window_px=px)
        for name, px in (("a", 2048), ("b", 33))
    )
    for name in ("table41", "areas", "changes", "cohorts", "accounts"):
        assert one.files[name].read_bytes() == two.files[name].read_bytes(), name


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


def test_other_readers_of_the_table_find_it_where_they_look(maps: list[ClassMap], tmp_path: Path) -> None:
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
    """Its numbers are rounded nowhere, so that sums must agree to the metre."""
    import os

    root = Path(os.environ.get("TESELA_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    path = root.parent / "facts" / "crt_table4_1_spain_2023.csv"
    if not path.exists():
        pytest.skip("The table of Spain is not among the shared facts.")
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    cells = [row[1:] for row in rows]
    matrix = np.array([[0.0 if cell.isalpha() else float(cell) for cell in row] for row in cells])
    keys = {(i, j): cell for i, row in enumerate(cells) for j, cell in enumerate(row) if cell.isalpha()}
    from tesela.evaluation.transitions import TransitionTable

    table = TransitionTable(2023, matrix, matrix.sum(axis=1), matrix.sum(axis=0), keys)
    back = read_table41(write_table41(tmp_path / "spain.xlsx", [table], title="Spain"))
    assert back.matrix_kha.tolist() == matrix.tolist()
    assert back.keys == keys
    assert back.final_kha.sum() == pytest.approx(50_624.27175, abs=1e-4)
    assert back.initial_kha[0] == pytest.approx(18_091.005, abs=1e-3)
    assert all(check.passed for check in check_tables([back]))


# --- planted mistakes


def test_planted_mistakes_in_tables_are_all_found(region: Region) -> None:
    found = histories_of(*(values - 1 for values in region.values))
    tables = [transition_table(found, year) for year in found.inventory_years[1:]]

    def failures(*changed: object) -> list[str]:
        return [check.name for check in check_tables([*changed, *tables[2:]]) if not check.passed]  # type: ignore[list-item]

    assert failures(*tables[:2]) == []
    matrix = tables[1].matrix_kha.copy()
    matrix[2, 0] += 0.001
    assert failures(tables[0], replace(tables[1], matrix_kha=matrix)) == ["row sums", "column sums"]
    moved = tables[1].matrix_kha.copy()
    moved[0] = 0, 0, moved[0].sum() + 0.5, 0, 0, 0, 0, 0, -0.5
    assert "no negative area" in failures(tables[0], replace(tables[1], matrix_kha=moved))
    initial = tables[1].initial_kha.copy()
    initial[[0, 2]] += 0.002, -0.002
    assert failures(tables[0], replace(tables[1], initial_kha=initial)) == ["row sums", "continuity of years"]
    final = tables[1].final_kha * 1.01
    assert failures(tables[0], replace(tables[1], final_kha=final)) == [
        "column sums",
        "continuity of years",
        "constant total",
    ]
    assert failures(tables[0]) == ["continuity of years"]


def test_planted_mistakes_in_maps_are_all_found(region: Region, tmp_path: Path) -> None:
    values = [v.copy() for v in region.values]
    town = np.argwhere(np.all([v == TOWN for v in values], axis=0))[:30]
    wet = np.argwhere(np.all([v == WET for v in values], axis=0))[:12]
    crop = np.argwhere(np.all([v == CROP for v in values], axis=0))[:9]
    for date in range(3, 6):
        values[date][tuple(town.T)] = FOREST  # settlement to forest, and it stays
        values[date][tuple(wet.T)] = CROP
    values[2][tuple(crop.T)] = TOWN  # there and back
    values[4][0, :5] = 0  # a hole in one map
    maps = [write(tmp_path / f"{y}.tif", v) for y, v in zip(YEARS, values, strict=True)]
    accounts = account_maps(maps, YEARS, tmp_path / "out")
    found = {check.name: check for check in accounts.failed}
    assert set(found) == {"implausible changes", "flip-flops", "ground left out"}
    hole = values[0][0, :5]
    assert found["implausible changes"].area_ha == pytest.approx(42, abs=len(hole))
    assert "settlements to forest_land" in found["implausible changes"].found
    assert "wetlands to cropland" in found["implausible changes"].found
    assert found["flip-flops"].area_ha == pytest.approx(9, abs=5)
    assert "cropland to settlements and back" in found["flip-flops"].found
    assert found["ground left out"].area_ha == 5
    assert accounts.histories.missing_px == (0, 0, 0, 0, 5, 0)
    assert accounts.histories.total_ha == 39_995
    tolerant = list(check_changes(accounts.histories, tolerated_ha=100.0))
    assert [check.passed for check in tolerant] == [True, True, False]


def test_small_and_open_forest_is_found(tmp_path: Path) -> None:
    values = np.full((60, 60), CROP, np.uint8)
    values[5:25, 5:25] = FOREST  # 4 ha at 10 m
    values[30:39, 30:40] = FOREST  # 0.9 ha
    values[50:60, 0:5] = FOREST  # 0.5 ha at the edge: it may go on
    values[30:40, 5:15] = FOREST  # 1.0 ha, exactly enough
    source = write(tmp_path / "map.tif", values, size_m=10.0)
    finding = judge_forest(source, 2020, rule=ForestRule())
    assert (finding.stands, finding.small, finding.open) == (4, 1, None)
    assert finding.small_ha == pytest.approx(0.9)
    cover = np.full(values.shape, 60, np.uint8)
    cover[5:25, 5:25] = np.where(np.arange(20) < 10, 5, 30)  # mean 17.5 %
    import rasterio

    box = grid(60, 60, size_m=10.0)
    profile = {"driver": "GTiff", "width": 60, "height": 60, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "cover.tif", "w", crs="EPSG:25830", transform=box.affine, **profile
    ) as data:
        data.write(cover, 1)
    judged = judge_forest(source, 2020, rule=ForestRule(), tree_cover=open_scene(tmp_path / "cover.tif"))
    assert (judged.small, judged.open) == (1, 1)
    assert judged.open_ha == pytest.approx(4.0)
    accounts = account_maps(
        [source, write(tmp_path / "b.tif", values, size_m=10.0)],
        [2020, 2021],
        tmp_path / "out",
        tree_cover={2020: open_scene(tmp_path / "cover.tif")},
    )
    assert [check.name for check in accounts.failed] == ["minimum forest area", "forest crown cover"]


def test_the_total_is_compared_with_the_official_area(maps: list[ClassMap], tmp_path: Path) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out", land_area_ha=42_000.0)
    assert [check.name for check in accounts.failed] == ["official land area"]
    assert "-4.76%" in accounts.failed[0].found


# --- laws


@given(positions, spans)
@settings(max_examples=60, deadline=None)
def test_rows_and_columns_add_up_and_years_follow_each_other(
    dates: NDArray[np.uint8], lengths: list[int]
) -> None:
    years = tuple(int(year) for year in np.cumsum([2000, *lengths]))
    found = histories_of(*dates, years=years)
    for before, after in pairwise(found.inventory_years):
        matrix = found.annual_changes_ha(after)
        assert matrix.sum(axis=1) == pytest.approx(found.areas_ha(before))
        assert matrix.sum(axis=0) == pytest.approx(found.areas_ha(after))
        assert matrix.min() >= -1e-9
    tables = [transition_table(found, year) for year in found.inventory_years[1:]]
    assert all(check.passed for check in check_tables(tables))
    for i, (first, last) in enumerate(pairwise(years)):
        summed = sum(found.annual_changes_ha(year) for year in range(first + 1, last + 1))
        whole = found.changes_ha(i)
        off = ~np.eye(6, dtype=bool)
        assert np.asarray(summed)[off] == pytest.approx(whole[off])


@given(positions, spans, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_cohorts_hold_all_land_in_all_years(
    dates: NDArray[np.uint8], lengths: list[int], transition: int
) -> None:
    years = tuple(int(year) for year in np.cumsum([2000, *lengths]))
    found = histories_of(*dates, years=years)
    cohorts = follow_cohorts(found, transition_years=transition)
    for year in cohorts.years:
        remaining, converting = cohorts.remaining_ha(year), cohorts.converting_ha(year)
        assert remaining.sum() + converting.sum() == pytest.approx(60)
        assert remaining + converting.sum(axis=0) == pytest.approx(found.areas_ha(year))
        assert np.diag(converting).max() == 0
    for y, year in enumerate(cohorts.years[1:], start=1):
        fresh = found.annual_changes_ha(year)
        np.fill_diagonal(fresh, 0)
        assert cohorts.converted_ha[y, y] == pytest.approx(fresh, abs=1e-9)
        # cohorts only lose land after their year
        assert (cohorts.converted_ha[y, :y] <= cohorts.converted_ha[y - 1, :y] + 1e-9).all()


def test_converted_land_remains_after_20_years() -> None:
    before, after = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    after[:40] = 1
    found = histories_of(before, after, after, years=(2000, 2004, 2030))
    cohorts = follow_cohorts(found)
    # 10 ha a year from 2001 to 2004; those of 2001 count as converted up to 2020
    assert cohorts.converting_ha(2002)[0, 1] == pytest.approx(20)
    assert cohorts.converting_ha(2020)[0, 1] == pytest.approx(40)
    assert cohorts.converting_ha(2021)[0, 1] == pytest.approx(30)
    assert cohorts.remaining_ha(2021)[1] == pytest.approx(10)
    assert cohorts.converting_ha(2024)[0, 1] == pytest.approx(0)
    assert cohorts.remaining_ha(2024)[1] == pytest.approx(40)
    assert follow_cohorts(found, transition_years=5).converting_ha(2006)[0, 1] == pytest.approx(30)
    rows = [row for row in cohorts.rows() if row[0] == 2021 and row[3] == "cropland"]
    assert [(row[1], row[5]) for row in rows] == [
        (2001, "remaining"),
        (2002, "converted"),
        (2003, "converted"),
        (2004, "converted"),
    ]


def test_land_that_is_converted_again_leaves_its_cohort() -> None:
    a, b, c = (np.full(12, k, np.uint8) for k in range(3))
    found = histories_of(a, b, c, years=(2000, 2002, 2005))
    cohorts = follow_cohorts(found)
    assert cohorts.converting_ha(2002)[0, 1] == pytest.approx(12)
    assert cohorts.converting_ha(2003)[0, 1] == pytest.approx(8)
    assert cohorts.converting_ha(2003)[1, 2] == pytest.approx(4)
    # 4 ha in 2001 and 2002 each, less a third of each in 2003
    assert cohorts.converted_ha[3, 1, 0, 1] == pytest.approx(4)
    assert cohorts.converting_ha(2005)[1, 2] == pytest.approx(12)
    assert cohorts.remaining_ha(2005).sum() == pytest.approx(0)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 25), st.integers(1, 20)), elements=st.integers(0, 3)),
    st.integers(1, 9),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_connected_areas_are_those_of_scipy_for_any_strips(
    values: NDArray[np.uint8], step: int, eight: bool
) -> None:
    counter = ComponentCounter(eight=eight, measures=1)
    weights = np.arange(values.size, dtype=np.float64).reshape(values.shape)
    numbers = np.concatenate(
        [counter.add(values[r : r + step], weights[r : r + step]) for r in range(0, len(values), step)]
    )
    roots, sums = counter.totals()
    shape = np.ones((3, 3)) if eight else None
    seen = 0
    for value in range(1, 4):
        labels, count = ndimage.label(values == value, shape)
        for label in range(1, count + 1):
            area = labels == label
            assert len(set(roots[numbers[area]])) == 1
            assert (sums[numbers[area], 0] == area.sum()).all()
            assert sums[numbers[area], 1] == pytest.approx(weights[area].sum())
        seen += count
    assert (numbers[values == 0] == -1).all()
    assert len(set(roots)) == seen


# --- reading maps


def test_burnt_ground_keeps_its_category_and_the_sea_is_left_out(tmp_path: Path) -> None:
    code = {name: CORINE[name].value for name in ("311", "334", "211", "523", "112")}
    first = np.array([[code["311"], code["334"], code["211"], code["523"]]] * 4, np.uint8)
    second = np.array([[code["334"], code["211"], code["112"], code["523"]]] * 4, np.uint8)
    maps = [write(tmp_path / f"{k}.tif", v, legend=CORINE) for k, v in enumerate((first, second))]
    accounts = account_maps(maps, [2006, 2012], tmp_path / "out", forest=None)
    matrix = accounts.histories.changes_ha(0)
    assert matrix[FOREST - 1, FOREST - 1] == 4  # burnt in 2012: forest as before
    assert matrix[CROP - 1, CROP - 1] == 4  # burnt in 2006: what came after
    assert matrix[CROP - 1, TOWN - 1] == 4
    assert accounts.histories.total_ha == 12
    rows = {row[1]: row[3] for row in accounts.crosswalk[1:]}
    assert rows["334"] == "nodata"
    assert rows["311"] == "forest_land"


def test_a_crosswalk_of_ones_own_is_used_and_printed(tmp_path: Path) -> None:
    context = load_legend("lulucf-context")
    values = np.array([[1, 2], [3, 4]], np.uint8)
    maps = [write(tmp_path / f"{k}.tif", values, legend=context) for k in range(2)]
    to = {"water": "wetlands", "artificial": "settlements", "forest": "forest_land", "crops": "cropland"}
    rows = tuple(CrosswalkRow(c, to.get(c, "other_land"), note="mine") for c in context.codes)
    accounts = account_maps(
        maps, [2000, 2010], tmp_path / "out", crosswalk=Crosswalk("lulucf-context", LULUCF, rows), forest=None
    )
    assert accounts.histories.mapped_areas_ha[0].tolist() == [1, 1, 0, 1, 1, 0]
    text = (tmp_path / "out" / "crosswalk.csv").read_text(encoding="utf-8")
    assert "lulucf-context,water,Water,wetlands,1.0,mine" in text
    with pytest.raises(LegendError, match="No crosswalk from 'lulucf-context'"):
        account_maps(maps, [2000, 2010], tmp_path / "out2")


def test_maps_on_other_grids_are_read_at_the_pixels_of_the_first(tmp_path: Path) -> None:
    fine = np.kron(np.array([[1, 2], [3, 5]], np.uint8), np.ones((10, 10), np.uint8))
    coarse = np.array([[1, 2], [3, 5]], np.uint8)
    maps = [write(tmp_path / "a.tif", fine, size_m=10.0), write(tmp_path / "b.tif", coarse, size_m=100.0)]
    found = count_histories(maps, [2000, 2001], crosswalks=[None, None])
    assert found.changes_ha(0).tolist() == np.diag([1, 1, 1, 0, 1, 0]).tolist()
    assert "lies on another grid" in found.notes[0]


def test_mistakes_of_the_caller_are_named(maps: list[ClassMap], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="2 maps came with 1 years"):
        account_maps(maps[:2], [2000], out)
    with pytest.raises(InputError, match="at least two maps"):
        account_maps(maps[:1], [2000], out)
    with pytest.raises(InputError, match="ascending and each once"):
        account_maps(maps[:2], [2006, 2000], out)
    with pytest.raises(InputError, match="2000-2012; it belongs to two neighbouring maps: 2000-2006"):
        account_maps(maps[:3], YEARS[:3], out, samples={(2000, 2012): "sample.gpkg"})
    with pytest.raises(InputError, match="Unknown notation key 'NN'"):
        account_maps(maps[:2], YEARS[:2], out, absent="NN")
    with pytest.raises(InputError, match="transition_years is 0"):
        account_maps(maps[:2], YEARS[:2], out, transition_years=0)
    empty = write(tmp_path / "empty.tif", np.zeros((200, 200), np.uint8))
    with pytest.raises(InputError, match="No pixel has a category at all of 2000, 2006"):
        account_maps([maps[0], empty], YEARS[:2], out)
    degrees = GeoBox((4, 4), Affine(0.01, 0, -3, 0, -0.01, 37), "EPSG:4326")
    bad = write_map(tmp_path / "deg.tif", np.ones((4, 4), np.uint8), degrees, legend=LULUCF)
    with pytest.raises(GridError, match="gdalwarp"):
        account_maps([bad, bad], YEARS[:2], out)
    with pytest.raises(LegendError, match="at most 15"):
        change_legend(CORINE)
    with pytest.raises(InputError, match="not a workbook"):
        read_table41(tmp_path / "none.xlsx")
    assert not out.exists()


# --- changes and their uncertainty


@given(arrays(np.uint8, (2, 40), elements=st.integers(0, 6)))
@settings(max_examples=40, deadline=None)
def test_change_values_name_both_classes(pair: NDArray[np.uint8]) -> None:
    changes = change_legend(LULUCF)
    codes = {0: None} | {item.value: item.code for item in changes.classes}
    for before, after, value in zip(*pair, change_values(pair[0], pair[1], LULUCF), strict=True):
        expected = None
        if before and after:
            expected = change_code(LULUCF.classes[before - 1].code, LULUCF.classes[after - 1].code)
        assert codes[int(value)] == expected


def wrong_map(truth: NDArray[np.uint8], *, seed: int, share: float = 0.04) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    mapped = truth.copy()
    errs = rng.random(truth.shape) < share
    mapped[errs] = rng.integers(1, 7, errs.sum())
    return mapped


def test_a_sample_takes_the_bias_out_of_change_areas(tmp_path: Path, region: Region) -> None:
    truth = [region.values[0], region.values[-1]]
    years = [2000, 2024]
    maps = [write(tmp_path / f"{k}.tif", wrong_map(v, seed=k)) for k, v in enumerate(truth)]
    strata = map_changes(maps[0], maps[1], tmp_path / "changes.tif")
    design = plan_sample(strata, points=2000, minimum=30, seed=1)
    path = draw_sample(strata, tmp_path / "sample.gpkg", design=design)
    points, others = (
        read_table(path, layer="points"),
        {k: read_table(path, layer=k) for k in ("strata", "key")},
    )
    row = ((4_100_000 - points["y"]) // 100).astype(int)
    col = ((points["x"] - 500_000) // 100).astype(int)
    codes = change_legend(LULUCF).codes
    right = (truth[0][row, col] - 1).astype(int) * 6 + truth[1][row, col] - 1
    points["reference"] = [codes[k] for k in right]
    write_geopackage(path, {"points": points, **others})
    accounts = account_maps(maps, years, tmp_path / "out", samples={(2000, 2024): path}, forest=None)
    (estimate,) = accounts.estimates
    assert estimate.basis == "design-based"
    true_areas = np.bincount(truth[1].ravel(), minlength=7)[1:]
    for found, area in zip(estimate.after, true_areas, strict=True):
        assert abs(found.value - area) < 4 * found.se + 5  # a class too rare to be met has no error
    lost = int(((truth[0] == CROP) & (truth[1] == TOWN)).sum())
    found = estimate.changes[CROP - 1][TOWN - 1]
    mapped = float(estimate.mapped_ha[CROP - 1, TOWN - 1])
    assert abs(found.value - lost) < 4 * found.se + 5
    assert abs(mapped - lost) > 30  # the map alone is far off
    rows = read_table(accounts.files["changes"])
    assert set(rows["basis"]) == {"design-based"}
    total = sum(item.value for row in estimate.changes for item in row)
    assert total == pytest.approx(40_000)


def test_estimated_changes_add_up_to_the_areas_before_and_after() -> None:
    rng = np.random.default_rng(0)
    codes = change_legend(LULUCF).codes
    counts = rng.integers(0, 4, size=(5, 36, 36))
    sample = Sample(codes, tuple("abcde"), np.array([4e4, 3e4, 2e4, 1e4, 5e3]), counts, pixel_area_ha=0.5)
    found = estimate_changes(sample, np.zeros((6, 6)), legend=LULUCF, years=(2000, 2010))
    values = np.array([[item.value for item in row] for row in found.changes])
    assert values.sum(axis=1) == pytest.approx([item.value for item in found.before])
    assert values.sum(axis=0) == pytest.approx([item.value for item in found.after])
    assert values.sum() == pytest.approx(sample.area_ha)
    document = json.loads(json.dumps(found.to_dict()))
    assert document["basis"] == "design-based"
    with pytest.raises(LegendError, match="not changes of legend 'lulucf'"):
        estimate_changes(
            Sample.from_matrix(np.eye(6) * 5, sizes_px=[9] * 6, classes=LULUCF.codes),
            np.zeros((6, 6)),
            legend=LULUCF,
            years=(2000, 2010),
        )


def test_without_a_sample_the_result_is_marked_as_a_model(maps: list[ClassMap], tmp_path: Path) -> None:
    model = ErrorModel(np.eye(6) * 90 + 2, independent=400)
    accounts = account_maps(maps[:2], YEARS[:2], tmp_path / "out", error_model=model)
    assert [item.basis for item in accounts.estimates] == ["model-based"]
    assert "model-based" in (tmp_path / "out" / "changes.csv").read_text(encoding="utf-8")
    assert any("Not an estimate from the ground" in note for note in accounts.notes)
    assert any("model-based" in line for line in accounts.to_lines())


def test_a_model_of_a_map_that_does_not_err_returns_the_map() -> None:
    mapped = np.diag([100.0, 80, 60, 40, 20, 10])
    mapped[1, 4] = 7
    found = simulate_changes(
        mapped, legend=LULUCF, years=(2000, 2010), model=ErrorModel(np.eye(6), independent=1e9)
    )
    assert [[item.value for item in row] for row in found.changes] == pytest.approx(mapped, abs=1e-4)


@given(st.floats(0, 1), st.integers(50, 5000))
@settings(max_examples=20, deadline=None)
def test_simulated_changes_keep_the_total_area(persistence: float, independent: int) -> None:
    mapped = np.random.default_rng(1).uniform(0, 50, (6, 6)) + np.diag([500.0] * 6)
    model = ErrorModel(np.eye(6) * 80 + 4, independent=independent, persistence=persistence, draws=50)
    found = simulate_changes(mapped, legend=LULUCF, years=(2000, 2010), model=model)
    values = np.array([[item.value for item in row] for row in found.changes])
    assert values.sum() == pytest.approx(mapped.sum())
    assert values.sum(axis=1) == pytest.approx([item.value for item in found.before])
    assert values.sum(axis=0) == pytest.approx([item.value for item in found.after])


def test_intervals_of_the_model_cover_the_truth_when_its_assumptions_hold() -> None:
    """Truth is drawn from the mapped classes by known chances; the model sees a matrix of 300 judged pixels."""
    rng = np.random.default_rng(5)
    chances = np.array([[0.9, 0.1, 0.05], [0.07, 0.85, 0.1], [0.03, 0.05, 0.85]])
    three = Legend("three", LULUCF.classes[:3])
    mapped = np.array([[500.0, 60, 20], [30, 400, 10], [5, 25, 300]])
    stable = np.diag(mapped)
    off = mapped - np.diag(stable)
    truth = chances @ off @ chances.T + np.diag(chances @ stable)
    covered = np.zeros((3, 3))
    runs = 400
    for run in range(runs):
        judged = np.stack([rng.multinomial(100, chances[:, m]) for m in range(3)], axis=1)
        model = ErrorModel(judged.astype(float), independent=300, draws=400, seed=run)
        found = simulate_changes(mapped, legend=three, years=(2000, 2006), model=model)
        low = np.array([[item.low for item in row] for row in found.changes])
        high = np.array([[item.high for item in row] for row in found.changes])
        covered += (low <= truth) & (truth <= high)
    assert (covered / runs).min() >= 0.91
    assert (covered / runs).max() <= 0.99


def test_a_confusion_in_classes_of_the_map_becomes_one_of_categories() -> None:
    context = load_legend("lulucf-context")
    to = ("wetlands", "settlements", "forest_land", "cropland", "grassland", "other_land")
    walk = Crosswalk("x", LULUCF, tuple(CrosswalkRow(a, b) for a, b in zip(context.codes, to, strict=True)))
    counts = np.arange(36).reshape(6, 6)
    confusion = Confusion(context, counts, np.zeros(6, int), np.zeros(6, int))
    model = ErrorModel.from_confusion(confusion, independent=100, crosswalk=walk)
    assert model.confusion[FOREST - 1, CROP - 1] == counts[2, 3]
    assert model.confusion.sum() == counts.sum()
    split = replace(
        walk,
        rows=(
            *walk.rows[1:],
            CrosswalkRow(context.codes[0], to[0], 0.6),
            CrosswalkRow(context.codes[0], to[1], 0.4),
        ),
    )
    whole = ErrorModel.from_confusion(confusion, independent=100, crosswalk=split)
    np.testing.assert_array_equal(whole.confusion, model.confusion)
    with pytest.raises(InputError, match="independent > 0"):
        ErrorModel(np.eye(6), independent=0)
    with pytest.raises(LegendError, match=r"has the shape \(3, 3\)"):
        simulate_changes(np.eye(6), legend=LULUCF, years=(0, 1), model=ErrorModel(np.eye(3), independent=9))


def test_the_change_layer_holds_areas_of_5_ha_and_certain_classes_only(tmp_path: Path) -> None:
    before = np.full((700, 100), CROP, np.uint8)
    after = before.copy()
    after[500:530, 10:30] = TOWN  # 6 ha at 10 m, across the border of two strips
    after[100:120, 10:35] = TOWN  # exactly 5 ha
    after[200:220, 10:34] = FOREST  # 4.8 ha
    after[300:320, 10:30], after[300:320, 30:50] = TOWN, FOREST  # 8 ha together, of two changes
    after[600:660, 50:90] = GRASS  # 24 ha, but the classifier is not certain
    maps = [write(tmp_path / f"{k}.tif", v, size_m=10.0) for k, v in enumerate((before, after))]
    certain = np.full(before.shape, 90, np.uint8)
    doubt = certain.copy()
    doubt[600:660, 50:90] = 30
    import rasterio

    box = grid(700, 100, size_m=10.0)
    profile = {"driver": "GTiff", "width": 100, "height": 700, "count": 1, "dtype": "uint8", "nodata": 255}
    for name, layer in (("c0", certain), ("c1", doubt)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", crs="EPSG:25830", transform=box.affine, **profile
        ) as data:
            data.write(layer, 1)
    scenes = (open_scene(tmp_path / "c0.tif"), open_scene(tmp_path / "c1.tif"))
    layer = map_change_layer(maps[0], maps[1], tmp_path / "changes.tif", confidence=scenes)
    assert (layer.changed_ha, layer.doubtful_ha, layer.small_ha) == pytest.approx((11.0, 24.0, 12.8))
    from tesela.io.maps import MapReader

    with MapReader(layer.map) as reader:
        values = reader.read(layer.map.grid)
    town = change_legend(LULUCF)["cropland>settlements"].value
    assert sorted(np.unique(values)) == [0, town]
    assert (values == town).sum() == 1100
    everything = map_change_layer(maps[0], maps[1], tmp_path / "all.tif", min_area_m2=0)
    assert everything.changed_ha == pytest.approx(47.8)
    nothing = map_change_layer(maps[0], maps[0], tmp_path / "none.tif")
    assert nothing.changed_ha == 0
