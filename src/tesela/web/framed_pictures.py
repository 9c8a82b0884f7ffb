"""Framed pictures: what lies in a small frame, with its surroundings, from each of several scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.grid import crs_of, window_grid
from tesela.core.scene import Scene
from tesela.web.pictures import BytesCache, PictureExtent, Point, ScenePictures

_MIN_SIDE_PX = 256
"""Least side of a picture in pixels of the scene."""

_MAX_SIDE_PX = 1024
"""Largest side of a picture; larger areas are drawn at a lower resolution."""

_HOME_PX = 48.0
"""Least width of the first view in pixels of the picture."""


class FramedPictures:
    """
    Pictures of framed items, by their position.

    Parameters
    ----------
    scenes : sequence of Scene
        Of several dates or sheets; an item is shown in those that hold its middle.
    corners : (items, 4, 2) array
        Corners of the frames.
    crs : str
        CRS of the corners.
    side_frames, home_frames : float
        Least side of a picture, and width of the first view, in sides of the frame.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        corners: NDArray[np.float64],
        crs: str,
        *,
        side_frames: float,
        home_frames: float,
    ) -> None:
        named = {f"{k}": scene for k, scene in enumerate(scenes)}
        self._several = len(named) > 1
        self._side_frames, self._home_frames = side_frames, home_frames
        self._to_pixels = {name: _Pixels(crs, scene) for name, scene in named.items()}
        self._corners = {name: to(corners) for name, to in self._to_pixels.items()}
        self._pictures = ScenePictures(named, self._grids)
        self._cache = BytesCache()

    @property
    def shown(self) -> NDArray[np.bool_]:
        """(items,) True for those inside at least one scene."""
        return np.asarray(np.any([self._inside(name) for name in self._corners], axis=0))

    def scenes(self, at: int) -> list[str]:
        """Names of the scenes that show an item."""
        return [name for name in self._corners if self._inside(name)[at]]

    def views(self, at: int) -> dict[str, str]:
        """Titles of the views of an item, by name; the views of one scene follow each other."""
        return {
            f"{name} {view}": self._title(name, view)
            for name in self.scenes(at)
            for view in self._pictures.views(name)
        }

    def extents(self, at: int) -> dict[str, dict[str, object]]:
        """Extents of the pictures of an item, by scene."""
        return {name: self._extent(name, at)[0].to_dict() for name in self.scenes(at)}

    def outline(self, name: str, at: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points in pixels of an item's picture."""
        _, shown = self._extent(name, at)
        pixels = self._to_pixels[name](points)
        x, y = ~shown.affine * self._pictures.scenes[name].grid.affine * (pixels[..., 0], pixels[..., 1])
        return np.stack([x, y], axis=-1)

    def draw(self, at: int, view: str) -> bytes:
        """JPEG of one of the views of an item; KeyError if there is no such view."""
        name, _, kind = view.partition(" ")
        if name not in self.scenes(at) or kind not in self._pictures.views(name):
            raise KeyError(view)
        grid = self._extent(name, at)[1]
        return self._cache.once((str(at), view), lambda: self._pictures.draw(name, kind, grid))

    def _title(self, name: str, view: str) -> str:
        title = {"image": "Natural", "infrared": "Infrared"}[view]
        scene = self._pictures.scenes[name]
        return f"{scene.date or scene.name} · {title.lower()}" if self._several else title

    def _inside(self, name: str) -> NDArray[np.bool_]:
        rows, cols = self._pictures.scenes[name].grid.shape
        col, row = self._corners[name].mean(axis=1).T
        return np.asarray((col >= 0) & (col < cols) & (row >= 0) & (row < rows))

    def _extent(self, name: str, at: int) -> tuple[PictureExtent, GeoBox]:
        """Extent of the picture of an item, in its own pixels, and its grid."""
        corners, grid = self._corners[name][at], self._pictures.scenes[name].grid
        frame = float(np.ptp(corners, axis=0).max())
        wide = max(_MIN_SIDE_PX, self._side_frames * frame)
        scale = max(1.0, wide / _MAX_SIDE_PX)  # pixels of the scene in one of the picture
        side = round(wide / scale)
        col, row = np.floor(corners.mean(axis=0) - wide / 2)
        shown = window_grid(grid, int(row), int(col), side, side)
        if scale > 1:
            shown = GeoBox((side, side), shown.affine * Affine.scale(scale), grid.crs)
        here: tuple[Point, ...] = tuple((float(x), float(y)) for x, y in (corners - (col, row)) / scale)
        home = min(float(side), max(_HOME_PX, self._home_frames * frame / scale))
        return PictureExtent((0, 0), side, (here[0], here[1], here[2], here[3]), home), shown

    def _grids(self, name: str) -> list[GeoBox]:
        return [self._extent(name, int(at))[1] for at in np.flatnonzero(self._inside(name))]


class _Pixels:
    """From coordinates to columns and rows of a scene, with fractions."""

    def __init__(self, crs: str, scene: Scene) -> None:
        self._change = pyproj.Transformer.from_crs(crs, crs_of(scene.grid).to_wkt(), always_xy=True)
        self._to_pixel = ~scene.grid.affine

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = self._change.transform(points[..., 0], points[..., 1])
        col, row = self._to_pixel * (np.asarray(x), np.asarray(y))
        return np.stack([col, row], axis=-1)
