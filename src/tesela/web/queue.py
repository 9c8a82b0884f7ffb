"""The queue: which patch a reviewer sees next, when others review the same table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from tesela.core.errors import InputError, unknown_name
from tesela.patches.table import QUALITIES, PatchTable
from tesela.web.verdicts import Verdict, VerdictLog

CLAIM_S = 900.0
"""Seconds for which a patch that was handed out is kept for its reviewer."""

_RECENT = 50
"""Verdicts that the forecast rests on."""


@dataclass(frozen=True)
class Progress:
    """How far one reviewer is."""

    done: int
    """Patches that the reviewer has judged."""
    left: int
    """Patches that are still open to the reviewer."""
    tiers: dict[str, int]
    """Patches judged, by tier."""
    team: int
    """Patches that somebody has judged."""
    total: int
    """Patches of the table."""
    seconds_each: float | None
    """Median of the last verdicts."""
    left_seconds: float | None
    """Forecast: `left` times `seconds_each`."""


class ReviewQueue:
    """
    Hands out the patches of a table.

    Most patches are judged by one reviewer, whoever comes first; a share chosen at random is judged by all,
    and nobody sees which those are or what others said. What is skipped comes again at the end.
    """

    def __init__(
        self,
        table: PatchTable,
        log: VerdictLog,
        *,
        order: str = "random",
        overlap: float = 0.1,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if order not in ORDERS:
            raise InputError(unknown_name("order", order, ORDERS))
        if not 0 <= overlap <= 1:
            raise InputError(f"The overlap is {overlap:g}; give a share from 0 to 1, such as 0.1.")
        self.log = log
        self.order = ORDERS[order](table, np.random.default_rng([seed, 1]))
        self.shared = shared_by_all(self.order, overlap, seed=seed)
        self._known = frozenset(self.order)
        self._clock = clock

    def hand_out(self, reviewer: str, count: int) -> tuple[list[str], Progress]:
        """The reviewer's next patches, at most `count`, kept for the reviewer for a while; and how far it is."""
        now = self._clock()
        with self.log.writing() as base:
            standing = self.log.standing()
            held = base.execute(
                "SELECT patch_id FROM claims WHERE reviewer <> ? AND until > ?", (reviewer, now)
            )
            still_open = self._open(reviewer, standing, held={str(row["patch_id"]) for row in held})
            base.executemany(
                "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (patch_id) DO UPDATE SET "
                "reviewer = excluded.reviewer, until = excluded.until",
                [
                    (patch, reviewer, now + CLAIM_S)
                    for patch in still_open[:count]
                    if patch not in self.shared
                ],
            )
        return still_open[:count], self._progress(reviewer, standing, left=len(still_open))

    def release(self, patch_id: str) -> None:
        """Let others have a patch that its reviewer skipped."""
        with self.log.writing() as base:
            base.execute("DELETE FROM claims WHERE patch_id = ?", (patch_id,))

    def _open(self, reviewer: str, standing: Sequence[Verdict], *, held: set[str]) -> list[str]:
        """Patches that the reviewer may still judge, in order; skipped ones last."""
        mine = {item.patch_id: item.action for item in standing if item.reviewer == reviewer}
        others = {item.patch_id for item in standing if item.reviewer != reviewer and item.action == "judge"}
        taken = (others | held) - self.shared
        fresh = [patch for patch in self.order if patch not in mine and patch not in taken]
        skipped = [patch for patch, action in mine.items() if action == "skip" and patch in self._known]
        return fresh + [patch for patch in skipped if patch not in taken]

    def _progress(self, reviewer: str, standing: Sequence[Verdict], *, left: int) -> Progress:
        judged = [item for item in standing if item.action == "judge" and item.patch_id in self._known]
        mine = [item for item in judged if item.reviewer == reviewer]
        each = median(item.seconds for item in mine[-_RECENT:]) if mine else None
        return Progress(
            done=len(mine),
            left=left,
            tiers={tier: sum(item.tier == tier for item in mine) for tier in QUALITIES},
            team=len({item.patch_id for item in judged}),
            total=len(self.order),
            seconds_each=each,
            left_seconds=None if each is None else each * left,
        )


def shared_by_all(patches: Sequence[str], share: float, *, seed: int) -> frozenset[str]:
    """Patches that all reviewers judge, drawn at random; a larger share keeps those of a smaller one."""
    drawn = np.random.default_rng([seed, 2]).permutation(sorted(patches))
    return frozenset(str(patch) for patch in drawn[: round(share * len(drawn))])


def _random(table: PatchTable, generator: np.random.Generator) -> list[str]:
    return [str(patch) for patch in generator.permutation(sorted(table.frame["patch_id"]))]


def _by_class(table: PatchTable, generator: np.random.Generator) -> list[str]:
    """Classes take turns, by the commonest of each patch, so that rare ones are seen as early as common ones."""
    frame = table.frame.sort_values("patch_id")
    main = frame[table.share_columns].to_numpy(float).argmax(axis=1)
    mixed = generator.permutation(len(frame))
    turn = np.zeros(len(frame), np.intp)
    for value in np.unique(main):
        members = mixed[main[mixed] == value]
        turn[members] = np.arange(len(members))
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[np.lexsort((main, turn))]]


def _by_disagreement(table: PatchTable, generator: np.random.Generator) -> list[str]:
    """Patches first that models doubt most."""
    if "doubt" not in table.frame.columns:
        raise InputError(
            "The patch table says of no patch how much models doubt its label. Rank it first (tesela review "
            "PATCHES --rank), or choose another order."
        )
    frame = table.frame.sort_values("patch_id")
    doubt = frame["doubt"].fillna(-1).to_numpy(float)
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[np.argsort(-doubt, kind="stable")]]


ORDERS = {"random": _random, "class": _by_class, "disagreement": _by_disagreement}
"""Ways to order a queue, by name."""
