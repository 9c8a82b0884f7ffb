"""Interpretation of a sample: its points as review items without class or stratum of the map, and the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, unknown_name
from tesela.core.grid import crs_of, window_grid
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.manifest import write_whole
from tesela.io.tables import copy_geopackage, write_csv
from tesela.sampling.interpretation import Response, read_points, write_responses
from tesela.web.log import VerdictLog
from tesela.web.pictures import BytesCache, PictureExtent, Point, ScenePictures, describe_position
from tesela.web.review_results import ReviewResults, read_verdicts
from tesela.web.verdicts import Verdict, by_item

_MIN_SIDE_PX = 256
"""Least side of a picture in pixels of the scene."""

_MIN_SIDE_FRAMES = 16
"""Least side of a picture in sides of the interpreted pixel."""

_MAX_SIDE_PX = 1024
"""Largest side of a picture; larger areas are drawn at a lower resolution."""

_HOME_PX, _HOME_FRAMES = 48.0, 5.0
"""Least width of the first view, in pixels of the picture and in sides of the interpreted pixel."""


class PointItems:
    """The points of a sample inside at least one scene; see `tesela.web.review.ReviewItems`."""

    noun = "point"
    template = "review_point.html"

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
        named = {f"{k}": scene for k, scene in enumerate(scenes)}
        self._several = len(named) > 1
        self._at = {item_id: k for k, item_id in enumerate(self.points.ids)}
        self._corners = {
            name: _pixels_of(self.points.corners, self.points.crs, s) for name, s in named.items()
        }
        self._pictures = ScenePictures(named, self._grids)
        self._cache = BytesCache()
        shown = np.any([self._inside(name) for name in named], axis=0)
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
        scenes = self._scenes(item_id)
        views = {
            f"{name} {view}": self._title(name, view)
            for name in scenes
            for view in self._pictures.views(name)
        }
        return {
            "id": item_id,
            "where": [f"point {item_id}"],
            "views": views,
            "extents": {name: self._extent(name, at)[0].to_dict() for name in scenes},
            "side_m": self.points.side_m,
            **describe_position(self.points.x[at], self.points.y[at], crs=self.points.crs),
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery around a point."""
        name, _, kind = view.partition(" ")
        if name not in self._scenes(item_id) or kind not in self._pictures.views(name):
            raise KeyError(view)
        grid = self._extent(name, self._at[item_id])[1]
        return self._cache.once((item_id, view), lambda: self._pictures.draw(name, kind, grid))

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

    def _title(self, name: str, view: str) -> str:
        title = {"image": "Natural", "infrared": "Infrared"}[view]
        scene = self._pictures.scenes[name]
        return f"{scene.date or scene.name} · {title.lower()}" if self._several else title

    def _scenes(self, item_id: str) -> list[str]:
        at = self._at[item_id]
        return [name for name in self._pictures.scenes if self._inside(name)[at]]

    def _inside(self, name: str) -> NDArray[np.bool_]:
        rows, cols = self._pictures.scenes[name].grid.shape
        col, row = self._corners[name].mean(axis=1).T
        return np.asarray((col >= 0) & (col < cols) & (row >= 0) & (row < rows))

    def _extent(self, name: str, at: int) -> tuple[PictureExtent, GeoBox]:
        """Extent of the picture of a point, in its own pixels, and its grid."""
        corners, grid = self._corners[name][at], self._pictures.scenes[name].grid
        frame = float(np.ptp(corners, axis=0).max())
        wide = max(_MIN_SIDE_PX, _MIN_SIDE_FRAMES * frame)
        scale = max(1.0, wide / _MAX_SIDE_PX)  # pixels of the scene in one of the picture
        side = round(wide / scale)
        col, row = np.floor(corners.mean(axis=0) - wide / 2)
        shown = window_grid(grid, int(row), int(col), side, side)
        if scale > 1:
            shown = GeoBox((side, side), shown.affine * Affine.scale(scale), grid.crs)
        here: tuple[Point, ...] = tuple((float(x), float(y)) for x, y in (corners - (col, row)) / scale)
        home = min(float(side), max(_HOME_PX, _HOME_FRAMES * frame / scale))
        return PictureExtent((0, 0), side, (here[0], here[1], here[2], here[3]), home), shown

    def _grids(self, name: str) -> list[GeoBox]:
        return [self._extent(name, int(at))[1] for at in np.flatnonzero(self._inside(name))]


def _pixels_of(corners: NDArray[np.float64], crs: str, scene: Scene) -> NDArray[np.float64]:
    """(points, 4, 2) corners as columns and rows of a scene, with fractions."""
    change = pyproj.Transformer.from_crs(crs, crs_of(scene.grid).to_wkt(), always_xy=True)
    x, y = change.transform(corners[..., 0], corners[..., 1])
    col, row = ~scene.grid.affine * (np.asarray(x), np.asarray(y))
    return np.stack([col, row], axis=-1)


_COLUMNS = ("sample_id", "interpreter", "reference", "confidence", "note", "flag", "seconds", "at")


@dataclass(frozen=True)
class Interpretation(ReviewResults):
    """The answers of all interpreters to the points of a sample."""

    noun = "points"
    questions = ("class",)
    level = "nominal"

    path: Path
    """The sample."""

    def ranks(self, question: str) -> Mapping[str, int]:
        """Numbers of the classes in the answers; classes have no order."""
        codes = sorted({item.answer for given in self.verdicts.values() for item in given})
        return {code: number for number, code in enumerate(codes)}

    def answer(self, verdict: Verdict, question: str) -> str:
        """Class of the point."""
        return verdict.answer

    def outcome(self) -> dict[str, object]:
        """Number of points with different answers."""
        differ = [len({item.answer for item in given}) > 1 for given in self.verdicts.values()]
        return {"differing": sum(differ)}

    def work_of(self, verdicts: Sequence[Verdict]) -> dict[str, object]:
        """Points by class."""
        return {"classes": dict(sorted(Counter(item.answer for item in verdicts).items()))}

    def export(self, out: str | Path) -> Path:
        """
        Write the answers: ``.csv`` has one row per point and interpreter; ``.gpkg`` is the sample with its answers.

        Raises
        ------
        InputError
            If the extension is another, or there is no answer.
        """
        path = Path(out)
        if path.suffix.lower() not in (".csv", ".gpkg"):
            raise InputError(f"{out}: answers are written to files with the extension .csv or .gpkg.")
        if not self.verdicts:
            raise InputError(f"There are no answers to write to {out}.")
        if path.suffix.lower() == ".csv":
            return write_csv(path, _COLUMNS, self._rows())
        responses = {item_id: agreed_response(given) for item_id, given in self.verdicts.items()}
        if path.exists() and path.samefile(self.path):
            write_responses(path, lambda: responses)
            return path
        with write_whole(path) as part:
            copy_geopackage(self.path, part)
            write_responses(part, lambda: responses)
        return path

    def _rows(self) -> list[tuple[object, ...]]:
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
