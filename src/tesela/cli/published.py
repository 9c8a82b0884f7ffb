"""`tesela published`: data sets and checkpoints of the papers, from your own copy."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, print_json


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="published",
        help="Published data sets and checkpoints, read from your own copy.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("msmtu")(msmtu)
    group.command("timespec")(timespec)
    group.command("checkpoint")(checkpoint)
    app.add_typer(group)


def msmtu(
    folder: Annotated[str, typer.Argument(help="Unpacked folder of Andalusia-MSMTU.")],
    out: Out,
    level: Annotated[int, typer.Option(help="Level of the shares and partitions: 1 or 2.")] = 2,
    as_json: Json = False,
) -> None:
    """
    Write Andalusia-MSMTU as a cube, an abundance map and a pixel table with the published partitions.

    Example: tesela published msmtu Andalusia-MSMTU -o andalusia
    """
    from pathlib import Path

    from tesela.io.msmtu import read_msmtu, write_msmtu_cube, write_msmtu_shares
    from tesela.patches.pixels import table_of_msmtu

    pixels = read_msmtu(folder)
    target = Path(out)
    cube = write_msmtu_cube(pixels, target / "cube.zarr")
    shares = write_msmtu_shares(pixels, target / "shares.tif", level=level)
    table = table_of_msmtu(pixels, level=level)
    file = table.write(target / "pixels.safetensors")
    if as_json:
        print_json({"cube": cube.path, "shares": shares.path, "pixels": str(file), "counts": table.counts})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in table.counts.items() if count)
    print(f"cube    {cube.path}\nshares  {shares.path}\npixels  {file}  {counts}")


def timespec(
    folder: Annotated[str, typer.Argument(help="Unpacked folder of TimeSpec4LULC, JSON or CSV.")],
    out: Out,
    fractions: Annotated[
        str, typer.Option(help="Train, validation and test; all years of a pixel are in one of them.")
    ] = "0.64,0.16,0.2",
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    as_json: Json = False,
) -> None:
    """
    Write TimeSpec4LULC as a pixel table: one row a pixel and year, split by pixel.

    Example: tesela published timespec TimeSpec4LULC -o series.safetensors
    """
    from tesela.core.errors import RecipeError
    from tesela.io.timespec import read_timespec
    from tesela.patches.pixel_split import split_by_pixel
    from tesela.patches.pixels import table_of_timespec

    try:
        parts = tuple(float(part) for part in fractions.split(","))
    except ValueError:
        raise RecipeError(
            f"--fractions is '{fractions}'; three numbers were needed: 0.64,0.16,0.2."
        ) from None
    series = read_timespec(folder)
    table = split_by_pixel(table_of_timespec(series), fractions=parts, seed=seed)
    file = table.write(out)
    if as_json:
        print_json({"pixels": str(file), "classes": list(series.classes), "counts": table.counts})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in table.counts.items() if count)
    print(f"pixels  {file}  {len(series.classes)} classes, {counts}")


def checkpoint(
    file: Annotated[str, typer.Argument(help="model.ckpt of Rodriguez-Ortega et al. (2024).")],
    legend: Annotated[str, typer.Option(help="Its classes: sipna-1, sipna-2, or a CSV.")],
    out: Out,
    legacy: Annotated[
        str, typer.Option(help="Repeat mistakes of the published code: deltas, or order (both).")
    ] = "",
    as_json: Json = False,
) -> None:
    """
    Write a published checkpoint of BRITS as an expert; no code in it is run.

    Example: tesela published checkpoint N2/model.ckpt --legend sipna-2 -o n2.safetensors
    """
    from tesela.core.errors import RecipeError, unknown_name
    from tesela.io.legends import open_legend
    from tesela.models.expert import save_expert
    from tesela.models.published_checkpoints import open_published_checkpoint

    if legacy not in ("", "deltas", "order"):
        raise RecipeError(unknown_name("mistake", legacy, ("deltas", "order")))
    expert = open_published_checkpoint(file, legend=open_legend(legend), legacy=legacy)
    written = save_expert(out, expert)
    if as_json:
        print_json({"expert": str(written), "model": expert.header.architecture.summary})
        return
    print(f"expert  {written}  {expert.header.architecture.summary}")
