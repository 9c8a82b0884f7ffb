"""Vector layers written to files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.io.manifest import write_text, write_whole
from tesela.io.vector.address import DATABASE, check_layer_name, parse_address
from tesela.io.vector.fields import new_names
from tesela.io.vector.postgis_writer import write_postgis

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


_STYLES_TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)
"""


@dataclass(frozen=True)
class Category:
    """One value of a field, and how it is drawn."""

    value: str
    label: str
    color: str
    """Colour as ``#rrggbb``."""


def legend_categories(legend: Legend) -> tuple[Category, ...]:
    """Return the classes of a legend by code, labelled with code and name."""
    return tuple(
        Category(item.code, item.name if item.code == item.name else f"{item.code} {item.name}", item.color)
        for item in legend.classes
    )


def category_style(field: str, categories: Sequence[Category]) -> str:
    """Text of a QGIS style (QML) that fills polygons by the value of a field."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, enableorderby="0", symbollevels="0"
    )
    listed = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, item in enumerate(categories):
        ElementTree.SubElement(
            listed,
            "category",
            type="string",
            value=item.value,
            label=item.label,
            symbol=str(number),
            render="true",
        )
        symbol = ElementTree.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1")
        fill = ElementTree.SubElement(
            symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
        )
        options = ElementTree.SubElement(fill, "Option", type="Map")
        red, green, blue = (int(item.color[at : at + 2], 16) for at in (1, 3, 5))
        for name, value in (
            ("color", f"{red},{green},{blue},255"),
            ("style", "solid"),
            ("outline_color", "35,35,35,255"),
            ("outline_style", "solid"),
            ("outline_width", "0.1"),
            ("outline_width_unit", "MM"),
        ):
            ElementTree.SubElement(options, "Option", type="QString", name=name, value=value)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n"


def add_style(path: Path, style: str, *, layer: str, date: str | None = None) -> None:
    """
    Put a style into a GeoPackage as its layer's default, in the table `layer_styles` that QGIS reads.

    Parameters
    ----------
    date : str, optional
        Time of writing to store in the file, as ISO 8601; default: the same in all files.
    """
    date = date or _DATE
    with closing(sqlite3.connect(path)) as file, file:
        columns = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
        geometry = file.execute(columns, (layer,)).fetchone()[0]
        listed = file.execute(
            "SELECT count(*) FROM gpkg_contents WHERE table_name = 'layer_styles'"
        ).fetchone()[0]
        if not listed:
            file.execute(_STYLES_TABLE)
        file.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
            "styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', NULL, ?)",
            (layer, geometry, layer, style, date),
        )
        if not listed:
            file.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
                "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
                (date,),
            )


_DATE = "2018-01-01T00:00:00.000Z"
"""Time of writing stored in every GeoPackage: the same content gives the same bytes."""


def write_layer(
    path: str | Path, frame: gpd.GeoDataFrame, *, layer: str, style: str | None = None
) -> str | Path:
    """
    Write a table with geometry as the only layer of a GeoPackage, or as a GeoParquet, that appears whole or
    not at all.

    The same table gives the same bytes: the file carries no time of writing. Fields whose names the formats use
    themselves, or that differ in case alone, are renamed by `tesela.io.vector.new_names`; values that they cannot
    hold, such as lists and durations, become text.

    Parameters
    ----------
    path : str or Path
        Ends in ``.gpkg``, or in ``.parquet`` or ``.geoparquet``; or a table of a PostGIS database,
        ``postgresql://host/database|layername=schema.table``, which has no style.
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
    if str(path).startswith(DATABASE):
        address = parse_address(path)
        write_postgis(address.source, plain_frame(frame), table=address.layer or layer)
        return f"{address.text}|layername={address.layer or layer}"
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in (".gpkg", ".parquet", ".geoparquet"):
        raise InputError(
            f"{path}: polygons are written as GeoPackage or GeoParquet; end the name in .gpkg or .parquet."
        )
    check_layer_name(target)
    frame = plain_frame(frame)
    if kind == ".gpkg":
        _write_gpkg(target, frame, layer=layer, style=style)
        return target
    with write_whole(target) as part:
        frame.to_parquet(part, index=False, write_covering_bbox=True, schema_version="1.1.0")
    if style is not None:
        shared = target.with_suffix(".tif").exists()  # whose style of the same name stays
        write_text(target.with_name(f"{target.name}.qml") if shared else target.with_suffix(".qml"), style)
    return target


