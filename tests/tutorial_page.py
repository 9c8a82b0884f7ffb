"""Runs the pages of docs/tutorials as a reader would: block after block, in one folder."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tesela.cli import main

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


def run_page(page: Path, folder: Path, *, by_shell: int = 0) -> None:
    """
    Write the files of a page and run its commands in a folder, and compare what they print with what the page shows.

    The first `by_shell` blocks of commands are processes of the shell, as for a reader. The others run in this process,
    which has loaded its libraries already, through the same entry point, line by line.

    Numbers may differ between machines, so a line is compared without them: a block of text must hold lines of the
    output of the block before it, in their order; a line of three points stands for any lines.

    Raises
    ------
    AssertionError
        If a command fails or prints something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    printed = ""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        here.setenv("MPLBACKEND", "agg")
        here.setenv("COLUMNS", "120")
        for block in blocks_of(page):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.kind == "text":
                check_printed(block.text, printed)
            elif block.kind == "python":
                printed = printed_by_lines(block.text, page.name)
            elif block.kind == "sh":
                run = printed_by_shell if by_shell > 0 else printed_by_commands
                by_shell -= 1
                printed = run(block.text)


def printed_by_lines(text: str, name: str) -> str:
    """What lines of Python print, in names of their own."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
    return said.getvalue()


def printed_by_commands(text: str) -> str:
    """What commands print: those of tesela in this process, others by the shell."""
    printed = ""
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        words = shlex.split(line, comments=True)
        if words[:1] != ["tesela"]:
            printed += printed_by_shell(line)
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(words[1:])
        assert status == 0, f"{line}\n{said.getvalue()}"
        printed += said.getvalue()
    return printed


def printed_by_shell(text: str) -> str:
    """What commands print in processes of the shell."""
    done = subprocess.run(
        ["bash", "-e", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return done.stdout


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
