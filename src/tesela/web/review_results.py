"""Review results: the valid verdicts on the items of a review, their reviewers, and the agreement of reviewers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, Literal

import numpy as np

from tesela.core.errors import InputError
from tesela.sampling.agreement import MISSING, Agreement, measure_agreement
from tesela.web.log import VerdictLog, log_path
from tesela.web.verdicts import Verdict, by_item


@dataclass(frozen=True)
class ReviewResults(ABC):
    """The valid verdicts of all reviewers on the patches of a table or the points of a sample."""

    noun: ClassVar[str]
    """Name of the items, in the plural."""
    questions: ClassVar[tuple[str, ...]]
    """Questions for which agreement is measured."""
    level: ClassVar[Literal["nominal", "ordinal"]]
    """Whether the answers have an order."""

    verdicts: Mapping[str, Sequence[Verdict]]
    """By item, in the order of time."""
    total: int
    """All items."""

    @abstractmethod
    def ranks(self, question: str) -> Mapping[str, int]:
        """Ranks of the answers to one of `questions`."""

    @abstractmethod
    def answer(self, verdict: Verdict, question: str) -> str:
        """Answer of a verdict to one of `questions`; empty for none."""

    @abstractmethod
    def outcome(self) -> dict[str, object]:
        """Summary of the results, for `to_dict`."""

    @abstractmethod
    def work_of(self, verdicts: Sequence[Verdict]) -> dict[str, object]:
        """Summary of the verdicts of one reviewer, for `to_dict`."""

    @abstractmethod
    def export(self, out: str | Path) -> Path:
        """Write the verdicts in the format of the file's extension."""

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Names of the reviewers, in alphabetical order."""
        return tuple(sorted({item.reviewer for given in self.verdicts.values() for item in given}))

    def agreement(self, question: str, *, seed: int = 0) -> Agreement | None:
        """Agreement on one of `questions`; None if no item has answers of two reviewers."""
        names, ranks = self.reviewers, self.ranks(question)
        ratings = np.full((len(self.verdicts), len(names)), MISSING, np.int64)
        for row, given in enumerate(self.verdicts.values()):
            for item in given:
                ratings[row, names.index(item.reviewer)] = ranks.get(self.answer(item, question), MISSING)
        if not ((ratings >= 0).sum(axis=1) >= 2).any():
            return None
        return measure_agreement(ratings, categories=len(ranks), level=self.level, seed=seed)

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`: the work of each reviewer, and their agreement."""
        measured = {question: self.agreement(question) for question in self.questions}
        by_name = {
            name: [item for given in self.verdicts.values() for item in given if item.reviewer == name]
            for name in self.reviewers
        }
        return {
            self.noun: self.total,
            "reviewed": len(self.verdicts),
            **self.outcome(),
            "reviewers": {
                name: {
                    self.noun: len(mine),
                    **self.work_of(mine),
                    "flagged": sum(item.flag for item in mine),
                    "median_seconds": round(median(item.seconds for item in mine), 2),
                }
                for name, mine in by_name.items()
            },
            "agreement": {
                question: None if value is None else value.to_dict() for question, value in measured.items()
            },
        }


def read_verdicts(
    reviewed: str | Path, item_ids: Sequence[str], *, subject: str = ""
) -> dict[str, list[Verdict]]:
    """
    Read the verdicts on the given items from the log beside a patch table or a sample.

    Parameters
    ----------
    subject : str
        Of the log; see `tesela.web.log.VerdictLog.bind`.

    Raises
    ------
    InputError
        If there is no log, or it belongs to another sample.
    """
    path = log_path(reviewed)
    if not path.exists():
        raise InputError(
            f"{reviewed}: there are no verdicts ({path.name} is missing). Run tesela review serve first."
        )
    ids = set(item_ids)
    with VerdictLog(path) as log:
        log.bind(subject)
        return {item_id: given for item_id, given in by_item(log.standing()).items() if item_id in ids}
