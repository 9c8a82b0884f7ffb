"""A short pass of the loops, each in a process of its own, from which it forks; the long one is `make faults`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repository import TESTS
from tesela.core.machine import is_root

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the loops fork, which Windows cannot")
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def loop(script: str, *options: str) -> dict[str, Any]:
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(TESTS)}
    words = [sys.executable, str(TESTS / "faults" / script), *options]
    made = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=900)
    assert made.returncode == 0, f"{made.stdout[-3000:]}\n{made.stderr[-6000:]}"
    counts: dict[str, Any] = json.loads(made.stdout[: made.stdout.rindex("}") + 1])
    return counts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the world, which the first loop makes."""
    return tmp_path_factory.mktemp("faults")


@needs_fork
@pytest.mark.slow
def test_killed_stages_leave_nothing_half_written_and_end_the_same(root: Path) -> None:
    stages = "label;vectorise;predict, network;change-layer;review verdicts"
    counts = loop(
        "kills.py", "--kills", "8", "--seed", "7", "--small", "--root", str(root), "--stages", stages
    )
    assert sum(counts["all"].get(name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT")) == 8
    assert "other" not in counts["all"]


@needs_fork
@pytest.mark.slow
@pytest.mark.skipif(not is_root() or shutil.which("mount") is None, reason="needs to mount a small tmpfs")
def test_stages_on_a_full_disk_end_with_one_line_and_then_the_same(root: Path) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", str(root)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here, though this is root")
    subprocess.run(["umount", str(root)], check=True)
    stages = "label;vectorise;generalise;patches"
    counts = loop(
        "full_disk.py", "--runs", "8", "--seed", "7", "--small", "--root", str(root), "--stages", stages
    )
    assert counts["all"]["full"] > 0
    assert counts["all"]["same"] == 8


@needs_fork
def test_damaged_files_end_in_one_line_or_are_read() -> None:
    counts = loop("damage.py", "--count", "2", "--seed", "7")
    assert len(counts) > 20
    assert all(sum(item.values()) == 2 for item in counts.values())
