"""`tesela train` and `tesela predict`: from patches to an expert, from an expert to a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.data import BandNames, Nodata, Nonfinite, Offset, Scale
from tesela.cli.output import (
    Cluster,
    Json,
    Memory,
    Out,
    Quiet,
    counted,
    print_json,
    progress_bar,
    split_names,
)

if TYPE_CHECKING:
    from tesela.mapping.cascade_map import CascadePrediction
    from tesela.mapping.predict import Prediction


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
    expert: Annotated[
        str,
        typer.Argument(
            help="Trained expert (.safetensors), or cascade (.toml, or a folder with cascade.toml)."
        ),
    ],
    scene: Annotated[str, typer.Argument(help="Scene; several files of the same ground joined by commas.")],
    out: Out,
    window: Annotated[int, typer.Option(help="Largest side of the network's windows, in pixels.")] = 1088,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring windows share.")] = 64,
    engine: Annotated[
        str, typer.Option(help="auto, torch, compile, openvino or cuda; auto tries on a piece of the scene.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    tta: Annotated[
        str, typer.Option(help="none, or d4: the mean of eight turned and mirrored views of each window.")
    ] = "none",
    blend: Annotated[
        str, typer.Option(help="none, or hann: overlapping windows are weighed instead of cropped.")
    ] = "none",
    memory: Memory = "512 MiB",
    confidence: Annotated[
        str | None, typer.Option(help="File for the highest probability, per cent.")
    ] = None,
    entropy: Annotated[str | None, typer.Option(help="File for the normalised entropy, per cent.")] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="File for all probabilities, one band a class.")
    ] = None,
    cluster: Cluster = None,
    soft: Annotated[bool, typer.Option(help="Cascade: multiply probabilities down the tree.")] = False,
    isolated: Annotated[
        int, typer.Option(help="Cascade: fewer gated pixels than this in 64 x 64 px call for no window.")
    ] = 8,
    levels: Annotated[
        bool, typer.Option(help="Cascade: write the coarser levels as maps of their own.")
    ] = False,
    bands: BandNames = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    nonfinite: Nonfinite = "error",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map a scene with an expert, or with a cascade of experts.

    The map is a COG with colours and names. After a crash, the same command continues.

    Example: tesela predict experts/corine.safetensors scene.tif -o map.tif --confidence confidence.tif
    """
    from pathlib import Path

    from tesela.core.errors import RecipeError
    from tesela.io.scenes import open_scene
    from tesela.mapping.cascade import read_cascade
    from tesela.mapping.cascade_map import predict_cascade
    from tesela.mapping.cascade_runner import CascadeRules
    from tesela.mapping.predict import predict_map
    from tesela.models.expert import load_expert

    opened = open_scene(
        scene, bands=split_names(bands), scale=scale, offset=offset, nodata=nodata, nonfinite=nonfinite
    )
    if Path(expert).is_dir() or Path(expert).suffix == ".toml":
        given = {
            "--tta": tta != "none",
            "--blend": blend != "none",
            "--entropy": entropy,
            "--probabilities": probabilities,
            "--cluster": cluster,
        }
        if any(given.values()):
            names = ", ".join(name for name, value in given.items() if value)
            raise RecipeError(f"A cascade takes no {names}; leave it out, or map with a single expert.")
        with progress_bar("mapping", quiet=quiet or as_json) as progress:
            cascaded = predict_cascade(
                read_cascade(expert),
                opened,
                out,
                window_px=window,
                overlap_px=overlap,
                engine=engine,
                precision=precision,
                memory=memory,
                rules=CascadeRules(soft=soft, isolated_px=isolated),
                confidence=confidence,
                levels=levels,
                progress=progress,
            )
        _show_cascaded(cascaded, quiet=quiet, as_json=as_json)
        return
    with progress_bar("mapping", quiet=quiet or as_json) as progress:
        made = predict_map(
            load_expert(expert),
            opened,
            out,
            window_px=window,
            overlap_px=overlap,
            engine=engine,
            precision=precision,
            tta=tta,
            blend=blend,
            memory=memory,
            confidence=confidence,
            entropy=entropy,
            probabilities=probabilities,
            cluster=cluster,
            progress=progress,
        )
    _show_made(made, quiet=quiet, as_json=as_json)


def _show_made(made: Prediction, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "map": made.map.path,
                "legend": made.map.legend.address,
                "engine": made.engine,
                "trial_mpx_per_s": {name: round(rate, 3) for name, rate in made.trial.rates.items()},
                "windows": made.windows,
                "pixels": made.pixels,
                "seconds": round(made.seconds, 2),
                "resumed_parts": made.resumed,
            }
        )
        return
    if not quiet:
        again = f", {made.resumed} parts kept from a former run" if made.resumed else ""
        print(
            f"{made.pixels:,} px in {counted(made.windows, 'window')} by {made.engine}, {made.seconds:.1f} s{again}"
        )
    print(f"map  {made.map.path}")


def _show_cascaded(made: CascadePrediction, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "map": made.map.path,
                "levels": [item.path for item in made.levels],
                "legend": made.map.legend.address,
                "engines": dict(made.engines),
                **made.tally.to_dict(),
                "pixels": made.pixels,
                "seconds": round(made.seconds, 2),
                "resumed_parts": made.resumed,
            }
        )
        return
    if not quiet:
        used = ", ".join(f"{names} by {name}" for names, name in made.engines.items())
        print(f"{made.pixels:,} px, {used}, {made.seconds:.1f} s")
    for path in (made.map.path, *(item.path for item in made.levels)):
        print(f"map  {path}")
