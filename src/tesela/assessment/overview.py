"""The overview: map and reference reduced to the size of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.assessment import Assessment
from tesela.core.grid import windows
from tesela.core.legend import Legend
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import pixels_inside

_EXACT_PX = 16384
"""Up to this side every pixel is read; larger maps are first sampled down to `_SAMPLE_PX`."""

_SAMPLE_PX = 8000
"""Side to which larger maps are read at every n-th pixel, from overviews where there are any."""

_WINDOW_PX = 2048


@dataclass(frozen=True, eq=False)
class Overview:
    """Map, reference and their disagreement on one coarse grid."""

    grid: GeoBox
    """Grid of the drawing: the map's, with larger pixels."""
    pixels_per_cell: int
    """Side of a drawn cell in pixels of the map."""
    map_values: NDArray[np.uint8]
    """(rows, cols): commonest value of the map in each cell, in the legend of the assessment; 0 for nodata."""
    reference_values: NDArray[np.uint8]
    """(rows, cols): commonest value of the reference in each cell."""
    wrong: NDArray[np.float32]
    """(rows, cols): share of the evaluated pixels of each cell that differ; NaN without any."""


def make_overview(
    assessment: Assessment, map: ClassMap, reference: ClassMap, *, size_px: int = 1000
) -> Overview:
    """
    Reduce map and reference so that the longer side has at most `size_px` cells, by streaming windows.

    Each cell gets the commonest value of its pixels; of equally common ones, the smaller.
    """
    longest = max(map.grid.shape)
    step = 1 if longest <= _EXACT_PX else math.ceil(longest / _SAMPLE_PX)
    sample = _coarser(map.grid, step)
    factor = math.ceil(max(sample.shape) / size_px)
    grid = _coarser(sample, factor)
    values = np.zeros((2, *grid.shape), np.uint8)
    wrong = np.full(grid.shape, np.nan, np.float32)
    tables = [_table(side.legend, assessment.legend) for side in (map, reference)]
    with MapReader(map) as map_reader, MapReader(reference) as reference_reader:
        for row, col, window in windows(sample, max(1, _WINDOW_PX // factor) * factor):
            mine = tables[0][map_reader.read(window)]
            theirs = tables[1][reference_reader.read(window)]
            evaluated = (mine > 0) & (theirs > 0)
            if assessment.within is not None:
                evaluated &= pixels_inside(window, assessment.within)
            top, left = row // factor, col // factor
            rows, cols = (math.ceil(size / factor) for size in window.shape)
            cells = (slice(top, top + rows), slice(left, left + cols))
            values[0][cells] = commonest(mine, factor)
            values[1][cells] = commonest(theirs, factor)
            wrong[cells] = share_wrong(mine != theirs, evaluated, factor)
    return Overview(grid, step * factor, map_values=values[0], reference_values=values[1], wrong=wrong)


@njit(cache=True, nogil=True)
def commonest(values: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:  # pragma: no cover - compiled
    """Commonest value of each square of `factor` x `factor` pixels, cut at the edges."""
    rows, cols = values.shape
    out = np.zeros(((rows + factor - 1) // factor, (cols + factor - 1) // factor), np.uint8)
    counts = np.zeros(256, np.int64)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            counts[:] = 0
            most, best = 0, 0
            for r in range(i * factor, min((i + 1) * factor, rows)):
                for c in range(j * factor, min((j + 1) * factor, cols)):
                    value = values[r, c]
                    counts[value] += 1
                    if counts[value] > most or (counts[value] == most and value < best):
                        most, best = counts[value], value
            out[i, j] = best
    return out


@njit(cache=True, nogil=True)
def share_wrong(
    differs: NDArray[np.bool_], evaluated: NDArray[np.bool_], factor: int
) -> NDArray[np.float32]:  # pragma: no cover - compiled
    """Share of evaluated pixels that differ in each square of `factor` x `factor` pixels; NaN without any."""
    rows, cols = differs.shape
    out = np.full(((rows + factor - 1) // factor, (cols + factor - 1) // factor), np.nan, np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            seen, differing = 0, 0
            for r in range(i * factor, min((i + 1) * factor, rows)):
                for c in range(j * factor, min((j + 1) * factor, cols)):
                    if evaluated[r, c]:
                        seen += 1
                        differing += differs[r, c]
            if seen:
                out[i, j] = differing / seen
    return out


def _coarser(grid: GeoBox, factor: int) -> GeoBox:
    rows, cols = (math.ceil(size / factor) for size in grid.shape)
    return GeoBox((rows, cols), grid.affine * Affine.scale(factor), grid.crs)


def _table(side: Legend, legend: Legend) -> NDArray[np.uint8]:
    return side.level_table(legend.depth)
