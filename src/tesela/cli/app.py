"""The application: its commands and the report of errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from tesela.cli import (
    account,
    assess,
    data,
    experts,
    legend,
    maps,
    mosaic,
    publish,
    published,
    recipe,
    review,
    sample,
)
from tesela.cli.output import notes_on_stderr, replacement

app = typer.Typer(
    name="tesela",
    help="From imagery and an existing land-cover map to trained models, and from models to new maps.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""All commands; heavy libraries are imported only when a command runs."""


_INTERRUPTED = 130
"""Exit status of Typer after Ctrl+C."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from tesela import __version__

        print(f"tesela {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From imagery and an existing land-cover map to trained models, and from models to new maps."""


_COMMANDS = (
    recipe,
    legend,
    mosaic,
    data,
    experts,
    maps,
    assess,
    sample,
    account,
    publish,
    published,
    review,
)
for _module in _COMMANDS:
    _module.add_commands(app)

_FORMER = {name: calls for module in _COMMANDS for name, calls in getattr(module, "FORMER", {}).items()}
"""Former calls by command; see `tesela.cli.output.replacement`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 for an error, with one line on stderr; 2 for a wrong call; 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    moved = replacement(words, _FORMER)
    if moved is not None:
        print(f"tesela: {moved}", file=sys.stderr)
        return 2
    os.environ.setdefault("CPL_LOG", os.devnull)  # keep GDAL's notices off the screen
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")  # our own error reports it
    try:
        with notes_on_stderr():
            app(words, prog_name="tesela")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        from tesela.core.errors import TeselaError  # loads numpy, which help does not need

        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: cannot be read or written ({error.strerror})."
        else:
            text = str(error)
        if "--debug" in words or (not isinstance(error, TeselaError) and text == str(error)):
            raise
        print(f"tesela: {' '.join(text.split())}", file=sys.stderr)
        return 1
    return 0
