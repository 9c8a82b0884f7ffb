"""Runs the pages of docs/tutorials as a reader would: block after block, in one folder."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SECONDS = 900


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: `kind` sh, python, toml or text, and the file that it is, if the page gives a title."""

    kind: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def run_page(page: Path, folder: Path) -> None:
    """
    Write the files of a page and run its commands in a folder, and compare what they print with what the page shows.

    Numbers may differ between machines, so a line is compared without them: a block of text must hold lines of the
    output of the block before it, in their order; a line of three points stands for any lines.

    Raises
    ------
    AssertionError
        If a command fails or prints something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
        "COLUMNS": "120",
    }
    printed = ""
    for block in blocks_of(page):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.kind == "text":
            check_printed(block.text, printed)
        elif block.kind in ("sh", "python"):
            command = ["bash", "-e", "-c"] if block.kind == "sh" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, block.text],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
            )
            printed = done.stdout
            assert done.returncode == 0, f"{page.name}: {block.text}\n{printed}"


def check_printed(shown: str, printed: str) -> None:
    """Every line that a page shows is printed, in this order, numbers aside."""
    lines = iter([without_numbers(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        wanted = without_numbers(line)
        if wanted.strip() in ("", "..."):
            continue
        assert any(wanted == other for other in lines), f"{line!r} is not printed:\n{printed}"


def without_numbers(line: str) -> str:
    """A line with numbers as #, absolute paths as they end, rules of tables and runs of blanks as one."""
    line = re.sub(r"/\S*/(?=work/)", "", line)
    line = re.sub(r"-{2,}", "--", line)
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d[\d,.]*", "#", line)).strip()
