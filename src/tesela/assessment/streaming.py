"""The walk over a map and its reference, window by window, that counts all an assessment needs in one pass."""

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
"""Told the windows done and their total."""

_WINDOW_PX = 2048
"""Side of the windows; memory depends on it, not on the map nor on its tiles."""


@dataclass(frozen=True)
class AssessmentSpec:
    """What is to be counted of which files."""

    map: ClassMap
    reference: ClassMap
    judged: Legend
    tiles_px: int
    within: gpd.GeoDataFrame | None
    """Areas in the map's CRS to which all is confined."""
    regions: gpd.GeoDataFrame | None
    region_field: str | None
    edges_px: tuple[float, ...]
    """Edges of the bins of distance from class borders; none are counted without any."""
    confidence: str | Path | None


class Accumulator:
    """Counts by tile, border distance, region and confidence; `run` fills the attributes."""

    def __init__(self, question: AssessmentSpec) -> None:
        self._ask = question
        empty = Confusion.empty(question.judged)
        sides = {"reference": question.reference.legend, "predicted": question.map.legend}
        self._pairs = PairCounter(question.judged, **sides)
        self._scores = None if question.confidence is None else ConfidenceCounter(question.judged, **sides)
        self.tiles: dict[tuple[int, int], Confusion] = {}
        """Confusion by row and column of the tile."""
        self.bands = [empty] * (len(question.edges_px) + 1)
        """Confusion by bin of distance; the first holds all where no edges were given."""
        self.regions: RegionCounter | None = None
        if question.regions is not None:
            field = question.region_field
            self.regions = RegionCounter(question.map.grid, question.regions, field, empty)

    @property
    def calibration(self) -> Calibration | None:
        """What was counted of the confidence."""
        return None if self._scores is None else self._scores.result()

    def run(self, progress: Progress | None = None) -> None:
        """Read map, reference and confidence once and count."""
        ask = self._ask
        spots = list(windows(ask.map.grid, _WINDOW_PX))
        rim = rim_px(ask.edges_px) if ask.edges_px else 0
        with ExitStack() as stack:
            mine = stack.enter_context(MapReader(ask.map))
            theirs = stack.enter_context(MapReader(ask.reference))
            sure = None
            if ask.confidence is not None:
                sure = stack.enter_context(ConfidenceReader(ask.confidence))
            for number, (row, col, window) in enumerate(spots, start=1):
                inside = None if ask.within is None else pixels_inside(window, ask.within)
                if inside is None or inside.any():
                    predicted = mine.read(window)
                    wide = theirs.read(_with_rim(window, rim))
                    bins = border_bins(wide, ask.edges_px, rim=rim) if rim else None
                    truth = np.ascontiguousarray(
                        wide[rim : rim + window.shape[0], rim : rim + window.shape[1]]
                    )
                    if inside is not None:
                        predicted[~inside] = NODATA
                        truth[~inside] = NODATA
                    self._count_tiles((row, col), truth, predicted, bins)
                    if self._scores is not None and sure is not None:
                        self._scores.count(truth, predicted, sure.read(window))
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
        for place, part in tile_parts(corner, truth.shape, self._ask.tiles_px):
            if bins is None:
                found = [self._pairs.count(truth[part], predicted[part])]
            else:
                found = self._pairs.count_groups(truth[part], predicted[part], bins[part], size=size)
            self.bands = [one + other for one, other in zip(self.bands, found, strict=True)]
            whole = sum(found, start=self.tiles.get(place, Confusion.empty(self._ask.judged)))
            if whole.evaluated_px or whole.unmapped_px or whole.unjudged_px:
                self.tiles[place] = whole

    def _count_regions(self, window: GeoBox, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        assert self.regions is not None
        present, groups = self.regions.groups(window)
        found = self._pairs.count_groups(truth, predicted, groups, size=present.size)
        self.regions.add(present, found, pixel_ha=pixel_area_m2(window) / 10_000)


def tile_parts(
    corner: Sequence[int], shape: Sequence[int], tiles_px: int
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Row and column of each tile that a window meets, and its part of the window."""
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
