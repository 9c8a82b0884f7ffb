"""Updating: which polygons of an old map no longer hold, by what a new map shows in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.crosswalk import TO_NODATA, Crosswalk
from tesela.core.errors import GridError, InputError
from tesela.core.grid import unit_m
from tesela.core.legend import Legend
from tesela.generalise.error_likelihood import Suspicion, suspect
from tesela.generalise.polygon_areas import Census, measure_polygons
from tesela.io.layers import Category, category_style, write_layer
from tesela.io.legends import list_legends, load_crosswalk, load_legend
from tesela.io.maps import ClassMap
from tesela.io.scratch import check_outputs
from tesela.io.vector import VectorLayer, code_texts, open_layer, read_layer

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
"""What is said of a polygon, and how it is drawn."""


@dataclass(frozen=True)
class UpdateRule:
    """
    Thresholds of the verdicts, as shares of the ground that the map shows of a polygon.

    A map finds some classes hardly anywhere (mosaics), so a polygon is held against what polygons of its
    class usually show: the median share of their own class.
    """

    slack: float = 0.15
    """A polygon holds if it shows no more than this less of its own class than is usual, ..."""
    least: float = 0.25
    """... shows at least this share of it, and no other class explains it better."""
    lost: float = 0.4
    """It has changed if it shows this much less of its own class than is usual, ..."""
    changed: float = 0.5
    """... one other class has at least this share, ..."""
    confidence: float = 40.0
    """... with at least this mean confidence (0 to 100), and another class explains it better."""
    seen: float = 0.5
    """Of polygons of which the map shows less than this share nothing is said."""
    part_ha: float | None = None
    """From this area of one other class a polygon does not hold; for generalised maps (CORINE: 5)."""

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
    Judge every polygon of an old map by a new map, and write them with the most urgent first.

    Parameters
    ----------
    polygons : VectorLayer
        The old map, in any CRS; it stays in memory.
    source : ClassMap
        The new map, best as it was predicted: generalising hides what speaks against a polygon.
    out : str or Path
        GeoPackage with a style by verdict, or GeoParquet. To the fields of the old map it adds: rank (1 is
        the most urgent), urgency (0 to 100, see `tesela.generalise.error_likelihood`), verdict (changed, doubtful,
        holds, unseen), old_class (the map's class that the old code stands for), own_share and usual_share
        (of that class, here and in most polygons of the old class), majority and purity (the class with the
        largest share, and that share), likely (the class whose polygons usually look like this one),
        other_ha (largest area of one other class), confidence, seen, area_ha and one share_CODE for each
        class of the map; an old field of such a name gets ``_old`` at its end. Shares are exact areas of
        the ground that the map shows of a polygon.
    field : str
        Field of the old codes.
    crosswalk : Crosswalk, optional
        From the old codes to the legend of the map. A code that it splits stands for all its targets.
    codes_from : str, optional
        Legend that the old codes are drawn in, if there is no `crosswalk`; default: the map's own tree, at
        any level from the map's down.
    confidence : str or Path, optional
        Confidence raster of the map.
    rule : UpdateRule, optional

    Raises
    ------
    GridError
        If the polygons do not lie on the map.
    InputError
        If a file cannot be read or written, or there is no such field.
    LegendError
        If a code is unknown.
    """
    check_outputs([out], inputs=[polygons.path, source.path])
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
    return open_layer(write_layer(out, frame, layer=LAYER, style=style))


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
    """Judge polygons in memory, most urgent first; parameters, fields and errors are those of `update_polygons`."""
    rule = rule or UpdateRule()
    name = polygons.require_field(field)
    frame = read_layer(polygons)
    codes = code_texts(frame[name])
    walk = crosswalk or _find_crosswalk(codes, source.legend, codes_from)
    stands_for, kinds = _kinds(codes, walk, source.legend, where=f"Field '{name}' of {polygons.path}")
    census = measure_polygons(frame.geometry.to_numpy(), polygons.crs, source, confidence=confidence)
    if not (census.seen > 0).any():
        raise GridError(
            f"{polygons.path} does not lie on {source.path}: no polygon holds a mapped pixel. Check the "
            "coordinate systems of both."
        )
    judged = (census.seen >= max(rule.seen, 1e-9)) & (stands_for[kinds].sum(axis=1) > 0)
    suspicion = suspect(census.areas, stands_for, kinds, judged=judged)
    columns = _columns(census, suspicion, source.legend, pixel_ha=_pixel_ha(source))
    columns["verdict"] = _verdicts(census, suspicion, columns, rule=rule, judged=judged)
    order = np.lexsort((-census.total, -suspicion.urgency, ~judged))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    table = {"rank": ranks, "urgency": suspicion.urgency, "verdict": columns.pop("verdict")} | columns
    taken = {
        item: f"{item}_old" for item in frame.columns if item.lower() in table
    }  # GeoPackage ignores case
    kept = frame.rename(columns=taken)
    return kept.assign(**table).iloc[order].reset_index(drop=True)


