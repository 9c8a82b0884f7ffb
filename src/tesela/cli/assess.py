"""`tesela assess`: how well a map agrees with a reference."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, OutFolder, Quiet, print_json, progress_bar, split_names

_DRAW, _ESTIMATE = "tesela sample draw MAP -o POINTS.gpkg", "tesela sample estimate SAMPLE MAP -o DIR"
FORMER = {
    "assess": {
        "--draw-sample": _DRAW,
        "--sample": _ESTIMATE,
        "--answers": f"{_ESTIMATE} --responses TABLE",
        "--design": f"{_DRAW} --design DESIGN",
        "--target-error": f"{_DRAW} --target-error ERROR",
        "--size": f"{_DRAW} --points N",
        "--allocation": f"{_DRAW} --allocation RULE",
        "--minimum": f"{_DRAW} --minimum N",
        "--expected": f"{_DRAW} --expected ACCURACY",
        "--strata": f"{_DRAW} --strata MAP",
        "--hide-strata": f"{_DRAW} --hide-strata",
        "--seed": f"{_DRAW} --seed N",
    }
}
"""Flags that have moved to other commands."""


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(assess)


def assess(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map, or abundance map.")],
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="Reference: a class map or polygons.")
    ],
    out: OutFolder,
    field: Annotated[
        str | None, typer.Option(help="Field of the polygons that holds the class code.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of the polygons, in every file that has several.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Legend of the reference's codes; default: that of MAP.")
    ] = None,
    legend: Annotated[str | None, typer.Option(help="Legend of MAP, if the file has none.")] = None,
    level: Annotated[int | None, typer.Option(help="Assess at this coarser level of the legend.")] = None,
    tiles: Annotated[int, typer.Option(help="Side of the tiles of the per-tile table, in pixels.")] = 2048,
    within: Annotated[
        str | None, typer.Option(help="Polygons of the test area, or a patch table (its test patches).")
    ] = None,
    regions: Annotated[str | None, typer.Option(help="Polygons to score one by one.")] = None,
    region_field: Annotated[
        str | None, typer.Option(help="Field of the regions' names; default: each polygon is a region.")
    ] = None,
    borders: Annotated[
        str | None,
        typer.Option(help='Distances from class borders, such as "20 m,50 m"; default: 1, 2, 5, 10 px.'),
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(help="Confidence raster of MAP, for its calibration.")
    ] = None,
    mmu: Annotated[
        str | None,
        typer.Option(help="Assess MAP also generalised to this minimum mapping unit, that of the reference."),
    ] = None,
    min_width: Annotated[
        str | None, typer.Option(help="With --mmu: generalise to this minimum width too.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Scene to show in the report.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the report as PDF too (needs Chromium).")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Assess a map against a reference.

    Scores by class, tile, region, legend level and distance from borders, as JSON and as a page to read.

    Example: tesela assess map.tif clc2018.gpkg --field CODE_18 --mmu "25 ha" -o report
    """
    from tesela.assessment.files import AssessmentFiles
    from tesela.verbs import accuracy

    with progress_bar("assessing", quiet=quiet or as_json) as progress:
        result = accuracy.assess(
            map_file,
            reference,
            out,
            field=field,
            layer=layer,
            source=source,
            legend=legend,
            level=level,
            tiles=tiles,
            within=within,
            regions=regions,
            region_field=region_field,
            borders=split_names(borders),
            confidence=confidence,
            mmu=mmu,
            min_width=min_width,
            image=image,
            title=title,
            pdf=pdf,
            progress=progress,
        )
    if as_json:
        print_json(result.document)
        return
    if not quiet and isinstance(result, AssessmentFiles):
        for note in result.notes:
            print(note)
    for line in result.lines:
        print(line)
