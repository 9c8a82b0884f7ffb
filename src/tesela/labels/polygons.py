"""Polygons as a reference: the class of the polygon that contains the centre of each pixel, window by window."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import pixel_offset
from tesela.core.legend import NODATA
from tesela.core.polygons import only_polygons
from tesela.io.raster import Closing
from tesela.io.vector import Bounds, VectorLayer, count_overlaps, open_layer, read_layer
from tesela.labels.codes import CodeBook, polygon_values

if TYPE_CHECKING:
    import geopandas as gpd

_CODE_FIELD = re.compile(r"(clc_?)?code_?\d{2,4}", re.IGNORECASE)
"""Names of the class field in CORINE layers: CODE_18, Code_12, CLC_CODE_2018."""

_ERROR_PX = 0.05
"""Largest distance of a reprojected edge from the true curve: half of the tenth of a pixel that the docs promise."""

_STEPS_PER_PX = 2.0**20
"""Corners are rounded to a millionth of a pixel: every window gets exactly the same polygon."""


class PolygonLabels(Closing):
    """
    Reads windows of class labels from a layer of polygons; loads only the polygons that a window touches.

    A pixel takes the class of the polygon that contains its centre (GDAL's rule). A centre on an edge belongs to
    the polygon on its left, or to the lower one of two above each other; a partition labels every pixel once.
    Where polygons overlap, the later one in the file wins. The class of a pixel does not depend on the window.
    What was mended, left out or decided is reported when the reader is closed.
    """

    def __init__(
        self,
        path: str | Path,
        book: CodeBook,
        *,
        like: GeoBox,
        field: str | None = None,
        layer: str | None = None,
    ) -> None:
        self.layer = open_layer(path, layer=layer, field=field)
        self.layer.require_features()
        self.field = choose_field(self.layer, field)
        self.book = book
        self.like = like
        self._to_grid = _transformer(self.layer.crs, like)
        self._to_layer = _transformer(self.layer.crs, like, back=True)
        self._segment = _segment_length(like, self._to_grid, self._to_layer)
        self._reach = self._bounds_of(like, margin_px=max(like.shape))

    def close(self) -> None:
        """Report what reading mended; the file is opened for each window."""
        self.layer.report()

    def extent(self) -> Bounds:
        """Bounds of the layer in the grid's CRS."""
        if self._to_grid is None:
            return self.layer.bounds
        left, bottom, right, top = self._to_grid.transform_bounds(*self.layer.bounds, densify_pts=21)
        return float(left), float(bottom), float(right), float(top)

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """
        Class values on a window of the grid, (rows, cols) uint8; 0 where there is no polygon.

        Raises
        ------
        LegendError
            If a polygon that the window touches has a code that is not in the crosswalk.
        GridError
            If the pixels of the window are not those of the grid.
        """
        return self._draw(self._polygons(grid), grid, np.full(tuple(grid.shape), NODATA, np.uint8))

    def _polygons(self, grid: GeoBox) -> gpd.GeoDataFrame:
        """Polygons that a window touches."""
        return read_layer(self.layer, bounds=self._bounds_of(grid, margin_px=1), columns=[self.field])

    def _draw(self, polygons: gpd.GeoDataFrame, grid: GeoBox, below: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Values of polygons on a window, over those of `below`, (rows, cols); polygons of nodata are drawn, too."""
        corner = pixel_offset(self.like, grid)
        if corner is None:
            raise GridError("The window is not aligned to the pixels of the labels' grid; give one that is.")
        values = polygon_values(self.book, polygons, self.field, self.layer)
        count_overlaps(self.layer, polygons)
        shapes = self._on_pixels(polygons.geometry.to_numpy(), corner)
        pairs = zip(shapes, values.tolist(), strict=True)
        drawn = [(shape, value) for shape, value in pairs if not shape.is_empty]
        out = below.copy()
        if drawn:
            rasterize(drawn, out=out)
        return out

    def _on_pixels(self, shapes: NDArray[np.object_], corner: tuple[int, int]) -> NDArray[np.object_]:
        """Polygons in pixel coordinates (column, row) of the window whose corner lies at `corner`."""
        if self._to_grid is not None:
            shapes = self._densified(shapes)
        to_pixel = ~self.like.affine
        row, col = corner

        def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = points[:, 0], points[:, 1]
            if self._to_grid is not None:
                x, y = self._to_grid.transform(x, y)
            cols = to_pixel.a * x + to_pixel.b * y + to_pixel.c
            rows = to_pixel.d * x + to_pixel.e * y + to_pixel.f
            whole = np.rint(np.stack([cols, rows], axis=1) * _STEPS_PER_PX) / _STEPS_PER_PX
            return np.asarray(whole - [col, row])

        pixels: NDArray[np.object_] = shapely.transform(shapes, to_pixels)
        return pixels

    def _densified(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """
        Polygons with corners close enough for reprojection.

        Parts farther from the grid than its own size are cut off: a projection can fold them back onto the grid.
        """
        left, bottom, right, top = self._reach
        bounds = shapely.bounds(shapes)
        far = (bounds[:, :2] < (left, bottom)).any(axis=1) | (bounds[:, 2:] > (right, top)).any(axis=1)
        if far.any():
            shapes = shapes.copy()
            shapes[far] = shapely.intersection(shapely.make_valid(shapes[far]), shapely.box(*self._reach))
            shapes = only_polygons(shapes)
        return shapes if self._segment is None else np.asarray(shapely.segmentize(shapes, self._segment))

    def _bounds_of(self, grid: GeoBox, *, margin_px: int) -> Bounds:
        """Bounds in the layer's CRS of a window and a margin around it."""
        rows, cols = grid.shape
        left_right, top_bottom = (-margin_px, cols + margin_px), (-margin_px, rows + margin_px)
        corners = [grid.affine * (x, y) for x in left_right for y in top_bottom]
        xs, ys = zip(*corners, strict=True)
        box = (min(xs), min(ys), max(xs), max(ys))
        if self._to_layer is None:
            return box
        left, bottom, right, top = self._to_layer.transform_bounds(*box, densify_pts=21)
        if not all(math.isfinite(side) for side in (left, bottom, right, top)):
            return self.layer.bounds
        return float(left), float(bottom), float(right), float(top)


def choose_field(layer: VectorLayer, field: str | None) -> str:
    """
    Name of the field of codes: the given one, else the only one, else the one of CORINE.

    Raises
    ------
    InputError
        If there is no such field, or the choice is ambiguous.
    """
    if field is not None:
        return layer.require_field(field)
    likely = [name for name in layer.fields if _CODE_FIELD.fullmatch(name)]
    choice = layer.fields if len(layer.fields) == 1 else tuple(likely)
    if len(choice) != 1:
        raise InputError(
            f"{layer.path}: it is ambiguous which field holds the class codes. Name one (--field); "
            f"it has {join_words(layer.fields, most=30) or 'none'}."
        )
    return choice[0]


def _transformer(crs: str, like: GeoBox, *, back: bool = False) -> pyproj.Transformer | None:
    """Transformer from the layer to the grid (or back), x before y; None where the CRS is the same."""
    assert like.crs is not None
    mine, theirs = pyproj.CRS.from_user_input(crs), pyproj.CRS.from_user_input(like.crs.to_wkt())
    if mine.equals(theirs, ignore_axis_order=True):
        return None
    start, end = (theirs, mine) if back else (mine, theirs)
    return pyproj.Transformer.from_crs(start, end, always_xy=True)


def _segment_length(
    like: GeoBox, to_grid: pyproj.Transformer | None, to_layer: pyproj.Transformer | None
) -> float | None:
    """
    Longest edge, in units of the layer, whose straight image stays within `_ERROR_PX` of the true one.

    The error grows with the square of the length; it is measured on edges across the grid.
    """
    if to_grid is None or to_layer is None:
        return None
    rows, cols = like.shape
    col, row = np.meshgrid(np.linspace(0, cols, 9), np.linspace(0, rows, 9))
    a = like.affine
    x, y = to_layer.transform(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
    squares = []
    for first, last in (
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        length = np.hypot(x[last] - x[first], y[last] - y[first])
        middle = np.stack(to_grid.transform((x[first] + x[last]) / 2, (y[first] + y[last]) / 2))
        ends = [np.stack(to_grid.transform(x[end], y[end])) for end in (first, last)]
        miss = np.hypot(*(middle - (ends[0] + ends[1]) / 2))
        squares.append(np.nanmax(miss / length**2))
    curvature = float(np.nanmax(squares))
    pixel = min(math.hypot(like.affine.a, like.affine.d), math.hypot(like.affine.b, like.affine.e))
    return math.sqrt(_ERROR_PX * pixel / curvature) if curvature > 0 else None
