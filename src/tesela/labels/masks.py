"""The class mask: a reference, polygons or a class raster, on the pixels of a scene."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError
from tesela.core.grid import crs_of, windows
from tesela.core.legend import NODATA, Legend
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap, MapWriter
from tesela.io.vector import Bounds, bounds_text, is_vector
from tesela.labels.codes import make_code_book
from tesela.labels.polygons import PolygonLabels
from tesela.labels.rasters import RasterLabels

WINDOW_PX = 2048
"""Side of the windows of a mask; memory depends on it, not on the size of the scene."""


class NoLabelError(InputError):
    """No pixel of the grid gets a class of the reference."""


class LabelReader(Protocol):
    """Class labels of a reference, by window of the grid it was opened for; use it in a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def extent(self) -> Bounds:
        """Left, bottom, right and top of the reference in the grid's CRS."""
        ...

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """Class values on a window, (rows, cols) uint8; 0 where the reference has no class."""
        ...


def open_reference(
    reference: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    source: str | None = None,
    field: str | None = None,
    crosswalk: Crosswalk | None = None,
    layer: str | None = None,
) -> LabelReader:
    """
    Open a reference for reading labels by window; the parameters are those of `write_labels`.

    Raises
    ------
    GridError
        If the reference has no CRS or does not reach the grid.
    InputError
        If it cannot be read, or has no such layer or field.
    LegendError
        If there is no such legend or crosswalk.
    """
    crs_of(like)
    reader: LabelReader
    if is_vector(reference):
        book = make_code_book(legend, source=source, crosswalk=crosswalk)
        reader = PolygonLabels(reference, book, like=like, field=field, layer=layer)
    elif field is not None or layer is not None:
        raise InputError(
            f"{reference}: a class raster has no field or layer; leave them out (--field, --layer)."
        )
    else:
        reader = RasterLabels(reference, legend, like=like, source=source, crosswalk=crosswalk)
    _check_overlap(reader.extent(), like, reference)
    return reader


def write_labels(
    reference: str | Path,
    out: str | Path,
    *,
    like: GeoBox,
    legend: Legend,
    source: str | None = None,
    field: str | None = None,
    crosswalk: Crosswalk | None = None,
    layer: str | None = None,
) -> ClassMap:
    """
    Draw a reference as a class mask on the pixels of a scene.

    A pixel takes the class of the polygon that contains its centre, or of the nearest pixel of a class raster.
    Polygons are read by window through the spatial index of the file; where two overlap, the later one wins.

    Parameters
    ----------
    reference : str or Path
        GeoPackage, GeoParquet, Shapefile or another vector file, or a class raster, in any CRS.
    out : str or Path
        The mask, a class map.
    like : GeoBox
        Grid of the scene.
    legend : Legend
        Classes of the mask.
    source : str, optional
        Legend of the reference ("corine", "siose-ar"); default: the tree of the mask's legend, at its level or a
        finer one.
    field : str, optional
        Field of the codes; default: the only field, or the one that CORINE layers use. Codes are compared as text;
        the numbers 311 and 311.0 are the text "311".
    crosswalk : Crosswalk, optional
        From the codes to `legend`; default: the shipped one from `source`.
    layer : str, optional
        Required if a file has several layers of polygons.

    Raises
    ------
    GridError
        If the reference does not reach the grid, or has no CRS.
    InputError
        If it cannot be read, there is no such field, or no pixel gets a class.
    LegendError
        If a code is unknown to the crosswalk.
    """
    reader = open_reference(
        reference, like=like, legend=legend, source=source, field=field, crosswalk=crosswalk, layer=layer
    )
    with reader, MapWriter(out, like, legend) as writer:
        for row, col, grid in windows(like, WINDOW_PX):
            writer.write(row, col, reader.read(grid))
        if not writer.counts[NODATA + 1 :].any():
            raise NoLabelError(
                f"{reference}: no pixel of the grid gets a class: the reference is elsewhere, or all its codes go to "
                f"nodata. Check the reference, the field and the crosswalk."
            )
    record_step(
        "label",
        [out],
        inputs=[reference],
        settings={
            "source": source if crosswalk is None else crosswalk.source,
            "field": field,
            "layer": layer,
        },
        legend=legend.address,
    )
    return ClassMap(str(out), like, legend)


def _check_overlap(extent: Bounds, like: GeoBox, reference: str | Path) -> None:
    left, bottom, right, top = like.extent.boundingbox
    if not all(map(math.isfinite, extent)):
        raise GridError(
            f"{reference}: its coordinates do not lie in its coordinate system, such as metres in a file that says "
            f"degrees. Assign the right one (ogr2ogr or gdal_edit.py -a_srs EPSG:....), then try again."
        )
    if extent[0] < right and extent[2] > left and extent[1] < top and extent[3] > bottom:
        return
    raise GridError(
        f"{reference} is at {bounds_text(extent)}, the scene at {bounds_text((left, bottom, right, top))} "
        f"(left, bottom, right, top in {like.crs}): they do not overlap. Check the coordinate systems of "
        f"both, or give the reference of this area."
    )
