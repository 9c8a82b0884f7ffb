"""Accounts of map files: samples of change to be interpreted, change layers, and the account itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tesela.accounting.accounting import account_maps, category_crosswalk
from tesela.accounting.accounts import Accounts
from tesela.accounting.change_uncertainty import ErrorModel
from tesela.accounting.changes import ChangeLayer, map_change_layer, map_changes
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError
from tesela.io.legends import load_crosswalk, load_legend
from tesela.io.maps import ClassMap, open_map
from tesela.io.pixel_areas import equal_pixels_m2
from tesela.io.scenes import open_scene
from tesela.sampling.design import SamplingDesign, plan_sample
from tesela.sampling.draw import draw_sample, refuse_answered


@dataclass(frozen=True)
class Series:
    """Class maps of one area, with their years."""

    maps: tuple[ClassMap, ...]
    years: tuple[int, ...]
    crosswalk: Crosswalk | None
    """A user's own way to the categories; None for the shipped one."""

    @property
    def pairs(self) -> list[tuple[tuple[int, int], ClassMap, ClassMap]]:
        """Neighbouring years with their two maps."""
        if len(self.maps) < 2 or len(self.maps) != len(self.years):
            raise InputError(
                f"{len(self.maps)} maps came with {len(self.years)} years; give at least two maps, and one year "
                f"for each."
            )
        return [
            ((a, b), *pair) for (a, b), pair in zip(pairwise(self.years), pairwise(self.maps), strict=True)
        ]


def open_series(
    maps: Sequence[str | Path],
    years: Sequence[int],
    *,
    legend: str | None = None,
    crosswalk: str | Path | None = None,
) -> Series:
    """
    Open the maps of an account.

    Parameters
    ----------
    legend : str, optional
        Legend of the maps, if the files do not say it.
    crosswalk : path, optional
        CSV with the columns from, to, share, from the maps' classes to the six categories.
    """
    opened = tuple(open_map(item, legend=None if legend is None else load_legend(legend)) for item in maps)
    walk = None
    if crosswalk is not None:
        walk = load_crosswalk(opened[0].legend.address, load_legend("lulucf"), path=crosswalk)
    return Series(opened, tuple(years), walk)


def account_files(
    series: Series,
    out: str | Path,
    *,
    samples: Mapping[tuple[int, int], str | Path] | None = None,
    error_model: ErrorModel | None = None,
    tree_cover: Mapping[int, str | Path] | None = None,
    land_area_ha: float | None = None,
    transition_years: int = 20,
    title: str = "",
) -> Accounts:
    """Account for a series; see `tesela.accounting.accounting.account_maps`, which this gives its files."""
    strange = sorted(set(tree_cover or {}) - set(series.years))
    if strange:
        raise InputError(f"Tree cover came for {strange[0]}, but no map does; the maps show {series.years}.")
    return account_maps(
        series.maps,
        series.years,
        out,
        crosswalk=series.crosswalk,
        samples=samples,
        error_model=error_model,
        tree_cover={year: open_scene(path) for year, path in (tree_cover or {}).items()},
        land_area_ha=land_area_ha,
        transition_years=transition_years,
        title=title,
    )


def draw_change_samples(
    series: Series, out: str | Path, *, points: int, minimum: int = 30, seed: int = 0
) -> dict[Path, SamplingDesign]:
    """
    Draw a sample of change for each two neighbouring maps, its strata being the changes between them.

    Writes ``changes_2018-2024.tif``, the strata, and ``sample_2018-2024.gpkg`` for interpreters, who write the
    categories before and after, such as ``cropland>settlements``.

    Parameters
    ----------
    points : int
        Points of each sample.
    minimum : int
        Points of the smallest strata.

    Returns
    -------
    dict of Path to SamplingDesign
    """
    folder, made = Path(out), {}
    equal_pixels_m2(series.maps[0])
    files = [folder / f"sample_{first}-{last}.gpkg" for (first, last), _, _ in series.pairs]
    for file in files:
        refuse_answered(file)
    folder.mkdir(parents=True, exist_ok=True)
    for file, ((first, last), before, after) in zip(files, series.pairs, strict=True):
        with TemporaryDirectory(prefix=".changes.", dir=folder) as part:
            name, walk = f"changes_{first}-{last}.tif", _one_walk(series, before, after)
            strata = map_changes(before, after, Path(part) / name, crosswalk=walk)
            design = plan_sample(strata, points=points, minimum=minimum, seed=seed)
            made[draw_sample(strata, file, design=design, hide_strata=True)] = design
            for item in Path(part).iterdir():
                item.replace(folder / item.name)
    return made


def write_change_layers(
    series: Series,
    out: str | Path,
    *,
    min_area_m2: float = 50_000.0,
    confidence: Sequence[str | Path] | None = None,
    min_confidence: float = 50.0,
) -> dict[Path, ChangeLayer]:
    """
    Write ``change_layer_2018-2024.tif`` for each two neighbouring maps; see `map_change_layer`.

    Parameters
    ----------
    confidence : sequence of path, optional
        Confidence of each map in percent, in the order of the maps.
    """
    if confidence is not None and len(confidence) != len(series.maps):
        raise InputError(
            f"{len(confidence)} confidence rasters came for {len(series.maps)} maps; give one for each map, "
            f"oldest first."
        )
    scenes = None if confidence is None else [open_scene(path) for path in confidence]
    folder, made = Path(out), {}
    for k, ((first, last), before, after) in enumerate(series.pairs):
        path = folder / f"change_layer_{first}-{last}.tif"
        made[path] = map_change_layer(
            before,
            after,
            path,
            min_area_m2=min_area_m2,
            confidence=None if scenes is None else (scenes[k], scenes[k + 1]),
            min_confidence=min_confidence,
            crosswalk=_one_walk(series, before, after),
        )
    return made


def read_error_model(
    assessment: str | Path, series: Series, *, independent: float, persistence: float = 1.0
) -> ErrorModel:
    """
    Model of a map's errors from the ``assessment.json`` of `tesela assess`.

    Parameters
    ----------
    independent : float
        Independent observations that its matrix is worth; test patches are a fair guess.
    persistence : float
        Chance that both maps err together where they show one class.
    """
    try:
        document = json.loads(Path(assessment).read_text(encoding="utf-8"))
        matrix = document["matrix"]
        counts, codes = np.array(matrix["pixels"], np.int64), list(matrix["codes"])
    except OSError as error:
        raise InputError(f"{assessment}: cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{assessment}: is no assessment with a matrix; give the assessment.json that `tesela assess` writes."
        ) from None
    legend = series.maps[-1].legend
    if list(legend.codes) != codes:
        raise InputError(
            f"{assessment} judges the classes {', '.join(codes[:6])} ...; the maps have "
            f"{', '.join(legend.codes[:6])} ... Assess one of these maps."
        )
    return ErrorModel.from_confusion(
        counts,
        legend,
        independent=independent,
        persistence=persistence,
        crosswalk=category_crosswalk(legend, series.crosswalk),
    )


def _one_walk(series: Series, before: ClassMap, after: ClassMap) -> Crosswalk | None:
    """The crosswalk that serves both maps of a pair."""
    if before.legend.address != after.legend.address:
        raise InputError(
            f"{before.path} is in legend '{before.legend.address}' and {after.path} in '{after.legend.address}'; "
            f"samples and layers of change need one: translate one (tesela legend convert)."
        )
    return category_crosswalk(before.legend, series.crosswalk)
