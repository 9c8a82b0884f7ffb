"""Runs in processes of their own: seconds, CPU seconds and memory of one call."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MIB = 1 << 20


def run_alone(
    script: str | Path, words: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Run a script of this folder with words behind it; its last line is a JSON document."""
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(words)} failed:\n{done.stderr[-4000:]}")
    document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return document


def measure(call: Callable[[], object]) -> dict[str, object]:
    """Seconds, CPU seconds of all threads, and MiB that a call adds to the peak of this process."""
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    return {
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "extra_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before),
        "engine": getattr(made, "engine", None),
    }


def resident() -> float:
    """MiB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def machine() -> dict[str, object]:
    """What the numbers were taken on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {"processor": model, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
