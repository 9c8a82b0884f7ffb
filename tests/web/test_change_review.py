"""Proposed changes in the review page: decisions by keyboard, a killed server, exports, and the new layer from them."""

import csv
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from starlette.testclient import TestClient

from reviewing import FROM_HOME, HOME, LEGEND, Page, Served, standing, verdict
from tesela.cli import main
from tesela.core.errors import InputError
from tesela.generalise.update import update_polygons
from tesela.generalise.update_apply import apply_update
from tesela.generalise.verdicts import UpdateRule
from tesela.io.images import write_bands
from tesela.io.maps import write_map
from tesela.io.scenes import open_scene
from tesela.io.update_queue import read_queue, write_decisions
from tesela.io.vector import open_layer
from tesela.web.change_review import ChangeItems, read_change_decisions
from tesela.web.review import review_app

X, Y = 500_000.0, 4_100_000.0
GRID = GeoBox((120, 120), Affine(10, 0, X, 0, -10, Y), "EPSG:25830")


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Nine forests of 400 m; one is crops now, one half water, one holds a field of 200 m; images of two dates."""
    values = np.full((120, 120), 2, np.uint8)
    values[0:40, 40:80] = 7
    values[40:80, 0:20] = 1
    values[90:110, 90:110] = 7
    source = write_map(tmp_path / "map.tif", values, GRID, legend=LEGEND)
    for name, shown in (("2018", np.full_like(values, 2)), ("2024", values)):
        pixels = np.stack([shown * 20, 200 - shown * 20, shown * 5]).astype(np.uint8)
        write_bands(
            tmp_path / f"{name}.tif", pixels, GRID, names=("red", "green", "blue"), date=f"{name}-07-01"
        )
    squares = [
        shapely.box(X + 400 * col, Y - 400 * row - 400, X + 400 * col + 400, Y - 400 * row)
        for row in range(3)
        for col in range(3)
    ]
    fields = {"CODE": ["f"] * 9, "ID": range(1, 10), "ROTULO": [None] * 8 + ["60CNR_40MTR"]}
    old = gpd.GeoDataFrame(fields, geometry=squares, crs="EPSG:25830")
    old.to_file(tmp_path / "old.gpkg")
    made = update_polygons(
        open_layer(tmp_path / "old.gpkg"),
        source,
        tmp_path / "queue.gpkg",
        field="CODE",
        rule=UpdateRule(part_ha=1),
    )
    assert made.proposals == 3
    return tmp_path / "queue.gpkg"


def scenes(queue: Path) -> list[Any]:
    return [open_scene(queue.parent / f"{year}.tif") for year in (2018, 2024)]


@pytest.fixture
def client(queue: Path) -> TestClient:
    return TestClient(review_app(queue, images=scenes(queue), reviewer="ana"), base_url=HOME)


def decided(item_id: str, code: str, reviewer: str = "ana", **fields: Any) -> dict[str, Any]:
    return verdict(item_id, reviewer, quality=None, reference=code, **fields).model_dump(
        exclude={"at"}, mode="json"
    )


def by_feature(queue: Path) -> dict[int, str]:
    return {int(row["feature"]): str(number) for number, row in read_queue(queue).proposals.iterrows()}


def decisions(queue: Path) -> dict[int, str]:
    frame = read_queue(queue).proposals
    return dict(zip(frame["feature"].astype(int), frame["decision"], strict=True))


# The items


def test_a_change_comes_with_its_classes_and_both_outlines(queue: Path) -> None:
    items = ChangeItems(queue, scenes(queue))
    ids = by_feature(queue)
    item = items.item(ids[9])
    assert (item["old"], item["new"]) == (
        {"code": "f", "name": "<b>Forest</b>", "color": "#008800"},
        {"code": "c", "name": "Crops", "color": "#ffff00"},
    )
    assert (item["area_ha"], item["share"]) == (4, 0.25)
    assert item["where"][2:] == ["polygon 9", "ROTULO 60CNR_40MTR"]
    assert items.item(ids[2])["where"][2:] == ["polygon 2"]
    assert list(item["views"].values()) == ["2018 · natural", "2024 · natural"]
    extent = item["extents"]["0"]
    scale = 10  # metres of a pixel
    part, polygon = (np.array(extent[name][0]) for name in ("part", "polygon"))
    assert np.ptp(part, axis=0).tolist() == [200 / scale, 200 / scale]
    assert np.ptp(polygon, axis=0).tolist() == [400 / scale, 400 / scale]
    assert part.mean(axis=0) - np.array(extent["side"]) / 2 == pytest.approx(0, abs=6)
    assert items.order("urgency", seed=0, rated=set()) == list(read_queue(queue).ids)
    assert items.picture(ids[9], "0 image")[:3] == b"\xff\xd8\xff"
    with pytest.raises(KeyError, match="2 image"):
        items.picture(ids[9], "2 image")


def test_decisions_reach_the_queue_and_undo_takes_them_back(client: TestClient, queue: Path) -> None:
    ids = by_feature(queue)
    for feature, code in ((2, "c"), (4, "f"), (9, "w")):
        reply = client.post("/api/verdicts", json=decided(ids[feature], code, note="seen"), headers=FROM_HOME)
        assert (reply.status_code, reply.json()["warning"]) == (200, "")
    assert decisions(queue) == {2: "c", 4: "f", 9: "w"}
    client.post("/api/undo", json={"reviewer": "ana", "key": "u1"}, headers=FROM_HOME)
    assert decisions(queue) == {2: "c", 4: "f", 9: ""}
    refused = client.post("/api/verdicts", json=decided(ids[9], "lava"), headers=FROM_HOME)
    assert refused.status_code == 400
    assert "Unknown code 'lava'" in refused.json()["error"]


def test_reviews_are_exported_as_apply_takes_them(client: TestClient, queue: Path, tmp_path: Path) -> None:
    ids = by_feature(queue)
    for feature, code in ((2, "c"), (4, "f"), (9, "w")):
        client.post("/api/verdicts", json=decided(ids[feature], code), headers=FROM_HOME)
    client.post("/api/verdicts", json=decided(ids[2], "c", "bea"), headers=FROM_HOME)
    results = read_change_decisions(queue)
    assert results.to_dict()["outcomes"] == {"accepted": 2, "other class": 1, "rejected": 1}
    assert results.agreement("class").percent.value == 1
    assert (
        main(
            [
                "review",
                "export",
                str(queue),
                "-o",
                str(tmp_path / "d.gpkg"),
                "-o",
                str(tmp_path / "d.csv"),
                "-q",
            ]
        )
        == 0
    )
    rows = list(csv.DictReader((tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["feature"], row["outcome"]) for row in rows} == {
        ("2", "accepted"), ("4", "rejected"), ("9", "other class"),
    }  # fmt: skip
    write_decisions(queue, dict.fromkeys(ids.values(), ("", "")))
    made = apply_update(tmp_path / "d.gpkg", tmp_path / "new.gpkg")
    assert made.changes == {"f-c": (1, pytest.approx(16)), "f-w": (1, pytest.approx(4))}


def test_what_cannot_be_reviewed_is_a_clear_error(queue: Path) -> None:
    with pytest.raises(InputError, match="there are no verdicts"):
        read_change_decisions(queue)
    with pytest.raises(InputError, match="name the imagery in which to look"):
        ChangeItems(queue, [])
    with pytest.raises(InputError, match="A queue has its own order"):
        review_app(queue, images=scenes(queue), order="random")
    review_app(queue, images=scenes(queue))
    update_polygons(
        open_layer(queue.parent / "old.gpkg"), write_map(queue.parent / "m.tif", np.full((120, 120), 1, np.uint8), GRID,
        legend=LEGEND), queue, field="CODE",
    )  # fmt: skip
    with pytest.raises(InputError, match="contains the answers of another"):
        review_app(queue, images=scenes(queue))


# The page


@pytest.fixture
def served(queue: Path) -> Iterator[Served]:
    images = [word for year in (2018, 2024) for word in ("--image", str(queue.parent / f"{year}.tif"))]
    server = Served(queue, *images)
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGKILL)


@pytest.mark.slow
def test_changes_are_decided_by_keyboard_and_survive_a_killed_server(
    browser: Any, served: Served, queue: Path
) -> None:
    page = Page(browser, served.address)
    ids = {item_id: feature for feature, item_id in by_feature(queue).items()}
    given = {}
    assert page.text("#old-class") == "f <b>Forest</b>"
    assert page.page.locator("figure:visible figcaption").all_inner_texts() == [
        "2018 · natural", "2024 · natural", "Around · 2018 · natural",
    ]  # fmt: skip
    for key, code in (("a", None), ("r", "f"), ("1", "w")):
        shown = page.seen[-1]
        given[ids[shown]] = code or {2: "c", 4: "w", 9: "c"}[ids[shown]]
        page.press(key)
        page.wait_saved()
    assert page.page.locator("#done").is_visible()
    assert f"tesela update apply {queue.name}" in page.text("#done-text")
    served.stop(signal.SIGKILL)
    assert {ids[item_id]: item.reference for item_id, item in standing(queue, "ana").items()} == given
    assert decisions(queue) == given
    assert [text for text in page.trouble if "Failed to load resource" not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_accept_and_reject_stay_in_view(
    browser: Any, queue: Path, tmp_path: Path, scheme: str
) -> None:
    server = Served(queue, "--image", str(tmp_path / "2018.tif"), "--image", str(tmp_path / "2024.tif"))
    try:
        page = Page(browser, server.address).page
        for width, height in ((1280, 800), (390, 844), (360, 640)):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for where in (0, 10_000):
                page.mouse.wheel(0, where)
                page.wait_for_timeout(100)
                for name in ("accept", "reject", "skip"):
                    box = page.locator(f"#{name}").bounding_box()
                    assert box is not None
                    assert 0 <= box["y"] <= height - box["height"], (name, width, where)
                    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
                    assert (
                        page.evaluate("p => document.elementFromPoint(...p).closest('button')?.id", middle)
                        == name
                    )
        shown = page.evaluate("seen.length")
        page.locator("#accept").click()
        while page.evaluate("seen.length") == shown:
            page.wait_for_timeout(20)
    finally:
        server.stop(signal.SIGKILL)
