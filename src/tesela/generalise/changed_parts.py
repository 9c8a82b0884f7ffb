"""Changed parts: where the new map shows one other class in a polygon, in areas of the minimum mapping unit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from tesela.core.grid import window_grid
from tesela.core.outlines import CellPlane, Outlines
from tesela.core.polygons import only_polygons
from tesela.core.shared_corners import SharedCorners
from tesela.generalise.polygon_areas import pixel_bounds
from tesela.generalise.regions import build_graph
from tesela.generalise.strips import Plan
from tesela.generalise.tracing import trace_regions
from tesela.generalise.unit import merge_graph
from tesela.io.maps import MapReader

_KEEPS = 255
"""Value of pixels that show a class of the polygon itself, or none."""
_CANVAS_PX = 1 << 21
"""Pixels of a canvas, on which many polygons are divided at once."""
_LARGEST_PX = 1 << 24
"""Pixels of a canvas for one polygon, and of a window that is read for many."""
_WIDE_PX = 2048
"""Least width of a canvas."""
_ROUNDING = 1e-9
"""Largest share of a polygon that rounding makes of nothing."""
_WHOLE = 1e-6
"""A part that leaves at most this share of its polygon is the whole polygon."""


@dataclass(frozen=True, eq=False)
class ChangedParts:
    """Parts of polygons, in the order of the polygons."""

    owners: NDArray[np.int64]
    """(parts,) position of the polygon."""
    values: NDArray[np.uint8]
    """(parts,) value of the class that the map shows."""
    shapes: NDArray[np.object_]
    """(parts,) polygons; with the rest of their polygon they cover it without gaps or overlaps."""
    areas: NDArray[np.float64]
    """(parts,) area in pixels of the map."""


@dataclass(frozen=True)
class _Cell:
    """A polygon's place on a canvas."""

    polygon: int
    row: int
    col: int
    """Corner on the canvas."""
    top: int
    left: int
    """Corner in the map."""
    rows: int
    cols: int
    step: int
    """Pixels of the map from one pixel of the canvas to the next."""


def divide_polygons(
    shapes: NDArray[np.object_],
    own: NDArray[np.bool_],
    *,
    plane: CellPlane,
    reader: MapReader,
    unit_px: float,
) -> ChangedParts:
    """
    Divide polygons by the classes that a map shows in them.

    In each polygon, the areas of one class under the unit go to a neighbour, the smallest first, as in
    `tesela.generalise.unit.drop_small_areas`; all classes of the polygon itself count as one. What then shows
    another class is a changed part. A polygon under the unit changes as a whole or not at all.

    Parameters
    ----------
    shapes : (polygons,) array of polygons and multipolygons
        Valid and without overlaps.
    own : (polygons, classes) array of bool
        Classes of the map that a polygon's code stands for.
    plane : CellPlane
        From the polygons' CRS to the pixels of the map.
    reader : MapReader
    unit_px : float
        Minimum mapping unit in pixels. Polygons that span more than 16 million pixels are divided at every second,
        third, ... pixel.
    """
    outlines = plane.outlines(shapes)
    bounds = pixel_bounds(outlines, len(shapes))
    total = outlines.areas(len(shapes))
    window = _Window(plane, reader, bounds)
    legend = reader.map.legend
    owners, values, pieces = [], [], []
    for shape, cells in _canvases(bounds, (int(plane.grid.shape[0]), int(plane.grid.shape[1]))):
        found = _divide_canvas(shape, cells, outlines, own, plane, window, legend.values, unit_px)
        owners.append(found[0])
        values.append(found[1])
        pieces.append(found[2])
    if not owners:
        return _no_parts()
    owner, value = np.concatenate(owners), np.concatenate(values)
    return _fitted(owner, value, np.concatenate(pieces), shapes, total, plane, unit_px)


def _no_parts() -> ChangedParts:
    return ChangedParts(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, object), np.empty(0))


