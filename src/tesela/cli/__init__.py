"""The command line: parse, call one function, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from tesela.cli.interrupts import interrupts, last_line, received

if TYPE_CHECKING:
    from tesela.cli.app import app as app

__all__ = ["app", "main"]

_INTERRUPTED = 130
"""Exit status of Typer after Ctrl+C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 for an error, with one line on stderr; 2 for a wrong call; 128 + the number of the signal
        if interrupted (130 by Ctrl+C, 143 by SIGTERM), also while libraries are loaded.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with interrupts():
            code: int = import_module("tesela.cli.app").run(words)
    except BaseException:
        if not received():
            raise
    if received():  # a library may have lost the exception: what ran then is incomplete
        code = 128 + received()
    if received() or code == _INTERRUPTED:
        print(last_line(), file=sys.stderr)
    return code


def __getattr__(name: str) -> object:
    """Load the commands on demand: an interrupt while they load is already handled."""
    if name not in {"app", "account", "assess", "maps", "review"}:
        raise AttributeError(f"module 'tesela.cli' has no attribute {name!r}")
    module = import_module(f"tesela.cli.{name}")
    if name != "app":
        return module
    globals()["app"] = module.app
    return globals()["app"]