def _columns(
    census: Census, suspicion: Suspicion, legend: Legend, *, pixel_ha: float
) -> dict[str, NDArray[np.generic]]:
    codes = np.array([*legend.codes, ""], object)
    shares, shown = census.shares, census.areas.sum(axis=1) > 0
    largest = np.where(shown, shares.argmax(axis=1), len(legend))
    other = np.where(suspicion.own, 0.0, census.areas)
    table: dict[str, NDArray[np.generic]] = {
        "old_class": codes[suspicion.main],
        "own_share": np.where(suspicion.own, shares, 0.0).sum(axis=1),
        "usual_share": suspicion.usual,
        "majority": codes[largest],
        "purity": shares.max(axis=1),
        "likely": codes[np.where(shown, suspicion.likely, len(legend))],
        "other_ha": other.max(axis=1) * pixel_ha,
        "confidence": census.confidence,
        "seen": np.minimum(census.seen, 1.0),
        "area_ha": census.total * pixel_ha,
    }
    return table | {f"share_{item.code}": shares[:, k] for k, item in enumerate(legend.classes)}


def _verdicts(
    census: Census,
    suspicion: Suspicion,
    columns: dict[str, NDArray[np.generic]],
    *,
    rule: UpdateRule,
    judged: NDArray[np.bool_],
) -> NDArray[np.object_]:
    shares = np.where(suspicion.own, 0.0, census.shares)
    other, which = shares.max(axis=1), shares.argmax(axis=1)
    area, score = census.scored[np.arange(len(which)), which].T
    sure = np.divide(score, area, out=np.full(len(area), 100.0), where=area > 0) >= rule.confidence
    own = np.asarray(columns["own_share"], np.float64)
    loss, better = suspicion.usual - own, suspicion.evidence > 0
    holds = (loss <= rule.slack) & (own >= rule.least) & ~better
    if rule.part_ha is not None:
        holds &= np.asarray(columns["other_ha"], np.float64) < rule.part_ha
    changed = (loss >= rule.lost) & (other >= rule.changed) & sure & better
    found = np.where(changed, "changed", np.where(holds, "holds", "doubtful"))
    return np.where(judged, found, "unseen").astype(object)


def _kinds(
    codes: NDArray[np.object_], walk: Crosswalk, legend: Legend, *, where: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(kinds, classes) shares of the classes that each kind of old code stands for, and each polygon's kind."""
    if walk.target != legend:
        raise InputError(
            f"The crosswalk leads to legend '{walk.target.address}', but the map is in '{legend.address}'. "
            "Use one that leads there."
        )
    present, number = np.unique(codes.astype(str), return_inverse=True)
    walk.values_of(present.tolist(), where=where)
    shares = np.zeros((len(present), len(legend)))
    place = {code: row for row, code in enumerate(present.tolist())}
    for item in walk.rows:
        if item.code in place and item.to != TO_NODATA:
            shares[place[item.code], legend.codes.index(item.to)] += item.share
    kinds, kind = np.unique(shares, axis=0, return_inverse=True)
    return kinds, kind.ravel()[number]


def _find_crosswalk(codes: NDArray[np.object_], legend: Legend, codes_from: str | None) -> Crosswalk:
    if codes_from is not None:
        return load_crosswalk(codes_from, legend)
    level: Legend | None = load_legend(legend.name) if legend.name in list_legends() else legend
    found = []
    while level is not None and level.depth >= legend.depth:
        found.append(Crosswalk.identity(level, legend.depth))
        level = level.upper
    return min(found, key=lambda walk: len(walk.missing(codes)))


def _pixel_ha(source: ClassMap) -> float:
    grid = source.grid
    return abs(float(grid.affine.determinant)) * unit_m(grid, what=f"Updating by {source.path}") ** 2 / 10_000
