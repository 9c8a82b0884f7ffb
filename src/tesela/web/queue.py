"""The queue: what a reviewer sees next, when others review the same patches or points."""

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
"""Seconds for which what was handed out is kept for its reviewer."""

_RECENT = 50
"""Verdicts that the forecast rests on."""


@dataclass(frozen=True)
class Progress:
    """How far one reviewer is."""

    done: int
    """ReviewItems that the reviewer has judged."""
    left: int
    """ReviewItems that are still open to the reviewer."""
    given: dict[str, int]
    """ReviewItems judged, by answer: tiers of patches, classes of points."""
    team: int
    """ReviewItems that somebody has judged."""
    total: int
    """ReviewItems in all."""
    seconds_each: float | None
    """Median of the last verdicts."""
    left_seconds: float | None
    """Forecast: `left` times `seconds_each`."""


class ReviewQueue:
    """
    Hands out what is to be judged, in one order for all.

    Most things are judged by one reviewer, whoever comes first; a share chosen at random is judged by all,
    and nobody sees which those are or what others said. What is skipped comes again at the end.
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
        self._known = frozenset(self.order)
        self._clock = clock

    def hand_out(self, reviewer: str, count: int) -> tuple[list[str], Progress]:
        """The reviewer's next things, at most `count`, kept for the reviewer for a while; and how far it is."""
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
                    (thing, reviewer, now + CLAIM_S)
                    for thing in still_open[:count]
                    if thing not in self.shared
                ],
            )
        return still_open[:count], self._progress(reviewer, standing, left=len(still_open))

    def release(self, item_id: str) -> None:
        """Let others have what its reviewer skipped."""
        with self.log.writing() as base:
            base.execute("DELETE FROM claims WHERE item_id = ?", (item_id,))

    def _open(self, reviewer: str, standing: Sequence[Verdict], *, held: set[str]) -> list[str]:
        """ReviewItems that the reviewer may still judge, in order; skipped ones last."""
        mine = {item.item_id: item.action for item in standing if item.reviewer == reviewer}
        others = {item.item_id for item in standing if item.reviewer != reviewer and item.action == "judge"}
        taken = (others | held) - self.shared
        fresh = [thing for thing in self.order if thing not in mine and thing not in taken]
        skipped = [thing for thing, action in mine.items() if action == "skip" and thing in self._known]
        return fresh + [thing for thing in skipped if thing not in taken]

    def _progress(self, reviewer: str, standing: Sequence[Verdict], *, left: int) -> Progress:
        judged = [item for item in standing if item.action == "judge" and item.item_id in self._known]
        mine = [item for item in judged if item.reviewer == reviewer]
        each = median(item.seconds for item in mine[-_RECENT:]) if mine else None
        return Progress(
            done=len(mine),
            left=left,
            given=dict(Counter(item.answer for item in mine)),
            team=len({item.item_id for item in judged}),
            total=len(self.order),
            seconds_each=each,
            left_seconds=None if each is None else each * left,
        )


def shared_by_all(things: Sequence[str], share: float, *, seed: int) -> frozenset[str]:
    """ReviewItems that all reviewers judge, drawn at random; a larger share keeps those of a smaller one."""
    drawn = np.random.default_rng([seed, 2]).permutation(sorted(things))
    return frozenset(str(thing) for thing in drawn[: round(share * len(drawn))])
