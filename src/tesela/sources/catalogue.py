"""Searching catalogues: STAC APIs, static catalogues, folders of items or of unpacked products."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pystac
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from tesela.core.errors import InputError, NetworkError, TeselaError
from tesela.io.http import Web
from tesela.io.remote import is_remote
from tesela.sources.providers import Catalogue

Item = dict[str, Any]
"""A STAC Item of a catalogue, the addresses of its assets absolute."""

Products = Callable[[Path], Iterator[Item]]
"""Makes items of the unpacked products in a folder; see `tesela.sources.sensor.Sensor.product_items`."""

_MAX_ITEMS = 20_000
"""More items than this mean a wrong area or wrong dates."""


class CatalogueIO(StacApiIO):
    """pystac-client's reader with our retries."""

    def __init__(self, web: Web) -> None:
        super().__init__(max_retries=None)
        self._web = web

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Send a request, and return the text of the response."""
        if (method or "GET").upper() == "POST":
            return self._web.post(href, parameters or {}).decode("utf-8")
        query = urlencode(parameters or {})
        joined = f"{href}{'&' if '?' in href else '?'}{query}" if query else href
        return self._web.get(joined).decode("utf-8")


def find_items(
    catalogue: Catalogue,
    web: Web,
    *,
    collection: str | None,
    bounds: tuple[float, float, float, float],
    first: date,
    last: date,
    products: Products | None = None,
) -> list[Item]:
    """
    Find the items of a collection that touch a box between two days, by date.

    Parameters
    ----------
    collection : str, optional
        For APIs; a static catalogue is read as a whole.
    bounds : (float, float, float, float)
        West, south, east, north in degrees.
    first, last : date
        Both included, UTC.
    products : callable, optional
        Reads unpacked products, in a folder without a catalogue.

    Raises
    ------
    InputError
        If the catalogue cannot be read, or names files that are not its own; see `check_addresses`.
    NetworkError
        If its server cannot be reached or fails.
    """
    begin, end = f"{first.isoformat()}T00:00:00", f"{last.isoformat()}T23:59:59.999999Z"
    try:
        items = _items(
            catalogue, web, collection=collection, bounds=bounds, first=first, last=last, products=products
        )
        root = None if catalogue.is_remote else _root(Path(catalogue.address))
        matching = [
            check_addresses(item, root=root)
            for item in items
            if _touches(item, bounds) and begin <= _moment(item) <= end
        ]
    except TeselaError:
        raise
    except APIError as error:
        raise NetworkError(f"{catalogue.address}: {error}. Is it the address of a STAC API?") from None
    except (
        pystac.STACError,
        pystac.STACTypeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(
            f"{catalogue.address}: cannot be read as a STAC catalogue "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
        ) from None
    return sorted(matching, key=lambda item: (_moment(item), str(item["id"])))


def _items(
    catalogue: Catalogue,
    web: Web,
    *,
    collection: str | None,
    bounds: tuple[float, float, float, float],
    first: date,
    last: date,
    products: Products | None,
) -> Iterator[Item]:
    address = catalogue.address
    if not catalogue.is_remote and Path(address).is_dir():
        root = Path(address)
        inside = [root / name for name in ("catalog.json", "collection.json") if (root / name).exists()]
        if not inside:
            yield from _folder_items(root, products)
            return
        address = str(inside[0])
    io = CatalogueIO(web)
    document = io.read_json(address)
    if document.get("type") == "FeatureCollection":
        yield from (_absolute(item, address) for item in document["features"])
    elif document.get("type") == "Feature":
        yield _absolute(document, address)
    elif any(link.get("rel") == "search" for link in document.get("links", ())):
        client = Client.open(address, stac_io=io)
        search = client.search(
            collections=[collection] if collection else None,
            bbox=list(bounds),
            datetime=f"{first.isoformat()}T00:00:00Z/{last.isoformat()}T23:59:59Z",
            limit=100,
            max_items=_MAX_ITEMS,
        )
        yield from search.items_as_dicts()
    else:
        if document.get("type") not in ("Catalog", "Collection"):
            raise InputError(
                f"{address}: cannot be read as a STAC catalogue (its type is {document.get('type')!r}, Catalog or "
                f"Collection was needed)."
            )
        yield from _static_items(address, document, web)


def _static_items(address: str, document: Item, web: Web) -> Iterator[Item]:
    """Items of a static catalogue and of those below it; each document is read once, also where links form a circle."""
    root = None if is_remote(address) else _root(Path(address))
    waiting, seen = deque([(address, document)]), {address}
    while waiting:
        here, content = waiting.popleft()
        if content.get("type") == "Feature":
            item = pystac.Item.from_dict(content, href=here)
            yield _absolute(item.to_dict(include_self_link=True, transform_hrefs=False), here)
            continue
        for link in content.get("links", ()):
            if link.get("rel") not in ("child", "item"):
                continue
            href = str(link["href"])
            target = pystac.utils.make_absolute_href(href, here)
            if target in seen:
                continue
            seen.add(target)
            if len(seen) > _MAX_ITEMS:
                raise InputError(
                    f"{address}: has more than {_MAX_ITEMS:,} catalogues and items; name one of its collections."
                )
            _check_address(target, root=root, what=f"{here}: a link", relative=_is_relative(href))
            waiting.append((target, _read_document(target, web)))


def _read_document(address: str, web: Web) -> Item:
    try:
        text = web.get(address) if is_remote(address) else Path(address).read_bytes()
    except OSError as error:
        raise InputError(f"{address}: cannot be read ({error.strerror}).") from None
    document = json.loads(text)
    if not isinstance(document, dict):
        raise InputError(f"{address}: is not a STAC document.")
    return document


_CLOUDS = ("gs://", "az://", "abfs://", "abfss://", "azure://", "ftp://", "data:", "urn:")
"""Addresses that this program does not read; an asset with one is left out."""


def check_addresses(item: Item, *, root: Path | None) -> Item:
    """
    The item, if its assets are where a catalogue may have them.

    Parameters
    ----------
    root : Path, optional
        Folder of a catalogue on disk: local assets are in it or below, and those with relative addresses may also be in
        a folder beside it ("../images/a.tif"). None for a catalogue of a server: its assets are on servers, never files
        of this machine.

    Raises
    ------
    InputError
        If an asset is elsewhere, or the name of one of GDAL's file systems (``/vsi...``).
    """
    assets = {}
    for name, asset in item["assets"].items():
        href = str(asset["href"])
        if href.startswith(_CLOUDS):
            continue
        what, relative = f"Item {item.get('id')}: asset {name}", asset.get(_RELATIVE) is True
        _check_address(href, root=root, what=what, relative=relative)
        assets[name] = {key: value for key, value in asset.items() if key != _RELATIVE} | {"href": href}
    return {**item, "assets": assets}


_RELATIVE = "tesela:relative"
"""Member of an asset whose address was relative in its item, until it is checked."""


def _is_relative(href: str) -> bool:
    return not (
        is_remote(href) or "://" in href or href.startswith(("/", "\\", "~")) or Path(href).is_absolute()
    )


def _check_address(href: str, *, root: Path | None, what: str, relative: bool) -> None:
    if is_remote(href):
        return
    if root is None:
        raise InputError(
            f"{what} is {href[:80]!r}, a file of this machine, though its catalogue is on a server. Do not use this "
            f"catalogue, or copy it and its files into a folder."
        )
    plain = not href.startswith(("/vsi", "\\\\")) and "://" not in href and "\0" not in href
    beside = root.parent
    if not relative or beside in (Path(beside.anchor), Path.home(), Path.home().parent):
        beside = root
    if not plain or not Path(href).resolve().is_relative_to(beside):
        raise InputError(
            f"{what} is {href[:80]!r}, which is not in the folder of its catalogue ({root}). Put the files into that "
            f"folder, or into one beside it, with relative addresses."
        )


def _root(catalogue: Path) -> Path:
    """Folder of a catalogue on disk, without links of the file system: of items alone, that of their catalogue."""
    folder = (catalogue if catalogue.is_dir() else catalogue.parent).resolve()
    above = [folder, *folder.parents][:3]
    return next((item for item in above if (item / "catalog.json").is_file()), folder)


def _folder_items(root: Path, products: Products | None) -> Iterator[Item]:
    """Items of a folder without a catalogue: unpacked products, or item files at any depth."""
    unpacked = [] if products is None else list(products(root))
    if unpacked:
        yield from unpacked
        return
    count = 0
    for path in sorted(root.glob("**/*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and document.get("type") == "Feature" and "assets" in document:
            count += 1
            yield _absolute(document, str(path))
    if not count:
        raise InputError(
            f"{root}: holds neither a catalog.json, STAC items (*.json) nor unpacked products; see docs/mosaic.md."
        )


def _absolute(item: Item, address: str) -> Item:
    """Item with absolute addresses of its assets."""
    assets = {}
    for name, asset in item["assets"].items():
        href = str(asset["href"])
        relative = _is_relative(href)
        if relative:
            href = pystac.utils.make_absolute_href(href, address)
        assets[name] = {**asset, "href": href, _RELATIVE: relative}
    return {**item, "assets": assets}


def _touches(item: Mapping[str, Any], bounds: Sequence[float]) -> bool:
    box = item.get("bbox")
    if not box:
        return True
    if len(box) not in (4, 6):
        raise ValueError(f"item {item.get('id')}: its bbox has {len(box)} numbers")
    west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
    over = west <= bounds[2] and east >= bounds[0]
    if west > east:  # across the antimeridian
        over = west <= bounds[2] or east >= bounds[0]
    return bool(over and south <= bounds[3] and north >= bounds[1])


def _moment(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    return str(properties.get("datetime") or properties.get("start_datetime") or "")
