"""Dates of bands: which bands of a scene belong to which date, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from tesela.core.errors import InputError, join_words

STATIC = -1
"""Date of a band that belongs to none, such as a slope."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = ("january", "february", "march", "april", "may", "june", "july", "august", "september")
_LONG_MONTHS = (*_LONG, "october", "november", "december")
_SEASONS = {"winter": 15, "spring": 105, "summer": 196, "autumn": 288, "fall": 288}
_NO_DATE = ("sin", "cos")  # the parts of an aspect


@dataclass(frozen=True)
class BandDates:
    """
    Bands by date: "B04_april" and "B08_april" are bands "b04" and "b08" of date "april".

    Bands of which no date is known by name are one date together.
    """

    names: tuple[str, ...]
    """Dates in the order in which they first occur; one empty name where the bands have a single date."""
    bands: tuple[tuple[int, ...], ...]
    """Positions of the bands of each date, in the order of the first date's bands."""
    kinds: tuple[tuple[str, ...], ...]
    """Names of those bands without their date, in lower case."""
    static: tuple[int, ...]
    """Positions of bands that belong to no date."""

    @property
    def of_bands(self) -> tuple[int, ...]:
        """Number of the date of each band, `STATIC` for none."""
        numbers = dict.fromkeys(self.static, STATIC)
        numbers |= {band: number for number, bands in enumerate(self.bands) for band in bands}
        return tuple(numbers[position] for position in range(len(numbers)))

    @property
    def days(self) -> tuple[int, ...]:
        """Day of the year of each date, where all names give one; else evenly spaced, in order."""
        given = [day_of_year(name) for name in self.names]
        if all(given):
            return tuple(day for day in given if day is not None)
        return tuple(
            round((2 * number + 1) * 365 / (2 * len(self.names))) for number in range(len(self.names))
        )

    def check_equal(self) -> None:
        """
        Check that all dates have the same bands.

        Raises
        ------
        InputError
            Names the first date that lacks a band.
        """
        every = list(dict.fromkeys(kind for kinds in self.kinds for kind in kinds))
        for name, kinds in zip(self.names, self.kinds, strict=True):
            missing = [kind for kind in every if kind not in kinds]
            if missing:
                raise InputError(
                    f"Date '{name}' has no band {join_words(missing)}, which another date has; all dates need the "
                    f"same bands. Add it, or leave it out at all dates (bands = [...])."
                )


def split_date(band: str) -> tuple[str, str]:
    """
    Name of a band and its date, both in lower case: what stands before and after the first "_".

    Examples
    --------
    >>> split_date("B04_april"), split_date("B8A_2018-04-11"), split_date("red")
    (('b04', 'april'), ('b8a', '2018-04-11'), ('red', ''))
    """
    kind, _, name = band.lower().partition("_")
    return kind, name


def group_by_date(bands: Sequence[str]) -> BandDates:
    """
    Group bands by the dates in their names.

    A date is what stands after the first "_", if it names a day, month or season, or if two bands or more share it;
    and if its bands occur at the date with the most bands, too. All other bands are static: "slope", "aspect_sin".

    Examples
    --------
    >>> dates = group_by_date(["B04_april", "B08_april", "B04_july", "B08_july", "slope"])
    >>> dates.names, dates.bands, dates.static, dates.days
    (('april', 'july'), ((0, 1), (2, 3)), (4,), (105, 196))
    >>> group_by_date(["SR_B4", "SR_B5"]).names
    ('',)
    """
    groups: dict[str, dict[str, int]] = {}
    for position, band in enumerate(bands):
        kind, name = split_date(band)
        groups.setdefault(name, {})[kind] = position
    dated = {name: group for name, group in groups.items() if name and _is_date(name, group)}
    largest = max(dated.values(), key=len, default={})
    dated = {name: group for name, group in dated.items() if group.keys() & largest.keys()}
    if len(dated) < 2:
        everything = tuple(range(len(bands)))
        return BandDates(("",), (everything,), (tuple(band.lower() for band in bands),), ())
    order = list(dict.fromkeys(kind for group in dated.values() for kind in group))
    kinds = tuple(tuple(kind for kind in order if kind in group) for group in dated.values())
    places = tuple(
        tuple(group[kind] for kind in names) for group, names in zip(dated.values(), kinds, strict=True)
    )
    used = {position for group in places for position in group}
    static = tuple(position for position in range(len(bands)) if position not in used)
    return BandDates(tuple(dated), places, kinds, static)


def day_of_year(name: str) -> int | None:
    """
    Day of the year that the name of a date gives; None if it gives none. A month or season is its middle.

    Examples
    --------
    >>> [day_of_year(name) for name in ("2018-04-11", "20180411", "2018_04", "Apr", "t1")]
    [101, 101, 105, 105, None]
    """
    text = name.lower()
    whole = re.fullmatch(r"(\d{4})[-_.]?(\d{2})(?:[-_.]?(\d{2}))?(?:t\d+z?)?", text)
    if whole:
        year, month, day = (int(item) if item else 15 for item in whole.groups())
        try:
            return date(year, month, day).timetuple().tm_yday
        except ValueError:
            return None
    word = re.fullmatch(r"(?:\d{4}[-_]?)?([a-z]+)(?:[-_]?\d{4})?", text)
    if not word:
        return None
    for months in (_MONTHS, _LONG_MONTHS):
        if word[1] in months:
            return date(2018, months.index(word[1]) + 1, 15).timetuple().tm_yday
    return _SEASONS.get(word[1])


def _is_date(name: str, group: dict[str, int]) -> bool:
    return name not in _NO_DATE and (len(group) > 1 or day_of_year(name) is not None)
