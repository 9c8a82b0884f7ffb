"""Vector layers written to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.io.styles import add_style

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

_DATE = "2018-01-01T00:00:00.000Z"
"""Time of writing that every GeoPackage tells: the same content gives the same bytes."""


def write_layer(path: str | Path, frame: gpd.GeoDataFrame, *, layer: str, style: str | None = None) -> Path:
    """
    Write a table with geometry as the only layer of a GeoPackage, or as a GeoParquet, that appears whole or
    not at all.

    The same table gives the same bytes: the file carries no time of writing.

    Parameters
    ----------
    path : str or Path
        Ends in ``.gpkg``, or in ``.parquet`` or ``.geoparquet``.
    layer : str
        Name of the layer; a GeoParquet has none.
    style : str, optional
        QGIS style: in the table `layer_styles` of a GeoPackage, in a ``.qml`` beside a GeoParquet
        (``NAME.parquet.qml`` where a raster NAME.tif has a style already; load it by hand).

    Raises
    ------
    InputError
        If the file cannot be written, or the format is another.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in (".gpkg", ".parquet", ".geoparquet"):
        raise InputError(
            f"{path}: polygons are written as GeoPackage or GeoParquet; end the name in .gpkg or .parquet."
        )
    if kind == ".gpkg":
        _write_gpkg(target, frame, layer=layer, style=style)
        return target
    with write_whole(target) as part:
        frame.to_parquet(part, index=False, write_covering_bbox=True, schema_version="1.1.0")
    if style is not None:
        shared = target.with_suffix(".tif").exists()  # whose style of the same name stays
        with write_whole(
            target.with_name(f"{target.name}.qml") if shared else target.with_suffix(".qml")
        ) as part:
            part.write_text(style, encoding="utf-8")
    return target


def write_layers(path: str | Path, layers: Mapping[str, pd.DataFrame]) -> Path:
    """
    Write several layers, and tables without geometry, into one GeoPackage that appears whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import pyogrio

    with _dated(path), write_whole(Path(path)) as part:
        for name, frame in layers.items():
            pyogrio.write_dataframe(frame, part, layer=name, driver="GPKG", append=part.exists())
    return Path(path)


def _write_gpkg(path: Path, frame: gpd.GeoDataFrame, *, layer: str, style: str | None) -> None:
    with _dated(path), write_whole(path) as part:
        frame.to_file(part, layer=layer, driver="GPKG", engine="pyogrio")
        if style is not None:
            add_style(part, style, layer=layer, date=_DATE)


@contextmanager
def _dated(path: str | Path) -> Iterator[None]:
    """Let GDAL write the same time into every file; tell its failures as ours."""
    import pyogrio
    from pyogrio.errors import DataSourceError

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        yield
    except (DataSourceError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written ({error}).") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
