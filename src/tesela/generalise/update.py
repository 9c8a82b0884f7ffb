"""Updating: which polygons of an old map are out of date, and which parts of them, by the classes of a new map."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError
from tesela.core.legend import Legend
from tesela.core.temporary import temporary_folder
from tesela.generalise.measured_layer import MeasuredLayer
from tesela.generalise.queued_polygons import QueueRows
from tesela.generalise.verdicts import VERDICTS, Evaluation, UpdateRule, code_kinds
from tesela.io.crosswalks import guess_crosswalk, open_crosswalk
from tesela.io.layer_spill import LayerSpill
from tesela.io.layers import category_style
from tesela.io.legends import codes_without_class, list_legends, open_legend
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap
from tesela.io.outputs import check_file_outputs
from tesela.io.update_queue import PROPOSALS, QUEUE, QueueFacts, queue_tables
from tesela.io.vector import NO_CODE, VectorLayer, open_layer, read_layer

if TYPE_CHECKING:
    import geopandas as gpd

MMU_M2 = 10_000.0
"""Least area of a changed part, if none is given."""


@dataclass(frozen=True)
class Update:
    """What an update found."""

    layer: VectorLayer
    """The queue: the changed and doubtful polygons, the most urgent first."""
    verdicts: Mapping[str, tuple[int, float]]
    """Polygons and hectares by verdict, of all that touch the map."""
    proposals: int
    """Changes proposed in them."""

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """The polygons of the queue."""
        return read_layer(self.layer, report=False)

    def _repr_html_(self) -> str:
        from tesela.io.map_views import card

        colours = {item.value: item.color for item in VERDICTS}
        return card(
            f"Update: {self.proposals:,} changes proposed",
            rows=[
                (colours[name], name, f"{count:,}", f"{ha:,.1f}")
                for name, (count, ha) in self.verdicts.items()
            ],
            header=("verdict", "polygons", "ha"),
        )


_SMALL = 10_000
"""Most polygons of a layer that is written whole by default."""


def update_polygons(
    polygons: VectorLayer,
    source: ClassMap,
    out: str | Path,
    *,
    field: str,
    crosswalk: Crosswalk | None = None,
    codes_from: str | None = None,
    confidence: str | Path | None = None,
    rule: UpdateRule | None = None,
    mmu_m2: float = MMU_M2,
    everything: bool | None = None,
) -> Update:
    """
    Evaluate the polygons of an old map that touch a new one, and write those that may be out of date.

    The map is read window by window, and with each window its polygons, through the spatial index of their file:
    memory depends neither on the size of the map nor on that of the layer, but for about 30 bytes of each polygon.

    Parameters
    ----------
    polygons : VectorLayer
        The old map, in any CRS.
    source : ClassMap
        The new map. Use it before generalisation, which removes evidence against a polygon.
    out : str or Path
        The queue: a GeoPackage with a style by verdict, or GeoParquet, or a table of PostGIS. It adds these fields:
        rank (1 is the most urgent), urgency (0 to 100, see `tesela.generalise.error_likelihood`), verdict (changed,
        doubtful, holds, unseen), feature (number in the old file), old_class (the map's class for the old code),
        own_share and usual_share (of that class, here and in most polygons of the old class), majority and purity
        (the class with the largest share, and that share), likely (the class whose polygons usually look like this
        one), other_ha (largest area of one other class), changed_ha (area of the proposed changes), confidence,
        seen, area_ha and one share_CODE for each class of the map. An old field of the same name, case ignored,
        gets the suffix ``_old``, ``_old2`` and so on. Shares are exact areas divided by the mapped part of the
        polygon. Invalid polygons are mended, and ground under two polygons belongs to the later one in the file.

        A GeoPackage also has the layer `proposals`, see `tesela.io.update_queue`: the parts of these polygons that
        show another class, and the polygons without such a part, for a reviewer and for
        `tesela.generalise.update_apply.apply_update`.
    field : str
        Field of the old codes.
    crosswalk : Crosswalk, optional
        From the old codes to the legend of the map. A code that it splits means any of its targets.
    codes_from : str, optional
        Legend of the old codes, if there is no `crosswalk`; default: the map's legend, at its level or a finer
        one.
    confidence : str or Path, optional
        Confidence raster of the map.
    rule : UpdateRule, optional
    mmu_m2 : float
        Least area of a changed part in m2, see `tesela.generalise.changed_parts.divide_polygons`.
    everything : bool, optional
        Write all polygons of the layer, also those that hold and those off the map; default: of a layer of up to
        10,000 polygons.

    Raises
    ------
    GridError
        If the polygons do not overlap the map.
    InputError
        If a file cannot be read or written, or there is no such field.
    LegendError
        If a code is unknown.
    """
    check_file_outputs([out], inputs=[polygons.path, source.path])
    if everything is None:
        everything = polygons.count <= _SMALL
    in_files = not str(out).startswith(("postgresql://", "postgres://"))
    folder_of = Path(out) if in_files else Path(tempfile.gettempdir()) / "tesela-update"
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(folder_of))
        found = stack.enter_context(
            _evaluated(polygons, source, field, crosswalk, codes_from, confidence, rule, everything, folder)
        )
        queue, proposals = LayerSpill(folder, QUEUE), LayerSpill(folder, PROPOSALS)
        places = []
        for frame, proposed, place in QueueRows(found).rows(mmu_m2=mmu_m2, everything=everything):
            queue.add(frame)
            proposals.add(proposed)
            places.append(place)
        order = np.argsort(found.ranks[np.concatenate(places)])
        polygons.report()
        written = queue.write(
            out,
            layer=QUEUE,
            order=order,
            style=category_style("verdict", VERDICTS),
            more=[(proposals, PROPOSALS, QueueRows(found).proposal_style)],
            tables=queue_tables(
                found.choices, QueueFacts(polygons.path, polygons.layer, found.measured.field)
            ),
        )
    record_step(
        "update",
        [written if in_files else None],
        inputs=[polygons.path, source.path, confidence],
        settings={"field": field, "codes_from": codes_from or "", "mmu_m2": mmu_m2, "all": everything},
        legend=source.legend.address,
    )
    return Update(
        open_layer(written, layer=None if _has_no_layers(written) else QUEUE), found.summary, len(proposals)
    )


def evaluate_polygons(
    polygons: VectorLayer,
    source: ClassMap,
    *,
    field: str,
    crosswalk: Crosswalk | None = None,
    codes_from: str | None = None,
    confidence: str | Path | None = None,
    rule: UpdateRule | None = None,
    mmu_m2: float = MMU_M2,
    everything: bool = True,
) -> gpd.GeoDataFrame:
    """Evaluate polygons in memory, most urgent first; parameters, fields and errors as in `update_polygons`."""
    import pandas as pd

    with _evaluated(
        polygons, source, field, crosswalk, codes_from, confidence, rule, everything, None
    ) as found:
        frames = [frame for frame, _, _ in QueueRows(found).rows(mmu_m2=mmu_m2, everything=everything)]
    polygons.report()
    joined: gpd.GeoDataFrame = pd.concat(frames, ignore_index=True)
    return joined.sort_values("rank", ignore_index=True)


def _has_no_layers(path: str | Path) -> bool:
    return not str(path).lower().endswith(".gpkg")


@contextmanager
def _evaluated(
    polygons: VectorLayer,
    source: ClassMap,
    field: str,
    crosswalk: Crosswalk | None,
    codes_from: str | None,
    confidence: str | Path | None,
    rule: UpdateRule | None,
    everything: bool,
    folder: Path | None,
) -> Iterator[Evaluation]:
    """The verdicts on polygons; codes are checked as soon as they are read."""
    polygons.require_features()
    name = polygons.require_field(field)
    where = f"Field '{name}' of {polygons.path}"

    def table_of(codes: list[str]) -> Crosswalk:
        return crosswalk or _find_crosswalk(np.array(codes, object), source.legend, codes_from, where=where)

    def check(codes: list[str]) -> None:
        code_kinds(np.array(codes, object), table_of(codes), source.legend, where=where)

    with MeasuredLayer(polygons, source, field=name, folder=folder) as measured:
        measured.measure(confidence=confidence, everything=everything, check=check)
        if not any((batch.measured.seen > 0).any() for batch in measured):
            polygons.report()
            raise GridError(
                f"{polygons.path} does not overlap {source.path}: no polygon has a mapped pixel. Check the "
                "coordinate systems of both."
            )
        yield Evaluation(measured, table_of(measured.codes), rule or UpdateRule())


def _find_crosswalk(
    codes: NDArray[np.object_], legend: Legend, codes_from: str | None, *, where: str
) -> Crosswalk:
    """From the legend named, from the map's own legend, or from the shipped legend that has all the codes."""
    if codes_from is not None:
        return open_crosswalk(codes_from, legend)
    own = legend.name in list_legends() and not legend.composed
    level: Legend | None = open_legend(legend.name) if own else legend
    crosswalks = []
    while level is not None and level.depth >= legend.depth:
        crosswalks.append(Crosswalk.identity(level, legend.depth))
        level = level.upper
    present = set(codes.tolist()) - {NO_CODE, *codes_without_class(legend)}
    nearest = min(crosswalks, key=lambda item: len(item.missing(present)))
    guessed = guess_crosswalk(present, legend, where=where) if nearest.missing(present) else None
    return guessed or nearest
