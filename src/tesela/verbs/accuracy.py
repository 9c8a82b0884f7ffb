"""Verbs on the quality of maps: assess against a reference, sample points, account for land use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import wrong_kind
from tesela.core.legend import Legend
from tesela.core.units import parse_area_m2, parse_length_m
from tesela.io.abundance import AbundanceMap, AbundanceSource
from tesela.io.maps import MapSource, open_map
from tesela.io.references import Reference, reference_file
from tesela.io.scenes import SceneSource
from tesela.verbs.answers import Place
from tesela.verbs.legends import CrosswalkSource

if TYPE_CHECKING:
    from tesela.accounting.accounts import Accounts
    from tesela.accounting.changes import ChangeLayer
    from tesela.assessment.abundance.report import AbundanceAssessmentFiles
    from tesela.assessment.files import AssessmentFiles
    from tesela.sampling.design import Rule
    from tesela.sampling.files import Drawn, SampleEstimates

Progress = Callable[[int, int], None]


def assess(
    map: MapSource | AbundanceSource,
    reference: Reference,
    out: str | Path | None = None,
    *,
    field: str | None = None,
    layer: str | None = None,
    source: str | None = None,
    crosswalk: CrosswalkSource = None,
    legend: Legend | str | Path | None = None,
    level: int | None = None,
    tiles: int = 2048,
    within: Reference | None = None,
    regions: Reference | None = None,
    region_field: str | None = None,
    borders: Sequence[str | float] | None = None,
    confidence: Reference | None = None,
    mmu: str | float | None = None,
    min_width: str | float | None = None,
    image: SceneSource | None = None,
    title: str | None = None,
    pdf: bool = False,
    progress: Progress | None = None,
) -> AssessmentFiles | AbundanceAssessmentFiles:
    """
    Assess a class map or an abundance map against a reference.

    Parameters
    ----------
    map : path, ClassMap or DataArray of classes; path or AbundanceMap
    reference : path, postgresql:// address, GeoDataFrame, DataArray of classes, ClassMap or AbundanceMap
        For an abundance map its shares, see `tesela.label` with fractions.
    out : path, optional
        Folder of the report; default: only the figures come back.
    borders : sequence of str or float, optional
        Distances from class borders, such as "20 m"; default: 1, 2, 5 and 10 px.
    mmu, min_width : str or float, optional
        Assess the map also generalised to these, such as "25 ha" and "100 m".
    field, layer, source, crosswalk, legend, level, tiles, within, regions, region_field, confidence, image, title, pdf
        See `tesela.assessment.files.assess_files`; for abundances `within` is a pixel table, and `confidence` the
        standard deviation of each share.

    Returns
    -------
    AssessmentFiles or AbundanceAssessmentFiles
        `to_frame` gives the scores by class; `assessment` the counts from which all figures follow.

    Raises
    ------
    GridError, InputError, LegendError
        As `assess_files`.

    Examples
    --------
    >>> tesela.assess(map, polygons, field="CODE_18").to_frame()        # doctest: +SKIP
    """
    from tesela.assessment.abundance.report import assess_abundance_files, is_abundance
    from tesela.assessment.files import assess_files

    with ExitStack() as stack:

        def as_file(given: Reference | None) -> str | None:
            return None if given is None else stack.enter_context(reference_file(given))

        if isinstance(map, AbundanceMap) or (isinstance(map, str | Path) and is_abundance(map)):
            return assess_abundance_files(
                map,
                stack.enter_context(reference_file(reference)),
                out,
                within=as_file(within),
                uncertainty=as_file(confidence),
                title=title or "Abundance map assessment",
            )
        opened = open_map(map, legend=legend)  # type: ignore[arg-type]  # reports another kind itself
        named = opened.legend if source is None else None
        return assess_files(
            opened,
            stack.enter_context(reference_file(reference, legend=named)),
            out,
            field=field,
            layer=layer,
            source=source,
            crosswalk=crosswalk,
            level=level,
            tiles_px=tiles,
            within=as_file(within),
            regions=as_file(regions),
            region_field=region_field,
            borders_m=None if borders is None else [parse_length_m(length) for length in borders],
            confidence=as_file(confidence),
            mmu_m2=0.0 if mmu is None else parse_area_m2(mmu),
            min_width_m=0.0 if min_width is None else parse_length_m(min_width),
            image=image,
            title=title or "Map assessment",
            pdf=pdf,
            progress=progress,
        )


def sample_draw(
    map: MapSource,
    out: str | Path | None = None,
    *,
    design: str = "stratified",
    target_error: float | None = None,
    points: int | None = None,
    allocation: Rule = "proportional",
    minimum: int = 50,
    expected: float | Mapping[str, float] = 0.85,
    strata: MapSource | None = None,
    hide_strata: bool = False,
    legend: Legend | str | Path | None = None,
    seed: int = 0,
) -> Drawn:
    """
    Draw a random sample of a map's pixels for interpreters; see `tesela.sampling.files.draw_sample_file`.

    Parameters
    ----------
    map : path, ClassMap or DataArray of classes
    out : path, optional
        GeoPackage of the points; default: a temporary file that goes with the answer.
    design : {"stratified", "simple"}
    target_error : float, optional
        Target standard error of overall accuracy; default: 0.01, where no `points` are given.
    points : int, optional
        Number of points instead.
    allocation, minimum, expected, strata, hide_strata, seed
        See `draw_sample_file`.

    Returns
    -------
    Drawn
        `to_geodataframe` gives the points, `design` the strata.

    Raises
    ------
    GridError, InputError
        As `draw_sample_file`, and if both points and an error are given.
    """
    from tesela.core.errors import InputError
    from tesela.sampling.files import draw_sample_file

    if points is not None and target_error is not None:
        raise InputError("Both --points and --target-error set the size of the sample; give one of the two.")
    place = Place.of(out, "points.gpkg")
    drawn = draw_sample_file(
        open_map(map, legend=legend),
        place.path,
        points=points,
        target_se=(0.01 if target_error is None else target_error) if points is None else None,
        rule="simple" if design == "simple" else allocation,
        minimum=minimum,
        expected=expected,
        strata=None if strata is None else open_map(strata),
        hide_strata=hide_strata,
        seed=seed,
    )
    return replace(drawn, held=place.held)


def sample_estimate(
    sample: str | Path | Drawn,
    map: MapSource,
    out: str | Path | None = None,
    *,
    responses: str | Path | None = None,
    legend: Legend | str | Path | None = None,
) -> SampleEstimates:
    """
    Estimate the accuracy of a map and the area of its classes from an interpreted sample.

    Parameters
    ----------
    sample : path or Drawn
        Points whose field `reference` interpreters have filled in; `Drawn.interpret` takes a GeoDataFrame of them.
    map : path, ClassMap or DataArray of classes
    out : path, optional
        Folder of the page; default: only the estimates come back.
    responses : path, optional
        Table with sample_id and reference, if the responses are in another file.

    Returns
    -------
    SampleEstimates
        `to_frame` gives accuracy and area by class, with 95 % intervals.

    Raises
    ------
    GridError, InputError, LegendError
        As `tesela.sampling.files.estimate_sample_file`.
    """
    from tesela.sampling.files import estimate_sample_file

    return estimate_sample_file(open_map(map, legend=legend), _sample_file(sample), out, responses=responses)


def _sample_file(sample: str | Path | Drawn) -> str | Path:
    file = getattr(sample, "file", sample)
    if isinstance(file, str | Path):
        return file
    raise wrong_kind(
        "A sample", "the path of its GeoPackage, or what sample_draw returned (.interpret(points))", sample
    )


def sample_changes(
    maps: Sequence[MapSource],
    out: str | Path | None = None,
    *,
    years: Sequence[int],
    points: int,
    minimum: int = 30,
    legend: Legend | str | Path | None = None,
    crosswalk: CrosswalkSource = None,
    seed: int = 0,
) -> dict[tuple[int, int], Drawn]:
    """
    Draw a sample of change between each two consecutive maps; see `tesela.accounting.files.draw_change_samples`.

    Parameters
    ----------
    maps : sequence of paths, ClassMaps or DataArrays
        Oldest first.
    out : path, optional
        Folder of the samples and their strata; default: temporary files that go with the answer.
    years : sequence of int
        One for each map.

    Returns
    -------
    dict of Drawn
        By the two years, as `account` takes them: {(2018, 2024): ...}. `to_geodataframe` gives the points.
    """
    from tesela.accounting.files import draw_change_samples, open_series

    series = open_series(maps, years, legend=legend, crosswalk=crosswalk)
    place = Place.of(out, "changes")
    samples = draw_change_samples(series, place.path, points=points, minimum=minimum, seed=seed)
    return {pair: replace(drawn, held=place.held) for pair, drawn in samples.items()}


def account(
    maps: Sequence[MapSource],
    out: str | Path | None = None,
    *,
    years: Sequence[int],
    legend: Legend | str | Path | None = None,
    crosswalk: CrosswalkSource = None,
    sample: Mapping[tuple[int, int], str | Path | Drawn] | None = None,
    confusion: str | Path | None = None,
    independent: float = 300,
    persistence: float = 1.0,
    tree_cover: Mapping[int, SceneSource] | None = None,
    land_area: str | float | None = None,
    transition_years: int = 20,
    title: str = "",
) -> Accounts:
    """
    Account for land use in a series of maps; see `tesela.accounting.accounting.account_maps`.

    Parameters
    ----------
    maps : sequence of paths, ClassMaps or DataArrays
        Oldest first.
    out : path, optional
        Folder of page, tables and workbook; default: only the figures come back.
    years : sequence of int
        One for each map.
    sample : mapping, optional
        Interpreted samples of change by years, {(2018, 2024): "sample.gpkg"}: paths or `Drawn`.
    confusion, independent, persistence
        Error model from an ``assessment.json``; see `tesela.accounting.files.read_error_model`.
    tree_cover : mapping, optional
        Crown cover in per cent, by year.
    land_area : str or float, optional
        Official land area, such as "87268 km2"; a number is square metres.
    legend, crosswalk, transition_years, title
        See `account_maps`.

    Returns
    -------
    Accounts
        `to_frame` gives one of its tables, such as "areas" or "changes".

    Raises
    ------
    GridError, InputError, LegendError
        As `account_maps`.
    """
    from tesela.accounting.files import account_files, open_series, read_error_model

    series = open_series(maps, years, legend=legend, crosswalk=crosswalk)
    model = None
    if confusion is not None:
        model = read_error_model(confusion, series, independent=independent, persistence=persistence)
    return account_files(
        series,
        out,
        samples=None if sample is None else {pair: _sample_file(item) for pair, item in sample.items()},
        error_model=model,
        tree_cover=tree_cover,
        land_area_ha=None if land_area is None else parse_area_m2(land_area) / 10_000,
        transition_years=transition_years,
        title=title,
    )


def change_layer(
    maps: Sequence[MapSource],
    out: str | Path | None = None,
    *,
    years: Sequence[int],
    mmu: str | float = "5 ha",
    legend: Legend | str | Path | None = None,
    crosswalk: CrosswalkSource = None,
    probabilities: Sequence[SceneSource] | None = None,
    min_odds: float = 10.0,
) -> dict[tuple[int, int], ChangeLayer]:
    """
    Map the changes between each two consecutive maps; see `tesela.accounting.files.write_change_layers`.

    Parameters
    ----------
    maps : sequence of paths, ClassMaps or DataArrays
        Oldest first.
    out : path, optional
        Folder of the layers; default: temporary files that go with the answer.
    years : sequence of int
        One for each map.
    mmu : str or float
        Least area of a change, such as "5 ha"; a number is square metres.

    Returns
    -------
    dict of ChangeLayer
        By the two years, {(2018, 2024): ...}: `map` holds the changes, `later` the map of the later year.
    """
    from tesela.accounting.files import open_series, write_change_layers

    place = Place.of(out, "changes")
    layers = write_change_layers(
        open_series(maps, years, legend=legend, crosswalk=crosswalk),
        place.path,
        min_area_m2=parse_area_m2(mmu),
        probabilities=probabilities,
        min_odds=min_odds,
    )
    return {
        pair: replace(
            layer,
            map=replace(layer.map, held=place.held),
            later=None if layer.later is None else replace(layer.later, held=place.held),
        )
        for pair, layer in layers.items()
    }
