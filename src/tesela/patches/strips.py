"""Strips of a scene: class pixels of each patch, counted in one pass over imagery and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.band_dates import group_by_date
from tesela.core.grid import window_grid
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.maps import ClassMap, MapReader
from tesela.io.scenes import SceneReader

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

_CHUNK_MIB = 64
"""Imagery held at a time while a strip is read."""


def count_classes(
    scene: Scene, labels: ClassMap, *, size_px: int, stride_px: int
) -> tuple[list[tuple[int, int]], NDArray[np.int64], NDArray[np.float64]]:
    """
    Count the pixels of each class in all patches of a scene.

    Imagery and labels are read once, by strips as high as a patch; memory grows with the scene's width.

    Returns
    -------
    list of (row, col)
        Corners of the patches, row by row.
    (patches, 1 + classes) array of int64
        Pixels by class in the order of the legend, after those without class or imagery.
    (patches,) array of float64
        Share of the pixels with imagery in all bands.
    """
    rows, cols = scene.grid.shape
    starts = [range(0, side - size_px + 1, stride_px) for side in (rows, cols)]
    legend = labels.legend
    table = (legend.index_table + np.uint8(1)).astype(np.uint8)  # 0: nodata; n: class n - 1
    origins, counts, valid = [], [], []
    for row, strip, seen in _strips(scene, labels, starts=starts, size_px=size_px):
        classes = np.where(seen, table[strip], 0)
        for col in starts[1]:
            window = np.s_[:, col : col + size_px]
            origins.append((row, col))
            counts.append(np.bincount(classes[window].ravel(), minlength=len(legend) + 1))
            valid.append(float(seen[window].mean()))
    return origins, np.array(counts, np.int64), np.array(valid)


def _strips(
    scene: Scene, labels: ClassMap, *, starts: Sequence[range], size_px: int
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """First row, label values and validity of each strip of patches; rows shared by strips are read once."""
    cols = starts[1][-1] + size_px
    held_labels, held_valid = np.zeros((0, cols), np.uint8), np.zeros((0, cols), np.bool_)
    held_from = 0
    with SceneReader(scene) as images, MapReader(labels) as maps:
        for row in starts[0]:
            keep = max(row, held_from + len(held_labels))
            held_labels, held_valid = held_labels[row - held_from :], held_valid[row - held_from :]
            new = window_grid(scene.grid, keep, 0, row + size_px - keep, cols)
            held_labels = np.concatenate([held_labels, maps.read(new)])
            held_valid = np.concatenate([held_valid, _valid(images, new)])
            held_from = row
            yield row, held_labels, held_valid


def _valid(images: SceneReader, grid: GeoBox) -> NDArray[np.bool_]:
    """Where all bands of one date at least, and all static bands, have data, (rows, cols)."""
    rows, cols = grid.shape
    names = images.scene.band_names
    rule = Standardisation.of(names, dates=group_by_date(names).of_bands)
    step = max(256, (_CHUNK_MIB << 20) // (4 * rows * len(images.scene.bands)))
    parts = [
        rule.complete(images.read(window_grid(grid, 0, col, rows, min(step, cols - col)))).any(axis=0)
        for col in range(0, cols, step)
    ]
    return np.concatenate(parts, axis=1)


def footprints(scene: Scene, origins: Sequence[tuple[int, int]], *, size_px: int) -> gpd.GeoSeries:
    """Outlines of patches in the CRS of the scene, with points along the sides for an accurate reprojection."""
    import geopandas as gpd
    import shapely

    steps = np.linspace(0, size_px, 5)[:-1]
    whole, none = np.full(4, float(size_px)), np.zeros(4)
    ring_cols = np.concatenate([steps, whole, size_px - steps, none])
    ring_rows = np.concatenate([none, steps, whole, size_px - steps])
    corner = np.array(origins, float).reshape(-1, 2)
    rows, cols = corner[:, :1] + ring_rows, corner[:, 1:] + ring_cols
    a = scene.grid.affine
    points = np.stack([a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f], axis=-1)
    assert scene.grid.crs is not None
    return gpd.GeoSeries(shapely.polygons(points), crs=scene.grid.crs.to_wkt())
