"""Land accounts of map files, samples of change for interpreters, and change layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tesela.accounting.accounting import account_maps, category_crosswalk
from tesela.accounting.accounts import Accounts
from tesela.accounting.change_odds import MIN_ODDS
from tesela.accounting.change_uncertainty import ErrorModel
from tesela.accounting.changes import ChangeLayer, map_change_layer, map_changes
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, join_words
from tesela.core.legend import Legend
from tesela.core.notes import note
from tesela.core.temporary import temporary_folder
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, MapSource, open_map
from tesela.io.pixel_areas import equal_pixels_m2
from tesela.io.scenes import SceneSource, open_scene
from tesela.sampling.design import plan_sample
from tesela.sampling.draw import draw_sample, refuse_interpreted
from tesela.sampling.files import Drawn


@dataclass(frozen=True)
class Series:
    """Class maps of one area, with their years."""

    maps: tuple[ClassMap, ...]
    years: tuple[int, ...]
    crosswalk: Crosswalk | None
    """Crosswalk of the user to the categories; None for the shipped one."""

    @property
    def pairs(self) -> list[tuple[tuple[int, int], ClassMap, ClassMap]]:
        """Consecutive years with their two maps."""
        if len(self.maps) < 2 or len(self.maps) != len(self.years):
            raise InputError(
                f"{len(self.maps)} maps with {len(self.years)} years given; give at least two maps, and one year for "
                f"each."
            )
        if any(b <= a for a, b in pairwise(self.years)):
            raise InputError(
                f"The years are {join_words(self.years)}; give the maps and their years oldest first."
            )
        return [
            ((a, b), *pair) for (a, b), pair in zip(pairwise(self.years), pairwise(self.maps), strict=True)
        ]


def open_series(
    maps: Sequence[MapSource],
    years: Sequence[int],
    *,
    legend: Legend | str | Path | None = None,
    crosswalk: str | Path | Crosswalk | None = None,
) -> Series:
    """
    Open the maps of an account.

    Parameters
    ----------
    legend : Legend, name or path, optional
        Legend of the maps, if the files do not name it.
    crosswalk : Crosswalk or path, optional
        CSV with the columns from, to, share, from the maps' classes to the six categories.
    """
    opened = tuple(open_map(item, legend=legend) for item in maps)
    _note_repeated(opened, years)
    table = None
    if crosswalk is not None:
        table = open_crosswalk(opened[0].legend.address, open_legend("lulucf"), path=crosswalk)
    return Series(opened, tuple(years), table)


def _note_repeated(maps: Sequence[ClassMap], years: Sequence[int]) -> None:
    """Report maps that are one file: no change is found between them."""
    shown: dict[Path, list[int]] = {}
    for item, year in zip(maps, years, strict=False):
        shown.setdefault(Path(item.path).resolve(), []).append(year)
    for path, same in shown.items():
        if len(same) > 1:
            note(f"{path.name}: is the map of {join_words(same)}; nothing changes between maps of one file.")


def account_files(
    series: Series,
    out: str | Path | None = None,
    *,
    samples: Mapping[tuple[int, int], str | Path] | None = None,
    error_model: ErrorModel | None = None,
    tree_cover: Mapping[int, SceneSource] | None = None,
    land_area_ha: float | None = None,
    transition_years: int = 20,
    title: str = "",
) -> Accounts:
    """Account for a series of map files; see `tesela.accounting.accounting.account_maps`."""
    unmatched = sorted(set(tree_cover or {}) - set(series.years))
    if unmatched:
        raise InputError(
            f"Tree cover was given for {unmatched[0]}, a year without a map; the maps show {series.years}."
        )
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
) -> dict[tuple[int, int], Drawn]:
    """
    Draw a sample of change for each two consecutive maps, with the changes between them as strata.

    Writes the strata, ``changes_2018-2024.tif``, and the points, ``sample_2018-2024.gpkg``. Interpreters record
    the categories before and after, such as ``cropland>settlements``.

    Parameters
    ----------
    points : int
        Number of points of each sample.
    minimum : int
        Number of points of the smallest strata.

    Returns
    -------
    dict of Drawn
        By the two years.
    """
    folder, samples = Path(out), {}
    equal_pixels_m2(series.maps[0])
    files = [folder / f"sample_{first}-{last}.gpkg" for (first, last), _, _ in series.pairs]
    for file in files:
        refuse_interpreted(file)
    for file, ((first, last), before, after) in zip(files, series.pairs, strict=True):
        with _folder(folder), temporary_folder(folder / "changes") as part:
            name, table = f"changes_{first}-{last}.tif", _shared_crosswalk(series, before, after)
            strata = map_changes(before, after, part / name, crosswalk=table)
            design = plan_sample(strata, points=points, minimum=minimum, seed=seed)
            file = draw_sample(strata, file, design=design, hide_strata=True)
            samples[first, last] = Drawn(design, None, file)
            for item in part.glob("changes_*"):
                item.replace(folder / item.name)
    return samples


def write_change_layers(
    series: Series,
    out: str | Path,
    *,
    min_area_m2: float = 50_000.0,
    probabilities: Sequence[SceneSource] | None = None,
    min_odds: float = MIN_ODDS,
) -> dict[tuple[int, int], ChangeLayer]:
    """
    Write ``change_layer_2018-2024.tif`` for each two consecutive maps, and ``map_2024.tif``; see `map_change_layer`.

    The map of a later year is the earlier one with the changes in it.

    Parameters
    ----------
    probabilities : sequence of path, optional
        Probabilities of the classes of each map, in the order of the maps.

    Returns
    -------
    dict of ChangeLayer
        By the two years.
    """
    if probabilities is not None and len(probabilities) != len(series.maps):
        raise InputError(
            f"{len(probabilities)} files of probabilities were given for {len(series.maps)} maps; give one for each "
            f"map, oldest first."
        )
    scenes = None if probabilities is None else [open_scene(path) for path in probabilities]
    folder, layers = Path(out), {}
    base: ClassMap | None = None
    for k, ((first, last), before, after) in enumerate(series.pairs):
        layers[first, last] = map_change_layer(
            before,
            after,
            folder / f"change_layer_{first}-{last}.tif",
            min_area_m2=min_area_m2,
            probabilities=None if scenes is None else (scenes[k], scenes[k + 1]),
            min_odds=min_odds,
            later=folder / f"map_{last}.tif",
            base=base,
            crosswalk=_shared_crosswalk(series, before, after),
        )
        base = layers[first, last].later
    return layers


def read_error_model(
    assessment: str | Path, series: Series, *, independent: float, persistence: float = 1.0
) -> ErrorModel:
    """
    Error model of a map from the ``assessment.json`` of `tesela assess`.

    Parameters
    ----------
    independent : float
        Effective number of independent observations in its matrix, such as the number of test patches.
    persistence : float
        Probability that two maps with the same class have the same error.
    """
    try:
        document = json.loads(Path(assessment).read_text(encoding="utf-8"))
        matrix = document["matrix"]
        counts, codes = np.array(matrix["pixels"], np.int64), list(matrix["codes"])
    except OSError as error:
        raise InputError(f"{assessment}: cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{assessment} is no assessment with a matrix; give the assessment.json that `tesela assess` writes."
        ) from None
    legend = series.maps[-1].legend
    if list(legend.codes) != codes:
        raise InputError(
            f"{assessment} assesses the classes {', '.join(codes[:6])} ...; the maps have "
            f"{', '.join(legend.codes[:6])} ... Assess one of these maps."
        )
    return ErrorModel.from_confusion(
        counts,
        legend,
        independent=independent,
        persistence=persistence,
        crosswalk=category_crosswalk(legend, series.crosswalk),
    )


def _shared_crosswalk(series: Series, before: ClassMap, after: ClassMap) -> Crosswalk | None:
    """The crosswalk of both maps of a pair."""
    if before.legend.address != after.legend.address:
        raise InputError(
            f"{before.path} is in legend '{before.legend.address}' and {after.path} in '{after.legend.address}'; "
            f"samples and layers of change need one legend: translate one map (tesela legend convert)."
        )
    return category_crosswalk(before.legend, series.crosswalk)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder for outputs; a new one that stays empty is removed."""
    new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it holds what was written
                path.rmdir()
