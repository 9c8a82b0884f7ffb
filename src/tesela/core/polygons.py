"""Polygons as one rule reads them everywhere: valid, in two dimensions, and with the ground of overlaps given once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.unshared_edges import unshared_edges

_NOISE = 1e-9
"""Overlaps below this part of the smaller polygon are rounding errors of shared edges."""


@dataclass(frozen=True)
class MendedPolygons:
    """Polygons and what was mended; the arrays are positions in the input."""

    shapes: NDArray[np.object_]
    """Valid polygons and multipolygons in two dimensions; an empty one where there is no area."""
    crossing: NDArray[np.int64]
    """Invalid ones, whose area is that of `shapely.make_valid`."""
    without_area: NDArray[np.int64]
    """Points, lines, and polygons that collapse to a line."""
    missing: NDArray[np.int64]
    """None or empty."""
    not_finite: NDArray[np.int64]
    """With a coordinate that is not a number; left empty."""


def mend_polygons(shapes: NDArray[np.object_]) -> MendedPolygons:
    """
    Make valid polygons of any geometries.

    Collections, also nested ones, are taken apart and lose points and lines. An invalid polygon gets the area of
    `shapely.make_valid`: what an odd number of its rings encloses. Parts of one multipolygon are united, so that
    ground under two of them counts once.

    Examples
    --------
    >>> bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    >>> mended = mend_polygons(np.array([bow_tie, shapely.box(0, 0, 1, 1)]))
    >>> shapely.area(mended.shapes).tolist(), mended.crossing.tolist()
    ([2.0, 1.0], [0])
    """
    given = np.asarray(shapes, object)
    missing = shapely.is_missing(given) | shapely.is_empty(given)
    flat = shapely.force_2d(only_polygons(given))
    infinite = np.zeros(len(given), np.bool_)
    points, owners = shapely.get_coordinates(given, return_index=True)
    infinite[owners[~np.isfinite(points).all(axis=1)]] = True
    if infinite.any():
        flat[infinite] = shapely.MultiPolygon()
    crossing = ~shapely.is_valid(flat)
    if crossing.any():
        flat = flat.copy()
        flat[crossing] = [_mended(shape) for shape in flat[crossing]]
    empty = shapely.is_empty(flat) & ~missing & ~infinite
    return MendedPolygons(
        flat,
        crossing=np.flatnonzero(crossing & ~empty),
        without_area=np.flatnonzero(empty),
        missing=np.flatnonzero(missing),
        not_finite=np.flatnonzero(infinite),
    )


def only_polygons(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons and multipolygons as they are, the polygons of collections, an empty multipolygon for all else."""
    odd = np.flatnonzero(~np.isin(shapely.get_type_id(shapes), (3, 6)))
    if odd.size:
        shapes = shapes.copy()
        for index in odd:
            parts = np.array([] if shapes[index] is None else [shapes[index]], object)
            while (shapely.get_type_id(parts) > 3).any():  # collections of collections
                parts = shapely.get_parts(parts)
            shapes[index] = shapely.MultiPolygon(list(parts[shapely.get_type_id(parts) == 3]))
    return shapes


def _mended(shape: shapely.Geometry) -> shapely.Geometry:
    parts = only_polygons(shapely.make_valid(shapely.get_parts(shape)))
    whole: shapely.Geometry = only_polygons(np.array([shapely.union_all(parts)], object))[0]
    return whole


@dataclass(frozen=True)
class SeparatedPolygons:
    """Polygons without overlaps, and the overlaps that there were."""

    shapes: NDArray[np.object_]
    pairs: NDArray[np.int64]
    """(overlaps, 2) positions of the earlier and the later polygon."""
    shared: NDArray[np.object_]
    """(overlaps,) ground under both."""


def separate_polygons(shapes: NDArray[np.object_]) -> SeparatedPolygons:
    """
    Give the ground under two polygons to the later one, as if all were painted in their order.

    Parameters
    ----------
    shapes : (n,) array of valid polygons and multipolygons
        Empty ones stay empty.

    Examples
    --------
    >>> forest, lake = shapely.box(0, 0, 10, 10), shapely.box(2, 2, 4, 4)
    >>> shapely.area(separate_polygons(np.array([forest, lake])).shapes).tolist()
    [96.0, 4.0]
    """
    pairs, shared = find_overlaps(shapes)
    if len(pairs):
        shapes = shapes.copy()
        for earlier in np.unique(pairs[:, 0]):
            above = shapely.union_all(shapes[pairs[pairs[:, 0] == earlier, 1]])
            shapes[earlier] = only_polygons(np.array([shapely.difference(shapes[earlier], above)], object))[0]
    return SeparatedPolygons(shapes, pairs, shared)


def find_overlaps(shapes: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """
    Pairs of polygons that share ground, the earlier first, and that ground.

    In a coverage, where neighbours share their borders, no pair is cut: GEOS compares the edges around those that no
    neighbour has, too (the rim, gaps, overlaps). From a polygon in an overlap the search goes on to those beside it.
    """
    shapes = np.asarray(shapes, object)
    pairs, grounds = [np.zeros((0, 2), np.int64)], [np.zeros(0, object)]
    full = np.flatnonzero(~shapely.is_empty(shapes))
    tree, areas = shapely.STRtree(shapes[full]), shapely.area(shapes)
    near = full[np.unique(tree.query(shapes[full[unshared_edges(shapes[full])]])[1])]
    searched = np.zeros(len(shapes), np.bool_)
    suspects = _misfits(shapes, near)  # of a nested pair only the inner one
    while suspects.size:
        first, second = tree.query(shapes[suspects])
        one, other = suspects[first], full[second]
        both = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
        both = np.unique(both[(one != other) & ~searched[other]], axis=0)
        searched[suspects] = True
        shared = only_polygons(shapely.intersection(*shapes[both].T))
        real = shapely.area(shared) > _NOISE * areas[both].min(axis=1)
        pairs.append(both[real])
        grounds.append(shared[real])
        suspects = full[np.unique(tree.query(shapes[np.unique(both[real])])[1])]
        suspects = suspects[~searched[suspects]]
    found, ground = np.concatenate(pairs), np.concatenate(grounds)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return found[order], ground[order]


def _misfits(shapes: NDArray[np.object_], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Polygons with edges that do not fit to those of the others."""
    if among.size < 2:
        return among[:0]
    misfits: NDArray[np.int64] = among[~shapely.is_empty(shapely.coverage_invalid_edges(shapes[among]))]
    return misfits
