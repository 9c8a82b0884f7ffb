"""Layers of the view page: class maps, confidence and imagery, drawn by tile."""

from __future__ import annotations

import io
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.errors import InputError
from tesela.core.grid import has_equal_pixels, unit_m
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader
from tesela.io.pixel_values import ConfidenceReader
from tesela.io.pyramid import Pyramid, TileReader, class_counts
from tesela.io.scenes import SceneReader
from tesela.pages.scene_picture import common_range, shown_bands

_SAMPLE_PX = 512
"""Side of the overview of an image that sets its contrast."""
_FINEST = -4
"""Finest level of imagery with smaller pixels than the map: a sixteenth of a pixel of the map."""

Reader = TypeVar("Reader")


@dataclass(frozen=True)
class Picture:
    """A tile as it is sent to the browser."""

    content: bytes
    media: str
    encoding: str = ""


class Layer(Protocol):
    """A raster of the view page."""

    name: str
    kind: str

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Draw a tile."""

    def at(self, pixel: GeoBox) -> object:
        """Value at one pixel of the map, for JSON; None if there is no data."""

    def describe(self) -> dict[str, object]:
        """Description of the layer for the page."""


class ClassLayer:
    """A class map: tiles are class values, coloured by the page."""

    kind = "class"

    def __init__(self, source: ClassMap, pyramid: Pyramid, *, name: str, year: str = "") -> None:
        self.source, self.name, self.year = source, name, year
        self._tiles = Pool(lambda: TileReader(source.path, pyramid))
        self._pixels = Pool(lambda: MapReader(source))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Values of a tile, packed."""
        with self._tiles.lend() as reader:
            return packed(reader.read(level, x, y))

    def at(self, pixel: GeoBox) -> object:
        """Class value of a pixel."""
        with self._pixels.lend() as reader:
            return int(reader.read(pixel)[0, 0]) or None

    def describe(self) -> dict[str, object]:
        """Legend with shares and areas, the codes of all levels of each class, and the year."""
        legend = self.source.legend
        counts, exact = class_counts(self.source.path)
        return {
            "legend": legend.address,
            "family": legend.name,
            "exact": exact,
            "classes": class_rows(
                legend, self.source.grid, {value: int(counts[value]) for value in legend.values}
            ),
            "year": self.year,
            "finest": 0,
        }


class ScoreLayer:
    """A confidence raster: tiles are in per cent, coloured by the page."""

    kind = "score"

    def __init__(self, path: str, pyramid: Pyramid, *, name: str) -> None:
        self.name, self._pyramid = name, pyramid
        self._readers = Pool(lambda: ConfidenceReader(path))
        with self._readers.lend():
            pass  # to report a wrong file now

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Per cents of a tile, packed."""
        with self._readers.lend() as reader:
            return packed(reader.read(self._pyramid.tile(level, x, y)))

    def at(self, pixel: GeoBox) -> object:
        """Per cent of a pixel."""
        with self._readers.lend() as reader:
            percent = int(reader.read(pixel)[0, 0])
        return percent if percent <= 100 else None

    def describe(self) -> dict[str, object]:
        """Finest level of the tiles."""
        return {"finest": 0}


class ImageLayer:
    """A scene: tiles are JPEG, or PNG where data is missing; the contrast is the same for the whole scene."""

    kind = "image"

    def __init__(self, scene: Scene, pyramid: Pyramid, *, name: str) -> None:
        self.scene = scene.select(shown_bands(scene))
        self.all_bands = scene
        self.name, self._pyramid = name, pyramid
        self._readers = Pool(lambda: SceneReader(self.scene))
        self._values = Pool(lambda: SceneReader(scene))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Picture of a tile with the contrast of the whole scene."""
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
            values = reader.read(pixel)[:, 0, 0]
        if not np.isfinite(values).any():
            return None
        return {
            band.name: float(f"{value:.4g}") if np.isfinite(value) else None
            for band, value in zip(self.all_bands.bands, values, strict=True)
        }

    def describe(self) -> dict[str, object]:
        """Finest level of the tiles, and the bands on display."""
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


class Pool(Generic[Reader]):
    """Open readers, each for one thread at a time; as many as there are concurrent threads."""

    def __init__(self, make: Callable[[], Reader]) -> None:
        self._make = make
        self._idle: deque[Reader] = deque()

    @contextmanager
    def lend(self) -> Iterator[Reader]:
        """Lend a reader; after a failure it is not used again."""
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = self._make()
        yield reader
        self._idle.append(reader)


def packed(values: NDArray[np.uint8]) -> Picture:
    """Tile of bytes for the page, compressed."""
    return Picture(zlib.compress(values.tobytes(), 1), "application/octet-stream", "deflate")


def class_rows(legend: Legend, grid: GeoBox, counts: Mapping[int, float]) -> list[dict[str, object]]:
    """Classes for the page, with the codes of all their levels, their shares and areas; counts are in pixels."""
    total = sum(counts.values())
    area_ha = _pixel_ha(grid)
    return [
        {
            "value": item.value,
            "code": item.code,
            "name": item.name,
            "color": item.color,
            "path": [legend.ancestor(item.code, level).code for level in range(1, legend.depth + 1)],
            "share": counts[item.value] / total if total else 0.0,
            "ha": None if area_ha is None else counts[item.value] * area_ha,
        }
        for item in legend.classes
    ]


def _pixel_ha(grid: GeoBox) -> float | None:
    """Hectares of a pixel; None if they differ within the map, as in degrees."""
    if grid.crs is None or not has_equal_pixels(grid):
        return None
    return abs(grid.resolution.x * grid.resolution.y) * unit_m(grid, what="The area") ** 2 / 10_000


def _side_m(grid: GeoBox) -> float:
    return Scene("", (), grid).pixel_size_m
