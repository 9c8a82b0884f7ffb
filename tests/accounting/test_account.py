"""`tesela account`, `sample changes` and `change-layer`: from maps to accounts, samples and change layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.io.maps import open_map, write_map
from tesela.io.tables import read_table
from tesela.sampling.change_codes import change_legend

LULUCF = open_legend("lulucf")
FOREST, CROP, GRASS, WET, TOWN, OTHER = range(1, 7)
SIDE = 100
GRID = GeoBox((SIDE, SIDE), Affine(100.0, 0, 500_000.0, 0, -100.0, 4_100_000.0), "EPSG:25830")

Values = NDArray[np.uint8]


def truth() -> tuple[Values, Values]:
    """Two dates of 100 x 100 pixels of 1 ha: 60 ha of cropland became settlements, 8 ha forest, 3 ha alone."""
    before = np.repeat(np.array([FOREST, CROP, GRASS, TOWN], np.uint8), SIDE // 4)[:, None] * np.ones(
        SIDE, np.uint8
    )
    after = before.copy()
    after[30:36, 10:20] = TOWN
    after[40:42, 50:54] = FOREST
    after[45, 80:83] = FOREST
    return before, after


@pytest.fixture
def maps(tmp_path: Path) -> list[str]:
    return [
        write_map(tmp_path / f"{year}.tif", values, GRID, legend=LULUCF).path
        for year, values in zip((2018, 2024), truth(), strict=True)
    ]


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_sample_is_drawn_interpreted_and_accounted(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, years = tmp_path / "account", ["--years", "2018,2024", "-o", str(tmp_path / "account")]
    assert main(["sample", "changes", *maps, *years, "--points", "400", "--minimum", "11"]) == 0
    assert "400 points in 6 strata of change" in capsys.readouterr().out
    path = out / "sample_2018-2024.gpkg"
    layers = {name: read_table(path, layer=name) for name in ("points", "strata", "key")}
    points = layers["points"]
    assert "stratum" not in points, "the stratum would reveal the classes of the maps"
    before, after = truth()
    after[30:33, 10:20] = CROP  # half of the mapped settlements are wrong
    rows, cols = (
        ((4_100_000 - points["y"]) // 100).astype(int),
        ((points["x"] - 500_000) // 100).astype(int),
    )
    codes = change_legend(LULUCF).codes
    points["reference"] = [codes[k] for k in (before[rows, cols] - 1) * 6 + after[rows, cols] - 1]
    write_layers(path, layers)
    document = json_of(capsys, "account", *maps, *years, "--sample", f"2018-2024={path}", "--title", "Parish")
    (estimate,) = document["estimates"]
    assert estimate["basis"] == "design-based"
    (town,) = [row for row in estimate["changes"] if (row["from"], row["to"]) == ("cropland", "settlements")]
    assert town["mapped_ha"] == 60
    assert town["estimate_ha"]["low"] < 30 < town["estimate_ha"]["high"] < 60
    page = (out / "account.html").read_text()
    for text in ("Parish", "design-based", "Cropland to Settlements"):
        assert text in page


def test_a_confusion_matrix_gives_model_based_intervals(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["assess", maps[1], maps[0], "-o", str(tmp_path / "report"), "--quiet"]) == 0
    capsys.readouterr()
    years = ["--years", "2018,2024", "-o", str(tmp_path / "account")]
    document = json_of(
        capsys, "account", *maps, *years, "--confusion", str(tmp_path / "report" / "assessment.json")
    )
    assert [item["basis"] for item in document["estimates"]] == ["model-based"]
    assert main(["account", *maps, *years, "--confusion", maps[0]]) == 1
    assert "is no assessment with a matrix" in capsys.readouterr().err


def test_change_layers_contain_the_areas_above_the_minimum(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["change-layer", *maps, "--years", "2018,2024", "-o", str(tmp_path / "changes")]
    document = json_of(capsys, *words, "--mmu", "5 ha")
    path = tmp_path / "changes" / "change_layer_2018-2024.tif"
    assert document == {str(path): {"changed_ha": 68.0, "uncertain_ha": 0.0, "small_ha": 3.0}}
    with rasterio.open(path) as layer:
        assert int((layer.read(1) > 0).sum()) == 68
    assert open_map(path).legend == change_legend(LULUCF)
    assert open_map(path.with_name("map_2024.tif")).legend.same_classes(LULUCF)
    assert main(words) == 0
    assert "68.0 ha changed; left out: 3.0 ha in smaller areas" in capsys.readouterr().out


def test_official_area_and_tree_cover_are_checked(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cover = tmp_path / "cover.tif"
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8"}
    with rasterio.open(cover, "w", **profile, crs=GRID.crs, transform=GRID.affine) as layer:
        layer.write(np.full((SIDE, SIDE), 10, np.uint8), 1)
    years = ["--years", "2018,2024", "-o", str(tmp_path / "account")]
    document = json_of(
        capsys, "account", *maps, *years, "--land-area", "110 km2", "--tree-cover", f"2018={cover}"
    )
    checks = {item["name"]: item for item in document["checks"]}
    assert checks["official land area"]["passed"] is False
    assert "10,000.0 ha counted, 11,000.0 ha official" in checks["official land area"]["result"]
    assert checks["forest crown cover"]["passed"] is False
    assert checks["forest crown cover"]["area_ha"] == 2500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["account", "--years", "2018,now"], "'now' is no year"),
        (["account", "--years", "2018"], "2 maps with 1 years given"),
        (
            ["account", "--years", "2018,2024", "--sample", "sample.gpkg"],
            "'sample.gpkg' names no file: write it as 2018-2024",
        ),
        (["account", "--years", "2018,2024", "--sample", "2018=a.gpkg"], "'2018' is no pair of years"),
        (
            ["account", "--years", "2018,2024", "--tree-cover", "2017=a.tif"],
            "Tree cover was given for 2017, a year without a map",
        ),
        (
            ["sample", "changes", "--years", "2018,2024", "--points", "20"],
            "20 points are too few for 6 strata",
        ),
        (
            ["sample", "changes", "--years", "2018,2024", "--points", "99", "--minimum", "-1"],
            "minimum is -1",
        ),
        (
            [
                "account",
                "--years",
                "2018,2024",
                "--sample",
                "2018-2024=a.gpkg",
                "--sample",
                "2018-2024=b.gpkg",
            ],
            "Two files were given for 2018-2024",
        ),
        (["account", "--years", "18,2024"], "an account covers 300 years at most"),
        (["account", "--years", "2018,2024", "--land-area", "0 ha"], "it must be above 0"),
        (["account", "--years", "2018,2024", "--confusion", "none.json"], "none.json: cannot be read"),
        (
            ["change-layer", "--years", "2018,2024", "--probabilities", "a.tif"],
            "1 files of probabilities were given for 2",
        ),
        (["change-layer", "--years", "2018"], "2 maps with 1 years given"),
        (["change-layer", "--years", "2024,2018"], "give the maps and their years oldest first"),
        (["sample", "changes", "--years", "2018,2018", "--points", "99"], "oldest first"),
        (["sample", "changes", "--years", "2018,2024", "--points", "3"], "3 points are too few"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main([*words, "-o", str(tmp_path / "account"), *maps]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "account").exists(), "nothing is left"


@pytest.mark.parametrize("words", [["change-layer"], ["sample", "changes", "--points", "300"]])
def test_maps_of_two_areas_have_no_changes(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    elsewhere = write_map(tmp_path / "b.tif", truth()[1], GRID.translate_pix(500, 0), legend=LULUCF).path
    assert main([*words, maps[0], elsewhere, "--years", "2018,2024", "-o", str(tmp_path / "changes")]) == 1
    error = capsys.readouterr().err
    assert f"No pixel has a class in both {maps[0]} and {elsewhere}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "changes").exists()


def test_responses_of_interpreters_are_never_overwritten(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ["sample", "changes", *maps, "--years", "2018,2024", "-o", str(tmp_path), "--points", "99"]
    draw += ["--minimum", "5"]
    assert main(draw) == 0
    assert main(draw) == 0, "without responses it is drawn again"
    path = tmp_path / "sample_2018-2024.gpkg"
    layers = {name: read_table(path, layer=name) for name in ("points", "strata", "key", "classes")}
    layers["points"].loc[7, "reference"] = "cropland>cropland"
    write_layers(path, layers)
    before = path.read_bytes()
    capsys.readouterr()
    assert main(draw) == 1
    assert "1 points of this sample have a response" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_account_reports_missing_responses_and_areas_of_a_sample(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    years = ["--years", "2018,2024", "-o", str(tmp_path)]
    assert main(["sample", "changes", *maps, *years, "--points", "99", "--minimum", "5"]) == 0
    path = tmp_path / "sample_2018-2024.gpkg"
    layers = {name: read_table(path, layer=name) for name in ("points", "strata", "key", "classes")}
    layers["points"]["reference"] = layers["key"]["stratum"]
    layers["points"].loc[90:, "reference"] = ""
    write_layers(path, layers)
    wide = GeoBox((SIDE, 2 * SIDE), GRID.affine, GRID.crs)
    larger = [
        write_map(tmp_path / f"wide{year}.tif", np.tile(values, 2), wide, legend=LULUCF).path
        for year, values in zip((2018, 2024), truth(), strict=True)
    ]
    capsys.readouterr()
    notes = " ".join(json_of(capsys, "account", *larger, *years, "--sample", f"2018-2024={path}")["notes"])
    assert "9 more points have no response" in notes
    assert "The maps show 20,000.0 ha: the sample was drawn from a different area." in notes


def test_a_folder_that_is_a_file_is_reported_in_one_line(
    maps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (["sample", "changes", "--points", "99", "--minimum", "5"], ["change-layer"], ["account"]):
        out = ["--years", "2018,2024", "-o", str(tmp_path / "file" / "account")]
        assert main([*words, *maps, *out]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_the_page_opens_alone_and_fits_a_phone(maps: list[str], tmp_path: Path, browser: Any) -> None:
    assert main(["account", *maps, "--years", "2018,2024", "-o", str(tmp_path / "account"), "--json"]) == 0
    page = browser.new_page(viewport={"width": 390, "height": 800})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on(
        "request",
        lambda request: problems.append(request.url) if not request.url.startswith("file:") else None,
    )
    page.goto((tmp_path / "account" / "account.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("td.change", has_text="60.0").count() == 1
    assert page.locator(".chip.bad").count() == 0
    assert problems == []
    page.close()
