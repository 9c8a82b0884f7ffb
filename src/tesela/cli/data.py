"""`tesela label` and `tesela patches`: rasterise a reference to labels, cut labels into a patch table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tesela.cli.output import Json, Out, Quiet, print_json, print_table, split_names

if TYPE_CHECKING:
    from tesela.io.maps import ClassMap
    from tesela.patches.table import PatchTable

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
        str, typer.Argument(help="Polygons (GeoPackage, GeoParquet, Shapefile) or a class raster.")
    ],
    like: Annotated[str, typer.Option(help="Scene or cube with the pixel grid of the labels.")],
    legend: Annotated[str, typer.Option(help="Legend of the labels, such as corine-2.")],
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
    outlines: Annotated[
        str | None, typer.Option(help="SIOSE AR: sheet outlines; labels end at the PNOA sheet's.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """
    Rasterise a reference on the grid of a scene; a SIOSE AR GeoPackage is recognised by its layers.

    Example: tesela label clc2018.gpkg --like scene.tif --legend corine-2 --field CODE_18 -o labels.tif
    """
    from dataclasses import asdict
    from functools import partial

    from tesela.core.errors import RecipeError
    from tesela.core.units import parse_length_m
    from tesela.io.crosswalks import open_crosswalk
    from tesela.io.cube import open_cube, open_grid
    from tesela.io.maps import ClassMap, legend_of
    from tesela.labels.fractions import shift_of, write_fractions
    from tesela.labels.masks import write_labels
    from tesela.sources.siose.geopackage import is_siose

    target = legend_of(legend)
    if count is not None and not fractions:
        raise RecipeError("--count is an option of class shares: give --fractions too.")
    if (psf != "none" or shift is not None) and not fractions:
        raise RecipeError("--psf and --shift are options of class shares: give --fractions too.")
    if field is None and layer is None and crosswalk is None and not fractions and is_siose(reference):
        from tesela.core.units import parse_area_m2
        from tesela.labels.siose import label_sheet
        from tesela.sources.siose.rules import make_rules

        rules = make_rules(
            mode=mode,
            min_share=min_share,
            min_area_m2=parse_area_m2(min_area),
            trees=trees,
            canopy_percent=canopy,
        )
        sheet = label_sheet(reference, out, image=like, legend=target, rules=rules, outlines=outlines)
        if as_json:
            print_json(sheet.document)
            return
        if not quiet:
            print_table(sheet.rows, header=("code", "class", "ha"), right=(2,))
        for note in sheet.notes:
            print(note)
        print(f"labels  {sheet.map.path}")
        return
    translation = None if crosswalk is None else open_crosswalk(source or "reference", target, path=crosswalk)
    count_m = None if count is None else parse_length_m(count)
    moved = None
    if shift == "auto":
        moved = shift_of(
            open_cube(like),
            reference,
            legend=target,
            source=source,
            field=field,
            crosswalk=translation,
            layer=layer,
            psf=psf,
        )
    by = (moved.rows, moved.cols) if moved is not None else parse_shift(shift or "0,0")
    write = partial(write_fractions, count_m=count_m, psf=psf, shift=by) if fractions else write_labels
    made = write(
        reference,
        out,
        like=open_grid(like),
        legend=target,
        source=source,
        field=field,
        crosswalk=translation,
        layer=layer,
    )
    if as_json:
        found = {} if moved is None else {"shift": asdict(moved)}
        print_json({"map": made.path, "legend": made.legend.address, "shape": list(made.grid.shape), **found})
        return
    if moved is not None and not quiet:
        print(moved.line)
    if isinstance(made, ClassMap) and not quiet:
        print_table(class_areas(made), header=("code", "class", "ha"), right=(2,))
    print(f"{'fractions' if fractions else 'labels'}  {made.path}")


def parse_shift(text: str) -> tuple[float, float]:
    """
    Read a shift in cells: "0.2,-0.1" is 0.2 rows down and 0.1 columns to the left.

    Raises
    ------
    RecipeError
        If it is no pair of numbers, or more than two cells.
    """
    from tesela.core.errors import RecipeError

    try:
        rows, cols = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"'{text}' is no shift; write rows and columns in cells, 0.2,-0.1, or auto."
        ) from None
    if not max(abs(rows), abs(cols)) <= 2:
        raise RecipeError(f"A shift of '{text}' cells: the image and the reference may differ by 2 at most.")
    return rows, cols


def class_areas(labels: ClassMap) -> list[tuple[str, str, str]]:
    """Code, name and hectares of each class that occurs in a map."""
    from tesela.io.pixel_areas import pixel_area_m2
    from tesela.io.pyramid import class_counts

    counts, _ = class_counts(labels.path)
    ha = pixel_area_m2(labels.grid) / 10_000
    return [
        (item.code, item.name, f"{counts[item.value] * ha:,.2f}")
        for item in labels.legend.classes
        if counts[item.value]
    ]


def patches(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
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
    Cut scenes and labels into patches, and split them so that no area is in two splits.

    Example: tesela patches scene.tif --labels labels.tif --size 256 --split block --block "3 km" -o patches.parquet
    """
    from tesela.core.units import parse_length_m
    from tesela.io.maps import open_map
    from tesela.io.scenes import open_scene
    from tesela.patches.split import split_patches
    from tesela.patches.summary import summarise
    from tesela.patches.table import make_patches

    if labels is None:
        table = read_table_to_split(scenes)
    else:
        opened = [
            open_scene(
                item, bands=split_names(bands), scale=scale, offset=offset, nodata=nodata, invalid=invalid
            )
            for item in scenes
        ]
        maps = [open_map(item) for item in labels]
        table = make_patches(opened, maps, size_px=size, stride_px=stride, min_labelled=min_labelled)
    table = split_patches(
        table,
        split,
        fractions=parse_shares(shares),
        seed=seed,
        block_m=parse_length_m(block),
        buffer_m=parse_length_m(buffer),
        regions=regions,
        region_field=region_field,
        layer=layer,
        unbiased=unbiased,
    )
    path = table.write(out)
    summary = summarise(table)
    if as_json:
        print_json({"patches": str(path), **summary.to_dict()})
        return
    if not quiet:
        header = ("", *summary.area_ha)
        print_table(summary.rows(), header=header, right=range(1, len(header)))
    for warning in summary.warnings:
        print(f"warning: {warning}")
    print(f"patches  {path}")


def read_table_to_split(paths: list[str]) -> PatchTable:
    """
    Read the patch table that was given in place of scenes.

    Raises
    ------
    RecipeError
        If scenes were given without labels.
    """
    from tesela.core.errors import RecipeError
    from tesela.patches.table import open_patches

    if len(paths) != 1 or not paths[0].endswith(".parquet"):
        raise RecipeError(
            "Scenes need their labels (--labels); without labels, give one patch table to split again."
        )
    return open_patches(paths[0])


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
