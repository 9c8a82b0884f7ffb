"""The application: its commands, and how errors reach a person."""

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
    compare,
    data,
    experts,
    legend,
    maps,
    mosaic,
    publish,
    recipe,
    review,
    unmix,
    view,
)

app = typer.Typer(
    name="tesela",
    help="From imagery and an existing land-cover map to trained models, and from models to new maps.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""All commands; their modules load heavy libraries only when a command runs."""


_INTERRUPTED = 130
"""What Typer exits with after Ctrl+C."""


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From imagery and an existing land-cover map to trained models, and from models to new maps."""
    if version:
        from tesela import __version__

        print(f"tesela {__version__}")
        raise typer.Exit


for group in (
    recipe,
    compare,
    legend,
    mosaic,
    data,
    experts,
    maps,
    assess,
    account,
    publish,
    review,
    unmix,
    view,
):
    group.add_commands(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 for an error, told in one line on stderr; 2 for a wrong call; 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("CPL_LOG", os.devnull)  # GDAL's notices are no part of what a person reads
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")  # our own error says it
    try:
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
