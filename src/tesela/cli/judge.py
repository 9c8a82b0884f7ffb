"""`tesela assess`: how well a map agrees with a reference."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(assess)


def assess(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map.")],
    reference: Annotated[str, typer.Argument(help="Reference: a class map or polygons.")],
    out: Out,
    field: Annotated[
        str | None, typer.Option(help="Field of the polygons that holds the class code.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Legend of the reference's codes; default: that of MAP.")
    ] = None,
    legend: Annotated[str | None, typer.Option(help="Legend of MAP, if the file does not say it.")] = None,
    level: Annotated[int | None, typer.Option(help="Judge at this coarser level of the legend.")] = None,
    tiles: Annotated[int, typer.Option(help="Side of the tiles of the per-tile table, in pixels.")] = 2048,
    within: Annotated[
        str | None, typer.Option(help="Polygons to judge in, or a patch table (its test patches).")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Scene to show in the report.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Judge a map against a reference.

    Scores per class and tile, as JSON and as a page to read.

    Example: tesela assess map.tif clc2018.gpkg --field CODE_18 -o report
    """
    from tesela.recipes.assessing import assess_files

    result = assess_files(
        map_file,
        reference,
        out,
        field=field,
        source=source,
        legend=legend,
        level=level,
        tiles_px=tiles,
        within=within,
        image=image,
    )
    if as_json:
        print_json(result.document)
        return
    if not quiet:
        for note in result.notes:
            print(note)
    for line in result.lines:
        print(line)
