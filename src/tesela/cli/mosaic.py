"""`tesela mosaic`: from an area and a year to images on one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.data import Nodata, Offset, Scale
from tesela.cli.output import (
    Cluster,
    Json,
    Out,
    OutFolder,
    Quiet,
    counted,
    print_json,
    progress_bar,
    split_names,
)

if TYPE_CHECKING:
    from tesela.sources.mosaic.job import Mosaic

AreaBox = Annotated[
    str | None, typer.Option("--area", help="West,south,east,north in degrees, or a file of polygons.")
]
Like = Annotated[
    str | None, typer.Option(help="Raster that gives the grid, instead of --crs and --resolution.")
]
OutCube = Annotated[str, typer.Option("--out", "-o", help="Cube to write (Zarr folder).")]
Memory = Annotated[str, typer.Option(help="Memory for the pixels held at a time.")]
CubeGrid = Annotated[str | None, typer.Option("--like", help="Raster that gives the grid.")]
Where = Annotated[
    str,
    typer.Option(
        "--catalogue",
        help="earth-search, planetary-computer, cdse; the address of a STAC API; a catalog.json or folder.",
    ),
]
AreaLayer = Annotated[
    str | None, typer.Option("--area-layer", help="Layer of the polygons of --area, if the file has several.")
]
Crs = Annotated[str | None, typer.Option(help="Such as EPSG:25830; default: the UTM zone of the area.")]
Climatology = Annotated[
    bool, typer.Option("--climatology", help="Average the same months of all years to twelve.")
]
Tries = Annotated[int, typer.Option(help="Number of tries for a request that fails.")]
Timeout = Annotated[float, typer.Option(help="Seconds without a response that count as a failure.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        name="mosaic",
        help="Imagery of an area and a time on one grid.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("sentinel-2")(sentinel_2)
    group.command("modis")(modis)
    group.command("stack")(stack)
    group.command("layer")(layer)
    app.add_typer(group)


def sentinel_2(
    out: OutFolder,
    year: Annotated[int, typer.Option(help="Year of the images.")],
    area: AreaBox = None,
    area_layer: AreaLayer = None,
    like: Like = None,
    months: Annotated[
        str, typer.Option(help="One mosaic per month, 4,7,9; or of several months, 6-8.")
    ] = "4,7,9",
    catalogue: Where = "earth-search",
    collection: Annotated[
        str | None, typer.Option(help="Collection, if the catalogue is not one of the named providers.")
    ] = None,
    bands: Annotated[
        str, typer.Option(help="rgb, nrg (B08,B04,B03), all (ten bands), or a list such as B04,B08.")
    ] = "all",
    rule: Annotated[str, typer.Option(help="median, best (pixel by cloud distance and date) or medoid.")] = (
        "median"
    ),
    crs: Crs = None,
    resolution: Annotated[
        float | None, typer.Option(help="Side of a pixel in the unit of the CRS; default 10.")
    ] = None,
    buffer: Annotated[
        str, typer.Option(help="Width of the area left out around clouds and shadows.")
    ] = "60 m",
    mask: Annotated[
        str, typer.Option(help="Classes of the scene classification to leave out.")
    ] = "0,1,2,3,8,9,10",
    max_cloud: Annotated[
        float, typer.Option(help="Leave out scenes with more cloud than this, in per cent.")
    ] = 100.0,
    incomplete: Annotated[
        str, typer.Option(help="Items that lack a band: skip them with a message, or refuse.")
    ] = "skip",
    without: Annotated[
        str | None, typer.Option(help="Names of scenes to leave out, separated by commas.")
    ] = None,
    memory: Memory = "512 MiB",
    workers: Annotated[int, typer.Option(help="Number of files read at the same time.")] = 8,
    cluster: Cluster = None,
    tries: Tries = 6,
    timeout: Timeout = 30.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Make cloud-free mosaics of Sentinel-2.

    After a crash, a lost connection or Ctrl-C, run the same command again to continue.

    Example: tesela mosaic sentinel-2 --area=-3.6,36.9,-3.5,37.0 --year 2018 --months 4,7,9 --bands nrg -o mosaics
    """
    from tesela.verbs import imagery

    with progress_bar("mosaic", quiet=quiet or as_json) as progress:
        made = imagery.mosaic_sentinel_2(
            out,
            year=year,
            area=area,
            area_layer=area_layer,
            like=like,
            months=months,
            catalogue=catalogue,
            collection=collection,
            bands=bands,
            rule=rule,
            crs=crs,
            resolution=resolution,
            buffer=buffer,
            mask=mask,
            max_cloud=max_cloud,
            incomplete=incomplete,
            without=split_names(without) or (),
            memory=memory,
            workers=workers,
            cluster=cluster,
            tries=tries,
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        print_json({"mosaics": [one.to_dict() for one in made]})
        return
    for one in made:
        _print(one, quiet=quiet)


def _print(one: Mosaic, *, quiet: bool) -> None:
    from collections import Counter

    print(f"{one.period}  {one.image}")
    share = one.gaps / max(one.pixels, 1)
    print(
        f"  {one.pixels:,} px, {one.gaps:,} without a clear view ({share:.2%}), {one.mean_count:.1f} views on average"
    )
    reasons = Counter(scene.reason for scene in one.left_out)
    for reason, times in reasons.items():
        print(f"  left out: {times} that {reason}")
    for note in one.notes:
        print(f"  warning: {note}")
    if quiet:
        return
    parts = [
        f"{counted(one.scenes, 'scene')} in {counted(one.observations, 'pass', 'passes')}",
        f"{one.seconds:.1f} s",
    ]
    if one.retries:
        parts.append(f"{one.retries} requests repeated")
    if one.resumed:
        parts.append(f"{one.resumed} of {one.tiles} tiles kept from an earlier run")
    print(f"  {', '.join(parts)}")


def modis(
    out: OutCube,
    folder: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER", help="Folders or files of MOD09A1 and MYD09A1, in place of a catalogue."
        ),
    ] = None,
    area: AreaBox = None,
    area_layer: AreaLayer = None,
    like: CubeGrid = None,
    first: Annotated[str | None, typer.Option(help="First month, such as 2012-01.")] = None,
    last: Annotated[str | None, typer.Option(help="Last month, such as 2013-12.")] = None,
    catalogue: Where = "planetary-computer",
    collection: Annotated[
        str | None, typer.Option(help="Collection, if the catalogue is not one of the named providers.")
    ] = None,
    climatology: Climatology = False,
    quality: Annotated[
        list[str] | None,
        typer.Option(
            help="Which observations count: aerosol=1, shadow=true, band_quality=0,7; may be repeated."
        ),
    ] = None,
    merge: Annotated[
        str,
        typer.Option(
            help="Mean of both satellites' means: satellites; or of all observations: observations."
        ),
    ] = "satellites",
    dem: Annotated[str | None, typer.Option(help="Elevation raster; adds altitude and slope.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="NAME=RASTER, averaged over each cell; may be repeated.")
    ] = None,
    memory: Memory = "256 MiB",
    cluster: Cluster = None,
    tries: Tries = 6,
    timeout: Timeout = 30.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Make a monthly cube of MODIS (MOD09A1 and MYD09A1).

    A folder of files needs neither area nor months. After a crash, run the same command again to continue.

    Example: tesela mosaic modis FOLDER --climatology -o cube.zarr
    """
    from tesela.verbs import imagery

    rasters = parse_layers(layer)
    with progress_bar("cube", quiet=quiet or as_json) as progress:
        cube = imagery.mosaic_modis(
            out,
            folder or (),
            area=area,
            area_layer=area_layer,
            like=like,
            first=first,
            last=last,
            catalogue=catalogue,
            collection=collection,
            climatology=climatology,
            quality=quality or (),
            merge=merge,
            dem=dem,
            layer=rasters,
            memory=memory,
            cluster=cluster,
            tries=tries,
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        print_json({"cube": out, "times": list(cube.times), "shape": list(cube.grid.shape)})
        return
    print(f"cube  {out}  {len(cube.times)} months, {cube.grid.shape[0]} x {cube.grid.shape[1]} cells")


def stack(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Rasters with dates in their names or in those of their bands; folders; NetCDF; Zarr.",
        ),
    ],
    out: OutCube,
    bands: Annotated[
        str | None, typer.Option(help="Bands to take, comma-separated; or new names for all of them.")
    ] = None,
    dates: Annotated[
        str | None,
        typer.Option(help="Dates in order, where no name has one: 2010-01..2010-12, or 2010-01,2010-03."),
    ] = None,
    period: Annotated[
        str, typer.Option(help="month: the mean of each month's images; image: every date by itself.")
    ] = "month",
    climatology: Climatology = False,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="Pixels to leave out: SCL=0,1,3,8,9,10 by value, QA_PIXEL:1,3,4 by bit; may be repeated."
        ),
    ] = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    like: CubeGrid = None,
    dem: Annotated[str | None, typer.Option(help="Elevation raster; adds altitude and slope.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="NAME=RASTER, averaged over each cell; may be repeated.")
    ] = None,
    memory: Memory = "256 MiB",
    cluster: Cluster = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Make a monthly cube of any images with dates.

    Sentinel-2, Landsat, VIIRS, an index. After a crash, run the same command again to continue.

    Example: tesela mosaic stack ndvi_2010.tif --nodata 0 --scale 0.01 -o cube.zarr
    """
    from tesela.verbs import imagery

    with progress_bar("cube", quiet=quiet or as_json) as progress:
        cube = imagery.mosaic_stack(
            sources,
            out,
            bands=split_names(bands),
            dates=split_names(dates) or (),
            period=period,
            climatology=climatology,
            mask=mask or (),
            scale=scale,
            offset=offset,
            nodata=nodata,
            like=like,
            dem=dem,
            layer=parse_layers(layer),
            memory=memory,
            cluster=cluster,
            progress=progress,
        )
    rows, cols = (int(side) for side in cube.grid.shape)
    if as_json:
        print_json({"cube": out, "times": list(cube.times), "bands": list(cube.bands), "shape": [rows, cols]})
        return
    print(
        f"cube  {out}  {cube.times[0]} to {cube.times[-1]}: {counted(len(cube.times), 'time')} of "
        f"{', '.join(cube.bands)}, {rows} x {cols} cells"
    )


def parse_layers(texts: list[str] | None) -> dict[str, str]:
    """
    Read rasters by name of the layer, as `--layer NAME=RASTER` gives them.

    Raises
    ------
    InputError
        If one has no name or file, or two have the same name.
    """
    from tesela.core.errors import InputError

    pairs = [item.partition("=")[::2] for item in texts or ()]
    for name, path in pairs:
        if not name or not path:
            raise InputError(f"'{name or path}' is not a layer: write --layer NAME=RASTER.")
        if [key for key, _ in pairs].count(name) > 1:
            raise InputError(f"Layer '{name}' has two rasters: give each layer its own name.")
    return dict(pairs)


def layer(
    out: Out,
    collection: Annotated[str, typer.Option(help="Collection, such as cop-dem-glo-30, esa-worldcover.")],
    asset: Annotated[str, typer.Option(help="Asset of its items, such as data, map.")],
    area: AreaBox = None,
    area_layer: AreaLayer = None,
    like: Like = None,
    catalogue: Where = "planetary-computer",
    year: Annotated[int | None, typer.Option(help="Year of the items; default: all.")] = None,
    classes: Annotated[
        bool,
        typer.Option("--classes", help="Values are classes: take the nearest pixel, interpolate nothing."),
    ] = False,
    nodata: Annotated[float | None, typer.Option(help="Nodata value, if the files do not define it.")] = None,
    crs: Crs = None,
    resolution: Annotated[
        float | None, typer.Option(help="Side of a pixel in the unit of the CRS; default 10.")
    ] = None,
    tries: Tries = 6,
    timeout: Timeout = 30.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Join a static layer, such as elevation, climate or land cover.

    Example: tesela mosaic layer --collection cop-dem-glo-30 --asset data --like mosaics/2018-04.tif -o dem.tif
    """
    from tesela.verbs import imagery

    with progress_bar("layer", quiet=quiet or as_json) as progress:
        imagery.mosaic_layer(
            out,
            collection=collection,
            asset=asset,
            area=area,
            area_layer=area_layer,
            like=like,
            catalogue=catalogue,
            year=year,
            classes=classes,
            nodata=nodata,
            crs=crs,
            resolution=resolution,
            tries=tries,
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        print_json({"layer": out})
        return
    print(f"layer  {out}")
