"""Outlines: polygons as arrays of corners, moved to the cells of a grid in another CRS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError
from tesela.core.grid import crs_of, window_grid
from tesela.core.polygons import only_polygons

TOLERANCE_CELLS = 1e-5
"""Largest distance of a reprojected edge from its true curve, in cells; it makes shares exact to about 1e-5."""

_SURROUNDINGS = 1.0
"""Polygons are cut this many times the grid's longer side beyond it."""

_SAMPLES = 9
"""The curvature of a reprojection is measured on a net of this many points a side."""


@dataclass(frozen=True)
class Outlines:
    """Rings of polygons as flat arrays; those of one polygon follow each other."""

    points: NDArray[np.float64]
    """(points, 2) x and y of the corners; the first of each ring is repeated at its end."""
    starts: NDArray[np.int64]
    """(rings + 1,) where each ring begins."""
    holes: NDArray[np.bool_]
    """(rings,) True for holes."""
    owners: NDArray[np.int64]
    """(rings,) number of the polygon in the array it came from."""

    @classmethod
    def from_shapes(cls, shapes: NDArray[np.object_]) -> Self:
        """Take the polygons out of shapely geometries; other kinds, and None, are skipped."""
        shapes = only_polygons(shapes)
        corners = shapely.get_num_coordinates(shapes).astype(np.int64)
        parted = (shapely.get_type_id(shapes) != 3) | (shapely.get_num_interior_rings(shapes) > 0)
        rings, holes, owner = _rings_of(shapes[parted])
        counts = (corners > 0).astype(np.int64)  # rings of each polygon
        counts[parted] = np.bincount(owner, minlength=int(parted.sum()))
        owners = np.repeat(np.arange(len(shapes)), counts)
        lengths, is_hole = corners[owners], np.zeros(len(owners), np.bool_)
        lengths[parted[owners]], is_hole[parted[owners]] = shapely.get_num_coordinates(rings), holes
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return cls(shapely.get_coordinates(shapes), starts, is_hole, owners)

    def areas(self, count: int) -> NDArray[np.float64]:
        """Area of each of `count` polygons, holes taken away."""
        x, y = (self.points - self.points[self.starts[:-1]].repeat(np.diff(self.starts), axis=0)).T
        twice = x[:-1] * y[1:] - x[1:] * y[:-1]
        twice[self.starts[1:-1] - 1] = 0.0  # from one ring's end to the next one's start there is no edge
        if not len(self.holes):
            return np.zeros(count)
        rings = np.abs(np.add.reduceat(np.append(twice, 0.0), self.starts[:-1])) / 2
        rings[self.holes] *= -1
        return np.bincount(self.owners, rings, minlength=count).astype(np.float64)

    def with_edges_below(self, length: float) -> Self:
        """Put corners on edges longer than `length`, evenly, so that no edge is longer."""
        edges = np.diff(self.points, axis=0)
        pieces = np.ceil(np.hypot(edges[:, 0], edges[:, 1]) / length).clip(1)
        pieces[self.starts[1:-1] - 1] = 1  # from one ring's end to the next one's start there is no edge
        if not (pieces > 1).any():  # so too where there are no edges
            return self
        counts = np.append(pieces, 1).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        at = np.repeat(np.arange(counts.size), counts)
        along = (np.arange(first[-1]) - first[at]) / counts[at]
        points = self.points[at] + np.append(edges, [[0.0, 0.0]], axis=0)[at] * along[:, np.newaxis]
        return replace(self, points=points, starts=first[self.starts])


