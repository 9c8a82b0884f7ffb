"""Confidence rasters: how sure a map is of each pixel, read by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError
from tesela.io.closing import Closing
from tesela.io.numbers import read_numbers
from tesela.io.raster import open_dataset

NO_SCORE = 255
"""Stands where there is no confidence."""

_NAME = "confidence"


class ConfidenceReader(Closing):
    """Reads windows of a confidence raster, 0 to 100 %, on any grid; use it in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._data = open_dataset(path)
        names = list(self._data.descriptions)
        self._band = names.index(_NAME) + 1 if _NAME in names else 1
        kind = self._data.dtypes[self._band - 1]
        if kind != "uint8" or (self._data.count > 1 and _NAME not in names):
            bands = self._data.count
            self._data.close()
            raise InputError(
                f"{path}: holds {bands} bands of {kind}; a confidence raster has one of uint8, 0 to 100 "
                f"and 255 for none, or a band named '{_NAME}'. Write one with the map (tesela predict "
                "--confidence FILE)."
            )

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """
        Confidence on a grid, (rows, cols) uint8: 0 to 100, 255 where there is none.

        Raises
        ------
        InputError
            If the file holds numbers from 101 to 254.
        """
        raw, valid = read_numbers(self._data, [self._band], grid, nodata=NO_SCORE, continuous=False)
        scores = np.where(valid[0], raw[0], NO_SCORE).astype(np.uint8)
        strange = scores[(scores > 100) & (scores < NO_SCORE)]
        if strange.size:
            raise InputError(
                f"{self.path}: holds {strange[0]}, but confidence runs from 0 to 100, with 255 for none. "
                "Scale it."
            )
        return scores
