"""The minimum mapping unit: smallest first, each area under it goes to a neighbour."""

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
"""Ranks under which every neighbour is as good as any other."""
NO_CLASSES = np.zeros(256, np.bool_)


@dataclass(frozen=True)
class Tally:
    """What one step moved, counted in its own input areas."""

    areas: NDArray[np.int64]
    """(256, 256): areas, by class value before and after."""
    pixels: NDArray[np.int64]
    """(256, 256): pixels, by class value before and after; the diagonal is ground that stayed."""

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
    Give every area under the unit to a neighbour, smallest first.

    An area is a set of 4-connected pixels of one class. Areas are taken by size; of those that have the same
    size and touch, the one of the lower class value goes first. Each takes the class whose rank for it is
    lowest, then the class with which it shares the longest border, then that of the largest neighbour (as it
    was before any area of this size was taken), then the lowest value, and becomes one area with all its
    neighbours of that class. No rule looks at positions, so a mirrored or turned map gives the mirrored or
    turned answer.

    Parameters
    ----------
    values : (rows, cols) array of uint8
        Class values; 0 is nodata, never changed nor given away.
    unit_px : int
        Minimum mapping unit in pixels: areas with fewer are given away.
    ranks : (256, 256) array of int32
        Rank of a neighbour's class (column) for an area's class (row), by value; lower is better.
    edges : {"keep", "merge"}
        What happens to areas cut by the edge of the map or by nodata, whose true size is not known.

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
    Merge the regions under the unit, by the rules of `drop_small_areas`; their lists of borders are used up.

    Parameters
    ----------
    exempt : (256,) array of bool
        Class values whose areas are not given away; they may grow.
    """
    unit = min(unit_px, graph.shape[0] * graph.shape[1] + 1)
    merge_regions(graph.arrays, Rules(np.ascontiguousarray(ranks), exempt, unit, edges == "keep"))
    graph.drop_borders()


def paint_graph(graph: RegionGraph, read: Reader, target: ScratchRaster, *, plan: Plan) -> Tally:
    """Write the classes of the merged regions and count what moved; `target` may be the raster read from."""
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
    """Row above each strip as it was, for relabelling after the strip above has been overwritten."""
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
    """Why a region under the unit was left: cut by the edge, by nodata, or without a neighbour."""
    if flags & AT_EDGE:
        return "edge"
    return "nodata" if flags & AT_NODATA else "alone"
