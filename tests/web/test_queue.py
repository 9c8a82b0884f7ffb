"""The queue: who reviews which items, in which order, with several reviewers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reviewing import verdict
from tesela.core.errors import InputError
from tesela.patches.table import PatchTable
from tesela.web.log import VerdictLog
from tesela.web.patch_review import ORDERS
from tesela.web.queue import CLAIM_S, ReviewQueue


@pytest.fixture
def log(tmp_path: Path) -> Iterator[VerdictLog]:
    with VerdictLog(tmp_path / "log.sqlite") as opened:
        yield opened


def ids_of(table: PatchTable, order: str = "random", seed: int = 0) -> list[str]:
    return ORDERS[order](table, np.random.default_rng([seed, 1]))


def rate_all(queue: ReviewQueue, reviewer: str, *, most: int = 1000) -> list[str]:
    done: list[str] = []
    while len(done) < most and (coming := queue.hand_out(reviewer, 3)[0]):
        queue.log.add(verdict(coming[0], reviewer, seconds=2.0))
        done.append(coming[0])
    return done


def test_all_patches_are_rated_once_and_the_shared_ones_by_all(table: PatchTable, log: VerdictLog) -> None:
    queue = ReviewQueue(ids_of(table), log, overlap=0.2)
    first = rate_all(queue, "ana", most=9)
    second = rate_all(queue, "bea")
    third = rate_all(queue, "ana")
    assert len(queue.shared) == 5
    assert queue.shared < set(second)
    assert queue.shared <= set(first + third)
    assert set(first + third) & set(second) == queue.shared
    # patches that ana received and has not rated stay reserved for her
    assert len({*first, *second, *third}) == 25
    coming, progress = queue.hand_out("ana", 3)
    assert coming == []
    assert (progress.team, progress.total, progress.left) == (25, 25, 0)
    assert progress.done == len(first + third)
    assert progress.seconds_each == 2.0


def test_a_reservation_expires(table: PatchTable, log: VerdictLog) -> None:
    now = [0.0]
    queue = ReviewQueue(ids_of(table), log, overlap=0, clock=lambda: now[0])
    held, _ = queue.hand_out("ana", 4)
    assert not set(held) & set(queue.hand_out("bea", 25)[0])
    assert queue.hand_out("ana", 4)[0] == held
    now[0] = CLAIM_S + 1
    assert set(held) <= set(queue.hand_out("bea", 25)[0])


def test_a_skipped_patch_comes_again_at_the_end(table: PatchTable, log: VerdictLog) -> None:
    queue = ReviewQueue(ids_of(table), log, overlap=0)
    (skipped, following), progress = queue.hand_out("ana", 2)
    log.add(verdict(skipped, action="skip"))
    queue.release(skipped)
    assert queue.hand_out("ana", 1)[0] == [following]
    assert queue.hand_out("ana", 100)[0][-1] == skipped
    assert progress.left == 25
    assert progress.left_seconds is None


def test_the_order_is_random_by_class_or_by_likelihood_of_error(table: PatchTable) -> None:
    drawn = ids_of(table, seed=1)
    assert drawn == ids_of(table, seed=1) != ids_of(table, seed=2)
    main_class = table.frame.set_index("patch_id")[table.share_columns].idxmax(axis=1)
    turns = [main_class[patch] for patch in ids_of(table, "class")]
    least = main_class.value_counts().min()
    kinds = main_class.nunique()
    for turn in range(least):
        assert len({*turns[turn * kinds : (turn + 1) * kinds]}) == kinds
    with pytest.raises(InputError, match=r"tesela review rank TABLE"):
        ids_of(table, "disagreement")
    likelihood = np.random.default_rng(0).random(25)
    likelihood[3] = np.nan
    ranked = replace(table, frame=table.frame.assign(error_likelihood=likelihood))
    order = ids_of(ranked, "disagreement")
    assert order[0] == table.frame["patch_id"].iloc[np.nanargmax(likelihood)]
    assert order[-1] == table.frame["patch_id"].iloc[3]
    for patches in (drawn, order):
        assert sorted(patches) == sorted(table.frame["patch_id"])
