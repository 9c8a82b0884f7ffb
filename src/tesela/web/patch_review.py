"""Review of patches: the items of a patch table, and the results as quality classes, CSV and GeoPackage."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.core.grid import window_grid
from tesela.io.layers import write_layers
from tesela.io.maps import ClassMap, MapReader
from tesela.io.tables import write_csv
from tesela.patches.label_quality import ERROR_LIKELIHOOD, REVIEW, with_quality
from tesela.patches.missing_files import check_files
from tesela.patches.table import QUALITIES, PatchTable, open_patches
from tesela.web.log import VerdictLog
from tesela.web.pictures import BytesCache, PictureExtent, ScenePictures, centre_of
from tesela.web.review_results import ReviewResults, read_verdicts
from tesela.web.verdicts import ANSWERS, REASONS, Verdict

_TITLES = {"image": "Natural", "infrared": "Infrared"}


class PatchItems:
    """The patches of a table; see `tesela.web.review.ReviewItems`."""

    noun = "patch"
    template = "review_patch.html"
    default_order = "random"
    subject = ""  # the id of a patch identifies its window
    notes: Sequence[str] = ()

    def __init__(self, path: str | Path) -> None:
        self.table = open_patches(path)
        check_files(self.table, path)
        self.name = Path(path).name
        self.legend = self.table.legend
        size, margin = self.table.size_px, self.table.size_px // 4
        self.extent = PictureExtent(
            (-margin, -margin), size + 2 * margin, ((0, 0), (size, 0), (size, size), (0, size)), size
        )
        self._rows = {
            str(row["patch_id"]): row for row in self.table.frame.drop(columns="geometry").to_dict("records")
        }
        self._pictures = ScenePictures(self.table.scenes, self._grids)
        self._pixel_m = {name: scene.pixel_size_m for name, scene in self.table.scenes.items()}
        self._maps: dict[str, MapReader] = {}
        self._cache = BytesCache()

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def order(self, name: str, *, seed: int, rated: Set[str]) -> list[str]:
        """Patches in one of `ORDERS`."""
        if name not in ORDERS:
            raise InputError(unknown_name("order", name, ORDERS))
        return ORDERS[name](self.table, np.random.default_rng([seed, 1]))

    def item(self, item_id: str) -> dict[str, object]:
        """Scene, extent and shares of the classes."""
        row = self._rows[item_id]
        scene = self.table.scenes[row["scene"]]
        shares: Sequence[float] = [row[column] for column in self.table.share_columns]
        return {
            "id": item_id,
            "where": [scene.name, scene.date],
            "views": {view: _TITLES[view] for view in self._pictures.views(scene.name)},
            "extent": self.extent.to_dict(),
            "pixel_m": self._pixel_m[scene.name],
            **centre_of(self.table.grid_of(row["scene"], row["row"], row["col"])),
            "shares": {
                str(value): round(share, 4)
                for value, share in zip(self.legend.values, shares, strict=True)
                if share > 0
            },
        }

    def picture(self, item_id: str, view: str) -> bytes:
        """Imagery of a patch with a margin of a quarter of its side."""
        row = self._rows[item_id]
        scene = str(row["scene"])
        if view not in self._pictures.views(scene):
            raise KeyError(view)
        margin, side = int(self.extent.corner[0]), self.extent.side
        grid = window_grid(
            self.table.scenes[scene].grid, row["row"] + margin, row["col"] + margin, side, side
        )
        return self._cache.once((item_id, view), lambda: self._pictures.draw(scene, view, grid))

    def labels(self, item_id: str) -> bytes:
        """Class values of a patch."""
        return self._cache.once(
            (item_id, ""), lambda: zlib.compress(self._values(self._rows[item_id]).tobytes(), 1)
        )

    def check(self, verdict: Verdict) -> None:
        """A patch gets a quality class."""
        if verdict.reference is not None:
            raise InputError(
                "This verdict cannot be stored: a patch gets a quality class, not a class of the legend."
            )

    def write_back(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Verdicts on patches stay in the log until they are exported."""
        return ""

    def extras(self) -> Mapping[str, object]:
        """Reasons and answers of the questions."""
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
    """Classes take turns, by the main class of each patch, so that rare classes come as early as frequent ones."""
    frame = table.frame.sort_values("patch_id")
    main = frame[table.share_columns].to_numpy(float).argmax(axis=1)
    mixed = generator.permutation(len(frame))
    turn = np.zeros(len(frame), np.intp)
    for value in np.unique(main):
        of_class = mixed[main[mixed] == value]
        turn[of_class] = np.arange(len(of_class))
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[np.lexsort((main, turn))]]


def _by_disagreement(table: PatchTable, generator: np.random.Generator) -> list[str]:
    """Patches with the highest likelihood of error first."""
    if ERROR_LIKELIHOOD not in table.frame.columns:
        raise InputError(
            f"The patch table has no column {ERROR_LIKELIHOOD}. Rank it first (tesela review rank TABLE), or use "
            "another order."
        )
    frame = table.frame.sort_values("patch_id")
    likelihood = frame[ERROR_LIKELIHOOD].fillna(-1).to_numpy(float)
    order = np.argsort(-likelihood, kind="stable")
    return [str(patch) for patch in frame["patch_id"].to_numpy(object)[order]]


