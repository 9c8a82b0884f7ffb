"""Review of proposed changes: the proposals of an update's queue as review items, and the decisions on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError, unknown_name
from tesela.core.legend import LandClass, Legend
from tesela.core.scene import Scene
from tesela.io.update_queue import ClassChoice, UpdateQueue, outcome, read_queue, write_decisions
from tesela.web.framed_pictures import FramedPictures
from tesela.web.log import VerdictLog
from tesela.web.pictures import describe_position
from tesela.web.point_interpretation import agreed_response
from tesela.web.review_results import CodeResults, read_verdicts
from tesela.web.verdicts import Verdict, by_item

_SIDE_FRAMES, _HOME_FRAMES = 4.0, 1.6
"""Least side of a picture, and width of the first view, in sides of the frame around a change."""

_MOST_CLASSES = 254
"""Values of a legend."""


class ChangeItems:
    """The proposals of a queue inside at least one scene; see `tesela.web.review.ReviewItems`."""

    noun = "change"
    template = "review_change.html"
    default_order = "urgency"

    def __init__(self, path: str | Path, scenes: Sequence[Scene]) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.queue = read_queue(path)
        if not len(self.queue.proposals):
            raise InputError(f"{path}: proposes no change; there is nothing to review.")
        if not scenes:
            raise InputError(
                f"{path}: name the imagery in which to look (--image FILE; two dates: repeat it)."
            )
        self.subject = fingerprint(self.queue)
        self._choices = {item.code: item for item in self.queue.choices}
        self.legend = _legend(self.queue)
        self._at = {item_id: k for k, item_id in enumerate(self.queue.ids)}
        shapes = self.queue.proposals.geometry
        self._crs = str(shapes.crs.to_wkt())
        self._pictures = FramedPictures(
            scenes, _frames(shapes.to_numpy()), self._crs, side_frames=_SIDE_FRAMES, home_frames=_HOME_FRAMES
        )
        shown = self._pictures.shown
        if not shown.any():
            raise InputError(
                f"No change of {path} is inside the imagery. Does it cover the area of the queue?"
            )
        self._order = [item_id for item_id, seen in zip(self.queue.ids, shown, strict=True) if seen]
        self._ids = frozenset(self._order)
        self._polygons = self.queue.outlines()
        lost = len(shown) - len(self._order)
        self.notes: Sequence[str] = (
            [f"{lost} of {len(shown)} changes are outside the imagery and are not shown."] if lost else []
        )

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._ids

    def order(self, name: str, *, seed: int, rated: Set[str]) -> list[str]:
        """
        The most urgent first.

        Proposals that another program has decided in the file are left out.
        """
        if name != self.default_order:
            raise InputError(
                f"A queue has its own order. {unknown_name('order', name, [self.default_order])}"
            )
        decided = self.queue.proposals["decision"].to_numpy(object) != ""
        elsewhere = {item_id for item_id, done in zip(self.queue.ids, decided, strict=True) if done} - rated
        return [item_id for item_id in self._order if item_id not in elsewhere]

    def item(self, item_id: str) -> dict[str, object]:
        """Old and new class of a proposal, its outline and that of the whole polygon, and the views of its scenes."""
        at = self._at[item_id]
        row = self.queue.proposals.iloc[at]
        views = self._pictures.views(at)
        first = [view for view in views if view.endswith("image")]
        middle = shapely.get_coordinates(shapely.centroid(row.geometry))[0]
        extents = self._pictures.extents(at)
        polygon = self._polygons.loc[row["feature"]]
        for name, extent in extents.items():
            extent["part"] = self._rings(name, at, row.geometry)
            extent["polygon"] = self._rings(name, at, polygon.geometry)
        return {
            "id": item_id,
            "where": [
                f"rank {row['rank']}",
                str(row["verdict"]),
                f"polygon {row['feature']}",
                *(f"{name} {value}" for name, value in polygon.drop("geometry").dropna().items()),
            ],
            "views": {view: views[view] for view in [*first, *(view for view in views if view not in first)]},
            "extents": extents,
            "old": self._class(str(row["old_code"])),
            "new": self._class(str(row["new_code"])) if row["new_code"] else None,
            "area_ha": round(float(row["area_ha"]), 2),
            "share": round(float(row["share"]), 3),
            **describe_position(float(middle[0]), float(middle[1]), crs=self._crs),
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery around a change."""
        return self._pictures.draw(self._at[item_id], view)

    def labels(self, item_id: str) -> None:
        """None: the page draws outlines."""

    def check(self, verdict: Verdict) -> None:
        """A proposal gets a code of the old map."""
        if verdict.action != "rate" or verdict.reference in self._choices:
            return
        old_code = self.queue.proposals.iloc[self._at[verdict.item_id]]["old_code"]
        if verdict.reference != old_code:
            raise InputError(
                "This decision cannot be stored: "
                + unknown_name("code", verdict.reference or verdict.answer, list(self._choices))
            )

    def write_back(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Write the decisions in the log to the field `decision` of the proposals."""
        given = by_item(log.standing())
        try:
            write_decisions(self.path, _decisions({i: given.get(i, []) for i in changed if i in self._at}))
        except InputError as error:
            return f"{error} The decisions are safe in {log.path.name} and are written to the queue later."
        return ""

    def extras(self) -> Mapping[str, object]:
        """The classes."""
        return {"classes": self.legend.classes}

    def _class(self, code: str) -> dict[str, str]:
        choice = self._choices.get(code, ClassChoice(code, code, "#888888"))
        return {"code": choice.code, "name": choice.name, "color": choice.color}

    def _rings(self, name: str, at: int, shape: shapely.Geometry) -> list[list[list[float]]]:
        rings = shapely.get_rings(shapely.get_parts(shape))
        placed = [self._pictures.outline(name, at, shapely.get_coordinates(ring)) for ring in rings]
        return [np.round(points, 2).tolist() for points in placed]


def fingerprint(queue: UpdateQueue) -> str:
    """Subject of the log: a queue that was made anew has other proposals under the same ids."""
    frame = queue.proposals
    digest = hashlib.sha256()
    for name in ("feature", "old_code", "new_code", "area_ha"):
        digest.update(repr(frame[name].tolist()).encode())
    return digest.hexdigest()[:16]


def _frames(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n, 4, 2) corners of the squares around shapes."""
    left, bottom, right, top = shapely.bounds(shapes).T
    middle = np.stack([left + right, bottom + top], axis=1) / 2
    half = np.maximum(right - left, top - bottom)[:, np.newaxis] / 2
    turns = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)])
    return np.asarray(middle[:, np.newaxis] + turns * half[:, np.newaxis])


