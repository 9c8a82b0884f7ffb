"""
Compare what `tesela run --dry-run` estimates with what a run takes: processor seconds of each stage, and memory.

Run `.venv/bin/python benchmarks/dry_run.py`: two virtual regions with 20 seconds of training each, in processes of
their own. Two minutes of the processor.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tesela

RECIPE = """chain = "corine"
legend = "corine-1"
[[scenes]]
name = "area"
paths = ["region/scene_july.tif"]
[reference]
path = "region/reference.gpkg"
field = "CODE_18"
[patches]
size_px = 32
block = "320 m"
[training]
budget = "20 s"
[mapping]
confidence = true
"""


def measure(side_px: int) -> dict[str, object]:
    """Estimated and measured processor seconds by stage, and memory, of a region of this size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tesela.write_region(folder / "region", size_px=side_px, seasons=["july"], clouds="none")
        recipe = folder / "corine.toml"
        recipe.write_text(RECIPE, encoding="utf-8")
        planned = tesela.run(recipe, dry_run=True)
        marks: dict[str, float] = {}

        def report(stage: str, text: str) -> None:
            now = time.process_time()
            marks[stage] = now if stage not in marks else now - marks[stage]

        tesela.run(recipe, quiet=True, report=report)
        return {
            "megapixels": side_px**2 / 1e6,
            "estimated_s": {stage: round(value, 1) for stage, value in planned.preview.seconds.items()},
            "measured_s": {stage: round(value, 1) for stage, value in marks.items()},
            "estimated_gib": round(planned.preview.memory_bytes / 2**30, 2),
            "measured_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }


def main() -> None:
    """Measure both sizes, each in a process of its own."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))), flush=True)
        return
    for side_px in (512, 1536):
        subprocess.run([sys.executable, __file__, str(side_px)], check=True)


if __name__ == "__main__":
    main()
