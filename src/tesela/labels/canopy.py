"""Labels of tree cover from what shows crowns: heights, LiDAR, outlines of crowns, or points of trees."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from tesela.core.errors import GridError, InputError, RecipeError, join_words
from tesela.core.grid import bounds_in, crs_of, windows
from tesela.core.legend import NODATA, Legend
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapReader, MapWriter
from tesela.io.raster import grid_of, open_dataset
from tesela.io.vector import Bounds, is_vector, open_layer, parse_address, read_layer
from tesela.sources.lidar import is_point_cloud, write_lidar_cover
from tesela.sources.source_raster import SourceRaster

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

TREE, OPEN = "tree", "open"
"""Codes of the legend "tree-cover"."""

_WINDOW_PX = 1024


@dataclass(frozen=True)
class CanopyRules:
    """From what height and share on a pixel is tree cover."""

    height_m: float = 2.0
    """Least height of a crown above the ground. 2 m is the usual break of canopy cover by LiDAR, above most shrubs;
    Spain's definition of forest has 3 m."""
    cover_percent: float = 50.0
    """Least share of a pixel, or of a cell of LiDAR, under crowns."""
    cell_m: float = 2.0
    """LiDAR: side of the cells in which returns are counted."""
    crown_m: float = 2.0
    """Points: radius around a tree that is its crown; as far again there is no label."""


@dataclass(frozen=True)
class BuiltLand:
    """Classes of a map on whose land what is high may be a roof."""

    map: ClassMap
    codes: tuple[str, ...]


class _Crowns(Protocol):
    """One source of crowns."""

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        """Share under crowns of each pixel of a window, 0 to 1; NaN where it is unknown."""
        ...


def write_canopy_labels(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    rules: CanopyRules | None = None,
    built: BuiltLand | None = None,
) -> ClassMap:
    """
    Draw tree cover on the pixels of a scene, by window.

    A raster of heights above the ground (nDSM, in metres): a pixel is tree where at least `cover_percent` of it is
    `height_m` high, else open. Pixels of the raster are compared with the height before they are averaged or
    interpolated. LAS or LAZ: the same of first returns by cell, see `tesela.sources.lidar.write_lidar_cover`.
    Polygons of crowns: inside tree. Points: within `crown_m` tree, within twice that no label. Crowns and points are
    complete within the bounds of their layer: elsewhere there is open.

    No label have pixels without height or return, outside the files or layers, and what is high on built land, unless
    the LiDAR tells buildings.

    Parameters
    ----------
    paths : sequence of paths
        Files of one kind that continue each other, in any CRS.
    out : path
        The labels, a class map.
    like : GeoBox
        Grid of the scene.
    legend : Legend
        Has the codes "tree" and "open".
    built : BuiltLand, optional
        For heights: land with roofs.

    Raises
    ------
    GridError
        If the files do not reach the scene, or have no CRS.
    InputError
        If a file cannot be read, or no pixel gets a label.
    RecipeError
        If the files are of several kinds.
    """
    chosen = rules or CanopyRules()
    kinds = {_kind(path) for path in paths}
    if len(kinds) != 1:
        raise RecipeError(
            f"Crowns are to come from {' and '.join(sorted(kinds))} at once; give files of one kind: rasters of "
            f"heights, LAS or LAZ, or polygons or points."
        )
    values = np.array([NODATA, legend[OPEN].value, legend[TREE].value], np.uint8)
    with ExitStack() as stack:
        crowns: _Crowns
        roofs = built
        if kinds == {"polygons or points"}:
            layers = [layer for layer in map(_Layer.open, paths) if _meet(layer.bounds, layer.crs, like)]
            if not layers:
                raise _elsewhere(paths, "crowns")
            crowns, roofs = _Features(layers, chosen.crown_m), None
        elif kinds == {"point clouds"}:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tesela-lidar-"))
            cover = write_lidar_cover(
                paths, Path(folder) / "cover.tif", like=like, height_m=chosen.height_m, cell_m=chosen.cell_m
            )
            crowns = stack.enter_context(_Raster([cover.path], like, least=None))
            roofs = None if cover.has_buildings else built
        else:
            reaching = [path for path in paths if _reaches(path, like)]
            if not reaching:
                raise _elsewhere(paths, "heights")
            crowns = stack.enter_context(_Raster(reaching, like, least=chosen.height_m))
        covers = None if roofs is None else stack.enter_context(MapReader(roofs.map))
        writer = stack.enter_context(MapWriter(out, like, legend))
        for row, col, window in windows(like, _WINDOW_PX):
            share = crowns.read(window)
            labels = np.where(np.isnan(share), 0, np.where(share * 100 >= chosen.cover_percent, 2, 1))
            if covers is not None and roofs is not None:
                codes = [roofs.map.legend[code].value for code in roofs.codes]
                labels[np.isin(covers.read(window), codes) & (share > 0)] = 0
            writer.write(row, col, values[labels])
        if not writer.counts[NODATA + 1 :].any():
            raise InputError(
                f"{join_words([str(path) for path in paths])}: no pixel of the scene gets a label: the files have no "
                f"data there. Check their area and nodata value."
            )
    record_step("label", [out], inputs=list(paths), settings=asdict(chosen), legend=legend.address)
    return ClassMap(str(out), like, legend)


