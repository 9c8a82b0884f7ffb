"""
Kills: every stage that writes is ended by SIGKILL, SIGTERM or SIGINT at random moments, and run again.

``python tests/faults/kills.py --kills 1000 --seed 0`` (with `PYTHONPATH=tests`) prints a table and ends with status 1
where something is wrong. Each run is a fork of one process that has loaded their libraries. Checked after each kill: no
output is half-written, SIGTERM and SIGINT end with one line and their status; and after the next whole run: the same
content as without a kill, and no file beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import forks
import stages as staged

WORDS = {signal.SIGTERM: (143, "Terminated"), signal.SIGINT: (130, "Interrupted")}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LINE = "{}. Run the same command again to continue."

UNDER_WAY = re.compile(r"(^|/)\.|manifest\.begun\.json$|-(wal|shm|journal)$|confirmed\.txt$|/logs/")
"""Files of work under way: hidden ones, logs of trainings, and what SQLite keeps beside a database."""


@dataclass
class Result:
    """What happened to one stage."""

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def kill_stages(
    kills: int, seed: int, *, root: Path, names: Iterable[str] = (), small: bool = False
) -> dict[str, Result]:
    """
    Kill the stages in turn, `kills` times in all; runs that end before their signal are not counted.

    The world is made in `root`, where it is not there yet.
    """
    make_world(root, names, small=small)

    def work(stage: staged.Stage, result: Result, number: int) -> None:
        _kill_stage(stage, root, result, kills=number, seed=seed)

    return in_turn(work, kills, names=names)


def in_turn(
    work: Callable[[staged.Stage, Result, int], None], number: int, *, names: Iterable[str]
) -> dict[str, Result]:
    """Share out a number of runs over the stages, work on one after the other, and report each."""
    chosen = chosen_stages(names)
    results = {stage.name: Result() for stage in chosen}
    each, rest = divmod(number, len(chosen))
    for position, stage in enumerate(chosen):
        work(stage, results[stage.name], each + (position < rest))
        report(stage.name, results[stage.name])
    return results


def chosen_stages(names: Iterable[str]) -> list[staged.Stage]:
    """Stages by name; all where none is named."""
    wanted = set(names)
    assert wanted <= {stage.name for stage in staged.STAGES}, wanted
    return [stage for stage in staged.STAGES if not wanted or stage.name in wanted]


def report(name: str, result: Result) -> None:
    """Print what happened to a stage on stderr."""
    sys.stderr.write(f"{name}: {result.seconds:.1f} s, {dict(result.counts)}\n")
    for fault in result.faults:
        sys.stderr.write(f"  {fault}\n")
    sys.stderr.flush()


def make_world(root: Path, names: Iterable[str], *, small: bool) -> None:
    """Make the world in a fork; this process must not start the threads of a library, and loads those of the stages."""
    calls = {stage.call.split()[0] for stage in chosen_stages(names)}
    forks.load(networks=not calls.isdisjoint(("predict", "unmix", "review", "run")))
    if (root / "world" / "finished").exists():
        return

    def work() -> int:
        from world import make_world

        make_world(root / "world", small=small)
        (root / "world" / "finished").touch()
        return 0

    shutil.rmtree(root / "world", ignore_errors=True)
    made = forks.run(work, root / "made", limit_s=1200)
    assert made.status == 0, made.text


def _kill_stage(stage: staged.Stage, root: Path, result: Result, *, kills: int, seed: int) -> None:
    world, folder = root / "world", root / "work"
    shutil.rmtree(folder, ignore_errors=True)
    stage.prepare(folder, world)
    before = staged.outputs(folder)
    made = forks.run(stage.run, folder, at_step=1_000_000)
    if made.status != 0:
        result.faults.append(
            f"{stage.name}: the undisturbed run ended with {made.status}: {made.text[-2000:]}"
        )
        return
    expected = staged.outputs(folder)
    shutil.rmtree(folder)
    stage.prepare(folder, world)
    warm = forks.run(stage.run, folder)  # the first compiled kernels, which later ones only load
    result.faults += [f"{stage.name}, undisturbed again: {text}" for text in different(folder, expected)]
    result.seconds = warm.seconds
    rng = random.Random(f"{seed} {stage.name}")
    done = 0
    while done < kills:
        shutil.rmtree(folder, ignore_errors=True)
        stage.prepare(folder, world)
        for _ in range(rng.randint(1, 3)):
            number = rng.choice(SIGNALS) if stage.is_command else signal.SIGKILL
            moment = forks.pick_moment(rng, seconds=warm.seconds, steps=made.steps)
            where = f"{stage.name}, seed {seed}, kill {done}, {number.name} {moment}"
            end = forks.run(stage.run, folder, number=number, **moment)  # type: ignore[arg-type]
            ended = end.status == 0
            done += not ended
            result.counts["ended before" if ended else number.name] += 1
            result.faults += [f"{where}: {text}" for text in _faults(end, number)]
            result.faults += [f"{where}: {text}" for text in half_written(folder, before, expected)]
            if done == kills:
                break
        end = forks.run(stage.run, folder)
        where = f"{stage.name}, seed {seed}, after kill {done - 1}"
        if end.status != 0:
            result.faults.append(f"{where}: the next run ended with {end.status}: {end.text[-2000:]}")
            continue
        wrong = different(folder, expected)
        result.counts["other" if wrong else "same"] += 1
        result.faults += [f"{where}: {text}" for text in wrong]


def _faults(end: forks.End, number: signal.Signals) -> list[str]:
    """What is wrong with how a killed run ended."""
    if end.hung:
        return ["hang"]
    lines = [line for line in end.text.splitlines() if not line.startswith("note: ")]
    if end.status == 0 or number == signal.SIGKILL:
        return [] if end.status in (0, -9) and not lines else [f"ended with {end.status}: {end.text[-2000:]}"]
    status, word = WORDS[number]
    if end.status == -number and not lines:
        return []  # before or after the command itself
    if end.status != status or lines != [LINE.format(word)]:
        return [f"ended with {end.status}: {end.text[-2000:]}"]
    return []


def half_written(folder: Path, before: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Outputs under their final names that are neither the former nor the finished ones."""
    wrong = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or UNDER_WAY.search(name):
            continue
        if name == "t.review.sqlite":
            wrong += _lost_verdicts(folder)
            continue
        try:
            digest = staged.sha256(staged.content(path)).hexdigest()[:16]
        except Exception as error:  # noqa: BLE001 - it cannot be read at all
            digest = f"unreadable ({error!r})"
        if digest not in (before.get(name), expected.get(name)):
            wrong.append(f"{name} is half-written or another: {digest}")
    return wrong


