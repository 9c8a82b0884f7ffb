"""Updating: which polygons of an old map are out of date, by the classes of a new map in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import unit_m
from tesela.core.legend import Legend
from tesela.generalise.error_likelihood import ErrorLikelihood, error_likelihood
from tesela.generalise.polygon_areas import PolygonAreas, measure_polygons
from tesela.io.layers import Category, category_style, write_layer
from tesela.io.legends import codes_without_class, list_legends, open_crosswalk, open_legend
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap
from tesela.io.outputs import check_file_outputs
from tesela.io.vector import (
    NO_CODE,
    VectorLayer,
    code_texts,
    new_names,
    open_layer,
    read_layer,
    separate_layer,
)

if TYPE_CHECKING:
    import geopandas as gpd

LAYER = "update"
"""Name of the layer in a GeoPackage."""

VERDICTS = (
    Category("changed", "changed: the map shows another class", "#d7191c"),
    Category("doubtful", "doubtful: look at it", "#fdae61"),
    Category("holds", "holds", "#1a9641"),
    Category("unseen", "unseen: no map here, or no class", "#bdbdbd"),
)
"""Verdicts on a polygon, with labels and colours."""


@dataclass(frozen=True)
class UpdateRule:
    """
    Thresholds of the verdicts, as shares of the mapped part of a polygon.

    A map rarely predicts some classes (mosaics). So the share of a polygon's own class is compared with the usual
    share: the median of the polygons of that class.
    """

    slack: float = 0.15
    """A polygon holds if its own class is at most this much below the usual share, ..."""
    least: float = 0.25
    """... has at least this share, and no other class explains the polygon better."""
    lost: float = 0.4
    """It has changed if its own class is at least this much below the usual share, ..."""
    changed: float = 0.5
    """... one other class has at least this share, ..."""
    confidence: float = 40.0
    """... with at least this mean confidence (0 to 100), and another class explains it better."""
    seen: float = 0.5
    """Polygons with a smaller mapped part get the verdict "unseen"."""
    part_ha: float | None = None
    """A polygon with this area of one other class does not hold; for generalised maps (CORINE: 5)."""

    def __post_init__(self) -> None:
        names = ("slack", "least", "lost", "changed", "seen")
        wrong = [f"{name} = {getattr(self, name):g}" for name in names if not 0 <= getattr(self, name) <= 1]
        if not 0 <= self.confidence <= 100:
            wrong.append(f"confidence = {self.confidence:g}")
        if wrong:
            raise InputError(
                f"Thresholds out of range: {', '.join(wrong)}. Shares run from 0 to 1, confidence from 0 "
                "to 100."
            )


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
) -> VectorLayer:
    """
    Evaluate every polygon of an old map with a new map, and write the polygons with the most urgent first.

    Parameters
    ----------
    polygons : VectorLayer
        The old map, in any CRS; it is read into memory.
    source : ClassMap
        The new map. Use it before generalisation, which removes evidence against a polygon.
    out : str or Path
        GeoPackage with a style by verdict, or GeoParquet. It adds these fields: rank (1 is the most urgent),
        urgency (0 to 100, see `tesela.generalise.error_likelihood`), verdict (changed, doubtful, holds, unseen),
        old_class (the map's class for the old code), own_share and usual_share (of that class, here and in most
        polygons of the old class), majority and purity (the class with the largest share, and that share), likely
        (the class whose polygons usually look like this one), other_ha (largest area of one other class),
        confidence, seen, area_ha and one share_CODE for each class of the map. An old field of the same name, case
        ignored, gets the suffix ``_old``, ``_old2`` and so on. Shares are exact areas divided by the mapped part of
        the polygon. Invalid polygons are mended, and ground under two polygons belongs to the later one in the file.
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
    frame = evaluate_polygons(
        polygons,
        source,
        field=field,
        crosswalk=crosswalk,
        codes_from=codes_from,
        confidence=confidence,
        rule=rule,
    )
    style = category_style("verdict", VERDICTS)
    made = write_layer(out, frame, layer=LAYER, style=style)
    record_step(
        "update",
        [made],
        inputs=[polygons.path, source.path, confidence],
        settings={"field": field, "source": codes_from if crosswalk is None else crosswalk.source},
        legend=source.legend.address,
    )
    return open_layer(made)


def evaluate_polygons(
    polygons: VectorLayer,
    source: ClassMap,
    *,
    field: str,
    crosswalk: Crosswalk | None = None,
    codes_from: str | None = None,
    confidence: str | Path | None = None,
    rule: UpdateRule | None = None,
) -> gpd.GeoDataFrame:
    """Evaluate polygons in memory, most urgent first; parameters, fields and errors as in `update_polygons`."""
    rule = rule or UpdateRule()
    polygons.require_features()
    name = polygons.require_field(field)
    frame = read_layer(polygons)
    codes = code_texts(frame[name])
    crosswalk = crosswalk or _find_crosswalk(codes, source.legend, codes_from)
    code_shares, kinds = _kinds(codes, crosswalk, source.legend, where=f"Field '{name}' of {polygons.path}")
    if NO_CODE not in crosswalk.codes:
        polygons.repairs.add_without_code(name, frame.index[codes == NO_CODE])
    measured = measure_polygons(separate_layer(polygons, frame), polygons.crs, source, confidence=confidence)
    polygons.report()
    if not (measured.seen > 0).any():
        raise GridError(
            f"{polygons.path} does not overlap {source.path}: no polygon has a mapped pixel. Check the "
            "coordinate systems of both."
        )
    evaluated = (measured.seen >= max(rule.seen, 1e-9)) & (code_shares[kinds].sum(axis=1) > 0)
    likelihood = error_likelihood(measured.areas, code_shares, kinds, evaluated=evaluated)
    columns = _columns(measured, likelihood, source.legend, pixel_ha=_pixel_ha(source))
    columns["verdict"] = _verdicts(measured, likelihood, columns, rule=rule, evaluated=evaluated)
    order = np.lexsort((-measured.total, -likelihood.urgency, ~evaluated))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    table = {"rank": ranks, "urgency": likelihood.urgency, "verdict": columns.pop("verdict")} | columns
    shape = frame.geometry.name
    old = [str(item) for item in frame.columns if item != shape]
    kept = frame.rename(columns=new_names(old, taken=table))
    if shape != "geometry":
        kept = kept.rename_geometry("geometry")
    return kept.assign(**table).iloc[order].reset_index(drop=True)


