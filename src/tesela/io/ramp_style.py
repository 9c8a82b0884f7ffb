"""QGIS styles of quantities: shares, uncertainty and confidence in even steps of colour."""

from __future__ import annotations

from xml.etree import ElementTree

CIVIDIS = ("#00224e", "#414d6b", "#7c7b78", "#bcae6c", "#fee838")
"""Colours at even steps, also with colour blindness (Nuñez, Anderton and Renslow 2018); those of the view page."""


def ramp_style(high: float, *, unit: str) -> str:
    """
    Text of a QGIS style (QML) that colours the first band from 0 to `high`; QGIS applies the scale of the file.

    Parameters
    ----------
    high : float
        Quantity at which the colours end.
    unit : str
        Written beside the numbers: "%", "share".

    Examples
    --------
    >>> 'label="0.25 share"' in ramp_style(1.0, unit="share")
    True
    """
    root = ElementTree.Element("qgis", version="3.28", styleCategories="AllStyleCategories")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band="1",
        opacity="1",
        alphaBand="-1",
        nodataColor="",
        classificationMin="0",
        classificationMax=f"{high:g}",
    )
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue="0",
        maximumValue=f"{high:g}",
    )
    for at, color in enumerate(CIVIDIS):
        value = f"{high * at / (len(CIVIDIS) - 1):g}"
        ElementTree.SubElement(
            shader, "item", value=value, color=color, alpha="255", label=f"{value} {unit}".strip()
        )
    ElementTree.indent(root)
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )
