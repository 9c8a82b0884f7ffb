"""Composites of MOD09A1 and MYD09A1: which files and bands hold the layers of each satellite, date and tile."""

from __future__ import annotations

import datetime
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from tesela.core.errors import InputError, join_words
from tesela.io.http import Web
from tesela.io.manifest import NAME
from tesela.io.raster import open_dataset
from tesela.sources.areas import Area
from tesela.sources.catalogue import find_items
from tesela.sources.modis.hdf4 import convert_hdf4
from tesela.sources.providers import Catalogue

COLLECTIONS = {"planetary-computer": "modis-09A1-061"}
"""Collection of MOD09A1 and MYD09A1 by name of the provider."""

FIRST_YEAR = 2000
"""Year of the first images of Terra."""

BANDS = tuple(f"sur_refl_b{number:02d}" for number in range(1, 8))
"""Red 620-670 nm, near infrared 841-876, blue 459-479, green 545-565, 1230-1250, 1628-1652, 2105-2155."""

QC, STATE, DAY = "sur_refl_qc_500m", "sur_refl_state_500m", "sur_refl_day_of_year"
LAYERS = (*BANDS, QC, STATE, DAY)
"""Layers of a composite that a cube needs."""

_OTHER_NAMES = {"QA": QC, "StateQA": STATE, "DayOfYear": DAY}
"""Names of Google Earth Engine."""

_SATELLITE = re.compile(r"(MOD|MYD)09A1", re.IGNORECASE)
_DATES = (
    re.compile(r"[._]A(?P<year>\d{4})(?P<day>\d{3})(?=\D|$)"),  # MOD09A1.A2013001.h17v05...
    re.compile(r"doy(?P<year>\d{4})(?P<day>\d{3})(?=\D|$)"),  # AppEEARS
    re.compile(r"(?P<year>\d{4})[-_](?P<month>\d{2})[-_](?P<date>\d{2})(?=\D|$)"),  # Earth Engine
)
_TILE = re.compile(r"h\d{2}v\d{2}")
_LAYER = re.compile("|".join((*LAYERS, *(rf"(?<![A-Za-z]){name}(?![A-Za-z])" for name in _OTHER_NAMES))))


@dataclass(frozen=True)
class LayerAddress:
    """File and band of a layer."""

    address: str
    """Path, address of a server, or name of a subdataset."""
    band: int = 1


@dataclass(frozen=True)
class Composite:
    """Eight days of one satellite over one tile or region."""

    satellite: str
    """"MOD" for Terra, "MYD" for Aqua."""
    start: datetime.date
    """First day."""
    tile: str
    """"h17v05", or "" if the name does not contain it."""
    layers: Mapping[str, LayerAddress]
    """Address of each of `LAYERS`."""


def find_composites(sources: Iterable[str | Path]) -> list[Composite]:
    """
    Sort files or addresses of MOD09A1 and MYD09A1 into composites, by their names.

    Three layouts are supported: one GeoTIFF per layer (Planetary Computer, AppEEARS, MODIStsp), one GeoTIFF with all
    layers as named bands (Google Earth Engine), and the original HDF where GDAL reads HDF4. Names must hold the
    product (MOD09A1 or MYD09A1) and the date (A2013001, doy2013001 or 2013_01_01).

    Parameters
    ----------
    sources : paths or addresses
        Folders are searched for ``.tif`` and ``.hdf``; other files are ignored.

    Returns
    -------
    list of Composite
        By date, then Terra before Aqua, then tile.

    Raises
    ------
    InputError
        If a name lacks the product or the date, there is no file, or a composite lacks a layer.
    """
    composites: dict[tuple[datetime.date, str, str], dict[str, LayerAddress]] = {}
    for address in _addresses(sources):
        name = address.split("?")[0].rsplit("/", 1)[-1]
        satellite, start = _SATELLITE.search(name), _date(name)
        if satellite is None or start is None:
            raise InputError(
                f"{address}: the name does not contain the product (MOD09A1 or MYD09A1) and the date (A2013001, "
                f"doy2013001 or 2013_01_01). Rename the file after its product and date."
            )
        tile = _TILE.search(name)
        key = (start, satellite[1].upper(), "" if tile is None else tile[0])
        layers = composites.setdefault(key, {})
        for layer, layer_address in _layers(address, name).items():
            if layer in layers:
                raise InputError(
                    f"{address} and {layers[layer].address} are both {layer} of {key[1]}09A1 of {start}; give one."
                )
            layers[layer] = layer_address
    if not composites:
        raise InputError("There is no MOD09A1 or MYD09A1. Give the folder that holds the .tif or .hdf files.")
    for (start, satellite_name, tile_name), layers in composites.items():
        lacking = [layer for layer in LAYERS if layer not in layers]
        if lacking:
            where = f" {tile_name}" if tile_name else ""
            raise InputError(
                f"{satellite_name}09A1 of {start}{where} lacks {join_words(lacking)}; seven bands, quality, state and "
                f"day of year are needed."
            )
    return [Composite(key[1], key[0], key[2], composites[key]) for key in sorted(composites)]


