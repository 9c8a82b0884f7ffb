"""`tesela assess`: how well a map agrees with a reference, or with what people saw at a sample of points."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli import sample as sampling
from tesela.cli.output import Json, Quiet, print_json, progress_bar, split_names


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(assess)


def assess(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map, or abundance map.")],
    reference: Annotated[
        str | None, typer.Argument(help="Reference: a class map or polygons; not needed with a sample.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Folder of the report.")] = None,
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
        str | None, typer.Option(help="Judge MAP also when generalised to this unit of the reference.")
    ] = None,
    min_width: Annotated[str | None, typer.Option(help="And to this minimum width.")] = None,
    image: Annotated[str | None, typer.Option(help="Scene to show in the report.")] = None,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Map assessment",
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the report as PDF too (needs Chromium).")] = False,
    draw_sample: sampling.DrawSample = None,
    design: sampling.Design = "stratified",
    target_error: sampling.TargetError = None,
    size: sampling.Size = None,
    allocation: sampling.Allocation = "proportional",
    minimum: sampling.Minimum = 50,
    expected: sampling.Expected = "0.85",
    strata: sampling.Strata = None,
    hide_strata: sampling.HideStrata = False,
    seed: sampling.Seed = 0,
    sample: sampling.SampleFile = None,
    answers: sampling.Answers = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Judge a map against a reference, or by a sample of points.

    Scores by class, tile, region, legend level and distance from borders, or estimates with 95 % intervals, as
    JSON and as a page to read.

    Example: tesela assess map.tif clc2018.gpkg --field CODE_18 --mmu "25 ha" -o report

    Example: tesela assess map.tif --draw-sample sample.gpkg --target-error 0.01

    Example: tesela assess map.tif --sample sample.gpkg -o report
    """
    if draw_sample is not None:
        sampling.draw(
            map_file,
            draw_sample,
            design=design,
            target_error=target_error,
            size=size,
            allocation=allocation,
            minimum=minimum,
            expected=expected,
            strata=strata,
            hide_strata=hide_strata,
            legend=legend,
            seed=seed,
            as_json=as_json,
        )
        return
    if out is None:
        raise typer.BadParameter("Name the folder of the report.", param_hint="--out")
    if sample is not None and reference is not None:
        raise typer.BadParameter("Give a reference or a sample, not both.", param_hint="REFERENCE")
    if sample is not None:
        sampling.judge(map_file, sample, out, answers=answers, legend=legend, as_json=as_json)
        return
    if reference is None:
        raise typer.BadParameter("Give a reference, or a sample (--sample).", param_hint="REFERENCE")
    from tesela.assessment.abundance.report import assess_abundance_files, is_abundance

    if is_abundance(map_file):
        judged = assess_abundance_files(
            map_file, reference, out, within=within, uncertainty=confidence, title=title
        )
        if as_json:
            print_json(judged.document)
        else:
            print(*judged.lines, sep="\n")
        return
    from tesela.assessment.files import assess_files
    from tesela.core.units import parse_area_m2, parse_length_m

    distances = split_names(borders)
    with progress_bar("judging", quiet=quiet or as_json) as progress:
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
            regions=regions,
            region_field=region_field,
            borders_m=None if distances is None else [parse_length_m(text) for text in distances],
            confidence=confidence,
            mmu_m2=0.0 if mmu is None else parse_area_m2(mmu),
            min_width_m=0.0 if min_width is None else parse_length_m(min_width),
            image=image,
            title=title,
            pdf=pdf,
            progress=progress,
        )
    if as_json:
        print_json(result.document)
        return
    if not quiet:
        for note in result.notes:
            print(note)
    for line in result.lines:
        print(line)
