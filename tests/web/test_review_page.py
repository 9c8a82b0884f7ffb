"""The review page in a browser: a review by keyboard, and a killed server that loses nothing."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reviewing import Page, Served, standing
from tesela.web.log import VerdictLog, log_path
from tesela.web.patch_review import PatchItems
from tesela.web.queue import ReviewQueue


@pytest.fixture
def served(table_path: Path) -> Iterator[Served]:
    server = Served(table_path)
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGKILL)


@pytest.mark.slow
def test_a_reviewer_rates_all_patches_by_keyboard_alone(
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
    assert [item.quality for item in done.values()] == [("high", "medium", "low")[rank] for rank in expected]
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
    assert (
        page.page.locator("[data-quality][aria-pressed=true]").inner_text().split()[0] == done[last].quality
    )
    page.press("1")
    assert page.seen[-1] == fresh
    page.wait_saved()
    assert standing(table_path, "ana")[last].quality == "high"

    page.press("u")  # the change is undone, the earlier verdict is valid again and the patch is shown
    assert page.seen[-1] == last
    assert standing(table_path, "ana")[last].quality == done[last].quality
    page.press("u")
    assert last not in standing(table_path, "ana")
    skipped = page.seen[-1]
    page.press("p")
    while page.page.locator("#done").is_hidden():
        page.press("2")
    page.wait_saved()
    page.wait_for("document.getElementById('done-title').textContent === 'All patches are reviewed'")
    final = standing(table_path, "ana")
    assert len(final) == 25
    assert list(final)[-1] == skipped, "skipped patches come last"
    assert {item.action for item in final.values()} == {"rate"}
    assert page.trouble == []
    assert served.stop() == 0


@pytest.mark.slow
def test_a_killed_server_loses_no_verdict_of_two_reviewers(
    browser: Any, served: Served, table_path: Path
) -> None:
    ana, bea = Page(browser, served.address), Page(browser, f"{served.address}?reviewer=bea")
    given: dict[str, list[str]] = {"ana": [], "bea": []}

    def rate_some(count: int) -> None:
        for _ in range(count):
            for name, page in (("ana", ana), ("bea", bea)):
                given[name].append(page.seen[-1])
                page.press("a", "k")

    rate_some(2)
    for page in (ana, bea):
        page.wait_idle()
    served.stop(signal.SIGKILL)
    rate_some(3)  # the next patches are there already; the verdicts wait in the browser
    for name, page in (("ana", ana), ("bea", bea)):
        given[name].append(page.seen[-1])
        page.page.keyboard.press("a")
        page.page.keyboard.press("k")
        page.wait_for("document.getElementById('last').textContent.includes('cannot be shown yet')")
    again = Served(table_path, port=served.port)
    try:
        for page in (ana, bea):
            page.wait_for("seen.length === 7")
            page.wait_idle()
        rate_some(1)
        for page in (ana, bea):
            page.wait_saved()
        for name in given:
            stored = standing(table_path, name)
            assert list(stored) == given[name]
            assert {item.quality for item in stored.values()} == {"medium"}
        with VerdictLog(log_path(table_path)) as log:
            assert log.count() == 14
            order = PatchItems(table_path).order("random", seed=0, rated=set())
            shared = ReviewQueue(order, log, overlap=0.2).shared
        assert set(given["ana"]) & set(given["bea"]) <= shared
        failed = [text for text in ana.trouble + bea.trouble if "Failed to load resource" not in text]
        assert failed == []
    finally:
        again.stop(signal.SIGKILL)
