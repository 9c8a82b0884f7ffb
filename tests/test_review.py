"""The review page: a reviewer judges by keyboard, several at once, and no verdict is ever lost."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from starlette.testclient import TestClient

from tesela.cli import main
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.images import write_bands
from tesela.io.maps import open_map, write_map
from tesela.io.scenes import open_scene
from tesela.patches import PatchTable, make_patches, read_patches, split_patches
from tesela.patches.tiers import AUTOMATIC, automatic_tiers, with_tiers
from tesela.web.exports import export_review, read_review
from tesela.web.queue import CLAIM_S, ReviewQueue
from tesela.web.review import review_app
from tesela.web.verdicts import LogError, Verdict, VerdictLog, log_path

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water", "#0000ff"),
        LandClass(2, "f", "<b>Forest</b>", "#008800"),
        LandClass(7, "c", "Crops", "#ffff00"),
    ),
)
HOME = "http://127.0.0.1:8080"
FROM_HOME = {"origin": HOME}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scene of 160 x 160 px, three classes in stripes, 25 patches of 32 px."""
    folder = tmp_path_factory.mktemp("review")
    grid = GeoBox((160, 160), Affine(0.5, 0, 500_000, 0, -0.5, 4_100_000), "EPSG:25830")
    labels = np.array([1, 2, 7], np.uint8)[(np.arange(160) // 20 + np.arange(160)[:, None] // 48) % 3]
    pixels = np.random.default_rng(0).integers(0, 60, (3, 160, 160), dtype=np.uint8)
    pixels[0] += labels * 20
    write_bands(folder / "scene.tif", pixels, grid, names=("red", "green", "blue"), date="2025-07-01")
    write_map(folder / "labels.tif", labels, grid, legend=LEGEND)
    scene = open_scene(folder / "scene.tif")
    return make_patches([scene], [open_map(folder / "labels.tif")], size_px=32).write(
        folder / "patches.parquet"
    )


@pytest.fixture
def table_path(made: Path, tmp_path: Path) -> Path:
    """A copy of the project without verdicts."""
    for file in made.parent.iterdir():
        if file.suffix in (".tif", ".parquet"):
            shutil.copy(file, tmp_path)
    return tmp_path / "patches.parquet"


@pytest.fixture
def table(table_path: Path) -> PatchTable:
    return read_patches(table_path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[VerdictLog]:
    with VerdictLog(tmp_path / "log.sqlite") as opened:
        yield opened


@pytest.fixture
def client(table_path: Path) -> TestClient:
    return TestClient(review_app(table_path, reviewer="ana"), base_url=HOME)


def verdict(patch: str, reviewer: str = "ana", *, key: str = "", **fields: Any) -> Verdict:
    tier = None if fields.get("action") == "skip" else fields.pop("tier", "high")
    return Verdict(key=key or f"{reviewer}-{patch}", reviewer=reviewer, patch_id=patch, tier=tier, **fields)


# The log


def test_the_last_word_of_each_reviewer_stands(log: VerdictLog) -> None:
    log.add(verdict("a"))
    log.add(verdict("a", "bea", tier="low"))
    log.add(
        verdict("a", key="second", tier="medium", label=1, boundary=2, reasons=("shift", "mixed"), note="é")
    )
    standing = log.standing()
    assert [(item.reviewer, item.tier) for item in standing] == [("bea", "low"), ("ana", "medium")]
    assert standing[1].reasons == ("shift", "mixed")
    assert standing[1].note == "é"
    assert standing[1].at.endswith("Z")
    assert [item.reviewer for item in log.standing("bea")] == ["bea"]


def test_a_verdict_that_is_sent_twice_is_kept_once(log: VerdictLog) -> None:
    for _ in range(2):
        log.add(verdict("a"))
    assert log.count() == 1


def test_undoing_brings_back_what_was_said_before(log: VerdictLog) -> None:
    log.add(verdict("a", tier="high"))
    log.add(verdict("a", key="again", tier="low"))
    log.add(verdict("b", "bea"))
    assert log.undo("ana", "u1") == "a"
    assert [item.tier for item in log.standing("ana")] == ["high"]
    assert log.undo("ana", "u1") == "a", "asked twice, done once"
    assert [item.tier for item in log.standing("ana")] == ["high"]
    assert log.undo("ana", "u2") == "a"
    assert log.undo("ana", "u3") is None
    assert [item.patch_id for item in log.standing()] == ["b"]
    assert log.count() == 5


def test_nothing_in_the_log_can_be_changed_or_deleted(log: VerdictLog) -> None:
    log.add(verdict("a"))
    for statement in ("UPDATE events SET tier = 'low'", "DELETE FROM events"):
        with pytest.raises(LogError, match="append-only"), log.writing() as base:
            base.execute(statement)
    assert log.standing()[0].tier == "high"


def test_a_file_that_is_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"no data base" * 100)
    with pytest.raises(InputError, match=r"log\.sqlite: cannot be used as a log of verdicts"):
        VerdictLog(tmp_path / "log.sqlite")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"label": 4, "boundary": 1}, "label"),
        ({"tier": "best"}, "tier"),
        ({"tier": None}, "a judgement needs its tier"),
        ({"label": 1, "boundary": 1, "tier": "low"}, "the answers make it high"),
        ({"reasons": ["fog"]}, "Unknown reason 'fog'"),
        ({"reviewer": " "}, "reviewer"),
        ({"reviewer": "a\nb"}, "reviewer"),
        ({"confidence": 101}, "confidence"),
        ({"note": "x" * 2001}, "note"),
        ({"seconds": -1}, "seconds"),
        ({"flag": 1}, "flag"),
        ({"key": ""}, "key"),
        ({"quality": "high"}, "quality"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(fields: dict[str, object], problem: str) -> None:
    document = {"key": "k", "reviewer": "ana", "patch_id": "p", "tier": "high"} | fields
    with pytest.raises(InputError, match=problem):
        Verdict.of(document)


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(name: str) -> None:
        with VerdictLog(tmp_path / "log.sqlite") as mine:
            for number in range(25):
                mine.add(verdict(f"p{number}", name))

    VerdictLog(tmp_path / "log.sqlite").close()
    writers = [threading.Thread(target=write, args=(name,)) for name in ("ana", "bea", "carlo", "dora")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with VerdictLog(tmp_path / "log.sqlite") as log:
        assert log.count() == len(log.standing()) == 100


# The queue


def judge(queue: ReviewQueue, reviewer: str, *, most: int = 1000) -> list[str]:
    done: list[str] = []
    while len(done) < most and (coming := queue.hand_out(reviewer, 3)[0]):
        queue.log.add(verdict(coming[0], reviewer, seconds=2.0))
        done.append(coming[0])
    return done


def test_all_patches_are_judged_once_and_the_shared_ones_by_all(table: PatchTable, log: VerdictLog) -> None:
    queue = ReviewQueue(table, log, overlap=0.2)
    first = judge(queue, "ana", most=9)
    second = judge(queue, "bea")
    third = judge(queue, "ana")
    assert len(queue.shared) == 5
    assert queue.shared < set(second)
    assert queue.shared <= set(first + third)
    assert set(first + third) & set(second) == queue.shared
    # what ana was handed and has not judged stays hers, and was left for her
    assert len({*first, *second, *third}) == 25
    coming, progress = queue.hand_out("ana", 3)
    assert coming == []
    assert (progress.team, progress.total, progress.left) == (25, 25, 0)
    assert progress.done == len(first + third)
    assert progress.seconds_each == 2.0


def test_what_was_handed_out_and_forgotten_is_free_again(table: PatchTable, log: VerdictLog) -> None:
    now = [0.0]
    queue = ReviewQueue(table, log, overlap=0, clock=lambda: now[0])
    held, _ = queue.hand_out("ana", 4)
    assert not set(held) & set(queue.hand_out("bea", 25)[0])
    assert queue.hand_out("ana", 4)[0] == held
    now[0] = CLAIM_S + 1
    assert set(held) <= set(queue.hand_out("bea", 25)[0])


def test_what_is_skipped_comes_again_at_the_end(table: PatchTable, log: VerdictLog) -> None:
    queue = ReviewQueue(table, log, overlap=0)
    (skipped, following), progress = queue.hand_out("ana", 2)
    log.add(verdict(skipped, action="skip"))
    queue.release(skipped)
    assert queue.hand_out("ana", 1)[0] == [following]
    assert queue.hand_out("ana", 100)[0][-1] == skipped
    assert progress.left == 25
    assert progress.left_seconds is None


def test_the_order_is_random_by_class_or_by_doubt(table: PatchTable, log: VerdictLog) -> None:
    drawn = ReviewQueue(table, log, seed=1).order
    assert drawn == ReviewQueue(table, log, seed=1).order != ReviewQueue(table, log, seed=2).order
    main_class = table.frame.set_index("patch_id")[table.share_columns].idxmax(axis=1)
    turns = [main_class[patch] for patch in ReviewQueue(table, log, order="class").order]
    least = main_class.value_counts().min()
    kinds = main_class.nunique()
    for turn in range(least):
        assert len({*turns[turn * kinds : (turn + 1) * kinds]}) == kinds
    with pytest.raises(InputError, match=r"tesela review PATCHES --rank"):
        ReviewQueue(table, log, order="disagreement")
    doubt = np.random.default_rng(0).random(25)
    doubt[3] = np.nan
    ranked = replace(table, frame=table.frame.assign(doubt=doubt))
    order = ReviewQueue(ranked, log, order="disagreement").order
    assert order[0] == table.frame["patch_id"].iloc[np.nanargmax(doubt)]
    assert order[-1] == table.frame["patch_id"].iloc[3]
    for patches in (drawn, order):
        assert sorted(patches) == sorted(table.frame["patch_id"])


# What a browser may ask


def test_only_its_own_page_may_change_something(client: TestClient, table: PatchTable) -> None:
    document = {"key": "k", "reviewer": "ana", "patch_id": table.frame["patch_id"].iloc[0], "tier": "high"}
    for headers in (
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8081"},
    ):
        answer = client.post("/api/verdicts", json=document, headers=headers)
        assert answer.status_code == 403, headers
    sneaky = {**FROM_HOME, "content-type": "text/plain"}
    assert client.post("/api/verdicts", content=json.dumps(document), headers=sneaky).status_code == 415
    assert client.post("/api/verdicts", data=document, headers=FROM_HOME).status_code == 415
    assert client.post("/api/verdicts", json={"note": "x" * 70_000}, headers=FROM_HOME).status_code == 413
    assert client.post("/api/verdicts", json=[1], headers=FROM_HOME).status_code == 400
    assert client.get("/api/start").json()["progress"]["done"] == 0
    assert client.post("/api/verdicts", json=document, headers=FROM_HOME).status_code == 200
    assert client.get("/api/start").json()["progress"]["done"] == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8080", "192.168.0.7:8080", "", "[::1"]
)
def test_other_names_are_not_answered_on_loopback(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 403


def test_a_server_for_the_network_answers_addresses_but_no_strange_names(table_path: Path) -> None:
    client = TestClient(review_app(table_path, reviewer="ana", host="0.0.0.0"), base_url=HOME)
    assert client.get("/", headers={"host": "192.168.0.7:8080"}).status_code == 200
    assert client.get("/", headers={"host": "evil.example:8080"}).status_code == 403


def test_other_sites_may_neither_embed_nor_load(client: TestClient) -> None:
    cross = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/api/start", headers=cross).status_code == 403
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "address",
    [
        "/static/../review.py",
        "/static/%2e%2e/review.py",
        "/static//etc/passwd",
        "/static/review.py",
        "/patch/image?id=../../../../etc/passwd",
        "/patch/image?id=/etc/passwd",
        "/patch/labels?id=labels.tif",
        "/patch/labels",
        "/patches.parquet",
        "/..%2fpatches.review.sqlite",
    ],
)
def test_no_request_reaches_a_file(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert len(answer.content) < 100


def test_unknown_patches_views_and_names_are_told(client: TestClient, table: PatchTable) -> None:
    patch = table.frame["patch_id"].iloc[0]
    assert client.get(f"/patch/image?id={patch}&view=../x").status_code == 404
    assert client.get("/api/start?reviewer=" + "x" * 61).status_code == 400
    answer = client.post(
        "/api/verdicts",
        json={"key": "k", "reviewer": "ana", "patch_id": "elsewhere", "tier": "high"},
        headers=FROM_HOME,
    )
    assert answer.status_code == 400
    assert "There is no patch 'elsewhere' in patches.parquet" in answer.json()["error"]
    assert client.post("/api/undo", json={"reviewer": "ana"}, headers=FROM_HOME).status_code == 400


def test_the_page_escapes_what_it_is_told(client: TestClient) -> None:
    text = client.get("/?reviewer=%3Cscript%3Ealert(1)%3C/script%3E").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_pictures_are_those_of_the_patch(client: TestClient, table: PatchTable) -> None:
    row = table.frame.iloc[7]
    answer = client.get(f"/patch/image?id={row.patch_id}")
    with Image.open(BytesIO(answer.content)) as picture:
        shown = np.asarray(picture)
    assert shown.shape == (48, 48, 3)  # 8 px of ground around 32 px
    values = np.frombuffer(client.get(f"/patch/labels?id={row.patch_id}").content, np.uint8).reshape(32, 32)
    at = np.arange(160)
    labels = np.array([1, 2, 7], np.uint8)[(at // 20 + at[:, None] // 48) % 3]
    assert (values == labels[row.row : row.row + 32, row.col : row.col + 32]).all()
    assert client.get(f"/patch/labels?id={row.patch_id}").headers["content-encoding"] == "deflate"
    crops = shown[8:40, 8:40][values == 7].mean(axis=0)
    assert crops[0] - crops[1] == pytest.approx(140, abs=6)


def test_a_full_disk_is_told_and_the_verdict_may_come_again(
    client: TestClient, table: PatchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"key": "k", "reviewer": "ana", "patch_id": table.frame["patch_id"].iloc[0], "tier": "high"}

    def fail(*_: object) -> None:
        raise LogError("log: nothing was saved (database or disk is full).")

    with monkeypatch.context() as patch:
        patch.setattr(VerdictLog, "add", fail)
        assert client.post("/api/verdicts", json=document, headers=FROM_HOME).status_code == 503
    assert client.post("/api/verdicts", json=document, headers=FROM_HOME).json()["progress"]["done"] == 1


# What comes of it


@pytest.fixture
def reviewed(table_path: Path, table: PatchTable) -> Path:
    """ana judged ten patches, bea four of them: twice the same, once a step and once two steps apart."""
    patches = table.frame["patch_id"].tolist()
    with VerdictLog(log_path(table_path)) as log:
        for number in range(10):
            answers = {"label": 1, "boundary": 1 + number % 3}
            log.add(
                verdict(patches[number], tier=("high", "medium", "low")[number % 3], seconds=4.0, **answers)
            )
        for number, tier in enumerate(("high", "medium", "high", "medium")):
            log.add(
                verdict(
                    patches[number], "bea", tier=tier, flag=number == 1, note="see" if number == 1 else ""
                )
            )
        log.add(verdict("of another table"))
        log.add(verdict(patches[12], action="skip"))
    return table_path


def test_the_table_gets_the_tiers_and_can_be_split_by_them(reviewed: Path, tmp_path: Path) -> None:
    out = export_review(read_review(reviewed), tmp_path / "out" / "reviewed.parquet")
    table = read_patches(out)
    # of two reviewers the worse counts
    assert table.frame["quality"].tolist()[:11] == [
        "high",
        "medium",
        "low",
        "medium",
        *["medium", "low", "high"] * 2,
        "",
    ]
    assert (table.frame["quality_source"] == ["review"] * 10 + [""] * 15).all()
    assert split_patches(table, "quality").counts == {"train": 3, "val": 4, "test": 3, "none": 15}
    assert read_patches(reviewed).frame["quality"].eq("").all()
    assert Path(table.labels["scene"]).exists()


def test_verdicts_are_exported_for_people_and_for_maps(reviewed: Path, tmp_path: Path) -> None:
    review = read_review(reviewed)
    found = pd.read_csv(export_review(review, tmp_path / "verdicts.csv"), keep_default_na=False)
    assert len(found) == 14
    assert found.loc[0, ["reviewer", "quality", "label", "boundary"]].tolist() == [
        "ana",
        "high",
        "right",
        "right",
    ]
    assert found["note"].tolist().count("see") == 1
    target = export_review(review, tmp_path / "verdicts.gpkg")
    patches = gpd.read_file(target, layer="patches")
    assert patches.crs == "EPSG:25830"
    assert patches["verdicts"].tolist()[:5] == [2, 2, 2, 2, 1]
    assert patches["flag"].astype(bool).sum() == 1
    assert len(gpd.read_file(target, layer="verdicts")) == 14
    with pytest.raises(InputError, match=r"end in \.parquet, \.csv, \.gpkg"):
        export_review(review, tmp_path / "verdicts.xlsx")


def test_agreement_is_measured_on_what_two_judged(reviewed: Path) -> None:
    review = read_review(reviewed)
    found = review.agreement("quality")
    assert found is not None
    assert (found.things, found.percent.value) == (4, 0.5)
    assert review.agreement("label") is None, "bea gave tiers straight"
    document = json.loads(json.dumps(review.to_dict()))
    assert document["judged"] == 10
    assert document["reviewers"]["ana"] == {
        "patches": 10, "high": 4, "medium": 3, "low": 3, "flagged": 0, "median_seconds": 4.0,
    }  # fmt: skip


def test_the_command_exports_and_tells_agreement(
    reviewed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["review", str(reviewed), "--export", str(tmp_path / "a.csv"), "--export", str(reviewed)]) == 0
    )
    assert read_patches(reviewed).frame["quality"].ne("").sum() == 10
    assert main(["review", str(reviewed), "--agreement"]) == 0
    text = capsys.readouterr().out
    assert "10 of 25 patches judged by ana, bea" in text
    assert "quality        4  0.500 (0.000 to 1.000)" in text


def test_a_table_without_verdicts_is_told(table_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(table_path), "--agreement"]) == 1
    assert "nobody has reviewed it" in capsys.readouterr().err
    assert main(["review", str(table_path), "--order", "clas"]) == 1
    assert "did you mean 'class'" in capsys.readouterr().err


def test_automatic_tiers_are_marked_and_never_replace_those_of_people(table: PatchTable) -> None:
    with pytest.raises(InputError, match="Rank the table first"):
        automatic_tiers(table)
    doubt = np.arange(25) / 24
    doubt[24] = np.nan
    ranked = replace(table, frame=table.frame.assign(doubt=doubt))
    seen = with_tiers(ranked, {str(table.frame["patch_id"].iloc[0]): "low"}, source="review")
    made = automatic_tiers(seen, shares=(0.5, 0.25, 0.25)).frame
    assert made["quality"].tolist() == ["low", *["high"] * 11, *["medium"] * 6, *["low"] * 6, ""]
    assert made["quality_source"].tolist() == ["review", *[AUTOMATIC] * 23, ""]
    with pytest.raises(InputError, match="three that sum to 1"):
        automatic_tiers(ranked, shares=(0.5, 0.6))


# In a browser, with a server of its own


class Served:
    """`tesela review` as a process of its own."""

    def __init__(self, table: Path, port: int = 0) -> None:
        command = [sys.executable, "-c", "from tesela.cli import main; raise SystemExit(main())", "review"]
        self.process = subprocess.Popen(
            [*command, str(table), "--port", str(port), "--reviewer", "ana", "--overlap", "0.2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.port = int(self.address.rstrip("/").rsplit(":", 1)[1])

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def served(table_path: Path) -> Iterator[Served]:
    server = Served(table_path)
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGKILL)


class Page:
    """A reviewer's page, and all that went wrong with it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.set_default_timeout(60_000)
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        home = address.partition("?")[0]
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith((home, "data:", "blob:")) else self.trouble.append(request.url)
            ),
        )
        self.page.add_init_script(
            "window.seen = []; addEventListener('patchshown', (event) => seen.push(event.detail), true);"
        )
        self.page.goto(address)
        self.wait_for("seen.length > 0 || !document.getElementById('done').hidden")

    def wait_for(self, condition: str) -> None:
        """Ask until it holds; playwright's own waiting evaluates text in the page, which its policy forbids."""
        end = time.monotonic() + 60
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"never: {condition}"
            self.page.wait_for_timeout(10)

    @property
    def seen(self) -> list[str]:
        found: list[str] = self.page.evaluate("seen")
        return found

    def press(self, *keys: str) -> None:
        """
        Press keys of which the last brings another patch or the end; wait for it.

        While verdicts are on their way the page may have no patch to show: that is not the end yet.
        """
        count = len(self.seen)
        for key in keys:
            self.page.keyboard.press(key)
        ended = "!document.getElementById('done').hidden && document.getElementById('saved').textContent === 'saved'"
        self.wait_for(f"seen.length > {count} || ({ended})")

    def wait_saved(self) -> None:
        self.wait_for("document.getElementById('saved').textContent === 'saved'")

    def text(self, rule: str) -> str:
        found: str = self.page.locator(rule).inner_text()
        return found


def standing(table: Path, reviewer: str) -> dict[str, Verdict]:
    with VerdictLog(log_path(table)) as log:
        return {item.patch_id: item for item in log.standing(reviewer)}


@pytest.mark.slow
def test_a_reviewer_judges_all_patches_by_keyboard_alone(
    browser: Any, served: Served, table_path: Path
) -> None:
    page = Page(browser, served.address)
    for number in range(20):  # label and boundary, one key each, in turns
        if number == 3:
            page.page.keyboard.press("?")
            page.wait_for("document.getElementById('help').open")
            page.page.keyboard.press("Escape")
        if number == 5:
            for key in ("z", "n", "f", "7", "t"):
                page.page.keyboard.press(key)
            page.page.keyboard.type("a d 3")
            page.page.keyboard.press("Escape")
        page.press("asd"[number % 3], "jkl"[number // 3 % 3])
    page.wait_saved()
    done = standing(table_path, "ana")
    assert list(done) == page.seen[:20]
    expected = [max(number % 3, number // 3 % 3) for number in range(20)]
    assert [item.tier for item in done.values()] == [("high", "medium", "low")[rank] for rank in expected]
    marked = done[page.seen[5]]
    assert (marked.reasons, marked.flag, marked.confidence, marked.note) == (
        ("class", "cloud"),
        True,
        60,
        "a d 3",
    )
    assert all(0 < item.seconds < 60 for item in done.values())
    assert "20 of 25" in page.text("#progress")

    page.page.reload()
    page.wait_for("window.seen.length > 0")
    fresh = page.seen[-1]
    assert fresh not in done
    page.press("ArrowLeft")
    last = page.seen[-1]
    assert last == list(done)[-1]
    assert page.page.locator("[data-tier][aria-pressed=true]").inner_text().split()[0] == done[last].tier
    page.press("1")
    assert page.seen[-1] == fresh
    page.wait_saved()
    assert standing(table_path, "ana")[last].tier == "high"

    page.press("u")  # the change is taken back, what was said before stands; the patch is shown again
    assert page.seen[-1] == last
    assert standing(table_path, "ana")[last].tier == done[last].tier
    page.press("u")
    assert last not in standing(table_path, "ana")
    skipped = page.seen[-1]
    page.press("p")
    while page.page.locator("#done").is_hidden():
        page.press("2")
    page.wait_saved()
    page.wait_for("document.getElementById('done-title').textContent === 'All patches are judged'")
    final = standing(table_path, "ana")
    assert len(final) == 25
    assert list(final)[-1] == skipped, "skipped patches come last"
    assert {item.action for item in final.values()} == {"judge"}
    assert page.trouble == []
    assert served.stop() == 0


@pytest.mark.slow
def test_a_killed_server_loses_no_verdict_of_two_reviewers(
    browser: Any, served: Served, table_path: Path
) -> None:
    ana, bea = Page(browser, served.address), Page(browser, f"{served.address}?reviewer=bea")
    given: dict[str, list[str]] = {"ana": [], "bea": []}

    def judge_some(count: int) -> None:
        for _ in range(count):
            for name, page in (("ana", ana), ("bea", bea)):
                given[name].append(page.seen[-1])
                page.press("a", "k")

    judge_some(2)
    served.stop(signal.SIGKILL)
    judge_some(1)  # the next patches are there already; the verdicts wait in the browser
    ana.wait_for("document.getElementById('saved').classList.contains('late')")
    again = Served(table_path, served.port)
    try:
        for page in (ana, bea):
            page.wait_saved()
        judge_some(1)
        for page in (ana, bea):
            page.wait_saved()
        for name in given:
            found = standing(table_path, name)
            assert list(found) == given[name]
            assert {item.tier for item in found.values()} == {"medium"}
        with VerdictLog(log_path(table_path)) as log:
            assert log.count() == 8
            shared = ReviewQueue(read_patches(table_path), log, overlap=0.2).shared
        assert set(given["ana"]) & set(given["bea"]) <= shared
        failed = [text for text in ana.trouble + bea.trouble if "Failed to load resource" not in text]
        assert failed == []
    finally:
        again.stop(signal.SIGKILL)


def test_a_server_killed_while_it_writes_keeps_all_that_it_confirmed(
    table_path: Path, table: PatchTable
) -> None:
    server = Served(table_path)
    confirmed: list[str] = []

    def send() -> None:
        for number in range(10_000):
            patch = table.frame["patch_id"].iloc[number % 25]
            document = {"key": f"k{number}", "reviewer": "ana", "patch_id": patch, "tier": "low"}
            headers = {"content-type": "application/json", "origin": server.address.rstrip("/")}
            request = Request(f"{server.address}api/verdicts", json.dumps(document).encode(), headers)
            try:
                with urlopen(request, timeout=20) as answer:
                    answer.read()
            except OSError:
                return
            confirmed.append(document["key"])

    sender = threading.Thread(target=send)
    sender.start()
    while len(confirmed) < 12:
        time.sleep(0.01)
    server.stop(signal.SIGKILL)
    sender.join()
    with sqlite3.connect(log_path(table_path)) as base:
        kept = [key for (key,) in base.execute("SELECT key FROM events ORDER BY id")]
    base.close()
    assert kept[: len(confirmed)] == confirmed
    assert len(kept) - len(confirmed) in (0, 1)


def test_a_port_that_is_taken_is_told(table_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["review", str(table_path), "--port", str(other.getsockname()[1])]) == 1
    assert "Choose another port" in capsys.readouterr().err
