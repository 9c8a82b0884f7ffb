"""The review of a patch table: its verdicts as tiers of the table, as CSV and as GeoPackage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.io.tables import write_csv, write_geopackage
from tesela.patches.quality_classes import REVIEW, with_tiers
from tesela.patches.table import QUALITIES, PatchTable, read_patches
from tesela.web.review_results import ReviewResults, read_verdicts
from tesela.web.verdicts import ANSWERS, Verdict

_COLUMNS = (
    "patch_id", "reviewer", "quality", "label", "boundary", "reasons", "note", "flag", "confidence", "seconds", "at",
)  # fmt: skip


@dataclass(frozen=True)
class Review(ReviewResults):
    """The verdicts on a patch table that stand, those of all reviewers."""

    noun = "patches"
    questions = ("quality", "label", "boundary")
    level = "ordinal"

    table: PatchTable

    @property
    def tiers(self) -> dict[str, str]:
        """
        Tier of each patch that was judged.

        Of several reviewers' tiers it is the median, and of an even number the worse of the two in the middle: a
        patch teaches only where most say that it may.
        """
        return {
            patch: QUALITIES[_worse_median([QUALITIES.index(item.answer) for item in found])]
            for patch, found in self.verdicts.items()
        }

    def ranks(self, question: str) -> Mapping[str, int]:
        """Best first."""
        return {name: rank for rank, name in enumerate(QUALITIES if question == "quality" else ANSWERS)}

    def answer(self, verdict: Verdict, question: str) -> str:
        """Tier, or answer to a question."""
        if question == "quality":
            return verdict.answer
        return _word(verdict.label if question == "label" else verdict.boundary)

    def outcome(self) -> dict[str, object]:
        """Patches by tier."""
        return {"tiers": _by_tier(list(self.tiers.values()))}

    def work_of(self, found: Sequence[Verdict]) -> dict[str, object]:
        """Patches by tier."""
        return {**_by_tier([item.answer for item in found])}

    def export(self, out: str | Path) -> Path:
        """
        Write the verdicts; the ending of the file says how.

        ``.parquet``: the patch table with the columns quality and quality_source ("review"), which
        ``split_patches(how="quality")`` reads. ``.csv``: one row per patch and reviewer. ``.gpkg``: the layer patches
        with footprints and tiers, and the table verdicts.

        Raises
        ------
        InputError
            If the ending is another, or no verdict stands.
        """
        path = Path(out)
        if path.suffix.lower() not in _WRITERS:
            raise InputError(f"{out}: verdicts are written to files that end in {join_words(_WRITERS)}.")
        if not self.verdicts:
            raise InputError(
                f"There is no verdict to write to {out}: none stands. Review some patches first."
            )
        return _WRITERS[path.suffix.lower()](self, path)


def read_review(table_path: str | Path) -> Review:
    """
    Read a patch table and the verdicts that lie beside it.

    Raises
    ------
    InputError
        If there are none.
    """
    table = read_patches(table_path)
    return Review(read_verdicts(table_path, [str(one) for one in table.frame["patch_id"]]), len(table), table)


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
            item.item_id,
            item.reviewer,
            item.tier,
            _word(item.label),
            _word(item.boundary),
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


def _word(answer: int | None) -> str:
    return "" if answer is None else ANSWERS[answer - 1]


def _by_tier(found: Sequence[str]) -> dict[str, int]:
    return {tier: found.count(tier) for tier in QUALITIES}


def _worse_median(ranks: Sequence[int]) -> int:
    return sorted(ranks)[len(ranks) // 2]
