"""Uncertainty: how sure a map is of its classes, by window, from what was written with it or from another map."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError
from tesela.core.legend import NODATA
from tesela.io.maps import ClassMap, MapReader, open_map
from tesela.io.pixel_values import NO_SCORE, ConfidenceReader, read_pixel_values
from tesela.io.raster import Closing, open_dataset


@dataclass(frozen=True)
class UncertaintyFiles:
    """What shows where a map is uncertain; the mean of those given counts."""

    confidence: str | Path | None = None
    """Raster of the highest probability: 1 - p."""
    entropy: str | Path | None = None
    """Raster of the normalised entropy."""
    probabilities: str | Path | None = None
    """Raster with a band for each class of the legend: 1 - (p1 - p2), the margin between the two highest."""
    against: str | Path | ClassMap | None = None
    """Map of another expert, or of another member, in the same legend: 1 where its class differs."""

    @property
    def given(self) -> list[str | Path | ClassMap]:
        """Those that are given."""
        files = (self.confidence, self.entropy, self.probabilities, self.against)
        return [item for item in files if item is not None]


class UncertaintyReader(Closing):
    """Reads windows of a map with its uncertainty; use it in a `with` block."""

    def __init__(
        self, source: ClassMap, files: UncertaintyFiles, labels: str | Path | ClassMap | None
    ) -> None:
        self.source, self.legend, self._files = source, source.legend, files
        self._stack = ExitStack()
        self._map = self._stack.enter_context(MapReader(source))
        scores = ((files.confidence, True), (files.entropy, False))
        self._scores = [
            (self._stack.enter_context(ConfidenceReader(path)), turned)
            for path, turned in scores
            if path is not None
        ]
        self._probabilities = None
        if files.probabilities is not None:
            self._probabilities = self._stack.enter_context(open_dataset(files.probabilities))
            if self._probabilities.count != len(source.legend):
                raise InputError(
                    f"{files.probabilities}: has {self._probabilities.count} bands, the map {len(source.legend)} "
                    f"classes; give the probabilities written with this map (tesela predict --probabilities FILE)."
                )
        self._other = None
        if files.against is not None:
            other = open_map(files.against)
            if not other.legend.same_classes(source.legend):
                raise InputError(
                    f"{other.path} is in legend '{other.legend.address}', the map in '{source.legend.address}'; "
                    f"convert it first (tesela legend convert)."
                )
            self._other = self._stack.enter_context(MapReader(other))
        self._labels = None if labels is None else self._stack.enter_context(MapReader(open_map(labels)))

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def read(self, grid: GeoBox) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """Classes (0: not asked about), uncertainty and second classes of a window, (rows, cols) each."""
        values = self._map.read(grid)
        there = values != NODATA
        parts: list[NDArray[np.float32]] = []
        second = np.zeros_like(values)
        for reader, turned in self._scores:
            stored = reader.read(grid)
            there &= stored != NO_SCORE
            score = stored.astype(np.float32) / np.float32(100)
            parts.append(1 - score if turned else score)
        if self._probabilities is not None:
            margin, runner_up, valid = self._margins(self._probabilities, grid, values)
            there &= valid
            parts.append(margin)
            second = runner_up
        if self._other is not None:
            other = self._other.read(grid)
            there &= other != NODATA
            parts.append((other != values).astype(np.float32))
            second = np.where((other != values) | (second == NODATA), other, second)
            second[second == values] = NODATA
        if self._labels is not None:
            there &= self._labels.read(grid) == NODATA
        return np.where(there, values, NODATA), np.mean(parts, axis=0, dtype=np.float32), second

    def _margins(
        self, data: rasterio.DatasetReader, grid: GeoBox, values: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        """Uncertainty by the margin, the most probable class but that of the map, and where there are numbers."""
        bands = list(range(1, data.count + 1))
        raw, valid = read_pixel_values(data, bands, grid, nodata=NO_SCORE, continuous=False)
        shares = np.asarray(raw, np.float32) * np.float32(data.scales[0])  # (classes, rows, cols)
        first = shares.max(axis=0)
        at = shares.argmax(axis=0)
        positions = np.arange(len(bands))[:, np.newaxis, np.newaxis]
        rest = np.where(positions == at, 0, shares).max(axis=0)
        others = np.where(positions == self.legend.index_table[values], -1, shares)
        second = np.asarray(self.legend.values, np.uint8)[others.argmax(axis=0)]
        return np.asarray(1 - (first - rest), np.float32), second, np.asarray(valid.all(axis=0), np.bool_)
