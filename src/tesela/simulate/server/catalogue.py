"""The catalogue of a provider for a virtual region: COGs and STAC items in the layout of each real provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, unknown_name
from tesela.core.grid import bounds_in
from tesela.io.manifest import write_text
from tesela.io.raster import raster_crs
from tesela.simulate.region.landscape import make_landscape
from tesela.simulate.region.sensors import simulate_image
from tesela.simulate.region.surface import lay_surface

ProviderLayout = Literal["earth-search", "planetary-computer", "cdse"]

_NAMES: Mapping[str, Mapping[str, str]] = {
    "earth-search": {
        "B02": "blue",
        "B03": "green",
        "B04": "red",
        "B05": "rededge1",
        "B06": "rededge2",
        "B07": "rededge3",
        "B08": "nir",
        "B8A": "nir08",
        "B11": "swir16",
        "B12": "swir22",
        "SCL": "scl",
    },
    "planetary-computer": {},
    "cdse": {},
}
"""Names of the bands in a layout, where they differ from the original ones."""

_TEN_METRES = ("B02", "B03", "B04", "B08")
_SEASON_OF = {4: "april", 7: "july", 9: "september"}


@dataclass(frozen=True, eq=False)
class Acquisition:
    """One tile of a satellite pass: reflectance and classification on a grid of 10 m."""

    values: Mapping[str, NDArray[np.uint16]]
    """By band, (rows, cols) reflectance x 10000; 0 is nodata. Rows and cols are even."""
    scl: NDArray[np.uint8]
    grid: GeoBox
    moment: datetime
    tile: str = "30SVF"
    platform: str = "sentinel-2a"
    baseline: str = "02.07"
    cloud_percent: float = 0.0
    pixels_shifted: bool | None = None
    """Whether 1000 was added to the numbers; default: as in the layout at this baseline. Set it to simulate a provider
    with wrong metadata."""


def write_acquisition(
    folder: str | Path, seen: Acquisition, *, layout: ProviderLayout, without: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Write one item with its files: bands of 10 m, of 20 m, and the classification of 20 m.

    Parameters
    ----------
    without : sequence of str
        Bands whose assets are missing.

    Returns
    -------
    dict
        The item; its file is ``items/ID.json``, its assets' addresses are relative to that.
    """
    if layout not in _NAMES:
        raise InputError(unknown_name("layout", layout, _NAMES))
    root = Path(folder)
    shifts = float(seen.baseline) >= 4
    raised = (shifts and layout != "earth-search") if seen.pixels_shifted is None else seen.pixels_shifted
    name = _item_name(seen, layout)
    assets: dict[str, dict[str, Any]] = {}
    layers: dict[str, NDArray[Any]] = {**seen.values, "SCL": seen.scl}
    for band, values in layers.items():
        if band in without:
            continue
        fine = band in _TEN_METRES
        numbers = values if fine else _halve(values, mode=band == "SCL")
        if band != "SCL" and raised:
            numbers = np.where(numbers > 0, numbers + np.uint16(1000), 0).astype(np.uint16)
        key = _NAMES[layout].get(band, band)
        if layout == "cdse":
            key = f"{band}_{10 if fine else 20}m"
        path = root / name / f"{key}.{'jp2' if layout == 'cdse' else 'tif'}"
        _write(path, numbers, seen.grid if fine else _coarser(seen.grid))
        assets[key] = {"href": f"../{name}/{path.name}", "roles": ["data"], **_metadata(band, layout, shifts)}
    properties = _properties(seen, layout, shifts=shifts)
    version = "1.1.0" if layout == "cdse" else "1.0.0"
    return _write_document(
        root, name, "sentinel-2-l2a", seen.grid, properties=properties, assets=assets, version=version
    )


def write_item(
    folder: str | Path,
    name: str,
    layers: Mapping[str, NDArray[Any]],
    grid: GeoBox,
    *,
    collection: str,
    first: datetime,
    last: datetime | None = None,
    nodata: float | None = None,
) -> dict[str, Any]:
    """
    Write one item of any collection, one COG an asset: composites of MODIS, elevation, land cover.

    Parameters
    ----------
    layers : mapping of (rows, cols) arrays
        By name of the asset; the file is called ``NAME_ASSET.tif``.
    first, last : datetime
        Moment of the image, or the ends of its period.

    Returns
    -------
    dict
        The item, as `write_acquisition` returns it.
    """
    root = Path(folder)
    assets = {}
    for asset, values in layers.items():
        path = root / name / f"{name}_{asset}.tif"
        _write(path, values, grid, nodata=nodata)
        assets[asset] = {"href": f"../{name}/{path.name}", "roles": ["data"]}
    stamps = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (first, last or first)]
    time = (
        {"datetime": None, "start_datetime": stamps[0], "end_datetime": stamps[1]}
        if last
        else {"datetime": stamps[0]}
    )
    return _write_document(root, name, collection, grid, properties=time, assets=assets)


def write_static_catalogue(folder: str | Path) -> Path:
    """Write a ``catalog.json`` that links all items of a folder; returns its path."""
    root = Path(folder)
    links = [
        {"rel": "item", "href": f"./items/{path.name}", "type": "application/geo+json"}
        for path in sorted((root / "items").glob("*.json"))
    ]
    document = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "virtual",
        "description": "Images of a virtual region",
        "links": [{"rel": "root", "href": "./catalog.json"}, *links],
    }
    write_text(root / "catalog.json", json.dumps(document, indent=1))
    return root / "catalog.json"


