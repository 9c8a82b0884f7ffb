"""Readers of class shares: exact areas of polygons or pixels in cells, or counts of pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.counting import pixel_counts
from tesela.core.coverage import box_areas, pixel_areas, polygon_areas
from tesela.core.errors import GridError, InputError
from tesela.core.grid import crs_of, window_grid
from tesela.core.outlines import CellPlane
from tesela.io.raster import grid_of, open_dataset
from tesela.io.vector import Bounds, bounds_text, open_layer, read_layer, separate_layer
from tesela.labels.codes import Mixture, make_code_book, polygon_values
from tesela.labels.polygons import PolygonLabels, choose_field
from tesela.labels.rasters import RasterLabels

_MOST_CELLS = 1 << 23
"""Limit of the cells of a block, over all planes: 64 MiB of float64."""

_MOST_POLYGONS = 100_000
"""Approximate limit of the polygons that a block touches."""

_MOST_PX = 1 << 25
"""Approximate limit of the pixels of a class raster that a block covers."""

_MOST_STEP = 64
"""Longest distance between reprojected points, in pixels."""


class PolygonShares:
    """
    Reads areas of classes from a layer of polygons; holds only those that a window touches.

    Ground under two polygons belongs to the later one in the file.
    """

    def __init__(
        self,
        path: str | Path,
        mixture: Mixture,
        *,
        like: GeoBox,
        source: str | None = None,
        field: str | None = None,
        layer: str | None = None,
    ) -> None:
        self.layer = open_layer(path, layer=layer, field=field)
        self.layer.require_features()
        self.field = choose_field(self.layer, field)
        self._book = make_code_book(mixture.legend, source=source, crosswalk=mixture.crosswalk)
        self._mixture = mixture
        self._plane = CellPlane.between(self.layer.crs, like)
        extent, box = self.layer.bounds, self._plane.bounds(margin=0.0)
        if box and not _overlap(extent, box):
            raise _apart(path, extent, self._plane)
        density = self.layer.count / max(_area(extent), 1e-300)
        cells = int(like.shape[0]) * int(like.shape[1])
        a_cell = cells / max(self.layer.count, 1) if box is None else density * _area(box) / cells
        self.block_cells = _block(_MOST_CELLS / len(mixture.legend), _MOST_POLYGONS / max(a_cell, 1e-9))

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """
        Areas of the planes in the cells of a window, (planes, rows, cols) in cells.

        Raises
        ------
        LegendError
            If a polygon that the window touches has a code that is not in the crosswalk.
        """
        plane = self._plane.window(row, col, shape)
        polygons = read_layer(self.layer, bounds=plane.bounds(), columns=[self.field])
        planes = self._mixture.plane_of[polygon_values(self._book, polygons, self.field, self.layer)]
        outlines = plane.outlines(separate_layer(self.layer, polygons)[planes >= 0])
        return polygon_areas(
            outlines.points,
            outlines.starts,
            holes=outlines.holes,
            planes=planes[planes >= 0][outlines.owners],
            shape=(len(self._mixture.legend), *shape),
        )

    def close(self) -> None:
        """Report what reading mended; the file is opened for each window."""
        self.layer.report()


class RasterShares:
    """
    Reads areas of classes from a class raster.

    If the axes of raster and cells are parallel, a pixel and a cell share the product of the shared lengths.
    Otherwise each pixel is the quadrangle of its four corners, reprojected within a stated tolerance.
    """

    def __init__(
        self, path: str | Path, mixture: Mixture, *, like: GeoBox, source: str | None = None
    ) -> None:
        self._mixture = mixture
        with open_dataset(path) as data:
            self._own = grid_of(data)
        assert self._own.crs is not None
        self._plane = CellPlane.between(self._own.crs.to_wkt(), like)
        whole = self._window(self._plane)
        if whole is None:
            left, bottom, right, top = self._own.extent.boundingbox
            raise _apart(path, (left, bottom, right, top), self._plane)
        self._reader = RasterLabels(
            path,
            mixture.legend,
            like=window_grid(self._own, *whole),
            source=source,
            crosswalk=mixture.crosswalk,
        )
        pixels = whole[2] * whole[3] / (int(like.shape[0]) * int(like.shape[1]))
        self.block_cells = _block(_MOST_CELLS / len(mixture.legend), _MOST_PX / max(pixels, 1e-9))

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Areas of the planes in the cells of a window, (planes, rows, cols) in cells."""
        plane = self._plane.window(row, col, shape)
        out_shape = (len(self._mixture.legend), *shape)
        window = self._window(plane)
        if window is None:
            return np.zeros(out_shape)
        top, left, rows, cols = window
        values = self._reader.read(window_grid(self._own, *window))
        own = self._own.affine
        step = ~plane.grid.affine * own
        if plane.to_grid is None and abs(step.b) * rows + abs(step.d) * cols < 1e-6:
            across = step.a * (left + np.arange(cols + 1)) + step.c
            down = step.e * (top + np.arange(rows + 1)) + step.f
            return box_areas(values, self._mixture.plane_of, across=across, down=down, shape=out_shape)
        reach = self._step
        col_at, row_at = np.meshgrid(
            left + reach * np.arange(-(-cols // reach) + 1), top + reach * np.arange(-(-rows // reach) + 1)
        )
        control = plane.place(
            own.a * col_at + own.b * row_at + own.c, own.d * col_at + own.e * row_at + own.f
        )
        if not np.isfinite(control).all():
            raise GridError(
                f"{self._reader.path} reaches beyond the area where {plane.grid.crs} is defined; cut it to "
                f"the grid (gdal_translate -projwin)."
            )
        return pixel_areas(values, self._mixture.plane_of, control=control, step=reach, shape=out_shape)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def _step(self) -> int:
        """Pixels between reprojected points: close enough for bilinear interpolation between them."""
        own = self._own.affine
        side = max(math.hypot(own.a, own.d), math.hypot(own.b, own.e))
        return int(min(max(self._plane.longest_edge / (2 * side), 1), _MOST_STEP))

    def _window(self, plane: CellPlane) -> tuple[int, int, int, int] | None:
        """Row, column, rows and columns of the pixels under a window of cells; None if there are none."""
        rows, cols = self._own.shape
        box = plane.bounds()
        left, top, right, low = 0.0, 0.0, float(cols), float(rows)
        if box is not None:
            corners = [~self._own.affine * (x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
            xs, ys = zip(*corners, strict=True)
            left, right, top, low = (
                max(min(xs), left),
                min(max(xs), right),
                max(min(ys), top),
                min(max(ys), low),
            )
        if left >= right or top >= low:
            return None
        reach = self._step  # windows share one net of reprojected points
        col, row = int(left) // reach * reach, int(top) // reach * reach
        return row, col, math.ceil(low) - row, math.ceil(right) - col


class CountedShares:
    """
    Reads shares as published work computes them: the reference becomes pixels, whose centres are counted by cell.

    A pixel takes the class of the polygon that contains its centre, or of the nearest pixel of a class raster, as in
    `tesela.labels.masks.write_labels`. Pixels are aligned to whole multiples of their side in the CRS of the reference
    (from the corner of a raster); if that CRS is in degrees, in the CRS of the cells.
    """

    def __init__(
        self,
        path: str | Path,
        mixture: Mixture,
        *,
        side_m: float,
        vector: bool,
        like: GeoBox,
        source: str | None = None,
        field: str | None = None,
        layer: str | None = None,
    ) -> None:
        if not side_m > 0:
            raise InputError(f"Pixels of {side_m:g} m cannot be counted; give their side, such as 10 m.")
        self._mixture, self.side_m = mixture, side_m
        if vector:
            polygons = open_layer(path, layer=layer, field=field)
            crs, corner, bounds = polygons.crs, (0.0, 0.0), polygons.bounds
        else:
            with open_dataset(path) as data:
                own = grid_of(data)
            assert own.crs is not None
            left, bottom, right, top = own.extent.boundingbox
            crs, corner, bounds = own.crs.to_wkt(), (own.affine.c, own.affine.f), (left, bottom, right, top)
        reached = CellPlane.between(crs, like).bounds(margin=0.0)
        if reached and not _overlap(bounds, reached):
            raise _apart(path, bounds, CellPlane.between(crs, like))
        self._crs, side = _metric_crs(path, crs, like, side_m)
        self._plane = CellPlane.between(self._crs, like)
        self._pixel = Affine(side, 0, corner[0], 0, -side, corner[1])
        top_row, left_col, rows, cols = self._window(self._plane)
        lattice = GeoBox((rows, cols), self._pixel * Affine.translation(left_col, top_row), self._crs)
        self._labels: PolygonLabels | RasterLabels
        if vector:
            book = make_code_book(mixture.legend, source=source, crosswalk=mixture.crosswalk)
            self._labels = PolygonLabels(path, book, like=lattice, field=field, layer=layer)
        else:
            self._labels = RasterLabels(
                path, mixture.legend, like=lattice, source=source, crosswalk=mixture.crosswalk
            )
        pixels = rows * cols / (int(like.shape[0]) * int(like.shape[1]))
        if pixels > _MOST_PX:
            raise InputError(
                f"A cell holds {pixels:,.0f} pixels of {side_m:g} m, too many to count; count larger pixels, "
                f"or take exact areas."
            )
        self.block_cells = _block(_MOST_CELLS / len(mixture.legend), _MOST_PX / pixels)

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """
        Counted pixels of the planes in the cells of a window, (planes, rows, cols), by all pixels of the cell.

        Raises
        ------
        GridError
            If a cell contains no centre of a pixel.
        """
        plane = self._plane.window(row, col, shape)
        top, left, rows, cols = self._window(plane)
        grid = GeoBox((rows, cols), self._pixel * Affine.translation(left, top), self._crs)
        values = self._labels.read(grid)
        reach = self._step
        col_at, row_at = np.meshgrid(
            left + 0.5 + reach * np.arange(-(-cols // reach) + 1),
            top + 0.5 + reach * np.arange(-(-rows // reach) + 1),
        )
        a = self._pixel
        control = plane.place(a.a * col_at + a.c, a.e * row_at + a.f)
        counts, pixels = pixel_counts(
            values,
            self._mixture.plane_of,
            control=control,
            step=reach,
            shape=(len(self._mixture.legend), *shape),
        )
        if not pixels.all():
            raise GridError(
                f"Some cells contain no centre of a pixel of {self.side_m:g} m; count smaller pixels, or take exact "
                f"areas."
            )
        return counts / pixels

    def close(self) -> None:
        """Close the file, and report what reading mended."""
        self._labels.close()

    @property
    def _step(self) -> int:
        return int(min(max(self._plane.longest_edge / (2 * self._pixel.a), 1), _MOST_STEP))

    def _window(self, plane: CellPlane) -> tuple[int, int, int, int]:
        """Row, column, rows and columns of the pixels around a window of cells."""
        box = plane.bounds()
        if box is None:
            raise GridError(
                f"The cells reach beyond the area where the reference's coordinate system is defined; cut them "
                f"to it, or take exact areas ({plane.grid.crs})."
            )
        left, bottom = ~self._pixel * box[:2]
        right, top = ~self._pixel * box[2:]
        reach = self._step  # windows share one net of reprojected points
        row, col = math.floor(top / reach) * reach, math.floor(left / reach) * reach
        return row, col, math.ceil(bottom) - row, math.ceil(right) - col


def _metric_crs(path: str | Path, crs: str, like: GeoBox, side_m: float) -> tuple[str, float]:
    """CRS to draw pixels in, the reference's or that of the cells, and the pixels' side in its unit."""
    for text in (crs, crs_of(like).to_wkt()):
        system = pyproj.CRS.from_user_input(text)
        if system.is_projected:
            return text, side_m / float(system.axis_info[0].unit_conversion_factor)
    raise GridError(
        f"{path}: neither it nor the cells are in metres, so no pixels of {side_m:g} m can be drawn. Reproject it "
        f"(ogr2ogr -t_srs EPSG:....), or take exact areas."
    )


def _block(*limits: float) -> int:
    """Largest power of two whose square is within all limits, at most 512."""
    most = max(1.0, min(limits))
    return 1 << min(9, int(math.log2(most) / 2))


def _area(bounds: Bounds) -> float:
    return (bounds[2] - bounds[0]) * (bounds[3] - bounds[1])


def _overlap(one: Bounds, other: Bounds) -> bool:
    return one[0] < other[2] and one[2] > other[0] and one[1] < other[3] and one[3] > other[1]


def _apart(reference: str | Path, extent: Bounds, plane: CellPlane) -> GridError:
    wanted = plane.bounds(margin=0.0)
    where = "elsewhere" if wanted is None else f"at {bounds_text(wanted)}"
    return GridError(
        f"{reference} is at {bounds_text(extent)}, the cells {where} (left, bottom, right, top in the CRS of the "
        f"reference): they do not overlap. Check the coordinate systems of both."
    )
