"""Mosaics: images of reflectance, and how many observations each pixel comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rasterio
from odc.geo.geobox import GeoBox

from tesela.io.cog import CogWriter

STEPS = 10_000
"""Reflectance is stored as whole numbers of this part; 0 is nodata."""

NOT_COUNTED = 255
"""In the raster of counts: outside the area. 0 is a gap."""


class MosaicWriter(CogWriter):
    """Writes an image by windows, as a COG with band names, scale and date: uint16, 0 nodata."""

    overviews = "mean"
    packing = "deflate"

    def __init__(self, path: str | Path, grid: GeoBox, *, names: Sequence[str], date: str) -> None:
        super().__init__(path, grid, bands=len(names), nodata=0, dtype="uint16")
        self.names = tuple(names)
        self.date = date

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Name the bands, and say scale and date."""
        data.descriptions = self.names
        data.scales = (1 / STEPS,) * len(self.names)
        data.update_tags(TIFFTAG_DATETIME=f"{self.date.replace('-', ':')} 00:00:00")


class CountWriter(CogWriter):
    """Writes how many observations are valid in each pixel: uint8, 0 for a gap, 255 outside the area."""

    def __init__(self, path: str | Path, grid: GeoBox) -> None:
        super().__init__(path, grid, nodata=NOT_COUNTED)

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Name the band."""
        data.descriptions = ("observations",)
