"""Verdicts: valid fields, and a log in which nothing is lost, changed or deleted."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reviewing import verdict
from tesela.core.errors import InputError
from tesela.web.log import LogError, VerdictLog
from tesela.web.verdicts import Verdict


@pytest.fixture
def log(tmp_path: Path) -> Iterator[VerdictLog]:
    with VerdictLog(tmp_path / "log.sqlite") as opened:
        yield opened


def test_the_last_verdict_of_each_reviewer_is_valid(log: VerdictLog) -> None:
    log.add(verdict("a"))
    log.add(verdict("a", "bea", quality="low"))
    log.add(
        verdict(
            "a", key="second", quality="medium", label=1, boundary=2, reasons=("shift", "mixed"), note="é"
        )
    )
    standing = log.standing()
    assert [(item.reviewer, item.quality) for item in standing] == [("bea", "low"), ("ana", "medium")]
    assert standing[1].reasons == ("shift", "mixed")
    assert standing[1].note == "é"
    assert standing[1].at.endswith("Z")
    assert [item.reviewer for item in log.standing("bea")] == ["bea"]


def test_a_verdict_that_is_sent_twice_is_kept_once(log: VerdictLog) -> None:
    for _ in range(2):
        log.add(verdict("a"))
    assert log.count() == 1


def test_an_undo_restores_the_earlier_verdict(log: VerdictLog) -> None:
    log.add(verdict("a", quality="high"))
    log.add(verdict("a", key="again", quality="low"))
    log.add(verdict("b", "bea"))
    assert log.undo("ana", "u1") == "a"
    assert [item.quality for item in log.standing("ana")] == ["high"]
    assert log.undo("ana", "u1") == "a", "repeated request, done once"
    assert [item.quality for item in log.standing("ana")] == ["high"]
    assert log.undo("ana", "u2") == "a"
    assert log.undo("ana", "u3") is None
    assert [item.item_id for item in log.standing()] == ["b"]
    assert log.count() == 5


def test_nothing_in_the_log_can_be_changed_or_deleted(log: VerdictLog) -> None:
    log.add(verdict("a"))
    for statement in ("UPDATE events SET tier = 'low'", "DELETE FROM events"):
        with pytest.raises(LogError, match="append-only"), log.writing() as base:
            base.execute(statement)
    assert log.standing()[0].quality == "high"


def test_a_file_that_is_not_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"no data base" * 100)
    with pytest.raises(InputError, match=r"log\.sqlite: cannot be used as a log of verdicts"):
        VerdictLog(tmp_path / "log.sqlite")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"label": 4, "boundary": 1}, "label"),
        ({"quality": "best"}, "quality"),
        ({"quality": None}, "a verdict needs the quality"),
        ({"label": 1, "boundary": 1, "quality": "low"}, "the answers make it high"),
        ({"reasons": ["fog"]}, "Unknown reason 'fog'"),
        ({"reviewer": " "}, "reviewer"),
        ({"reviewer": "a\nb"}, "reviewer"),
        ({"confidence": 101}, "confidence"),
        ({"note": "x" * 2001}, "note"),
        ({"seconds": -1}, "seconds"),
        ({"flag": 1}, "flag"),
        ({"key": ""}, "key"),
        ({"grade": "high"}, "grade"),
    ],
)
def test_an_invalid_verdict_is_refused(fields: dict[str, object], problem: str) -> None:
    document = {"key": "k", "reviewer": "ana", "item_id": "p", "quality": "high"} | fields
    with pytest.raises(InputError, match=problem):
        Verdict.of(document)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
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


def test_a_log_of_the_version_for_patches_only_is_read_and_continued(tmp_path: Path) -> None:
    with VerdictLog(tmp_path / "log.sqlite") as log:
        log.add(verdict("a", quality="low"))
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as base:
        for table in ("events", "claims"):
            base.execute(f"ALTER TABLE {table} RENAME COLUMN item_id TO patch_id")
        base.execute("ALTER TABLE events DROP COLUMN reference")
        base.commit()
    with VerdictLog(tmp_path / "log.sqlite") as log:
        log.add(verdict("b", quality=None, reference="f"))
        assert [(item.item_id, item.answer) for item in log.standing()] == [("a", "low"), ("b", "f")]
