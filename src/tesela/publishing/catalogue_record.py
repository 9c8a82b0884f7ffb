"""The catalogue record: ISO 19115 metadata of a map, as XML (ISO 19139)."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from odc.geo.geobox import GeoBox

from tesela import __version__
from tesela.core.legend import Legend
from tesela.core.publication import Publication
from tesela.io.lineage import Steps, lineage_text
from tesela.io.stac_items import footprint, metres_per_unit, slug, wkt2

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
    Add to a record what its template lacks.

    These are the coordinate reference system of the raster (the template has that of the extent, in degrees), the
    spatial resolution, the contact of the record itself, which ISO 19115 requires and which is that of the data, and
    the date of the thesaurus. The empty description of a vector is removed.

    Parameters
    ----------
    text : str
        ISO 19139 from pygeometa.
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
    position = list(about).index(_one(about, f"{_GMD}spatialRepresentationType")) + 1
    resolution = Element(f"{_GMD}spatialResolution")
    distance = SubElement(SubElement(resolution, f"{_GMD}MD_Resolution"), f"{_GMD}distance")
    SubElement(distance, f"{_GCO}Distance", uom="m").text = f"{pixel_m:.10g}"
    about.insert(position, resolution)


def _set_date(date: Element, day: str) -> None:
    date.clear()
    SubElement(SubElement(date, f"{_GMD}date"), f"{_GCO}Date").text = day
    kind = SubElement(SubElement(date, f"{_GMD}dateType"), f"{_GMD}CI_DateTypeCode")
    kind.set("codeList", f"{_CODES}#CI_DateTypeCode")
    kind.set("codeListValue", "publication")
    kind.text = "publication"


def _one(element: Element, path: str) -> Element:
    match = element.find(path)
    assert match is not None, path
    return match


INSPIRE = "GEMET - INSPIRE themes, version 1.0"
"""Thesaurus of the theme keyword that INSPIRE requires."""
INSPIRE_DATE = "2008-06-01"
"""Day of its publication."""


def catalogue_record(
    path: Path,
    grid: GeoBox,
    legend: Legend | None,
    *,
    publication: Publication,
    steps: Steps = (),
) -> str:
    """
    ISO 19139 text of a raster's record, written by pygeometa.

    It holds title, abstract, time, extent, reference system, resolution, rights, contact and the INSPIRE theme ("Land
    cover", or "Orthoimagery" for images). Its lineage names every step, with
    its files and settings.

    Parameters
    ----------
    path : Path
        The raster, for its name.
    steps : tuple of Manifest
        See `tesela.io.lineage.read_lineage`.
    """
    from pygeometa.schemas.iso19139 import ISO19139OutputSchema

    document = make_mcf(path, grid, legend, publication=publication, steps=steps)
    assert grid.crs is not None
    epsg = grid.crs.epsg
    return complete_record(
        str(ISO19139OutputSchema().write(document)),
        system=f"http://www.opengis.net/def/crs/EPSG/0/{epsg}" if epsg else wkt2(grid),
        pixel_m=abs(grid.resolution.x) * metres_per_unit(grid),
        thesaurus_date=INSPIRE_DATE,
    )


def make_mcf(
    path: Path,
    grid: GeoBox,
    legend: Legend | None,
    *,
    publication: Publication,
    steps: Steps = (),
) -> dict[str, object]:
    """Return the record in pygeometa's metadata control format (MCF)."""
    begin, end = publication.period
    theme = "Orthoimagery" if legend is None else "Land cover"
    extent = {"crs": 4326, "bbox": footprint(grid)[1]}
    keywords: dict[str, object] = {
        "default": {"keywords": [theme.lower(), *publication.keywords], "keywords_type": "theme"},
        "inspire": {
            "keywords": [theme],
            "keywords_type": "theme",
            "vocabulary": {"name": INSPIRE, "url": "http://www.eionet.europa.eu/gemet/inspire_themes"},
        },
    }
    return {
        "mcf": {"version": 1.0},
        "metadata": {
            "identifier": slug(path.stem),
            "language": "eng",
            "charset": "utf8",
            "datestamp": publication.day,
            "hierarchylevel": "dataset",
            "dataseturi": path.name,
        },
        "spatial": {"datatype": "grid", "geomtype": "surface"},
        "identification": {
            "language": "eng",
            "charset": "utf8",
            "title": publication.title,
            "abstract": publication.description or _abstract(grid, legend),
            "dates": {"publication": publication.day},
            "keywords": keywords,
            "topiccategory": ["imageryBaseMapsEarthCover"],
            "extents": {"spatial": [extent], "temporal": [{"begin": begin, "end": end}]},
            "license": {"name": publication.license},
            "rights": publication.license,
            "maintenancefrequency": "unknown",
            "accessconstraints": "license",
            "status": "completed",
            "url": path.name,
        },
        "contact": {"pointOfContact": _contact(publication)},
        "distribution": {
            "data": {
                "url": path.name,
                "type": "WWW:DOWNLOAD-1.0-http--download",
                "name": path.name,
                "description": "Cloud-optimised GeoTIFF",
                "function": "download",
            }
        },
        "dataquality": {
            "scope": {"level": "dataset"},
            "lineage": {"statement": lineage_text(steps) or f"Written by Tesela {__version__}."},
        },
    }


def _contact(publication: Publication) -> dict[str, str]:
    address = f"mailto:{publication.contact}" if publication.contact else ""
    contact = {"organization": publication.provider, "email": publication.contact, "url": address}
    return {key: text for key, text in contact.items() if text}


def _abstract(grid: GeoBox, legend: Legend | None) -> str:
    rows, cols = grid.shape
    size = abs(grid.resolution.x) * metres_per_unit(grid)
    text = f"Raster of {rows} x {cols} pixels of {size:.4g} m"
    if legend is None:
        return f"{text}."
    classes = ", ".join(f"{item.code} {item.name}" for item in legend.classes)
    return f"{text} with {len(legend)} classes of the legend {legend.address}: {classes}."
