"""QGIS styles for layers of polygons: one colour per category of a field."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tesela.core.legend import Legend

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


def add_style(path: Path, style: str, *, layer: str, date: str) -> None:
    """
    Put a style into a GeoPackage as its layer's default, in the table `layer_styles` that QGIS reads.

    Parameters
    ----------
    date : str
        Time of writing that the file shall tell, as ISO 8601.
    """
    with closing(sqlite3.connect(path)) as file, file:
        columns = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
        geometry = file.execute(columns, (layer,)).fetchone()[0]
        file.execute(_STYLES_TABLE)
        file.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
            "styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES ('', '', ?, ?, ?, ?, '', 1, '', '', NULL, ?)",
            (layer, geometry, layer, style, date),
        )
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            (date,),
        )
