"""`tesela doctor`: what is installed, what works, and what to do where something is missing."""

from __future__ import annotations

import typer

from tesela.cli.output import Json, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(as_json: Json = False) -> None:
    """
    Show what is installed and works here, and what is missing.

    What is missing is needed only for what its line names, with what to do about it. Ends with an error if something
    is broken.

    Example: tesela doctor
    """
    from dataclasses import asdict

    from tesela.verbs import products

    checks = products.doctor()
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        rows = [[check.subject, check.state, check.found] for check in checks]
        print_table(rows, header=["what", "state", "found, or what to do"])
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
