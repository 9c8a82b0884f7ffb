"""The reference of an assessment: drawn in the map's legend, and the level to which it tells classes apart."""

from __future__ import annotations

from pathlib import Path

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError, join_words
from tesela.core.legend import Legend
from tesela.core.notes import note
from tesela.io.crosswalks import open_crosswalk
from tesela.io.maps import ClassMap, open_map
from tesela.io.vector import is_vector
from tesela.labels import write_labels
from tesela.labels.siose import holds_siose, label_siose


def draw_reference(
    map: ClassMap,
    reference: str | Path,
    out: Path,
    *,
    field: str | None = None,
    layer: str | None = None,
    source: str | None = None,
    crosswalk: str | Path | Crosswalk | None = None,
) -> tuple[ClassMap, int]:
    """
    Draw a reference on the pixels of a map, in its legend; a map in the same legend is opened as it is.

    The codes of another legend may not tell the last classes of a cascade apart: "trees" is no species. SIOSE AR, whose
    table of species is read where no field is named, does.

    Parameters
    ----------
    field, layer, source, crosswalk
        As in `tesela.assessment.files.assess_files`.

    Returns
    -------
    ClassMap, int
        The labels, and the finest level of the map's legend that the reference tells apart.

    Raises
    ------
    TeselaError
        As `tesela.labels.write_labels` and `tesela.labels.siose.label_siose`.
    """
    bare = field is None and source is None and crosswalk is None
    labels = open_directly(reference, map.legend) if bare else None
    if labels is not None:
        return labels, map.legend.depth
    if bare and layer is None and holds_siose(reference):
        return label_siose(reference, out, like=map.grid, legend=map.legend)[0], map.legend.depth
    table: Crosswalk | None = None
    if crosswalk is not None:
        table = open_crosswalk(source or "reference", map.legend, path=crosswalk)
    elif map.legend.composed:
        own = source or _legend_in(reference)
        table = None if own is None else open_crosswalk(own, map.legend)
    labels = write_labels(
        reference,
        out,
        like=map.grid,
        legend=map.legend,
        source=source,
        field=field,
        crosswalk=table,
        layer=layer,
    )
    depth = map.legend.depth if table is None or crosswalk is not None else _told_depth(table)
    if depth < map.legend.depth:
        assert table is not None
        note(
            f"{reference}: its codes {join_words(table.splits, most=6)} do not tell the classes of level "
            f"{depth + 1} apart: assessed at level {depth} (--level)."
        )
    return labels, depth


def open_directly(reference: str | Path, legend: Legend) -> ClassMap | None:
    """The reference as a map, if it is a class raster in a legend or a finer level of it; else None."""
    if is_vector(reference):
        return None
    try:
        labels = open_map(reference)
    except (InputError, LegendError):  # `write_labels` reads more, and reports what it cannot read
        return None
    fits = labels.legend.depth >= legend.depth and legend.same_classes(labels.legend.level(legend.depth))
    return labels if fits else None


def _legend_in(reference: str | Path) -> Legend | None:
    """Legend that a class raster names."""
    if is_vector(reference):
        return None
    try:
        return open_map(reference).legend
    except (InputError, LegendError):
        return None


def _told_depth(table: Crosswalk) -> int:
    """Finest level of the target at which no code has two classes."""
    depth = table.target.depth
    while depth > 1 and table.to_level(depth).splits:
        depth -= 1
    return depth
