"""The report: pictures match the counts, and the page opens offline."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from report_page import write_scene, write_training_log
from tesela.assessment.assessment import Assessment, Generalised, assess
from tesela.assessment.pictures import (
    DIFFERENCE,
    commonest,
    difference_picture,
    make_overview,
    share_wrong,
)
from tesela.assessment.report import write_report
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import open_legend
from tesela.io.map_views import class_picture
from tesela.io.maps import ClassMap, ScoreWriter, write_map

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water & ice", "#0000ff"),
        LandClass(2, "l", "<script>alert('land')</script>", "#ffff00"),
        LandClass(7, "f", "Wood", "#008800"),
        LandClass(9, "u", "Urban", "#ff0000"),
    ),
)
GRID = GeoBox((60, 80), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


def uint8(rows: list[list[int]]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def stripes(shift: int) -> NDArray[np.uint8]:
    """Water left, land in the middle, wood right; a hole of nodata in the corner."""
    cols = np.arange(80)[None, :] + shift
    values = np.where(cols < 30, 1, np.where(cols < 60, 2, 7)).repeat(60, axis=0).astype(np.uint8)
    values[:5, :5] = 0
    return values


@pytest.fixture
def sides(tmp_path: Path) -> tuple[ClassMap, ClassMap]:
    return (
        write_map(tmp_path / "map.tif", stripes(4), GRID, legend=LEGEND),
        write_map(tmp_path / "reference.tif", stripes(0), GRID, legend=LEGEND),
    )


@pytest.fixture
def assessment(sides: tuple[ClassMap, ClassMap]) -> Assessment:
    return assess(*sides, tiles_px=32)


class Links(HTMLParser):
    """Collects what a page would fetch, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


# The overview


def test_cells_carry_the_commonest_value_and_the_smaller_of_a_tie() -> None:
    values = uint8([[1, 1, 7, 2, 9], [1, 2, 2, 7, 9], [0, 0, 9, 9, 7]])
    assert commonest(values, 2).tolist() == [[1, 2, 9], [0, 9, 7]]
    assert commonest(values, 1).tolist() == values.tolist()
    assert commonest(values, 9).tolist() == [[9]]


def test_cells_carry_the_share_of_evaluated_pixels_that_differ() -> None:
    differs = np.array([[1, 0, 1, 1], [1, 0, 1, 1]], bool)
    evaluated = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], bool)
    np.testing.assert_allclose(share_wrong(differs, evaluated, 2), [[1 / 3, 1]])
    assert np.isnan(share_wrong(differs, np.zeros_like(evaluated), 2)).all()


def test_a_small_map_is_drawn_pixel_by_pixel(
    assessment: Assessment, sides: tuple[ClassMap, ClassMap]
) -> None:
    overview = make_overview(assessment, *sides)
    assert overview.pixels_per_cell == 1
    assert overview.map_values.tolist() == stripes(4).tolist()
    assert overview.reference_values.tolist() == stripes(0).tolist()
    evaluated = (stripes(4) > 0) & (stripes(0) > 0)
    expected = np.where(evaluated, stripes(4) != stripes(0), np.nan)
    np.testing.assert_array_equal(overview.wrong, expected.astype(np.float32))
    assert np.nansum(overview.wrong) == evaluated.sum() - np.trace(assessment.confusion.counts)


