"""STAC Items of rasters: the record by which a catalogue lists a map, an abundance map or an image."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from odc.geo.geobox import GeoBox

from tesela import __version__
from tesela.core.errors import GridError, InputError
from tesela.core.legend import NODATA, Legend
from tesela.core.publication import Publication
from tesela.io.legends import legend_of_tag
from tesela.io.raster import grid_of, open_dataset

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SIDE_POINTS = 33
"""Points along each side of an outline, before those on a straight line are dropped."""
_OUTLINE_DEG = 1e-5
"""Largest distance of an outline from the true one: about a metre."""
_MEDIA = {
    ".tif": (COG, "data"),
    ".tiff": (COG, "data"),
    ".gpkg": ("application/geopackage+sqlite3", "data"),
    ".parquet": ("application/vnd.apache.parquet", "data"),
    ".geoparquet": ("application/vnd.apache.parquet", "data"),
    ".csv": ("text/csv", "data"),
    ".html": ("text/html", "metadata"),
    ".json": ("application/json", "metadata"),
    ".xml": ("application/xml", "metadata"),
    ".md": ("text/markdown", "metadata"),
    ".qml": ("application/xml", "style"),
    ".toml": ("application/toml", "metadata"),
    ".png": ("image/png", "overview"),
    ".xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "data"),
    ".safetensors": ("application/octet-stream", "mlm:model"),
    ".onnx": ("application/octet-stream; application=onnx", "data"),
}


def raster_item(
    path: str | Path, publication: Publication, *, beside: Sequence[str | Path] = ()
) -> dict[str, object]:
    """
    STAC 1.1 Item of a raster, with the extensions projection, raster and, for class maps, classification.

    Parameters
    ----------
    path : str or Path
        The raster; the Item belongs into the same folder.
    publication : Publication
        Its date is the time that the raster shows.
    beside : sequence of paths
        Further files of the product in that folder; each becomes an asset, by its ending.

    Returns
    -------
    dict
        JSON document.

    Raises
    ------
    InputError
        If the raster cannot be read, the publication has no date, or a file is of an unknown kind.
    GridError
        If it has no georeference.
    """
    target = Path(path)
    with open_dataset(target) as data:
        grid = grid_of(data)
        legend = legend_of(data)
        asset: dict[str, object] = {"href": f"./{target.name}", "type": COG, "roles": ["data"]}
        asset |= {"title": publication.title, **_projection(grid), "bands": _bands(data, legend)}
        if legend is not None and data.count == 1:
            asset["classification:classes"] = class_list(legend)
        asset["raster:spatial_resolution"] = abs(grid.resolution.x) * metres_per_unit(grid)
    extensions = [PROJECTION, RASTER]
    if "classification:classes" in asset:
        extensions.append(CLASSIFICATION)
    geometry, bbox = footprint(grid)
    properties: dict[str, object] = common_properties(publication)
    if legend is not None:
        properties["tesela:legend"] = legend.address
    return {
        **item_frame(target.stem, extensions),
        "geometry": geometry,
        "bbox": bbox,
        "properties": properties,
        "links": [],
        "assets": {"data": asset, **other_assets(beside)},
    }


def item_frame(name: str, extensions: Sequence[str]) -> dict[str, object]:
    """First members of every Item."""
    return {"type": "Feature", "stac_version": "1.1.0", "stac_extensions": list(extensions), "id": name}


def common_properties(publication: Publication) -> dict[str, object]:
    """
    Properties that every Item has: time, title, rights, provider.

    Raises
    ------
    InputError
        If the publication has no date.
    """
    if not publication.date:
        raise InputError(
            f"'{publication.title}' has no date, which a catalogue needs: give the time that the product shows "
            f"(--date 2018-07-15, or --date 2018-04/2018-09)."
        )
    begin, end = (f"{day}T00:00:00Z" for day in publication.period)
    properties: dict[str, object] = {"title": publication.title}
    if begin == end:
        properties["datetime"] = begin
    else:
        properties |= {
            "datetime": None,
            "start_datetime": begin,
            "end_datetime": end.replace("00:00:00", "23:59:59"),
        }
    if publication.description:
        properties["description"] = publication.description
    if publication.keywords:
        properties["keywords"] = list(publication.keywords)
    properties["license"] = publication.license
    properties["created"] = properties["updated"] = f"{publication.day}T00:00:00Z"
    if publication.provider:
        properties["providers"] = [{"name": publication.provider, "roles": ["producer", "licensor"]}]
    properties["tesela:version"] = __version__
    return properties


def other_assets(paths: Iterable[str | Path]) -> dict[str, dict[str, object]]:
    """
    Assets of the files beside the product, by name.

    Raises
    ------
    InputError
        If the ending of one is unknown.
    """
    assets: dict[str, dict[str, object]] = {}
    for path in map(Path, paths):
        if path.suffix.lower() not in _MEDIA:
            raise InputError(
                f"{path}: files ending in '{path.suffix}' cannot be published; known: {', '.join(sorted(_MEDIA))}."
            )
        media, role = _MEDIA[path.suffix.lower()]
        assets[slug(path.name)] = {"href": f"./{path.name}", "type": media, "roles": [role]}
    return assets


def class_list(legend: Legend) -> list[dict[str, object]]:
    """Classes of a legend as the classification extension lists them, nodata first."""
    names = [slug(item.name) for item in legend.classes]
    unique = len(set(names)) == len(names)
    listed: list[dict[str, object]] = [
        {"value": NODATA, "name": "nodata", "title": "No data", "description": "No data", "nodata": True}
    ]
    for item, name in zip(legend.classes, names, strict=True):
        text = item.name if item.code == item.name else f"{item.code} {item.name}"
        listed.append(
            {
                "value": item.value,
                "name": name if unique else slug(f"{item.code}-{item.name}"),
                "title": item.name,
                "description": text,
                "color_hint": item.color[1:].upper(),
            }
        )
    return listed


def slug(text: str) -> str:
    """
    Text of letters, digits, ``-`` and ``_`` only.

    Examples
    --------
    >>> slug("Broad-leaved forest")
    'broad-leaved-forest'
    """
    return re.sub(r"[^0-9a-z_]+", "-", text.lower()).strip("-") or "unnamed"


def legend_of(data: rasterio.DatasetReader) -> Legend | None:
    """Legend that Tesela wrote into a raster, or None."""
    tag = data.tags().get("TESELA_LEGEND")
    if not tag:
        return None
    return legend_of_tag(tag, where=data.name)


def metres_per_unit(grid: GeoBox) -> float:
    """Metres per unit of a grid's coordinates; for degrees, along a meridian."""
    if grid.crs is not None and grid.crs.projected:
        axis = grid.crs.proj.axis_info[0]
        return float(axis.unit_conversion_factor or 1.0)
    return 111_320.0


