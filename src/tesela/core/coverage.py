r"""
Exact areas of shapes in the cells of a grid, by signed-area accumulation.

The area of a shape to the right of one of its edges, cell by cell, is a trapezium in the cells that the edge
crosses and the edge's height in all cells further right. Added with the sign of the edge's direction over all
edges of a ring, the area outside cancels and the shape's own area is left, as outline fonts are rasterised.
Every edge is processed once, so the work grows with the length of the outlines in cells, not with their area.

All coordinates are in cells: x runs right over columns, y down over rows, and cell (0, 0) is the unit square
at the origin. Shapes may reach past the grid.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.float64]
"""(planes, rows, cols): share of each cell's area."""

DUST = 1e-10
"""Shares below this are sums of rounding errors, and set to 0."""


@numba.njit(cache=True, nogil=True)
def add_edge(
    x0: float, y0: float, x1: float, y1: float, weight: float, plane: int, right: Cells, part: Cells
) -> None:
    """
    Add the area right of an edge: `part` in the cells it crosses, `right` for all cells from there on.

    Edges that run down add `weight`, edges that run up take it away.
    """
    rows, cols = part.shape[1], part.shape[2]
    if y0 == y1:
        return
    if y0 > y1:
        x0, x1 = x1, x0
        y0, y1 = y1, y0
        weight = -weight
    if y1 <= 0.0 or y0 >= rows or (x0 >= cols and x1 >= cols):
        return
    least, most = min(x0, x1), max(x0, x1)
    slope = (x1 - x0) / (y1 - y0)
    y = max(y0, 0.0)
    bottom = min(y1, float(rows))
    x = x0 if y == y0 else min(max(x0 + slope * (y - y0), least), most)
    row = int(y)
    while y < bottom:
        below = min(row + 1.0, bottom)
        x_below = x1 if below == y1 else min(max(x0 + slope * (below - y0), least), most)
        tall = below - y
        low, high = min(x, x_below), max(x, x_below)
        if high <= 0.0:
            right[plane, row, 0] += weight * tall
        elif low < cols:
            col = int(low) if low > 0.0 else 0
            if low >= 0.0 and high <= col + 1.0:
                part[plane, row, col] += weight * tall * (col + 1.0 - 0.5 * (low + high))
                right[plane, row, col + 1] += weight * tall
            else:
                rate = tall / (high - low)
                at = low
                if low < 0.0:
                    right[plane, row, 0] += weight * rate * -low
                    at = 0.0
                while at < high and col < cols:
                    end = min(high, col + 1.0)
                    piece = rate * (end - at)
                    part[plane, row, col] += weight * piece * (col + 1.0 - 0.5 * (at + end))
                    right[plane, row, col + 1] += weight * piece
                    at = end
                    col += 1
        y = below
        x = x_below
        row += 1


@numba.njit(cache=True, nogil=True)
def ring_sign(points: NDArray[np.float64], start: int, stop: int, hole: bool) -> float:
    """Weight with which a ring's edges add its area (of a hole: take it away), whatever way it runs."""
    x, y = points[start, 0], points[start, 1]
    twice = 0.0
    for k in range(start, stop - 1):
        twice += (points[k, 0] - x) * (points[k + 1, 1] - y) - (points[k + 1, 0] - x) * (points[k, 1] - y)
    return 1.0 if (twice < 0.0) != hole else -1.0


@numba.njit(cache=True, nogil=True)
def _add_rings(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    holes: NDArray[np.bool_],
    planes: NDArray[np.int64],
    right: Cells,
    part: Cells,
) -> None:
    for ring in range(planes.size):
        if planes[ring] < 0:
            continue
        sign = ring_sign(points, starts[ring], starts[ring + 1], holes[ring])
        for k in range(starts[ring], starts[ring + 1] - 1):
            add_edge(
                points[k, 0],
                points[k, 1],
                points[k + 1, 0],
                points[k + 1, 1],
                sign,
                planes[ring],
                right,
                part,
            )


@numba.njit(cache=True, nogil=True)
def _gather(right: Cells, part: Cells) -> None:
    """Finish: add to each cell what all edges to its left cover."""
    planes, rows, cols = part.shape
    for plane in range(planes):
        for row in range(rows):
            full = 0.0
            for col in range(cols):
                full += right[plane, row, col]
                share = part[plane, row, col] + full
                part[plane, row, col] = share if abs(share) > DUST else 0.0


