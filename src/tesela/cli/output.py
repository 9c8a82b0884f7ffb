"""Output of commands as tables, JSON and progress bars; options shared by commands; former calls."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only, no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Out = Annotated[str, typer.Option("--out", "-o", help="File to write.")]
OutFolder = Annotated[str, typer.Option("--out", "-o", help="Folder to write.")]
Memory = Annotated[
    str, typer.Option(help="Memory for the pixels held at a time, in addition to that of a network.")
]
Cluster = Annotated[
    str | None, typer.Option(help="local, or the address of a Dask scheduler: tcp://host:8786.")
]


def print_json(document: object) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(
    rows: Sequence[Sequence[object]], *, header: Sequence[str], right: Sequence[int] = ()
) -> None:
    """Print rows in columns; columns in `right` are right-aligned. On a terminal long texts at the end are wrapped."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    if sys.stdout.isatty() and len(header) - 1 not in right:
        room = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[:-1])
        widths[-1] = min(widths[-1], max(room, _LEAST_COLUMNS))
    for number, row in enumerate(texts):
        first, *more = (
            textwrap.wrap(row[-1], widths[-1], break_long_words=False)
            if len(row[-1]) > widths[-1]
            else row[-1:]
        )
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip((*row[:-1], first), widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        for text in more:
            print(" " * sum(width + 2 for width in widths[:-1]) + text)
        if number == 0:
            print("  ".join("-" * width for width in widths))


_LEAST_COLUMNS = 24
"""Least width of a wrapped column."""


@contextmanager
def progress_bar(text: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr, see `ProgressLine`; yields a function of (done, total)."""
    from tesela.core.progress import ProgressLine  # the package loads numpy

    line = ProgressLine(text, quiet=quiet)
    try:
        line.start()
        yield line.move
    finally:
        line.stop()


class _Lines(logging.Handler):
    """Prints each line once on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._seen:
            self._seen.add(text)
            print(f"note: {text}", file=sys.stderr)


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Print notes on stderr while a command runs, each line once."""
    log = logging.getLogger("tesela.notes")  # not from tesela.core.notes: the package loads numpy
    handler = _Lines()
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


def counted(number: int, noun: str, plural: str = "") -> str:
    """
    A number with its noun, singular or plural.

    Examples
    --------
    >>> counted(1, "window"), counted(1200, "pass", "passes")
    ('1 window', '1,200 passes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def split_names(text: str | None) -> list[str] | None:
    """Names of a comma-separated option, or None where it is not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def replacement(words: Sequence[str], former: Mapping[str, Mapping[str, str]]) -> str | None:
    """
    One line that names the new call for a former one, or None for a current call.

    Parameters
    ----------
    words : sequence of str
        Words of the call, without the program's name.
    former : mapping
        By command, its former flags and the call that replaces each, in order of precedence. The flag "" is a
        file as first argument of a command that is now a group.

    Examples
    --------
    >>> former = {"review": {"--rank": "tesela review rank TABLE", "": "tesela review serve TABLE"}}
    >>> replacement(["review", "p.parquet", "--rank"], former)
    '`tesela review --rank` is now `tesela review rank TABLE`.'
    >>> replacement(["review", "p.parquet"], former)
    '`tesela review p.parquet` is now `tesela review serve TABLE`.'
    >>> replacement(["review", "rank", "p.parquet"], former)
    """
    command, *rest = [word for word in words if word != "--debug"] or [""]
    flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
    for flag, call in former.get(command, {}).items():
        if flag in flags:
            return f"`tesela {command} {flag}` is now `{call}`."
        if not flag and rest and "." in rest[0]:
            return f"`tesela {command} {rest[0]}` is now `{call}`."
    return None
