"""The months of a mosaic."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tesela.core.errors import InputError


@dataclass(frozen=True)
class Period:
    """One or several months of a year."""

    year: int
    first_month: int
    last_month: int

    @property
    def name(self) -> str:
        """Name of the mosaic's files: "2018-04", or "2018-06to08" of several months."""
        more = f"to{self.last_month:02d}" if self.last_month != self.first_month else ""
        return f"{self.year}-{self.first_month:02d}{more}"

    @property
    def first(self) -> date:
        """First day."""
        return date(self.year, self.first_month, 1)

    @property
    def last(self) -> date:
        """Last day."""
        return date(self.year, self.last_month, calendar.monthrange(self.year, self.last_month)[1])

    @property
    def half_days(self) -> float:
        """Half the length in days."""
        return ((self.last - self.first).days + 1) / 2

    def days_from_middle(self, moment: datetime) -> float:
        """Days between a moment and the middle of the period."""
        middle = datetime(self.first.year, self.first.month, 1, tzinfo=UTC) + timedelta(days=self.half_days)
        return abs((moment - middle) / timedelta(days=1))


def parse_periods(months: str, year: int) -> tuple[Period, ...]:
    """
    Read the months of the mosaics: "4,7,9" are three, "6-8" is one of three months.

    Raises
    ------
    InputError
        If a month or the year is not valid.

    Examples
    --------
    >>> [period.name for period in parse_periods("4,6-8", 2018)]
    ['2018-04', '2018-06to08']
    """
    if not 1972 <= year <= 2100:
        raise InputError(
            f"Year {year}: satellites have imaged the land since 1972; write a year such as 2018."
        )
    periods = []
    for part in months.split(","):
        words = re.fullmatch(r"\s*(\d{1,2})(?:-(\d{1,2}))?\s*", part)
        first = int(words[1]) if words else 0
        last = int(words[2] or first) if words else 0
        if not 1 <= first <= last <= 12:
            raise InputError(
                f"Months '{months}': write numbers of months such as 4,7,9, or 6-8 for one mosaic of three months."
            )
        periods.append(Period(year, first, last))
    if len(set(periods)) < len(periods):
        raise InputError(f"Months '{months}': name each mosaic once.")
    return tuple(periods)


def month_span(first: str, last: str) -> tuple[date, date]:
    """
    Find the first and last day of a span of months.

    Raises
    ------
    InputError
        If one is not a month, or they are in the wrong order.

    Examples
    --------
    >>> month_span("2012-01", "2012-02")
    (datetime.date(2012, 1, 1), datetime.date(2012, 2, 29))
    """
    try:
        begin = date.fromisoformat(f"{first}-01")
        end = date.fromisoformat(f"{last}-01")
    except ValueError:
        raise InputError(f"'{first}' to '{last}': write months such as 2012-01 (--first, --last).") from None
    if end < begin:
        raise InputError(f"'{first}' to '{last}': the first month comes after the last (--first, --last).")
    return begin, end.replace(day=calendar.monthrange(end.year, end.month)[1])
