"""Sentinel-2 level 2A as a sensor of mosaics: bands, items, SAFE products, scene classification and offset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.core.grid import bounds_in
from tesela.io.raster import grid_of, open_dataset
from tesela.io.remote import Rasters
from tesela.sources.sensor import Granule, RejectedScene, Sensor, SensorSpec

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of 10 m and 20 m."""

BAND_ASSETS: Mapping[str, tuple[str, ...]] = {
    "B01": ("B01", "coastal", "B01_60m"),
    "B02": ("B02", "blue", "B02_10m"),
    "B03": ("B03", "green", "B03_10m"),
    "B04": ("B04", "red", "B04_10m"),
    "B05": ("B05", "rededge1", "B05_20m"),
    "B06": ("B06", "rededge2", "B06_20m"),
    "B07": ("B07", "rededge3", "B07_20m"),
    "B08": ("B08", "nir", "B08_10m"),
    "B8A": ("B8A", "nir08", "B8A_20m"),
    "B09": ("B09", "nir09", "B09_60m"),
    "B11": ("B11", "swir16", "B11_20m"),
    "B12": ("B12", "swir22", "B12_20m"),
    "SCL": ("SCL", "scl", "SCL_20m"),
}
"""Names of the assets of each band: Planetary Computer, Earth Search, Copernicus Data Space."""

OFFSET = -0.1
"""Added to the reflectance of products from baseline 04.00 on: BOA_ADD_OFFSET of -1000."""

OFFSET_BASELINE = 4.0

_CHECK_PX = 256
"""Side of the reduced scene on which offsets are checked."""

_FEW = 50
"""With fewer dark pixels than this the offset is not checked."""

_TOO_DARK, _TOO_BRIGHT = -0.02, 0.09
"""Fifth percentile of the red reflectance of plants and water: below, the offset was applied twice; above, never."""

_PRODUCT = re.compile(
    r"(?P<platform>S2[A-D])_MSIL2A_(?P<date>\d{8})T(?P<time>\d{6})_N(?P<baseline>\d{4})_R\d{3}_T(?P<tile>\w{5})_"
)
_BAND_FILE = re.compile(r"_(B\d[0-9A]|SCL)_(10|20|60)m\.\w+$")

SPEC = SensorSpec(
    title="Sentinel-2",
    first_year=2015,
    credit="Contains modified Copernicus Sentinel data.",
    collections=dict.fromkeys(("earth-search", "planetary-computer", "cdse"), "sentinel-2-l2a"),
    bands=tuple(name for name in BAND_ASSETS if name != "SCL"),
    band_sets={"rgb": ("B04", "B03", "B02"), "nrg": ("B08", "B04", "B03"), "all": BANDS},
    scale=1e-4,
    mask_band="SCL",
    mask_name="scene classification",
    mask_classes=range(12),
    # no data, saturated, dark area, cloud shadow, medium and high cloud, thin cirrus [Simoes2021]_
    masked=(0, 1, 2, 3, 8, 9, 10),
    cloudy=(3, 8, 9, 10),
)
"""NRG is the colour infrared of the corine chain."""


class Sentinel2(Sensor):
    """Sentinel-2 level 2A, of any provider or as SAFE products."""

    spec = SPEC

    def read_item(self, item: Mapping[str, Any], bands: Sequence[str]) -> Granule | RejectedScene:
        """See `read_granule`."""
        return read_granule(item, bands)

    def check_offset(self, granule: Granule, rasters: Rasters) -> tuple[Granule, str]:
        """See `check_offset`."""
        return check_offset(granule, rasters)

    def product_items(self, folder: Path) -> Iterator[dict[str, Any]]:
        """See `safe_items`."""
        products = sorted(folder.glob("**/*.SAFE")) if not folder.name.endswith(".SAFE") else [folder]
        return safe_items(products)


