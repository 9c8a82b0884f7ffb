"""`tesela view`: a local page that shows a map."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.data import BandNames, Nodata
from tesela.cli.output import Quiet, split_names


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(view)


def view(
    map_file: Annotated[str, typer.Argument(metavar="MAP", help="Class map.")],
    image: Annotated[
        str | None, typer.Option(help="Scene to show beside it; files of one scene joined by commas.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Class raster to compare with, in any legend.")
    ] = None,
    confidence: Annotated[str | None, typer.Option(help="Confidence raster, see `tesela predict`.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(help="Map of another year, with the year in its file name; repeatable."),
    ] = None,
    bands: BandNames = None,
    nodata: Nodata = None,
    legend: Annotated[
        str | None, typer.Option(help="Legend of class rasters without their own, such as corine-2.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page; 0 for any free port.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address of the page; the default is for this machine only.")
    ] = "127.0.0.1",
    quiet: Quiet = False,
) -> None:
    """
    Show a map of any size in the browser, on a local page that needs no network.

    Example: tesela view map.tif --image scene.tif --reference clc.tif --confidence confidence.tif --history map2018.tif
    """
    from tesela.io.legends import load_legend
    from tesela.io.scenes import open_scene
    from tesela.web.server import serve
    from tesela.web.view import slow_files, view_app

    scene = None
    if image is not None:
        scene = open_scene(image, bands=split_names(bands), nodata=nodata, nonfinite="nodata")
    app = view_app(
        map_file,
        scene=scene,
        reference=reference,
        confidence=confidence,
        history=history or (),
        legend=None if legend is None else load_legend(legend),
        host=host,
    )
    files = [map_file, reference, confidence, *(history or ()), *(image.split(",") if image else ())]
    for path in [] if quiet else slow_files([path for path in files if path]):
        print(f"note: {path} has no overviews, so it is slow to display as a whole (gdaladdo adds them)")

    def announce(address: str) -> None:
        print(f"page  {address}", flush=True)
        if not quiet:
            print("Stop with Ctrl+C.", flush=True)

    serve(app, host=host, port=port, announce=announce)
