"""GeoDataFrames as inputs: written to a temporary GeoPackage, so that every reader of polygons serves them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from tesela.core.errors import GridError, InputError

if TYPE_CHECKING:
    import geopandas as gpd

NAME = "reference"
"""Name of the layer."""


def is_frame(source: object) -> TypeGuard[gpd.GeoDataFrame]:
    """Whether an object is a GeoDataFrame; geopandas is not loaded for the question."""
    geopandas = sys.modules.get("geopandas")
    return geopandas is not None and isinstance(source, geopandas.GeoDataFrame)


def write_frame(frame: gpd.GeoDataFrame, folder: Path) -> Path:
    """
    Write a GeoDataFrame as ``reference.gpkg``, in its order; its index is left out.

    Columns of other geometries are left out, categories become what they are categories of.

    Raises
    ------
    GridError
        If it has no coordinate system.
    InputError
        If it has no geometries, or a column cannot be written.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    shape = frame.active_geometry_name
    if shape is None:
        raise InputError("The GeoDataFrame has no column of geometries; set it (.set_geometry).")
    if frame.crs is None:
        raise GridError(
            "The GeoDataFrame has no coordinate system. Assign the right one (.set_crs('EPSG:....')), then try again."
        )
    kept = [name for name in frame.columns if name == shape or frame[name].dtype.name != "geometry"]
    plain = frame[kept].reset_index(drop=True)
    for name in kept:
        if plain[name].dtype.name == "category":
            plain[name] = plain[name].astype(plain[name].cat.categories.dtype)
    path = folder / f"{NAME}.gpkg"
    number = {"FID": "tesela_fid"}  # a column named fid stays one like the others
    try:
        pyogrio.write_dataframe(plain, path, layer=NAME, driver="GPKG", layer_options=number)
    except (DataSourceError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise InputError(
            f"The GeoDataFrame cannot be written to a temporary file ({str(error).splitlines()[0]}). Leave out the "
            f"columns that are neither numbers, texts nor dates."
        ) from None
    return path
