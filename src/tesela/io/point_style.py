"""QGIS style of points that people interpret: colours by response, and a list to choose the class from."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tesela.io.layers import Category

_UNANSWERED = Category("", "no response", "#ffffff")


def choice_style(field: str, categories: Sequence[Category]) -> str:
    """
    Text of a QGIS style (QML) for points: markers by the value of a field, and a value list to edit the field.

    Parameters
    ----------
    categories : sequence of Category
        Values to choose from; points without one are white.

    Examples
    --------
    >>> text = choice_style("reference", [Category("311", "311 Forest", "#00aa00")])
    >>> 'name="311 Forest" type="QString" value="311"' in text
    True
    """
    root = Element("qgis", version="3.28", styleCategories="Symbology|Fields|Forms")
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, enableorderby="0", symbollevels="0"
    )
    listed, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for number, item in enumerate((_UNANSWERED, *categories)):
        SubElement(
            *(listed, "category"),
            type="string",
            value=item.value,
            label=item.label,
            symbol=str(number),
            render="true",
        )
        symbol = SubElement(symbols, "symbol", type="marker", name=str(number), alpha="1")
        marker = SubElement(
            symbol, "layer", {"class": "SimpleMarker", "enabled": "1", "locked": "0", "pass": "0"}
        )
        red, green, blue = (int(item.color[at : at + 2], 16) for at in (1, 3, 5))
        options = SubElement(marker, "Option", type="Map")
        for name, value in (
            ("name", "circle"),
            ("color", f"{red},{green},{blue},255"),
            ("outline_color", "35,35,35,255"),
            ("size", "2.6"),
            ("size_unit", "MM"),
        ):
            SubElement(options, "Option", type="QString", name=name, value=value)
    _add_choices(root, field, categories)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}\n"


def _add_choices(root: Element, field: str, categories: Sequence[Category]) -> None:
    """The widget "value map" of a field: the label is shown, the value is stored."""
    configuration = SubElement(SubElement(root, "fieldConfiguration"), "field", name=field)
    widget = SubElement(configuration, "editWidget", type="ValueMap")
    settings = SubElement(SubElement(widget, "config"), "Option", type="Map")
    choices = SubElement(settings, "Option", type="List", name="map")
    for item in (_UNANSWERED, *categories):
        pair = SubElement(choices, "Option", type="Map")
        SubElement(pair, "Option", name=item.label, type="QString", value=item.value)
