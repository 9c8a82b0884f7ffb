"""What was judged: the verdicts that stand on some things, who gave them, and how far people agree."""

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
from tesela.web.verdicts import Verdict, last_words


@dataclass(frozen=True)
class ReviewResults(ABC):
    """The verdicts on the patches of a table or the points of a sample that stand, those of all reviewers."""

    noun: ClassVar[str]
    """What one thing is called, in the plural."""
    questions: ClassVar[tuple[str, ...]]
    """What agreement is measured on."""
    level: ClassVar[Literal["nominal", "ordinal"]]
    """Whether the answers to the questions have an order."""

    verdicts: Mapping[str, Sequence[Verdict]]
    """By thing, in the order in which they were given."""
    total: int
    """ReviewItems in all."""

    @abstractmethod
    def ranks(self, question: str) -> Mapping[str, int]:
        """Ranks of the answers to one of `questions`."""

    @abstractmethod
    def answer(self, verdict: Verdict, question: str) -> str:
        """Answer of a verdict to one of `questions`; empty for none."""

    @abstractmethod
    def outcome(self) -> dict[str, object]:
        """What came of it, for `to_dict`."""

    @abstractmethod
    def work_of(self, found: Sequence[Verdict]) -> dict[str, object]:
        """What one reviewer's verdicts add up to, for `to_dict`."""

    @abstractmethod
    def export(self, out: str | Path) -> Path:
        """Write the verdicts; the ending of the file says how."""

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Names of those who judged something, in alphabetical order."""
        return tuple(sorted({item.reviewer for found in self.verdicts.values() for item in found}))

    def agreement(self, question: str, *, seed: int = 0) -> Agreement | None:
        """Agreement on one of `questions`; None where nothing was answered by two."""
        names, ranks = self.reviewers, self.ranks(question)
        ratings = np.full((len(self.verdicts), len(names)), MISSING, np.int64)
        for row, found in enumerate(self.verdicts.values()):
            for item in found:
                ratings[row, names.index(item.reviewer)] = ranks.get(self.answer(item, question), MISSING)
        if not ((ratings >= 0).sum(axis=1) >= 2).any():
            return None
        return measure_agreement(ratings, categories=len(ranks), level=self.level, seed=seed)

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`: what each reviewer did, and how far they agree."""
        measured = {question: self.agreement(question) for question in self.questions}
        by_name = {
            name: [item for found in self.verdicts.values() for item in found if item.reviewer == name]
            for name in self.reviewers
        }
        return {
            self.noun: self.total,
            "judged": len(self.verdicts),
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
                question: None if found is None else found.to_dict() for question, found in measured.items()
            },
        }


def read_verdicts(
    reviewed: str | Path, known: Sequence[str], *, subject: str = ""
) -> dict[str, list[Verdict]]:
    """
    Read the verdicts that lie beside a patch table or a sample, those on known things only.

    Parameters
    ----------
    subject : str
        Of the log; see `tesela.web.log.VerdictLog.bind`.

    Raises
    ------
    InputError
        If there are none, or they are on another subject.
    """
    path = log_path(reviewed)
    if not path.exists():
        raise InputError(
            f"{reviewed}: nobody has reviewed it ({path.name} is not there). Run tesela review first."
        )
    ids = set(known)
    with VerdictLog(path) as log:
        log.bind(subject)
        return {thing: items for thing, items in last_words(log.standing()).items() if thing in ids}