def test_a_large_map_is_reduced_the_same_in_windows_and_whole(
    assessment: Assessment, sides: tuple[ClassMap, ClassMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_overview(assessment, *sides, size_px=12)
    assert whole.pixels_per_cell == 7
    assert whole.map_values.shape == whole.wrong.shape == (9, 12)
    assert whole.map_values.tolist() == commonest(stripes(4), 7).tolist()
    monkeypatch.setattr("tesela.assessment.pictures._WINDOW_PX", 16)
    parts = make_overview(assessment, *sides, size_px=12)
    np.testing.assert_array_equal(parts.map_values, whole.map_values)
    np.testing.assert_array_equal(parts.reference_values, whole.reference_values)
    np.testing.assert_array_equal(parts.wrong, whole.wrong)


def test_a_huge_map_is_sampled_first(
    assessment: Assessment, sides: tuple[ClassMap, ClassMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesela.assessment.pictures._EXACT_PX", 79)
    monkeypatch.setattr("tesela.assessment.pictures._SAMPLE_PX", 40)
    overview = make_overview(assessment, *sides, size_px=20)
    assert overview.pixels_per_cell == 4
    assert overview.map_values.shape == (15, 20)
    assert overview.map_values[10].tolist() == commonest(stripes(4)[1::2, 1::2], 2)[10].tolist()


def test_the_difference_is_drawn_only_in_the_area_assessed(sides: tuple[ClassMap, ClassMap]) -> None:
    within = gpd.GeoDataFrame(
        geometry=[shapely.box(500_200, 4_099_700, 500_400, 4_099_900)], crs="EPSG:32630"
    )
    overview = make_overview(assess(*sides, within=within), *sides)
    inside = np.zeros(GRID.shape, bool)
    inside[10:30, 20:40] = True
    assert (~np.isnan(overview.wrong)).tolist() == inside.tolist()


def test_a_map_assessed_at_a_level_is_drawn_at_that_level(tmp_path: Path) -> None:
    corine = open_legend("corine-3")
    grid = GeoBox((1, 2), GRID.affine, GRID.crs)
    fine = write_map(tmp_path / "fine.tif", uint8([[1, 44]]), grid, legend=corine)
    overview = make_overview(assess(fine, fine, level=1), fine, fine)
    assert overview.map_values.tolist() == [[1, 5]]


# Pictures


def test_classes_are_drawn_in_the_colours_of_the_legend_and_nodata_is_transparent() -> None:
    picture = class_picture(uint8([[0, 1], [7, 2]]), LEGEND).convert("RGBA")
    assert picture.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert picture.getpixel((1, 0)) == (0, 0, 255, 255)
    assert picture.getpixel((0, 1)) == (0, 136, 0, 255)
    assert picture.getpixel((1, 1)) == (255, 255, 0, 255)


@pytest.mark.parametrize(
    ("share", "step"), [(0.0, 0), (0.09, 0), (0.2, 1), (0.6, 3), (0.89, 4), (0.95, 5), (1.0, 5)]
)
def test_the_difference_is_drawn_in_steps(share: float, step: int) -> None:
    picture = difference_picture(np.array([[share, np.nan]], np.float32)).convert("RGBA")
    red, green, blue, alpha = picture.getpixel((0, 0))  # type: ignore[misc]
    assert f"#{red:02x}{green:02x}{blue:02x}" == list(DIFFERENCE.values())[step]
    assert alpha == 255
    assert picture.getpixel((1, 0))[3] == 0  # type: ignore[index]


def test_a_log_that_fails_leaves_no_report(
    assessment: Assessment, sides: tuple[ClassMap, ClassMap], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"metrics\.csv: the training log cannot be read"):
        write_report(
            tmp_path / "out",
            assessment,
            map=sides[0],
            reference=sides[1],
            training_log=tmp_path / "metrics.csv",
        )
    assert not (tmp_path / "out").exists()


# The report


@pytest.fixture
def report(
    assessment: Assessment,
    sides: tuple[ClassMap, ClassMap],
    *,
    tmp_path: Path,
) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (3, *GRID.shape), dtype=np.uint8)
    return write_report(
        tmp_path / "out",
        assessment,
        map=sides[0],
        reference=sides[1],
        scene=write_scene(tmp_path / "scene.tif", pixels, GRID, bands=["red", "green", "blue"]),
        title="Assessed <b>here</b>",
        facts={"Model": "of </script> & co"},
        training_log=write_training_log(tmp_path / "metrics.csv"),
    )


def test_a_report_is_a_page_its_figures_and_its_pictures(report: Path, assessment: Assessment) -> None:
    assert report.name == "report.html"
    assert {path.name for path in report.parent.iterdir()} == {
        "report.html",
        "assessment.json",
        "image.png",
        "map.png",
        "reference.png",
        "difference.png",
        "matrix.svg",
    }
    document = json.loads((report.parent / "assessment.json").read_text(encoding="utf-8"))
    assert document.pop("title") == "Assessed <b>here</b>"
    assert document.pop("facts") == {"Model": "of </script> & co"}
    assert document.pop("compared") == []
    assert document.pop("generalised") is None
    assert document == json.loads(json.dumps(assessment.to_dict()))
    for path in report.parent.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 400


def test_the_matrix_is_a_drawing_of_the_shares_of_each_reference_class(
    report: Path, assessment: Assessment
) -> None:
    root = ElementTree.parse(report.parent / "matrix.svg").getroot()  # names with < and & would break it
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    areas = assessment.areas_ha
    shown = [k for k in range(len(areas)) if areas[k].sum() + areas[:, k].sum() > 0]
    shares = areas / np.where(areas.sum(axis=1) > 0, areas.sum(axis=1), 1)[:, None]
    wanted = [
        f"{100 * shares[row, col]:.0f}" if shares[row, col] >= 0.005 else "<1"
        for row in shown
        for col in shown
        if areas[row, col] > 0
    ]
    assert [text for text in texts if text and re.fullmatch(r"<1|\d+", text)] == wanted
    assert texts[0] == "Percent of each reference class"


def test_the_page_shows_the_figures_of_the_assessment(report: Path, assessment: Assessment) -> None:
    text = report.read_text(encoding="utf-8")
    scores = assessment.scores
    assert f"{scores.accuracy * 100:.1f}\u202f%" in text
    assert f"{scores.mean_iou:.3f}" in text
    assert f"{scores.macro_f1:.3f}" in text
    assert "In neither, left out of all means: “Urban”." in text
    water = f"{assessment.areas_ha.sum(axis=1)[0]:.1f}"
    assert f"<td>{water}</td>" in text


def test_the_page_fetches_nothing_and_escapes_titles_and_names(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Links(text)
    assert len(page.links) == 4
    assert all(link.startswith("data:image/") for link in page.links)
    assert page.scripts == 2
    assert "default-src 'none'" in text
    assert "<b>here</b>" not in text
    assert "<script>alert" not in text


def test_the_same_assessment_gives_the_same_bytes(
    report: Path, assessment: Assessment, sides: tuple[ClassMap, ClassMap], tmp_path: Path
) -> None:
    one = write_report(tmp_path / "one", assessment, map=sides[0], reference=sides[1])
    two = write_report(tmp_path / "two", assessment, map=sides[0], reference=sides[1])
    for path in one.parent.iterdir():
        assert path.read_bytes() == (two.parent / path.name).read_bytes(), path.name
    assert not (one.parent / "image.png").exists()


def test_a_map_of_one_class_and_one_tile_is_reported(tmp_path: Path) -> None:
    alone = write_map(tmp_path / "map.tif", np.ones(GRID.shape, np.uint8), GRID, legend=LEGEND)
    path = write_report(tmp_path / "out", assess(alone, alone), map=alone, reference=alone)
    text = path.read_text(encoding="utf-8")
    assert "100.0\u202f%" in text
    assert "Scores by tile" not in text
    assert "Cohen’s kappa: –" in text


def test_a_page_of_pure_noise_stays_under_four_megabytes(tmp_path: Path) -> None:
    legend = open_legend("corine-2")
    grid = GeoBox((1000, 1000), GRID.affine, GRID.crs)
    chance = np.random.default_rng(0)
    values = chance.choice(np.array(legend.values, np.uint8), (2, 1000, 1000))
    sides = [
        write_map(tmp_path / f"{name}.tif", pixels, grid, legend=legend)
        for name, pixels in zip(("map", "reference"), values, strict=True)
    ]
    path = write_report(tmp_path / "out", assess(*sides), map=sides[0], reference=sides[1])
    assert path.stat().st_size < 4_000_000


# In a browser


def open_page(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page, and a list of all that went wrong with it: messages, errors, dialogs, requests elsewhere."""
    page = browser.new_page(**options)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    own = path.as_uri()
    page.on(
        "request",
        lambda request: None if request.url.startswith((own, "data:")) else problems.append(request.url),
    )
    page.goto(own)
    page.wait_for_load_state("networkidle")
    return page, problems


def test_in_a_browser_the_panes_move_together_and_name_their_classes(browser: Any, report: Path) -> None:
    page, problems = open_page(browser, report, viewport={"width": 1280, "height": 900})
    assert page.locator(".view").count() == 4
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    view = page.locator(".view").nth(2)
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    # column 28 of 80: land in the map, whose stripes lie 4 pixels further left, and water in the reference
    page.mouse.move(box["x"] + box["width"] * 28.5 / 80, box["y"] + box["height"] * 0.5)
    text = page.locator("#readout").inner_text()
    assert text.startswith(
        "Map: <script>alert('land')</script> · Reference: Water & ice · EPSG:32630: 500285, 4099700"
    )
    page.locator("[data-do=in]").click()
    moves = page.evaluate("[...document.querySelectorAll('.view img')].map((image) => image.style.transform)")
    assert len(set(moves)) == 1
    assert moves[0].startswith("scale(1.6)")
    view.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    page.mouse.up()
    moved = page.evaluate("[...document.querySelectorAll('.view img')].map((image) => image.style.transform)")
    assert len(set(moved)) == 1
    assert moved[0].startswith("scale(2.4)")
    assert moved != moves
    page.locator("[data-do=reset]").click()
    assert page.locator(".view img").first.get_attribute("style").startswith("transform: scale(1)")
    page.locator("[data-matrix=ha]").click()
    assert page.locator(".matrix tbody td").first.inner_text() == "15.4"
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_page_is_no_wider_than_the_screen(browser: Any, report: Path, scheme: str) -> None:
    page, problems = open_page(
        browser, report, viewport={"width": 375, "height": 700}, color_scheme=scheme, has_touch=True
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    ink, paper = page.evaluate(
        "['color', 'backgroundColor']"
        ".map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    assert abs(sum(ink) - sum(paper)) > 450
    assert problems == []


def test_a_page_with_a_generalised_map_and_confidence_names_the_class_it_has_then(
    browser: Any, sides: tuple[ClassMap, ClassMap], tmp_path: Path
) -> None:
    with ScoreWriter(tmp_path / "confidence.tif", GRID, ["confidence"], scale=0.01, unit="") as writer:
        writer.write(0, 0, np.full((1, *GRID.shape), 95, np.uint8))
    raw = assess(*sides, tiles_px=32, confidence=tmp_path / "confidence.tif")
    after = write_map(tmp_path / "after.tif", stripes(2), GRID, legend=LEGEND)
    path = write_report(
        tmp_path / "out",
        raw,
        map=sides[0],
        reference=sides[1],
        generalised=Generalised(after, assess(after, sides[1]), mmu_m2=250_000, min_width_m=100),
    )
    page, problems = open_page(browser, path, viewport={"width": 390, "height": 800})
    assert page.locator(".view").count() == 5
    view = page.locator(".view").first
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    # column 27 of 80: land in the map, still water once generalised, and water in the reference
    page.mouse.move(box["x"] + box["width"] * 27.5 / 80, box["y"] + box["height"] * 0.5)
    text = page.locator("#readout").inner_text()
    assert "Generalised: Water & ice · Reference: Water & ice · EPSG:32630: " in text
    assert "Generalised to the unit of the reference (25 ha, 100 m)" in page.locator(".findings").inner_text()
    assert page.locator("rect.over, rect.under").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert problems == []
