"""`tesela generalise`, `vectorise` and `update`: from a map to the map, and the polygons, that an agency publishes."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, counted, print_json, print_table, progress_bar, split_names

MapFile = Annotated[str, typer.Argument(metavar="MAP", help="Class map.")]
MapLegend = Annotated[
    str | None, typer.Option("--legend", help="Legend of MAP, if the file does not say it.")
]
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
        str, typer.Option(help="Minimum width; a bare number is m, 0 leaves narrow parts alone.")
    ] = "100 m",
    priority: Annotated[
        str | None, typer.Option(help="Who gets the ground: 'auto' (shipped table of the legend) or a CSV.")
    ] = None,
    edges: Annotated[str, typer.Option(help="Areas cut by the edge or nodata: keep or merge.")] = "keep",
    exempt: Annotated[str | None, typer.Option(help="Codes that may be narrow, comma-separated.")] = None,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="Draw mosaic classes of small parcels first.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Most rounds of width and unit.")] = 10,
    narrow: Annotated[str | None, typer.Option(help="File for the ground that stays narrow.")] = None,
    ledger: Annotated[str | None, typer.Option(help="File for the change ledger, .csv or .json.")] = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Generalise a map to a minimum mapping unit and width.

    Example: tesela generalise map.tif --mmu "25 ha" --min-width "100 m" --priority auto -o clc.tif
    """
    from tesela.core.units import parse_area_m2, parse_length_m
    from tesela.generalise import generalise_map
    from tesela.io.legends import load_legend
    from tesela.io.maps import open_map

    mmu_m2, min_width_m = parse_area_m2(mmu), parse_length_m(min_width)
    source = open_map(map_file, legend=None if legend is None else load_legend(legend))
    with progress_bar("generalising", quiet=quiet or as_json) as progress:
        made, account = generalise_map(
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
    if ledger is not None:
        account.write(ledger)
    if as_json:
        print_json({"map": made.path, **account.to_dict()})
        return
    ha = account.pixel_m2 / 10_000
    if not quiet:
        rows = [
            (code, f"{account.before[code] * ha:,.1f}", f"{account.after[code] * ha:,.1f}")
            for code in account.before
            if account.before[code] or account.after[code]
        ]
        print_table(rows, header=("class", "ha before", "ha after"), right=(1, 2))
        print(f"unit          {mmu_m2 / 10_000:g} ha, {min_width_m:g} m wide")
        print(f"moved         {account.moved_px * ha:,.1f} ha in {counted(account.rounds, 'round')}")
        print(f"below unit    {counted(len(account.below), 'area')}" + _reasons(account.below))
        print(f"still narrow  {sum(account.narrow.values()) * ha:,.1f} ha")
    print(f"map  {made.path}")


_KEPT = {"edge": "cut by the edge", "nodata": "cut by nodata", "alone": "without a neighbour"}
"""Why areas under the unit stay."""


def _reasons(below: tuple[object, ...]) -> str:
    reasons: dict[str, int] = {}
    for item in below:
        reason = str(getattr(item, "reason", ""))
        reasons[reason] = reasons.get(reason, 0) + 1
    return "".join(f", {count} {_KEPT.get(reason, reason)}" for reason, count in sorted(reasons.items()))


def vectorise(
    map_file: MapFile,
    out: Out,
    simplify: Annotated[
        str | None, typer.Option(help="Smooth borders, both sides alike, by this length.")
    ] = None,
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
    from tesela.io.legends import load_legend
    from tesela.io.maps import open_map

    source = open_map(map_file, legend=None if legend is None else load_legend(legend))
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
    source: Annotated[str | None, typer.Option(help="Legend of the old codes; default: that of MAP.")] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    confidence: Confidence = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Tell which polygons of an old map no longer hold.

    Example: tesela update clc2012.gpkg map.tif --field CODE_12 -o update.gpkg
    """
    from tesela.generalise.update import update_polygons
    from tesela.io.legends import load_crosswalk, load_legend
    from tesela.io.maps import open_map
    from tesela.io.vector import open_layer, read_layer

    found = open_map(map_file, legend=None if legend is None else load_legend(legend))
    walk = None if crosswalk is None else load_crosswalk(source or "polygons", found.legend, path=crosswalk)
    made = update_polygons(
        open_layer(polygons, layer=layer),
        found,
        out,
        field=field,
        crosswalk=walk,
        codes_from=source,
        confidence=confidence,
    )
    verdicts = read_layer(made, columns=["verdict", "area_ha"])
    grouped = verdicts.groupby("verdict")["area_ha"].agg(["count", "sum"])
    if as_json:
        counts = {str(name): int(row["count"]) for name, row in grouped.iterrows()}
        print_json({"polygons": made.path, "verdicts": counts})
        return
    if not quiet:
        rows = [(name, int(row["count"]), f"{row['sum']:,.1f}") for name, row in grouped.iterrows()]
        print_table(rows, header=("verdict", "polygons", "ha"), right=(1, 2))
    print(f"polygons  {made.path}")