def write_catalogue(
    folder: str | Path,
    *,
    layout: ProviderLayout = "earth-search",
    size_px: int = 256,
    seed: int = 0,
    year: int = 2018,
    months: Sequence[int] = (4, 7, 9),
    takes: int = 4,
    cloud_cover: float = 0.3,
    baseline: str = "02.07",
) -> Path:
    """
    Write images of a virtual region, several a month with different clouds, as the catalogue of a provider.

    Parameters
    ----------
    months : sequence of {4, 7, 9}
    takes : int
        Images a month, five days apart from the 3rd on.
    cloud_cover : float
        Share of each image under cloud.

    Returns
    -------
    Path
        The static ``catalog.json``; `ProviderServer` serves the folder.
    """
    landscape = make_landscape(size_px=size_px, seed=seed)
    surface = lay_surface(landscape)
    for month in months:
        if month not in _SEASON_OF:
            raise InputError(f"Month {month}: the virtual region has images of 4, 7 and 9.")
        for take in range(takes):
            image = simulate_image(
                landscape,
                _SEASON_OF[month],
                surface=surface,
                clouds="keep",
                cloud_cover=cloud_cover,
                take=take + 1,
            )
            seen = Acquisition(
                dict(zip(image.bands, image.values, strict=True)),
                image.scl,
                image.grid,
                datetime(year, month, 3, 10, 50, 31, tzinfo=UTC) + timedelta(days=5 * take),
                platform="sentinel-2a" if take % 2 == 0 else "sentinel-2b",
                baseline=baseline,
                cloud_percent=100 * float(np.isin(image.scl, (8, 9, 10)).mean()),
            )
            write_acquisition(folder, seen, layout=layout)
    return write_static_catalogue(folder)


def _item_name(seen: Acquisition, layout: ProviderLayout) -> str:
    craft = f"S{seen.platform.removeprefix('sentinel-').upper()}"
    if layout == "earth-search":
        return f"{craft}_{seen.tile}_{seen.moment:%Y%m%d}_0_L2A"
    number = f"_N{seen.baseline.replace('.', '')}" if layout == "cdse" else ""
    return f"{craft}_MSIL2A_{seen.moment:%Y%m%dT%H%M%S}{number}_R051_T{seen.tile}_{seen.moment:%Y%m%d}T150000"


def _properties(seen: Acquisition, layout: ProviderLayout, *, shifts: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "datetime": seen.moment.strftime("%Y-%m-%dT%H:%M:%S.024Z"),
        "platform": seen.platform,
        "eo:cloud_cover": round(seen.cloud_percent, 2),
    }
    if layout == "earth-search":
        properties |= {"grid:code": f"MGRS-{seen.tile}", "s2:processing_baseline": seen.baseline}
        properties["earthsearch:boa_offset_applied"] = shifts
    elif layout == "planetary-computer":
        properties |= {"s2:mgrs_tile": seen.tile, "s2:processing_baseline": seen.baseline}
    else:
        properties |= {"grid:code": f"MGRS-{seen.tile}", "processing:version": seen.baseline}
    return properties


def _metadata(band: str, layout: ProviderLayout, shifts: bool) -> dict[str, Any]:
    """Scale and offset in the assets; those of Earth Search contradict its own flag, as in reality."""
    if band == "SCL" or layout == "planetary-computer":
        return {}
    offset = -0.1 if shifts else 0.0
    if layout == "earth-search":
        return {"raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": offset}]}
    return {"data_type": "uint16", "nodata": 0, "raster:scale": 0.0001, "raster:offset": offset}


def _write_document(
    root: Path,
    name: str,
    collection: str,
    grid: GeoBox,
    *,
    properties: dict[str, Any],
    assets: dict[str, Any],
    version: str = "1.0.0",
) -> dict[str, Any]:
    item = {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        **_place(grid),
        "properties": properties,
        "assets": assets,
        "links": [],
    }
    write_text(root / "items" / f"{name}.json", json.dumps(item, indent=1))
    return item


def _place(grid: GeoBox) -> dict[str, Any]:
    west, south, east, north = bounds_in(grid, "EPSG:4326")
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"bbox": [west, south, east, north], "geometry": {"type": "Polygon", "coordinates": [ring]}}


def _coarser(grid: GeoBox) -> GeoBox:
    return GeoBox((grid.shape[0] // 2, grid.shape[1] // 2), grid.affine * Affine.scale(2), grid.crs)


def _halve(values: NDArray[Any], *, mode: bool) -> NDArray[Any]:
    rows, cols = values.shape[0] // 2, values.shape[1] // 2
    if mode:
        return np.ascontiguousarray(values[: 2 * rows : 2, : 2 * cols : 2])
    blocks = values[: 2 * rows, : 2 * cols].reshape(rows, 2, cols, 2).astype(np.float64)
    mean = np.rint(blocks.mean(axis=(1, 3)))
    return np.where((blocks == 0).any(axis=(1, 3)), 0, mean).astype(values.dtype)


def _write(path: Path, values: NDArray[Any], grid: GeoBox, *, nodata: float | None = 0) -> None:
    profile: dict[str, Any] = {
        "width": values.shape[1],
        "height": values.shape[0],
        "count": 1,
        "dtype": values.dtype.name,
        "crs": raster_crs(grid),
        "transform": grid.affine,
    }
    if path.suffix == ".jp2":
        profile |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "RESOLUTIONS": "3"}
    else:
        profile |= {
            "driver": "COG",
            "nodata": nodata,
            "BLOCKSIZE": "128",
            "COMPRESS": "DEFLATE",
            "PREDICTOR": "2",
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as data:
        data.write(values, 1)
