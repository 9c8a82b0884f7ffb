"""Streaming: map and reference are read once, window by window, and all counts of an assessment taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.borders import border_bins, rim_px
from tesela.assessment.calibration import Calibration, ConfidenceCounter
from tesela.assessment.confusion import Confusion, PairCounter
from tesela.assessment.regions import RegionCounter
from tesela.core.grid import window_grid, windows
from tesela.core.legend import NODATA, Legend
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_areas import pixel_area_m2, pixels_inside
from tesela.io.pixel_values import ConfidenceReader

if TYPE_CHECKING:
    import geopandas as gpd

Progress = Callable[[int, int], None]
"""Called with the number of windows done and their total."""

_WINDOW_PX = 2048
"""Side of the windows; memory depends on it, not on the size of map or tiles."""


@dataclass(frozen=True)
class AssessmentSpec:
    """What to count, of which files."""

    map: ClassMap
    reference: ClassMap
    legend: Legend
    """Legend at the level of the assessment."""
    tiles_px: int
    within: gpd.GeoDataFrame | None
    """Areas in the map's CRS to which the counts are confined."""
    regions: gpd.GeoDataFrame | None
    region_field: str | None
    edges_px: tuple[float, ...]
    """Edges of the bins of distance from class borders; empty for no bins."""
    confidence: str | Path | None


class Accumulator:
    """Counts by tile, border distance, region and confidence; `run` fills the attributes."""

    def __init__(self, spec: AssessmentSpec) -> None:
        self._spec = spec
        empty = Confusion.empty(spec.legend)
        sides = {"reference": spec.reference.legend, "predicted": spec.map.legend}
        self._pairs = PairCounter(spec.legend, **sides)
        self._scores = None if spec.confidence is None else ConfidenceCounter(spec.legend, **sides)
        self.tiles: dict[tuple[int, int], Confusion] = {}
        """Confusion by row and column of the tile."""
        self.bands = [empty] * (len(spec.edges_px) + 1)
        """Confusion by bin of distance; one bin holds all pixels where there are no edges."""
        self.regions: RegionCounter | None = None
        if spec.regions is not None:
            field = spec.region_field
            self.regions = RegionCounter(spec.map.grid, spec.regions, field, empty)

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the confidence; None without one."""
        return None if self._scores is None else self._scores.result()

    def run(self, progress: Progress | None = None) -> None:
        """Read map, reference and confidence once and count."""
        spec = self._spec
        spots = list(windows(spec.map.grid, _WINDOW_PX))
        rim = rim_px(spec.edges_px) if spec.edges_px else 0
        with ExitStack() as stack:
            mine = stack.enter_context(MapReader(spec.map))
            theirs = stack.enter_context(MapReader(spec.reference))
            confidence = None
            if spec.confidence is not None:
                confidence = stack.enter_context(ConfidenceReader(spec.confidence))
            for number, (row, col, window) in enumerate(spots, start=1):
                inside = None if spec.within is None else pixels_inside(window, spec.within)
                if inside is None or inside.any():
                    predicted = mine.read(window)
                    wide = theirs.read(_with_rim(window, rim))
                    bins = border_bins(wide, spec.edges_px, rim=rim) if rim else None
                    truth = np.ascontiguousarray(
                        wide[rim : rim + window.shape[0], rim : rim + window.shape[1]]
                    )
                    if inside is not None:
                        predicted[~inside] = NODATA
                        truth[~inside] = NODATA
                    self._count_tiles((row, col), truth, predicted, bins)
                    if self._scores is not None and confidence is not None:
                        self._scores.count(truth, predicted, confidence.read(window))
                    if self.regions is not None:
                        self._count_regions(window, truth, predicted)
                if progress is not None:
                    progress(number, len(spots))

    def _count_tiles(
        self,
        corner: tuple[int, int],
        truth: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        bins: NDArray[np.uint8] | None,
    ) -> None:
        size = len(self.bands)
        for tile, part in tile_parts(corner, truth.shape, self._spec.tiles_px):
            if bins is None:
                confusions = [self._pairs.count(truth[part], predicted[part])]
            else:
                confusions = self._pairs.count_groups(truth[part], predicted[part], bins[part], size=size)
            self.bands = [one + other for one, other in zip(self.bands, confusions, strict=True)]
            whole = sum(confusions, start=self.tiles.get(tile, Confusion.empty(self._spec.legend)))
            if whole.evaluated_px or whole.unmapped_px or whole.unreferenced_px:
                self.tiles[tile] = whole

    def _count_regions(self, window: GeoBox, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        assert self.regions is not None
        present, groups = self.regions.groups(window)
        confusions = self._pairs.count_groups(truth, predicted, groups, size=present.size)
        self.regions.add(present, confusions, pixel_ha=pixel_area_m2(window) / 10_000)


def tile_parts(
    corner: Sequence[int], shape: Sequence[int], tiles_px: int
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Row and column of each tile that a window overlaps, and the tile's part of the window."""
    spans = []
    for first, size in zip(corner, shape, strict=True):
        tiles = range(first // tiles_px, (first + size - 1) // tiles_px + 1)
        spans.append(
            [
                (tile, slice(max(0, tile * tiles_px - first), min(size, (tile + 1) * tiles_px - first)))
                for tile in tiles
            ]
        )
    for row, rows in spans[0]:
        for col, cols in spans[1]:
            yield (row, col), (rows, cols)


def _with_rim(window: GeoBox, rim: int) -> GeoBox:
    rows, cols = window.shape
    return window_grid(window, -rim, -rim, rows + 2 * rim, cols + 2 * rim)
