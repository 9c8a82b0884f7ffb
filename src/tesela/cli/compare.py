"""`tesela compare`: a table over all combinations of some settings."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Quiet, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)


def compare(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file; see `tesela init`.")],
    vary: Annotated[
        list[str],
        typer.Option(help="KEY=A,B: a key of the recipe and its values; repeat it for further keys."),
    ],
    seeds: Annotated[int, typer.Option(help="Runs of each combination, each with another seed.")] = 1,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder; default: compare in the recipe's output folder."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Run a recipe with all combinations of some settings.

    Writes scores, their spread and significance, and the cost, as tables, a chart and a page. A value may be a list,
    A+B, and have a name, NAME:VALUE; scenes are selected by their names. An interrupted comparison is resumed.

    Example: tesela compare corine.toml --vary scenes=april,july --vary training.encoder=resnet50,resnet101
    """
    from tesela.cli.recipe import Reporter
    from tesela.comparison.compare import compare_recipe

    made = compare_recipe(
        recipe, vary=vary, seeds=seeds, out=out, quiet=quiet or as_json, report=Reporter(quiet or as_json)
    )
    if as_json:
        print_json(made.comparison.to_dict() | {"files": made.files})
        return
    for level in made.comparison.levels:
        if level is not None:
            print(f"level {level}")
        head, rows = made.comparison.to_table(level)
        print_table(rows, header=head, right=range(len(made.comparison.axes), len(head)))
        if level is not None:
            print()
    print(
        f"* best {made.comparison.headline.name}; p by {made.comparison.best.blocks} blocks of the test area"
    )
    for kind, path in made.files.items():
        print(f"{kind:5} {path}")
