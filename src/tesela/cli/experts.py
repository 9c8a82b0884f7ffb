"""`tesela train`, `predict` and `unmix`: from a recipe to an expert, from an expert to a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.data import BandNames, Invalid, Nodata, Offset, Scale
from tesela.cli.output import (
    Cluster,
    Json,
    Memory,
    Out,
    Quiet,
    counted,
    print_json,
    print_table,
    progress_bar,
    split_names,
)

if TYPE_CHECKING:
    from tesela.assessment.abundance.endmembers import EndmemberFiles
    from tesela.chains.transfer import Transfer
    from tesela.mapping.abundance.unmix import Unmixing
    from tesela.mapping.cascade_map import CascadePrediction
    from tesela.mapping.downscale import Downscaled
    from tesela.mapping.predict import Prediction


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command()(predict)
    app.command()(unmix)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file; see `tesela init`.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Train the expert of a recipe.

    Earlier stages run if they are not up to date; an interrupted training continues.

    Example: tesela train corine.toml
    """
    from tesela.cli.recipe import run_file

    run_file(recipe, start=None, until="train", quiet=quiet, as_json=as_json)


def predict(
    expert: Annotated[
        str,
        typer.Argument(
            metavar="EXPERT",
            help="Trained expert (.safetensors), or cascade (.toml, or a folder with cascade.toml).",
        ),
    ],
    scene: Annotated[
        str, typer.Argument(metavar="SCENE", help="Scene; several files of the same area joined by commas.")
    ],
    out: Out,
    window: Annotated[int, typer.Option(help="Largest side of the network's windows, in pixels.")] = 1088,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring windows share.")] = 64,
    engine: Annotated[
        str,
        typer.Option(
            help="auto, torch, compile, openvino or cuda; auto takes the fastest on a part of the scene."
        ),
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    tta: Annotated[
        str, typer.Option(help="none, or d4: the mean over eight flips and rotations of each window.")
    ] = "none",
    blend: Annotated[
        str, typer.Option(help="none, or hann: overlapping windows are weighted instead of cropped.")
    ] = "none",
    prior: Annotated[
        float | None,
        typer.Option(help="Strength of the adjustment by class frequencies; default: that of the training."),
    ] = None,
    transfer: Annotated[
        str,
        typer.Option(
            help="Adapt the expert to a scene of another region, without labels: none, auto, shift, scene, "
            "batch_norm or self_training."
        ),
    ] = "none",
    adapted: Annotated[
        str | None, typer.Option(help="File (.safetensors) for the expert that --transfer has adapted.")
    ] = None,
    any_scene: Annotated[
        bool, typer.Option("--any-scene", help="Map also a scene of another scale or unit than the training.")
    ] = False,
    missing_dates: Annotated[
        str,
        typer.Option(help="error, or gap: map a scene that lacks dates of the expert, with gaps there."),
    ] = "error",
    memory: Memory = "512 MiB",
    confidence: Annotated[
        str | None, typer.Option(help="File for the highest probability, in per cent.")
    ] = None,
    entropy: Annotated[str | None, typer.Option(help="File for the normalised entropy, in per cent.")] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="File for all probabilities, one band per class.")
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Abundance map of coarser cells: the map keeps the share of each class in each cell, and the "
            "probabilities place the classes inside."
        ),
    ] = None,
    cluster: Cluster = None,
    soft: Annotated[
        bool, typer.Option(help="Cascade: multiply the probabilities of a class and its parents.")
    ] = False,
    isolated: Annotated[
        int, typer.Option(help="Cascade: run no window for fewer gated pixels than this in 64 x 64 px.")
    ] = 8,
    levels: Annotated[bool, typer.Option(help="Cascade: also write a map of each coarser level.")] = False,
    bands: BandNames = None,
    dates: Annotated[
        str | None,
        typer.Option(
            help="Date of each file, comma-separated, put behind the names of its bands: B04_april."
        ),
    ] = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    invalid: Invalid = "error",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map a scene with an expert, or with a cascade of experts.

    The map is a COG with colours and names. After a crash, the same command continues.

    Example: tesela predict experts/corine.safetensors scene.tif -o map.tif --confidence confidence.tif
    """
    from tesela.mapping.cascade_map import CascadePrediction
    from tesela.verbs import experts as verbs

    with progress_bar("mapping", quiet=quiet or as_json) as progress:
        made = verbs.predict(
            expert,
            scene,
            out,
            window=window,
            overlap=overlap,
            engine=engine,
            precision=precision,
            tta=tta,
            blend=blend,
            prior=prior,
            transfer=transfer,
            adapted=adapted,
            any_scene=any_scene,
            missing_dates=missing_dates,
            memory=memory,
            confidence=confidence,
            entropy=entropy,
            probabilities=probabilities,
            shares=shares,
            cluster=cluster,
            soft=soft,
            isolated=isolated,
            levels=levels,
            bands=split_names(bands),
            dates=split_names(dates),
            scale=scale,
            offset=offset,
            nodata=nodata,
            invalid=invalid,
            progress=progress,
        )
    how = made.details
    assert isinstance(how, verbs.Mapping)
    if isinstance(how.prediction, CascadePrediction):
        _show_cascade(how.prediction, quiet=quiet, as_json=as_json)
    else:
        _show_prediction(how.prediction, how.transfer, how.placed, quiet=quiet, as_json=as_json)


def _show_prediction(
    prediction: Prediction, steps: Transfer | None, placed: Downscaled | None, *, quiet: bool, as_json: bool
) -> None:
    if as_json:
        print_json(
            {
                "map": prediction.map.path,
                "legend": prediction.map.legend.address,
                "engine": prediction.engine,
                "benchmark_mpx_per_s": {
                    name: round(rate, 3) for name, rate in prediction.trial.rates.items()
                },
                "windows": prediction.windows,
                "pixels": prediction.pixels,
                "seconds": round(prediction.seconds, 2),
                "resumed_parts": prediction.resumed,
                "distance": None if prediction.distance is None else prediction.distance.to_dict(),
                **({} if steps is None else {"transfer": steps.to_dict()}),
                **({} if placed is None else {"cells": placed.cells, "changed_pixels": placed.changed}),
            }
        )
        return
    if not quiet and steps is not None:
        print(f"adapted  {steps.summary}")
    if not quiet:
        kept = f", {prediction.resumed} parts kept from an earlier run" if prediction.resumed else ""
        windows = counted(prediction.windows, "window")
        print(
            f"{prediction.pixels:,} px in {windows} by {prediction.engine}, {prediction.seconds:.1f} s{kept}"
        )
    if not quiet and placed is not None:
        print(
            f"{counted(placed.cells, 'cell')} with the given shares: {placed.changed:,} of {placed.pixels:,} px have "
            f"another class"
        )
    print(f"map  {prediction.map.path}")


def _show_cascade(prediction: CascadePrediction, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "map": prediction.map.path,
                "levels": [item.path for item in prediction.levels],
                "legend": prediction.map.legend.address,
                "engines": dict(prediction.engines),
                **prediction.tally.to_dict(),
                "pixels": prediction.pixels,
                "seconds": round(prediction.seconds, 2),
                "resumed_parts": prediction.resumed,
            }
        )
        return
    if not quiet:
        used = ", ".join(f"{names} by {name}" for names, name in prediction.engines.items())
        print(f"{prediction.pixels:,} px, {used}, {prediction.seconds:.1f} s")
    for path in (prediction.map.path, *(item.path for item in prediction.levels)):
        print(f"map  {path}")


def unmix(
    expert: Annotated[
        str, typer.Argument(metavar="EXPERT", help="Trained expert for unmixing (.safetensors).")
    ],
    cube: Annotated[
        str | None,
        typer.Argument(
            metavar="CUBE", help="Cube of monthly series (Zarr folder); optional with --endmembers."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Abundance map to write.")] = None,
    level: Annotated[
        int | None, typer.Option(help="Coarser level of the legend to write; default: the expert's.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="File for the class map of the largest shares.")] = None,
    uncertainty: Annotated[
        str | None, typer.Option(help="File for the standard deviation of each share.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="File for the mean shares of the training pixels, in pixels without observations only."
        ),
    ] = None,
    imputed: Annotated[
        str | None, typer.Option(help="Cube for the series with their gaps filled (BRITS).")
    ] = None,
    endmembers: Annotated[
        str | None,
        typer.Option(help="CSV for the expert's monthly endmember spectra; a PNG is written beside it."),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            help="CSV of other spectra (class, month, band, value): the nearest one to each endmember is printed."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch, openvino, or cuda (an NVIDIA GPU).")] = "auto",
    memory: Memory = "512 MiB",
    cluster: Cluster = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map the share of each class in each pixel of a cube.

    The map is a COG with one band per class. After a crash, the same command continues.

    Example: tesela unmix experts/sipna.safetensors cube.zarr -o abundances.tif --classes largest.tif
    """
    from tesela.assessment.abundance.endmembers import write_endmembers
    from tesela.core.errors import RecipeError
    from tesela.mapping.abundance.unmix import Unmixing
    from tesela.models.inference import endmembers_of
    from tesela.verbs import experts as verbs

    if (cube is None) != (out is None) or (cube is None and endmembers is None):
        raise RecipeError("Give a cube and -o FILE to map, or --endmembers FILE, or all three.")
    if library is not None and endmembers is None:
        raise RecipeError("--library compares endmembers: also give --endmembers FILE.")
    opened = verbs.open_expert(expert)
    spectra = None
    if endmembers is not None:
        learned = endmembers_of(opened)
        titles = [opened.header.legend[code].name for code in learned.names]
        spectra = write_endmembers(learned, endmembers, titles=titles, library=library)
    unmixing = None
    if cube is not None and out is not None:
        with progress_bar("unmixing", quiet=quiet or as_json) as progress:
            made = verbs.unmix(
                opened,
                cube,
                out,
                level=level,
                classes=classes,
                uncertainty=uncertainty,
                prior=prior,
                imputed=imputed,
                engine=engine,
                memory=memory,
                cluster=cluster,
                progress=progress,
            )
        assert isinstance(made.details, Unmixing)
        unmixing = made.details
    if as_json:
        print_json({**_spectra_document(spectra), **_map_document(unmixing)})
        return
    if spectra is not None:
        if spectra.matches:
            rows = [(one.name, one.nearest, f"{one.angle_deg:.1f}") for one in spectra.matches]
            print_table(rows, header=("class", "nearest in the library", "angle, degrees"), right=(2,))
        print(f"spectra  {spectra.table}\npicture  {spectra.picture}")
    if unmixing is not None:
        if not quiet:
            kept = f", {unmixing.resumed} blocks kept from an earlier run" if unmixing.resumed else ""
            print(f"{unmixing.pixels:,} px by {unmixing.engine}, {unmixing.seconds:.1f} s{kept}")
            if unmixing.unseen:
                print(f"{unmixing.unseen:,} px without observations are nodata")
        print(f"map  {unmixing.map.path}")


def _map_document(unmixing: Unmixing | None) -> dict[str, object]:
    if unmixing is None:
        return {}
    return {
        "map": unmixing.map.path,
        "legend": unmixing.map.legend.address,
        "engine": unmixing.engine,
        "pixels": unmixing.pixels,
        "never_observed": unmixing.unseen,
        "seconds": round(unmixing.seconds, 2),
        "resumed_blocks": unmixing.resumed,
    }


def _spectra_document(spectra: EndmemberFiles | None) -> dict[str, object]:
    if spectra is None:
        return {}
    nearest = {
        one.name: {"nearest": one.nearest, "angle_deg": round(one.angle_deg, 3)} for one in spectra.matches
    }
    return {"endmembers": str(spectra.table), "picture": str(spectra.picture), "library": nearest}