def read_granule(item: Mapping[str, Any], bands: Sequence[str]) -> Granule | RejectedScene:
    """
    Read a STAC item of any provider; `RejectedScene` where an asset or the time is missing.

    The first of these rules that applies gives the offset: none, where ``earthsearch:boa_offset_applied`` is true;
    the metadata of the red band (``raster:bands`` or, since STAC 1.1, ``raster:offset``); the baseline, -0.1 from
    04.00 on; the date, -0.1 from 25 January 2022 on. Metadata can be wrong: `check_offset` compares with the pixels.
    """
    properties, assets = item["properties"], item["assets"]
    addresses: dict[str, str] = {}
    # the check of the offset reads red, which may be absent where only other bands are requested
    for band in (*bands, "SCL", "B04"):
        asset = next((assets[name] for name in BAND_ASSETS[band] if name in assets), None)
        if asset is not None:
            addresses[band] = str(asset["href"])
    missing = [band for band in (*bands, "SCL") if band not in addresses]
    name = str(item["id"])
    if missing:
        return RejectedScene(
            name, f"lacks {join_words(missing)} (it has {join_words(sorted(assets)) or 'none'})"
        )
    try:
        moment = datetime.fromisoformat(str(properties["datetime"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return RejectedScene(name, "has no date that can be read")
    baseline = _baseline(properties, name)
    return Granule(
        name=name,
        moment=moment,
        platform=str(properties.get("platform", "")).lower(),
        tile=_tile(properties, name),
        version=baseline,
        cloud_percent=float(properties.get("eo:cloud_cover") or 0.0),
        bbox=_flat_box(item.get("bbox") or (-180, -90, 180, 90)),
        bands=addresses,
        offset=_stated_offset(properties, assets, baseline, moment),
        link=next((str(link["href"]) for link in item.get("links", ()) if link.get("rel") == "self"), ""),
    )


def safe_items(products: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """
    Make one item of each product folder; the finest file of each band becomes its asset, such as "B04".

    Raises
    ------
    InputError
        If a product holds no images of bands.
    """
    for product in products:
        name = _PRODUCT.search(product.name)
        if name is None:  # level 1C, other missions
            continue
        assets: dict[str, dict[str, Any]] = {}
        finest: dict[str, int] = {}
        for path in sorted(product.glob("GRANULE/*/IMG_DATA/*/*")):
            band = _BAND_FILE.search(path.name)
            if band is None or finest.get(band[1], 99) <= int(band[2]):
                continue
            finest[band[1]] = int(band[2])
            assets[band[1]] = {"href": str(path.resolve())}
        if not assets:
            raise InputError(
                f"{product}: holds no images of bands (GRANULE/*/IMG_DATA/*). Unpack the whole product."
            )
        with open_dataset(next(iter(assets.values()))["href"]) as data:
            box = bounds_in(grid_of(data), "EPSG:4326")
        day, clock = name["date"], name["time"]
        yield {
            "type": "Feature",
            "id": product.name.removesuffix(".SAFE"),
            "bbox": list(box),
            "properties": {
                "datetime": f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z",
                "platform": f"sentinel-{name['platform'][1:].lower()}",
                "s2:mgrs_tile": name["tile"],
                "s2:processing_baseline": f"{name['baseline'][:2]}.{name['baseline'][2:]}",
            },
            "assets": assets,
            "links": [],
        }


def check_offset(granule: Granule, rasters: Rasters) -> tuple[Granule, str]:
    """
    Compare the stated offset with the darkest pixels, and correct it where it cannot be right.

    Plants and water reflect 1 to 6 % of red light. If the fifth percentile of such pixels is below -2 % with the
    offset, the provider has applied it already. If it is above 9 % without an offset that the baseline requires,
    the provider has not applied it.

    Returns
    -------
    Granule, str
        The granule with the right offset, and what was wrong; empty if nothing was.
    """
    if "B04" not in granule.bands:
        return granule, ""
    scl = rasters.read_small(granule.bands["SCL"], _CHECK_PX)
    red = rasters.read_small(granule.bands["B04"], max(scl.shape))
    rows, cols = min(scl.shape[0], red.shape[0]), min(scl.shape[1], red.shape[1])
    return infer_offset(granule, red[:rows, :cols], scl[:rows, :cols])


def infer_offset(granule: Granule, red: NDArray[np.number], scl: NDArray[np.number]) -> tuple[Granule, str]:
    """Check the offset with the red band and the scene classification of the same pixels; see `check_offset`."""
    dark = np.isin(scl, (2, 4, 6)) & (red > 0)
    if int(dark.sum()) < _FEW:
        return granule, ""
    low = float(np.percentile(red[dark].astype(np.float64), 5)) / 10_000 + granule.offset
    if granule.offset < 0 and low < _TOO_DARK:
        words = f"the stated offset {granule.offset:g} is in the pixels already (darkest plants {low:.3f}); dropped"
        return replace(granule, offset=0.0), words
    due = not granule.version < OFFSET_BASELINE
    if granule.offset == 0 and due and low > _TOO_BRIGHT:
        words = f"the offset {OFFSET:g} was never applied (darkest plants {low:.3f}); applied"
        return replace(granule, offset=OFFSET), words
    return granule, ""


def _flat_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east, north of a box of four or six numbers."""
    half = len(box) // 2
    return float(box[0]), float(box[1]), float(box[half]), float(box[half + 1])


def _baseline(properties: Mapping[str, Any], name: str) -> float:
    text = properties.get("s2:processing_baseline") or properties.get("processing:version")
    if text is None:
        inside = re.search(r"_N(\d{2})(\d{2})_", name)
        text = f"{inside[1]}.{inside[2]}" if inside else "nan"
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _tile(properties: Mapping[str, Any], name: str) -> str:
    text = str(properties.get("s2:mgrs_tile") or properties.get("grid:code") or "")
    if not text:
        inside = re.search(r"_T?(\d{1,2}[C-X][A-Z]{2})(?=_|$)", name)
        text = inside[1] if inside else ""
    return text.removeprefix("MGRS-").removeprefix("T").lstrip("0")


def _stated_offset(
    properties: Mapping[str, Any], assets: Mapping[str, Any], baseline: float, moment: datetime
) -> float:
    if properties.get("earthsearch:boa_offset_applied") is True:
        return 0.0
    red: Mapping[str, Any] = next((assets[name] for name in BAND_ASSETS["B04"] if name in assets), {})
    for described in (red, *red.get("raster:bands", ()), *red.get("bands", ())):
        stated = described.get("raster:offset", described.get("offset"))
        if stated is not None:
            return float(stated)
    if baseline == baseline:
        return OFFSET if baseline >= OFFSET_BASELINE else 0.0
    return OFFSET if moment.strftime("%Y%m%d") >= "20220125" else 0.0
