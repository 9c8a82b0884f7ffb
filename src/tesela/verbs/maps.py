"""Verbs on class maps: generalise, vectorise, update, translate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import RecipeError
from tesela.core.legend import Legend
from tesela.core.units import parse_area_m2, parse_length_m
from tesela.io.maps import ClassMap, MapSource, open_map
from tesela.io.references import Reference, reference_file
from tesela.io.vector import VectorLayer, open_layer
from tesela.verbs.answers import File, Place, written
from tesela.verbs.legends import CrosswalkSource, as_crosswalk, optional_crosswalk

if TYPE_CHECKING:
    import geopandas as gpd

    from tesela.generalise.mosaic import MosaicRule
    from tesela.generalise.priority import PriorityTable
    from tesela.generalise.update import Update
    from tesela.generalise.update_apply import AppliedUpdate

Progress = Callable[[int, int], None]


def generalise(
    map: MapSource,
    out: str | Path | None = None,
    *,
    mmu: str | float = "25 ha",
    min_width: str | float = "100 m",
    priority: PriorityTable | str | Path | None = None,
    edges: str = "keep",
    exempt: Sequence[str] = (),
    mosaic: bool | Sequence[MosaicRule] = False,
    rounds: int = 10,
    narrow: File = None,
    legend: Legend | str | Path | None = None,
    progress: Progress | None = None,
) -> ClassMap:
    """
    Generalise a map to a minimum mapping unit and width; see `tesela.generalise.generalise.generalise_map`.

    Parameters
    ----------
    map : path, ClassMap or DataArray of classes
    out : path, optional
        Default: a temporary file that goes with the answer.
    mmu : str or float
        Minimum mapping unit, such as "25 ha"; a number is square metres.
    min_width : str or float
        Minimum width, such as "100 m"; a bare number is metres, 0 keeps narrow parts.
    narrow : path or True, optional
        Map of the pixels that are still narrow: `ClassMap.layers["narrow"]` of the answer.
    legend : Legend, name or path, optional
        Where the map does not name its own.
    priority, edges, exempt, mosaic, rounds
        See `generalise_map`.

    Returns
    -------
    ClassMap
        Its `details` are the `ChangeLog`.

    Raises
    ------
    GridError, LegendError, RecipeError
        As `generalise_map`.

    Examples
    --------
    >>> clc = tesela.generalise("map.tif", mmu="25 ha", min_width="100 m")      # doctest: +SKIP
    >>> clc.to_xarray()                                                         # doctest: +SKIP
    """
    from tesela.generalise.generalise import generalise_map

    mmu_m2, min_width_m = parse_area_m2(mmu), parse_length_m(min_width)
    source = open_map(map, legend=legend)
    place = Place.of(out, f"{Path(source.path).stem}.tif")
    narrow_out = place.beside(narrow, "narrow")
    made, log = generalise_map(
        source,
        place.path,
        mmu_m2=mmu_m2,
        min_width_m=min_width_m,
        priority=priority,
        edges=edges,
        exempt=exempt,
        mosaic=mosaic,
        rounds=rounds,
        narrow_out=narrow_out,
        progress=progress,
    )
    return replace(made, layers=written({"narrow": narrow_out}), details=log, held=place.held)


def vectorise(
    map: MapSource,
    out: str | Path | None = None,
    *,
    simplify: str | float | None = None,
    confidence: Reference | None = None,
    legend: Legend | str | Path | None = None,
) -> VectorLayer | gpd.GeoDataFrame:
    """
    Turn the areas of a map into polygons without gaps or overlaps; see `tesela.generalise.vectorise.vectorise_map`.

    Parameters
    ----------
    map : path, ClassMap or DataArray of classes
    out : path, optional
        GeoPackage or GeoParquet; default: the polygons come back in memory.
    simplify : str or float, optional
        Smooth shared borders by this length, such as "20 m".
    confidence : path or DataArray, optional
        Confidence of the map, 0 to 100.
    legend : Legend, name or path, optional
        Where the map does not name its own.

    Returns
    -------
    GeoDataFrame, or VectorLayer where a path was given

    Raises
    ------
    GridError, InputError
        As `vectorise_map`.
    """
    from tesela.generalise.vectorise import polygons_of, vectorise_map

    simplify_m = None if simplify is None else parse_length_m(simplify)
    source = open_map(map, legend=legend)
    with ExitStack() as stack:
        scores = None if confidence is None else stack.enter_context(reference_file(confidence))
        if out is None:
            return polygons_of(source, simplify_m=simplify_m, confidence=scores)
        return vectorise_map(source, out, simplify_m=simplify_m, confidence=scores)


def update(
    polygons: Reference,
    map: MapSource,
    out: str | Path | None = None,
    *,
    field: str | None = None,
    layer: str | None = None,
    source: str | None = None,
    crosswalk: CrosswalkSource = None,
    confidence: Reference | None = None,
    mmu: str | float = "1 ha",
    part: str | float | None = None,
    everything: bool | None = None,
    legend: Legend | str | Path | None = None,
) -> Update:
    """
    Find the polygons of an old map that are out of date; see `tesela.generalise.update.update_polygons`.

    Parameters
    ----------
    polygons : path, postgresql:// address, GeoDataFrame or VectorLayer
        The old map.
    map : path, ClassMap or DataArray of classes
        The new map, best before generalisation.
    out : path, optional
        GeoPackage, GeoParquet or a table of PostGIS; default: a temporary file that goes with the answer.
    field : str, optional
        Field of the old codes; a SIOSE AR file needs neither field nor layer: the cover of the largest part of each
        polygon, ID_COBERTURA_MAX, is taken.
    layer : str, optional
        Layer of the polygons, if there are several.
    source : str, optional
        Legend of the old codes; default: the legend of the map.
    crosswalk : Crosswalk or path, optional
        From the old codes to the legend of the map.
    confidence : path or DataArray, optional
        Confidence of the map, 0 to 100.
    mmu : str or float
        Least area of a changed part, such as "1 ha"; a number is square metres.
    part : str or float, optional
        Queue every polygon with this area of one other class, for generalised maps.
    everything : bool, optional
        Write all polygons, also those that hold and those off the map; default: of a layer of up to 10,000.
    legend : Legend, name or path, optional
        Where the map does not name its own.

    Returns
    -------
    Update
        `Update.to_geodataframe` gives the polygons, `Update.verdicts` what was found.

    Raises
    ------
    GridError, InputError, LegendError
        As `update_polygons`.
    RecipeError
        If no field is named and the polygons are not those of a SIOSE AR file.
    """
    from tesela.generalise.update import update_polygons
    from tesela.generalise.verdicts import UpdateRule
    from tesela.sources.siose.geopackage import is_siose, open_siose

    if field is None:
        if layer is not None or not isinstance(polygons, str | Path) or not is_siose(polygons):
            raise RecipeError("Name the field of the old codes: --field CODE_12.")
        siose = open_siose(polygons)
        polygons, field, source = siose.polygons, siose.cover_field, source or "siose-ar"
    new_map = open_map(map, legend=legend)
    table = optional_crosswalk(crosswalk, source or "polygons", new_map.legend)
    place = Place.of(out, "update.gpkg")
    with ExitStack() as stack:
        scores = None if confidence is None else stack.enter_context(reference_file(confidence))
        made = update_polygons(
            open_layer(polygons, layer=layer, field=field),
            new_map,
            place.path if out is None else out,
            field=field,
            crosswalk=table,
            codes_from=source,
            confidence=scores,
            rule=UpdateRule(part_ha=None if part is None else parse_area_m2(part) / 10_000),
            mmu_m2=parse_area_m2(mmu),
            everything=everything,
        )
    return replace(made, layer=replace(made.layer, held=place.held))


def update_apply(
    queue: str | Path | Update,
    out: str | Path,
    *,
    polygons: str | Path | None = None,
    layer: str | None = None,
    undecided: str = "keep",
    changes: str | Path | None = None,
) -> AppliedUpdate:
    """
    Write the new layer and the change layer from the decisions on a queue; see `tesela.generalise.update_apply`.

    Parameters
    ----------
    queue : path or Update
        GeoPackage of `update`, reviewed.
    out : path
        The new layer.
    polygons, layer : optional
        The old map; default: the one that the queue names.
    undecided : {"keep", "accept"}
        What becomes of proposals without a decision.
    changes : path, optional
        File for the change layer; default: a layer of a GeoPackage `out`.
    """
    from tesela.generalise.update_apply import apply_update

    path = queue if isinstance(queue, str | Path) else queue.layer.path
    return apply_update(path, out, polygons=polygons, layer=layer, undecided=undecided, changes_out=changes)


def legend_convert(
    map: MapSource,
    out: str | Path | None = None,
    *,
    to: Legend | str | Path | ClassMap,
    legend: Legend | str | Path | None = None,
    crosswalk: CrosswalkSource = None,
) -> ClassMap:
    """
    Translate a class map to another legend; see `tesela.io.maps.convert_map`.

    Parameters
    ----------
    map : path, ClassMap or DataArray of classes
    out : path, optional
        Default: a temporary file that goes with the answer.
    to : Legend, name or path
        Legend to translate to, such as "lulucf"; a map stands for its legend.
    legend : Legend, name or path, optional
        Where the map does not name its own.
    crosswalk : Crosswalk or path, optional
        CSV with the columns from, to, share; default: the shipped one.

    Returns
    -------
    ClassMap
        Its `details` are the `Crosswalk`, with merged, split and left-out classes.

    Raises
    ------
    LegendError
        If there is no such legend or crosswalk, or it lacks a class of the map.
    """
    from tesela.io.maps import convert_map, legend_of

    source = open_map(map, legend=legend)
    table = as_crosswalk(crosswalk, source.legend, legend_of(to))
    place = Place.of(out, f"{Path(source.path).stem}.tif")
    made = convert_map(source, place.path, crosswalk=table)
    return replace(made, details=table, held=place.held)
