"""Overlap of patches: which of them show the same area, so that no area is in two splits."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tesela.core.errors import GridError
from tesela.core.grid import has_true_lengths
from tesela.patches.table import NONE, PatchTable

if TYPE_CHECKING:
    import geopandas as gpd

_MOST_SOUTH, _MOST_NORTH = -80.0, 84.0
"""Latitudes between which UTM zones are defined."""

_ZONES = 30.0
"""Degrees of longitude up to which footprints are brought to one UTM zone."""

_WIDEST_M = 1e7
"""A quarter of a meridian."""

MIN_OVERLAP = 1e-6
"""Patches overlap if they share more than this part of the smaller one; less is rounding."""


def metric_footprints(table: PatchTable) -> gpd.GeoSeries:
    """Footprints in metres: in the CRS of the table, else in its UTM zone, and where it has none, around its middle."""
    footprints = table.frame.geometry
    crs = footprints.crs
    true = all(has_true_lengths(scene.grid) for scene in table.scenes.values())
    if true and crs.is_projected and all(axis.unit_name == "metre" for axis in crs.axis_info[:2]):
        return footprints
    left, bottom, right, top = footprints.total_bounds
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
    corners = to_degrees.transform([left, right, left, right], [bottom, bottom, top, top])[0]
    if (
        _MOST_SOUTH < lat < _MOST_NORTH
        and max(corners) - min(corners) < _ZONES
        and max(map(abs, corners)) <= 180
    ):
        return footprints.to_crs(footprints.estimate_utm_crs())
    plane = f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m +type=crs"
    moved = footprints.to_crs(pyproj.CRS.from_proj4(plane))
    sides = moved.total_bounds
    if not np.isfinite(sides).all() or max(sides[2] - sides[0], sides[3] - sides[1]) > _WIDEST_M:
        raise GridError(
            "The patches are spread over more of the Earth than one plane holds; blocks and distances are in metres. "
            "Give scenes of a smaller area."
        )
    return moved


def shared_pairs(
    first: NDArray[np.object_], second: NDArray[np.object_], *, within_m: float = 0.0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """
    Find the pairs of polygons, one of each array, that overlap or are closer than `within_m` metres.

    Returns
    -------
    (pairs,) array of int, (pairs,) array of int
        Positions in `first` and in `second`.
    """
    tree = shapely.STRtree(second)
    if within_m > 0:
        mine, theirs = tree.query(first, predicate="dwithin", distance=within_m)
        near = shapely.distance(first[mine], second[theirs]) < within_m - MIN_OVERLAP * within_m
        return mine[near], theirs[near]
    mine, theirs = tree.query(first)
    areas, bounds = (
        [shapely.area(side) for side in (first, second)],
        [shapely.bounds(side) for side in (first, second)],
    )
    least = np.minimum(areas[0][mine], areas[1][theirs])
    shared = _common_area(bounds[0][mine], bounds[1][theirs])  # exact for two rectangles, never too small
    boxes = [
        np.isclose(_box_area(box), area, rtol=MIN_OVERLAP / 10)
        for box, area in zip(bounds, areas, strict=True)
    ]
    odd = np.flatnonzero((shared > MIN_OVERLAP * least) & ~(boxes[0][mine] & boxes[1][theirs]))
    shared[odd] = shapely.area(shapely.intersection(first[mine[odd]], second[theirs[odd]]))
    keep = shared > MIN_OVERLAP * least
    return mine[keep], theirs[keep]


def _common_area(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that pairs of rectangles share, from their bounds, (pairs, 4)."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=1))


def _box_area(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1]))


def touched_blocks(
    footprints: NDArray[np.object_], *, side_m: float, anchor: tuple[float, float]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """
    Find the square blocks that footprints touch.

    Parameters
    ----------
    footprints : (patches,) array of polygons, in metres
    anchor : (x, y)
        A corner that four blocks share.

    Returns
    -------
    (pairs,) array of int
        Position of the patch, in ascending order.
    (pairs,) array of int
        Number of the block: 0, 1, ... for the blocks touched, by row and column.
    (pairs,) array of float
        Part of the patch inside the block.
    """
    slack = MIN_OVERLAP * side_m
    bounds = (shapely.bounds(footprints) - np.tile(anchor, 2)) / side_m
    low = np.floor(bounds[:, :2] + slack / side_m).astype(np.int64)
    high = np.maximum(np.ceil(bounds[:, 2:] - slack / side_m).astype(np.int64), low + 1)
    width, height = (high - low).T
    patch = np.repeat(np.arange(len(footprints)), width * height)
    within = np.arange(len(patch)) - np.repeat(np.cumsum(width * height) - width * height, width * height)
    col = low[patch, 0] + within % width[patch]
    row = low[patch, 1] + within // width[patch]
    x, y = anchor[0] + col * side_m, anchor[1] + row * side_m
    cells = shapely.box(x, y, x + side_m, y + side_m)
    part = shapely.area(shapely.intersection(footprints[patch], cells)) / shapely.area(footprints[patch])
    keep = part > MIN_OVERLAP
    _, block = np.unique(np.stack([row[keep], col[keep]], axis=1), axis=0, return_inverse=True)
    return patch[keep], block.ravel(), part[keep]


def one_split_each(patch: NDArray[np.intp], split: NDArray[np.object_], *, count: int) -> NDArray[np.object_]:
    """
    Split of each of `count` patches from the splits of the areas it overlaps; "none" if these are two.

    Parameters
    ----------
    patch, split : (pairs,) arrays
        A patch, and the split of an area that it overlaps.
    """
    names, numbers = np.unique(split.astype(str), return_inverse=True)
    seen = np.zeros((count, len(names)), np.bool_)
    seen[patch, numbers] = True
    if NONE in names:
        seen[:, list(names).index(NONE)] = False
    splits = np.full(count, NONE, object)
    single = seen.sum(axis=1) == 1
    splits[single] = names[seen[single].argmax(axis=1)]
    return splits


def separate_splits(
    footprints: NDArray[np.object_], splits: NDArray[np.object_], *, buffer_m: float = 0.0
) -> NDArray[np.object_]:
    """
    Move patches to "none" until no two patches of different splits overlap or are closer than the buffer.

    The patch with most conflicts is moved first; of equals, one of the largest split; of these, the last.

    Parameters
    ----------
    footprints : (patches,) array of polygons, in metres
    splits : (patches,) array of str
    """
    conflicts: dict[int, set[int]] = {}
    for first, second in _conflicts(footprints, splits, buffer_m=buffer_m):
        conflicts.setdefault(first, set()).add(second)
        conflicts.setdefault(second, set()).add(first)
    names, sizes = np.unique(splits.astype(str), return_counts=True)
    size = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    separated = splits.copy()
    queue = [(-len(others), -size[splits[index]], -index) for index, others in conflicts.items()]
    heapq.heapify(queue)
    while queue:
        degree, _, last = heapq.heappop(queue)
        others = conflicts[-last]
        if len(others) != -degree:  # an outdated entry
            continue
        if not others:
            break
        separated[-last] = NONE
        for other in others:
            conflicts[other].discard(-last)
            heapq.heappush(queue, (-len(conflicts[other]), -size[splits[other]], -other))
        conflicts[-last] = set()
    return separated


def _conflicts(
    footprints: NDArray[np.object_], splits: NDArray[np.object_], *, buffer_m: float
) -> Iterator[tuple[int, int]]:
    patches = {name: np.flatnonzero(splits == name) for name in sorted(set(splits.tolist()) - {NONE})}
    for one, other in combinations(patches.values(), 2):
        first, second = shared_pairs(footprints[one], footprints[other], within_m=buffer_m)
        yield from zip(one[first].tolist(), other[second].tolist(), strict=True)
