"""What came of a review: the verdicts as tiers of the patch table, as CSV and GeoPackage, and how far people agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from tesela.core.errors import InputError, join_words
from tesela.evaluation.agreement import MISSING, Agreement, measure_agreement
from tesela.io.tables import write_csv, write_geopackage
from tesela.patches.table import QUALITIES, PatchTable, read_patches
from tesela.patches.tiers import REVIEW, with_tiers
from tesela.web.verdicts import ANSWERS, Verdict, VerdictLog, last_words, log_path

QUESTIONS = ("quality", "label", "boundary")
"""What agreement is measured on."""

_COLUMNS = (
    "patch_id", "reviewer", "quality", "label", "boundary", "reasons", "note", "flag", "confidence", "seconds", "at",
)  # fmt: skip


@dataclass(frozen=True)
class Review:
    """The verdicts on a patch table that stand, those of all reviewers."""

    table: PatchTable
    verdicts: Mapping[str, Sequence[Verdict]]
    """By patch, patches of the table only, in the order in which they were given."""

    @property
    def tiers(self) -> dict[str, str]:
        """
        Tier of each patch that was judged.

        Of several reviewers' tiers it is the median, and of an even number the worse of the two in the middle: a
        patch teaches only where most say that it may.
        """
        return {
            patch: QUALITIES[_worse_median([QUALITIES.index(str(item.tier)) for item in found])]
            for patch, found in self.verdicts.items()
        }

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Names of those who judged something, in alphabetical order."""
        return tuple(sorted({item.reviewer for found in self.verdicts.values() for item in found}))

    def agreement(self, question: str, *, seed: int = 0) -> Agreement | None:
        """Agreement on one of `QUESTIONS`; None where nothing was answered by two."""
        names = self.reviewers
        ratings = np.full((len(self.verdicts), len(names)), MISSING, np.int64)
        for row, found in enumerate(self.verdicts.values()):
            for item in found:
                ratings[row, names.index(item.reviewer)] = _rank(item, question)
        if not ((ratings >= 0).sum(axis=1) >= 2).any():
            return None
        return measure_agreement(ratings, categories=len(QUALITIES), seed=seed)

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`: what each reviewer did, and how far they agree."""
        measured = {question: self.agreement(question) for question in QUESTIONS}
        return {
            "patches": len(self.table),
            "judged": len(self.verdicts),
            "tiers": {tier: sum(found == tier for found in self.tiers.values()) for tier in QUALITIES},
            "reviewers": {name: self._work_of(name) for name in self.reviewers},
            "agreement": {
                question: None if found is None else found.to_dict() for question, found in measured.items()
            },
        }

    def _work_of(self, reviewer: str) -> dict[str, object]:
        mine = [item for found in self.verdicts.values() for item in found if item.reviewer == reviewer]
        return {
            "patches": len(mine),
            **{tier: sum(item.tier == tier for item in mine) for tier in QUALITIES},
            "flagged": sum(item.flag for item in mine),
            "median_seconds": round(median(item.seconds for item in mine), 2),
        }


def read_review(table_path: str | Path) -> Review:
    """
    Read a patch table and the verdicts that lie beside it.

    Raises
    ------
    InputError
        If there are none.
    """
    table = read_patches(table_path)
    path = log_path(table_path)
    if not path.exists():
        raise InputError(
            f"{table_path}: nobody has reviewed it ({path.name} is not there). Run tesela review first."
        )
    known = set(table.frame["patch_id"].astype(str))
    with VerdictLog(path) as log:
        found = {patch: items for patch, items in last_words(log.standing()).items() if patch in known}
    return Review(table, found)


def export_review(review: Review, out: str | Path) -> Path:
    """
    Write the verdicts; the ending of the file says how.

    ``.parquet``: the patch table with the columns quality and quality_source ("review"), which
    ``split_patches(how="quality")`` reads. ``.csv``: one row per patch and reviewer. ``.gpkg``: the layer patches with
    footprints and tiers, and the table verdicts.

    Raises
    ------
    InputError
        If the ending is another, or no verdict stands.
    """
    path = Path(out)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{out}: verdicts are written to files that end in {join_words(_WRITERS)}.")
    if not review.verdicts:
        raise InputError(f"There is no verdict to write to {out}: none stands. Review some patches first.")
    return _WRITERS[path.suffix.lower()](review, path)


def _write_table(review: Review, path: Path) -> Path:
    return with_tiers(review.table, review.tiers, source=REVIEW).write(path)


def _write_csv(review: Review, path: Path) -> Path:
    return write_csv(path, _COLUMNS, _rows(review))


def _write_geopackage(review: Review, path: Path) -> Path:
    import pandas as pd

    judged = with_tiers(review.table, review.tiers, source=REVIEW).frame
    columns = ["patch_id", "scene", "row", "col", "quality", "quality_source"]
    frame = judged[[*columns, "geometry"]].copy()
    found = [review.verdicts.get(str(patch), ()) for patch in frame["patch_id"]]
    frame.insert(len(columns), "verdicts", [len(items) for items in found])
    frame.insert(len(columns) + 1, "reasons", [_joined(items, "reasons") for items in found])
    frame.insert(len(columns) + 2, "flag", [any(item.flag for item in items) for items in found])
    frame.insert(
        len(columns) + 3, "note", ["; ".join(item.note for item in items if item.note) for items in found]
    )
    verdicts = pd.DataFrame(_rows(review), columns=list(_COLUMNS))
    return write_geopackage(path, {"patches": frame, "verdicts": verdicts})


_WRITERS = {".parquet": _write_table, ".csv": _write_csv, ".gpkg": _write_geopackage}


def _rows(review: Review) -> list[tuple[object, ...]]:
    return [
        (
            item.patch_id,
            item.reviewer,
            item.tier,
            "" if item.label is None else ANSWERS[item.label - 1],
            "" if item.boundary is None else ANSWERS[item.boundary - 1],
            " ".join(item.reasons),
            item.note,
            int(item.flag),
            item.confidence,
            item.seconds,
            item.at,
        )
        for found in review.verdicts.values()
        for item in found
    ]


def _joined(items: Sequence[Verdict], field: str) -> str:
    return " ".join(sorted({code for item in items for code in getattr(item, field)}))


def _rank(item: Verdict, question: str) -> int:
    if question == "quality":
        return QUALITIES.index(str(item.tier))
    answer = item.label if question == "label" else item.boundary
    return MISSING if answer is None else answer - 1


def _worse_median(ranks: Sequence[int]) -> int:
    return sorted(ranks)[len(ranks) // 2]