class _Window:
    """Class values around polygons; those of most polygons are read at once."""

    def __init__(self, plane: CellPlane, reader: MapReader, bounds: NDArray[np.float64]) -> None:
        self._grid, self._reader = plane.grid, reader
        self._corner = (0, 0)
        self._values = np.zeros((0, 0), np.uint8)
        sides = np.maximum(bounds[2] - bounds[0], bounds[3] - bounds[1])
        small = bounds[:, sides <= _WIDE_PX]
        if small.shape[1] < 2:
            return
        left, top = np.floor(small[:2].min(axis=1)).astype(int) - 1
        right, low = np.ceil(small[2:].max(axis=1)).astype(int) + 1
        if (right - left) * (low - top) <= 2 * _LARGEST_PX:
            self._corner = int(top), int(left)
            self._values = reader.read(window_grid(plane.grid, top, left, low - top, right - left))

    def read(self, cell: _Cell) -> NDArray[np.uint8]:
        """(rows, cols) class values of a cell; 0 outside the map."""
        row, col = cell.top - self._corner[0], cell.left - self._corner[1]
        rows, cols = self._values.shape
        if row >= 0 and col >= 0 and row + cell.rows <= rows and col + cell.cols <= cols and cell.step == 1:
            return self._values[row : row + cell.rows, col : col + cell.cols]
        values = np.zeros((cell.rows, cell.cols), np.uint8)
        tall = max(1, _CANVAS_PX // (cell.cols * cell.step) // cell.step) * cell.step
        for first in range(0, cell.rows * cell.step, tall):
            count = min(tall, cell.rows * cell.step - first)
            grid = window_grid(self._grid, cell.top + first, cell.left, count, cell.cols * cell.step)
            strip = self._reader.read(grid)[cell.step // 2 :: cell.step, cell.step // 2 :: cell.step]
            values[first // cell.step : first // cell.step + len(strip)] = strip
        return values


def _canvases(
    bounds: NDArray[np.float64], shape: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], list[_Cell]]]:
    """Place polygons on canvases, the tallest first, side by side with a pixel between them; huge ones alone."""
    rows, cols = shape
    left, top = np.maximum(np.floor(bounds[0]), 0) - 1, np.maximum(np.floor(bounds[1]), 0) - 1
    wide = np.minimum(np.ceil(bounds[2]), cols) + 1 - left
    tall = np.minimum(np.ceil(bounds[3]), rows) + 1 - top
    on_map = np.isfinite(bounds[0]) & (wide > 2) & (tall > 2)
    order = [int(at) for at in np.argsort(-np.where(on_map, tall, 0), kind="stable") if on_map[at]]
    cells: list[_Cell] = []
    row = col = height = width = 0
    for at in order:
        step = max(1, math.ceil(math.sqrt(wide[at] * tall[at] / _LARGEST_PX)))
        size = math.ceil(tall[at] / step), math.ceil(wide[at] / step)
        if step > 1:
            yield size, [_Cell(at, 0, 0, int(top[at]), int(left[at]), *size, step)]
            continue
        if cells and col + size[1] > max(_WIDE_PX, width):
            row, col, height = row + height + 1, 0, 0
        if cells and (row + max(height, size[0])) * max(_WIDE_PX, width, size[1]) > _CANVAS_PX:
            yield _extent(cells), cells
            cells = []
            row = col = height = width = 0
        cells.append(_Cell(at, row, col, int(top[at]), int(left[at]), *size, 1))
        col += size[1] + 1
        height, width = max(height, size[0]), max(width, size[1])
    if cells:
        yield _extent(cells), cells


def _extent(cells: list[_Cell]) -> tuple[int, int]:
    return max(cell.row + cell.rows for cell in cells), max(cell.col + cell.cols for cell in cells)


def _divide_canvas(
    shape: tuple[int, int],
    cells: list[_Cell],
    outlines: Outlines,
    own: NDArray[np.bool_],
    plane: CellPlane,
    window: _Window,
    class_values: tuple[int, ...],
    unit_px: float,
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.object_]]:
    """Polygon, class value and outline, in the polygons' CRS, of the changed areas of a canvas."""
    values = np.zeros(shape, np.uint8)
    number = np.full(shape, -1, np.int32)
    first_ring = np.searchsorted(outlines.owners, [cell.polygon for cell in cells])
    drawn = []
    for at, cell in enumerate(cells):
        place = np.s_[cell.row : cell.row + cell.rows, cell.col : cell.col + cell.cols]
        table = np.arange(256, dtype=np.uint8)
        table[0] = _KEEPS
        table[np.array(class_values)[own[cell.polygon]]] = _KEEPS
        values[place] = table[window.read(cell)]
        number[place] = at
        drawn.append((_on_canvas(outlines, int(first_ring[at]), cell), 1))
    inside = rasterize(drawn, out_shape=shape, dtype=np.uint8)
    touched = rasterize(drawn, out_shape=shape, dtype=np.uint8, all_touched=True)
    values[inside == 0] = 0
    _fill_rim(values, touched)
    unit = max(1, math.ceil(unit_px / cells[0].step ** 2))
    plan = Plan(threads=1)

    def read(first: int, stop: int) -> NDArray[np.uint8]:
        return values[first:stop]

    graph = build_graph(read, shape, unit_px=unit, plan=plan)
    merge_graph(graph, unit_px=unit, edges="merge")
    final = graph.final_values()
    root = np.append(graph.parent, np.int32(-1))

    def labels() -> Iterator[NDArray[np.int32]]:
        for strip in graph.strips:
            mine = graph.strip_labels(strip, read)
            kept = root[np.where(mine < 0, -1, mine + graph.offsets[strip.number])]
            yield np.where(final[np.maximum(kept, 0)] == _KEEPS, -1, kept).astype(np.int32)

    tracing = trace_regions(graph, labels())
    first = tracing.points[tracing.starts[tracing.polygons[:-1]]]
    if not len(first):
        none = _no_parts()
        return none.owners, none.values, none.shapes
    rings = np.repeat(np.arange(len(tracing.polygons) - 1), np.diff(tracing.polygons))
    points_of = np.repeat(rings, np.diff(tracing.starts))
    corner = np.full((len(first), 2), np.iinfo(np.int64).max)
    np.minimum.at(corner, points_of, tracing.points.astype(np.int64))
    cell_of = number[corner[:, 1], corner[:, 0]]
    facts = np.array([(c.left, c.top, c.col, c.row, c.step, c.polygon) for c in cells], np.int64)[cell_of]
    shift = facts[points_of]
    pixels = (tracing.points - shift[:, 2:4]) * shift[:, 4:5] + shift[:, 0:2]
    affine = plane.grid.affine
    x = affine.a * pixels[:, 0] + affine.b * pixels[:, 1] + affine.c
    y = affine.d * pixels[:, 0] + affine.e * pixels[:, 1] + affine.f
    if plane.to_source is not None:
        x, y = plane.to_source.transform(x, y)
    pieces: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, np.stack([x, y], axis=1), (tracing.starts, tracing.polygons)
    )
    return facts[:, 5], final[tracing.regions], pieces


