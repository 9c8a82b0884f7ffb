"""Dates in the names of files and bands."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from tesela.core.errors import InputError
from tesela.io.cube import month_of

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = "uary|ruary|ch|il|e|y|ust|t|tember|ober|ember"
_YEAR = r"(?P<year>19[7-9]\d|20\d\d)"
_MONTH = r"(?P<month>0[1-9]|1[0-2])"
_DAY = r"(?P<day>0[1-9]|[12]\d|3[01])"
_NAMED = rf"(?P<name>{'|'.join(_MONTHS)})(?:{_LONG})?"

_PATTERNS = tuple(
    re.compile(rf"(?<!\d){text}(?!\d)", re.IGNORECASE)
    for text in (
        rf"{_YEAR}-{_MONTH}-{_DAY}",
        rf"{_YEAR}_{_MONTH}_{_DAY}",
        rf"{_YEAR}\.{_MONTH}\.{_DAY}",
        rf"{_YEAR}{_MONTH}{_DAY}(?:T\d+Z?)?",  # 20180704, 20180704T105031
        rf"(?:A|doy)?{_YEAR}(?P<doy>[0-3]\d\d)(?:T\d+Z?)?",  # A2013001, doy2013001, 2020005T173549
        rf"{_YEAR}[-_.]{_MONTH}",
        rf"{_YEAR}{_MONTH}",
        rf"{_YEAR}[-_. ]?{_NAMED}",
        rf"{_NAMED}[-_. ]?{_YEAR}",
    )
)
"""Ways to write a date, the complete ones first: of the numbers in a name, a whole date is the surest."""


def find_date(text: str) -> tuple[str, str] | None:
    """
    Date in a name as a cube writes it, and the name without any date; None if there is no date.

    Of several dates the first one counts: that of the acquisition comes before that of the processing.

    Examples
    --------
    >>> find_date("NDVI_2010_03"), find_date("LC08_L2SP_190028_20200105_20200113_02_T1_SR_B4")
    (('2010-03', 'NDVI'), ('2020-01-05', 'LC08_L2SP_190028_02_T1_SR_B4'))
    >>> find_date("MOD13Q1.A2010001.h18v04.NDVI"), find_date("evi_jul2014"), find_date("slope_30m")
    (('2010-01-01', 'MOD13Q1.h18v04.NDVI'), ('2014-07', 'evi'), None)
    """
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            date = _as_time(match)
            if date is not None:
                return date, _tidy(pattern.sub("", text))
    return None


def _as_time(match: re.Match[str]) -> str | None:
    parts = match.groupdict()
    year = int(parts["year"])
    try:
        if parts.get("doy"):
            day = datetime.date(year, 1, 1) + datetime.timedelta(days=int(parts["doy"]) - 1)
            return day.isoformat() if day.year == year else None
        if parts.get("name"):
            return f"{year}-{_MONTHS.index(parts['name'].lower()) + 1:02d}"
        if parts.get("day"):
            return datetime.date(year, int(parts["month"]), int(parts["day"])).isoformat()
    except ValueError:
        return None
    return f"{year}-{parts['month']}"


def _tidy(text: str) -> str:
    """A name from which a date was taken, without the separators around it."""
    return re.sub(r"([-_. ])[-_. ]+", r"\1", text).strip("-_. ")


def parse_dates(texts: Sequence[str]) -> tuple[str, ...]:
    """
    Read dates as a user lists them; "2010-01..2010-12" stands for all months between.

    Raises
    ------
    InputError
        If one is not a date of a cube.

    Examples
    --------
    >>> parse_dates(["2010-11..2011-01"]), parse_dates(["2013-01-09", "2013-01-25"])
    (('2010-11', '2010-12', '2011-01'), ('2013-01-09', '2013-01-25'))
    """
    dates: list[str] = []
    for text in texts:
        first, between, last = text.partition("..")
        for part in (first, last) if between else (first,):
            month_of(part)
        if not between:
            dates.append(first)
            continue
        if len(first) != 7 or len(last) != 7:
            raise InputError(f"'{text}' is no span of months; write 2010-01..2010-12.")
        begin, end = (int(part[:4]) * 12 + int(part[5:]) - 1 for part in (first, last))
        if begin > end:
            raise InputError(f"'{text}': the first month comes after the last.")
        dates += [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(begin, end + 1)]
    return tuple(dates)
