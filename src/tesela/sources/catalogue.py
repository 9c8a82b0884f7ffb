"""Searching catalogues: STAC APIs, static catalogues, folders of items or of unpacked products."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pystac
from pystac.stac_io import DefaultStacIO
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


class _PlainIO(DefaultStacIO):
    """pystac's reader of static catalogues with our retries."""

    def __init__(self, web: Web) -> None:
        super().__init__()
        self._web = web

    def read_text(self, source: Any, *args: Any, **options: Any) -> str:
        """Return the content of a file or address."""
        href = str(source.absolute_href if isinstance(source, pystac.Link) else source)
        if is_remote(href):
            return self._web.get(href).decode("utf-8")
        return Path(href).read_text(encoding="utf-8")


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
        If the catalogue cannot be read.
    NetworkError
        If its server cannot be reached or fails.
    """
    begin, end = f"{first.isoformat()}T00:00:00", f"{last.isoformat()}T23:59:59.999999Z"
    try:
        items = _items(
            catalogue, web, collection=collection, bounds=bounds, first=first, last=last, products=products
        )
        matching = [item for item in items if _touches(item, bounds) and begin <= _moment(item) <= end]
    except TeselaError:
        raise
    except APIError as error:
        raise NetworkError(f"{catalogue.address}: {error}. Is it the address of a STAC API?") from None
    except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, TypeError, AttributeError) as error:
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
        root_object = pystac.read_file(address, stac_io=_PlainIO(web))
        if not isinstance(root_object, pystac.Catalog):
            raise InputError(f"{address}: is a {document.get('type')}, not a catalogue or collection.")
        for item in root_object.get_items(recursive=True):
            item.make_asset_hrefs_absolute()
            yield item.to_dict(include_self_link=True, transform_hrefs=False)


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
        if not is_remote(href) and not Path(href).is_absolute():
            href = pystac.utils.make_absolute_href(href, address)
        assets[name] = {**asset, "href": href}
    return {**item, "assets": assets}


def _touches(item: Mapping[str, Any], bounds: Sequence[float]) -> bool:
    box = item.get("bbox")
    if not box:
        return True
    west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
    over = west <= bounds[2] and east >= bounds[0]
    if west > east:  # across the antimeridian
        over = west <= bounds[2] or east >= bounds[0]
    return bool(over and south <= bounds[3] and north >= bounds[1])


def _moment(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    return str(properties.get("datetime") or properties.get("start_datetime") or "")