def _on_canvas(outlines: Outlines, ring: int, cell: _Cell) -> dict[str, object]:
    """A polygon, whose rings begin at `ring`, in pixels of the canvas, as GeoJSON."""
    parts: list[list[object]] = []
    while ring < len(outlines.owners) and outlines.owners[ring] == cell.polygon:
        pixels = outlines.points[outlines.starts[ring] : outlines.starts[ring + 1]]
        points = ((pixels - (cell.left, cell.top)) / cell.step + (cell.col, cell.row)).tolist()
        if outlines.holes[ring]:
            parts[-1].append(points)
        else:
            parts.append([points])
        ring += 1
    return {"type": "MultiPolygon", "coordinates": parts}


def _fill_rim(values: NDArray[np.uint8], touched: NDArray[np.uint8]) -> None:
    """Give pixels that a polygon only touches the class of the pixel beside them that lies in it."""
    rim = (touched > 0) & (values == 0)
    padded = np.pad(values, 1)
    rows, cols = values.shape
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        beside = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + cols]
        filled = rim & (beside > 0)
        values[filled] = beside[filled]
        rim &= ~filled


def _fitted(
    owner: NDArray[np.int64],
    value: NDArray[np.uint8],
    pieces: NDArray[np.object_],
    shapes: NDArray[np.object_],
    total: NDArray[np.float64],
    plane: CellPlane,
    unit_px: float,
) -> ChangedParts:
    """Cut the areas to their polygons; what would remain of a polygon under the unit goes to the part beside it."""
    cut = only_polygons(shapely.intersection(pieces, shapes[owner]))
    parts, at = shapely.get_parts(cut, return_index=True)
    owner, value = owner[at], value[at]
    areas = _areas(parts, plane)
    kept = np.flatnonzero((areas >= unit_px) | (areas >= (1 - _WHOLE) * total[owner]))
    kept = kept[np.argsort(owner[kept], kind="stable")]
    owner, value, parts = owner[kept], value[kept], parts[kept]
    whole, divided = _small_rests(owner, parts, shapes, plane, unit_px)
    parts[np.searchsorted(owner, whole)] = shapes[whole]
    for polygon in divided:
        mine = np.flatnonzero(owner == polygon)
        parts[mine] = _with_slivers(parts[mine], shapes[polygon], plane, unit_px)
    return ChangedParts(owner, value, parts, _areas(parts, plane))


