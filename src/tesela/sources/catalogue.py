"""Searching catalogues: STAC APIs, static catalogues, folders of items or of SAFE products."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from tesela.sources.sentinel2.safe import safe_items

Item = dict[str, Any]
"""A STAC Item as the catalogue gives it, its assets' addresses absolute."""

_MOST = 20_000
"""More items than this are a mistake in the area or the dates."""


class CatalogueIO(StacApiIO):
    """pystac-client's reader with our patience."""

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
        """Ask, and return the answer's text."""
        if (method or "GET").upper() == "POST":
            return self._web.post(href, parameters or {}).decode("utf-8")
        query = urlencode(parameters or {})
        joined = f"{href}{'&' if '?' in href else '?'}{query}" if query else href
        return self._web.get(joined).decode("utf-8")


class _PlainIO(DefaultStacIO):
    """pystac's reader of static catalogues with our patience."""

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
) -> list[Item]:
    """
    Items of a collection that touch a box and lie in some days, by date.

    Parameters
    ----------
    collection : str, optional
        Asked of APIs; a static catalogue is taken whole.
    bounds : (float, float, float, float)
        West, south, east, north in degrees.
    first, last : date
        Both included, UTC.

    Raises
    ------
    InputError
        If the catalogue cannot be understood.
    NetworkError
        If its server cannot be reached or fails.
    """
    begin, end = f"{first.isoformat()}T00:00:00", f"{last.isoformat()}T23:59:59.999999Z"
    try:
        found = list(_items(catalogue, web, collection=collection, bounds=bounds, first=first, last=last))
        chosen = [item for item in found if _touches(item, bounds) and begin <= _moment(item) <= end]
    except TeselaError:
        raise
    except APIError as error:
        raise NetworkError(f"{catalogue.address}: {error}. Is it the address of a STAC API?") from None
    except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{catalogue.address}: is no STAC catalogue that can be read "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
        ) from None
    return sorted(chosen, key=lambda item: (_moment(item), str(item["id"])))


def _items(
    catalogue: Catalogue,
    web: Web,
    *,
    collection: str | None,
    bounds: tuple[float, float, float, float],
    first: date,
    last: date,
) -> Iterator[Item]:
    address = catalogue.address
    if not catalogue.is_remote and Path(address).is_dir():
        root = Path(address)
        inside = [root / name for name in ("catalog.json", "collection.json") if (root / name).exists()]
        if not inside:
            yield from _folder_items(root)
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
            max_items=_MOST,
        )
        yield from search.items_as_dicts()
    else:
        root_object = pystac.read_file(address, stac_io=_PlainIO(web))
        if not isinstance(root_object, pystac.Catalog):
            raise InputError(f"{address}: is a {document.get('type')}, not a catalogue or collection.")
        for item in root_object.get_items(recursive=True):
            item.make_asset_hrefs_absolute()
            yield item.to_dict(include_self_link=True, transform_hrefs=False)


def _folder_items(root: Path) -> Iterator[Item]:
    """Items of a folder without a catalogue: SAFE products, or item files at any depth."""
    products = sorted(root.glob("**/*.SAFE")) if not root.name.endswith(".SAFE") else [root]
    if products:
        yield from safe_items(products)
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
            f"{root}: holds neither a catalog.json, STAC items (*.json) nor SAFE products; see docs/mosaic.md."
        )


def _absolute(item: Item, address: str) -> Item:
    """Item whose assets' addresses do not depend on where it stands."""
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
