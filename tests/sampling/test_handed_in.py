"""Samples as people hand them in: responses of spreadsheets, targets with minima, classes that no point shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.accounting.table41 import CATEGORIES, TransitionTable, write_table41
from tesela.cli import main
from tesela.core.errors import InputError, LegendError
from tesela.core.legend import LandClass, Legend
from tesela.core.plain_text import cell_text
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.rows import read_rows
from tesela.io.tables import read_table, write_csv
from tesela.sampling.design import plan_sample
from tesela.sampling.draw import draw_sample
from tesela.sampling.estimates import estimate_accuracy
from tesela.sampling.estimators import unseen_share
from tesela.sampling.page import write_sample_page
from tesela.sampling.responses import read_sample

CODES = ("112", "211", "311", "512")
CORINE = open_legend("corine")


def uneven_map(path: Path) -> ClassMap:
    """Classes of 60, 30, 9 and 1 % of 40,000 pixels."""
    values = np.repeat([CORINE[code].value for code in CODES], [24_000, 12_000, 3_600, 400])
    grid = GeoBox((200, 200), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")
    return write_map(path, values.reshape(200, 200).astype(np.uint8), grid, legend=CORINE)


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, ClassMap, pd.DataFrame]:
    """A sample of 80 points, its map, and responses that agree with the map but for two gaps."""
    source = uneven_map(tmp_path / "map.tif")
    path = draw_sample(source, tmp_path / "s.gpkg", design=plan_sample(source, points=80, minimum=10))
    table = pd.DataFrame(read_table(path, layer="points").drop(columns="geometry"))[["sample_id"]]
    table["reference"] = read_table(path, layer="key")["stratum"].astype(int)
    table.loc[:1, "reference"] = np.nan
    return path, source, table


def save(table: pd.DataFrame, path: Path, how: str) -> Path:
    floats = table.astype(float)
    text = floats.to_csv(index=False, sep=";")
    if how == "floats":
        floats.to_csv(path.with_suffix(".csv"), index=False)
        return path.with_suffix(".csv")
    if how in ("excel", "utf-16", "decimal commas"):
        text = text.replace("sample_id;reference", "SAMPLE_ID;Reference;") + ";;\r\n;;\r\n"
        text = text.replace(".0", ",0") if how == "decimal commas" else f"sep=;\n{text}"
        path.with_suffix(".csv").write_bytes(text.encode("utf-16" if how == "utf-16" else "cp1252"))
        return path.with_suffix(".csv")
    if how == "parquet":
        floats.to_parquet(path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")
    if how == "a copy of the sample":
        return path
    book = openpyxl.Workbook()
    sheet = book.active if how == "xlsx" else book.create_sheet("Points")
    sheet.append(["sample_id", "reference"])
    for row in floats.itertuples(index=False):
        sheet.append(["" if np.isnan(cell) else str(int(cell)) for cell in row])  # all cells are text
    book.save(path.with_suffix(".xlsx"))
    return path.with_suffix(".xlsx")


@pytest.mark.parametrize(
    "how", ["floats", "excel", "utf-16", "decimal commas", "parquet", "xlsx", "second sheet"]
)
def test_responses_are_read_however_a_spreadsheet_saved_them(
    drawn: tuple[Path, ClassMap, pd.DataFrame], tmp_path: Path, how: str
) -> None:
    path, source, table = drawn
    sample = read_sample(path, source, responses=save(table, tmp_path / "answers", how))
    assert (sample.points, sample.missing_responses) == (78, 2)
    assert np.trace(sample.matrix) == 78


def test_responses_in_a_copy_of_the_sample_are_those_of_its_points(
    drawn: tuple[Path, ClassMap, pd.DataFrame], tmp_path: Path
) -> None:
    path, source, table = drawn
    layers = {name: read_table(path, layer=name) for name in ("strata", "key", "classes", "points")}
    layers["points"]["reference"] = [
        None if np.isnan(code) else str(int(code)) for code in table["reference"]
    ]
    assert read_sample(path, source, responses=write_layers(tmp_path / "copy.gpkg", layers)).points == 78


@pytest.mark.parametrize("rule", ["proportional", "equal", "neyman", "simple"])
@pytest.mark.parametrize(("target", "minimum"), [(0.03, 20), (0.02, 50), (0.01, 2), (0.04, 75)])
@pytest.mark.parametrize("expected", [0.85, {"112": 0.99, "211": 0.7, "311": 0.6, "512": 0.5}])
def test_a_plan_reaches_its_target_with_no_point_too_many(
    tmp_path: Path, rule: str, target: float, minimum: int, expected: float | dict[str, float]
) -> None:
    source = uneven_map(tmp_path / "map.tif")
    design = plan_sample(source, target_se=target, minimum=minimum, rule=rule, expected=expected)  # type: ignore[arg-type]
    assert design.expected_se(expected) <= target
    least = minimum if rule == "simple" else 4 * minimum
    if design.points > max(least, 8):
        fewer = plan_sample(source, points=design.points - 2, minimum=minimum, rule=rule, expected=expected)  # type: ignore[arg-type]
        assert fewer.expected_se(expected) > target


def test_the_command_says_what_a_plan_reaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uneven_map(tmp_path / "map.tif")
    words = ["sample", "draw", f"{tmp_path}/map.tif", "--target-error", "0.03", "--minimum", "20"]
    assert main([*words, "-o", f"{tmp_path}/s.gpkg"]) == 0
    reached, target = capsys.readouterr().out.partition("overall accuracy ")[2].split()[:3:2]
    assert float(reached) <= 0.03
    assert target == "0.03)"


def test_a_class_that_no_point_shows_is_not_published_as_no_area(tmp_path: Path) -> None:
    source = uneven_map(tmp_path / "map.tif")
    path = draw_sample(source, tmp_path / "s.gpkg", design=plan_sample(source, points=100, minimum=10))
    table = pd.DataFrame({"sample_id": read_table(path, layer="key")["sample_id"]})
    table["reference"] = read_table(path, layer="key")["stratum"].replace("512", "211")
    table.to_csv(tmp_path / "a.csv", index=False)
    estimates = estimate_accuracy(read_sample(path, source, responses=tmp_path / "a.csv"))
    page = write_sample_page(tmp_path / "report", estimates, legend=CORINE).read_text(encoding="utf-8")
    row = next(part for part in page.split("<tr>") if "Water bodies" in part and "not seen" in part)
    assert f"0 to {estimates.unseen_ha:.1f}: no point has this class" in row
    assert ">0.0<" not in row
    line = next(text for text in estimates.to_lines() if text.startswith("512"))
    assert "no point, 0 to" in line
    assert not line.endswith("0.0 ± 0.0")
    assert json.loads((tmp_path / "report" / "accuracy.json").read_text())["unseen_class_at_most_ha"] > 0


def test_the_bound_of_an_unseen_class_is_the_largest_likely_share() -> None:
    sizes, drawn = np.array([9e6, 1e6]), np.array([60.0, 20.0])
    bound = unseen_share(sizes, drawn)
    shares = np.linspace(0, 0.2, 2001)
    rest = 1 - (0.05 / (1 - shares) ** drawn[0]) ** (1 / drawn[1])  # the largest share of the second stratum
    tried = 0.9 * shares + 0.1 * np.clip(rest, 0, 1)
    assert bound == pytest.approx(tried[(rest >= 0)].max(), rel=1e-4)
    assert unseen_share(sizes, np.array([0.0, 0.0])) == 1


def test_pixels_without_a_class_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.csv").write_text(
        "value,code,name,color\n1,forest,Forest,#006600\n2,other,Other,#cccccc\n"
    )
    values = np.zeros((60, 60), np.uint8)
    values[:, :30] = 1
    grid = {"crs": "EPSG:25830", "transform": Affine(10, 0, 500_000, 0, -10, 4_100_000)}
    with rasterio.open(tmp_path / "forest.tif", "w", "GTiff", 60, 60, 1, dtype="uint8", **grid) as file:
        file.write(values, 1)  # no nodata value in the file
    words = ["sample", "draw", f"{tmp_path}/forest.tif", "--legend", f"{tmp_path}/two.csv", "--points", "60"]
    assert main([*words, "--minimum", "10", "-o", f"{tmp_path}/s.gpkg"]) == 0
    assert "1,800 px (50.0%) of the map have no class" in capsys.readouterr().out


def test_estimates_agree_with_an_independent_count_for_odd_strata(tmp_path: Path) -> None:
    values = np.full((60, 60), CORINE["112"].value, np.uint8)
    values[:, 30:], values[:20, :20], values[50:, :5] = CORINE["211"].value, 0, CORINE["111"].value
    grid = GeoBox((60, 60), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")
    write_map(tmp_path / "map.tif", values, grid, legend=CORINE)
    sample, source = f"{tmp_path}/s.gpkg", f"{tmp_path}/map.tif"
    assert main(["sample", "draw", source, "--points", "100", "--minimum", "5", "-o", sample]) == 0
    points = read_table(sample, layer="points").sort_values("sample_id")
    sizes = read_table(sample, layer="strata").set_index("stratum")["size_px"].to_dict()
    rng = np.random.default_rng(1)
    seen = points["stratum"].to_numpy(object).copy()
    wrong = rng.random(len(seen)) < 0.2
    seen[wrong] = rng.choice(["112", "211", "231"], wrong.sum())  # 231 is nowhere mapped
    pd.DataFrame({"sample_id": points["sample_id"], "reference": seen}).to_csv(
        tmp_path / "a.csv", index=False
    )
    words = [
        "sample",
        "estimate",
        sample,
        source,
        "--responses",
        f"{tmp_path}/a.csv",
        "-o",
        f"{tmp_path}/report",
    ]
    assert main(words) == 0
    document = json.loads((tmp_path / "report" / "accuracy.json").read_text())
    strata, total = points["stratum"].to_numpy(object), sum(sizes.values())

    def count(hit: Callable[[NDArray[np.object_], str], NDArray[np.bool_]]) -> tuple[float, float]:
        mean = variance = 0.0
        for code, size in sizes.items():
            y = hit(seen[strata == code], code).astype(float)
            mean += size / total * y.mean()
            variance += (size / total) ** 2 * (1 - len(y) / size) * y.var(ddof=1) / len(y)
        return mean, variance**0.5

    overall = (document["overall"]["value"], document["overall"]["se"])
    assert overall == pytest.approx(count(lambda codes, own: codes == own), abs=1e-9)
    shares = {item["code"]: item["share"] for item in document["classes"]}
    for code in ("111", "112", "211", "231"):
        found = (shares[code]["value"], shares[code]["se"])
        assert found == pytest.approx(count(lambda codes, _, code=code: codes == code), abs=1e-9)


EVIL = ("=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)")


@pytest.mark.parametrize("name", EVIL)
def test_names_leave_no_formula_in_tables_and_are_read_back(tmp_path: Path, name: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["name", "number"], [(name, -0.5), ("forest", "-3")])
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[1].lstrip('"').startswith("'")
    assert [row["name"] for row in read_rows(path)] == [name, "forest"]
    assert [row["number"] for row in read_rows(path)] == ["-0.5", "-3"]
    assert cell_text("-1e-3") == "-1e-3"
    size = len(CATEGORIES)
    table = TransitionTable(2020, np.zeros((size, size)), np.zeros(size), np.zeros(size), {})
    book = openpyxl.load_workbook(
        write_table41(tmp_path / "t.xlsx", [table], title=name, sheets={"Notes": [["note"], [name]]})
    )
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert [cell.value for cell in cells].count(name) == 2
    assert all(cell.data_type != "f" for cell in cells)


def test_control_characters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LegendError, match="holds control characters"):
        Legend("t", (LandClass(1, "a", "For\x07est", "#000000"),))
    size = len(CATEGORIES)
    table = TransitionTable(2020, np.zeros((size, size)), np.zeros(size), np.zeros(size), {})
    with pytest.raises(InputError, match="holds control characters"):
        write_table41(tmp_path / "t.xlsx", [table], title="Spa\x00in")
    assert not (tmp_path / "t.xlsx").exists()
