"""Unshared edges: borders of polygons that no neighbour has, too, from its own side."""

from __future__ import annotations

import numba
import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.hashing import mix_bits


@numba.njit(cache=True, nogil=True)
def _mark(
    points: NDArray[np.float64],
    bits: NDArray[np.uint64],
    rings: NDArray[np.int64],
    parts: NDArray[np.int64],
    owners: NDArray[np.int64],
    table_bits: int,
    marked: NDArray[np.bool_],
) -> None:
    """Mark the polygons with an edge whose directions do not cancel; an edge is known by the sum of two hashes."""
    size = 1 << table_bits
    keys, sums = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    hashes = np.empty(len(points), np.uint64)
    for k in range(len(points)):
        hashes[k] = mix_bits(mix_bits(bits[k, 0]) + bits[k, 1])
    for again in range(2):
        for part in range(len(parts) - 1):
            for ring in range(parts[part], parts[part + 1]):
                start, stop = rings[ring], rings[ring + 1]
                twice = 0.0
                for k in range(start, stop - 1):
                    x0, y0 = points[k, 0] - points[start, 0], points[k, 1] - points[start, 1]
                    x1, y1 = points[k + 1, 0] - points[start, 0], points[k + 1, 1] - points[start, 1]
                    twice += x0 * y1 - x1 * y0
                way = 1 if (twice > 0.0) == (ring == parts[part]) else -1  # the first is the shell
                for k in range(start, stop - 1):
                    one, other = hashes[k], hashes[k + 1]
                    if one == other:
                        continue
                    key = one + other
                    slot = np.int64(key >> np.uint64(64 - table_bits))
                    while keys[slot] != 0 and keys[slot] != key:
                        slot = (slot + 1) & (size - 1)
                    if not again:
                        keys[slot] = key
                        sums[slot] += way if one < other else -way
                    elif sums[slot] != 0:
                        marked[owners[part]] = True


def unshared_edges(shapes: NDArray[np.object_]) -> NDArray[np.bool_]:
    """
    Polygons with an edge that does not run the other way round in just as many others.

    How many polygons lie over a place changes only where such an edge is crossed. So where polygons overlap, one with
    such an edge overlaps another beside it.

    Parameters
    ----------
    shapes : (n,) array of valid polygons and multipolygons
        None of them is missing.

    Returns
    -------
    (n,) array of bool

    Examples
    --------
    >>> left, right, far = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(4, 0, 5, 1)
    >>> unshared_edges(np.array([left, right, far])).tolist()
    [True, True, True]
    >>> whole = shapely.box(0, 0, 3, 3) - shapely.box(1, 1, 2, 2)
    >>> unshared_edges(np.array([whole, shapely.box(1, 1, 2, 2)])).tolist()
    [True, False]
    """
    marked = np.zeros(len(shapes), np.bool_)
    full = np.flatnonzero(~shapely.is_empty(shapes))
    if not full.size:
        return marked
    kind, points, offsets = shapely.to_ragged_array(shapes[full])
    owners = full
    if kind == shapely.GeometryType.MULTIPOLYGON:
        owners = np.repeat(full, np.diff(offsets[2]))
    points = np.ascontiguousarray(points[:, :2]) + 0.0  # -0 is 0
    table_bits = max(4, int(2 * len(points)).bit_length())
    rings, parts = offsets[0].astype(np.int64), offsets[1].astype(np.int64)
    _mark(points, points.view(np.uint64), rings, parts, owners, table_bits, marked)
    return marked
