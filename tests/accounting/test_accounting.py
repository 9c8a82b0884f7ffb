"""Accounting: a region of known truth through six years, planted mistakes, laws of sums, mistakes of the caller."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from known_land import (
    CORINE,
    CROP,
    FOREST,
    LULUCF,
    TOWN,
    WET,
    YEARS,
    Region,
    grid,
    make_region,
    trajectories_of,
    write,
)
from tesela.accounting.accounting import account_maps
from tesela.accounting.accounts import area_rows, change_rows
from tesela.accounting.checks import check_changes, check_tables
from tesela.accounting.cohorts import follow_cohorts
from tesela.accounting.connected_areas import ComponentCounter
from tesela.accounting.forest_definition import ForestRule, apply_forest_definition
from tesela.accounting.page import draw_net_changes
from tesela.accounting.table41 import read_table41, transition_table
from tesela.accounting.trajectories import count_trajectories
from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.legend import LandClass, Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.scenes import open_scene
from tesela.io.tables import read_table
from tesela.pages.environment import hectares_text
from tesela.sampling.change_codes import change_legend


@pytest.fixture
def region() -> Region:
    return make_region()


@pytest.fixture
def maps(tmp_path: Path) -> list[ClassMap]:
    return make_region().write(tmp_path)


positions = arrays(np.uint8, (4, 60), elements=st.integers(0, 5))
spans = st.lists(st.integers(1, 25), min_size=3, max_size=3)


# --- a region of known truth


def test_the_account_of_a_known_region_has_its_areas_and_changes(
    region: Region, maps: list[ClassMap], tmp_path: Path
) -> None:
    accounts = account_maps(maps, YEARS, tmp_path / "out", forest=ForestRule(min_area_ha=1.0))
    trajectories = accounts.trajectories
    assert trajectories.total_ha == 40_000
    for i, values in enumerate(region.values):
        assert (
            trajectories.mapped_areas_ha[i].tolist() == np.bincount(values.ravel(), minlength=7)[1:].tolist()
        )
    for i in range(len(YEARS) - 1):
        matrix = trajectories.changes_ha(i)
        for before in range(1, 7):
            for after in range(1, 7):
                if before != after:
                    assert matrix[before - 1, after - 1] == region.changed.get((i, before, after), 0)
    assert accounts.failed == ()
    assert [check.name for check in accounts.checks if check.passed is None] == ["forest crown cover"]
    assert len(accounts.tables) == 24


def test_the_files_contain_the_same_numbers(maps: list[ClassMap], tmp_path: Path) -> None:
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
    assert document["changes"][2]["matrix_ha"] == accounts.trajectories.changes_ha(2).tolist()
    assert [check["passed"] for check in document["checks"]].count(False) == 0
    areas = read_table(accounts.files["areas"])
    of_2024 = areas[areas["year"].astype(int) == 2024]["area_ha"].astype(float)
    assert of_2024.tolist() == accounts.trajectories.mapped_areas_ha[-1].tolist()
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


# --- planted mistakes


def test_planted_mistakes_in_tables_are_all_detected(region: Region) -> None:
    trajectories = trajectories_of(*(values - 1 for values in region.values))
    tables = [transition_table(trajectories, year) for year in trajectories.inventory_years[1:]]

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


def test_planted_mistakes_in_maps_are_all_detected(region: Region, tmp_path: Path) -> None:
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
    failed = {check.name: check for check in accounts.failed}
    assert set(failed) == {"implausible changes", "flip-flops", "area left out"}
    hole = values[0][0, :5]
    assert failed["implausible changes"].area_ha == pytest.approx(42, abs=len(hole))
    assert "settlements to forest_land" in failed["implausible changes"].result
    assert "wetlands to cropland" in failed["implausible changes"].result
    assert failed["flip-flops"].area_ha == pytest.approx(9, abs=5)
    assert "cropland to settlements and back" in failed["flip-flops"].result
    assert failed["area left out"].area_ha == 5
    assert accounts.trajectories.missing_px == (0, 0, 0, 0, 5, 0)
    assert accounts.trajectories.total_ha == 39_995
    tolerant = list(check_changes(accounts.trajectories, tolerated_ha=100.0))
    assert [check.passed for check in tolerant] == [True, True, False]


def test_small_and_open_forest_is_detected(tmp_path: Path) -> None:
    values = np.full((60, 60), CROP, np.uint8)
    values[5:25, 5:25] = FOREST  # 4 ha at 10 m
    values[30:39, 30:40] = FOREST  # 0.9 ha
    values[50:60, 0:5] = FOREST  # 0.5 ha at the edge, where it may be larger
    values[30:40, 5:15] = FOREST  # 1.0 ha, exactly enough
    source = write(tmp_path / "map.tif", values, size_m=10.0)
    finding = apply_forest_definition(source, 2020, rule=ForestRule())
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
    with_cover = apply_forest_definition(
        source, 2020, rule=ForestRule(), tree_cover=open_scene(tmp_path / "cover.tif")
    )
    assert (with_cover.small, with_cover.open) == (1, 1)
    assert with_cover.open_ha == pytest.approx(4.0)
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
    assert "-4.76%" in accounts.failed[0].result


# --- laws


@given(positions, spans)
@settings(max_examples=60, deadline=None)
def test_rows_and_columns_add_up_and_years_follow_each_other(
    dates: NDArray[np.uint8], lengths: list[int]
) -> None:
    years = tuple(int(year) for year in np.cumsum([2000, *lengths]))
    trajectories = trajectories_of(*dates, years=years)
    for before, after in pairwise(trajectories.inventory_years):
        matrix = trajectories.annual_changes_ha(after)
        assert matrix.sum(axis=1) == pytest.approx(trajectories.areas_ha(before))
        assert matrix.sum(axis=0) == pytest.approx(trajectories.areas_ha(after))
        assert matrix.min() >= -1e-9
    tables = [transition_table(trajectories, year) for year in trajectories.inventory_years[1:]]
    assert all(check.passed for check in check_tables(tables))
    for i, (first, last) in enumerate(pairwise(years)):
        summed = sum(trajectories.annual_changes_ha(year) for year in range(first + 1, last + 1))
        whole = trajectories.changes_ha(i)
        off = ~np.eye(6, dtype=bool)
        assert np.asarray(summed)[off] == pytest.approx(whole[off])


@given(positions, spans, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_cohorts_contain_all_land_in_all_years(
    dates: NDArray[np.uint8], lengths: list[int], transition: int
) -> None:
    years = tuple(int(year) for year in np.cumsum([2000, *lengths]))
    trajectories = trajectories_of(*dates, years=years)
    cohorts = follow_cohorts(trajectories, transition_years=transition)
    for year in cohorts.years:
        remaining, converting = cohorts.remaining_ha(year), cohorts.converting_ha(year)
        assert remaining.sum() + converting.sum() == pytest.approx(60)
        assert remaining + converting.sum(axis=0) == pytest.approx(trajectories.areas_ha(year))
        assert np.diag(converting).max() == 0
    for y, year in enumerate(cohorts.years[1:], start=1):
        fresh = trajectories.annual_changes_ha(year)
        np.fill_diagonal(fresh, 0)
        assert cohorts.converted_ha[y, y] == pytest.approx(fresh, abs=1e-9)
        # cohorts only lose land after their year
        assert (cohorts.converted_ha[y, :y] <= cohorts.converted_ha[y - 1, :y] + 1e-9).all()


def test_converted_land_remains_after_20_years() -> None:
    before, after = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    after[:40] = 1
    trajectories = trajectories_of(before, after, after, years=(2000, 2004, 2030))
    cohorts = follow_cohorts(trajectories)
    # 10 ha a year from 2001 to 2004; those of 2001 count as converted up to 2020
    assert cohorts.converting_ha(2002)[0, 1] == pytest.approx(20)
    assert cohorts.converting_ha(2020)[0, 1] == pytest.approx(40)
    assert cohorts.converting_ha(2021)[0, 1] == pytest.approx(30)
    assert cohorts.remaining_ha(2021)[1] == pytest.approx(10)
    assert cohorts.converting_ha(2024)[0, 1] == pytest.approx(0)
    assert cohorts.remaining_ha(2024)[1] == pytest.approx(40)
    assert follow_cohorts(trajectories, transition_years=5).converting_ha(2006)[0, 1] == pytest.approx(30)
    rows = [row for row in cohorts.rows() if row[0] == 2021 and row[3] == "cropland"]
    assert [(row[1], row[5]) for row in rows] == [
        (2001, "remaining"),
        (2002, "converted"),
        (2003, "converted"),
        (2004, "converted"),
    ]


def test_land_that_is_converted_again_leaves_its_cohort() -> None:
    a, b, c = (np.full(12, k, np.uint8) for k in range(3))
    trajectories = trajectories_of(a, b, c, years=(2000, 2002, 2005))
    cohorts = follow_cohorts(trajectories)
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
    counter = ComponentCounter(eight=eight, quantities=1)
    weights = np.arange(values.size, dtype=np.float64).reshape(values.shape)
    numbers = np.concatenate(
        [counter.add(values[r : r + step], weights[r : r + step]) for r in range(0, len(values), step)]
    )
    roots, sums = counter.totals()
    shape = np.ones((3, 3)) if eight else None
    areas = 0
    for value in range(1, 4):
        labels, count = ndimage.label(values == value, shape)
        for label in range(1, count + 1):
            area = labels == label
            assert len(set(roots[numbers[area]])) == 1
            assert (sums[numbers[area], 0] == area.sum()).all()
            assert sums[numbers[area], 1] == pytest.approx(weights[area].sum())
        areas += count
    assert (numbers[values == 0] == -1).all()
    assert len(set(roots)) == areas


# --- reading maps


def test_burnt_areas_keep_their_category_and_the_sea_is_left_out(tmp_path: Path) -> None:
    code = {name: CORINE[name].value for name in ("311", "334", "211", "523", "112")}
    first = np.array([[code["311"], code["334"], code["211"], code["523"]]] * 4, np.uint8)
    second = np.array([[code["334"], code["211"], code["112"], code["523"]]] * 4, np.uint8)
    maps = [write(tmp_path / f"{k}.tif", v, legend=CORINE) for k, v in enumerate((first, second))]
    accounts = account_maps(maps, [2006, 2012], tmp_path / "out", forest=None)
    matrix = accounts.trajectories.changes_ha(0)
    assert matrix[FOREST - 1, FOREST - 1] == 4  # burnt in 2012: forest as before
    assert matrix[CROP - 1, CROP - 1] == 4  # burnt in 2006: the category after
    assert matrix[CROP - 1, TOWN - 1] == 4
    assert accounts.trajectories.total_ha == 12
    rows = {row[1]: row[3] for row in accounts.crosswalk[1:]}
    assert rows["334"] == "nodata"
    assert rows["311"] == "forest_land"


def test_a_crosswalk_of_ones_own_is_used_and_printed(tmp_path: Path) -> None:
    context = open_legend("lulucf-context")
    values = np.array([[1, 2], [3, 4]], np.uint8)
    maps = [write(tmp_path / f"{k}.tif", values, legend=context) for k in range(2)]
    to = {"water": "wetlands", "artificial": "settlements", "forest": "forest_land", "crops": "cropland"}
    rows = tuple(CrosswalkRow(c, to.get(c, "other_land"), note="mine") for c in context.codes)
    accounts = account_maps(
        maps, [2000, 2010], tmp_path / "out", crosswalk=Crosswalk("lulucf-context", LULUCF, rows), forest=None
    )
    assert accounts.trajectories.mapped_areas_ha[0].tolist() == [1, 1, 0, 1, 1, 0]
    text = (tmp_path / "out" / "crosswalk.csv").read_text(encoding="utf-8")
    assert "lulucf-context,water,Water,wetlands,1.0,mine" in text
    own = Legend("own", (LandClass(1, "a", "A", "#000000"),))
    maps = [write(tmp_path / f"own{k}.tif", np.ones((2, 2), np.uint8), legend=own) for k in range(2)]
    with pytest.raises(LegendError, match="No crosswalk from 'own' to 'lulucf'"):
        account_maps(maps, [2000, 2010], tmp_path / "out2")


def test_maps_on_other_grids_are_read_at_the_pixels_of_the_first(tmp_path: Path) -> None:
    fine = np.kron(np.array([[1, 2], [3, 5]], np.uint8), np.ones((10, 10), np.uint8))
    coarse = np.array([[1, 2], [3, 5]], np.uint8)
    maps = [write(tmp_path / "a.tif", fine, size_m=10.0), write(tmp_path / "b.tif", coarse, size_m=100.0)]
    trajectories = count_trajectories(maps, [2000, 2001], crosswalks=[None, None])
    assert trajectories.changes_ha(0).tolist() == np.diag([1, 1, 1, 0, 1, 0]).tolist()
    assert "has another grid" in trajectories.notes[0]


def test_mistakes_of_the_caller_are_named(maps: list[ClassMap], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="2 maps with 1 years given"):
        account_maps(maps[:2], [2000], out)
    with pytest.raises(InputError, match="at least two maps"):
        account_maps(maps[:1], [2000], out)
    with pytest.raises(InputError, match="in ascending order"):
        account_maps(maps[:2], [2006, 2000], out)
    with pytest.raises(InputError, match="2000-2012; it must belong to two consecutive maps: 2000-2006"):
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
    with pytest.raises(InputError, match="is no readable workbook"):
        read_table41(tmp_path / "none.xlsx")
    assert not out.exists()


# --- figures by hand


def test_only_areas_that_change_back_are_flip_flops_and_the_largest_is_first() -> None:
    a, b, c = 0, 1, 2
    paths = [(a, b, a)] * 2 + [(a, b, c)] * 9 + [(b, c, b)] * 5 + [(a, a, a)] * 7 + [(a, a, b)] * 3
    dates = np.array(paths, np.uint8).T
    flips = trajectories_of(*dates, years=(2000, 2001, 2002)).flip_flops()
    assert [(item.category, item.between, item.area_ha) for item in flips] == [
        ("cropland", "grassland", 5.0),
        ("forest_land", "cropland", 2.0),
    ]


def test_pixels_without_a_category_at_any_date_are_not_missing(tmp_path: Path) -> None:
    first = np.array([[0, 1, 1], [0, 0, 2]], np.uint8)
    second = np.array([[0, 1, 0], [0, 3, 2]], np.uint8)
    maps = [write(tmp_path / "a.tif", first), write(tmp_path / "b.tif", second)]
    trajectories = count_trajectories(maps, [2000, 2001], crosswalks=[None, None])
    assert trajectories.missing_px == (1, 1)
    assert trajectories.pixels.tolist() == [1, 1]


def test_a_burnt_area_takes_the_later_category_only_without_an_earlier_one(tmp_path: Path) -> None:
    code = {name: CORINE[name].value for name in ("311", "334", "211")}
    dates = [np.array([[code["311"]], [code["334"]]], np.uint8), np.full((2, 1), code["334"], np.uint8)]
    dates.append(np.full((2, 1), code["211"], np.uint8))
    maps = [write(tmp_path / f"{k}.tif", values, legend=CORINE) for k, values in enumerate(dates)]
    crosswalk = open_crosswalk("corine", LULUCF)
    trajectories = count_trajectories(maps, [2000, 2006, 2012], crosswalks=[crosswalk] * 3)
    forest, crop = FOREST - 1, CROP - 1
    assert trajectories.paths.tolist() == [[forest, forest, crop], [crop, crop, crop]]


def test_areas_between_maps_are_linear() -> None:
    trajectories = trajectories_of(np.zeros(8, np.uint8), np.ones(8, np.uint8), years=(2000, 2004))
    assert trajectories.areas_ha(2001)[:2].tolist() == [6, 2]
    rows = area_rows(trajectories)
    assert rows[0] == ("year", "category", "area_ha", "share", "basis")
    assert rows[7] == (2001, "forest_land", 6.0, 0.75, "interpolated")
    changes = [dict(zip(CHANGE_COLUMNS, row, strict=True)) for row in change_rows(trajectories, {})[1:]]
    assert [(row["mapped_ha"], row["mapped_ha_per_year"]) for row in changes] == [(8, 2)]


CHANGE_COLUMNS = (
    *("year_from", "year_to", "from", "to", "mapped_ha", "mapped_ha_per_year"),
    *("basis", "estimate_ha", "se_ha", "low_ha", "high_ha"),
)


def test_the_page_shows_net_changes_and_the_yearly_mean(maps: list[ClassMap], tmp_path: Path) -> None:
    accounts = account_maps(maps[:2], YEARS[:2], tmp_path / "out")
    chart = draw_net_changes(accounts)
    starts = {re.search(r'points="[\d.]+,([\d.]+)', line)[1] for line in chart.split("<polyline")[1:]}  # type: ignore[index]
    assert len(starts) == 1, "every category starts at 0"
    matrix = accounts.trajectories.changes_ha(0)
    yearly = (matrix.sum() - np.trace(matrix)) / 6
    page = accounts.files["page"].read_text(encoding="utf-8")
    assert f"{hectares_text(yearly)} <small>ha a year</small>" in page
    assert f"{hectares_text(accounts.trajectories.total_ha)} <small>ha</small>" in page


def test_small_stands_are_not_checked_for_crown_cover(tmp_path: Path) -> None:
    values = np.full((40, 40), CROP, np.uint8)
    values[5:14, 5:15] = FOREST  # 0.9 ha at 10 m
    source = write(tmp_path / "map.tif", values, size_m=10.0)
    cover = write_bands(
        tmp_path / "cover.tif", np.full((1, 40, 40), 5, np.uint8), source.grid, names=("cover",)
    )
    finding = apply_forest_definition(source, 2020, rule=ForestRule(), tree_cover=open_scene(cover))
    assert (finding.small, finding.open) == (1, 0)
