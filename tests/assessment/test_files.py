"""Assessing files, with regions, levels and the generalised map: what a person runs."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.assessment.assessment import assess
from tesela.assessment.confusion import Confusion
from tesela.assessment.files import assess_files
from tesela.core.errors import GridError, InputError
from tesela.io.legends import open_legend
from tesela.io.manifest import Manifest
from tesela.io.maps import ClassMap, ScoreWriter, open_map, write_map

CORINE = open_legend("corine-2")
GRID = GeoBox((60, 80), Affine(10.0, 0.0, 4_000_000.0, 0.0, -10.0, 2_100_000.0), "EPSG:3035")
FOREST, SHRUB, ARABLE = (CORINE[code].value for code in ("31", "32", "21"))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[ClassMap, ClassMap]:
    """Forest left and arable right; the map has a shrub of one pixel in every tenth row and column."""
    reference = np.where(np.arange(80) < 40, FOREST, ARABLE)[None].repeat(60, axis=0).astype(np.uint8)
    predicted = reference.copy()
    predicted[5::10, 5::10] = SHRUB
    return (
        write_map(tmp_path / "map.tif", predicted, GRID, legend=CORINE),
        write_map(tmp_path / "reference.tif", reference, GRID, legend=CORINE),
    )


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """A western province in two parts, an eastern one over half of them, and one far away."""
    left, top = 4_000_000, 2_100_000
    frame = gpd.GeoDataFrame(
        {"name": ["West", "West", "East", "Sea"]},
        geometry=[
            shapely.box(left, top - 300, left + 200, top),
            shapely.box(left, top - 600, left + 200, top - 300),
            shapely.box(left + 100, top - 600, left + 800, top),
            shapely.box(0, 0, 10, 10),
        ],
        crs="EPSG:3035",
    )
    path = tmp_path / "regions.gpkg"
    frame.to_file(path)
    return path


def test_regions_are_scored_one_by_one_and_the_first_of_two_polygons_counts(
    sides: tuple[ClassMap, ClassMap], regions: Path
) -> None:
    assessment = assess(*sides, regions=gpd.read_file(regions), region_field="NAME")
    assert [region.name for region in assessment.regions] == ["West", "East"]
    west, east = assessment.regions
    assert (west.confusion.evaluated_px, west.evaluated_ha) == (20 * 60, pytest.approx(12.0))
    assert (east.confusion.evaluated_px, east.evaluated_ha) == (60 * 60, pytest.approx(36.0))
    assert west.confusion + east.confusion == assessment.confusion
    assert west.scores.accuracy == pytest.approx(1 - 12 / 1200)
    each = assess(*sides, regions=gpd.read_file(regions).to_crs("EPSG:4326"))
    assert [region.name for region in each.regions] == ["1", "2", "3"]
    assert sum((region.confusion for region in each.regions), Confusion.empty(CORINE)) == assessment.confusion


def test_regions_do_not_depend_on_windows(
    sides: tuple[ClassMap, ClassMap], regions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = assess(*sides, regions=gpd.read_file(regions), region_field="name")
    monkeypatch.setattr("tesela.assessment.streaming._WINDOW_PX", 17)
    parts = assess(*sides, regions=gpd.read_file(regions), region_field="name")
    assert [region.confusion for region in parts.regions] == [region.confusion for region in whole.regions]


def test_a_field_that_regions_lack_is_an_error(sides: tuple[ClassMap, ClassMap], regions: Path) -> None:
    with pytest.raises(InputError, match=r"Regions: .*'nombre'.*name"):
        assess(*sides, regions=gpd.read_file(regions), region_field="nombre")


def test_every_level_of_the_legend_is_scored(sides: tuple[ClassMap, ClassMap]) -> None:
    assessment = assess(*sides)
    coarse, fine = assessment.levels
    assert fine == assessment.confusion
    assert coarse == assess(*sides, level=1).confusion
    levels = assessment.to_dict()["levels"]
    assert isinstance(levels, list)
    # shrub in forest is right at level 1, shrub in arable land is not
    assert [item["accuracy"] for item in levels] == pytest.approx([1 - 24 / 4800, 1 - 48 / 4800])
    assert levels[1]["accuracy_where_right_above"] == pytest.approx((1 - 0.01) / (1 - 0.005), abs=1e-6)


def test_files_are_assessed_raw_and_generalised_with_all_that_was_given(
    sides: tuple[ClassMap, ClassMap], regions: Path, tmp_path: Path
) -> None:
    confidence = tmp_path / "confidence.tif"
    with ScoreWriter(confidence, GRID, ["confidence"], scale=0.01, unit="") as writer:
        writer.write(0, 0, np.full((1, *GRID.shape), 90, np.uint8))
    done = assess_files(
        sides[0].path,
        sides[1].path,
        tmp_path / "out",
        regions=regions,
        region_field="name",
        confidence=confidence,
        mmu_m2=5_000,
        tiles_px=64,
        borders_m=[20, 100],
    )
    assert done.assessment.scores.accuracy == pytest.approx(1 - 48 / 4800)
    assert done.generalised is not None
    assert done.generalised.rule == "0.5 ha"
    assert done.generalised.assessment.scores.accuracy == 1
    assert done.lines[0] == "accuracy  0.9900   1.0000 generalised (0.5 ha)"
    assert done.lines[3] == "ECE       0.0900"
    document = json.loads((tmp_path / "out" / "assessment.json").read_text(encoding="utf-8"))
    assert document["reference"] == sides[1].path
    assert document["generalised"]["scores"]["accuracy"] == 1
    assert [item["name"] for item in document["generalised"]["regions"]] == ["West", "East"]
    assert [item["to_m"] for item in document["borders"]["bands"]] == [20, 100, None]
    assert document["calibration"]["expected_calibration_error"] == pytest.approx(0.09)
    assert open_map(tmp_path / "out" / "generalised.tif").legend == CORINE
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for title in (
        "Before and after generalising",
        "Scores by level",
        "Where the map is wrong",
        "Scores by region",
    ):
        assert title in page
    manifest = Manifest.read(tmp_path / "out")
    assert manifest is not None
    assert set(manifest.inputs) == {sides[0].path, sides[1].path, str(regions), str(confidence)}


def test_a_reference_of_a_finer_level_is_read_as_it_is(
    sides: tuple[ClassMap, ClassMap], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = open_legend("corine-3")
    values = np.where(np.arange(80) < 40, fine["312"].value, fine["211"].value)[None].repeat(60, axis=0)
    reference = write_map(tmp_path / "fine.tif", values.astype(np.uint8), GRID, legend=fine)
    monkeypatch.setattr("tesela.assessment.reference_labels.write_labels", None)
    done = assess_files(sides[0].path, reference.path, tmp_path / "out")
    assert done.assessment.confusion == assess(*sides).confusion


def test_distances_in_metres_need_pixels_that_have_a_side(tmp_path: Path) -> None:
    grid = GeoBox((60, 80), Affine(0.001, 0.0, 10.0, 0.0, -0.001, 40.0), "EPSG:4326")
    one = write_map(tmp_path / "map.tif", np.full(grid.shape, FOREST, np.uint8), grid, legend=CORINE)
    with pytest.raises(GridError, match="no single side in metres"):
        assess_files(one.path, one.path, tmp_path / "out", borders_m=[20])


def test_without_a_chromium_a_line_says_why_there_is_no_pdf(
    sides: tuple[ClassMap, ClassMap], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesela.assessment.files.find_browser", lambda: None)
    done = assess_files(sides[0].path, sides[1].path, tmp_path / "out", pdf=True)
    assert done.pdf is None
    assert done.notes[-1].startswith("No PDF: there is no Chromium on this machine (looked for chromium,")
    assert done.report.exists()


def test_a_browser_that_prints_nothing_is_an_error(
    sides: tuple[ClassMap, ClassMap], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesela.assessment.files.find_browser", lambda: "/bin/false")
    with pytest.raises(InputError, match=r"report\.pdf: /bin/false printed nothing \(it ended with 1\)"):
        assess_files(sides[0].path, sides[1].path, tmp_path / "out", pdf=True)
    assert not (tmp_path / "out" / "report.pdf").exists()