def _small_rests(
    owner: NDArray[np.int64],
    parts: NDArray[np.object_],
    shapes: NDArray[np.object_],
    plane: CellPlane,
    unit_px: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Polygons of which beside one part no piece of the unit would remain; others of which a smaller one would."""
    polygons, first, count = np.unique(owner, return_index=True, return_counts=True)
    if not len(polygons):
        return polygons, polygons
    taken = parts[first].copy()
    several = count > 1
    taken[several] = [shapely.union_all(parts[owner == polygon]) for polygon in polygons[several]]
    rest = only_polygons(shapely.difference(shapes[polygons], taken))
    pieces, at = shapely.get_parts(rest, return_index=True)
    least = _ROUNDING * shapely.area(shapes[polygons])[at]
    small = _areas(pieces, plane) < unit_px
    large = np.bincount(at[~small], minlength=len(polygons)) > 0
    sliver = np.bincount(at[small & (shapely.area(pieces) > least)], minlength=len(polygons)) > 0
    whole = ~several & ~large
    return polygons[whole], polygons[sliver & ~whole]


def _areas(shapes: NDArray[np.object_], plane: CellPlane) -> NDArray[np.float64]:
    return plane.outlines(shapes).areas(len(shapes))


def _with_slivers(
    parts: NDArray[np.object_], shape: shapely.Geometry, plane: CellPlane, unit_px: float
) -> NDArray[np.object_]:
    corners = SharedCorners(shapely.get_coordinates(parts))
    parts = corners.insert(parts)
    (fitted,) = corners.insert(np.array([shape], object))
    rest = shapely.get_parts(
        only_polygons(np.array([shapely.difference(fitted, shapely.union_all(parts))]))[0]
    )
    small = _areas(rest, plane) < unit_px if len(rest) else np.empty(0, np.bool_)
    parts = SharedCorners(shapely.get_coordinates(rest)).insert(parts)
    for sliver in rest[small]:
        shared = shapely.length(shapely.intersection(parts, sliver))
        best = int(shared.argmax())
        joined = shapely.union(parts[best], sliver)
        if shared[best] > 0 and joined.geom_type == "Polygon":
            parts[best] = joined
    return parts