def polygon_areas(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    *,
    holes: NDArray[np.bool_],
    planes: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> Cells:
    r"""
    Area of polygons in each cell of a grid, summed by plane.

    .. math:: A_{prc} = \sum_{i \in p} |P_i \cap C_{rc}|

    Parameters
    ----------
    points : (points, 2) array
        Corners of the rings in cells, each ring closed (first corner repeated).
    starts : (rings + 1,) array
        Where each ring begins in `points`; the last entry is their count.
    holes : (rings,) array
        True for holes. The way a ring runs does not matter.
    planes : (rings,) array
        Plane that the ring's polygon is added to; negative: left out.
    shape : (int, int, int)
        Planes, rows and columns.

    Returns
    -------
    (planes, rows, cols) array of float64
        Share of each cell's area; above 1 where polygons of a plane overlap.
    """
    count, rows, cols = shape
    part = np.zeros(shape)
    right = np.zeros((count, rows, cols + 1))
    _add_rings(points, starts, holes, planes, right, part)
    _gather(right, part)
    return part


@numba.njit(cache=True, nogil=True)
def net_point(control: NDArray[np.float64], step: int, i: int, j: int) -> tuple[float, float]:
    """Position of a point of a net, at row i and column j, from the control points around it, bilinear."""
    a, b = i // step, j // step
    v, u = (i - a * step) / step, (j - b * step) / step
    c, d = (a + 1 if v > 0.0 else a), (b + 1 if u > 0.0 else b)
    p, q, r, s = (1.0 - v) * (1.0 - u), (1.0 - v) * u, v * (1.0 - u), v * u
    x = p * control[0, a, b] + q * control[0, a, d] + r * control[0, c, b] + s * control[0, c, d]
    y = p * control[1, a, b] + q * control[1, a, d] + r * control[1, c, b] + s * control[1, c, d]
    return x, y


@numba.njit(cache=True, nogil=True)
def _add_lattice(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    control: NDArray[np.float64],
    step: int,
    sign: float,
    right: Cells,
    part: Cells,
) -> None:
    """Add the sides between pixels of two planes; going east and down, the plane on the left gains."""
    rows, cols = values.shape
    for i in range(rows + 1):
        for j in range(cols + 1):
            here = plane_of[values[i, j]] if i < rows and j < cols else -1
            west = plane_of[values[i, j - 1]] if i < rows and j > 0 else -1
            north = plane_of[values[i - 1, j]] if i > 0 and j < cols else -1
            if here == west and here == north:
                continue
            x0, y0 = net_point(control, step, i, j)
            if here != west and i < rows:
                x1, y1 = net_point(control, step, i + 1, j)
                if here >= 0:
                    add_edge(x0, y0, x1, y1, sign, here, right, part)
                if west >= 0:
                    add_edge(x0, y0, x1, y1, -sign, west, right, part)
            if here != north and j < cols:
                x1, y1 = net_point(control, step, i, j + 1)
                if north >= 0:
                    add_edge(x0, y0, x1, y1, sign, north, right, part)
                if here >= 0:
                    add_edge(x0, y0, x1, y1, -sign, here, right, part)


def pixel_areas(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    *,
    control: NDArray[np.float64],
    step: int,
    shape: tuple[int, int, int],
) -> Cells:
    """
    Area of the pixels of a class raster in each cell of a grid that is rotated against it, summed by plane.

    Each pixel is the quadrangle of its four corners. Only sides between pixels of two planes are processed:
    those inside an area cancel.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values; pixels outside the array have none.
    plane_of : (256,) array
        Plane of each value; negative: left out.
    control : (2, points down, points across) array
        x and y in cells of every `step`-th pixel corner, at least `rows` + 1 and `cols` + 1 corners far; the
        corners between are interpolated bilinearly.
    step : int
        Pixels from control point to control point.
    shape : (int, int, int)
        Planes, rows and columns of the result.

    Returns
    -------
    (planes, rows, cols) array of float64
        Share of each cell's area.
    """
    count, rows, cols = shape
    part = np.zeros(shape)
    right = np.zeros((count, rows, cols + 1))
    down, across = control[:, 1, 0] - control[:, 0, 0], control[:, 0, 1] - control[:, 0, 0]
    sign = 1.0 if across[0] * down[1] - across[1] * down[0] > 0 else -1.0
    _add_lattice(values, plane_of, control, step, sign, right, part)
    _gather(right, part)
    return part


@numba.njit(cache=True, nogil=True)
def _add_boxes(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    row_starts: NDArray[np.int64],
    row_cells: NDArray[np.int64],
    row_lengths: NDArray[np.float64],
    col_starts: NDArray[np.int64],
    col_cells: NDArray[np.int64],
    col_lengths: NDArray[np.float64],
    part: Cells,
) -> None:
    rows, cols = values.shape
    for i in range(rows):
        for s in range(row_starts[i], row_starts[i + 1]):
            row, tall = row_cells[s], row_lengths[s]
            for j in range(cols):
                plane = plane_of[values[i, j]]
                if plane >= 0:
                    for t in range(col_starts[j], col_starts[j + 1]):
                        part[plane, row, col_cells[t]] += tall * col_lengths[t]


def box_areas(
    values: NDArray[np.uint8],
    plane_of: NDArray[np.int64],
    *,
    across: NDArray[np.float64],
    down: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> Cells:
    """
    Area of the pixels of a class raster in each cell of a grid of parallel axes, summed by plane.

    A pixel shares with a cell the product of the lengths they share along each axis.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values.
    plane_of : (256,) array
        Plane of each value; negative: left out.
    across, down : (cols + 1,) and (rows + 1,) arrays
        x of the pixels' sides and y of their tops and bottoms, in cells, rising or falling.
    shape : (int, int, int)
        Planes, rows and columns of the result.

    Returns
    -------
    (planes, rows, cols) array of float64
        Share of each cell's area.
    """
    part = np.zeros(shape)
    _add_boxes(values, plane_of, *_shared_lengths(down, shape[1]), *_shared_lengths(across, shape[2]), part)
    return part


def _shared_lengths(
    sides: NDArray[np.float64], cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each pixel along an axis the cells it touches: where its entries start, the cells, the lengths."""
    low = np.clip(np.minimum(sides[:-1], sides[1:]), 0, cells)
    high = np.clip(np.maximum(sides[:-1], sides[1:]), 0, cells)
    first = np.floor(low).astype(np.int64)
    counts = np.where(high > low, np.ceil(high).astype(np.int64) - first, 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    pixel = np.repeat(np.arange(counts.size), counts)
    cell = first[pixel] + np.arange(starts[-1]) - starts[pixel]
    lengths = np.minimum(high[pixel], cell + 1) - np.maximum(low[pixel], cell)
    return starts, cell, lengths
