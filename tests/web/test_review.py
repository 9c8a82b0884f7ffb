"""The server of the review: which requests it accepts, and that no verdict is lost."""

import json
import signal
import socket
import sqlite3
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from reviewing import FROM_HOME, HOME, Served
from tesela.cli import main
from tesela.patches.table import PatchTable
from tesela.web.log import LogError, VerdictLog, log_path
from tesela.web.review import review_app


@pytest.fixture
def client(table_path: Path) -> TestClient:
    return TestClient(review_app(table_path, reviewer="ana"), base_url=HOME)


def test_only_its_own_page_may_change_something(client: TestClient, table: PatchTable) -> None:
    document = {"key": "k", "reviewer": "ana", "item_id": table.frame["patch_id"].iloc[0], "quality": "high"}
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
        "/picture?id=../../../../etc/passwd",
        "/picture?id=/etc/passwd",
        "/labels?id=labels.tif",
        "/labels",
        "/patches.parquet",
        "/..%2fpatches.review.sqlite",
    ],
)
def test_no_request_reaches_a_file(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert len(answer.content) < 100


def test_unknown_patches_views_and_names_are_refused(client: TestClient, table: PatchTable) -> None:
    patch = table.frame["patch_id"].iloc[0]
    assert client.get(f"/picture?id={patch}&view=../x").status_code == 404
    assert client.get("/api/start?reviewer=" + "x" * 61).status_code == 400
    answer = client.post(
        "/api/verdicts",
        json={"key": "k", "reviewer": "ana", "item_id": "elsewhere", "quality": "high"},
        headers=FROM_HOME,
    )
    assert answer.status_code == 400
    assert "There is no patch 'elsewhere' in patches.parquet" in answer.json()["error"]
    assert client.post("/api/undo", json={"reviewer": "ana"}, headers=FROM_HOME).status_code == 400


def test_the_page_escapes_names(client: TestClient) -> None:
    text = client.get("/?reviewer=%3Cscript%3Ealert(1)%3C/script%3E").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_pictures_are_those_of_the_patch(client: TestClient, table: PatchTable) -> None:
    row = table.frame.iloc[7]
    answer = client.get(f"/picture?id={row.patch_id}&view=image")
    with Image.open(BytesIO(answer.content)) as picture:
        shown = np.asarray(picture)
    assert shown.shape == (48, 48, 3)  # 8 px of context around 32 px
    values = np.frombuffer(client.get(f"/labels?id={row.patch_id}").content, np.uint8).reshape(32, 32)
    at = np.arange(160)
    labels = np.array([1, 2, 7], np.uint8)[(at // 20 + at[:, None] // 48) % 3]
    assert (values == labels[row.row : row.row + 32, row.col : row.col + 32]).all()
    assert client.get(f"/labels?id={row.patch_id}").headers["content-encoding"] == "deflate"
    crops = shown[8:40, 8:40][values == 7].mean(axis=0)
    assert crops[0] - crops[1] == pytest.approx(140, abs=6)


def test_a_full_disk_is_reported_and_the_verdict_can_be_sent_again(
    client: TestClient, table: PatchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"key": "k", "reviewer": "ana", "item_id": table.frame["patch_id"].iloc[0], "quality": "high"}

    def fail(*_: object) -> None:
        raise LogError("log: nothing was saved (database or disk is full).")

    with monkeypatch.context() as patch:
        patch.setattr(VerdictLog, "add", fail)
        assert client.post("/api/verdicts", json=document, headers=FROM_HOME).status_code == 503
    assert client.post("/api/verdicts", json=document, headers=FROM_HOME).json()["progress"]["done"] == 1


def test_a_server_killed_while_it_writes_keeps_all_confirmed_verdicts(
    table_path: Path, table: PatchTable
) -> None:
    server = Served(table_path)
    confirmed: list[str] = []

    def send() -> None:
        for number in range(10_000):
            patch = table.frame["patch_id"].iloc[number % 25]
            document = {"key": f"k{number}", "reviewer": "ana", "item_id": patch, "quality": "low"}
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


def test_a_port_in_use_is_refused(table_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["review", "serve", str(table_path), "--port", str(other.getsockname()[1])]) == 1
    assert "Choose another port" in capsys.readouterr().err
