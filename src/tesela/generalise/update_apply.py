"""Applying an update: the new layer and the change layer, from the old layer and the decisions on its queue."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError, RecipeError, join_words, unknown_name
from tesela.core.polygons import only_polygons
from tesela.core.shared_corners import SharedCorners
from tesela.core.temporary import temporary_folder
from tesela.io.layer_spill import LayerSpill
from tesela.io.layers import Category, category_style
from tesela.io.manifest import record_step
from tesela.io.outputs import check_file_outputs
from tesela.io.update_queue import UpdateQueue, outcome, read_queue
from tesela.io.vector import VectorLayer, code_texts, iter_layer, new_names, open_layer

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

LAYER, CHANGES = "updated", "changes"
"""Names of the layers in a GeoPackage."""
UNDECIDED = ("keep", "accept")
"""What becomes of proposals without a decision."""
CHANGED_FROM = "changed_from"
"""Field with the old code of changed ground, empty elsewhere."""
_LOST = 1e-9
"""Largest share of a polygon's area that may get lost in rounding."""


@dataclass(frozen=True)
class AppliedUpdate:
    """A new layer and its change layer."""

    path: str
    changes_path: str
    changes: Mapping[str, tuple[int, float]]
    """Areas and hectares by change, as "311-324"; the largest first."""
    old_polygons: int
    polygons: int
    proposals: int
    decided: int
    """Proposals with a decision of a reviewer."""

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`."""
        return asdict(self)


def apply_update(
    queue: str | Path,
    out: str | Path,
    *,
    polygons: str | Path | None = None,
    layer: str | None = None,
    undecided: str = "keep",
    changes_out: str | Path | None = None,
) -> AppliedUpdate:
    """
    Write the new layer: the old one, in which changed ground is split off and has its new code.

    A change is a polygon of its own; what remains of the old polygon keeps its code, one row for each piece. All
    attributes are those of the old polygon, but for the code. Borders between old polygons do not move, and where a
    change ends on one, the neighbour gets its corner too: a layer without gaps and overlaps stays one, also for
    `shapely.coverage_is_valid`. Memory depends on the changes, not on the layer.

    Parameters
    ----------
    queue : str or Path
        GeoPackage of `tesela.generalise.update.update_polygons`, with decisions (`tesela review serve`, or typed into
        the field `decision` of its layer `proposals`).
    out : str or Path
        GeoPackage, GeoParquet or table of PostGIS. It has the fields of the old layer and `changed_from`, the old
        code of changed ground.
    polygons, layer : optional
        The old layer; default: the one that the queue names, as seen from here or from the queue's folder.
    undecided : {"keep", "accept"}
        What proposals without a decision become: the old code, or the proposed one.
    changes_out : str or Path, optional
        The change layer, with the fields feature, old_code, new_code, change ("311-324"), outcome (accepted or other
        class), area_ha, rank and note; so that new layer = old layer + changes. Default: the layer `changes` of a
        GeoPackage `out`.

    Raises
    ------
    InputError
        If a file cannot be read or written, a decision is no code of the old map, or the layer is not the one from
        which the queue was made.
    """
    if undecided not in UNDECIDED:
        raise RecipeError(unknown_name("choice for undecided proposals", undecided, UNDECIDED))
    in_one_file = changes_out is None
    if in_one_file and Path(str(out)).suffix.lower() != ".gpkg":
        raise RecipeError(
            f"{out} holds one layer; name a file for the change layer (--changes changes.gpkg)."
        )
    read = read_queue(queue)
    if not read.facts.field:
        raise InputError(
            f"{queue} asks about areas of the map {read.facts.source}, so there is no old layer to update; name it in "
            f"[[corrections]] of a recipe."
        )
    old = _old_layer(read, polygons, layer)
    check_file_outputs([out, changes_out], inputs=[old.path, queue])
    field = old.require_field(read.facts.field)
    proposals, decided = len(read.proposals), int((read.proposals["decision"] != "").sum())
    applied = _Applied(_changes(read, undecided), field, old, queue=read.path.name)
    choices = read.choices
    del read  # its polygons are those of the changes, and as many bytes
    in_files = not str(out).startswith(("postgresql://", "postgres://"))
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(Path(out) if in_files else Path(queue)))
        new, listed = LayerSpill(folder, LAYER), LayerSpill(folder, CHANGES)
        for frame in iter_layer(old):
            new.add(applied.frame(frame))
        old.report()
        applied.check_all_found()
        listed.add(applied.change_layer())
        style = category_style(field, [Category(item.code, item.label, item.color) for item in choices])
        changed_style = style.replace(f'attr="{field}"', 'attr="new_code"')
        more = [(listed, CHANGES, changed_style)] if in_one_file else []
        written = new.write(out, layer=LAYER, style=style, more=more)
        if changes_out is not None:
            listed.write(changes_out, layer=CHANGES, style=changed_style)
    record_step(
        "update apply",
        [written if in_files else None],
        inputs=[queue, old.path],
        settings={"undecided": undecided},
    )
    return AppliedUpdate(
        path=str(written),
        changes_path=f"{written}|layername={CHANGES}" if changes_out is None else str(changes_out),
        changes=applied.summary(),
        old_polygons=old.count,
        polygons=len(new),
        proposals=proposals,
        decided=decided,
    )


def _old_layer(queue: UpdateQueue, polygons: str | Path | None, layer: str | None) -> VectorLayer:
    if polygons is not None:
        return open_layer(polygons, layer=layer)
    source = queue.facts.source
    beside = queue.path.parent / source
    if "://" not in source and not Path(source).exists():
        if not beside.exists():
            raise InputError(
                f"{queue.path}: names the polygons {source}, which are not there; name them (--polygons)."
            )
        source = str(beside)
    return open_layer(source, layer=layer or queue.facts.layer or None)


def _changes(queue: UpdateQueue, undecided: str) -> gpd.GeoDataFrame:
    """The proposals that change the code of their ground, with `code`, and their outcome."""
    frame = queue.proposals
    old, new, decided = (frame[name].to_numpy(object) for name in ("old_code", "new_code", "decision"))
    strange = sorted(set(decided) - {"", *(item.code for item in queue.choices)} - set(old))
    if strange:
        codes = [item.code for item in queue.choices]
        raise InputError(f"{queue.path}: {unknown_name('code in the field decision', strange[0], codes)}")
    if undecided == "accept":
        decided = np.where(decided == "", new, decided)
    frame = frame.assign(code=decided, outcome=outcome(old, new, decided))
    chosen: gpd.GeoDataFrame = frame[(decided != "") & (decided != old)]
    return chosen


class _Applied:
    """The changes, applied to the features of the old layer."""

    def __init__(self, changes: gpd.GeoDataFrame, field: str, old: VectorLayer, *, queue: str) -> None:
        shapes = changes.geometry.to_numpy()
        self._corners = SharedCorners(shapely.get_coordinates(shapes))
        self._shapes = self._corners.insert(shapes)
        self._columns = {
            name: changes[name].to_numpy()
            for name in ("old_code", "code", "outcome", "area_ha", "rank", "note")
        }
        self._crs = changes.crs
        self._queue, self._field, self._old = queue, field, old
        self._rows = {int(number): list(rows) for number, rows in changes.groupby("feature").indices.items()}
        self._listed: list[dict[str, object]] = []
        self._found = 0

    def frame(self, frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Rows of the new layer for some features of the old one."""
        shape = str(frame.geometry.name)
        shapes = self._corners.insert(frame.geometry.to_numpy())
        numbers = frame.index.to_numpy()
        codes = code_texts(frame[self._field])
        at: list[int] = []
        pieces: list[shapely.Geometry] = []
        given: list[str | None] = []
        for position in np.flatnonzero(np.isin(numbers, list(self._rows))):
            for piece, code in self._divide(int(numbers[position]), shapes[position], str(codes[position])):
                at.append(int(position))
                pieces.append(piece)
                given.append(code)
        unchanged = np.setdiff1d(np.arange(len(frame)), at)
        rows = np.concatenate([unchanged, np.array(at, np.int64)])
        order = np.argsort(rows, kind="stable")
        geometry = np.empty(len(rows), object)
        geometry[: len(unchanged)] = shapes[unchanged]
        geometry[len(unchanged) :] = pieces
        new_codes = np.concatenate([np.full(len(unchanged), None, object), np.array(given, object)])[order]
        made = frame.iloc[rows[order]].copy()
        changed = np.array([code is not None for code in new_codes], np.bool_)
        made[self._field] = _with_codes(made[self._field], changed, new_codes)
        names = new_names([str(item) for item in frame.columns if item != shape], taken=[CHANGED_FROM])
        made = made.set_geometry(geometry[order], crs=frame.crs).rename(columns=names)
        return made.assign(**{CHANGED_FROM: np.where(changed, codes[rows[order]], None)})

    def _divide(
        self, number: int, shape: shapely.Geometry, code: str
    ) -> list[tuple[shapely.Geometry, str | None]]:
        """Pieces of a polygon: what remains, without a code, and the changes."""
        self._found += 1
        mine = np.array(self._rows[number])
        before = str(self._columns["old_code"][mine[0]])
        if code != before:
            raise InputError(
                f"{self._old.path}: feature {number} has the code {code}, but {before} when "
                f"{self._queue} was made. Run tesela update again with this layer."
            )
        parts = self._shapes[mine]
        taken = shapely.union_all(parts) if len(parts) > 1 else parts[0]
        (rest,) = only_polygons(np.array([shapely.difference(shape, taken)], object))
        whole = float(shapely.area(shape))
        if abs(float(shapely.area(rest)) + float(shapely.area(taken)) - whole) > _LOST * max(whole, 1e-300):
            raise InputError(
                f"{self._old.path}: feature {number} has another outline than when {self._queue} was made. "
                "Run tesela update again with this layer."
            )
        pieces: list[tuple[shapely.Geometry, str | None]] = [
            (piece, None) for piece in shapely.get_parts(rest) if shapely.area(piece) > _LOST * whole
        ]
        codes = self._columns["code"][mine]
        for new_code in dict.fromkeys(codes):
            group = mine[codes == new_code]
            joined = shapely.union_all(self._shapes[group]) if len(group) > 1 else self._shapes[group[0]]
            for piece in shapely.get_parts(joined):
                pieces.append((piece, str(new_code)))
                self._list(number, piece, str(new_code), group)
        return pieces

    def _list(self, number: int, piece: shapely.Geometry, code: str, group: NDArray[np.int64]) -> None:
        first = {name: column[group[0]] for name, column in self._columns.items()}
        whole = float(shapely.area(self._shapes[group]).sum())
        part = float(shapely.area(piece)) / whole if whole else 0.0
        self._listed.append(
            {
                "feature": number,
                "old_code": first["old_code"],
                "new_code": code,
                "change": f"{first['old_code']}-{code}",
                "outcome": first["outcome"],
                "area_ha": float(self._columns["area_ha"][group].sum()) * part,
                "rank": int(first["rank"]),
                "note": "; ".join(dict.fromkeys(text for text in self._columns["note"][group] if text)),
                "geometry": piece,
            }
        )

    def check_all_found(self) -> None:
        """InputError if the layer lacks features of the changes."""
        if self._found == len(self._rows):
            return
        raise InputError(
            f"{self._old.path}: lacks {len(self._rows) - self._found} of the {len(self._rows)} polygons that "
            f"{self._queue} changes ({join_words([str(n) for n in self._rows], most=3)}). Give the layer "
            "from which it was made (--polygons)."
        )

    def change_layer(self) -> gpd.GeoDataFrame:
        """The changes, in the order of the old layer."""
        import geopandas as gpd

        names = [
            "feature",
            "old_code",
            "new_code",
            "change",
            "outcome",
            "area_ha",
            "rank",
            "note",
            "geometry",
        ]
        columns = {name: [item[name] for item in self._listed] for name in names}
        return gpd.GeoDataFrame(columns, geometry="geometry", crs=self._crs)

    def summary(self) -> dict[str, tuple[int, float]]:
        """Areas and hectares by change, the largest first."""
        groups = self.change_layer().groupby("change")["area_ha"].agg(["count", "sum"])
        groups = groups.sort_values("sum", ascending=False)
        return {str(change): (int(row["count"]), float(row["sum"])) for change, row in groups.iterrows()}


def _with_codes(column: pd.Series, changed: NDArray[np.bool_], codes: NDArray[np.object_]) -> pd.Series:
    """A column of codes with the new ones, as numbers where the column holds numbers."""
    import pandas as pd

    if not changed.any():
        return column
    if pd.api.types.is_numeric_dtype(column.dtype):
        try:
            numbers = [float(code) for code in codes[changed]]
        except ValueError:
            raise InputError(
                f"The field '{column.name}' holds numbers, but a new code is none of them "
                f"({join_words(sorted(set(codes[changed])), most=3)})."
            ) from None
        values = column.to_numpy().copy()
        values[changed] = numbers
        return pd.Series(values, index=column.index, name=column.name)
    texts = column.to_numpy(object).copy()
    texts[changed] = codes[changed]
    return pd.Series(texts, index=column.index, name=column.name)