def _legend(queue: UpdateQueue) -> Legend:
    """The codes that ground can get; where there are too many, those of the proposals first."""
    used = {*queue.proposals["old_code"], *queue.proposals["new_code"]}
    choices = sorted(queue.choices, key=lambda item: item.code not in used)[:_MOST_CLASSES]
    kept = {item.code for item in choices}
    listed = [item for item in queue.choices if item.code in kept]
    classes = tuple(LandClass(k, item.code, item.name, item.color) for k, item in enumerate(listed, start=1))
    return Legend(queue.path.stem, classes)


@dataclass(frozen=True)
class ChangeDecisions(CodeResults):
    """The decisions of all reviewers on the proposals of a queue."""

    noun = "changes"
    kind = "decisions"
    columns = (
        "proposal",
        "feature",
        "reviewer",
        "old_code",
        "new_code",
        "decision",
        "outcome",
        "confidence",
        "note",
        "flag",
        "seconds",
        "at",
    )

    queue: UpdateQueue

    def outcome(self) -> dict[str, object]:
        """Proposals by what became of them."""
        return {"outcomes": dict(sorted(Counter(str(row[6]) for row in self.rows()).items()))}

    @property
    def geopackage(self) -> Path:
        """The queue."""
        return self.queue.path

    def write_into(self, path: Path) -> None:
        """Write the decisions into the queue, as `tesela update apply` takes it."""
        write_decisions(path, _decisions(self.verdicts))

    def rows(self) -> list[tuple[object, ...]]:
        """One row per proposal and reviewer."""
        frame = self.queue.proposals
        rows: list[tuple[object, ...]] = []
        for item_id, given in self.verdicts.items():
            row = frame.loc[int(item_id)]
            codes = row["old_code"], row["new_code"]
            for item in given:
                what = outcome(*(np.array([code], object) for code in (*codes, item.answer)))[0]
                rows.append(
                    (
                        item_id, int(row["feature"]), item.reviewer, *codes, item.answer, what, item.confidence,
                        item.note, int(item.flag), item.seconds, item.at,
                    )
                )  # fmt: skip
        return rows


def read_change_decisions(path: str | Path) -> ChangeDecisions:
    """
    Read a queue and the decisions in its log.

    Raises
    ------
    InputError
        If there are none, or the log belongs to another queue.
    """
    queue = read_queue(path)
    verdicts = read_verdicts(path, queue.ids, subject=fingerprint(queue))
    return ChangeDecisions(verdicts, len(queue.ids), queue)


def _decisions(verdicts: Mapping[str, Sequence[Verdict]]) -> dict[str, tuple[str, str]]:
    """Code and note by proposal; empty without a verdict."""
    agreed = {item_id: agreed_response(given) for item_id, given in verdicts.items()}
    return {item_id: (item.reference, item.note) for item_id, item in agreed.items()}
