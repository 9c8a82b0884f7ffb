"""`tesela generalise` and `vectorise`: the map and the polygons that an agency publishes."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, counted, print_json, print_table, progress_bar, split_names

FORMER = {"generalise": {"--ledger": "tesela generalise MAP --change-log FILE"}}
"""Former flags and the calls that replace them, see `tesela.cli.output.replacement`."""

MapFile = Annotated[str, typer.Argument(metavar="MAP", help="Class map.")]
MapLegend = Annotated[str | None, typer.Option("--legend", help="Legend of MAP, if the file has none.")]
Confidence = Annotated[str | None, typer.Option(help="Confidence raster of the map, see `tesela predict`.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(generalise)
    app.command()(vectorise)


def generalise(
    map_file: MapFile,
    out: Out,
    mmu: Annotated[str, typer.Option(help="Minimum mapping unit, with its unit.")] = "25 ha",
    min_width: Annotated[
        str, typer.Option(help="Minimum width; a bare number is m, 0 keeps narrow parts.")
    ] = "100 m",
    priority: Annotated[
        str | None,
        typer.Option(
            help="Which neighbour gets a small area: 'auto' (shipped table of the legend) or a CSV."
        ),
    ] = None,
    edges: Annotated[
        str, typer.Option(help="Small areas cut by the edge or by nodata: keep or merge.")
    ] = "keep",
    exempt: Annotated[str | None, typer.Option(help="Codes that may be narrow, comma-separated.")] = None,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="Merge small parcels into mosaic classes first.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Largest number of rounds of width and unit.")] = 10,
    narrow: Annotated[str | None, typer.Option(help="Map of the pixels that are still narrow.")] = None,
    change_log: Annotated[str | None, typer.Option(help="File for the change log, .csv or .json.")] = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Generalise a map to a minimum mapping unit and width.

    Example: tesela generalise map.tif --mmu "25 ha" --min-width "100 m" --priority auto -o clc.tif
    """
    from tesela.core.units import parse_area_m2, parse_length_m
    from tesela.generalise.change_log import ChangeLog
    from tesela.verbs import maps as verbs

    mmu_m2, min_width_m = parse_area_m2(mmu), parse_length_m(min_width)
    with progress_bar("generalising", quiet=quiet or as_json) as progress:
        made = verbs.generalise(
            map_file,
            out,
            mmu=mmu_m2,
            min_width=min_width_m,
            priority=priority,
            edges=edges,
            exempt=split_names(exempt) or (),
            mosaic=mosaic,
            rounds=rounds,
            narrow=narrow,
            legend=legend,
            progress=progress,
        )
    log = made.details
    assert isinstance(log, ChangeLog)
    if change_log is not None:
        log.write(change_log)
    if as_json:
        print_json({"map": made.path, **log.to_dict()})
        return
    ha = log.pixel_m2 / 10_000
    if not quiet:
        names = {cover.code: cover.name for cover in made.legend.classes}
        rows = [
            (code, names[code], f"{log.before[code] * ha:,.1f}", f"{log.after[code] * ha:,.1f}")
            for code in log.before
            if log.before[code] or log.after[code]
        ]
        print_table(rows, header=("code", "class", "ha before", "ha after"), right=(2, 3))
        print(f"unit          {mmu_m2 / 10_000:g} ha, {min_width_m:g} m wide")
        print(f"moved         {log.moved_px * ha:,.1f} ha in {counted(log.rounds, 'round')}")
        print(f"below unit    {counted(len(log.below), 'area')}" + _reasons(log.below))
        print(f"still narrow  {sum(log.narrow.values()) * ha:,.1f} ha")
    print(f"map  {made.path}")


_KEPT = {"edge": "cut by the edge", "nodata": "cut by nodata", "alone": "without a neighbour"}
"""Why areas under the unit remain."""


def _reasons(below: tuple[object, ...]) -> str:
    reasons: dict[str, int] = {}
    for item in below:
        reason = str(getattr(item, "reason", ""))
        reasons[reason] = reasons.get(reason, 0) + 1
    return "".join(f", {count} {_KEPT.get(reason, reason)}" for reason, count in sorted(reasons.items()))


def vectorise(
    map_file: MapFile,
    out: Out,
    simplify: Annotated[str | None, typer.Option(help="Smooth shared borders by this length.")] = None,
    confidence: Confidence = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Write a map as polygons without gaps or overlaps.

    Example: tesela vectorise clc.tif --simplify "20 m" -o clc.gpkg
    """
    from tesela.io.vector import VectorLayer
    from tesela.verbs import maps as verbs

    made = verbs.vectorise(map_file, out, simplify=simplify, confidence=confidence, legend=legend)
    assert isinstance(made, VectorLayer)
    if as_json:
        print_json({"polygons": made.path, "layer": made.layer, "count": made.count})
        return
    if not quiet:
        print(counted(made.count, "polygon"))
    print(f"polygons  {made.path}")
