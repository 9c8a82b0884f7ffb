"""
Run the blocks of docs/first-map.md on the real data sets, and print the clock and processor time of each command.

Run `.venv/bin/python benchmarks/first_map.py`; `--only corine` runs the commands that name it. The data lie in the
folder TESELA_DATA, by default ../shared/data. Ten minutes on two busy cores.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TESELA_DATA", REPOSITORY.parent / "shared/data")).resolve()
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def write_files(folder: Path) -> list[str]:
    """Write the files of the page into a folder, link the data as `data`, and return the commands of the page."""
    (folder / "data").symlink_to(DATA)
    commands: list[str] = []
    for kind, title, text in BLOCK.findall((REPOSITORY / "docs/first-map.md").read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(text, encoding="utf-8")
        elif kind == "sh":
            commands += text.strip().splitlines()
    return commands


def main() -> None:
    """Run the commands one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="commands that have this text")
    only = parser.parse_args().only
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
    }
    with tempfile.TemporaryDirectory() as name:
        for command in write_files(Path(name)):
            if only in command:
                before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run(command, shell=True, check=True, cwd=name, env=environment)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(f"{command}: {time.perf_counter() - begun:.0f} s, processor {cpu:.0f} s", flush=True)


if __name__ == "__main__":
    main()
