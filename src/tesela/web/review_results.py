"""Review results: the valid verdicts on the items of a review, their reviewers, and the agreement of reviewers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, Literal

import numpy as np

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.io.tables import copy_geopackage, write_csv
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


class CodeResults(ReviewResults):
    """Results whose answers are codes of classes, kept in a GeoPackage: a sample of points, or a queue of changes."""

    questions = ("class",)
    level = "nominal"
    kind: ClassVar[str]
    """Name of the answers, in the plural."""
    columns: ClassVar[tuple[str, ...]]
    """Columns of `rows`."""

    @property
    @abstractmethod
    def geopackage(self) -> Path:
        """The sample or queue."""

    @abstractmethod
    def rows(self) -> list[tuple[object, ...]]:
        """One row per item and reviewer, with the values of `columns`."""

    @abstractmethod
    def write_into(self, path: Path) -> None:
        """Write the answers into the GeoPackage, or into a copy of it."""

    def ranks(self, question: str) -> Mapping[str, int]:
        """Numbers of the codes in the answers; codes have no order."""
        codes = sorted({item.answer for given in self.verdicts.values() for item in given})
        return {code: number for number, code in enumerate(codes)}

    def answer(self, verdict: Verdict, question: str) -> str:
        """Code of the class."""
        return verdict.answer

    def work_of(self, verdicts: Sequence[Verdict]) -> dict[str, object]:
        """Answers by code."""
        return {"classes": dict(sorted(Counter(item.answer for item in verdicts).items()))}

    def export(self, out: str | Path) -> Path:
        """
        Write the answers: ``.csv`` has one row per item and reviewer; ``.gpkg`` is the GeoPackage with its answers.

        Raises
        ------
        InputError
            If the extension is another, or there is no answer.
        """
        path = Path(out)
        if path.suffix.lower() not in (".csv", ".gpkg"):
            raise InputError(f"{out}: {self.kind} are written to files with the extension .csv or .gpkg.")
        if not self.verdicts:
            raise InputError(f"There are no {self.kind} to write to {out}.")
        if path.suffix.lower() == ".csv":
            return write_csv(path, self.columns, self.rows())
        if path.exists() and path.samefile(self.geopackage):
            self.write_into(path)
            return path
        with write_whole(path) as part:
            copy_geopackage(self.geopackage, part)
            self.write_into(part)
        return path


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
