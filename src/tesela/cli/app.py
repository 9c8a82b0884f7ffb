"""The application: its commands and the report of errors."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Annotated

import typer

from tesela.cli import (
    account,
    assess,
    data,
    doctor,
    experts,
    legend,
    maps,
    mosaic,
    publish,
    published,
    recipe,
    review,
    sample,
    update,
)
from tesela.cli.checked import CheckedCommand
from tesela.cli.interrupts import received
from tesela.cli.output import notes_on_stderr, replacement

app = typer.Typer(
    name="tesela",
    help="""
    From imagery and an existing land-cover map to trained models, and from models to new maps.

    First: `tesela demo` runs a whole chain on a virtual region; `tesela init corine` writes a recipe for your own data
    and `tesela run corine.toml` runs it; `tesela COMMAND -h` explains a command.
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""All commands; heavy libraries are imported only when a command runs."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(*version_lines(), sep="\n")
        raise typer.Exit


def version_lines() -> list[str]:
    """Versions of Tesela and of what its results depend on most."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import rasterio

    from tesela import __version__

    lines = [f"tesela {__version__}", f"Python {platform.python_version()}"]
    lines.append(f"GDAL {rasterio.__gdal_version__} (rasterio {rasterio.__version__})")
    for name in ("torch", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{name} {version(name)}")
    return lines


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print versions, GDAL and torch too, and stop.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From imagery and an existing land-cover map to trained models, and from models to new maps."""


def _first_paragraph(function: Callable[..., object] | None) -> str:
    """What a list of commands says of one; Typer alone cuts it at 45 or 60 characters."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


_COMMANDS = (
    recipe,
    legend,
    mosaic,
    data,
    experts,
    maps,
    update,
    assess,
    sample,
    account,
    publish,
    published,
    review,
    doctor,
)
for _module in _COMMANDS:
    _module.add_commands(app)
for _group in (app, *(group.typer_instance for group in app.registered_groups)):
    for _command in _group.registered_commands if _group is not None else ():
        _command.cls = CheckedCommand
        _command.short_help = _first_paragraph(_command.callback)

_FORMER = {name: calls for module in _COMMANDS for name, calls in getattr(module, "FORMER", {}).items()}
"""Former calls by command; see `tesela.cli.output.replacement`."""


_REPORTED = (KeyboardInterrupt, UnicodeDecodeError)
"""What commands report themselves; GDAL quotes damaged bytes in its messages, which rasterio cannot decode."""


def _unraisable(problem: sys.UnraisableHookArgs) -> None:
    """Report an exception that a library could not raise, but for what the command reports itself."""
    if not issubclass(problem.exc_type, _REPORTED):
        sys.__unraisablehook__(problem)


def _printed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `_unraisable`, for the libraries that print the exception first."""
    if not issubclass(kind, _REPORTED):
        sys.__excepthook__(kind, error, trace)


def run(words: Sequence[str]) -> int:
    """Run a command; see `tesela.cli.main`."""
    moved = replacement(words, _FORMER)
    if moved is not None:
        print(f"tesela: {moved}", file=sys.stderr)
        return 2
    os.environ.setdefault("CPL_LOG", os.devnull)  # keep GDAL's notices off the screen
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")  # our own error reports it
    for text in ("Consolidated metadata is currently", "Object at .* is not recognized"):
        warnings.filterwarnings("ignore", message=text)  # zarr's threads, while an interrupt ends the command
    former = sys.unraisablehook, sys.excepthook
    sys.unraisablehook, sys.excepthook = _unraisable, _printed
    try:
        with notes_on_stderr():
            typer.main.get_command(app)(
                list(words), prog_name="tesela"
            )  # calling `app` would set its own hook
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        from tesela.cli.errors import describe  # loads numpy, which help does not need

        if "--debug" in words:
            raise
        if received():  # a library turned the interrupt into an error of its own
            return 1
        print(f"tesela: {describe(error)}", file=sys.stderr)
        return 1
    finally:
        sys.unraisablehook, sys.excepthook = former
    return 0
