"""Figures of assessment.json and of the page, counted by hand on 3 x 3 pixels of one hectare."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from report_page import Page
from tesela.assessment import report
from tesela.assessment.assessment import Generalised, assess
from tesela.assessment.page import ReportPictures, render_page
from tesela.core.legend import LandClass, Legend
from tesela.io.maps import ClassMap, ScoreWriter, write_map

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w1", "Water", "#0000ff", "w"),
        LandClass(2, "g1", "Grass", "#ffff00", "g"),
        LandClass(7, "g2", "Wood", "#008800", "g"),
        LandClass(9, "g3", "Rock", "#888888", "g"),
    ),
    upper=Legend(
        "demo", (LandClass(1, "w", "Wet", "#0000ff"), LandClass(2, "g", "Green", "#00ff00")), levels=2
    ),
    levels=2,
)
GRID = GeoBox((3, 3), Affine(100.0, 0.0, 500_000.0, 0.0, -100.0, 4_100_000.0), "EPSG:32630")

# 8 pixels have a class on both sides, 5 of them the same. Rock is nowhere.
REFERENCE = [[1, 1, 1], [1, 2, 2], [7, 7, 0]]
PREDICTED = [[1, 1, 2], [2, 2, 2], [7, 2, 7]]
GENERALISED = [[1, 1, 1], [1, 2, 2], [7, 2, 7]]
# Without 100 %, 7 pixels have a confidence: 4 of 100 %, all right; 3 of 60 %, one of them right.
CONFIDENCE = [[100, 100, 60], [60, 100, 60], [100, 255, 60]]

MATRIX = [[2, 2, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def write(path: Path, rows: list[list[int]]) -> ClassMap:
    return write_map(path, np.array(rows, np.uint8), GRID, legend=LEGEND)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReportPictures]:
    """A report with all its parts, and the pictures that its page shows."""
    folder = tmp_path_factory.mktemp("report")
    with ScoreWriter(folder / "confidence.tif", GRID, ["confidence"], scale=0.01, unit="") as writer:
        writer.write(0, 0, np.array([CONFIDENCE], np.uint8))
    map, reference = write(folder / "map.tif", PREDICTED), write(folder / "reference.tif", REFERENCE)
    after = write(folder / "after.tif", GENERALISED)
    boxes = [shapely.box(500_000 + a, 4_099_700, 500_000 + b, 4_100_000) for a, b in ((0, 100), (100, 300))]
    regions = gpd.GeoDataFrame({"name": ["West", "East"]}, geometry=boxes, crs="EPSG:32630")
    options: dict[str, Any] = {"tiles_px": 2, "edges_px": [1]}
    shown: list[ReportPictures] = []

    def render(document: Any, pictures: ReportPictures) -> str:
        shown.append(pictures)
        return render_page(document, pictures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "render_page", render)
        page = report.write_report(
            folder / "out",
            assess(
                map,
                reference,
                regions=regions,
                region_field="name",
                confidence=folder / "confidence.tif",
                **options,
            ),
            map=map,
            reference=reference,
            generalised=Generalised(after, assess(after, reference, **options), mmu_m2=20_000),
        )
    return page, shown[0]


@pytest.fixture
def document(rendered: tuple[Path, ReportPictures]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(rendered[0].with_name("assessment.json").read_text(encoding="utf-8"))
    return made


@pytest.fixture
def page(rendered: tuple[Path, ReportPictures]) -> Page:
    return Page(rendered[0].read_text(encoding="utf-8"))


# The document


def test_the_document_has_pixels_and_areas_of_reference_and_map(document: dict[str, Any]) -> None:
    assert document["matrix"]["pixels"] == document["matrix"]["hectares"] == MATRIX
    assert (document["matrix"]["rows"], document["matrix"]["columns"]) == ("reference", "map")
    assert document["pixels"] == {"evaluated": 8, "reference_without_map": 0, "map_without_reference": 1}
    assert document["matrix"]["map_without_reference"] == [0, 0, 1, 0]
    assert document["evaluated_ha"] == 8
    areas = {row["code"]: (row["reference_ha"], row["map_ha"]) for row in document["classes"]}
    assert areas == {"w1": (4, 2), "g1": (2, 5), "g2": (2, 1), "g3": (0, 0)}
    pixels = [(row["reference_px"], row["map_px"], row["correct_px"]) for row in document["classes"]]
    assert pixels == [(4, 2, 2), (2, 5, 2), (2, 1, 1), (0, 0, 0)]


def test_the_document_has_the_scores_of_map_classes_and_levels(document: dict[str, Any]) -> None:
    scores, (water, grass, wood, rock) = document["scores"], document["classes"]
    assert (scores["accuracy"], scores["majority"], scores["coverage"]) == (0.625, 0.5, 1)
    assert [water[name] for name in ("iou", "f1", "precision", "recall")] == [0.5, 0.666667, 1, 0.5]
    assert [grass[name] for name in ("iou", "f1", "precision", "recall")] == [0.4, 0.571429, 0.4, 1]
    assert [wood[name] for name in ("iou", "f1", "precision", "recall")] == [0.5, 0.666667, 1, 0.5]
    assert rock["iou"] is None
    assert (document["absent"], document["never_mapped"], document["not_in_reference"]) == (["g3"], [], [])
    assert scores["mean_iou"] == pytest.approx(1.4 / 3, abs=1e-6)
    # chance agreement: (4 x 2 + 2 x 5 + 2 x 1) / 64
    assert scores["kappa"] == pytest.approx((5 / 8 - 20 / 64) / (1 - 20 / 64), abs=1e-6)
    coarse, fine = document["levels"]
    assert (coarse["accuracy"], fine["accuracy"]) == (0.75, 0.625)
    assert fine["accuracy_where_right_above"] == pytest.approx(0.625 / 0.75, abs=1e-6)


def test_the_document_has_the_parts_of_the_map(document: dict[str, Any]) -> None:
    tiles = [(item["row"], item["col"], item["evaluated_px"], item["accuracy"]) for item in document["tiles"]]
    assert tiles == [(0, 0, 4, 0.75), (0, 1, 2, 0.5), (1, 0, 2, 0.5), (1, 1, 0, None)]
    regions = [(item["name"], item["evaluated_ha"], item["accuracy"]) for item in document["regions"]]
    assert regions == [("West", 3, 0.666667), ("East", 5, 0.6)]
    near, far = document["borders"]["bands"]
    # only the upper left pixel has no other class beside it
    assert (near["to_m"], near["evaluated_px"], near["accuracy"]) == (100, 7, 0.571429)
    assert (far["from_m"], far["evaluated_px"], far["accuracy"]) == (100, 1, 1)


def test_a_confidence_of_100_percent_is_a_confidence(document: dict[str, Any]) -> None:
    calibration = document["calibration"]
    assert (calibration["evaluated_px"], calibration["without_confidence_px"]) == (7, 1)
    assert calibration["bins"][-1]["evaluated_px"] == 4
    assert calibration["mean_confidence"] == pytest.approx((4 * 1 + 3 * 0.6) / 7, abs=1e-6)
    assert calibration["accuracy"] == pytest.approx(5 / 7, abs=1e-6)
    assert calibration["accuracy_of_most_confident_half"] == 1
    assert (calibration["mean_where_right"], calibration["mean_where_wrong"]) == (0.92, 0.6)
    # 4 pixels without a gap, 3 with one of 60 % to 1 / 3
    assert calibration["expected_calibration_error"] == pytest.approx(3 * (0.6 - 1 / 3) / 7, abs=1e-6)
    assert [(row["map_px"], row["confidence"], row["accuracy"]) for row in calibration["classes"]] == [
        (2, 1, 1),
        (4, 0.7, 0.5),
        (1, 1, 1),
        (0, None, None),
    ]


# The page


def test_the_page_needs_the_document_and_pictures_only(rendered: tuple[Path, ReportPictures]) -> None:
    path, pictures = rendered
    document = json.loads(path.with_name("assessment.json").read_text(encoding="utf-8"))
    assert render_page(document, pictures) == path.read_text(encoding="utf-8")


def test_a_figure_changed_in_the_document_changes_on_the_page(
    rendered: tuple[Path, ReportPictures], document: Any
) -> None:
    document["scores"]["accuracy"] = 0.123
    document["classes"][0]["reference_ha"] = 77.0
    document["tiles"][0]["mean_iou"] = 0.321
    document["calibration"]["classes"][1]["accuracy"] = 0.456
    page = Page(render_page(document, rendered[1]))
    assert page.figures["Accuracy"] == "12.3 %"
    assert page.tables["Legend and areas"][1][2] == page.tables["Confusion matrix"][1][-1] == "77.0"
    assert page.tables["Scores by tile"][1][3] == "0.321"
    assert page.table("Calibration")[2][2] == "45.6 %"


def test_the_page_shows_the_headline(page: Page) -> None:
    assert page.figures == {
        "Accuracy": "62.5 %",
        "mIoU": "0.467",
        "Macro F1": "0.635",
        "Area assessed": "8.0 ha",
    }


def test_the_page_shows_the_areas_of_reference_and_map(page: Page) -> None:
    assert page.tables["Legend and areas"] == [
        ["Class", "Areas drawn", "Reference", "Map", "Map − ref."],
        ["Water w1", "", "4.0", "2.0", "−50 %"],
        ["Grass g1", "", "2.0", "5.0", "+150 %"],
        ["Wood g2", "", "2.0", "1.0", "−50 %"],
    ]
    assert page.tables["Confusion matrix"] == [
        ["Reference ↓ Map →", "Water", "Grass", "Wood", "Reference, ha"],
        ["Water", "50", "50", "", "4.0"],
        ["Grass", "", "100", "", "2.0"],
        ["Wood", "", "50", "50", "2.0"],
        ["Map, ha", "2.0", "5.0", "1.0", "8.0"],
    ]


def test_the_page_shows_the_scores_of_classes_levels_and_parts(page: Page) -> None:
    assert page.tables["Scores by class"][1:] == [
        ["Water", "0.500", "0.667", "1.000", "0.500", "4"],
        ["Grass", "0.400", "0.571", "0.400", "1.000", "2"],
        ["Wood", "0.500", "0.667", "1.000", "0.500", "2"],
        ["Mean", "0.467", "0.635", "0.800", "0.667", "8"],
    ]
    assert page.tables["Scores by level of the legend"][1:] == [
        ["1", "2", "0.750", "0.583", "0.733", "–"],
        ["2", "3", "0.625", "0.467", "0.635", "0.833"],
    ]
    assert page.tables["Scores by tile"][1:] == [
        ["1, 1", "4", "0.750", "0.583", "0.733", "0.67", "0.50", ""],
        ["1, 2", "2", "0.500", "0.250", "0.333", "0.00", "0.50", ""],
        ["2, 1", "2", "0.500", "0.250", "0.333", "", "0.00", "0.50"],
    ]
    assert page.tables["Scores by region"][1:] == [
        ["West", "3", "0.667", "0.500", "0.556", "0.50", "0.00", "1.00"],
        ["East", "5", "0.600", "0.333", "0.444", "0.50", "0.50", "0.00"],
    ]


def test_the_page_shows_borders_and_calibration(page: Page, rendered: tuple[Path, ReportPictures]) -> None:
    text = rendered[0].read_text(encoding="utf-8").replace("\u202f", " ")
    assert "where the map is right 92.0 %, where it is wrong 60.0 %. 1 evaluated pixels have no" in text
    assert "Expected calibration error 0.114 (15 bins)" in text
    assert page.tables["Agreement by distance from class borders"][1:] == [
        ["0–100 m", "87.5 %", "0.571", "0.857", "0.411", "0.722"],
        ["> 100 m", "12.5 %", "1.000", "1.000", "1.000", "1.000"],
    ]
    assert page.table("Calibration")[1:] == [
        ["Water", "100.0 %", "100.0 %", "0.000"],
        ["Grass", "70.0 %", "50.0 %", "0.200"],
        ["Wood", "100.0 %", "100.0 %", "0.000"],
        ["All", "82.9 %", "71.4 %", "0.114"],
    ]


def test_the_page_shows_the_gain_of_generalising(page: Page) -> None:
    assert page.tables["Before and after generalising"][1:] == [
        ["Accuracy", "0.625", "0.875", "+0.250"],
        ["mIoU", "0.467", "0.722", "+0.256"],
        ["Macro F1", "0.635", "0.822", "+0.187"],
        ["Kappa", "0.455", "0.800", "+0.345"],
        ["Water", "0.500", "1.000", "+0.500"],
        ["Grass", "0.400", "0.667", "+0.267"],
        ["Wood", "0.500", "0.500", "+0.000"],
    ]


def test_the_page_puts_the_figures_in_sentences(page: Page) -> None:
    assert page.sentences[:-1] == [
        "Map and reference agree on 62.5 % of the area assessed. "
        "A map of “Water” alone, the most common class, would reach 50.0 %.",
        "Generalised to the unit of the reference (2 ha) the map agrees on 87.5 % instead of 62.5 %, "
        "with an mIoU of 0.722 instead of 0.467.",
        "Best mapped: “Wood” (IoU 0.500). Worst: “Grass” (IoU 0.400).",
        "Most frequent confusion: “Water” mapped as “Grass”, 2.0 ha or 25.0 % of the area assessed.",
        "Largest difference of area: “Grass” covers 3.0 ha more in the map than in the reference.",
        "Along class borders of the reference (0–100 m from them, 87.5 % of the area) the two agree on 57.1 %; "
        "far from them (> 100 m, 12.5 %) on 100.0 %.",
        "The map’s mean confidence is 82.9 %, and 71.4 % of it is right: its confidence is too high "
        "(calibration error 0.114). Of its most confident half, 100.0 % is right.",
        "Of 2 regions, “West” agrees best (66.7 %) and “East” worst (60.0 %).",
        "In neither, left out of all means: “Rock”.",
        "1 pixels have a class in the map and none in the reference; they are not evaluated.",
    ]
