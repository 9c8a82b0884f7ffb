"""Point clouds of airborne LiDAR (LAS, LAZ) as a raster: the share of each cell that lies under crowns."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import bounds_in, crs_of, pixel_size_m
from tesela.io.images import write_bands

if TYPE_CHECKING:
    import laspy

POINT_CLOUDS = (".las", ".laz")
"""Endings of point clouds."""

_GROUND, _BUILDING = 2, 6
_NOISE = (7, 18)
_NO_CROWNS = (_BUILDING, 9, 13, 14, 15, 16, 17)
"""Buildings, water, wires, towers and bridges, by the classes of ASPRS LAS 1.4."""

_CHUNK = 1_000_000
"""Points in memory at a time."""


@dataclass(frozen=True)
class LidarCover:
    """The raster of the share under crowns of each cell, 0 to 1; NaN where no pulse came back."""

    path: Path
    has_buildings: bool
    """Whether the files tell buildings from trees (class 6)."""


def is_point_cloud(path: str | Path) -> bool:
    """Whether a file is a point cloud, by its ending."""
    return Path(path).suffix.lower() in POINT_CLOUDS


def write_lidar_cover(
    paths: Sequence[str | Path], out: str | Path, *, like: GeoBox, height_m: float, cell_m: float
) -> LidarCover:
    r"""
    Write the share of first returns at least `height_m` above the ground, by cell.

    It is :math:`n_{h \ge h_\min} / n` of the :math:`n` first returns in a cell, without noise. The ground is the mean
    height of the ground returns (class 2) of a cell, that of the nearest one where a cell has none, interpolated
    between the centres of the cells. Returns from buildings, water, wires and bridges are no crowns. Points are read
    in pieces of a million, those of the ground first; memory holds five numbers a cell.

    Parameters
    ----------
    paths : sequence of paths
        LAS or LAZ files that together cover the scene, in any CRS with heights in metres.
    like : GeoBox
        Grid of the scene; cells are whole numbers of its pixels.
    height_m, cell_m : float
        Least height of a crown, and side of the cells: several first returns should fall into each.

    Returns
    -------
    LidarCover
        GeoTIFF of float32.

    Raises
    ------
    InputError
        If laspy is missing, a file is broken, or no point on the scene is classified as ground.
    GridError
        If a file has no CRS, or none reaches the scene.
    """
    grid = like.zoom_out(max(1, round(cell_m / pixel_size_m(like)[0])))
    cells = _Cells(grid)
    touched = [path for path in paths if _touches(path, grid)]
    if not touched:
        raise GridError(
            f"{join_words([str(path) for path in paths])}: no point lies on the scene. Give the point clouds of its "
            f"area."
        )
    for path in touched:
        for points in _read(path, grid):
            cells.add_ground(points)
    cells.finish_ground(touched)
    for path in touched:
        for points in _read(path, grid):
            cells.add_returns(points, height_m=height_m)
    write_bands(out, cells.cover()[np.newaxis], grid, names=("crowns",), nodata=np.nan)
    return LidarCover(Path(out), cells.has_buildings)


@dataclass(frozen=True)
class _Points:
    """Points on a grid."""

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    z: NDArray[np.float64]
    kind: NDArray[np.uint8]
    first: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.bool_]) -> _Points:
        return _Points(
            self.row[chosen], self.col[chosen], self.z[chosen], self.kind[chosen], self.first[chosen]
        )


@dataclass
class _Cells:
    grid: GeoBox
    has_buildings: bool = False
    ground_m: NDArray[np.float64] = field(init=False)
    ground_count: NDArray[np.int64] = field(init=False)
    high: NDArray[np.int64] = field(init=False)
    total: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        size = int(self.grid.shape[0]) * int(self.grid.shape[1])
        self.ground_m = np.zeros(size)
        self.ground_count, self.high, self.total = (np.zeros(size, np.int64) for _ in range(3))

    def _at(self, points: _Points) -> NDArray[np.int64]:
        return points.row.astype(np.int64) * int(self.grid.shape[1]) + points.col.astype(np.int64)

    def add_ground(self, points: _Points) -> None:
        self.has_buildings |= bool((points.kind == _BUILDING).any())
        ground = points.only(points.kind == _GROUND)
        np.add.at(self.ground_m, self._at(ground), ground.z)
        np.add.at(self.ground_count, self._at(ground), 1)

    def finish_ground(self, paths: Sequence[str | Path]) -> None:
        from scipy.ndimage import distance_transform_edt

        known = (self.ground_count > 0).reshape(self.grid.shape)
        if not known.any():
            raise InputError(
                f"{join_words([str(path) for path in paths])}: no point on the scene is of class 2, ground, from which "
                f"heights are measured. Classify the ground (PDAL's filters.smrf), or give a raster of heights."
            )
        mean = (self.ground_m / np.maximum(self.ground_count, 1)).reshape(self.grid.shape)
        rows, cols = distance_transform_edt(~known, return_distances=False, return_indices=True)
        self.ground_m = mean[rows, cols]

    def add_returns(self, points: _Points, *, height_m: float) -> None:
        from scipy.ndimage import map_coordinates

        seen = points.only(points.first & ~np.isin(points.kind, _NOISE))
        places = np.stack([seen.row - 0.5, seen.col - 0.5])
        height = seen.z - map_coordinates(self.ground_m, places, order=1, mode="nearest")
        crowns = (height >= height_m) & ~np.isin(seen.kind, _NO_CROWNS)
        at = self._at(seen)
        np.add.at(self.total, at, 1)
        np.add.at(self.high, at[crowns], 1)

    def cover(self) -> NDArray[np.float32]:
        share = np.where(self.total > 0, self.high / np.maximum(self.total, 1), np.nan)
        return np.asarray(share.reshape(self.grid.shape), np.float32)


def _touches(path: str | Path, grid: GeoBox) -> bool:
    """Whether the box of a file's header reaches a grid."""
    with _opened(path) as reader:
        left, bottom, right, top = bounds_in(grid, _crs(reader.header, path).to_wkt())
        low, high = reader.header.mins, reader.header.maxs
        return bool(low[0] <= right and high[0] >= left and low[1] <= top and high[1] >= bottom)


