"""Missing dates: the bands of a scene that experts of several dates take, where the scene lacks some dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tesela.core.band_dates import STATIC, split_date
from tesela.core.errors import InputError, RecipeError, join_words, unknown_name
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation

MISSING_DATES = ("error", "gap")
"""What to do with dates that the scene lacks: refuse it, or map it with a gap there."""


def select_bands(scene: Scene, networks: Sequence[Standardisation], *, missing_dates: str = "error") -> Scene:
    """
    The bands of a scene that networks take, each once.

    Parameters
    ----------
    networks : sequence of Standardisation
        Bands and dates of each network.
    missing_dates : {"error", "gap"}
        "gap": dates that the scene lacks are left out.

    Raises
    ------
    InputError
        If the scene lacks a band, and not its whole date; or all dates.
    RecipeError
        If `missing_dates` is unknown.
    """
    if missing_dates not in MISSING_DATES:
        raise RecipeError(unknown_name("rule for missing dates", missing_dates, MISSING_DATES))
    names = list(dict.fromkeys(name for network in networks for name in network.bands))
    lacking = [name for name in names if name not in scene.band_names]
    if not lacking:
        return scene.select(names)
    missing: list[str] = []
    for network in networks:
        dates = list(_dates(network))
        whole = [bands for bands in dates if not set(bands) & set(scene.band_names)]
        if len(whole) == len(dates) or not dates:
            return scene.select(names)  # raises: not a date, but the scene is another one
        for bands in dates:
            absent = [name for name in bands if name in lacking]
            if absent and bands not in whole:
                raise InputError(
                    f"Scene '{scene.name}' lacks {join_words(absent)} of date '{split_date(bands[0])[1]}', but has its "
                    f"other bands. A date is whole or missing: add the band, or leave the date out."
                )
        missing += [name for bands in whole for name in bands]
    scene.select([name for name in names if name not in missing])  # raises: a band that belongs to no date
    if missing_dates == "error":
        labels = join_words(list(dict.fromkeys(split_date(name)[1] for name in lacking)))
        raise InputError(
            f"Scene '{scene.name}' lacks date {labels} of the expert ({join_words(lacking, most=3)}). Add its image, "
            f"or map without it: --missing-dates gap (missing_dates in [mapping])."
        )
    return scene.select([name for name in names if name not in lacking])


def _dates(network: Standardisation) -> Iterator[tuple[str, ...]]:
    """Bands of each date of a network that takes gaps."""
    for number in sorted(set(network.dates) - {STATIC}):
        yield tuple(name for name, date in zip(network.bands, network.dates, strict=True) if date == number)
