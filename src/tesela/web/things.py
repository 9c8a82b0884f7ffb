"""Things to judge: what the review page needs to know of the patches of a table or the points of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from tesela.core.legend import Legend
from tesela.web.log import VerdictLog
from tesela.web.verdicts import Verdict


class Things(Protocol):
    """What reviewers judge one by one; a request names it by its id, and never a file."""

    name: str
    """Of the file that lists them, for people."""
    noun: str
    """What one of them is called: "patch", "point"."""
    template: str
    """Template of the page, with the script of its questions beside it: ``review_NOUN.js``."""
    legend: Legend
    subject: str
    """Of their log; see `tesela.web.log.VerdictLog.bind`."""
    notes: Sequence[str]
    """What reviewers should be told before they begin."""

    def __contains__(self, thing_id: object) -> bool: ...

    def order(self, name: str, *, seed: int, judged: Set[str]) -> list[str]:
        """
        Ids in the order in which they are handed out; InputError if there is no such order.

        `judged` are those that were judged before, also where it was taken back.
        """
        ...

    def item(self, thing_id: str) -> dict[str, object]:
        """What the page is told of one thing; `views` by name and `place` are those of `Place`."""
        ...

    def picture(self, thing_id: str, view: str) -> bytes:
        """JPEG of one of its views; KeyError if there is no such view."""
        ...

    def labels(self, thing_id: str) -> bytes | None:
        """Class values to judge, square, row by row, compressed by zlib; None where nothing is shown."""
        ...

    def check(self, verdict: Verdict) -> None:
        """InputError if the verdict is not one on such a thing."""
        ...

    def keep(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Carry the log's word on some things on to where it belongs; what went wrong, or nothing."""
        ...

    def extras(self) -> Mapping[str, object]:
        """What the template needs beyond what all pages need."""
        ...
