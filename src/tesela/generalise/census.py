"""The census: which classes of a map lie in each polygon, by exact area."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.grid import windows
from tesela.core.outlines import CellPlane, Outlines
from tesela.core.zones import add_zone_areas
from tesela.io.maps import ClassMap, MapReader
from tesela.io.scores import ConfidenceReader

_WINDOW_PX = 2048
_TOLERANCE_PX = 0.01
"""How far a reprojected edge of a polygon may lie from its true curve."""


@dataclass(frozen=True, eq=False)
class Census:
    """Areas of the classes of a map in polygons."""

    areas: NDArray[np.float64]
    """(polygons, classes) area in pixels; pixels that an edge cuts count in part."""
    total: NDArray[np.float64]
    """(polygons,) area of each polygon in pixels, with ground where the map has no data or does not reach."""
    scored: NDArray[np.float64]
    """(polygons, classes, 2) area in pixels with a confidence, and the sum of area times confidence."""

    @property
    def seen(self) -> NDArray[np.float64]:
        """(polygons,) share of each polygon where the map has a class; 0 for polygons without an area."""
        shown = self.areas.sum(axis=1)
        found: NDArray[np.float64] = np.divide(
            shown, self.total, out=np.zeros(len(shown)), where=self.total > 0
        )
        return found

    @property
    def shares(self) -> NDArray[np.float64]:
        """(polygons, classes) share of each class in the ground that the map shows; 0 where it shows nothing."""
        shown = self.areas.sum(axis=1, keepdims=True)
        found: NDArray[np.float64] = np.divide(
            self.areas, shown, out=np.zeros(self.areas.shape), where=shown > 0
        )
        return found

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(polygons,) mean confidence, NaN where there is none."""
        area, total = self.scored.sum(axis=1).T
        found: NDArray[np.float64] = np.divide(total, area, out=np.full(len(area), np.nan), where=area > 0)
        return found


def take_census(
    shapes: NDArray[np.object_], crs: str, source: ClassMap, *, confidence: str | Path | None = None
) -> Census:
    """
    Measure the classes of a map in polygons, window by window of the map.

    The polygons stay in memory; one of 60 corners takes about a kilobyte here.

    Parameters
    ----------
    shapes : (polygons,) array of shapely geometries
        Valid polygons and multipolygons.
    crs : str
        Of the polygons.
    confidence : str or Path, optional
        Confidence raster of the map.

    Raises
    ------
    GridError
        If the polygons cannot be brought to the map's CRS.
    InputError
        If a file cannot be read.
    """
    plane = CellPlane.between(crs, source.grid, tolerance=_TOLERANCE_PX)
    found = plane.outlines(shapes)
    rings = np.searchsorted(found.owners, np.arange(len(shapes) + 1)).astype(np.int64)
    bounds = _bounds(found, rings)
    classes = len(source.legend)
    areas, scored = np.zeros((len(shapes), classes)), np.zeros((len(shapes), classes, 2))
    position = source.legend.index_table.astype(np.int64)
    plane_of = np.where(position == 255, -1, position)
    with ExitStack() as stack:
        reader = stack.enter_context(MapReader(source))
        scores = None if confidence is None else stack.enter_context(ConfidenceReader(confidence))
        for row, col, grid in windows(source.grid, _WINDOW_PX):
            rows, cols = grid.shape
            left, top, right, low = bounds
            chosen = np.flatnonzero((left < col + cols) & (right > col) & (top < row + rows) & (low > row))
            if not chosen.size:
                continue
            add_zone_areas(
                found.points,
                found.starts,
                holes=found.holes,
                rings=rings,
                chosen=chosen,
                corner=(row, col),
                values=reader.read(grid),
                scores=None if scores is None else scores.read(grid),
                plane_of=plane_of,
                areas=areas,
                scored=scored,
            )
    return Census(areas, found.areas(len(shapes)), scored)


def _bounds(found: Outlines, rings: NDArray[np.int64]) -> NDArray[np.float64]:
    """(4, polygons) left, top, right and low of the polygons; those without a ring lie nowhere."""
    bounds = np.full((4, len(rings) - 1), np.nan)
    full = np.flatnonzero(rings[1:] > rings[:-1])
    if full.size:
        first = found.starts[rings[full]]
        bounds[:2, full] = np.minimum.reduceat(found.points, first).T
        bounds[2:, full] = np.maximum.reduceat(found.points, first).T
    return bounds
