"""
Full disks: every stage that writes runs on a file system with too little room, then again with enough.

``python tests/faults/full_disk.py --runs 100 --seed 0`` (with `PYTHONPATH=tests`, as root on Linux: it mounts a small
tmpfs) prints a table and ends with status 1 where something is wrong. Room is drawn at random, up to what the stage
needs. Checked: the run ends with one line, no output is half-written, and the next run, with enough room, gives the
same content as one that never lacked room.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import forks
import stages as staged
from kills import Result, different, half_written, in_turn, make_world, read_options

from tesela.cli.errors import UNEXPECTED

LARGEST = 48 << 20
PAGE = 4096


def fill_disks(
    runs: int, seed: int, *, root: Path, names: Iterable[str] = (), small: bool = False
) -> dict[str, Result]:
    """Run the stages in turn on a full disk, `runs` times in all."""
    make_world(root, names, small=small)

    def work(stage: staged.Stage, result: Result, number: int) -> None:
        with small_disk(root / "work"):
            _fill_disk(stage, root, result, runs=number, seed=seed)

    return in_turn(work, runs, names=names)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """
    Mount a tmpfs.

    Raises
    ------
    PermissionError
        If this user cannot mount one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={LARGEST}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        raise PermissionError("a tmpfs cannot be mounted here (not root?)")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill_disk(stage: staged.Stage, root: Path, result: Result, *, runs: int, seed: int) -> None:
    world, folder = root / "world", root / "work"
    ballast = folder / "ballast"
    place = folder / "out"
    stage.prepare(place, _linked(world, folder))
    before = staged.outputs(place)
    start = shutil.disk_usage(folder).used
    made = forks.run(stage.run, place)
    if made.status != 0:
        result.faults.append(f"{stage.name}: with enough room it ended with {made.status}: {made.text}")
        return
    result.seconds = made.seconds
    needed = max(2 * PAGE, 2 * (shutil.disk_usage(folder).used - start))
    expected = staged.outputs(place)
    rng = random.Random(f"{seed} {stage.name}")
    for number in range(runs):
        shutil.rmtree(place, ignore_errors=True)
        stage.prepare(place, world)
        room = int(needed * rng.random() ** 2) // PAGE * PAGE
        free = shutil.disk_usage(folder).free
        _write_ballast(ballast, free - room)
        end = forks.run(stage.run, place)
        ballast.unlink()  # what looks at the outputs may need room, too
        where = f"{stage.name}, seed {seed}, run {number}, {room} bytes"
        result.counts["enough" if end.status == 0 else "full"] += 1
        result.faults += [f"{where}: {text}" for text in _faults(end)]
        result.faults += [f"{where}: {text}" for text in half_written(place, before, expected)]
        if end.status == 0:
            result.faults += [f"{where}: {text}" for text in different(place, expected)]
        end = forks.run(stage.run, place)
        if end.status != 0:
            result.faults.append(f"{where}: the next run ended with {end.status}: {end.text[-2000:]}")
            continue
        wrong = different(place, expected)
        result.counts["other" if wrong else "same"] += 1
        result.faults += [f"{where}: {text}" for text in wrong]


def _linked(world: Path, disk: Path) -> Path:
    """The world beside the folder of a stage, as its calls name it."""
    if not (disk / "world").exists():
        (disk / "world").symlink_to(world.resolve())
    return world


def _write_ballast(path: Path, size: int) -> None:
    with path.open("wb") as file:
        try:
            for _ in range(max(0, size) // PAGE):
                file.write(bytes(PAGE))
                file.flush()
        except OSError:
            pass


def _faults(end: forks.End) -> list[str]:
    lines = [line for line in end.text.splitlines() if not line.startswith("note: ")]
    if end.hung:
        return ["hang"]
    if end.status == 0:
        return []
    known = (
        len(lines) == 1
        and lines[0].startswith("tesela: ")
        and not lines[0].startswith(f"tesela: {UNEXPECTED}")
    )
    if end.status != 1 or not known:
        return [f"ended with {end.status}: {end.text[-2000:]}"]
    return []


if __name__ == "__main__":
    given, names = read_options(__doc__, "runs")
    with tempfile.TemporaryDirectory() as folder:
        root = given.root or Path(folder)
        found = fill_disks(given.runs, given.seed, root=root, names=names, small=given.small)
    total = sum((result.counts for result in found.values()), Counter())
    counts = {name: dict(result.counts) for name, result in found.items()} | {"all": dict(total)}
    sys.stdout.write(json.dumps(counts, indent=1) + "\n")
    sys.exit(any(result.faults for result in found.values()))
