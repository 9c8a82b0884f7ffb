"""The minimum mapping unit: each smaller area goes to a neighbour, the smallest area first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.generalise.labelling import AT_EDGE, AT_NODATA
from tesela.generalise.merging import Rules, count_areas, merge_regions, paint_labels
from tesela.generalise.regions import Reader, RegionGraph, build_graph
from tesela.generalise.strips import Plan, Strip
from tesela.io.scratch import ScratchRaster

NO_PRIORITY = np.zeros((256, 256), np.int32)
"""Ranks without any preference between neighbours."""
NO_CLASSES = np.zeros(256, np.bool_)


@dataclass(frozen=True)
class Tally:
    """Areas and pixels that one step moved, by the areas of its input."""

    areas: NDArray[np.int64]
    """(256, 256): areas, by class value before and after."""
    pixels: NDArray[np.int64]
    """(256, 256): pixels, by class value before and after; the diagonal holds unchanged pixels."""

    @property
    def moved_px(self) -> int:
        """Pixels whose class changed."""
        return int(self.pixels.sum() - np.trace(self.pixels))


def drop_small_areas(
    values: NDArray[np.uint8],
    *,
    unit_px: int,
    ranks: NDArray[np.int32] = NO_PRIORITY,
    edges: str = "keep",
    plan: Plan | None = None,
) -> NDArray[np.uint8]:
    r"""
    Give every area under the unit to a neighbour, the smallest area first.

    An area is a set of 4-connected pixels of one class. Areas are processed by size; of areas of one size that
    touch, the one with the lower class value goes first. Each area takes the class of lowest rank, then of the
    longest shared border, then of the largest neighbour (before any area of this size was processed), then of the
    lowest value. It becomes one area with all its neighbours of that class. No rule depends on positions, so a
    flipped or rotated map gives the flipped or rotated result.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values; 0 is nodata and never changes.
    unit_px : int
        Minimum mapping unit in pixels; areas with fewer pixels are given away.
    ranks : (256, 256) array of int32
        Rank of a neighbour's class (column) for an area's class (row), by value; lower is better.
    edges : {"keep", "merge"}
        "keep" keeps areas that the edge of the map or nodata cuts, because their true size is unknown; "merge"
        treats them like all others.

    Returns
    -------
    (rows, cols) array of uint8

    Examples
    --------
    >>> drop_small_areas(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]], np.uint8), unit_px=2)
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]], dtype=uint8)
    """
    plan = plan or Plan()
    raster = ScratchRaster.of(values)
    graph = build_graph(raster.read, raster.shape, unit_px=unit_px, plan=plan)
    merge_graph(graph, unit_px=unit_px, ranks=ranks, edges=edges)
    result = ScratchRaster.of(np.empty_like(values))
    paint_graph(graph, raster.read, result, plan=plan)
    return result.read(0, raster.shape[0])


def merge_graph(
    graph: RegionGraph,
    *,
    unit_px: int,
    ranks: NDArray[np.int32] = NO_PRIORITY,
    edges: str = "keep",
    exempt: NDArray[np.bool_] = NO_CLASSES,
) -> None:
    """
    Merge the regions under the unit, by the rules of `drop_small_areas`, and drop the lists of borders.

    Parameters
    ----------
    exempt : (256,) array of bool
        Class values whose areas are not given away; they may grow.
    """
    unit = min(unit_px, graph.shape[0] * graph.shape[1] + 1)
    merge_regions(graph.arrays, Rules(np.ascontiguousarray(ranks), exempt, unit, edges == "keep"))
    graph.drop_borders()


def paint_graph(graph: RegionGraph, read: Reader, target: ScratchRaster, *, plan: Plan) -> Tally:
    """Write the classes of the merged regions and count the moves; `target` may be the raster that is read."""
    final = graph.final_values()
    areas = np.zeros((256, 256), np.int64)
    count_areas(graph.before, final, graph.whole, areas)
    shared_rows = _shared_rows(graph, read)

    def work(strip: Strip) -> NDArray[np.int64]:
        before = read(strip.first, strip.stop)
        labels = graph.strip_labels(strip, _with_shared(read, shared_rows, strip))
        after = np.empty(before.shape, np.uint8)
        pixels = np.zeros((256, 256), np.int64)
        first, stop = int(graph.offsets[strip.number]), int(graph.offsets[strip.number + 1])
        paint_labels(labels, final[first:stop], before, after, pixels)
        target.write(strip.first, after)
        return pixels

    total = np.zeros((256, 256), np.int64)
    for pixels in plan.each(work, graph.strips):
        total += pixels
    return Tally(areas, total)


def _shared_rows(graph: RegionGraph, read: Reader) -> dict[int, NDArray[np.uint8]]:
    """Row above each strip before painting, because the strip above may be overwritten when the strip is labelled."""
    if graph.labels:
        return {}
    return {strip.number: read(strip.first - 1, strip.first).copy() for strip in graph.strips[1:]}


def _with_shared(read: Reader, rows: dict[int, NDArray[np.uint8]], strip: Strip) -> Reader:
    def whole(first: int, stop: int) -> NDArray[np.uint8]:
        if first == strip.first:
            return read(first, stop)
        return np.concatenate([rows[strip.number], read(strip.first, stop)])

    return whole


def flag_reason(flags: int) -> str:
    """Why a region under the unit remains: cut by the edge, cut by nodata, or without a neighbour."""
    if flags & AT_EDGE:
        return "edge"
    return "nodata" if flags & AT_NODATA else "alone"
