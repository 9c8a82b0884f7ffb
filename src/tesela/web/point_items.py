"""Points to judge: which class is seen at a point of a sample; the map's own class and the stratum stay hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
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
from tesela.sampling.interpretation import read_points, write_answers
from tesela.web.interpretation import agreed_answer
from tesela.web.log import VerdictLog
from tesela.web.pictures import KeptBytes, Place, Point, ScenePictures, name_place
from tesela.web.verdicts import Verdict, last_words

_AROUND_PX = 256
"""Side of a picture in pixels of the scene, at least."""

_AROUND_FRAMES = 16
"""Side of a picture in sides of the judged pixel, at least."""

_MOST_PX = 1024
"""Side of a picture at most; larger ground is drawn coarser."""

_HOME_PX, _HOME_FRAMES = 48.0, 5.0
"""Width that is seen at first, in pixels of the picture and in sides of the judged pixel, at least."""


class PointItems:
    """The points of a sample that lie in at least one scene; see `tesela.web.review.ReviewItems`."""

    noun = "point"
    template = "review_point.html"

    def __init__(self, path: str | Path, scenes: Sequence[Scene], *, legend: Legend | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.points = read_points(path)
        self.subject = self.points.fingerprint
        found = legend or self.points.legend
        if found is None:
            raise InputError(f"{path} does not say which classes there are. Name the legend (--legend).")
        if not scenes:
            raise InputError(f"{path}: name the imagery to look at (--image FILE, repeatable).")
        self.legend = found
        named = {f"{k}": scene for k, scene in enumerate(scenes)}
        self._several = len(named) > 1
        self._at = {item_id: k for k, item_id in enumerate(self.points.ids)}
        self._corners = {
            name: _pixels_of(self.points.corners, self.points.crs, s) for name, s in named.items()
        }
        self._pictures = ScenePictures(named, self._grids)
        self._kept = KeptBytes()
        shown = np.any([self._inside(name) for name in named], axis=0)
        if not shown.any():
            raise InputError(f"No point of {path} lies in the imagery. Is it of another place?")
        self._order = [item_id for item_id, seen in zip(self.points.ids, shown, strict=True) if seen]
        lost = len(shown) - len(self._order)
        self.notes: Sequence[str] = (
            [f"{lost} of {len(shown)} points lie outside the imagery and are not shown."] if lost else []
        )
        self._known = frozenset(self._order)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._known

    def order(self, name: str, *, seed: int, judged: Set[str]) -> list[str]:
        """
        The sample's own random order, in which every beginning is a valid sample.

        Answers that the file had from elsewhere stand: their points are not asked again.
        """
        if name != "random":
            raise InputError(
                f"A sample is judged in its own order. {unknown_name('order', name, ['random'])}"
            )
        answered = {item_id for item_id, code in self.points.references.items() if code} - judged
        return [item_id for item_id in self._order if item_id not in answered]

    def item(self, item_id: str) -> dict[str, object]:
        """Where the point lies, and the views of the scenes that show it."""
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
            "places": {name: self._place(name, at)[0].to_dict() for name in scenes},
            "side_m": self.points.side_m,
            **name_place(self.points.x[at], self.points.y[at], crs=self.points.crs),
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery around a point."""
        name, _, kind = view.partition(" ")
        if name not in self._scenes(item_id) or kind not in self._pictures.views(name):
            raise KeyError(view)
        grid = self._place(name, self._at[item_id])[1]
        return self._kept.once((item_id, view), lambda: self._pictures.draw(name, kind, grid))

    def labels(self, item_id: str) -> None:
        """The map's class stays hidden."""

    def check(self, verdict: Verdict) -> None:
        """A point is given a class of the legend."""
        if verdict.action == "judge" and verdict.reference not in self.legend:
            raise InputError(
                "This verdict cannot be kept: "
                + unknown_name("class", verdict.reference or verdict.answer, self.legend.codes)
            )

    def keep(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Write what the log says of the points into the sample's field `reference`."""
        try:
            write_answers(
                self.path,
                lambda: {
                    item_id: agreed_answer(said.get(item_id, ()))
                    for said in [last_words(log.standing())]
                    for item_id in changed
                    if item_id in self._at
                },
            )
        except InputError as error:
            return f"{error} The answers are safe in {log.path.name} and go there later."
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

    def _place(self, name: str, at: int) -> tuple[Place, GeoBox]:
        """What the picture of a point shows, in its own pixels, and the grid that it is read on."""
        corners, grid = self._corners[name][at], self._pictures.scenes[name].grid
        frame = float(np.ptp(corners, axis=0).max())
        wide = max(_AROUND_PX, _AROUND_FRAMES * frame)
        scale = max(1.0, wide / _MOST_PX)  # pixels of the scene in one of the picture
        side = round(wide / scale)
        col, row = np.floor(corners.mean(axis=0) - wide / 2)
        shown = window_grid(grid, int(row), int(col), side, side)
        if scale > 1:
            shown = GeoBox((side, side), shown.affine * Affine.scale(scale), grid.crs)
        here: tuple[Point, ...] = tuple((float(x), float(y)) for x, y in (corners - (col, row)) / scale)
        home = min(float(side), max(_HOME_PX, _HOME_FRAMES * frame / scale))
        return Place((0, 0), side, (here[0], here[1], here[2], here[3]), home), shown

    def _grids(self, name: str) -> list[GeoBox]:
        return [self._place(name, int(at))[1] for at in np.flatnonzero(self._inside(name))]


def _pixels_of(corners: NDArray[np.float64], crs: str, scene: Scene) -> NDArray[np.float64]:
    """(points, 4, 2) corners as columns and rows of a scene, with fractions."""
    change = pyproj.Transformer.from_crs(crs, crs_of(scene.grid).to_wkt(), always_xy=True)
    x, y = change.transform(corners[..., 0], corners[..., 1])
    col, row = ~scene.grid.affine * (np.asarray(x), np.asarray(y))
    return np.stack([col, row], axis=-1)
