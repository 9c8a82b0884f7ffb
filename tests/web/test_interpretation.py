"""Points of a sample in the review page: several interpreters, answers by keyboard, and the estimates from them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from starlette.testclient import TestClient

from reviewing import FROM_HOME, HOME, LEGEND, Page, Served, standing, verdict
from tesela.cli import main
from tesela.core.errors import InputError
from tesela.io.images import write_bands
from tesela.io.layers import write_layers
from tesela.io.maps import ClassMap, open_map, write_map
from tesela.io.scenes import open_scene
from tesela.io.tables import changing_rows, copy_geopackage, read_table
from tesela.sampling.files import draw_sample_file
from tesela.sampling.interpretation import Response, read_points, write_responses
from tesela.sampling.responses import class_values_at
from tesela.web.log import VerdictLog, log_path
from tesela.web.point_interpretation import PointItems, agreed_response, read_interpretation
from tesela.web.review import review_app

GRID = GeoBox((80, 80), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A map of three classes, the truth beside it (one class moved by 4 px), its image, and 24 points."""
    values = np.array([1, 2, 7], np.uint8)[np.broadcast_to(np.arange(80) // 27, (80, 80))]
    write_map(tmp_path / "map.tif", values, GRID, legend=LEGEND)
    truth = np.roll(values, 4, axis=1)
    write_map(tmp_path / "truth.tif", truth, GRID, legend=LEGEND)
    pixels = np.stack([truth * 20, 200 - truth * 20, truth * 5]).astype(np.uint8)
    write_bands(tmp_path / "scene.tif", pixels, GRID, names=("red", "green", "blue"))
    draw_sample_file(tmp_path / "map.tif", tmp_path / "sample.gpkg", points=24, minimum=5, hide_strata=True)
    return tmp_path


@pytest.fixture
def sample(folder: Path) -> Path:
    return folder / "sample.gpkg"


@pytest.fixture
def client(folder: Path, sample: Path) -> TestClient:
    scene = open_scene(folder / "scene.tif")
    return TestClient(review_app(sample, images=[scene], reviewer="ana"), base_url=HOME)


def answers_of(sample: Path) -> dict[str, str]:
    table = read_table(sample, layer="points")
    return dict(zip(table["sample_id"].astype(str), table["reference"].fillna(""), strict=True))


def codes_at(sample: Path, source: ClassMap) -> dict[str, str]:
    points = read_points(sample)
    by_value = {item.value: item.code for item in source.legend.classes}
    values = class_values_at(source, points.x, points.y, crs=points.crs)
    return {item_id: by_value[int(value)] for item_id, value in zip(points.ids, values, strict=True)}


def answered(item_id: str, code: str, reviewer: str = "ana", **fields: Any) -> Any:
    return verdict(item_id, reviewer, quality=None, reference=code, **fields)


# The file


def write_halfway(sample: Path) -> None:
    with changing_rows(sample, layer="points", key="sample_id") as change:
        change(1, {"reference": "w"})
        change(2, {"odd": 1})


def test_answers_are_changed_in_place_and_all_or_none(sample: Path) -> None:
    before = read_table(sample, layer="points")
    write_responses(sample, lambda: {"3": Response("f", "80", "a 'note'"), "5": Response("w")})
    after = read_table(sample, layer="points")
    assert after.geometry.equals(before.geometry)
    changed = after.set_index("sample_id").loc[[3, 5], ["reference", "confidence", "note"]]
    assert changed.to_numpy().tolist() == [["f", "80", "a 'note'"], ["w", "", ""]]
    assert (after["reference"] != "").sum() == 2
    with pytest.raises(InputError, match="cannot be changed"):
        write_halfway(sample)
    assert answers_of(sample)["1"] == ""


def test_points_come_without_strata_and_with_their_classes(sample: Path) -> None:
    points = read_points(sample)
    assert points.ids == tuple(str(number) for number in range(1, 25))
    assert points.legend is not None
    assert (points.legend.codes, points.legend.names) == (LEGEND.codes, LEGEND.names)
    assert points.side == points.side_m == 10
    assert np.allclose(points.corners[0].mean(axis=0), (points.x[0], points.y[0]))


# One answer from several interpreters


def test_the_majority_decides_then_the_confidence_then_the_first() -> None:
    three = [answered("1", "w", "ana"), answered("1", "f", "bea"), answered("1", "f", "eva", confidence=20)]
    assert agreed_response(three) == Response("f", "20", "interpreters differ: w 1, f 2")
    tie = [answered("1", "w", "ana", confidence=40), answered("1", "f", "bea", confidence=80, note="edge")]
    assert agreed_response(tie) == Response("f", "80", "edge; interpreters differ: w 1, f 1")
    assert agreed_response([answered("1", "w"), answered("1", "f", "bea")]).reference == "w"
    assert agreed_response(()) == Response()


# The server


def test_the_page_gets_neither_strata_nor_map_classes(client: TestClient, sample: Path) -> None:
    item = client.get("/api/start").json()["queue"][0]
    assert set(item) == {"id", "where", "views", "extents", "side_m", "centre", "crs"}
    assert client.get("/labels?id=1").status_code == 404
    assert client.get("/picture", params={"id": "1", "view": "0 image"}).status_code == 200
    assert client.get("/picture", params={"id": "1", "view": "1 image"}).status_code == 404
    assert client.get("/picture", params={"id": "99", "view": "0 image"}).status_code == 404


def test_the_frame_is_the_pixel_of_the_map_also_on_other_grids(folder: Path, sample: Path) -> None:
    fine = GeoBox((900, 900), Affine(2.5, 0, 499_900, 0, -2.5, 4_100_100), "EPSG:25830")
    write_bands(folder / "fine.tif", np.zeros((3, 900, 900), np.uint8), fine, names=("red", "green", "blue"))
    coarse = GeoBox((40, 40), Affine(0.01, 0, -3.2, 0, -0.01, 37.2), "EPSG:4326")
    write_bands(
        folder / "degrees.tif", np.zeros((3, 40, 40), np.uint8), coarse, names=("red", "green", "blue")
    )
    scenes = [open_scene(folder / f"{name}.tif") for name in ("scene", "fine", "degrees")]
    extents = PointItems(sample, scenes).item("1")["extents"]
    sides = [np.ptp(np.array(extents[name]["frame"]), axis=0) for name in "012"]
    assert np.allclose(sides[0], 1)
    assert np.allclose(sides[1], 4)
    assert np.allclose(sides[2], [0.0113, 0.0090], atol=2e-4)  # 10 m are less in longitude
    for extent in extents.values():
        assert np.allclose(np.array(extent["frame"]).mean(axis=0), extent["side"] / 2, atol=1)


def test_an_answer_is_in_the_log_and_in_the_file_and_undone_in_both(client: TestClient, sample: Path) -> None:
    document = {"key": "k", "reviewer": "ana", "item_id": "4", "reference": "f", "confidence": 60}
    assert client.post("/api/verdicts", json=document, headers=FROM_HOME).json()["warning"] == ""
    assert answers_of(sample)["4"] == "f"
    assert (
        client.post("/api/undo", json={"reviewer": "ana", "key": "u"}, headers=FROM_HOME).status_code == 200
    )
    assert answers_of(sample)["4"] == ""
    for wrong in ({"reference": "x"}, {"quality": "high"}, {"reference": "f", "quality": "high"}, {}):
        bad = {"key": "k2", "reviewer": "ana", "item_id": "4", **wrong}
        assert client.post("/api/verdicts", json=bad, headers=FROM_HOME).status_code == 400


def test_a_file_that_cannot_be_written_gets_the_answer_later(
    client: TestClient, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("sample.gpkg: cannot be changed (database is locked).")

    with monkeypatch.context() as patch:
        patch.setattr("tesela.web.point_interpretation.write_responses", refuse)
        document = {"key": "k", "reviewer": "ana", "item_id": "2", "reference": "w"}
        reply = client.post("/api/verdicts", json=document, headers=FROM_HOME).json()
        assert "safe in sample.review.sqlite" in reply["warning"]
    assert answers_of(sample)["2"] == ""
    assert list(standing(sample, "ana")) == ["2"]
    document = {"key": "k2", "reviewer": "ana", "item_id": "1", "reference": "c"}
    client.post("/api/verdicts", json=document, headers=FROM_HOME)
    assert {k: v for k, v in answers_of(sample).items() if v} == {"1": "c", "2": "w"}


def test_what_a_killed_server_left_unwritten_is_written_at_the_next_start(folder: Path, sample: Path) -> None:
    with VerdictLog(log_path(sample)) as log:
        log.add(answered("7", "c"))
    review_app(sample, images=[open_scene(folder / "scene.tif")], reviewer="ana")
    assert answers_of(sample)["7"] == "c"


def test_points_answered_in_a_gis_are_left_out(folder: Path, sample: Path) -> None:
    write_responses(sample, lambda: {"1": Response("w"), "2": Response("f")})
    app = review_app(sample, images=[open_scene(folder / "scene.tif")], reviewer="ana", overlap=0)
    start = TestClient(app, base_url=HOME).get("/api/start").json()
    assert [item["id"] for item in start["queue"]] == ["3", "4", "5", "6", "7", "8"]
    assert start["progress"]["left"] == 22
    assert answers_of(sample)["1"] == "w"


def test_a_skipped_point_keeps_its_answer_from_a_gis(folder: Path, sample: Path) -> None:
    scene = open_scene(folder / "scene.tif")
    app = TestClient(review_app(sample, images=[scene], reviewer="ana", overlap=0), base_url=HOME)
    skip = {"key": "k", "reviewer": "ana", "item_id": "1", "action": "skip"}
    write_responses(sample, lambda: {"1": Response("w")})  # in a GIS, while the page is open
    assert app.post("/api/verdicts", json=skip, headers=FROM_HOME).status_code == 200
    assert answers_of(sample)["1"] == "w"
    again = TestClient(review_app(sample, images=[scene], reviewer="ana", overlap=0), base_url=HOME)
    assert answers_of(sample)["1"] == "w"
    assert again.get("/api/start").json()["queue"][0]["id"] == "2"


def test_answers_never_go_to_another_sample_of_the_same_name(folder: Path, sample: Path) -> None:
    scene = open_scene(folder / "scene.tif")
    app = TestClient(review_app(sample, images=[scene], reviewer="ana"), base_url=HOME)
    document = {"key": "k", "reviewer": "ana", "item_id": "1", "reference": "w"}
    app.post("/api/verdicts", json=document, headers=FROM_HOME)
    sample.unlink()
    draw_sample_file(folder / "map.tif", sample, points=24, minimum=5, seed=1)
    for use in (lambda: review_app(sample, images=[scene]), lambda: read_interpretation(sample)):
        with pytest.raises(InputError, match="contains the answers of another sample"):
            use()
    assert not any(answers_of(sample).values())


def test_a_copy_of_a_sample_has_what_another_program_wrote_to_its_journal(
    sample: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(sample)) as other:  # as QGIS does
        other.execute("PRAGMA journal_mode = WAL")
        with changing_rows(sample, layer="points", key="sample_id") as change:
            change(3, {"note": "by the road"})
        copy_geopackage(sample, tmp_path / "copy.gpkg")
    notes = read_table(tmp_path / "copy.gpkg", layer="points").set_index("sample_id")["note"]
    assert notes[3] == "by the road"


def test_a_missing_sample_is_reported_and_not_created(sample: Path) -> None:
    sample.unlink()
    with pytest.raises(InputError, match="cannot be changed"):
        write_responses(sample, lambda: {"1": Response("w")})
    assert not sample.exists()


def test_several_interpreters_agree_or_not(
    folder: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VerdictLog(log_path(sample)) as log:
        for number in range(1, 9):
            log.add(answered(str(number), "w" if number % 2 else "f", seconds=3.0))
        for number in range(1, 5):
            log.add(answered(str(number), "w", "bea"))
    results = read_interpretation(sample)
    measured = results.agreement("class")
    assert measured is not None
    assert (measured.items, measured.percent.value, measured.kappa.value) == (4, 0.5, 0.0)
    document = results.to_dict()
    assert (document["reviewed"], document["differing"]) == (8, 2)
    assert main(["review", "agreement", str(sample)]) == 0
    assert "8 of 24 points reviewed by ana, bea" in capsys.readouterr().out
    rows = pd.read_csv(results.export(tmp_path / "answers.csv"))
    assert len(rows) == 12
    assert rows.loc[0, ["sample_id", "interpreter", "reference"]].tolist() == [1, "ana", "w"]
    copy = results.export(tmp_path / "answered.gpkg")
    assert sum(code != "" for code in answers_of(copy).values()) == 8
    assert not any(answers_of(sample).values())
    assert results.export(sample) == sample
    assert answers_of(sample) == answers_of(copy)


def test_wrong_calls_are_refused(folder: Path, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "agreement", str(sample)]) == 1
    assert "there are no verdicts" in capsys.readouterr().err
    assert main(["review", "serve", str(sample)]) == 1
    assert "--image" in capsys.readouterr().err
    scene = str(folder / "scene.tif")
    assert main(["review", "serve", str(sample), "--image", scene, "--order", "class"]) == 1
    assert "A sample has its own order" in capsys.readouterr().err
    assert main(["review", "serve", str(sample), "--image", scene, "--seed", "-1"]) == 1
    assert "--seed is -1: a number from 0 on was needed" in capsys.readouterr().err
    edited = folder / "edited.gpkg"
    layers = {name: read_table(sample, layer=name) for name in ("points", "strata", "key", "classes")}
    write_layers(edited, {**layers, "points": layers["points"].drop(columns="note")})
    assert main(["review", "serve", str(edited), "--image", scene]) == 1
    assert "Unknown field 'note'" in capsys.readouterr().err
    elsewhere = GeoBox((9, 9), Affine(10, 0, 0, 0, -10, 9), "EPSG:25830")
    write_bands(folder / "far.tif", np.zeros((1, 9, 9), np.uint8), elsewhere, names=("pan",))
    assert main(["review", "serve", str(sample), "--image", str(folder / "far.tif")]) == 1
    assert "No point of" in capsys.readouterr().err


# In a browser


@pytest.fixture
def served(folder: Path, sample: Path) -> Iterator[Served]:
    server = Served(sample, "--image", str(folder / "scene.tif"))
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.mark.slow
def test_points_are_interpreted_by_keyboard_and_assess_the_map(
    browser: Any, served: Served, folder: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = codes_at(sample, open_map(folder / "truth.tif"))
    keys = {"w": "1", "f": "2", "c": "3"}
    page = Page(browser, served.address)
    for number in range(8):
        if number == 2:
            for key in ("v", "f", "t"):  # confidence 80 %, a flag, a note
                page.page.keyboard.press(key)
            page.page.keyboard.type("at 1 edge")
            page.page.keyboard.press("Escape")
        page.press(keys[truth[page.seen[-1]]])
    page.wait_saved()
    done = standing(sample, "ana")
    assert list(done) == page.seen[:8] == [str(number) for number in range(1, 9)], "the sample's own order"
    third = done["3"]
    assert (third.confidence, third.flag, third.note) == (80, True, "at 1 edge")

    page.page.reload()
    page.wait_for("window.seen.length > 0")
    assert page.seen[-1] == "9"
    page.press("u")
    assert page.seen[-1] == "8"
    assert "8" not in standing(sample, "ana")
    assert answers_of(sample)["8"] == ""
    page.page.keyboard.press("/")
    page.page.keyboard.type("wat")
    page.press("Enter")
    page.wait_saved()
    assert standing(sample, "ana")["8"].reference == "w"
    page.press("ArrowLeft")
    assert page.page.locator("[data-class][aria-selected=true]").get_attribute("data-class") == "w"
    page.press(keys[truth["8"]])
    assert main(["sample", "estimate", str(sample), str(folder / "map.tif"), "-o", str(folder / "half")]) == 1
    capsys.readouterr()
    page.press("p")  # the ninth comes again at the end
    while page.page.locator("#done").is_hidden():
        page.press(keys[truth[page.seen[-1]]])
    page.wait_saved()
    page.wait_for("document.getElementById('done-title').textContent === 'All points are interpreted'")
    assert page.seen[-1] == "9"
    assert page.trouble == []
    assert served.stop() == 0
    assert answers_of(sample) == truth
    assert main(["sample", "estimate", str(sample), str(folder / "map.tif"), "-o", str(folder / "out")]) == 0
    mapped = codes_at(sample, open_map(folder / "map.tif"))
    right = [mapped[item_id] == truth[item_id] for item_id in truth]
    assert "24 points" in capsys.readouterr().out
    assert 0.7 < np.mean(right) < 1


def test_a_file_without_points_and_changes_names_the_commands_that_write_them(tmp_path: Path) -> None:
    polygons = gpd.GeoDataFrame({"CODE": ["1"]}, geometry=[shapely.box(0, 0, 10, 10)], crs="EPSG:25830")
    polygons.to_file(tmp_path / "clc.gpkg", layer="clc")
    with pytest.raises(InputError, match=r"has the layers clc, no points .*tesela sample draw"):
        review_app(tmp_path / "clc.gpkg")
