"""`tesela published`: data sets and checkpoints of the papers, from your own copy."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, OutFolder, print_json

FORMER = {"published": {"--fractions": "tesela published timespec FOLDER --shares A,B,C -o FILE"}}
"""Options with another name today."""


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="published",
        help="Published data sets and checkpoints, from your own copy.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("msmtu")(msmtu)
    group.command("timespec")(timespec)
    group.command("checkpoint")(checkpoint)
    app.add_typer(group)


def msmtu(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Unpacked folder of Andalusia-MSMTU.")],
    out: OutFolder,
    level: Annotated[int, typer.Option(help="Level of the shares and partitions: 1 or 2.")] = 2,
    as_json: Json = False,
) -> None:
    """
    Write Andalusia-MSMTU as cube, shares and pixel table.

    The shares are an abundance map; the pixel table has the published partitions.

    Example: tesela published msmtu Andalusia-MSMTU -o andalusia
    """
    from tesela.verbs.products import published_msmtu

    made = published_msmtu(folder, out, level=level)
    cube, shares, counted = made.cube.path, made.shares.path, made.table.counts
    if as_json:
        print_json({"cube": cube, "shares": shares, "pixels": str(made.file), "counts": counted})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in counted.items() if count)
    print(f"cube    {cube}\nshares  {shares}\npixels  {made.file}  {counts}")


def timespec(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Unpacked folder of TimeSpec4LULC, JSON or CSV.")
    ],
    out: Out,
    shares: Annotated[
        str,
        typer.Option(help="Shares of train, validation and test; all years of a pixel are in one of them."),
    ] = "0.64,0.16,0.2",
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    as_json: Json = False,
) -> None:
    """
    Write TimeSpec4LULC as a pixel table.

    One row a pixel and year, split by pixel.

    Example: tesela published timespec TimeSpec4LULC -o series.safetensors
    """
    from tesela.core.errors import RecipeError
    from tesela.verbs.products import published_timespec

    try:
        parts = tuple(float(part) for part in shares.split(","))
    except ValueError:
        raise RecipeError(f"--shares is '{shares}'; three numbers were needed: 0.64,0.16,0.2.") from None
    table, series = published_timespec(folder, out, shares=parts, seed=seed)
    if as_json:
        print_json({"pixels": out, "classes": list(series.classes), "counts": table.counts})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in table.counts.items() if count)
    print(f"pixels  {out}  {len(series.classes)} classes, {counts}")


def checkpoint(
    file: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="model.ckpt of Rodriguez-Ortega et al. (2024).")
    ],
    legend: Annotated[str, typer.Option(help="Its classes: sipna-1, sipna-2, or a CSV.")],
    out: Out,
    legacy: Annotated[
        str, typer.Option(help="Repeat mistakes of the published code: deltas, or order (both).")
    ] = "",
    as_json: Json = False,
) -> None:
    """
    Write a published checkpoint of BRITS as an expert.

    No code in it is run.

    Example: tesela published checkpoint N2/model.ckpt --legend sipna-2 -o n2.safetensors
    """
    from tesela.verbs.products import published_checkpoint

    expert = published_checkpoint(file, out, legend=legend, legacy=legacy)
    if as_json:
        print_json({"expert": out, "model": expert.header.architecture.summary})
        return
    print(f"expert  {out}  {expert.header.architecture.summary}")
