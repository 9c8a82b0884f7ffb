"""Vector layers written to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole

if TYPE_CHECKING:
    import geopandas as gpd


def write_layer(path: str | Path, frame: gpd.GeoDataFrame, *, layer: str) -> Path:
    """
    Write a table with geometry as the only layer of a GeoPackage that appears whole or not at all.

    The same table gives the same bytes: the file carries no time of writing.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import pyogrio
    from pyogrio.errors import DataSourceError

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2018-01-01T00:00:00.000Z"})
    try:
        with write_whole(path) as part:
            frame.to_file(part, layer=layer, driver="GPKG", engine="pyogrio")
    except (DataSourceError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written ({error}).") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
    return Path(path)
