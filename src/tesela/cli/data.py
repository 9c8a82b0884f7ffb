"""`tesela label` and `tesela patches`: rasterise a reference to labels, cut labels into a patch table."""

from __future__ import annotations

from typing import Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, counted, print_json, print_table, split_names

BandNames = Annotated[
    str | None, typer.Option("--bands", help="Names of all bands of the file, in order, comma-separated.")
]
Scale = Annotated[float | None, typer.Option(help="Quantity = pixel value x scale + offset.")]
Offset = Annotated[float | None, typer.Option(help="See --scale.")]
Nodata = Annotated[
    float | None, typer.Option(help="Pixel value without data, if the file does not declare it.")
]
Invalid = Annotated[
    str,
    typer.Option(
        help="Undeclared NaN, -9999, 1e36 and other numbers that no sensor gives: 'error' or 'nodata'."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(label)
    app.command()(patches)


def label(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="Polygons (GeoPackage, GeoParquet, Shapefile) or a class raster."
        ),
    ],
    like: Annotated[str, typer.Option(help="Scene or cube with the pixel grid of the labels.")],
    legend: Annotated[str, typer.Option(help="Legend of the labels, such as corine-2, or a map in it.")],
    out: Out,
    field: Annotated[str | None, typer.Option(help="Field of the polygons with the class code.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Legend of the codes in the reference; default: that of --legend.")
    ] = None,
    crosswalk: Annotated[str | None, typer.Option(help="CSV with the columns from, to, share.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer, if the file has several.")] = None,
    fractions: Annotated[
        bool, typer.Option("--fractions", help="Write exact class shares of each pixel.")
    ] = False,
    count: Annotated[
        str | None,
        typer.Option(help="With --fractions: count pixels of this side, '10 m', not exact areas."),
    ] = None,
    psf: Annotated[
        str, typer.Option(help="With --fractions: none, or modis: weigh the ground as that sensor does.")
    ] = "none",
    shift: Annotated[
        str | None,
        typer.Option(
            help="With --fractions: rows,columns by which the image lies beside the reference, in cells; or auto, with "
            "a cube in --like."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="SIOSE AR: majority, the largest cover; composite, the largest class.")
    ] = "majority",
    min_share: Annotated[
        float, typer.Option(help="SIOSE AR, composite: minimum share of the class, 0 to 1.")
    ] = 0.0,
    min_area: Annotated[str, typer.Option(help="SIOSE AR: smaller polygons get no class: '1 ha'.")] = "0 ha",
    trees: Annotated[
        str, typer.Option(help="SIOSE AR: source of the tree cover: covers, fccarb or lidar.")
    ] = "covers",
    canopy: Annotated[
        float,
        typer.Option(help="SIOSE AR: minimum canopy of trees and of wooded pasture as forest, per cent."),
    ] = 20.0,
    land_use: Annotated[
        bool,
        typer.Option(
            "--land-use/--no-land-use",
            help="SIOSE AR in lulucf: land use (HILUCS) decides where cover does not tell.",
        ),
    ] = True,
    interpreted: Annotated[
        bool, typer.Option("--interpreted", help="SIOSE AR: photo-interpreted polygons only (MEJORADO).")
    ] = False,
    years: Annotated[
        str | None, typer.Option(help="SIOSE AR: polygons with FECHA_REF in these years only: 2016-2018.")
    ] = None,
    outlines: Annotated[
        str | None, typer.Option(help="SIOSE AR: sheet outlines; labels end at the PNOA sheet's.")
    ] = None,
    crowns: Annotated[
        str | None,
        typer.Option(
            help="The reference shows crowns (heights above the ground, LAS, LAZ, polygons or points): least height of "
            "a tree, '2 m'. With --legend tree-cover."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Rasterise a reference on the grid of a scene.

    A SIOSE AR GeoPackage is recognised by its layers; with -o FILE.gpkg it is written as polygons with the field CODE,
    for `tesela update`.

    Example: tesela label clc2018.gpkg --like scene.tif --legend corine-2 --field CODE_18 -o labels.tif
    """
    from dataclasses import asdict

    from tesela.io.maps import ClassMap
    from tesela.io.vector import VectorLayer
    from tesela.labels.registration import Shift
    from tesela.labels.siose import DrawnSheet
    from tesela.verbs import labels

    made = labels.label(
        reference,
        out,
        like=like,
        legend=legend,
        field=field,
        source=source,
        crosswalk=crosswalk,
        layer=layer,
        fractions=fractions,
        count=count,
        psf=psf,
        shift=shift,
        mode=mode,
        min_share=min_share,
        min_area=min_area,
        trees=trees,
        canopy=canopy,
        land_use=land_use,
        interpreted=interpreted,
        years=years,
        outlines=outlines,
        crowns=crowns,
    )
    if isinstance(made, VectorLayer):
        if as_json:
            print_json({"polygons": made.path, "layer": made.layer, "count": made.count})
            return
        if not quiet:
            print(counted(made.count, "polygon"))
        print(f"polygons  {made.path}")
        return
    if isinstance(made.details, DrawnSheet):
        if as_json:
            print_json(made.details.document)
            return
        if not quiet:
            print_table(made.details.rows, header=("code", "class", "ha"), right=(2,))
        for note in made.details.notes:
            print(note)
        print(f"labels  {made.path}")
        return
    moved = made.details if isinstance(made.details, Shift) else None
    if as_json:
        found = {} if moved is None else {"shift": asdict(moved)}
        print_json({"map": made.path, "legend": made.legend.address, "shape": list(made.grid.shape), **found})
        return
    if moved is not None and not quiet:
        print(moved.line)
    if isinstance(made, ClassMap) and not quiet:
        rows = zip(*(made.areas[name] for name in ("code", "name", "area_ha")), strict=True)
        table = [(code, name, f"{area_ha:,.2f}") for code, name, area_ha in rows]
        print_table(table, header=("code", "class", "ha"), right=(2,))
    print(f"{'fractions' if fractions else 'labels'}  {made.path}")


def patches(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE",
            help="Scenes; files of one scene joined by commas. Or a patch table to split again.",
        ),
    ],
    out: Out,
    labels: Annotated[
        list[str] | None, typer.Option(help="Label map; once for all scenes, or once for each.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a patch in pixels.")] = 256,
    stride: Annotated[int | None, typer.Option(help="Step between patches; default: the size.")] = None,
    min_labelled: Annotated[float, typer.Option(help="Minimum share of labelled pixels, 0 to 1.")] = 0.5,
    split: Annotated[str, typer.Option(help="Kind of split: random, region, block or quality.")] = "block",
    block: Annotated[str, typer.Option(help="Side of the blocks of the block split.")] = "2 km",
    buffer: Annotated[
        str, typer.Option(help="Minimum distance between patches of different splits.")
    ] = "0 m",
    regions: Annotated[
        str | None, typer.Option(help="Polygon layer of the region split; default: the scenes.")
    ] = None,
    region_field: Annotated[str | None, typer.Option(help="Field with the names of the regions.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of --regions, if the file has several.")] = None,
    shares: Annotated[str, typer.Option(help="Shares of train, validation and test.")] = "0.6,0.2,0.2",
    unbiased: Annotated[
        float, typer.Option(help="With --split quality: share to hold out in random blocks of all qualities.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    bands: BandNames = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    invalid: Invalid = "error",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Cut scenes and labels into patches, and split them.

    No area is in two splits.

    Example: tesela patches scene.tif --labels labels.tif --size 256 --split block --block "3 km" -o patches.parquet
    """
    from tesela.patches.summary import summarise
    from tesela.verbs import labels as verbs

    table = verbs.patches(
        scenes,
        labels,
        out,
        size=size,
        stride=stride,
        min_labelled=min_labelled,
        split=split,
        block=block,
        buffer=buffer,
        regions=regions,
        region_field=region_field,
        layer=layer,
        shares=parse_shares(shares),
        unbiased=unbiased,
        seed=seed,
        bands=split_names(bands),
        scale=scale,
        offset=offset,
        nodata=nodata,
        invalid=invalid,
    )
    summary = summarise(table)
    if as_json:
        print_json({"patches": out, **summary.to_dict()})
        return
    if not quiet:
        header = ("", *summary.area_ha)
        print_table(summary.rows(), header=header, right=range(1, len(header)))
    for warning in summary.warnings:
        print(f"warning: {warning}")
    print(f"patches  {out}")


def parse_shares(text: str) -> tuple[float, ...]:
    """
    Read three comma-separated shares.

    Raises
    ------
    RecipeError
        If they are not numbers.
    """
    from tesela.core.errors import RecipeError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"'{text}' is not a list of shares; give three numbers such as 0.6,0.2,0.2."
        ) from None
