"""`tesela update`: the polygons of an old map that are out of date, and the new map after their review."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tesela.cli.maps import Confidence, MapFile, MapLegend
from tesela.cli.output import Json, Out, Quiet, counted, print_json, print_table


class _QueueByDefault(TyperGroup):
    """A group in which `update POLYGONS MAP` is short for `update queue POLYGONS MAP`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command where the first word is none."""
        os.environ.setdefault(
            "GDAL_CACHEMAX", "32"
        )  # MB, before GDAL is loaded: maps are read once, by window
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["queue", *args]
        return super().parse_args(ctx, args)


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(
        name="update",
        cls=_QueueByDefault,
        help="""
        List outdated polygons of an old map, apply the changes.

        Example: tesela update clc2012.gpkg map.tif --field CODE_12 -o queue.gpkg

        `tesela update POLYGONS MAP` is short for `tesela update queue POLYGONS MAP`.
        """,
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("queue")(queue)
    group.command("apply")(apply)
    app.add_typer(group)


def queue(
    polygons: Annotated[str, typer.Argument(metavar="POLYGONS", help="Polygons of the old map.")],
    map_file: MapFile,
    out: Out,
    field: Annotated[
        str | None,
        typer.Option(help="Field of the old codes; a SIOSE AR file needs none.", show_default=False),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer, if the file has several.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Legend of the old codes; default: the legend of MAP.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    confidence: Confidence = None,
    mmu: Annotated[
        str, typer.Option(help="Least area of a changed part, with its unit. CORINE: 5 ha.")
    ] = "1 ha",
    part: Annotated[
        str | None,
        typer.Option(help="Queue every polygon with this area of one other class, for generalised maps."),
    ] = None,
    everything: Annotated[
        bool | None,
        typer.Option(
            "--all/--doubtful",
            help="Write all polygons, also those that hold or lie off the map, or the changed and doubtful ones only; "
            "default: all of a layer of up to 10,000.",
            show_default=False,
        ),
    ] = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    List the polygons of an old map that are out of date.

    With the parts that changed, the most urgent first.

    Example: tesela update queue clc2012.gpkg map.tif --field CODE_12 --mmu "5 ha" -o queue.gpkg
    """
    from tesela.verbs import maps as verbs

    made = verbs.update(
        polygons,
        map_file,
        out,
        field=field,
        layer=layer,
        source=source,
        crosswalk=crosswalk,
        confidence=confidence,
        mmu=mmu,
        part=part,
        everything=everything,
        legend=legend,
    )
    if as_json:
        counts = {name: count for name, (count, _) in made.verdicts.items()}
        print_json({"polygons": made.layer.path, "verdicts": counts, "proposals": made.proposals})
        return
    if not quiet:
        rows = [(name, count, f"{ha:,.1f}") for name, (count, ha) in made.verdicts.items()]
        print_table(rows, header=("verdict", "polygons", "ha"), right=(1, 2))
        print(f"changes   {made.proposals:,} proposed, to review: tesela review serve {out}")
    print(f"polygons  {made.layer.path}")


def apply(
    queue_file: Annotated[str, typer.Argument(metavar="QUEUE", help="GeoPackage of `tesela update`.")],
    out: Out,
    polygons: Annotated[
        str | None, typer.Option(help="Polygons of the old map; default: those that the queue names.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the polygons, if the file has several.")] = None,
    undecided: Annotated[
        str, typer.Option(help="Proposals without a decision: keep the old class, or accept the new one.")
    ] = "keep",
    changes: Annotated[
        str | None,
        typer.Option(help="File for the change layer; default: the layer `changes` of a GeoPackage OUT."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Write the new layer and the change layer of a queue.

    From the decisions on its polygons.

    Example: tesela update apply queue.gpkg -o clc2018.gpkg
    """
    from tesela.verbs import maps as verbs

    made = verbs.update_apply(
        queue_file, out, polygons=polygons, layer=layer, undecided=undecided, changes=changes
    )
    if as_json:
        print_json(made.to_dict())
        return
    if not quiet:
        rows = [(change, count, f"{ha:,.1f}") for change, (count, ha) in made.changes.items()]
        if rows:
            print_table(rows, header=("change", "areas", "ha"), right=(1, 2))
        print(f"decided    {made.decided} of {counted(made.proposals, 'proposal')}")
        print(f"new layer  {counted(made.polygons, 'polygon')}, {made.old_polygons} before")
    print(f"polygons   {made.path}")
    print(f"changes    {made.changes_path}")
