"""Stages: skipped where they are up to date, done again where anything changed, never lost by a mistake."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tesela.core.errors import RecipeError
from tesela.io.manifest import BEGUN, Manifest
from tesela.recipes.stages import Stage, plan_stages, run_stages


def stage(folder: Path, log: list[str], *, size: int = 1) -> Stage:
    def work() -> list[Path]:
        log.append("work")
        (folder / "out.txt").write_text("x" * size)
        return [folder / "out.txt"]

    return Stage("one", folder, {"size": size}, lambda: [folder.parent / "in.txt"], work)


def failing(folder: Path, *, size: int, write: bool = False) -> Stage:
    def fail() -> list[Path]:
        if write:
            (folder / "out.txt").write_text("half")
        raise RecipeError("no such encoder")

    return Stage("one", folder, {"size": size}, lambda: [folder.parent / "in.txt"], fail)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("in")
    return tmp_path / "one"


def test_a_stage_is_skipped_until_settings_inputs_or_outputs_change(folder: Path) -> None:
    log: list[str] = []
    assert run_stages([stage(folder, log)]).done == ["one"]
    assert run_stages([stage(folder, log)]).skipped == ["one"]
    assert run_stages([stage(folder, log, size=2)]).done == ["one"]
    (folder.parent / "in.txt").write_text("other")
    assert run_stages([stage(folder, log, size=2)]).done == ["one"]
    (folder / "out.txt").unlink()
    assert run_stages([stage(folder, log, size=2)]).done == ["one"]
    assert run_stages([stage(folder, log, size=2)], start="one").done == ["one"]
    assert len(log) == 5
    assert run_stages([stage(folder, log, size=2)]).skipped == ["one"]


def test_a_mistyped_setting_costs_nothing(folder: Path) -> None:
    run_stages([stage(folder, [])])
    with pytest.raises(RecipeError, match="no such encoder"):
        run_stages([failing(folder, size=2)])
    assert run_stages([stage(folder, [])]).skipped == ["one"]
    with pytest.raises(RecipeError, match="no such encoder"):
        run_stages([failing(folder, size=2)], start="one")
    assert run_stages([stage(folder, [])]).skipped == ["one"], (
        "the other settings were to be run again, not these"
    )


def test_outputs_that_other_settings_have_overwritten_are_made_again(folder: Path) -> None:
    run_stages([stage(folder, [])])
    with pytest.raises(RecipeError, match="no such encoder"):
        run_stages([failing(folder, size=2, write=True)])
    assert run_stages([stage(folder, [])]).done == ["one"]
    assert (folder / "out.txt").read_text() == "x"


def test_a_stage_asked_for_again_is_not_up_to_date_before_it_is_finished(folder: Path) -> None:
    run_stages([stage(folder, [])])
    with pytest.raises(RecipeError, match="no such encoder"):
        run_stages([failing(folder, size=1)], start="one")
    assert run_stages([stage(folder, [])]).done == ["one"]
    assert Manifest.read(folder, BEGUN) is None
    assert run_stages([stage(folder, [])]).skipped == ["one"]


def test_a_stage_that_failed_before_it_was_ever_finished_is_done_again(folder: Path) -> None:
    with pytest.raises(RecipeError, match="no such encoder"):
        run_stages([failing(folder, size=1)])
    assert Manifest.read(folder) is None
    assert run_stages([stage(folder, [])]).done == ["one"]


def test_a_moved_project_stays_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "in.txt").write_text("in")
    run_stages([stage(tmp_path / "old" / "one", [])])
    (tmp_path / "old").rename(tmp_path / "new")
    assert run_stages([stage(tmp_path / "new" / "one", [])]).skipped == ["one"]


def test_an_unknown_stage_names_the_nearest(folder: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'one'"):
        run_stages([stage(folder, [])], until="ones")


def edit_in_place(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 << 20 : 4 << 20] = bytes(1 << 20)  # neither the first, nor the middle, nor the last MiB
    path.write_bytes(content)


def edit_beside(path: Path) -> None:
    path.with_name(f"{path.name}.msk").write_bytes(b"mask")


@pytest.mark.parametrize("edit", [edit_in_place, edit_beside])
def test_an_edited_input_makes_its_stage_stale(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    scene, out = tmp_path / "scene.tif", tmp_path / "one" / "out.txt"
    scene.write_bytes(b"\7" * (12 << 20))

    def work() -> list[Path]:
        out.write_text("x")
        return [out]

    def run() -> list[str]:
        return run_stages([Stage("one", out.parent, {}, lambda: [scene], work)]).done

    assert run() == ["one"]
    assert run() == []
    edit(scene)
    assert run() == ["one"]


def test_an_edited_output_is_made_again(folder: Path) -> None:
    run_stages([stage(folder, [])])
    (folder / "out.txt").write_text("y")
    assert run_stages([stage(folder, [])]).done == ["one"]
    assert (folder / "out.txt").read_text() == "x"


KILLED = """
import sys, time
from pathlib import Path
from tesela.recipes.stages import Stage, run_stages
folder, size = Path(sys.argv[1]), int(sys.argv[2])
def work():
    (folder / "out.txt").write_text("x" * size)
    print("written", flush=True)
    time.sleep(60)
run_stages([Stage("one", folder, {"size": size}, lambda: [folder.parent / "in.txt"], work)])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("size", [1, 2])
def test_a_run_killed_after_it_overwrote_outputs_ends_as_an_undisturbed_one(folder: Path, size: int) -> None:
    run_stages([stage(folder, [], size=1)])
    (folder.parent / "in.txt").write_text("other" if size == 1 else "in")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(size)], stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"written\n"
        run.send_signal(signal.SIGKILL)
    assert run_stages([stage(folder, [], size=size)]).done == ["one"]
    assert (folder / "out.txt").read_text() == "x" * size


def test_what_a_killed_run_left_beside_a_finished_stage_is_removed(folder: Path) -> None:
    run_stages([stage(folder, [])])
    for name in (".manifest.json.abcdefgh", ".out.txt.abcdefgh"):
        (folder / name).mkdir()
        (folder / name / ".tesela-held").touch()
    assert run_stages([stage(folder, [])]).skipped == ["one"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "out.txt"]


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(tmp_path: Path) -> None:
    log: list[str] = []
    (tmp_path / "in.txt").write_text("12345", encoding="utf-8")
    first = stage(tmp_path / "one", log)
    second = replace(
        first, name="two", folder=tmp_path / "two", inputs=lambda: [tmp_path / "one" / "out.txt"]
    )
    plans = plan_stages([first, second])
    assert [plan.state for plan in plans] == ["to run", "after one"]
    assert [plan.inputs_bytes for plan in plans] == [5, None]
    assert not log
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt"]
    run_stages([first])
    (plan,) = plan_stages([first])
    assert plan.state == "up to date"
    assert plan.last_seconds is not None
    assert [plan.state for plan in plan_stages([first, second], start="one")] == ["to run", "after one"]
