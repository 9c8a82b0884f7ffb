"""QGIS styles of quantities: shares, uncertainty and confidence in even steps of colour, images in three bands."""

from __future__ import annotations

from collections.abc import Sequence
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


def image_style(names: Sequence[str], *, high: float) -> str:
    """
    Text of a QGIS style (QML) that draws an image in natural colours, or its first bands where it has none.

    Parameters
    ----------
    names : sequence of str
        Names of the bands: "red", "green" and "blue", or Sentinel-2's B04, B03 and B02, give natural colours.
    high : float
        Quantity that is drawn brightest, such as a reflectance of 0.3; 0 is drawn dark.

    Examples
    --------
    >>> 'redBand="3" greenBand="2" blueBand="1"' in image_style(["B02", "B03", "B04", "B08"], high=0.3)
    True
    """
    found = [next((names.index(name) for name in choice if name in names), -1) for choice in _NATURAL]
    shown = found if min(found) >= 0 else [min(band, len(names) - 1) for band in range(3)]
    root = ElementTree.Element("qgis", version="3.28", styleCategories="AllStyleCategories")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"),
        "rasterrenderer",
        type="multibandcolor",
        redBand=str(shown[0] + 1),
        greenBand=str(shown[1] + 1),
        blueBand=str(shown[2] + 1),
        opacity="1",
        alphaBand="-1",
        nodataColor="",
    )
    for color in ("red", "green", "blue"):
        limits = ElementTree.SubElement(renderer, f"{color}ContrastEnhancement")
        for key, value in (
            ("minValue", "0"),
            ("maxValue", f"{high:g}"),
            ("algorithm", "StretchToMinimumMaximum"),
        ):
            ElementTree.SubElement(limits, key).text = value
    ElementTree.indent(root)
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


_NATURAL = (("red", "B04", "R"), ("green", "B03", "G"), ("blue", "B02", "B"))
