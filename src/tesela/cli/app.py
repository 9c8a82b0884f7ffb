"""The application: its groups of commands, and how results and errors reach a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only, no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Out = Annotated[str, typer.Option("--out", "-o", help="File or folder to write.")]


def make_app() -> typer.Typer:
    """Build the application; the commands' modules import heavy libraries only when a command runs."""
    from tesela.cli import data, experts, judge, legend, recipe

    app = typer.Typer(
        name="tesela",
        help="From imagery and an existing land-cover map to trained models, and from models to new maps.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for group in (recipe, legend, data, experts, judge):
        group.add_commands(app)
    return app


def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From imagery and an existing land-cover map to trained models, and from models to new maps."""
    if version:
        from tesela import __version__

        print(f"tesela {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 for an error, told in one line on stderr; 2 for a wrong call; 130 if interrupted.
    """
    from tesela.core.errors import TeselaError

    words = list(sys.argv[1:] if arguments is None else arguments)
    _quieten()
    try:
        make_app()(words, prog_name="tesela")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return 130
    except TeselaError as error:
        if "--debug" in words:
            raise
        print(f"tesela: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def print_json(document: object) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Sequence[object]], *, header: Sequence[str], right: Sequence[int] = ()) -> None:
    """Print rows in columns; those of `right` are aligned to the right."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for number, row in enumerate(texts):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


@contextmanager
def progress_bar(text: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Progress bar on stderr; gives a function of (done, total)."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def split_names(text: str | None) -> list[str] | None:
    """Names of a comma-separated option, or None where it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _quieten() -> None:
    """Keep third parties' notices out of what a person reads."""
    os.environ.setdefault("CPL_LOG", os.devnull)
