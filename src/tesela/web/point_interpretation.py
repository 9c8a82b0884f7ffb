"""Interpretation of a sample: its points as review items without class or stratum of the map, and the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tesela.core.errors import InputError, unknown_name
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.sampling.interpretation import Response, read_points, write_responses
from tesela.web.framed_pictures import FramedPictures
from tesela.web.log import VerdictLog
from tesela.web.pictures import describe_position
from tesela.web.review_results import CodeResults, read_verdicts
from tesela.web.verdicts import Verdict, by_item

_SIDE_FRAMES, _HOME_FRAMES = 16, 5.0
"""Least side of a picture, and width of the first view, in sides of the interpreted pixel."""


class PointItems:
    """The points of a sample inside at least one scene; see `tesela.web.review.ReviewItems`."""

    noun = "point"
    template = "review_point.html"
    default_order = "random"

    def __init__(self, path: str | Path, scenes: Sequence[Scene], *, legend: Legend | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.points = read_points(path)
        self.subject = self.points.fingerprint
        classes = legend or self.points.legend
        if classes is None:
            raise InputError(f"{path} has no list of classes. Name the legend (--legend).")
        if not scenes:
            raise InputError(f"{path}: name the imagery to interpret (--image FILE, repeatable).")
        self.legend = classes
        self._at = {item_id: k for k, item_id in enumerate(self.points.ids)}
        self._pictures = FramedPictures(
            scenes,
            self.points.corners,
            self.points.crs,
            side_frames=_SIDE_FRAMES,
            home_frames=_HOME_FRAMES,
        )
        shown = self._pictures.shown
        if not shown.any():
            raise InputError(
                f"No point of {path} is inside the imagery. Does it cover the area of the sample?"
            )
        self._order = [item_id for item_id, seen in zip(self.points.ids, shown, strict=True) if seen]
        lost = len(shown) - len(self._order)
        self.notes: Sequence[str] = (
            [f"{lost} of {len(shown)} points are outside the imagery and are not shown."] if lost else []
        )
        self._ids = frozenset(self._order)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._ids

    def order(self, name: str, *, seed: int, rated: Set[str]) -> list[str]:
        """
        The random order of the sample, in which the first points always form a valid sample.

        Points that another program has answered in the file are left out.
        """
        if name != "random":
            raise InputError(f"A sample has its own order. {unknown_name('order', name, ['random'])}")
        answered = {item_id for item_id, code in self.points.references.items() if code} - rated
        return [item_id for item_id in self._order if item_id not in answered]

    def item(self, item_id: str) -> dict[str, object]:
        """Position of the point, and the views of its scenes."""
        at = self._at[item_id]
        return {
            "id": item_id,
            "where": [f"point {item_id}"],
            "views": self._pictures.views(at),
            "extents": self._pictures.extents(at),
            "side_m": self.points.side_m,
            **describe_position(self.points.x[at], self.points.y[at], crs=self.points.crs),
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery around a point."""
        return self._pictures.draw(self._at[item_id], view)

    def labels(self, item_id: str) -> None:
        """None, because the class of the map stays hidden."""

    def check(self, verdict: Verdict) -> None:
        """A point gets a class of the legend."""
        if verdict.action == "rate" and verdict.reference not in self.legend:
            raise InputError(
                "This verdict cannot be stored: "
                + unknown_name("class", verdict.reference or verdict.answer, self.legend.codes)
            )

    def write_back(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Write the answers in the log to the field `reference` of the sample."""
        try:
            write_responses(
                self.path,
                lambda: {
                    item_id: agreed_response(given.get(item_id, ()))
                    for given in [by_item(log.standing())]
                    for item_id in changed
                    if item_id in self._at
                },
            )
        except InputError as error:
            return f"{error} The answers are safe in {log.path.name} and are written to the sample later."
        return ""

    def extras(self) -> Mapping[str, object]:
        """The classes."""
        return {"classes": self.legend.classes}


@dataclass(frozen=True)
class Interpretation(CodeResults):
    """The answers of all interpreters to the points of a sample."""

    noun = "points"
    kind = "answers"
    columns = ("sample_id", "interpreter", "reference", "confidence", "note", "flag", "seconds", "at")

    path: Path
    """The sample."""

    def outcome(self) -> dict[str, object]:
        """Number of points with different answers."""
        differ = [len({item.answer for item in given}) > 1 for given in self.verdicts.values()]
        return {"differing": sum(differ)}

    @property
    def geopackage(self) -> Path:
        """The sample."""
        return self.path

    def write_into(self, path: Path) -> None:
        """Write the answers into the sample."""
        write_responses(
            path, lambda: {item_id: agreed_response(given) for item_id, given in self.verdicts.items()}
        )

    def rows(self) -> list[tuple[object, ...]]:
        """One row per point and interpreter."""
        return [
            (
                item.item_id, item.reviewer, item.reference, item.confidence, item.note, int(item.flag),
                item.seconds, item.at,
            )
            for given in self.verdicts.values()
            for item in given
        ]  # fmt: skip


def read_interpretation(path: str | Path) -> Interpretation:
    """
    Read a sample and the answers in its log.

    Raises
    ------
    InputError
        If there are none, or the log belongs to another sample.
    """
    points = read_points(path)
    verdicts = read_verdicts(path, points.ids, subject=points.fingerprint)
    return Interpretation(verdicts, len(points.ids), Path(path))


def agreed_response(verdicts: Sequence[Verdict]) -> Response:
    """
    Combine the answers of all interpreters of a point.

    The class with most votes is the answer; of classes with equal votes, the one with the highest mean confidence
    (a missing confidence counts as 50 %), then the first. A point always gets an answer, also if interpreters differ:
    without the difficult points the accuracy of the map would be overestimated.

    Examples
    --------
    >>> agreed_response(())
    Response(reference='', confidence='', note='')
    """
    if not verdicts:
        return Response()
    votes = Counter(item.answer for item in verdicts)

    def weight(code: str) -> tuple[int, float]:
        return votes[code], sum(_confidence(item) for item in verdicts if item.answer == code)

    best = max(votes, key=weight)
    given = [item.confidence for item in verdicts if item.answer == best and item.confidence is not None]
    notes = [item.note for item in verdicts if item.note]
    if len(votes) > 1:
        notes.append("interpreters differ: " + ", ".join(f"{code} {count}" for code, count in votes.items()))
    return Response(best, str(round(sum(given) / len(given))) if given else "", "; ".join(notes))


def _confidence(verdict: Verdict) -> float:
    return 50.0 if verdict.confidence is None else float(verdict.confidence)