def _lost_verdicts(folder: Path) -> list[str]:
    with staged.VerdictLog(folder / "t.review.sqlite") as log:
        there = {verdict.key for verdict in log.standing()}
    noted = folder / "confirmed.txt"
    confirmed = set(noted.read_text().split()) if noted.exists() else set()
    return [f"lost verdicts: {sorted(confirmed - there)}"] if confirmed - there else []


def different(folder: Path, expected: dict[str, str]) -> list[str]:
    """What differs from an undisturbed run: names and content, and left-over folders."""
    try:
        now = staged.outputs(folder)
    except Exception as error:  # noqa: BLE001 - it cannot be read at all
        return [f"an output cannot be read: {error!r}"]
    wrong = [
        f"{name} is {'missing' if name not in now else 'left over' if name not in expected else 'other'}"
        for name in sorted(expected.keys() | now.keys())
        if now.get(name) != expected.get(name) and name != "confirmed.txt"
    ]
    return wrong + [
        f"{path.relative_to(folder)} is left over"
        for path in folder.rglob(".*")
        if path.is_dir() and not any(path.rglob("*"))
    ]


def read_options(text: str | None, counts: str) -> tuple[argparse.Namespace, list[str]]:
    """Options of a loop, and the names of its stages."""
    options = argparse.ArgumentParser(description=text)
    options.add_argument(f"--{counts}", type=int, default=100, help="In all, over all stages.")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--stages", default="", help="Names of stages, separated by semicolons; default: all."
    )
    options.add_argument("--root", type=Path, help="Folder to keep the world in.")
    options.add_argument("--small", action="store_true", help="A world without series, trees and samples.")
    given = options.parse_args()
    return given, [name.strip() for name in given.stages.split(";") if name.strip()]


if __name__ == "__main__":
    given, names = read_options(__doc__, "kills")
    with tempfile.TemporaryDirectory() as folder:
        root = given.root or Path(folder)
        found = kill_stages(given.kills, given.seed, root=root, names=names, small=given.small)
    total = sum((result.counts for result in found.values()), Counter())
    counts = {name: dict(result.counts) for name, result in found.items()} | {"all": dict(total)}
    sys.stdout.write(json.dumps(counts, indent=1) + "\n")
    sys.exit(any(result.faults for result in found.values()))
