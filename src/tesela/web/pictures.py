"""Pictures of patches for the review page: imagery with some of the ground around it, and class values."""

from __future__ import annotations

import io
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.evaluation.drawing import common_range, shown_bands
from tesela.io.maps import ClassMap, MapReader
from tesela.io.scenes import SceneReader
from tesela.patches.table import PatchTable

_KEPT = 96
"""Pictures kept ready: a dozen patches for each of several reviewers."""

_SAMPLED = 12
"""Patches of a scene whose values set its contrast."""

_QUALITY = 93
"""Of JPEG, without thinning out colours: no artefact that could be taken for a boundary."""

_EMPTY = (128, 128, 128)


class PatchPictures:
    """
    Draws patches, each once.

    Contrast is one for a whole scene, so that patches can be compared; 8-bit imagery is shown as it is.
    """

    def __init__(self, table: PatchTable) -> None:
        self.table = table
        self.margin_px = table.size_px // 4
        frame = table.frame
        self._place = {
            str(patch): (str(scene), int(row), int(col))
            for patch, scene, row, col in zip(
                frame["patch_id"], frame["scene"], frame["row"], frame["col"], strict=True
            )
        }
        self._lock = threading.Lock()
        self._readers: dict[tuple[str, tuple[str, ...]], SceneReader] = {}
        self._maps: dict[str, MapReader] = {}
        self._ranges: dict[tuple[str, tuple[str, ...]], list[tuple[float, float]]] = {}
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def __contains__(self, patch_id: object) -> bool:
        return patch_id in self._place

    def place(self, patch_id: str) -> tuple[str, int, int]:
        """Scene, row and column of a patch."""
        return self._place[patch_id]

    def views(self, scene: str) -> dict[str, tuple[str, ...]]:
        """Ways to show a scene: the bands for red, green and blue by name."""
        described = self.table.scenes[scene]
        found = {"image": shown_bands(described)}
        by_lower = {name.lower(): name for name in described.band_names}
        for names in (("nir", "red", "green"), ("b08", "b04", "b03"), ("b8", "b4", "b3")):
            for suffix in dict.fromkeys(name[name.find("_") :] if "_" in name else "" for name in by_lower):
                bands = tuple(by_lower.get(name + suffix, "") for name in names)
                if all(bands) and bands != found["image"]:
                    return found | {"infrared": bands}
        return found

    def image(self, patch_id: str, view: str) -> bytes:
        """
        Imagery of a patch with a margin of `margin_px` around it, as JPEG.

        Raises
        ------
        InputError
            If the imagery cannot be read.
        """
        return self._once((patch_id, view), lambda: self._draw(patch_id, view))

    def labels(self, patch_id: str) -> bytes:
        """Class values of a patch, (size, size) uint8, row by row, compressed by zlib."""
        return self._once((patch_id, ""), lambda: zlib.compress(self._values(patch_id).tobytes(), 1))

    def _once(self, key: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _values(self, patch_id: str) -> NDArray[np.uint8]:
        scene, row, col = self._place[patch_id]
        path = self.table.labels[scene]
        if path not in self._maps:
            self._maps[path] = MapReader(ClassMap(path, self.table.scenes[scene].grid, self.table.legend))
        return self._maps[path].read(self.table.grid_of(scene, row, col))

    def _draw(self, patch_id: str, view: str) -> bytes:
        scene, row, col = self._place[patch_id]
        bands = self.views(scene)[view]
        margin, side = self.margin_px, self.table.size_px + 2 * self.margin_px
        grid = window_grid(self.table.scenes[scene].grid, row - margin, col - margin, side, side)
        pixels = self._reader(scene, bands).read(grid)
        seen = np.isfinite(pixels).all(axis=0)
        out = np.empty((side, side, 3), np.uint8)
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
            self._readers[scene, bands] = SceneReader(self.table.scenes[scene].select(bands))
        return self._readers[scene, bands]

    def _range(self, scene: str, bands: tuple[str, ...]) -> list[tuple[float, float]]:
        """Lowest and highest value to show of each band, from patches spread over the scene."""
        if (scene, bands) in self._ranges:
            return self._ranges[scene, bands]
        described = self.table.scenes[scene].select(bands)
        if all(band.dtype == "uint8" and band.scale == 1 and band.offset == 0 for band in described.bands):
            found = [(0.0, 255.0)] * len(bands)
        else:
            places = [place for place in self._place.values() if place[0] == scene]
            chosen = [places[at] for at in np.linspace(0, len(places) - 1, _SAMPLED).astype(int)]
            reader = self._reader(scene, bands)
            read = [reader.read(self.table.grid_of(*place)).reshape(len(bands), -1) for place in set(chosen)]
            pixels = np.concatenate(read, axis=1)
            pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
            if not pixels.size:
                raise InputError(f"Scene '{scene}' has no data in the patches that were looked at.")
            found = [common_range(band) for band in pixels]
        self._ranges[scene, bands] = found
        return found
