"""Progress: a line a minute where standard error is no terminal."""

import json
import pickle
import re

import pytest

from tesela.core import progress
from tesela.core.progress import ProgressLine


def test_a_log_gets_a_line_a_minute_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    line = ProgressLine("mapping")
    line.start(total=400, done=100)  # 100 were done before
    for done in range(101, 351):
        now[0] += 1
        line.move(done)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "mapping: 160 of 400 (40 %), 60 a minute, 4 min left"
    line.describe("epoch 4, loss 0.250")
    line.stop()
    assert (
        capsys.readouterr().err == "mapping: 350 of 400 (88 %), 60 a minute, 50 s left, epoch 4, loss 0.250\n"
    )
    line.move(400)
    assert not capsys.readouterr().err


def test_quiet_shows_nothing_and_another_process_begins_without_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    for quiet in (True, False):
        line = ProgressLine("training", unit="steps", quiet=quiet)
        line.start(total=3)
        again = pickle.loads(pickle.dumps(line))
        again.move(1)
        assert not capsys.readouterr().err
        line.move(1, 2)
        assert capsys.readouterr().err.startswith("training: 1 of 2 steps (50 %)") == (not quiet)


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    line = ProgressLine("mapping", unit="windows")
    line.start()
    line.move(3, 12)
    line.describe("window 3")
    line.stop()
    shown = capsys.readouterr().err
    assert "mapping" in shown
    assert "3/12" in shown
    assert "windows" in shown


@pytest.mark.parametrize(("columns", "words"), [("80", "macro F1 0.355"), ("120", "mIoU 0.271")])
def test_a_narrow_terminal_shows_counts_and_time_in_full_and_as_many_words_as_fit(
    columns: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    line = ProgressLine("training", unit="steps")
    line.start(total=750)
    line.move(166, 750)
    line.describe("epoch 11, loss 2.576, macro F1 0.355, mIoU 0.271")
    line.stop()
    written = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().err)
    shown = [part.rstrip() for part in re.split(r"[\r\n]", written) if "166/750 steps" in part][-1]
    assert shown.endswith(words)
    assert "…" not in shown
    assert len(shown) <= int(columns)


def test_another_program_gets_events_also_from_a_quiet_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv(progress.EVENTS, "json")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    line = ProgressLine("mapping", quiet=True)
    line.start(total=10)
    for done in range(1, 11):
        now[0] += 0.1
        line.move(done)
    line.stop()
    events = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert [item["done"] for item in events] == [0, 3, 6, 9, 10]
    assert events[-1] == {"work": "mapping", "done": 10, "total": 10, "text": ""}
    assert progress.progress_event(stage="train", text="")
    assert json.loads(capsys.readouterr().err) == {"stage": "train", "text": ""}
    monkeypatch.delenv(progress.EVENTS)
    assert not progress.progress_event(stage="train", text="")
    assert not capsys.readouterr().err
