"""Patches to judge: whether the labels of a patch are right, and their boundaries."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, unknown_name
from tesela.core.grid import window_grid
from tesela.io.maps import ClassMap, MapReader
from tesela.patches.table import PatchTable, read_patches
from tesela.web.log import VerdictLog
from tesela.web.pictures import KeptBytes, Place, ScenePictures, centre_of
from tesela.web.verdicts import ANSWERS, REASONS, Verdict

_TITLES = {"image": "Natural", "infrared": "Infrared"}


class PatchItems:
    """The patches of a table; see `tesela.web.review.ReviewItems`."""

    noun = "patch"
    template = "review_patch.html"
    subject = ""  # the id of a patch says where it lies
    notes: Sequence[str] = ()

    def __init__(self, path: str | Path) -> None:
        self.table = read_patches(path)
        self.name = Path(path).name
        self.legend = self.table.legend
        size, margin = self.table.size_px, self.table.size_px // 4
        self.place = Place(
            (-margin, -margin), size + 2 * margin, ((0, 0), (size, 0), (size, size), (0, size)), size
        )
        self._rows = {
            str(row["patch_id"]): row for row in self.table.frame.drop(columns="geometry").to_dict("records")
        }
        self._pictures = ScenePictures(self.table.scenes, self._grids)
        self._pixel_m = {name: scene.pixel_size_m for name, scene in self.table.scenes.items()}
        self._maps: dict[str, MapReader] = {}
        self._kept = KeptBytes()

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def order(self, name: str, *, seed: int, judged: Set[str]) -> list[str]:
        """Patches in one of `ORDERS`."""
        if name not in ORDERS:
            raise InputError(unknown_name("order", name, ORDERS))
        return ORDERS[name](self.table, np.random.default_rng([seed, 1]))

    def item(self, item_id: str) -> dict[str, object]:
        """Scene, place and shares of the classes."""
        row = self._rows[item_id]
        scene = self.table.scenes[row["scene"]]
        shares: Sequence[float] = [row[column] for column in self.table.share_columns]
        return {
            "id": item_id,
            "where": [scene.name, scene.date],
            "views": {view: _TITLES[view] for view in self._pictures.views(scene.name)},
            "place": self.place.to_dict(),
            "pixel_m": self._pixel_m[scene.name],
            **centre_of(self.table.grid_of(row["scene"], row["row"], row["col"])),
            "shares": {
                str(value): round(share, 4)
                for value, share in zip(self.legend.values, shares, strict=True)
                if share > 0
            },
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery of a patch with a quarter of its side as margin around it."""
        row = self._rows[item_id]
        scene = str(row["scene"])
        if view not in self._pictures.views(scene):
            raise KeyError(view)
        margin, side = int(self.place.corner[0]), self.place.side
        grid = window_grid(
            self.table.scenes[scene].grid, row["row"] + margin, row["col"] + margin, side, side
        )
        return self._kept.once((item_id, view), lambda: self._pictures.draw(scene, view, grid))

    def labels(self, item_id: str) -> bytes:
        """Class values of a patch."""
        return self._kept.once(
            (item_id, ""), lambda: zlib.compress(self._values(self._rows[item_id]).tobytes(), 1)
        )

    def check(self, verdict: Verdict) -> None:
        """A patch is given a tier."""
        if verdict.reference is not None:
            raise InputError("This verdict cannot be kept: a patch gets a tier, not a class.")

    def keep(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Verdicts on patches stay in the log until they are exported."""
        return ""

    def extras(self) -> Mapping[str, object]:
        """The questions."""
        return {"reasons": REASONS, "answers": ANSWERS}

    def _values(self, row: Mapping[str, object]) -> NDArray[np.uint8]:
        scene = str(row["scene"])
        path = self.table.labels[scene]
        if path not in self._maps:
            self._maps[path] = MapReader(ClassMap(path, self.table.scenes[scene].grid, self.legend))
        return self._maps[path].read(self._grid(row))

    def _grids(self, scene: str) -> list[GeoBox]:
        return [self._grid(row) for row in self._rows.values() if row["scene"] == scene]

    def _grid(self, row: Mapping[str, object]) -> GeoBox:
        return self.table.grid_of(str(row["scene"]), int(str(row["row"])), int(str(row["col"])))


def _random(table: PatchTable, generator: np.random.Generator) -> list[str]:
    return [str(patch) for patch in generator.permutation(sorted(table.frame["patch_id"]))]


def _by_class(table: PatchTable, generator: np.random.Generator) -> list[str]:
    """Classes take turns, by the commonest of each patch, so that rare ones are seen as early as common ones."""
    frame = table.frame.sort_values("patch_id")
    main = frame[table.share_columns].to_numpy(float).argmax(axis=1)
    mixed = generator.permutation(len(frame))
    turn = np.zeros(len(frame), np.intp)
    for value in np.unique(main):
        members = mixed[main[mixed] == value]
        turn[members] = np.arange(len(members))
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[np.lexsort((main, turn))]]


def _by_disagreement(table: PatchTable, generator: np.random.Generator) -> list[str]:
    """Patches first that models doubt most."""
    if "doubt" not in table.frame.columns:
        raise InputError(
            "The patch table says of no patch how much models doubt its label. Rank it first (tesela review "
            "PATCHES --rank), or choose another order."
        )
    frame = table.frame.sort_values("patch_id")
    doubt = frame["doubt"].fillna(-1).to_numpy(float)
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[np.argsort(-doubt, kind="stable")]]


ORDERS = {"random": _random, "class": _by_class, "disagreement": _by_disagreement}
"""Ways to order patches, by name."""
