"""The catalogue record: ISO 19115 metadata of a map, as XML (ISO 19139)."""

from __future__ import annotations

from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela import __version__
from tesela.core.legend import Legend
from tesela.core.publication import Publication
from tesela.io.lineage import lineage_text
from tesela.io.manifest import Manifest
from tesela.io.stac_items import footprint, metres_per_unit, slug, wkt2
from tesela.publishing.iso_elements import complete_record

INSPIRE = "GEMET - INSPIRE themes, version 1.0"
"""Thesaurus of the theme keyword that INSPIRE asks for."""
INSPIRE_DATE = "2008-06-01"
"""Day of its publication."""


def catalogue_record(
    path: Path,
    grid: GeoBox,
    legend: Legend | None,
    *,
    publication: Publication,
    steps: tuple[Manifest, ...] = (),
) -> str:
    """
    ISO 19139 text of a raster's record, written by pygeometa.

    It tells title, abstract, time, extent, system, resolution, rights, contact, the INSPIRE theme ("Land cover", of
    images "Orthoimagery"), and as lineage the settings and inputs of the steps of the recipe.

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
    steps: tuple[Manifest, ...] = (),
) -> dict[str, object]:
    """Return the record in pygeometa's metadata control format (MCF)."""
    begin, end = publication.period
    theme = "Orthoimagery" if legend is None else "Land cover"
    place = {"crs": 4326, "bbox": footprint(grid)[1]}
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
            "extents": {"spatial": [place], "temporal": [{"begin": begin, "end": end}]},
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
    told = {"organization": publication.provider, "email": publication.contact, "url": address}
    return {key: text for key, text in told.items() if text}


def _abstract(grid: GeoBox, legend: Legend | None) -> str:
    rows, cols = grid.shape
    size = abs(grid.resolution.x) * metres_per_unit(grid)
    text = f"Raster of {rows} x {cols} pixels of {size:.4g} m"
    if legend is None:
        return f"{text}."
    classes = ", ".join(f"{item.code} {item.name}" for item in legend.classes)
    return f"{text} with {len(legend)} classes of the legend {legend.address}: {classes}."
