"""Pictures for the review page: windows of scenes as JPEG, with one contrast for a whole scene."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox
from PIL import Image

from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.io.scenes import SceneReader
from tesela.pages.scene_picture import common_range, shown_bands

Point = tuple[float, float]


@dataclass(frozen=True)
class PictureExtent:
    """Extent of a picture and of the rated area in it, in pixels as (column, row)."""

    corner: Point
    """Upper left corner of the picture."""
    side: int
    """Of the square picture."""
    frame: tuple[Point, Point, Point, Point]
    """Corners of the rated area; the rest is context."""
    home: float
    """Width of the first view."""

    def to_dict(self) -> dict[str, object]:
        """Document for the page."""
        return {"corner": self.corner, "side": self.side, "frame": self.frame, "home": self.home}


def centre_of(grid: GeoBox) -> dict[str, object]:
    """Centre of a grid and the name of its CRS, for display."""
    x, y = grid.extent.centroid.coords[0]
    return describe_position(x, y, crs=str(grid.crs))


def describe_position(x: float, y: float, *, crs: str) -> dict[str, object]:
    """Coordinates, to the metre or in degrees to 0.1 m, and the name of their CRS."""
    system = pyproj.CRS.from_user_input(crs)
    return {
        "centre": [round(value, 6 if abs(value) < 1000 else 0) for value in (x, y)],
        "crs": ":".join(system.to_authority() or (system.name,)),
    }


_CACHED = 96
"""Pictures in the cache: a dozen items for each of several reviewers."""

_SAMPLED = 12
"""Windows of a scene that set its contrast."""

_QUALITY = 93
"""Of JPEG, without chroma subsampling, because artefacts could look like boundaries."""

_EMPTY = (128, 128, 128)


class BytesCache:
    """Cache of the last files; each is made once, by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def once(self, key: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        """The file of a key, made now if it is not in the cache."""
        with self._lock:
            if key not in self._files:
                self._files[key] = make()
                while len(self._files) > _CACHED:
                    self._files.popitem(last=False)
            self._files.move_to_end(key)
            return self._files[key]


class ScenePictures:
    """
    Draws windows of scenes, one thread at a time.

    The contrast is the same for a whole scene, so that windows can be compared; 8-bit imagery is shown unchanged.
    """

    def __init__(self, scenes: Mapping[str, Scene], samples: Callable[[str], Sequence[GeoBox]]) -> None:
        """`samples` gives the windows of a scene that set its contrast."""
        self.scenes = scenes
        self._samples = samples
        self._readers: dict[tuple[str, tuple[str, ...]], SceneReader] = {}
        self._ranges: dict[tuple[str, tuple[str, ...]], list[tuple[float, float]]] = {}

    def views(self, scene: str) -> dict[str, tuple[str, ...]]:
        """Ways to show a scene: the bands for red, green and blue by name."""
        described = self.scenes[scene]
        views = {"image": shown_bands(described)}
        by_lower = {name.lower(): name for name in described.band_names}
        for names in (("nir", "red", "green"), ("b08", "b04", "b03"), ("b8", "b4", "b3")):
            for suffix in dict.fromkeys(name[name.find("_") :] if "_" in name else "" for name in by_lower):
                bands = tuple(by_lower.get(name + suffix, "") for name in names)
                if all(bands) and bands != views["image"]:
                    return views | {"infrared": bands}
        return views

    def draw(self, scene: str, view: str, grid: GeoBox) -> bytes:
        """
        A view of a scene on a grid, as JPEG; grey where there is no data.

        Raises
        ------
        InputError
            If the imagery cannot be read.
        """
        bands = self.views(scene)[view]
        pixels = self._reader(scene, bands).read(grid)
        seen = np.isfinite(pixels).all(axis=0)
        out = np.empty((*grid.shape, 3), np.uint8)
        for channel in range(3):
            at = channel if len(bands) == 3 else 0
            low, high = self._range(scene, bands)[at]
            scaled = np.clip((np.where(seen, pixels[at], low) - low) / max(high - low, 1e-12), 0, 1)
            if high != 255:
                scaled **= 0.8
            out[..., channel] = np.where(seen, scaled * 255, _EMPTY[channel])
        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=_QUALITY, subsampling=0)
        return file.getvalue()

    def _reader(self, scene: str, bands: tuple[str, ...]) -> SceneReader:
        if (scene, bands) not in self._readers:
            self._readers[scene, bands] = SceneReader(self.scenes[scene].select(bands))
        return self._readers[scene, bands]

    def _range(self, scene: str, bands: tuple[str, ...]) -> list[tuple[float, float]]:
        """Lowest and highest displayed value of each band, from windows spread over the scene."""
        if (scene, bands) in self._ranges:
            return self._ranges[scene, bands]
        described = self.scenes[scene].select(bands)
        if all(band.dtype == "uint8" and band.scale == 1 and band.offset == 0 for band in described.bands):
            ranges = [(0.0, 255.0)] * len(bands)
        else:
            windows = self._samples(scene)
            chosen = {int(at) for at in np.linspace(0, len(windows) - 1, _SAMPLED)}
            reader = self._reader(scene, bands)
            pixels = np.concatenate(
                [reader.read(windows[at]).reshape(len(bands), -1) for at in sorted(chosen)], axis=1
            )
            pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
            if not pixels.size:
                raise InputError(f"Scene '{scene}' has no data in the windows of its items.")
            ranges = [common_range(band) for band in pixels]
        self._ranges[scene, bands] = ranges
        return ranges
