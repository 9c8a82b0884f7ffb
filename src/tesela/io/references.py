"""References as files: what a function is given as polygons, classes or shares, as a path that its readers open."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import rasterio
import rasterio.shutil

from tesela.core.errors import wrong_kind
from tesela.core.legend import Legend
from tesela.io.abundance import AbundanceMap, open_abundance
from tesela.io.array_views import LEGEND_ATTRIBUTE, legend_of_array
from tesela.io.arrays import is_array, write_array
from tesela.io.held import Held
from tesela.io.legends import legend_as_tag
from tesela.io.maps import ClassMap
from tesela.io.raster import open_dataset
from tesela.io.vector import VectorLayer
from tesela.io.vector.frames import is_frame, write_frame

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr

Reference: TypeAlias = Union[
    str, Path, "gpd.GeoDataFrame", VectorLayer, ClassMap, AbundanceMap, "xr.DataArray", "xr.Dataset"
]
"""A path, a postgresql:// address, a GeoDataFrame, a DataArray of classes, a ClassMap; shares as an AbundanceMap."""


@contextmanager
def reference_file(reference: Reference, *, legend: Legend | None = None) -> Iterator[str]:
    """
    Path of a reference while the block runs; what is in memory is written to a temporary file, by blocks.

    Parameters
    ----------
    legend : Legend, optional
        Legend of a DataArray of classes that does not carry one.

    Raises
    ------
    GridError
        If an array or a GeoDataFrame has no CRS.
    InputError
        If it is no kind of reference, or cannot be written.

    Examples
    --------
    >>> with reference_file("clc2018.gpkg") as path:
    ...     print(path)
    clc2018.gpkg
    """
    if isinstance(reference, str | Path):
        yield str(reference)
    elif isinstance(reference, VectorLayer):
        named = reference.layer and not reference.address.is_parquet
        yield f"{reference.path}|layername={reference.layer}" if named else reference.path
    elif isinstance(reference, AbundanceMap):
        yield reference.path
    elif isinstance(reference, ClassMap):
        with _with_legend(reference) as path:
            yield path
    elif is_frame(reference):
        held = Held()
        yield str(write_frame(reference, held.folder))
    elif is_array(reference):
        if hasattr(reference, "data_vars") and LEGEND_ATTRIBUTE in reference.attrs:
            shares = open_abundance(reference)  # holds the file while the block runs
            yield shares.path
            return
        held, named_legend = Held(), legend_of_array(reference) or legend
        tags = {} if named_legend is None else {LEGEND_ATTRIBUTE: legend_as_tag(named_legend)}
        yield str(write_array(reference, held.folder, classes=True, tags=tags)[0])
    else:
        raise wrong_kind(
            "A reference",
            "a path, a postgresql:// address, a GeoDataFrame, a DataArray of classes or a ClassMap",
            reference,
        )


@contextmanager
def _with_legend(source: ClassMap) -> Iterator[str]:
    """Path of a map whose file names its legend: a view of the file where it does not."""
    with open_dataset(source.path) as data:
        if data.tags().get(LEGEND_ATTRIBUTE):
            yield source.path
            return
        name = f"/vsimem/{uuid.uuid4().hex}.vrt"
        rasterio.shutil.copy(data, name, driver="VRT")
    try:
        with rasterio.open(name, "r+") as view:
            view.update_tags(**{LEGEND_ATTRIBUTE: legend_as_tag(source.legend)})
        yield name
    finally:
        rasterio.shutil.delete(name, driver="VRT")
