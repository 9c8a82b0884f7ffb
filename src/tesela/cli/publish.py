"""`tesela publish`: from a map, an expert or a cascade to a product that a catalogue accepts."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, OutFolder, Quiet, print_json, split_names


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(publish)


def publish(
    product: Annotated[
        str,
        typer.Argument(
            metavar="MAP|EXPERT|CASCADE",
            help="Map (a COG), trained expert (.safetensors), or cascade (.toml, or a folder with cascade.toml).",
        ),
    ],
    out: OutFolder,
    title: Annotated[str | None, typer.Option(help="One line for people; default: the file's name.")] = None,
    date: Annotated[
        str | None,
        typer.Option(
            help="What time it shows: 2018, 2018-07, 2018-07-15 or 2018-04/2018-09; default: the date in the recipe."
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="A paragraph for people.")] = "",
    license: Annotated[str, typer.Option(help="SPDX identifier, such as CC-BY-4.0.")] = "other",
    provider: Annotated[str, typer.Option(help="Organisation that answers for it.")] = "",
    contact: Annotated[str, typer.Option(help="Its e-mail address.")] = "",
    keywords: Annotated[str | None, typer.Option(help="Search words, comma-separated.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Further file of the product: confidence, polygons, report.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Publish a map, an expert or a cascade.

    Writes a folder with the files, a STAC Item and the records beside it.
    A map must be a valid COG; it gets an ISO 19115 record (XML). Experts and cascades get model cards (Markdown).

    Example: tesela publish map.tif -o product --title "Land cover 2018" --date 2018-07 --include map.gpkg
    """
    from tesela.verbs import products

    made = products.publish(
        product,
        out,
        title=title,
        date=date,
        description=description,
        license=license,
        provider=provider,
        contact=contact,
        keywords=split_names(keywords) or (),
        include=include or (),
    )
    if as_json:
        print_json({"item": str(made.item), "files": [str(path) for path in made.files], "notes": made.notes})
        return
    for note in made.notes:
        print(f"note: {note}")
    if not quiet:
        for path in made.files[:-1]:
            print(f"file  {path}")
    print(f"item  {made.item}")
