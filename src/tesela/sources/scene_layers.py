"""Layers of a scene: elevation, heights and any other raster as further bands on its grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import windows
from tesela.core.scene import Scene
from tesela.io.images import write_band_windows
from tesela.io.raster import open_dataset
from tesela.sources.source_raster import Derive, SourceRaster
from tesela.sources.terrain import band_names, neighbourhood_px, terrain_bands

LayerKind = Literal["elevation", "height", "raster"]

_WINDOW_PX = 1024
"""Side of the windows of a scene that are written at a time."""

_COVERED = 0.99
"""Least share of a scene that the files of a layer cover: a border of a pixel or two may lack."""

_STEPS = {
    "altitude": 8,
    "slope": 64,
    "aspect_sin": 1024,
    "aspect_cos": 1024,
    "position": 8,
    "height": 64,
}
"""Steps per unit (metre, degree) to which bands are rounded: finer than they are measured, and files shrink."""


@dataclass(frozen=True)
class SceneLayer:
    """One layer: files, and the bands that are made of them."""

    name: str
    """For messages; of heights and of a raster of one band also the name of the band."""
    paths: tuple[Path, ...]
    """Rasters in any CRS that together cover the scenes; where they overlap, the first one with data counts."""
    kind: LayerKind
    """Elevation, from which bands are derived; heights above the ground, in metres; or any other raster."""
    derive: tuple[str, ...] = ()
    """Bands of elevation, see `tesela.sources.terrain.DERIVATIVES`."""
    neighbourhood_m: float = 1000.0
    """Side of the square with whose mean "position" compares."""
    bands: tuple[str, ...] = ()
    """Names of the bands of a raster, in the order of the file."""
    nearest: bool = False
    """For a raster of classes: take the pixel at the centre of each one of the scene."""

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of its bands in a scene."""
        if self.kind == "elevation":
            return band_names(self.derive)
        return self.bands if self.kind == "raster" and self.bands else (self.name,)


def check_layers(scene: Scene, layers: Sequence[SceneLayer]) -> None:
    """
    Check that layers cover a scene and that all bands have names of their own, before anything is written.

    Raises
    ------
    GridError
        If a layer does not cover the scene, or a file has no CRS.
    InputError
        If a file is missing or broken, has other bands than are named, or a band has the name of another.
    """
    for layer in layers:
        same = [name for name in layer.band_names if name in scene.band_names]
        if same:
            raise InputError(
                f"Scene '{scene.name}' has a band {join_words(same)}, and so has layer '{layer.name}'. Rename the "
                f"bands of the scene (bands = [...])."
            )
        with _open(layer) as source:
            covered = source.covered(scene.grid)
            if covered < _COVERED:
                share = f"{100 * covered:.0f} % of" if covered else "no part of"
                raise GridError(
                    f"Layer '{layer.name}' ({join_words([path.name for path in layer.paths])}) covers {share} scene "
                    f"'{scene.name}'. Give files that cover it all, or crop the scene to them."
                )
            if "position" in layer.derive:
                neighbourhood_px(source.grid, layer.neighbourhood_m)


def write_scene_layers(scene: Scene, layers: Sequence[SceneLayer], out: str | Path) -> Path:
    """
    Bring layers onto the grid of a scene and write them as bands of one GeoTIFF of float32.

    Files are read and written by windows. Terrain is derived from the elevation pixels, in their own grid, and then
    averaged over the pixels of the scene, or interpolated where these are smaller.

    Returns
    -------
    Path
        `out`; NaN where a layer has no data.

    Raises
    ------
    GridError, InputError
        As `check_layers`; also if a layer has no data anywhere on the scene.
    """
    check_layers(scene, layers)
    with ExitStack() as stack:
        opened = [(layer, stack.enter_context(_open(layer))) for layer in layers]
        names = [name for layer in layers for name in layer.band_names]
        return write_band_windows(out, _windows(scene, opened), scene.grid, names=names)


def _windows(
    scene: Scene, opened: Sequence[tuple[SceneLayer, SourceRaster]]
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Row, column and bands of all layers, window by window."""
    shrinks = [source.shrinks(scene.grid) for _, source in opened]
    empty = {layer.name for layer, _ in opened}
    for row, col, window in windows(scene.grid, _WINDOW_PX):
        bands = []
        for (layer, source), averaged in zip(opened, shrinks, strict=True):
            bands.append(_on(layer, source, window, averaged=averaged))
            if not np.isnan(bands[-1]).all():
                empty.discard(layer.name)
        yield row, col, np.concatenate(bands)
    if empty:
        raise GridError(
            f"Layer {join_words(sorted(empty))} has no data on scene '{scene.name}'. Check the nodata value "
            "of its files."
        )


def _on(layer: SceneLayer, source: SourceRaster, grid: GeoBox, *, averaged: bool) -> NDArray[np.float32]:
    """Bands of a layer on a window of the scene."""
    derive: Derive | None = None
    margin_px = 1
    if layer.kind == "height":
        derive = _above_ground
    elif layer.kind == "elevation":
        sides = (1, 1)
        if "position" in layer.derive:
            sides = neighbourhood_px(source.grid, layer.neighbourhood_m)
        margin_px = max(sides) + 1
        derive = partial(_terrain, derivatives=layer.derive, sides_px=sides)
    try:
        bands = source.onto(grid, derive, margin_px=margin_px, shrinks=averaged)
    except GridError:  # a window in the part of the scene that may lack
        return np.full((len(layer.band_names), *grid.shape), np.nan, np.float32)
    kinds = ["height"] if layer.kind == "height" else layer.band_names if layer.kind == "elevation" else ()
    for band, kind in zip(bands, kinds, strict=False):
        np.rint(band * _STEPS[kind], out=band)
        band /= _STEPS[kind]
        band += 0  # -0 becomes 0
    return bands


def _above_ground(values: NDArray[np.float32], grid: GeoBox) -> NDArray[np.float32]:
    return np.maximum(values, 0)


def _terrain(
    values: NDArray[np.float32], grid: GeoBox, *, derivatives: tuple[str, ...], sides_px: tuple[int, int]
) -> NDArray[np.float32]:
    return terrain_bands(values[0], grid, derivatives, sides_px=sides_px)


def _open(layer: SceneLayer) -> SourceRaster:
    """Source of a layer, whose files have the bands that it names."""
    for path in layer.paths:
        with open_dataset(path) as data:
            count = data.count
        wanted = len(layer.bands) if layer.kind == "raster" and layer.bands else 1
        if count != wanted:
            remedy = (
                "Name them (bands = [...])"
                if layer.kind == "raster"
                else "Write the one that holds it to a file of its own (gdal_translate -b)"
            )
            raise InputError(f"{path}: has {count} bands, layer '{layer.name}' takes {wanted}. {remedy}.")
    numbers = range(1, len(layer.bands) + 1) if layer.kind == "raster" and layer.bands else (1,)
    return SourceRaster(
        layer.paths,
        bands=tuple(numbers),
        nearest=layer.nearest,
        largest_px=_WINDOW_PX,
        source_px=_WINDOW_PX,
    )
