"""Class fractions: the share of each cell of a grid that each class of a reference covers, exact or counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.coverage import polygon_areas
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError
from tesela.core.grid import windows
from tesela.core.legend import Legend
from tesela.core.outlines import TOLERANCE_CELLS, CellPlane
from tesela.core.polygons import mend_polygons, separate_polygons
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.cube import Cube
from tesela.io.manifest import record_step
from tesela.io.vector import is_vector
from tesela.labels.codes import Mixture, make_mixture
from tesela.labels.registration import Shift, estimate_shift
from tesela.labels.sensor_shares import SensorShares, check_psf, shifted_grid
from tesela.labels.shares import CountedShares, PolygonShares, RasterShares

MIN_COVER = 0.5
"""A written map has no shares where the reference covers less of the cell than this."""

_BLOCK_CELLS = 512
"""Largest side of a block of cells: a multiple of the blocks of the files that are written."""


@dataclass(frozen=True)
class Fractions:
    """Class shares of the cells of a grid."""

    shares: NDArray[np.float64]
    """(classes, rows, cols) share of the covered area of each cell; sums to 1, NaN where none is covered."""
    cover: NDArray[np.float64]
    """(rows, cols) share of each cell that the reference covers."""

    @classmethod
    def from_areas(cls, areas: NDArray[np.float64]) -> Fractions:
        """Divide (classes, rows, cols) areas, in cells, by the area that all classes cover together."""
        areas = np.maximum(areas, 0.0)
        cover = areas.sum(axis=0)
        shares = np.full(areas.shape, np.nan)
        np.divide(areas, cover, out=shares, where=cover > 0)
        return cls(shares, cover)


class ShareReader(Protocol):
    """Class shares of a reference, by window of the grid it was opened for."""

    block_cells: int
    """Side of the windows that fit the memory."""

    def read(self, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """(planes, rows, cols) area of each plane in each cell of a window, in cells."""
        ...

    def close(self) -> None:
        """Close the file, and report what reading mended."""
        ...


def polygon_fractions(
    shapes: NDArray[np.object_],
    classes: NDArray[np.int64],
    count: int,
    *,
    grid: GeoBox,
    crs: str | None = None,
    tolerance: float = TOLERANCE_CELLS,
) -> Fractions:
    """
    Exact class shares of the cells of a grid from polygons in memory.

    Parameters
    ----------
    shapes : (polygons,) array of shapely geometries
        Polygons and multipolygons; holes are respected. Invalid ones are mended, and area under two belongs to
        the later one.
    classes : (polygons,) array of int
        Position of each polygon's class, 0 to `count` - 1; negative: left out.
    count : int
        How many classes there are.
    crs : str, optional
        CRS of the polygons; default: the grid's. Straight edges of another CRS are densified until they follow the
        true curve within `tolerance`.
    tolerance : float
        In cells.

    Examples
    --------
    >>> import shapely
    >>> from affine import Affine
    >>> grid = GeoBox((1, 2), Affine(10, 0, 0, 0, -10, 10), "EPSG:3035")
    >>> triangle = np.array([shapely.Polygon([(0, 0), (20, 0), (0, 10)])])
    >>> polygon_fractions(triangle, np.array([0]), 1, grid=grid).cover.tolist()
    [[0.75, 0.25]]
    """
    plane = CellPlane.between(crs or _crs_of(grid), grid, tolerance=tolerance)
    given = separate_polygons(mend_polygons(np.asarray(shapes, object)).shapes)
    outlines = plane.outlines(given.shapes)
    planes = np.asarray(classes, np.int64)[outlines.owners]
    rows, cols = grid.shape
    areas = polygon_areas(
        outlines.points, outlines.starts, holes=outlines.holes, planes=planes, shape=(count, rows, cols)
    )
    return Fractions.from_areas(areas)


def read_fractions(
    reference: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    source: str | None = None,
    field: str | None = None,
    crosswalk: Crosswalk | None = None,
    layer: str | None = None,
    count_m: float | None = None,
    psf: str = "none",
    shift: tuple[float, float] = (0.0, 0.0),
) -> Fractions:
    """Class shares of all cells of a grid at once; parameters and errors are those of `write_fractions`."""
    mixture = make_mixture(legend, source=source, crosswalk=crosswalk)
    opened = partial(_open, reference, mixture, source=source, field=field, layer=layer, count_m=count_m)
    reader = _as_seen(opened, like, psf=psf, shift=shift)
    shares = np.empty((len(legend), *like.shape))
    cover = np.empty(tuple(like.shape))
    for row, col, block in _blocks(reader, mixture, like):
        rows, cols = block.cover.shape
        shares[:, row : row + rows, col : col + cols] = block.shares
        cover[row : row + rows, col : col + cols] = block.cover
    return Fractions(shares, cover)


def write_fractions(
    reference: str | Path,
    out: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    source: str | None = None,
    field: str | None = None,
    crosswalk: Crosswalk | None = None,
    layer: str | None = None,
    count_m: float | None = None,
    psf: str = "none",
    shift: tuple[float, float] = (0.0, 0.0),
    min_cover: float = MIN_COVER,
) -> AbundanceMap:
    """
    Write the share of each cell of a grid that each class of a reference covers.

    Shares refer to the area that the reference covers with a class, and sum to 1. Polygons of any CRS are cut
    exactly by the cells; a class raster counts by the area that its pixels share with the cells. The map is
    computed by blocks of cells, and polygons are read through the spatial index of the file.

    Parameters
    ----------
    reference : str or Path
        GeoPackage, GeoParquet, Shapefile or another vector file, or a class raster, in any CRS. Invalid
        polygons are mended; area under two polygons belongs to the later one in the file.
    out : str or Path
        Abundance map: one band per class, uint16 x 1/10000.
    like : GeoBox
        The cells: those of a scene, a cube or a sinusoidal MODIS grid, turned or not.
    legend : Legend
        Classes of the shares.
    source : str, optional
        Legend of the reference; default: the tree of `legend`, at its level or a finer one.
    field : str, optional
        Field of the codes, as in `tesela.labels.masks.write_labels`.
    crosswalk : Crosswalk, optional
        From the codes to `legend`; default: the shipped one from `source`. Codes that it splits are shared
        out in its proportions; codes that go to nodata count as not covered.
    layer : str, optional
        Needed when a file has several layers of polygons.
    count_m : float, optional
        Count the centres of pixels of this side in metres (10 in Rodriguez-Ortega et al. 2024); default: exact
        areas.
    psf : {"none", "modis"}
        Weigh the ground as the sensor does: "modis" is a triangle two cells wide along the rows. Default: the cell.
    shift : (float, float)
        Rows and columns, in cells, by which the image lies beside the reference, see
        `tesela.labels.registration.estimate_shift`; the cells are moved by it.
    min_cover : float
        Cells are nodata where the reference covers less of them.

    Raises
    ------
    GridError
        If the reference does not reach the grid, either has no CRS, or cells are too small for the pixels counted.
    InputError
        If the reference cannot be read or covers no cell.
    LegendError
        If a code is unknown to the crosswalk.
    """
    mixture = make_mixture(legend, source=source, crosswalk=crosswalk)
    opened = partial(_open, reference, mixture, source=source, field=field, layer=layer, count_m=count_m)
    reader = _as_seen(opened, like, psf=psf, shift=shift)
    filled = 0
    with AbundanceWriter(out, like, legend) as writer:
        for row, col, block in _blocks(reader, mixture, like):
            missing = ~(block.cover >= max(min_cover, 1e-9))
            filled += int((~missing).sum())
            block.shares[:, missing] = np.nan
            writer.write_shares(row, col, block.shares)
        if not filled:
            raise InputError(
                f"{reference}: covers no cell of the grid to {min_cover:.0%}: the reference is elsewhere, or all its "
                f"codes go to nodata. Check the reference, the field, the crosswalk and min_cover."
            )
    record_step(
        "label",
        [out],
        inputs=[reference],
        settings={
            "fractions": True,
            "source": source if crosswalk is None else crosswalk.source,
            "field": field,
            "layer": layer,
            "count": None if count_m is None else f"{count_m:g} m",
            "psf": psf,
            "shift": list(shift),
        },
        legend=legend.address,
    )
    return AbundanceMap(str(out), like, legend)


def shift_of(
    cube: Cube,
    reference: str | Path,
    *,
    legend: Legend,
    source: str | None = None,
    field: str | None = None,
    crosswalk: Crosswalk | None = None,
    layer: str | None = None,
    psf: str = "none",
) -> Shift:
    """Shift between a cube and a reference, see `tesela.labels.registration.estimate_shift`; others as above."""
    mixture = make_mixture(legend, source=source, crosswalk=crosswalk)

    def opened(like: GeoBox) -> ShareReader:
        return _open(reference, mixture, like=like, source=source, field=field, layer=layer, count_m=None)

    return estimate_shift(cube, opened, mixture, psf=psf)


def _as_seen(
    opened: Callable[..., ShareReader], like: GeoBox, *, psf: str, shift: tuple[float, float]
) -> ShareReader:
    """Reader of the cells as the sensor sees them; of exact cells, the reader itself."""
    check_psf(psf)
    cells = shifted_grid(like, shift) if any(shift) else like
    if psf == "none":
        return opened(like=cells)
    return SensorShares(lambda grid: opened(like=grid), cells)


def _open(
    reference: str | Path,
    mixture: Mixture,
    *,
    like: GeoBox,
    source: str | None,
    field: str | None,
    layer: str | None,
    count_m: float | None,
) -> ShareReader:
    _crs_of(like)
    vector = is_vector(reference)
    if not vector and (field is not None or layer is not None):
        raise InputError(
            f"{reference}: a class raster has no field or layer; leave them out (--field, --layer)."
        )
    if count_m is not None:
        return CountedShares(
            reference,
            mixture,
            side_m=count_m,
            vector=vector,
            like=like,
            source=source,
            field=field,
            layer=layer,
        )
    if vector:
        return PolygonShares(reference, mixture, like=like, source=source, field=field, layer=layer)
    return RasterShares(reference, mixture, like=like, source=source)


def _blocks(reader: ShareReader, mixture: Mixture, like: GeoBox) -> Iterator[tuple[int, int, Fractions]]:
    with closing(reader):
        for row, col, grid in windows(like, min(_BLOCK_CELLS, reader.block_cells)):
            areas = reader.read(row, col, (int(grid.shape[0]), int(grid.shape[1])))
            yield row, col, Fractions.from_areas(mixture.classes(areas))


def _crs_of(grid: GeoBox) -> str:
    if grid.crs is None:
        raise GridError(
            "The grid of cells has no coordinate system; give it one (gdal_edit.py -a_srs EPSG:....)."
        )
    text: str = grid.crs.to_wkt()
    return text
