"""Downscaling: coarse shares constrain a fine class map; the image says where in a cell each class lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import window_grid, windows
from tesela.core.legend import Legend, sum_to_level
from tesela.io.abundance import AbundanceMap
from tesela.io.cog import BLOCK_PX
from tesela.io.manifest import amend_step, record_step
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import grid_of, open_dataset

Floats = NDArray[np.float64]

_STEP = 1 / 254
"""Step of the probabilities in a file."""

_NODATA = 255
"""Number of pixels without probabilities."""

_ROUNDS = 50
_ENOUGH = 1e-3
"""The fit ends when no class of the cell is farther from its share than this."""

_LEAST_COVER = 0.5
"""A cell of which the scene has less keeps the map as it is: its shares are those of other ground."""

_LARGEST_MARGIN_PX = 4096


@dataclass(frozen=True)
class Downscaled:
    """A class map that keeps the shares of coarse cells."""

    map: ClassMap
    cells: int
    """Cells whose shares are kept."""
    changed: int
    """Pixels whose class is another than in the source."""
    pixels: int
    """Pixels with a class."""


def place_shares(
    source: ClassMap, probabilities: str | Path, shares: AbundanceMap, out: str | Path
) -> Downscaled:
    """
    Write the class map that keeps the shares of coarse cells and fits the probabilities of its pixels best.

    In each cell the probabilities are scaled by class and by pixel, in turn, until every class has its share of the
    cell and every pixel the sum 1 (iterative proportional fitting [Deming1940]_). Then pixels get their classes, the
    surest first, until a class has its number of pixels: a share is met to one pixel of the cell. Pixels belong to the
    cell around their centre. Cells without shares, or with less than half of their area in the scene, keep their
    classes.

    Parameters
    ----------
    source : ClassMap
        The map of the same prediction; `out` may be the same file.
    probabilities : path
        All probabilities, as `tesela.mapping.predict.predict_map` writes them.
    shares : AbundanceMap
        On any coarser grid, in the legend of the map or a coarser level of it.

    Raises
    ------
    LegendError
        If the legend of the shares is no level of the map's.
    GridError
        If the cells are not larger than the pixels, or more than 4096 pixels wide.
    InputError
        If a file cannot be read or written.
    """
    legend = source.legend
    group = group_of(legend, shares.legend)
    cells = _Cells(source.grid, shares)
    rows, cols = (int(side) for side in source.grid.shape)
    kept, changed, pixels = set(), 0, 0
    values = legend.value_table
    with (
        open_dataset(probabilities) as data,
        MapReader(source) as reader,
        MapWriter(out, source.grid, legend) as writer,
    ):
        if data.count != len(legend) or grid_of(data) != source.grid:
            raise InputError(
                f"{probabilities}: has {data.count} bands of {data.height} x {data.width} px; one band for each of the "
                f"{len(legend)} classes, on the grid of {source.path}, was needed. Take both from one prediction."
            )
        bands = list(range(1, data.count + 1))
        side = max(BLOCK_PX, -(-2 * cells.margin_px // BLOCK_PX) * BLOCK_PX)
        for row, col, window in windows(source.grid, side):
            height, width = (int(length) for length in window.shape)
            margin = cells.margin_px
            top, left = min(margin, row), min(margin, col)
            bottom, right = min(margin, rows - row - height), min(margin, cols - col - width)
            wide = window_grid(
                source.grid, row - top, col - left, top + height + bottom, left + width + right
            )
            raw, valid = read_pixel_values(data, bands, wide, nodata=_NODATA, continuous=False)
            mapped = reader.read(wide)
            there: NDArray[np.bool_] = np.asarray(valid.all(0) & (mapped > 0))
            flat = np.where(there, raw, 0).reshape(len(bands), -1).T.astype(np.float32) * np.float32(_STEP)
            likely = np.maximum(flat, np.float32(_STEP / 2))
            number, wanted = cells.of(wide, there)
            before = np.where(there, legend.index_table[mapped], 0).astype(np.int64).ravel()
            classes = before.copy()
            place_cells(likely, number, wanted, group, classes)
            inner = (slice(top, top + height), slice(left, left + width))
            seen = there[inner]
            new, old, cell = (item.reshape(there.shape)[inner] for item in (classes, before, number))
            changed += int((new != old)[seen].sum())
            pixels += int(seen.sum())
            kept |= set(cells.names(cell[seen & (cell >= 0)]).tolist())
            writer.write(row, col, np.where(seen, values[new], mapped[inner]))
    if not pixels:
        raise InputError(f"{probabilities}: no pixel has probabilities.")
    if Path(out).absolute() == Path(source.path).absolute():
        amend_step(out, inputs=[shares.path], settings={"shares": "kept"})
    else:
        record_step(
            "place shares", [out], inputs=[source.path, probabilities, shares.path], legend=legend.address
        )
    return Downscaled(ClassMap(str(out), source.grid, legend), len(kept), changed, pixels)


def group_of(legend: Legend, shares: Legend) -> NDArray[np.int64]:
    """
    Position in the legend of the shares of each class of the map.

    Raises
    ------
    LegendError
        If the legend of the shares is no level of the map's.
    """
    for depth in range(legend.depth, 0, -1):
        if legend.level(depth).codes == shares.codes:
            return np.asarray(sum_to_level(np.eye(len(legend)), legend, depth).argmax(0), np.int64)
    raise LegendError(
        f"The shares have legend '{shares.address}', which is no level of the map's '{legend.address}'. Give shares of "
        f"the map's classes (tesela unmix --level, tesela label --fractions)."
    )


class _Cells:
    """The coarse cells under the pixels of a grid."""

    def __init__(self, grid: GeoBox, shares: AbundanceMap) -> None:
        self.shares, self.grid = shares, shares.grid
        self._to_cells = Transformer.from_crs(grid.crs, shares.grid.crs, always_xy=True).transform
        to_pixels = Transformer.from_crs(shares.grid.crs, grid.crs, always_xy=True).transform
        rows, cols = (int(side) for side in grid.shape)
        corners = np.array([[0, 0, rows, rows, rows / 2], [0, cols, 0, cols, cols / 2]])
        row, col = (np.floor(item) for item in self._places(grid, corners[0], corners[1]))
        around = []
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            x, y = _apply(shares.grid.affine, col + right, row + down)
            around.append(np.stack(_apply(~grid.affine, *to_pixels(x, y))))
        extent = np.ptp(np.stack(around), axis=0)
        if not np.isfinite(extent).all():
            raise GridError(
                f"{shares.path}: its cells cannot be placed on the map ({shares.grid.crs} to {grid.crs})."
            )
        self.margin_px = int(np.ceil(extent.max())) + 2
        sides = [float(np.hypot(*(around[k] - around[0])).mean()) for k in (1, 2)]
        self.area_px = sides[0] * sides[1]
        if min(sides) < 2 or self.margin_px > _LARGEST_MARGIN_PX:
            raise GridError(
                f"{shares.path}: its cells are {sides[0]:.1f} x {sides[1]:.1f} px of the map; from 2 to "
                f"{_LARGEST_MARGIN_PX} px are needed."
            )

    def of(self, grid: GeoBox, there: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """
        Number of the cell of each pixel, (pixels,), -1 where there are no shares; and the (cells, groups) shares.

        Numbers are those of the cells in `names`.
        """
        rows, cols = (int(side) for side in grid.shape)
        row, col = np.mgrid[:rows, :cols] + 0.5
        cell_row, cell_col = (
            np.floor(item).astype(np.int64) for item in self._places(grid, row.ravel(), col.ravel())
        )
        height, width = (int(side) for side in self.grid.shape)
        inside = (cell_row >= 0) & (cell_row < height) & (cell_col >= 0) & (cell_col < width) & there.ravel()
        number = np.full(inside.shape, -1, np.int64)
        groups = len(self.shares.legend)
        if not inside.any():
            return number, np.zeros((0, groups))
        first, start = int(cell_row[inside].min()), int(cell_col[inside].min())
        height = int(cell_row[inside].max()) - first + 1
        width = int(cell_col[inside].max()) - start + 1
        self._corner = first, start, width
        shares = self.shares.read(window_grid(self.grid, first, start, height, width)).reshape(groups, -1).T
        number[inside] = (cell_row[inside] - first) * width + cell_col[inside] - start
        count = np.bincount(number[inside], minlength=len(shares))
        usable = np.isfinite(shares).all(1) & (count >= _LEAST_COVER * self.area_px)
        number[inside & ~usable[np.maximum(number, 0)]] = -1
        return number, np.nan_to_num(shares.astype(np.float64))

    def names(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of cells in the whole map of shares, of numbers that `of` gave last."""
        first, start, width = self._corner if len(numbers) else (0, 0, 1)
        used = np.unique(numbers)
        return (used // width + first) * int(self.grid.shape[1]) + used % width + start

    def _places(
        self, grid: GeoBox, row: NDArray[np.floating], col: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns in the coarse grid, of rows and columns in a fine one."""
        cell_col, cell_row = _apply(~self.grid.affine, *self._to_cells(*_apply(grid.affine, col, row)))
        return cell_row, cell_col


def _apply(affine: Affine, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Coordinates moved by a transform."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def place_cells(
    likely: NDArray[np.float32],
    number: NDArray[np.int64],
    shares: NDArray[np.float64],
    group: NDArray[np.int64],
    classes: NDArray[np.int64],
) -> None:
    """
    Give the pixels of each cell their classes, see `place_shares`.

    Parameters
    ----------
    likely : (pixels, classes) array of float32
        Probabilities above 0.
    number : (pixels,) array of int
        Cell of each pixel; -1: none, the pixel keeps its class.
    shares : (cells, groups) array of float
    group : (classes,) array of int
        Group of each class.
    classes : (pixels,) array of int
        Changed in place.
    """
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(len(shares) + 1))
    for cell in range(len(shares)):
        own = order[bounds[cell] : bounds[cell + 1]]
        if not len(own) or not shares[cell].sum():
            continue
        fitted = likely[own].astype(np.float64)
        fit_shares(fitted, shares[cell] / shares[cell].sum(), group)
        counts = whole_counts(shares[cell] / shares[cell].sum(), len(own))
        best = np.argsort(-fitted, axis=None, kind="stable")
        chosen = np.empty(len(own), np.int64)
        _assign(best, counts, group, chosen)
        classes[own] = chosen


def whole_counts(shares: NDArray[np.float64], pixels: int) -> NDArray[np.int64]:
    """
    Pixels of each class: whole numbers of this sum, by largest remainder.

    Examples
    --------
    >>> whole_counts(np.array([0.5, 0.26, 0.24]), 10).tolist()
    [5, 3, 2]
    """
    exact = shares * pixels
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: pixels - int(counts.sum())]] += 1
    return counts


@numba.njit(cache=True, nogil=True, error_model="numpy")
def fit_shares(
    likely: NDArray[np.float64], shares: NDArray[np.float64], group: NDArray[np.int64]
) -> None:  # pragma: no cover - compiled
    """Scale the (pixels, classes) probabilities of a cell, in place, until its groups have their shares."""
    pixels, classes = likely.shape
    sums = np.empty(len(shares))
    for _ in range(_ROUNDS):
        sums[:] = 0
        for pixel in range(pixels):
            total = likely[pixel].sum()
            for k in range(classes):
                likely[pixel, k] /= total
                sums[group[k]] += likely[pixel, k]
        farthest = 0.0
        for one in range(len(shares)):
            farthest = max(farthest, abs(sums[one] / pixels - shares[one]))
            sums[one] = shares[one] * pixels / sums[one] if sums[one] > 0 else 0.0
        if farthest < _ENOUGH:
            return
        for pixel in range(pixels):
            for k in range(classes):
                likely[pixel, k] = max(likely[pixel, k] * sums[group[k]], 1e-12)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _assign(
    best: NDArray[np.int64], counts: NDArray[np.int64], group: NDArray[np.int64], chosen: NDArray[np.int64]
) -> None:  # pragma: no cover - compiled
    """Give each pixel a class, the surest pair of both first, until a group has its number of pixels."""
    chosen[:] = -1
    left = counts.copy()
    classes = len(group)
    for pair in best:
        pixel, k = pair // classes, pair % classes
        if chosen[pixel] < 0 and left[group[k]] > 0:
            chosen[pixel] = k
            left[group[k]] -= 1