def _columns(
    measured: PolygonAreas, likelihood: ErrorLikelihood, legend: Legend, *, pixel_ha: float
) -> dict[str, NDArray[np.generic]]:
    codes = np.array([*legend.codes, ""], object)
    shares, mapped = measured.shares, measured.areas.sum(axis=1) > 0
    largest = np.where(mapped, shares.argmax(axis=1), len(legend))
    other = np.where(likelihood.own, 0.0, measured.areas)
    table: dict[str, NDArray[np.generic]] = {
        "old_class": codes[likelihood.main],
        "own_share": np.where(likelihood.own, shares, 0.0).sum(axis=1),
        "usual_share": likelihood.usual,
        "majority": codes[largest],
        "purity": shares.max(axis=1),
        "likely": codes[np.where(mapped, likelihood.likely, len(legend))],
        "other_ha": other.max(axis=1) * pixel_ha,
        "confidence": measured.confidence,
        "seen": np.minimum(measured.seen, 1.0),
        "area_ha": measured.total * pixel_ha,
    }
    return table | {f"share_{item.code}": shares[:, k] for k, item in enumerate(legend.classes)}


def _verdicts(
    measured: PolygonAreas,
    likelihood: ErrorLikelihood,
    columns: dict[str, NDArray[np.generic]],
    *,
    rule: UpdateRule,
    evaluated: NDArray[np.bool_],
) -> NDArray[np.object_]:
    shares = np.where(likelihood.own, 0.0, measured.shares)
    other, which = shares.max(axis=1), shares.argmax(axis=1)
    area, score = measured.scored[np.arange(len(which)), which].T
    confident = np.divide(score, area, out=np.full(len(area), 100.0), where=area > 0) >= rule.confidence
    own = np.asarray(columns["own_share"], np.float64)
    loss, better = likelihood.usual - own, likelihood.evidence > 0
    holds = (loss <= rule.slack) & (own >= rule.least) & ~better
    if rule.part_ha is not None:
        holds &= np.asarray(columns["other_ha"], np.float64) < rule.part_ha
    changed = (loss >= rule.lost) & (other >= rule.changed) & confident & better
    verdicts = np.where(changed, "changed", np.where(holds, "holds", "doubtful"))
    return np.where(evaluated, verdicts, "unseen").astype(object)


def _kinds(
    codes: NDArray[np.object_], crosswalk: Crosswalk, legend: Legend, *, where: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(kinds, classes) shares of the classes in each kind of old code, and the kind of each polygon."""
    if crosswalk.target != legend:
        raise InputError(
            f"The crosswalk is to legend '{crosswalk.target.address}', but the map has legend '{legend.address}'. "
            "Use a crosswalk to that legend."
        )
    present, number = np.unique(codes.astype(str), return_inverse=True)
    empty = {NO_CODE, *codes_without_class(_legend_of(crosswalk.source))}
    crosswalk.values_of([code for code in present.tolist() if code not in empty], where=where)
    shares = np.zeros((len(present), len(legend)))
    rows = {code: row for row, code in enumerate(present.tolist())}
    for item in crosswalk.rows:
        if item.code in rows and item.to != TO_NODATA:
            shares[rows[item.code], legend.codes.index(item.to)] += item.share
    kinds, kind = np.unique(shares, axis=0, return_inverse=True)
    return kinds, kind.ravel()[number]


def _legend_of(source: str) -> Legend | None:
    try:
        return open_legend(source)
    except LegendError:  # the crosswalk of a user
        return None


def _find_crosswalk(codes: NDArray[np.object_], legend: Legend, codes_from: str | None) -> Crosswalk:
    if codes_from is not None:
        return open_crosswalk(codes_from, legend)
    level: Legend | None = open_legend(legend.name) if legend.name in list_legends() else legend
    crosswalks = []
    while level is not None and level.depth >= legend.depth:
        crosswalks.append(Crosswalk.identity(level, legend.depth))
        level = level.upper
    present = set(codes.tolist()) - {NO_CODE, *codes_without_class(legend)}
    return min(crosswalks, key=lambda item: len(item.missing(present)))


def _pixel_ha(source: ClassMap) -> float:
    grid = source.grid
    return abs(float(grid.affine.determinant)) * unit_m(grid, what=f"Updating by {source.path}") ** 2 / 10_000