ORDERS = {"random": _random, "class": _by_class, "disagreement": _by_disagreement}
"""Orders of patches, by name."""


_COLUMNS = (
    "patch_id", "reviewer", "quality", "label", "boundary", "reasons", "note", "flag", "confidence", "seconds", "at",
)  # fmt: skip


@dataclass(frozen=True)
class PatchReview(ReviewResults):
    """The valid verdicts of all reviewers on a patch table."""

    noun = "patches"
    questions = ("quality", "label", "boundary")
    level = "ordinal"

    table: PatchTable

    @property
    def qualities(self) -> dict[str, str]:
        """
        Quality class of each reviewed patch.

        With several reviewers it is the median, and for an even number the worse of the two in the middle: a patch
        trains a model only if the majority agrees.
        """
        return {
            patch: QUALITIES[_worse_median([QUALITIES.index(item.answer) for item in given])]
            for patch, given in self.verdicts.items()
        }

    def ranks(self, question: str) -> Mapping[str, int]:
        """Ranks of the answers, best first."""
        return {name: rank for rank, name in enumerate(QUALITIES if question == "quality" else ANSWERS)}

    def answer(self, verdict: Verdict, question: str) -> str:
        """Quality class, or answer to a question."""
        if question == "quality":
            return verdict.answer
        return _word(verdict.label if question == "label" else verdict.boundary)

    def outcome(self) -> dict[str, object]:
        """Patches by quality class."""
        return {"quality": _by_quality(list(self.qualities.values()))}

    def work_of(self, verdicts: Sequence[Verdict]) -> dict[str, object]:
        """Patches by quality class."""
        return {**_by_quality([item.answer for item in verdicts])}

    def export(self, out: str | Path) -> Path:
        """
        Write the verdicts in the format of the file's extension.

        ``.parquet``: the patch table with the columns quality and quality_source ("review"), for
        ``split_patches(how="quality")``. ``.csv``: one row per patch and reviewer. ``.gpkg``: the layer patches with
        footprints and quality classes, and the table verdicts.

        Raises
        ------
        InputError
            If the extension is another, or there is no verdict.
        """
        path = Path(out)
        if path.suffix.lower() not in _WRITERS:
            raise InputError(
                f"{out}: verdicts are written to files with the extension {join_words(_WRITERS)}."
            )
        if not self.verdicts:
            raise InputError(
                f"There are no verdicts to write to {out}. Review some patches first (tesela review serve TABLE)."
            )
        return _WRITERS[path.suffix.lower()](self, path)


def read_review(table_path: str | Path) -> PatchReview:
    """
    Read a patch table and its verdicts.

    Raises
    ------
    InputError
        If there are none.
    """
    table = open_patches(table_path)
    patches = [str(patch) for patch in table.frame["patch_id"]]
    return PatchReview(read_verdicts(table_path, patches), len(table), table)


def _write_table(review: PatchReview, path: Path) -> Path:
    return with_quality(review.table, review.qualities, source=REVIEW).write(path)


def _write_csv(review: PatchReview, path: Path) -> Path:
    return write_csv(path, _COLUMNS, _rows(review))


def _write_geopackage(review: PatchReview, path: Path) -> Path:
    import pandas as pd

    rated = with_quality(review.table, review.qualities, source=REVIEW).frame
    columns = ["patch_id", "scene", "row", "col", "quality", "quality_source"]
    frame = rated[[*columns, "geometry"]].copy()
    given = [review.verdicts.get(str(patch), ()) for patch in frame["patch_id"]]
    frame.insert(len(columns), "verdicts", [len(items) for items in given])
    frame.insert(len(columns) + 1, "reasons", [_joined(items, "reasons") for items in given])
    frame.insert(len(columns) + 2, "flag", [any(item.flag for item in items) for items in given])
    frame.insert(
        len(columns) + 3, "note", ["; ".join(item.note for item in items if item.note) for items in given]
    )
    verdicts = pd.DataFrame(_rows(review), columns=list(_COLUMNS))
    return write_layers(path, {"patches": frame, "verdicts": verdicts})


_WRITERS = {".parquet": _write_table, ".csv": _write_csv, ".gpkg": _write_geopackage}


def _rows(review: PatchReview) -> list[tuple[object, ...]]:
    return [
        (
            item.item_id,
            item.reviewer,
            item.quality,
            _word(item.label),
            _word(item.boundary),
            " ".join(item.reasons),
            item.note,
            int(item.flag),
            item.confidence,
            item.seconds,
            item.at,
        )
        for given in review.verdicts.values()
        for item in given
    ]


def _joined(items: Sequence[Verdict], field: str) -> str:
    return " ".join(sorted({code for item in items for code in getattr(item, field)}))


def _word(answer: int | None) -> str:
    return "" if answer is None else ANSWERS[answer - 1]


def _by_quality(qualities: Sequence[str]) -> dict[str, int]:
    return {quality: qualities.count(quality) for quality in QUALITIES}


def _worse_median(ranks: Sequence[int]) -> int:
    return sorted(ranks)[len(ranks) // 2]
