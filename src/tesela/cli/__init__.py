"""The command line: parse, call one function, print."""

from tesela.cli.app import main

__all__ = ["main"]