def _addresses(sources: Iterable[str | Path]) -> list[str]:
    addresses: list[str] = []
    for source in sources:
        if "://" not in str(source) and Path(source).is_dir():
            files = sorted(Path(source).rglob("*"))
            addresses += [
                str(file)
                for file in files
                if file.suffix.lower() in (".tif", ".tiff", ".hdf") and _SATELLITE.search(file.name)
            ]
        else:
            addresses.append(str(source))
    return addresses


def _date(name: str) -> datetime.date | None:
    for pattern in _DATES:
        match = pattern.search(name)
        if match is None:
            continue
        parts = match.groupdict()
        try:
            if "day" in parts:
                first = datetime.date(int(parts["year"]), 1, 1)
                return first + datetime.timedelta(days=int(parts["day"]) - 1)
            return datetime.date(int(parts["year"]), int(parts["month"]), int(parts["date"]))
        except ValueError:
            continue
    return None


def _layers(address: str, name: str) -> dict[str, LayerAddress]:
    """Layers of a file: the one in its name, else its subdatasets or its named bands."""
    match = _LAYER.search(name)
    if match is not None:
        return {_OTHER_NAMES.get(match[0], match[0]): LayerAddress(address)}
    if name.lower().endswith(".hdf"):
        return _subdatasets(address)
    with open_dataset(address) as data:
        names = [_OTHER_NAMES.get(text or "", text or "") for text in data.descriptions]
    layers = {
        text: LayerAddress(address, number) for number, text in enumerate(names, start=1) if text in LAYERS
    }
    if not layers:
        raise InputError(
            f"{address}: neither the name nor the bands name a layer; name its bands "
            f"{join_words((*BANDS, *_OTHER_NAMES))}."
        )
    return layers


def _subdatasets(address: str) -> dict[str, LayerAddress]:
    path = Path(address).resolve()  # part of the names of subdatasets
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # only its subdatasets are
            with rasterio.open(path) as data:
                names = list(data.subdatasets)
    except RasterioError:
        if not path.exists():
            raise InputError(f"{address}: no such file.") from None
        with rasterio.Env() as environment:
            has_hdf4 = "HDF4" in environment.drivers()
        if has_hdf4:
            raise InputError(f"{address}: the file is broken. Download it again.") from None
        try:
            converted = str(convert_hdf4(path, LAYERS))
        except ImportError:
            raise InputError(
                f"{address}: this GDAL does not read HDF4, which the wheels of rasterio leave out. Install pyhdf (pip "
                f"install pyhdf), use the GeoTIFFs of the product, or a rasterio whose GDAL reads it (conda-forge)."
            ) from None
        return {name: LayerAddress(converted, number) for number, name in enumerate(LAYERS, start=1)}
    return {
        name.rsplit(":", 1)[-1]: LayerAddress(name) for name in names if name.rsplit(":", 1)[-1] in LAYERS
    }


_COMPOSITE = timedelta(days=8)
"""Length of a composite: one that starts earlier than this before a day has no observation of that day."""


def holds_items(folder: str | Path) -> bool:
    """Whether a folder contains a catalogue or items; JSON files of cubes, parts and manifests do not count."""
    return any(
        path.name != NAME
        and not any(part.endswith((".zarr", ".parts")) for part in path.relative_to(folder).parts)
        for path in Path(folder).glob("**/*.json")
    )


def modis_addresses(
    catalogue: Catalogue, web: Web, area: Area, *, first: date, last: date, collection: str | None = None
) -> list[str]:
    """
    Addresses of all layers of all composites of Terra and Aqua over an area, by date.

    Parameters
    ----------
    first, last : date
        Both included; composites that begin up to eight days earlier are part of the result.
    collection : str, optional
        Default: that of the provider.

    Raises
    ------
    InputError
        If the provider has no MODIS, there are no items, or an item lacks a layer.
    NetworkError
        If the server fails.
    """
    if first.year < FIRST_YEAR:
        raise InputError(f"{first} to {last}: MODIS has images since {FIRST_YEAR}.")
    collection = collection or catalogue.collection(COLLECTIONS)
    if catalogue.provider is not None and not collection:
        raise InputError(
            f"{catalogue.provider.name} has no MOD09A1. Use planetary-computer, or a folder of files "
            f"(--catalogue FOLDER)."
        )
    items = find_items(
        catalogue, web, collection=collection, bounds=area.bounds, first=first - _COMPOSITE, last=last
    )
    if not items:
        raise InputError(f"{catalogue.address} has no MOD09A1 or MYD09A1 of {first} to {last} in this area.")
    for item in items:
        lacking = [layer for layer in LAYERS if layer not in item["assets"]]
        if lacking:
            raise InputError(
                f"{item['id']} lacks {join_words(lacking)} (it has {join_words(sorted(item['assets']))}); seven "
                f"bands, quality, state and day of year are needed."
            )
    addresses = [str(item["assets"][layer]["href"]) for item in items for layer in LAYERS]
    twice = [address for address, times in Counter(addresses).items() if times > 1]
    if twice:
        raise InputError(f"{catalogue.address} names {twice[0]} twice; give the catalogue of one product.")
    return addresses
