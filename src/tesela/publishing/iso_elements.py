"""What pygeometa's ISO 19139 template does not write, though catalogues ask for it."""

from __future__ import annotations

from copy import deepcopy
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

_GMD = "{http://www.isotc211.org/2005/gmd}"
_GCO = "{http://www.isotc211.org/2005/gco}"
_CODES = "http://www.isotc211.org/2005/resources/Codelist/gmxCodelists.xml"
_PREFIXES = {
    "gmd": "http://www.isotc211.org/2005/gmd",
    "gco": "http://www.isotc211.org/2005/gco",
    "gml": "http://www.opengis.net/gml",
    "gmx": "http://www.isotc211.org/2005/gmx",
    "xlink": "http://www.w3.org/1999/xlink",
}


def complete_record(text: str, *, system: str, pixel_m: float, thesaurus_date: str) -> str:
    """
    Add to a record what its template leaves out.

    The raster's system (the template names that of the extent, degrees), the spatial resolution, the contact of the
    record itself, which ISO 19115 demands and which is that of the data, and the day of the thesaurus. The empty
    description of a vector goes.

    Parameters
    ----------
    text : str
        ISO 19139 as pygeometa writes it.
    system : str
        Address or definition of the coordinate reference system.
    pixel_m : float
        Side of a pixel in metres.
    """
    for prefix, address in _PREFIXES.items():
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(text)
    _one(root, f".//{_GMD}RS_Identifier/{_GMD}code/{_GCO}CharacterString").text = system
    root.remove(_one(root, f"{_GMD}spatialRepresentationInfo"))
    _add_contact(root)
    _add_resolution(root, pixel_m)
    for date in root.iterfind(f".//{_GMD}thesaurusName//{_GMD}CI_Date"):
        _set_date(date, thesaurus_date)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_contact(root: Element) -> None:
    party = deepcopy(_one(root, f".//{_GMD}pointOfContact/{_GMD}CI_ResponsibleParty"))
    party.set("id", "contact-metadata")
    contact = Element(f"{_GMD}contact")
    contact.append(party)
    root.insert(list(root).index(_one(root, f"{_GMD}dateStamp")), contact)


def _add_resolution(root: Element, pixel_m: float) -> None:
    about = _one(root, f".//{_GMD}MD_DataIdentification")
    place = list(about).index(_one(about, f"{_GMD}spatialRepresentationType")) + 1
    resolution = Element(f"{_GMD}spatialResolution")
    distance = SubElement(SubElement(resolution, f"{_GMD}MD_Resolution"), f"{_GMD}distance")
    SubElement(distance, f"{_GCO}Distance", uom="m").text = f"{pixel_m:.10g}"
    about.insert(place, resolution)


def _set_date(date: Element, day: str) -> None:
    date.clear()
    SubElement(SubElement(date, f"{_GMD}date"), f"{_GCO}Date").text = day
    kind = SubElement(SubElement(date, f"{_GMD}dateType"), f"{_GMD}CI_DateTypeCode")
    kind.set("codeList", f"{_CODES}#CI_DateTypeCode")
    kind.set("codeListValue", "publication")
    kind.text = "publication"


def _one(element: Element, path: str) -> Element:
    found = element.find(path)
    assert found is not None, path
    return found