def wkt2(grid: GeoBox) -> str:
    """Definition of a grid's system in WKT 2."""
    from pyproj.enums import WktVersion

    assert grid.crs is not None
    return str(grid.crs.to_wkt(version=WktVersion.WKT2_2019))


def footprint(grid: GeoBox) -> tuple[dict[str, object], list[float]]:
    """
    Outline of a grid in degrees (WGS 84), with points along its sides, cut at the antimeridian; and its box.

    Returns
    -------
    GeoJSON geometry; west, south, east, north
        Within 180 degrees, west larger than east where the antimeridian is crossed (RFC 7946), and from -180 to 180
        around a pole.

    Raises
    ------
    GridError
        If a side lies where the CRS has no place on the Earth.
    """
    import shapely
    from shapely import affinity

    to_degrees = pyproj.Transformer.from_crs(wkt2(grid), "EPSG:4326", always_xy=True)
    rows, cols = grid.shape
    sides = np.linspace(0, 1, _SIDE_POINTS)[:-1]
    around = [(sides, 0 * sides), (1 + 0 * sides, sides), (1 - sides, 1 + 0 * sides), (0 * sides, 1 - sides)]
    x, y = grid.affine * np.hstack([[u * cols, v * rows] for u, v in around])
    lon, lat = to_degrees.transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise GridError(
            f"A grid reaches from {x.min():g}, {y.min():g} to {x.max():g}, {y.max():g}, where {grid.crs} has no place "
            f"on the Earth. Assign the right coordinate system (gdal_edit.py -a_srs EPSG:....)."
        )
    lon = np.unwrap(lon, period=360)
    pole = next((side for side in (90.0, -90.0) if _holds(grid, side, to_degrees)), None)
    if pole is not None:  # the outline goes around the Earth, and is closed along the pole
        end = lon[0] + math.copysign(360, lon[-1] - lon[0])
        lon, lat = np.append(lon, [end, end, lon[0]]), np.append(lat, [lat[0], pole, pole])
    outline = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat]))).simplify(_OUTLINE_DEG)
    parts, turns = [], []
    for turn in (-360, 0, 360):
        part = shapely.intersection(outline, shapely.box(turn - 180, -90, turn + 180, 90))
        if part.area > 0:
            parts.append(affinity.translate(part, -turn))
            turns.append(turn)
    shape = shapely.orient_polygons(shapely.set_precision(shapely.union_all(parts), 1e-7))
    west, east = lon.min() - turns[0], lon.max() - turns[-1]
    if lon.max() - lon.min() >= 360 - _OUTLINE_DEG:
        west, east = -180.0, 180.0
    geometry: Mapping[str, object] = json.loads(shapely.to_geojson(shape))
    return dict(geometry), [round(float(side), 7) for side in (west, lat.min(), east, lat.max())]


def _holds(grid: GeoBox, lat: float, to_degrees: pyproj.Transformer) -> bool:
    """Whether a pole lies inside a projected grid; in degrees it is a side."""
    if grid.crs is None or not grid.crs.projected:
        return False
    col, row = ~grid.affine * to_degrees.transform(0.0, lat, direction="INVERSE")
    return bool(0 < col < grid.shape[1] and 0 < row < grid.shape[0])


def _projection(grid: GeoBox) -> dict[str, object]:
    assert grid.crs is not None
    code = grid.crs.epsg
    system: dict[str, object] = {"proj:code": f"EPSG:{code}" if code else None}
    if not code:
        system["proj:wkt2"] = wkt2(grid)
    box = grid.extent.boundingbox
    return system | {
        "proj:shape": [int(side) for side in grid.shape],
        "proj:transform": [float(number) for number in grid.affine[:6]],
        "proj:bbox": [float(side) for side in box.bbox],
    }


def _bands(data: rasterio.DatasetReader, legend: Legend | None) -> list[dict[str, object]]:
    described: list[dict[str, object]] = []
    for index in data.indexes:
        name = data.descriptions[index - 1] or f"band{index}"
        if legend is not None and data.count == 1:
            name = "class"
        band: dict[str, object] = {"name": name, "data_type": data.dtypes[index - 1]}
        nodata, scale, offset = data.nodatavals[index - 1], data.scales[index - 1], data.offsets[index - 1]
        if nodata is not None:
            band["nodata"] = nodata if nodata == nodata and abs(nodata) < float("inf") else str(nodata)
        if data.units[index - 1]:
            band["unit"] = data.units[index - 1]
        if scale != 1.0:
            band["raster:scale"] = scale
        if offset != 0.0:
            band["raster:offset"] = offset
        described.append(band)
    return described