def _kind(path: str | Path) -> str:
    if is_point_cloud(path):
        return "point clouds"
    return "polygons or points" if is_vector(path) else "rasters of heights"


def _meet(bounds: Bounds, crs: str, grid: GeoBox) -> bool:
    """Whether bounds in a CRS overlap a grid."""
    left, bottom, right, top = bounds_in(grid, crs)
    return bounds[0] < right and bounds[2] > left and bounds[1] < top and bounds[3] > bottom


def _reaches(path: str | Path, grid: GeoBox) -> bool:
    """Whether a raster overlaps a grid: of sheets in several zones, those elsewhere are left out."""
    with open_dataset(path) as data:
        own = grid_of(data)
    left, bottom, right, top = own.extent.boundingbox
    return _meet((left, bottom, right, top), str(crs_of(own).to_wkt()), grid)


def _elsewhere(paths: Sequence[str | Path], what: str) -> GridError:
    names = join_words([str(path) for path in paths])
    return GridError(f"{names}: no {what} reach the scene. Give those of its area.")


class _Raster(SourceRaster):
    """Share of pixels that are high, or the share that a raster holds."""

    def __init__(self, paths: Sequence[str | Path], like: GeoBox, *, least: float | None) -> None:
        super().__init__(paths, bands=(1,), largest_px=_WINDOW_PX, source_px=_WINDOW_PX)
        self._least = least
        self._averaged = self.shrinks(like)

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        try:
            return np.asarray(self.onto(grid, self._high, shrinks=self._averaged)[0])
        except GridError:  # a window beyond the files
            return np.full(tuple(grid.shape), np.nan, np.float32)

    def _high(self, values: NDArray[np.float32], grid: GeoBox) -> NDArray[np.float32]:
        if self._least is None:
            return values
        high = np.where(np.isnan(values), np.nan, values >= self._least)
        return np.asarray(high, np.float32)


@dataclass(frozen=True)
class _Layer:
    """A layer of crowns or of trees."""

    path: str | Path
    crs: str
    bounds: Bounds
    points: bool

    @classmethod
    def open(cls, path: str | Path) -> _Layer:
        """Describe a layer."""
        facts = _point_layer(path)
        if facts is None:
            layer = open_layer(path)
            layer.require_features()
            found = cls(path, layer.crs, layer.bounds, points=False)
        else:
            found = cls(path, *facts, points=True)
            if not found.crs:
                raise GridError(
                    f"{path}: has no coordinate system. Assign the right one (ogr2ogr -a_srs EPSG:....)."
                )
        return found


def _point_layer(path: str | Path) -> tuple[str, Bounds] | None:
    """CRS and bounds of a layer of points; None where it is not one."""
    import pyogrio

    address = parse_address(path)
    if address.is_database or address.is_parquet or (address.file is not None and not address.file.exists()):
        return None
    layers = [(str(name), str(kind or "")) for name, kind in pyogrio.list_layers(address.source)]
    if len(layers) != 1 or "Point" not in layers[0][1]:
        return None
    info = pyogrio.read_info(address.source, force_total_bounds=True)
    left, bottom, right, top = (float(side) for side in info["total_bounds"])
    return str(info["crs"] or ""), (left, bottom, right, top)


@dataclass(frozen=True)
class _Features:
    layers: Sequence[_Layer]
    crown_m: float

    def read(self, grid: GeoBox) -> NDArray[np.float32]:
        share = np.full(tuple(grid.shape), np.nan, np.float32)
        rows, cols = np.indices(tuple(grid.shape)) + 0.5
        x, y = grid.affine * (cols, rows)
        crowns, unsure = np.zeros(share.shape, np.bool_), np.zeros(share.shape, np.bool_)
        for layer in self.layers:
            change = pyproj.Transformer.from_crs(crs_of(grid).to_wkt(), layer.crs, always_xy=True)
            across, down = change.transform(x, y)
            left, bottom, right, top = layer.bounds
            share[(across >= left) & (across <= right) & (down >= bottom) & (down <= top)] = 0
            shapes = self._shapes(layer, grid)
            if layer.points:
                unsure |= _inside(shapes.buffer(2 * self.crown_m), grid)
                shapes = shapes.buffer(self.crown_m)
            crowns |= _inside(shapes, grid)
        share[unsure] = np.nan
        share[crowns] = 1
        return share

    def _shapes(self, layer: _Layer, grid: GeoBox) -> gpd.GeoSeries:
        """Shapes that touch a window, in its CRS."""
        import geopandas as gpd

        reach = 2 * self.crown_m if layer.points else 0.0
        step = int(np.ceil(reach / abs(float(grid.resolution.x)))) + 1
        bounds = bounds_in(grid.pad(step), layer.crs)
        if layer.points:
            frame = gpd.read_file(parse_address(layer.path).source, bbox=bounds)
        else:
            frame = read_layer(open_layer(layer.path), bounds=bounds, columns=[])
        return frame.geometry.to_crs(crs_of(grid).to_wkt())


def _inside(shapes: Iterable[BaseGeometry | None], grid: GeoBox) -> NDArray[np.bool_]:
    """Pixels whose centres lie in shapes."""
    drawn = [shape for shape in shapes if shape is not None and not shape.is_empty]
    out = np.zeros(tuple(grid.shape), np.uint8)
    if drawn:
        rasterize(drawn, out=out, transform=grid.affine)
    return np.asarray(out > 0, np.bool_)
