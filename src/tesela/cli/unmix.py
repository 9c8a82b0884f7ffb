"""`tesela unmix`: from an unmixing expert and a cube to an abundance map, or to the spectra that it learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.output import Cluster, Json, Memory, Quiet, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from tesela.assessment.abundance.endmembers import EndmemberFiles
    from tesela.mapping.abundance.unmix import Unmixing


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(unmix)


def unmix(
    expert: Annotated[str, typer.Argument(help="Trained expert for unmixing (.safetensors).")],
    cube: Annotated[
        str | None,
        typer.Argument(help="Cube of monthly series (Zarr folder); may be left out with --endmembers."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Abundance map to write.")] = None,
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
    endmembers: Annotated[
        str | None,
        typer.Option(help="CSV for the expert's monthly endmember spectra; a PNG stands beside it."),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            help="CSV of other spectra (class, month, band, value): which is nearest to each endmember?"
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
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
    from tesela.io.cube import open_cube
    from tesela.mapping.abundance.unmix import unmix_cube
    from tesela.models.inference import endmembers_of
    from tesela.models.expert import load_expert

    if (cube is None) != (out is None) or (cube is None and endmembers is None):
        raise RecipeError("Give a cube and -o FILE to map, or --endmembers FILE, or all three.")
    if library is not None and endmembers is None:
        raise RecipeError("--library compares endmembers: give --endmembers FILE, too.")
    opened = load_expert(expert)
    spectra = None
    if endmembers is not None:
        learned = endmembers_of(opened)
        titles = [opened.header.legend[code].name for code in learned.names]
        spectra = write_endmembers(learned, endmembers, titles=titles, library=library)
    made = None
    if cube is not None and out is not None:
        with progress_bar("unmixing", quiet=quiet or as_json) as progress:
            made = unmix_cube(
                opened,
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
        print_json({**_spectra_document(spectra), **_map_document(made)})
        return
    if spectra is not None:
        if spectra.matches:
            rows = [(one.name, one.nearest, f"{one.angle_deg:.1f}") for one in spectra.matches]
            print_table(rows, header=("class", "nearest in the library", "angle, degrees"), right=(2,))
        print(f"spectra  {spectra.table}\npicture  {spectra.picture}")
    if made is not None:
        if not quiet:
            again = f", {made.resumed} blocks kept from a former run" if made.resumed else ""
            print(f"{made.pixels:,} px by {made.engine}, {made.seconds:.1f} s{again}")
            if made.unseen:
                print(
                    f"{made.unseen:,} px were never observed: their shares are the mean of the training pixels"
                )
        print(f"map  {made.map.path}")


def _map_document(made: Unmixing | None) -> dict[str, object]:
    if made is None:
        return {}
    return {
        "map": made.map.path,
        "legend": made.map.legend.address,
        "engine": made.engine,
        "pixels": made.pixels,
        "never_observed": made.unseen,
        "seconds": round(made.seconds, 2),
        "resumed_blocks": made.resumed,
    }


def _spectra_document(spectra: EndmemberFiles | None) -> dict[str, object]:
    if spectra is None:
        return {}
    nearest = {
        one.name: {"nearest": one.nearest, "angle_deg": round(one.angle_deg, 3)} for one in spectra.matches
    }
    return {"endmembers": str(spectra.table), "picture": str(spectra.picture), "library": nearest}