def plain_frame(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table with names and values that every format holds, its geometries in the column `geometry`."""
    shape = str(frame.geometry.name)
    fields = [str(name) for name in frame.columns if name != shape]
    frame = frame.rename(columns=new_names(fields))
    if shape != "geometry":
        frame = frame.rename_geometry("geometry")
    plain = {name: _plain(frame[name]) for name in frame.columns if name != "geometry"}
    return frame.assign(**{name: column for name, column in plain.items() if column is not None})


def _plain(column: pd.Series[Any]) -> pd.Series[Any] | None:
    """The column with values that GeoPackage can hold; None if it has them already."""
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return column.astype(object)
    if dtype.kind in "mc" or isinstance(dtype, pd.PeriodDtype):
        return column.astype(str).where(column.notna(), None)
    if dtype == np.uint64:
        return column.astype(np.float64 if (column > np.iinfo(np.int64).max).any() else np.int64)
    if not pd.api.types.is_object_dtype(dtype):
        return None
    kinds = pd.api.types.infer_dtype(column, skipna=True)
    if kinds in ("string", "empty", "bytes", "date", "datetime", "boolean"):
        return None if kinds != "empty" else column.where(column.notna(), None)
    if kinds in ("integer", "floating", "decimal", "mixed-integer-float"):
        return column.astype(np.float64)
    return column.map(_text, na_action="ignore")


def _text(value: object) -> object:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return (
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    )


def write_layers(
    path: str | Path, layers: Mapping[str, pd.DataFrame], *, styles: Mapping[str, str] | None = None
) -> Path:
    """
    Write several layers, and tables without geometry, into one GeoPackage that appears whole or not at all.

    Parameters
    ----------
    styles : mapping of str, optional
        QGIS style by the name of its layer.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import pyogrio

    check_layer_name(Path(path))
    with dated(path), write_whole(Path(path)) as part:
        for name, frame in layers.items():
            pyogrio.write_dataframe(frame, part, layer=name, driver="GPKG", append=part.exists())
        for name, style in (styles or {}).items():
            add_style(part, style, layer=name)
    return Path(path)


def _write_gpkg(path: Path, frame: gpd.GeoDataFrame, *, layer: str, style: str | None) -> None:
    with dated(path), write_whole(path) as part:
        frame.to_file(part, layer=layer, driver="GPKG", engine="pyogrio")
        drawn = int((frame.geometry.notna() & ~frame.geometry.is_empty).sum())
        check_complete(part, layer=layer, rows=len(frame), drawn=drawn)
        if style is not None:
            add_style(part, style, layer=layer, date=_DATE)


def check_complete(path: Path, *, layer: str, rows: int, drawn: int) -> None:
    """
    Check that a GeoPackage holds all rows and its spatial index: GDAL reports no error where the disk is full.

    Parameters
    ----------
    rows, drawn : int
        Rows of the layer, and those with a geometry.

    Raises
    ------
    InputError
        If some are missing.
    """
    try:
        with closing(sqlite3.connect(path)) as base:
            names = dict(base.execute("SELECT table_name, column_name FROM gpkg_geometry_columns"))
            tables = (layer, f"rtree_{layer}_{names[layer]}")
            counts = [
                base.execute(f'SELECT count(*) FROM "{_quoted(name)}"').fetchone()[0] for name in tables
            ]
    except (sqlite3.Error, KeyError) as error:
        raise InputError(f"{path.name}: cannot be written whole ({error}). Is the disk full?") from None
    if counts != [rows, drawn]:
        raise InputError(
            f"{path.name}: cannot be written whole ({counts[0]} of {rows} polygons, {counts[1]} in the spatial "
            f"index). Is the disk full?"
        )


def _quoted(name: str) -> str:
    return name.replace('"', '""')


@contextmanager
def dated(path: str | Path) -> Iterator[None]:
    """Let GDAL write the same time into every file; raise its errors as `InputError`."""
    import pyogrio
    from pyogrio.errors import DataSourceError

    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        yield
    except (DataSourceError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written ({error}). Is the disk full?") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
