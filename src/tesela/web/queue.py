"""The queue: next items of each reviewer, when several review the same patches or points."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from tesela.core.errors import InputError
from tesela.web.log import VerdictLog
from tesela.web.verdicts import Verdict

CLAIM_S = 900.0
"""Seconds for which an item is reserved for its reviewer."""

_RECENT = 50
"""Last verdicts, from which the remaining time is estimated."""


@dataclass(frozen=True)
class Progress:
    """Progress of one reviewer."""

    done: int
    """Items with a verdict of the reviewer."""
    left: int
    """Items that are still open for the reviewer."""
    given: dict[str, int]
    """Items by answer: quality of patches, class of points."""
    team: int
    """Items with a verdict of any reviewer."""
    total: int
    """All items."""
    seconds_each: float | None
    """Median over the last verdicts."""
    left_seconds: float | None
    """Estimate: `left` times `seconds_each`."""


class ReviewQueue:
    """
    Hands out the items to review, in one order for all reviewers.

    Most items get a verdict of one reviewer, the first who receives them. A random share gets verdicts of all
    reviewers, who see neither which items these are nor the verdicts of others. Skipped items come again at the end.
    """

    def __init__(
        self,
        order: Sequence[str],
        log: VerdictLog,
        *,
        overlap: float = 0.1,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= overlap <= 1:
            raise InputError(f"The overlap is {overlap:g}; give a share from 0 to 1, such as 0.1.")
        self.log = log
        self.order = list(order)
        self.shared = shared_by_all(self.order, overlap, seed=seed)
        self._ids = frozenset(self.order)
        self._clock = clock

    def hand_out(self, reviewer: str, count: int) -> tuple[list[str], Progress]:
        """The next items of a reviewer, at most `count`, reserved for `CLAIM_S`; and the progress."""
        now = self._clock()
        with self.log.writing() as base:
            standing = self.log.standing()
            held = base.execute(
                "SELECT item_id FROM claims WHERE reviewer <> ? AND until > ?", (reviewer, now)
            )
            still_open = self._open(reviewer, standing, held={str(row["item_id"]) for row in held})
            base.executemany(
                "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (item_id) DO UPDATE SET "
                "reviewer = excluded.reviewer, until = excluded.until",
                [
                    (item_id, reviewer, now + CLAIM_S)
                    for item_id in still_open[:count]
                    if item_id not in self.shared
                ],
            )
        return still_open[:count], self._progress(reviewer, standing, left=len(still_open))

    def release(self, item_id: str) -> None:
        """Make an item that its reviewer skipped available to others."""
        with self.log.writing() as base:
            base.execute("DELETE FROM claims WHERE item_id = ?", (item_id,))

    def _open(self, reviewer: str, standing: Sequence[Verdict], *, held: set[str]) -> list[str]:
        """Items that are open for the reviewer, in order; skipped ones last."""
        mine = {item.item_id: item.action for item in standing if item.reviewer == reviewer}
        others = {item.item_id for item in standing if item.reviewer != reviewer and item.action == "rate"}
        taken = (others | held) - self.shared
        fresh = [item_id for item_id in self.order if item_id not in mine and item_id not in taken]
        skipped = [item_id for item_id, action in mine.items() if action == "skip" and item_id in self._ids]
        return fresh + [item_id for item_id in skipped if item_id not in taken]

    def _progress(self, reviewer: str, standing: Sequence[Verdict], *, left: int) -> Progress:
        rated = [item for item in standing if item.action == "rate" and item.item_id in self._ids]
        mine = [item for item in rated if item.reviewer == reviewer]
        each = median(item.seconds for item in mine[-_RECENT:]) if mine else None
        return Progress(
            done=len(mine),
            left=left,
            given=dict(Counter(item.answer for item in mine)),
            team=len({item.item_id for item in rated}),
            total=len(self.order),
            seconds_each=each,
            left_seconds=None if each is None else each * left,
        )


def shared_by_all(item_ids: Sequence[str], share: float, *, seed: int) -> frozenset[str]:
    """Random items that all reviewers rate; a larger share contains those of a smaller one."""
    drawn = np.random.default_rng([seed, 2]).permutation(sorted(item_ids))
    return frozenset(str(item_id) for item_id in drawn[: round(share * len(drawn))])
