"""`tesela assess` and `account`: how well a map agrees with a reference, and what a series of maps adds up to."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(assess)
    app.command()(account)


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


def account(
    maps: Annotated[list[str], typer.Argument(metavar="MAP_A MAP_B...", help="Class maps, oldest first.")],
    years: Annotated[str, typer.Option(help="Year of each map, comma-separated.")],
    out: Out,
    legend: Annotated[
        str | None, typer.Option(help="Legend of the maps, if the files do not say it.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV to the six categories: from, to, share.")] = None,
    transition_years: Annotated[int, typer.Option(help="Years that land counts as converted.")] = 20,
    title: Annotated[str, typer.Option(help="Title of the workbook.")] = "",
    as_json: Json = False,
) -> None:
    """
    Account for land use in a series of maps.

    Areas, changes and checks as tables and JSON, and Table 4.1 as a workbook.

    Example: tesela account map2018.tif map2024.tif --years 2018,2024 -o account
    """
    from tesela.core.errors import RecipeError
    from tesela.evaluation.accounting import account_maps
    from tesela.io.legends import load_crosswalk, load_legend
    from tesela.io.maps import open_map

    try:
        when = [int(year) for year in years.split(",")]
    except ValueError:
        raise RecipeError(
            f"'{years}' is not a list of years: write one for each map, such as 2018,2024."
        ) from None
    opened = [open_map(item, legend=None if legend is None else load_legend(legend)) for item in maps]
    walk = None
    if crosswalk is not None:
        walk = load_crosswalk(opened[0].legend.address, load_legend("lulucf"), path=crosswalk)
    made = account_maps(opened, when, out, crosswalk=walk, transition_years=transition_years, title=title)
    if as_json:
        print_json(made.to_dict())
        return
    for line in made.to_lines():
        print(line)
    for name, path in made.files.items():
        print(f"{name:10}  {path}")
