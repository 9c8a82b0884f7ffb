"""`tesela legend`: list, show and convert."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="legend",
        help="Legends: list, show or begin one, translate a map.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("init")(init)
    group.command("convert")(convert)
    group.command("crosswalk")(crosswalk)
    app.add_typer(group)


def list_all(as_json: Json = False) -> None:
    """
    List the legends that come with Tesela.

    Example: tesela legend list
    """
    from tesela.io.crosswalks import list_crosswalks
    from tesela.verbs.legends import legend_list

    legends = legend_list()
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
    name: Annotated[
        str,
        typer.Argument(
            metavar="LEGEND", help="Legend, such as corine, corine-2, a CSV of your own, or a map."
        ),
    ],
    as_json: Json = False,
) -> None:
    """
    Show the classes of a legend.

    Columns: value in rasters, code, colour, parent, name.

    Example: tesela legend show corine-2
    """
    from tesela.verbs.legends import legend_show

    legend = legend_show(name)
    if as_json:
        print_json(legend.to_dict())
        return
    rows = [(item.value, item.code, item.color, item.parent or "-", item.name) for item in legend.classes]
    print_table(rows, header=("value", "code", "colour", "parent", "name"), right=(0,))


def init(
    out: Annotated[str, typer.Option("--out", "-o", help="CSV to write.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Polygons or a class raster with the classes; default: an example."),
    ] = None,
    field: Annotated[str | None, typer.Option(help="Field of the class codes, for polygons.")] = None,
    names: Annotated[str | None, typer.Option(help="Field of the class names, for polygons.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer, if the file has several.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Begin a legend of your own, a commented CSV to edit.

    With the classes of a file, or an example.

    Example: tesela legend init --from landuse.gpkg --field CODE --names LABEL -o mine.csv
    """
    from tesela.verbs.legends import legend_init

    legend = legend_init(out, source=source, field=field, names=names, layer=layer)
    if as_json:
        print_json({"legend": out, **legend.to_dict()})
        return
    if not quiet:
        print_table(
            [(item.value, item.code, item.name) for item in legend.classes], header=_HEADER, right=(0,)
        )
    print(f"legend  {out}")


_HEADER = ("value", "code", "name")


def convert(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class raster.")],
    to: Annotated[str, typer.Option("--to", help="Legend to translate to, such as lulucf, or a map in it.")],
    out: Out,
    legend: Annotated[str | None, typer.Option(help="Legend of MAP, if the file has none.")] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Translate a class map to another legend.

    Reports merged, split and left-out classes.

    Example: tesela legend convert map.tif --to lulucf -o lulucf.tif
    """
    from tesela.core.crosswalk import Crosswalk
    from tesela.verbs.maps import legend_convert

    converted = legend_convert(map_file, out, to=to, legend=legend, crosswalk=crosswalk)
    table = converted.details
    assert isinstance(table, Crosswalk)
    if as_json:
        print_json(
            {
                "map": converted.path,
                "legend": converted.legend.address,
                "merged": table.merges,
                "split": table.splits,
                "left_to_nodata": table.left_out,
                "way": table.steps,
            }
        )
        return
    if not quiet:
        print(*table.to_lines(), sep="\n")
    print(f"map  {converted.path}")


def crosswalk(
    source: Annotated[str, typer.Argument(metavar="LEGEND", help="Legend of the codes, or a map in it.")],
    to: Annotated[str, typer.Option("--to", help="Legend to translate to, such as lulucf, or a map in it.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="CSV to edit, for --crosswalk; default: print it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Show or write the crosswalk between two legends.

    Also from or to the legend of a cascade's map.

    Example: tesela legend crosswalk map.tif --to siose-ar -o map_siose.csv

    Example: tesela legend crosswalk siose-ar --to map.tif
    """
    from tesela.verbs.legends import legend_crosswalk

    table, file = legend_crosswalk(source, out, to=to), out
    if as_json:
        print_json(
            {
                "from": table.source,
                "to": table.target.address,
                "way": table.steps,
                "rows": table.to_rows(),
                "crosswalk": file,
            }
        )
        return
    if file is None:
        rows = [(row.code, row.to, f"{row.share:.3g}", row.note) for row in table.rows]
        print_table(rows, header=("from", "to", "share", "note"), right=(2,))
        return
    print(*table.to_lines(), sep="\n")
    print(f"crosswalk  {file}")
