"""`tesela sample`: draw points for interpreters, and estimate accuracy and area from their responses."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tesela.cli.account import Crosswalk, MapFiles, MapLegend, Years, parse_years
from tesela.cli.output import Json, OutFolder, Quiet, print_json, print_table

FORMER = {"sample": {"--size": "tesela sample draw MAP --points N -o POINTS.gpkg"}}
"""Options with another name today."""


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="sample",
        help="Samples of points: draw them, estimate accuracy and area.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("draw")(draw)
    group.command("estimate")(estimate)
    group.command("changes")(changes)
    app.add_typer(group)


def draw(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map to assess.")],
    out: Annotated[str, typer.Option("--out", "-o", help="GeoPackage to write the points to.")],
    design: Annotated[
        Literal["stratified", "simple"],
        typer.Option(help="stratified: random points within each stratum; simple: over the whole map."),
    ] = "stratified",
    target_error: Annotated[
        float | None, typer.Option(help="Target standard error of overall accuracy; default: 0.01.")
    ] = None,
    points: Annotated[int | None, typer.Option(help="Number of points, instead of --target-error.")] = None,
    allocation: Annotated[
        Literal["proportional", "equal", "neyman"],
        typer.Option(
            help="Points per stratum: by area, the same for all, or by area and expected variance (neyman)."
        ),
    ] = "proportional",
    minimum: Annotated[int, typer.Option(help="Smallest number of points in a stratum.")] = 50,
    expected: Annotated[
        str, typer.Option(help="Expected user's accuracy: 0.85, or by stratum, such as 1=0.7,2=0.9.")
    ] = "0.85",
    strata: Annotated[
        str | None, typer.Option(help="Class map whose classes are the strata; default: MAP.")
    ] = None,
    hide_strata: Annotated[
        bool,
        typer.Option("--hide-strata", help="Leave the stratum out of the points; it may reveal the class."),
    ] = False,
    legend: MapLegend = None,
    seed: Annotated[
        int, typer.Option(help="Seed; a larger sample with the same seed contains the smaller one.")
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Draw a random sample of a map's pixels for interpreters.

    Prints the design: strata, their shares and points, and the expected standard error.

    Example: tesela sample draw map.tif --target-error 0.01 -o points.gpkg
    """
    from tesela.verbs import accuracy

    drawn = accuracy.sample_draw(
        map_file,
        out,
        design=design,
        target_error=target_error,
        points=points,
        allocation=allocation,
        minimum=minimum,
        expected=parse_expected(expected),
        strata=strata,
        hide_strata=hide_strata,
        legend=legend,
        seed=seed,
    )
    if as_json:
        print_json(drawn.document)
        return
    if not quiet:
        total = sum(item.size_px for item in drawn.design.strata)
        print_table(
            [
                [item.code, item.name, f"{item.size_px:,}", f"{item.size_px / total:.1%}", item.points]
                for item in drawn.design.strata
            ],
            header=["stratum", "name", "pixels", "share", "points"],
            right=(2, 3, 4),
        )
    if drawn.design.left_out_px and not quiet:
        left_out = drawn.design.left_out_px
        share = left_out / (left_out + sum(item.size_px for item in drawn.design.strata))
        print(f"{left_out:,} px ({share:.1%}) of the map have no class and are left out of the sample")
    target = "" if points is not None else f" (target {0.01 if target_error is None else target_error:g})"
    assert drawn.expected_se is not None
    print(
        f"{drawn.design.points} points, expected standard error of overall accuracy "
        f"{drawn.expected_se:.4f}{target}"
    )
    print(f"sample    {drawn.file}")


def estimate(
    sample: Annotated[
        str,
        typer.Argument(metavar="SAMPLE", help="Sample whose field `reference` interpreters have filled in."),
    ],
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map to assess.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of accuracy.html and accuracy.json.")],
    responses: Annotated[
        str | None,
        typer.Option(help="Table with sample_id and reference, if the responses are in another file."),
    ] = None,
    legend: MapLegend = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Estimate accuracy and area from an interpreted sample.

    Of a map and of its classes: design-based estimates with 95 % intervals, as JSON and as a page to read.

    Example: tesela sample estimate points.gpkg map.tif -o report
    """
    from tesela.verbs import accuracy

    result = accuracy.sample_estimate(sample, map_file, out, responses=responses, legend=legend)
    if as_json:
        print_json(result.document)
        return
    for line in () if quiet else result.estimates.to_lines():
        print(line)
    print(f"page      {result.page}")


def changes(
    maps: MapFiles,
    years: Years,
    points: Annotated[int, typer.Option(help="Number of points of each sample.")],
    out: OutFolder,
    minimum: Annotated[int, typer.Option(help="Points of the rarest changes.")] = 30,
    legend: MapLegend = None,
    crosswalk: Crosswalk = None,
    seed: Annotated[int, typer.Option(help="Seed; another one draws other points.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Draw a sample of change between each two consecutive maps.

    The strata are the changes between LULUCF categories. Interpreters record the category at both dates;
    `tesela account --sample` estimates the areas of change.

    Example: tesela sample changes map2018.tif map2024.tif --years 2018,2024 --points 1200 -o samples
    """
    from tesela.verbs import accuracy

    samples = accuracy.sample_changes(
        maps,
        out,
        years=parse_years(years),
        points=points,
        minimum=minimum,
        legend=legend,
        crosswalk=crosswalk,
        seed=seed,
    )
    if as_json:
        print_json({str(drawn.file): drawn.design.to_dict() for drawn in samples.values()})
        return
    for drawn in samples.values():
        design = drawn.design
        print(f"{design.points} points in {len(design.strata)} strata of change  {drawn.file}")
    if not quiet:
        print(
            "Interpreters fill `reference` with the categories before and after, such as cropland>settlements."
        )


def parse_expected(text: str) -> float | dict[str, float]:
    """Read ``0.85`` or ``1=0.7,2=0.9``."""
    from tesela.core.errors import InputError

    try:
        if "=" not in text:
            return float(text)
        pairs = (part.split("=", 1) for part in text.split(","))
        return {code.strip(): float(value) for code, value in pairs}
    except ValueError:
        raise InputError(
            f"'{text}' is no expected accuracy: write a number such as 0.85, or CODE=NUMBER,CODE=NUMBER."
        ) from None