@dataclass(frozen=True)
class CellPlane:
    """The way from the coordinates of a CRS to the cells of a grid (x over columns, y over rows)."""

    grid: GeoBox
    to_grid: pyproj.Transformer | None
    """None where the CRS is the grid's own."""
    to_source: pyproj.Transformer | None
    longest_edge: float
    """Edges up to this length, in units of the CRS, stay straight within the tolerance."""

    @classmethod
    def between(cls, crs: str, grid: GeoBox, *, tolerance: float = TOLERANCE_CELLS) -> Self:
        """
        Find the way from a CRS to a grid.

        Parameters
        ----------
        tolerance : float
            In cells.

        Raises
        ------
        GridError
            If the grid has no CRS.
        """
        here, there = pyproj.CRS.from_user_input(crs), pyproj.CRS.from_user_input(crs_of(grid).to_wkt())
        if here.equals(there, ignore_axis_order=True):
            return cls(grid, None, None, math.inf)
        forth = pyproj.Transformer.from_crs(here, there, always_xy=True)
        back = pyproj.Transformer.from_crs(there, here, always_xy=True)
        plane = cls(grid, forth, back, math.inf)
        return replace(plane, longest_edge=plane._measure_edge(tolerance / 2))

    def window(self, row: int, col: int, shape: tuple[int, int]) -> Self:
        """The way to a window of the grid."""
        return replace(self, grid=window_grid(self.grid, row, col, *shape))

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, ...) x and y in cells of points of the CRS; not finite where the grid's CRS does not reach."""
        if self.to_grid is not None:
            x, y = self.to_grid.transform(x, y)
        to_cell = ~self.grid.affine
        return np.stack(
            [to_cell.a * x + to_cell.b * y + to_cell.c, to_cell.d * x + to_cell.e * y + to_cell.f]
        )

    def bounds(self, *, margin: float = 1.0) -> tuple[float, float, float, float] | None:
        """Bounds in the CRS of the grid and some cells around it; None where the CRS does not reach."""
        rows, cols = self.grid.shape
        corners = [
            self.grid.affine * (x, y) for x in (-margin, cols + margin) for y in (-margin, rows + margin)
        ]
        xs, ys = zip(*corners, strict=True)
        box = (min(xs), min(ys), max(xs), max(ys))
        if self.to_source is None:
            return box
        left, bottom, right, top = (float(v) for v in self.to_source.transform_bounds(*box, densify_pts=21))
        finite = all(math.isfinite(side) for side in (left, bottom, right, top))
        return (left, bottom, right, top) if finite and left < right else None

    def outlines(self, shapes: NDArray[np.object_]) -> Outlines:
        """
        Outlines of polygons in cells, with corners added where straight edges become curves.

        Polygons of another CRS that reach far beyond the grid are cut to its surroundings first: at the far
        side of the earth a projection gives anything.

        Raises
        ------
        GridError
            If coordinates cannot be brought to the grid's CRS.
        """
        box = None if self.to_grid is None else self.bounds(margin=_SURROUNDINGS * max(self.grid.shape))
        if box is not None:
            shapes = _cut(shapes, box)
        placed = self._placed(Outlines.from_shapes(shapes))
        if not np.isfinite(placed.points).all():
            raise GridError(
                f"Polygons hold coordinates that cannot be brought to {self.grid.crs}; check the coordinate "
                f"system of the layer, or cut the layer to the grid (ogr2ogr -spat)."
            )
        return placed

    def _placed(self, rings: Outlines) -> Outlines:
        if math.isfinite(self.longest_edge):
            rings = rings.with_edges_below(self.longest_edge)
        return replace(rings, points=np.ascontiguousarray(self.place(*rings.points.T).T))

    def _measure_edge(self, tolerance: float) -> float:
        """
        Longest edge whose image strays from the straight line by the tolerance at most.

        The middle of an edge of length L strays by c L²/8 where c is the curvature of its image; miss / L² is
        measured on edges across the grid, in four directions, and the largest is taken.
        """
        assert self.to_source is not None
        rows, cols = self.grid.shape
        col, row = np.meshgrid(np.linspace(0, cols, _SAMPLES), np.linspace(0, rows, _SAMPLES))
        a = self.grid.affine
        x, y = self.to_source.transform(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
        worst = 0.0
        for first, last in (
            (np.s_[:-1, :], np.s_[1:, :]),
            (np.s_[:, :-1], np.s_[:, 1:]),
            (np.s_[:-1, :-1], np.s_[1:, 1:]),
            (np.s_[:-1, 1:], np.s_[1:, :-1]),
        ):
            square = (x[last] - x[first]) ** 2 + (y[last] - y[first]) ** 2
            middle = self.place((x[first] + x[last]) / 2, (y[first] + y[last]) / 2)
            ends = (self.place(x[first], y[first]) + self.place(x[last], y[last])) / 2
            ratio = np.hypot(*(middle - ends)) / square
            ratio = ratio[np.isfinite(ratio)]
            worst = max(worst, float(ratio.max(initial=0.0)))
        return math.sqrt(tolerance / worst) if worst > 0 else math.inf


def _cut(shapes: NDArray[np.object_], box: tuple[float, float, float, float]) -> NDArray[np.object_]:
    """The shapes, those cut that reach out of the box by more than its size; nearer ones stay as they are."""
    left, bottom, right, top = box
    wide, tall = right - left, top - bottom
    bounds = shapely.bounds(shapes)
    over = np.stack([left - bounds[:, 0], bounds[:, 2] - right, bottom - bounds[:, 1], bounds[:, 3] - top])
    far = np.flatnonzero((over > np.array([wide, wide, tall, tall])[:, np.newaxis]).any(axis=0))
    if far.size:
        shapes = shapes.copy()
        shapes[far] = shapely.intersection(shapely.make_valid(shapes[far]), shapely.box(*box))
    return shapes


def _rings_of(
    shapes: NDArray[np.object_],
) -> tuple[NDArray[np.object_], NDArray[np.bool_], NDArray[np.int64]]:
    """Rings of polygons and multipolygons, which of them are holes, and the number of each one's polygon."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    full = ~shapely.is_empty(parts)
    parts, owner = parts[full], owner[full]
    rings, part = shapely.get_rings(parts, return_index=True)
    holes = np.ones(len(rings), np.bool_)
    holes[np.searchsorted(part, np.arange(len(parts)))] = False
    return rings, holes, owner[part].astype(np.int64)
