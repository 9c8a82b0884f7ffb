"""The interpretation of a sample: one answer a point from those of all interpreters, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.io.tables import copy_geopackage, write_csv
from tesela.sampling.interpretation import Answer, read_points, write_answers
from tesela.web.review_results import ReviewResults, read_verdicts
from tesela.web.verdicts import Verdict

_COLUMNS = ("sample_id", "interpreter", "reference", "confidence", "note", "flag", "seconds", "at")


@dataclass(frozen=True)
class Interpretation(ReviewResults):
    """What interpreters said of the points of a sample."""

    noun = "points"
    questions = ("class",)
    level = "nominal"

    path: Path
    """The sample."""

    def ranks(self, question: str) -> Mapping[str, int]:
        """Places of the classes that were seen; they have no order."""
        seen = sorted({item.answer for found in self.verdicts.values() for item in found})
        return {code: place for place, code in enumerate(seen)}

    def answer(self, verdict: Verdict, question: str) -> str:
        """Class that was seen."""
        return verdict.answer

    def outcome(self) -> dict[str, object]:
        """Points whose interpreters differ."""
        split = [len({item.answer for item in found}) > 1 for found in self.verdicts.values()]
        return {"differing": sum(split)}

    def work_of(self, found: Sequence[Verdict]) -> dict[str, object]:
        """Points by class."""
        return {"classes": dict(sorted(Counter(item.answer for item in found).items()))}

    def export(self, out: str | Path) -> Path:
        """
        Write the answers: ``.csv`` has a row per point and interpreter; ``.gpkg`` is the sample with its answers.

        Raises
        ------
        InputError
            If the ending is another, or nobody has answered.
        """
        path = Path(out)
        if path.suffix.lower() not in (".csv", ".gpkg"):
            raise InputError(f"{out}: answers are written to files that end in .csv or .gpkg.")
        if not self.verdicts:
            raise InputError(f"There is no answer to write to {out}: none stands.")
        if path.suffix.lower() == ".csv":
            return write_csv(path, _COLUMNS, self._rows())
        found = {item_id: agreed_answer(said) for item_id, said in self.verdicts.items()}
        if path.exists() and path.samefile(self.path):
            write_answers(path, lambda: found)
            return path
        with write_whole(path) as part:
            copy_geopackage(self.path, part)
            write_answers(part, lambda: found)
        return path

    def _rows(self) -> list[tuple[object, ...]]:
        return [
            (
                item.item_id, item.reviewer, item.reference, item.confidence, item.note, int(item.flag),
                item.seconds, item.at,
            )
            for found in self.verdicts.values()
            for item in found
        ]  # fmt: skip


def read_interpretation(path: str | Path) -> Interpretation:
    """
    Read a sample and the answers that lie beside it.

    Raises
    ------
    InputError
        If there are none, or they are those of another sample.
    """
    points = read_points(path)
    verdicts = read_verdicts(path, points.ids, subject=points.fingerprint)
    return Interpretation(verdicts, len(points.ids), Path(path))


def agreed_answer(said: Sequence[Verdict]) -> Answer:
    """
    One answer from those of all interpreters of a point.

    The class that most name stands; where two are named by as many, the one whose interpreters were surer in the
    mean (who said nothing of it counts as half sure), and then the one that was named first. A point is never left
    without an answer because people differ: hard points left out would make the map look better than it is.

    Examples
    --------
    >>> agreed_answer(())
    Answer(reference='', confidence='', note='')
    """
    if not said:
        return Answer()
    votes = Counter(item.answer for item in said)

    def weight(code: str) -> tuple[int, float]:
        return votes[code], sum(_sureness(item) for item in said if item.answer == code)

    best = max(votes, key=weight)
    sure = [item.confidence for item in said if item.answer == best and item.confidence is not None]
    notes = [item.note for item in said if item.note]
    if len(votes) > 1:
        notes.append("interpreters differ: " + ", ".join(f"{code} {count}" for code, count in votes.items()))
    return Answer(best, str(round(sum(sure) / len(sure))) if sure else "", "; ".join(notes))


def _sureness(verdict: Verdict) -> float:
    return 50.0 if verdict.confidence is None else float(verdict.confidence)
