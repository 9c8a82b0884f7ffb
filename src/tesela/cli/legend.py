"""`tesela legend`: list, show and convert."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="legend",
        help="Legends: list them, show one, translate a map.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("convert")(convert)
    app.add_typer(group)


def list_all(as_json: Json = False) -> None:
    """
    List the legends that come with Tesela.

    Example: tesela legend list
    """
    from tesela.io.legends import list_crosswalks, list_legends, open_legend

    legends = [open_legend(name) for name in list_legends()]
    crosswalks = list_crosswalks()
    if as_json:
        print_json(
            {
                "legends": [
                    {"name": item.name, "levels": item.levels, "classes": len(item)} for item in legends
                ],
                "crosswalks": [{"from": source, "to": target} for source, target in crosswalks],
            }
        )
        return
    rows = [
        (
            item.name,
            item.levels,
            len(item),
            ", ".join(target for source, target in crosswalks if source == item.name) or "-",
        )
        for item in legends
    ]
    print_table(rows, header=("legend", "levels", "classes", "crosswalks to"), right=(1, 2))


def show(
    name: Annotated[str, typer.Argument(help="Legend, such as corine, corine-2, or a CSV of your own.")],
    as_json: Json = False,
) -> None:
    """
    Show the classes of a legend: value in rasters, code, colour, name.

    Example: tesela legend show corine-2
    """
    from tesela.io.legends import open_legend

    legend = open_legend(name)
    if as_json:
        print_json(legend.to_dict())
        return
    rows = [(item.value, item.code, item.color, item.parent or "-", item.name) for item in legend.classes]
    print_table(rows, header=("value", "code", "colour", "parent", "name"), right=(0,))


def convert(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class raster.")],
    to: Annotated[str, typer.Option("--to", help="Legend to translate to, such as lulucf.")],
    out: Out,
    legend: Annotated[
        str | None, typer.Option(help="Legend of MAP, if the file does not contain it.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Translate a class map to another legend, and report merged, split and left-out classes.

    Example: tesela legend convert map.tif --to lulucf -o lulucf.tif
    """
    from tesela.io.legends import open_crosswalk, open_legend
    from tesela.io.maps import convert_map, open_map

    source = open_map(map_file, legend=None if legend is None else open_legend(legend))
    table = open_crosswalk(source.legend.address, open_legend(to), path=crosswalk)
    converted = convert_map(source, out, crosswalk=table)
    if as_json:
        print_json(
            {
                "map": converted.path,
                "legend": converted.legend.address,
                "merged": table.merges,
                "split": table.splits,
                "left_to_nodata": table.left_out,
            }
        )
        return
    if not quiet:
        print(table.summary())
    print(f"map  {converted.path}")
