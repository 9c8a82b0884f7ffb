"""The publication: facts about a product that a catalogue needs and no file holds."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from tesela.core.errors import InputError

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LICENSE = re.compile(r"[\w.+-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that one line of text does not have, and XML partly forbids."""


@dataclass(frozen=True)
class Publication:
    """
    Title, time, rights and provider of a product.

    Examples
    --------
    >>> Publication("Land cover of Lanjarón", date="2018-04/2018-09").period
    ('2018-04-01', '2018-09-30')
    """

    title: str
    """One line for people."""
    date: str = ""
    """Time that the product shows: a year, month or day (ISO 8601), or two of them joined by ``/``."""
    description: str = ""
    """A paragraph for people; empty: drawn up from the product."""
    license: str = "other"
    """SPDX identifier such as "CC-BY-4.0", or "other"."""
    provider: str = ""
    """Organisation responsible for the product."""
    contact: str = ""
    """Its e-mail address."""
    keywords: tuple[str, ...] = ()
    """Further words for searches."""
    published: str = ""
    """Day of publication, ISO 8601; empty: today (UTC)."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise InputError("A publication needs a title (--title).")
        for option, text in (
            ("title", self.title),
            ("description", self.description.replace("\n", " ").replace("\t", " ")),
            ("provider", self.provider),
            ("contact", self.contact),
            ("keywords", "".join(self.keywords)),
        ):
            if _CONTROL.search(text):
                raise InputError(
                    f"{text!r} holds a line break or another control character (--{option}). Remove it."
                )
        if not _LICENSE.fullmatch(self.license):
            raise InputError(
                f"License '{self.license}' is no SPDX identifier, which a catalogue needs: write one such as CC-BY-4.0 "
                f"(--license)."
            )
        if self.contact and not _EMAIL.fullmatch(self.contact):
            raise InputError(
                f"Contact '{self.contact}' is no e-mail address, which a catalogue needs (--contact)."
            )
        if self.date:
            read_period(self.date)
        if self.published:
            read_period(self.published)

    @property
    def period(self) -> tuple[str, str]:
        """First and last day that the product shows, ISO 8601."""
        return read_period(self.date)

    @property
    def day(self) -> str:
        """Day of publication, ISO 8601."""
        return self.published or datetime.datetime.now(datetime.UTC).date().isoformat()


def read_period(text: str) -> tuple[str, str]:
    """
    First and last day of a year, month, day, or two of them joined by a slash.

    Raises
    ------
    InputError
        If it is none of these, or ends before it begins.

    Examples
    --------
    >>> read_period("2018")
    ('2018-01-01', '2018-12-31')
    """
    first, _, second = text.strip().partition("/")
    try:
        begin, end = _days(first)[0], _days(second or first)[1]
    except ValueError:
        raise InputError(
            f"'{text}' is no date: write 2018, 2018-07, 2018-07-15, or two of them such as 2018-04/2018-09 (--date)."
        ) from None
    if end < begin:
        raise InputError(f"'{text}' ends before it begins; write the earlier date first (--date).")
    return begin.isoformat(), end.isoformat()


def _days(text: str) -> tuple[datetime.date, datetime.date]:
    parts = [int(part) for part in text.strip().split("-")]
    if len(parts) == 3:
        day = datetime.date(*parts)
        return day, day
    year, first, last = (parts[0], 1, 12) if len(parts) == 1 else (parts[0], parts[1], parts[1])
    if len(parts) > 2 or not 1 <= year <= 9998:
        raise ValueError(text)
    after = datetime.date(year + last // 12, last % 12 + 1, 1)
    return datetime.date(year, first, 1), after - datetime.timedelta(days=1)
