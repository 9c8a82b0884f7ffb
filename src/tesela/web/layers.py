"""Layers of the view page: class maps, confidence and imagery, drawn tile by tile."""

from __future__ import annotations

import io
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_values import ConfidenceReader
from tesela.io.pyramid import Pyramid, TileReader, class_counts
from tesela.io.scenes import SceneReader
from tesela.pages.scene_picture import common_range, shown_bands

_SAMPLE_PX = 512
"""Side of the overview of an image from which its contrast is set."""
_FINEST = -4
"""Finest level of imagery with smaller pixels than the map's: a sixteenth."""

Reader = TypeVar("Reader")


@dataclass(frozen=True)
class Picture:
    """A tile as it goes over the wire."""

    content: bytes
    media: str
    encoding: str = ""


class Layer(Protocol):
    """One raster that can be shown."""

    name: str
    kind: str

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Draw a tile."""

    def at(self, pixel: GeoBox) -> object:
        """Tell what lies in one pixel of the map, as a JSON value; None where there is no data."""

    def describe(self) -> dict[str, object]:
        """All that the page must know beforehand."""


class ClassLayer:
    """A class map: tiles are its values, coloured by the page."""

    kind = "class"

    def __init__(self, source: ClassMap, pyramid: Pyramid, *, name: str, year: str = "") -> None:
        self.source, self.name, self.year = source, name, year
        self._tiles = _Pool(lambda: TileReader(source.path, pyramid))
        self._pixels = _Pool(lambda: MapReader(source))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Values of a tile, packed."""
        with self._tiles.lend() as reader:
            return _packed(reader.read(level, x, y))

    def at(self, pixel: GeoBox) -> object:
        """Class value of a pixel."""
        with self._pixels.lend() as reader:
            return int(reader.read(pixel)[0, 0]) or None

    def describe(self) -> dict[str, object]:
        """Legend with shares and areas, the codes down to each class, and the year."""
        legend = self.source.legend
        counts, exact = class_counts(self.source.path)
        total = int(counts[list(legend.values)].sum())
        area_ha = _pixel_ha(self.source.grid)
        return {
            "legend": legend.address,
            "family": legend.name,
            "exact": exact,
            "classes": [
                {
                    "value": item.value,
                    "code": item.code,
                    "name": item.name,
                    "color": item.color,
                    "path": [legend.ancestor(item.code, level).code for level in range(1, legend.depth + 1)],
                    "share": int(counts[item.value]) / total if total else 0.0,
                    "ha": None if area_ha is None else int(counts[item.value]) * area_ha,
                }
                for item in legend.classes
            ],
            "year": self.year,
            "finest": 0,
        }


class ScoreLayer:
    """A confidence raster: tiles are its per cents, coloured by the page."""

    kind = "score"

    def __init__(self, path: str, pyramid: Pyramid, *, name: str) -> None:
        self.name, self._pyramid = name, pyramid
        self._readers = _Pool(lambda: ConfidenceReader(path))
        with self._readers.lend():
            pass  # a wrong file is told now

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Per cents of a tile, packed."""
        with self._readers.lend() as reader:
            return _packed(reader.read(self._pyramid.tile(level, x, y)))

    def at(self, pixel: GeoBox) -> object:
        """Per cent of a pixel."""
        with self._readers.lend() as reader:
            found = int(reader.read(pixel)[0, 0])
        return found if found <= 100 else None

    def describe(self) -> dict[str, object]:
        """Tell how fine the tiles get."""
        return {"finest": 0}


class ImageLayer:
    """A scene: tiles are JPEG, or PNG where data is missing; one contrast for the whole of it."""

    kind = "image"

    def __init__(self, scene: Scene, pyramid: Pyramid, *, name: str) -> None:
        self.scene = scene.select(shown_bands(scene))
        self.all_bands = scene
        self.name, self._pyramid = name, pyramid
        self._readers = _Pool(lambda: SceneReader(self.scene))
        self._values = _Pool(lambda: SceneReader(scene))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Picture of a tile in the contrast of the whole scene."""
        with self._readers.lend() as reader:
            pixels = reader.read(self._pyramid.tile(level, x, y))
        seen = np.isfinite(pixels).all(axis=0)
        out = np.zeros((*seen.shape, 4), np.uint8)
        for channel in range(3):
            at = channel if len(pixels) == 3 else 0
            low, high = self._ranges[at]
            scaled = np.clip((np.where(seen, pixels[at], low) - low) / max(high - low, 1e-12), 0, 1)
            out[..., channel] = (scaled if (low, high) == (0.0, 255.0) else scaled**0.8) * 255
        out[..., 3] = seen * np.uint8(255)
        file = io.BytesIO()
        if seen.all():
            Image.fromarray(out[..., :3]).save(file, "JPEG", quality=88)
            return Picture(file.getvalue(), "image/jpeg")
        Image.fromarray(out).save(file, "PNG", compress_level=1)
        return Picture(file.getvalue(), "image/png")

    def at(self, pixel: GeoBox) -> object:
        """Quantities of all bands at a pixel."""
        with self._values.lend() as reader:
            numbers = reader.read(pixel)[:, 0, 0]
        if not np.isfinite(numbers).any():
            return None
        return {
            band.name: float(f"{number:.4g}") if np.isfinite(number) else None
            for band, number in zip(self.all_bands.bands, numbers, strict=True)
        }

    def describe(self) -> dict[str, object]:
        """Tell how fine the tiles get, and which bands are shown."""
        finer = np.log2(self.scene.pixel_size_m / max(_side_m(self._pyramid.grid), 1e-9))
        return {
            "finest": int(np.clip(np.floor(finer + 0.1), _FINEST, 0)),
            "bands": list(self.scene.band_names),
        }

    @cached_property
    def _ranges(self) -> list[tuple[float, float]]:
        if all(band.dtype == "uint8" and (band.scale, band.offset) == (1, 0) for band in self.scene.bands):
            return [(0.0, 255.0)] * len(self.scene.bands)
        grid = self.scene.grid
        step = max(1, int(np.ceil(max(grid.shape) / _SAMPLE_PX)))
        with self._readers.lend() as reader:
            pixels = reader.read(grid.zoom_out(step)).reshape(len(self.scene.bands), -1)
        pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
        if not pixels.size:
            raise InputError(f"Scene '{self.scene.name}' has no data to show. Check its nodata value.")
        return [common_range(band) for band in pixels]


class _Pool(Generic[Reader]):
    """Open readers, lent to one thread at a time; as many as there are threads at once."""

    def __init__(self, make: Callable[[], Reader]) -> None:
        self._make = make
        self._idle: deque[Reader] = deque()

    @contextmanager
    def lend(self) -> Iterator[Reader]:
        """Lend a reader; one that failed is not lent again."""
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = self._make()
        yield reader
        self._idle.append(reader)


def _packed(values: NDArray[np.uint8]) -> Picture:
    return Picture(zlib.compress(values.tobytes(), 1), "application/octet-stream", "deflate")


def _pixel_ha(grid: GeoBox) -> float | None:
    """Hectares of a pixel; None where they differ over the map, as in degrees."""
    if grid.crs is None or not grid.crs.projected:
        return None
    unit = float(grid.crs.proj.axis_info[0].unit_conversion_factor or 1.0)
    return abs(grid.resolution.x * grid.resolution.y) * unit**2 / 10_000


def _side_m(grid: GeoBox) -> float:
    return Scene("", (), grid).pixel_size_m
