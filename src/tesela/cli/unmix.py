"""`tesela unmix`: from an unmixing expert and a cube to an abundance map."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json, progress_bar


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(unmix)


def unmix(
    expert: Annotated[str, typer.Argument(help="Trained expert for unmixing (.safetensors).")],
    cube: Annotated[str, typer.Argument(help="Cube of monthly series (Zarr folder).")],
    out: Out,
    level: Annotated[
        int | None, typer.Option(help="Coarser level of the legend to write; default: the expert's.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="File for the class map of the largest shares.")] = None,
    uncertainty: Annotated[
        str | None, typer.Option(help="File for the standard deviation of each share.")
    ] = None,
    imputed: Annotated[
        str | None, typer.Option(help="Cube for the series with their gaps filled (BRITS).")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    memory: Annotated[str, typer.Option(help="Budget of a block of the cube.")] = "512 MiB",
    cluster: Annotated[
        str | None, typer.Option(help="local, or the address of a Dask scheduler: tcp://host:8786.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Map the share of each class in each pixel of a cube.

    The map is a COG with one band per class. After a crash, the same command continues.

    Example: tesela unmix experts/sipna.safetensors cube.zarr -o abundances.tif --classes largest.tif
    """
    from tesela.io.cube import open_cube
    from tesela.mapping.abundance import unmix_cube
    from tesela.models.expert import load_expert

    with progress_bar("unmixing", quiet=quiet or as_json) as progress:
        made = unmix_cube(
            load_expert(expert),
            open_cube(cube),
            out,
            level=level,
            classes=classes,
            uncertainty=uncertainty,
            imputed=imputed,
            engine=engine,
            memory=memory,
            cluster=cluster,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "map": made.map.path,
                "legend": made.map.legend.address,
                "engine": made.engine,
                "pixels": made.pixels,
                "never_observed": made.unseen,
                "seconds": round(made.seconds, 2),
                "resumed_blocks": made.resumed,
            }
        )
        return
    if not quiet:
        again = f", {made.resumed} blocks kept from a former run" if made.resumed else ""
        print(f"{made.pixels:,} px by {made.engine}, {made.seconds:.1f} s{again}")
        if made.unseen:
            print(f"{made.unseen:,} px were never observed: their shares are the mean of the training pixels")
    print(f"map  {made.map.path}")
