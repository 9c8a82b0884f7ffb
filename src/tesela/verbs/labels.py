"""Verbs that prepare training: label a reference on the pixels of a scene, cut labels into patches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError, RecipeError, join_words
from tesela.core.legend import Legend
from tesela.core.units import parse_area_m2, parse_length_m
from tesela.io.abundance import AbundanceMap
from tesela.io.cube import open_grid
from tesela.io.cube_arrays import open_cube
from tesela.io.maps import ClassMap, MapSource, legend_of, open_map
from tesela.io.references import Reference, reference_file
from tesela.io.scenes import SceneSource, open_scene
from tesela.io.vector import VectorLayer, open_layer
from tesela.verbs.answers import Place
from tesela.verbs.legends import CrosswalkSource, optional_crosswalk

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from tesela.labels.registration import Shift
    from tesela.labels.siose import DrawnSheet
    from tesela.patches.table import PatchTable
    from tesela.sources.siose.rules import SioseRules


def label(
    reference: Reference,
    out: str | Path | None = None,
    *,
    like: SceneSource | MapSource | GeoBox,
    legend: Legend | str | Path,
    field: str | None = None,
    source: str | None = None,
    crosswalk: CrosswalkSource = None,
    layer: str | None = None,
    fractions: bool = False,
    count: str | float | None = None,
    psf: str = "none",
    shift: str | tuple[float, float] | None = None,
    mode: str = "majority",
    min_share: float = 0.0,
    min_area: str | float = "0 ha",
    trees: str = "covers",
    canopy: float = 20.0,
    land_use: bool = True,
    interpreted: bool = False,
    years: str | None = None,
    outlines: str | Path | None = None,
    crowns: str | float | None = None,
) -> ClassMap | AbundanceMap | VectorLayer:
    """
    Draw a reference on the pixels of a scene, as classes or as exact shares of classes.

    Parameters
    ----------
    reference : path, postgresql:// address, GeoDataFrame, DataArray of classes or ClassMap
        In any CRS. A SIOSE AR GeoPackage is recognised by its layers.
    out : path, optional
        Default: a temporary file that goes with the answer.
    like : path, DataArray, Dataset, Scene, ClassMap, Cube or GeoBox
        What has the pixel grid of the labels.
    legend : Legend, name or path
        Classes of the labels, such as "corine-2".
    field, source, layer
        See `tesela.labels.masks.write_labels`.
    crosswalk : Crosswalk or path, optional
        From the codes of the reference to `legend`.
    fractions : bool
        Write the exact share of each class in each pixel; see `tesela.labels.fractions.write_fractions`.
    count : str or float, optional
        With `fractions`: count pixels of this side, "10 m", instead.
    psf, shift
        With `fractions`: the point-spread function ("none" or "modis"), and rows and columns by which the image lies
        beside the reference, (0.2, -0.1), or "auto" where `like` is a cube.
    mode, min_share, min_area, trees, canopy, land_use, interpreted, years, outlines
        Of SIOSE AR, which is written as polygons where `out` ends in .gpkg; see
        `tesela.sources.siose.rules.make_rules` and `tesela.labels.siose.label_sheet`.
    crowns : str or float, optional
        The reference shows crowns, and the legend is "tree-cover": a raster of heights above the ground, LAS or LAZ,
        polygons or points. The least height of a tree, "2 m"; see `tesela.labels.canopy.write_canopy_labels`.

    Returns
    -------
    ClassMap, AbundanceMap with `fractions`, or VectorLayer of the polygons of SIOSE AR
        Its `details` are the `DrawnSheet` of SIOSE AR, or the `Shift` that "auto" found.

    Raises
    ------
    GridError, InputError, LegendError, RecipeError
        As the functions named above.

    Examples
    --------
    >>> labels = tesela.label(polygons, like=array, legend="corine-1", field="CODE_18")     # doctest: +SKIP
    """
    from tesela.labels.fractions import shift_of, write_fractions
    from tesela.labels.masks import write_labels
    from tesela.sources.siose.geopackage import is_siose

    target = legend_of(legend)
    if count is not None and not fractions:
        raise RecipeError("--count is an option of class shares: give --fractions too.")
    if (psf != "none" or shift is not None) and not fractions:
        raise RecipeError("--psf and --shift are options of class shares: give --fractions too.")
    place = Place.of(out, "fractions.tif" if fractions else "labels.tif")
    plain = field is None and layer is None and crosswalk is None and not fractions
    if crowns is not None:
        if not plain or source is not None:
            raise RecipeError(
                "--crowns draws tree cover by itself: leave field, layer, source, crosswalk and fractions out."
            )
        return _label_crowns(
            reference, place, like=open_grid(like), legend=target, height_m=parse_length_m(crowns)
        )
    if plain and isinstance(reference, str | Path) and is_siose(reference):
        from tesela.sources.siose.rules import make_rules

        rules = make_rules(
            mode=mode,
            min_share=min_share,
            min_area_m2=parse_area_m2(min_area),
            trees=trees,
            canopy_percent=canopy,
            land_use=land_use,
            interpreted=interpreted,
            years=years,
        )
        if place.path.suffix.lower() == ".gpkg":
            from tesela.labels.siose import write_siose_polygons

            grid = open_grid(like)
            write_siose_polygons(reference, place.path, like=grid, legend=target, rules=rules)
            return open_layer(place.path)
        sheet = _label_siose(reference, place.path, like=like, legend=target, rules=rules, outlines=outlines)
        return replace(sheet.map, details=sheet, held=place.held)
    of_siose = {
        "--mode": mode != "majority",
        "--min-share": min_share != 0,
        "--min-area": parse_area_m2(min_area) != 0,
        "--trees": trees != "covers",
        "--canopy": canopy != 20,
        "--no-land-use": not land_use,
        "--interpreted": interpreted,
        "--years": bool(years),
        "--outlines": outlines is not None,
    }
    if any(of_siose.values()):
        raise RecipeError(
            f"{join_words(name for name, given in of_siose.items() if given)}: for a file of SIOSE AR alone, without "
            f"field, layer, crosswalk and fractions. Leave it out."
        )
    table = optional_crosswalk(crosswalk, source or "reference", target)
    moved: Shift | None = None
    with reference_file(reference) as file:
        by = parse_shift(shift) if isinstance(shift, str) and shift != "auto" else shift or (0.0, 0.0)
        if shift == "auto":
            moved = shift_of(
                open_cube(like),  # type: ignore[arg-type]  # reports what is no cube
                file,
                legend=target,
                source=source,
                field=field,
                crosswalk=table,
                layer=layer,
                psf=psf,
            )
            by = (moved.rows, moved.cols)
        assert not isinstance(by, str)
        if not fractions:
            made = write_labels(
                file,
                place.path,
                like=open_grid(like),
                legend=target,
                source=source,
                field=field,
                crosswalk=table,
                layer=layer,
            )
            return replace(made, held=place.held)
        shares = write_fractions(
            file,
            place.path,
            like=open_grid(like),
            legend=target,
            source=source,
            field=field,
            crosswalk=table,
            layer=layer,
            count_m=None if count is None else parse_length_m(count),
            psf=psf,
            shift=by,
        )
        return replace(shares, details=moved, held=place.held)


def _label_crowns(
    reference: Reference, place: Place, *, like: GeoBox, legend: Legend, height_m: float
) -> ClassMap:
    from tesela.labels.canopy import OPEN, TREE, CanopyRules, write_canopy_labels

    if set(legend.codes) != {TREE, OPEN}:
        raise RecipeError(
            f"Crowns are labels of the legend tree-cover, not of '{legend.address}' (--legend tree-cover)."
        )
    with reference_file(reference) as file:
        made = write_canopy_labels(
            [file], place.path, like=like, legend=legend, rules=CanopyRules(height_m=height_m)
        )
    return replace(made, held=place.held)


def _label_siose(
    reference: str | Path,
    out: Path,
    *,
    like: object,
    legend: Legend,
    rules: SioseRules,
    outlines: str | Path | None,
) -> DrawnSheet:
    from tesela.labels.siose import DrawnSheet, label_sheet, label_siose

    if isinstance(like, str | Path):
        return label_sheet(reference, out, image=like, legend=legend, rules=rules, outlines=outlines)
    if outlines is not None:
        raise InputError("The outline of a sheet is found by the name of its image; give like= as its path.")
    return DrawnSheet(*label_siose(reference, out, like=open_grid(like), legend=legend, rules=rules))


def parse_shift(text: str) -> tuple[float, float]:
    """
    Read a shift in cells: "0.2,-0.1" is 0.2 rows down and 0.1 columns to the left.

    Raises
    ------
    RecipeError
        If it is no pair of numbers, or more than two cells.
    """
    try:
        rows, cols = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"'{text}' is no shift; write rows and columns in cells, 0.2,-0.1, or auto."
        ) from None
    if not max(abs(rows), abs(cols)) <= 2:
        raise RecipeError(f"A shift of '{text}' cells: the image and the reference may differ by 2 at most.")
    return rows, cols


def patches(
    scenes: SceneSource | Sequence[SceneSource] | PatchTable,
    labels: MapSource | Sequence[MapSource] | None = None,
    out: str | Path | None = None,
    *,
    size: int = 256,
    stride: int | None = None,
    min_labelled: float = 0.5,
    split: str = "block",
    block: str | float = "2 km",
    buffer: str | float = "0 m",
    regions: Reference | None = None,
    region_field: str | None = None,
    layer: str | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    unbiased: float = 0.0,
    seed: int = 0,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    invalid: str = "error",
) -> PatchTable:
    """
    Cut scenes and labels into patches, and split them so that no area is in two splits.

    Parameters
    ----------
    scenes : scene, sequence of scenes, or patch table
        Paths, DataArrays, Datasets or Scenes; files of one scene joined by commas. A patch table, or its path, is
        split again.
    labels : path, ClassMap or DataArray, or a sequence of them
        One for all scenes, or one for each.
    out : path, optional
        The table, GeoParquet; default: it comes back in memory.
    size, stride : int
        Side of a patch, and distance between neighbours, in pixels; see `tesela.patches.table.make_patches`.
    split, block, buffer, regions, region_field, layer, shares, unbiased, seed
        See `tesela.patches.split.split_patches`; lengths with their unit, such as "2 km".
    bands, scale, offset, nodata, invalid
        See `tesela.io.scenes.open_scene`.

    Raises
    ------
    GridError, InputError, RecipeError
        As these functions, and if scenes were given without labels.
    """
    from tesela.patches.split import split_patches
    from tesela.patches.table import PatchTable, check_table_name, make_patches, open_patches

    if out is not None:
        check_table_name(out)
    if isinstance(scenes, PatchTable):
        table = scenes
    elif labels is None:
        listed = _listed(scenes)
        if len(listed) != 1 or not str(listed[0]).endswith(".parquet"):
            raise RecipeError(
                "Scenes need their labels (--labels); without labels, give one patch table to split again."
            )
        table = open_patches(str(listed[0]))
    else:
        opened = [
            open_scene(
                item,  # type: ignore[arg-type]  # reports another kind itself
                bands=bands,
                scale=scale,
                offset=offset,
                nodata=nodata,
                invalid=invalid,
            )
            for item in _listed(scenes)
        ]
        maps = [open_map(item) for item in _listed(labels)]  # type: ignore[arg-type]
        table = make_patches(opened, maps, size_px=size, stride_px=stride, min_labelled=min_labelled)
    if out is not None and any(item.held for item in table.scenes.values()):
        raise InputError(
            f"{out}: the table would name temporary files of arrays, which vanish. Leave the path out, or give the "
            f"scenes as files."
        )
    with ExitStack() as stack:
        areas = None if regions is None else stack.enter_context(reference_file(regions))
        table = split_patches(
            table,
            split,
            fractions=tuple(shares),
            seed=seed,
            block_m=parse_length_m(block),
            buffer_m=parse_length_m(buffer),
            regions=areas,
            region_field=region_field,
            layer=layer,
            unbiased=unbiased,
        )
    if out is not None:
        table.write(out)
    return table


def _listed(items: object) -> list[object]:
    """One or several inputs as a list."""
    return list(items) if isinstance(items, list | tuple) else [items]