def _read(path: str | Path, grid: GeoBox) -> Iterator[_Points]:
    """Points on a grid, a piece of the file at a time."""
    rows, cols = grid.shape
    with _opened(path) as reader:
        crs = _crs(reader.header, path)
        change = pyproj.Transformer.from_crs(crs, crs_of(grid).to_wkt(), always_xy=True)
        for piece in reader.chunk_iterator(_CHUNK):
            x, y = change.transform(np.asarray(piece.x), np.asarray(piece.y))
            col, row = ~grid.affine * (x, y)
            points = _Points(
                row,
                col,
                np.asarray(piece.z),
                np.asarray(piece.classification, np.uint8),
                np.asarray(piece.return_number) <= 1,
            )
            inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
            yield points.only(inside & (np.asarray(piece.withheld) == 0))


@contextmanager
def _opened(path: str | Path) -> Iterator[laspy.LasReader]:
    try:
        import laspy
    except ImportError:
        raise InputError(
            f"{path}: point clouds are read through laspy, which is not installed: install the extra `lidar` "
            f"(pip install 'tesela[lidar]'), or give a raster of heights."
        ) from None
    logging.getLogger("laspy").addHandler(logging.NullHandler())  # it prints what it also raises
    try:
        with laspy.open(path) as reader:
            yield reader
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (
        laspy.errors.LaspyException,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:  # lazrs: a RuntimeError
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: not a point cloud that laspy can read ({reason}).") from None


def _crs(header: Any, path: str | Path) -> pyproj.CRS:
    """Horizontal CRS of a file."""
    crs = header.parse_crs()
    if crs is None:
        raise GridError(
            f"{path}: has no coordinate system. Assign the right one (PDAL's writers.las, a_srs), then try "
            f"again."
        )
    horizontal: pyproj.CRS = crs.sub_crs_list[0] if crs.is_compound else crs
    return horizontal
