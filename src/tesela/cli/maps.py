"""`tesela generalise`, `vectorise` and `update`: the map and the polygons that an agency publishes."""

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
    app.command()(update)


def generalise(
    map_file: MapFile,
    out: Out,
    mmu: Annotated[str, typer.Option(help="Minimum mapping unit; a bare number is m2.")] = "25 ha",
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
    from tesela.generalise.generalise import generalise_map
    from tesela.io.legends import open_legend
    from tesela.io.maps import open_map

    mmu_m2, min_width_m = parse_area_m2(mmu), parse_length_m(min_width)
    source = open_map(map_file, legend=None if legend is None else open_legend(legend))
    with progress_bar("generalising", quiet=quiet or as_json) as progress:
        made, log = generalise_map(
            source,
            out,
            mmu_m2=mmu_m2,
            min_width_m=min_width_m,
            priority=priority,
            edges=edges,
            exempt=split_names(exempt) or (),
            mosaic=mosaic,
            rounds=rounds,
            narrow_out=narrow,
            progress=progress,
        )
    if change_log is not None:
        log.write(change_log)
    if as_json:
        print_json({"map": made.path, **log.to_dict()})
        return
    ha = log.pixel_m2 / 10_000
    if not quiet:
        rows = [
            (code, f"{log.before[code] * ha:,.1f}", f"{log.after[code] * ha:,.1f}")
            for code in log.before
            if log.before[code] or log.after[code]
        ]
        print_table(rows, header=("class", "ha before", "ha after"), right=(1, 2))
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
    Write the areas of a map as polygons without gaps or overlaps.

    Example: tesela vectorise clc.tif --simplify "20 m" -o clc.gpkg
    """
    from tesela.core.units import parse_length_m
    from tesela.generalise.vectorise import vectorise_map
    from tesela.io.legends import open_legend
    from tesela.io.maps import open_map

    source = open_map(map_file, legend=None if legend is None else open_legend(legend))
    made = vectorise_map(
        source, out, simplify_m=None if simplify is None else parse_length_m(simplify), confidence=confidence
    )
    if as_json:
        print_json({"polygons": made.path, "layer": made.layer, "count": made.count})
        return
    if not quiet:
        print(counted(made.count, "polygon"))
    print(f"polygons  {made.path}")


def update(
    polygons: Annotated[str, typer.Argument(help="Polygons of the old map.")],
    map_file: MapFile,
    out: Out,
    field: Annotated[str, typer.Option(help="Field of the old codes.")],
    layer: Annotated[str | None, typer.Option(help="Layer, if the file has several.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Legend of the old codes; default: the legend of MAP.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    confidence: Confidence = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    List the polygons of an old map that are out of date.

    Example: tesela update clc2012.gpkg map.tif --field CODE_12 -o update.gpkg
    """
    from tesela.generalise.update import update_polygons
    from tesela.io.legends import open_crosswalk, open_legend
    from tesela.io.maps import open_map
    from tesela.io.vector import open_layer, read_layer

    new_map = open_map(map_file, legend=None if legend is None else open_legend(legend))
    table = (
        None if crosswalk is None else open_crosswalk(source or "polygons", new_map.legend, path=crosswalk)
    )
    made = update_polygons(
        open_layer(polygons, layer=layer),
        new_map,
        out,
        field=field,
        crosswalk=table,
        codes_from=source,
        confidence=confidence,
    )
    verdicts = read_layer(made, columns=["verdict", "area_ha"], report=False)
    grouped = verdicts.groupby("verdict")["area_ha"].agg(["count", "sum"])
    if as_json:
        counts = {str(name): int(row["count"]) for name, row in grouped.iterrows()}
        print_json({"polygons": made.path, "verdicts": counts})
        return
    if not quiet:
        rows = [(name, int(row["count"]), f"{row['sum']:,.1f}") for name, row in grouped.iterrows()]
        print_table(rows, header=("verdict", "polygons", "ha"), right=(1, 2))
    print(f"polygons  {made.path}")
