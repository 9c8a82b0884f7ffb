"""`tesela train` and `tesela predict`: from patches to an expert, from an expert to a map."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.data import BandNames, Nodata, Nonfinite, Offset, Scale
from tesela.cli.output import Json, Out, Quiet, print_json, progress_bar, split_names


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command()(predict)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file; see `tesela init`.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Train the expert of a recipe.

    The stages before are run as needed; what was interrupted goes on.

    Example: tesela train corine.toml
    """
    from tesela.cli.recipe import run_file

    run_file(recipe, start=None, until="train", quiet=quiet, as_json=as_json)


def predict(
    expert: Annotated[str, typer.Argument(help="Trained expert, a .safetensors file.")],
    scene: Annotated[str, typer.Argument(help="Scene; several files of the same ground joined by commas.")],
    out: Out,
    window: Annotated[int, typer.Option(help="Largest side of the network's windows, in pixels.")] = 1088,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring windows share.")] = 64,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    memory: Annotated[str, typer.Option(help="Budget of one strip of windows.")] = "256 MiB",
    confidence: Annotated[
        str | None, typer.Option(help="File for the highest probability, per cent.")
    ] = None,
    entropy: Annotated[str | None, typer.Option(help="File for the normalised entropy, per cent.")] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="File for all probabilities, one band a class.")
    ] = None,
    bands: BandNames = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    nonfinite: Nonfinite = "error",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map a scene with an expert.

    The map is a COG with colours and names. After a crash, the same command continues.

    Example: tesela predict experts/corine.safetensors scene.tif -o map.tif --confidence confidence.tif
    """
    from tesela.io.raster import open_scene
    from tesela.mapping import predict_map
    from tesela.models.expert import load_expert

    opened = open_scene(
        scene, bands=split_names(bands), scale=scale, offset=offset, nodata=nodata, nonfinite=nonfinite
    )
    with progress_bar("mapping", quiet=quiet or as_json) as progress:
        made = predict_map(
            load_expert(expert),
            opened,
            out,
            window_px=window,
            overlap_px=overlap,
            precision=precision,
            memory=memory,
            confidence=confidence,
            entropy=entropy,
            probabilities=probabilities,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "map": made.map.path,
                "legend": made.map.legend.address,
                "engine": made.engine,
                "windows": made.windows,
                "pixels": made.pixels,
                "seconds": round(made.seconds, 2),
                "resumed_parts": made.resumed,
            }
        )
        return
    if not quiet:
        again = f", {made.resumed} parts kept from a former run" if made.resumed else ""
        print(f"{made.pixels:,} px in {made.windows} windows by {made.engine}, {made.seconds:.1f} s{again}")
    print(f"map  {made.map.path}")
