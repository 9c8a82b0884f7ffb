"""Who provides imagery: addresses, collections, names of bands, and how requests are signed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from tesela.core.errors import InputError, NetworkError, unknown_name
from tesela.io.http import RetryPolicy, Web
from tesela.io.remote import is_remote

Signing = Literal["none", "sas", "s3"]
"""Nothing; short-lived tokens that the provider hands out to anybody; keys of an S3 account."""


@dataclass(frozen=True)
class Provider:
    """A STAC API that we know."""

    name: str
    address: str
    sentinel2: str
    """Collection of Sentinel-2 level 2A."""
    modis: str = ""
    """Collection of MOD09A1 and MYD09A1; empty where there is none."""
    signing: Signing = "none"


PROVIDERS: Mapping[str, Provider] = {
    item.name: item
    for item in (
        Provider("earth-search", "https://earth-search.aws.element84.com/v1", "sentinel-2-l2a"),
        Provider(
            "planetary-computer",
            "https://planetarycomputer.microsoft.com/api/stac/v1",
            "sentinel-2-l2a",
            modis="modis-09A1-061",
            signing="sas",
        ),
        Provider("cdse", "https://stac.dataspace.copernicus.eu/v1", "sentinel-2-l2a", signing="s3"),
    )
}
"""By name; `facts/standards.md` section 6 of the project tells where the facts come from."""

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
"""What Planetary Computer, Earth Search and Copernicus Data Space call each band, in this order."""


@dataclass(frozen=True)
class Catalogue:
    """Where to search: a provider, any STAC API, or a static catalogue, items or SAFE products on disk."""

    address: str
    provider: Provider | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is an address on a server."""
        return is_remote(self.address)

    def web(self, patience: RetryPolicy | None = None) -> Web:
        """What asks its server, signing where the provider wants it."""
        if self.provider is not None and self.provider.signing == "sas":
            return Web(patience=patience, signer=TokenSigner(self.address, patience))
        return Web(patience=patience)


def find_catalogue(text: str) -> Catalogue:
    """
    Read the name of a provider, an address, ``NAME=ADDRESS`` for a mirror of a provider, or a path.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> find_catalogue("earth-search").address
    'https://earth-search.aws.element84.com/v1'
    >>> find_catalogue("planetary-computer=http://127.0.0.1:8000/api/stac/v1").provider.signing
    'sas'
    """
    from pathlib import Path

    name, _, address = text.partition("=")
    if text in PROVIDERS:
        return Catalogue(PROVIDERS[text].address, PROVIDERS[text])
    if address and name in PROVIDERS:
        return Catalogue(address, replace(PROVIDERS[name], address=address))
    if is_remote(text) or Path(text).exists():
        return Catalogue(text)
    if "/" in text or "\\" in text or "." in text:
        raise InputError(
            f"Catalogue '{text}': no such file or folder. Known providers: {', '.join(PROVIDERS)}."
        )
    raise InputError(
        f"{unknown_name('catalogue', text, PROVIDERS)} Or give an address, a catalog.json or a folder."
    )


class TokenSigner:
    """
    Signs addresses with the tokens of Planetary Computer, one per storage container, renewed before they end.

    Addresses of other servers are left alone.
    """

    margin_s = 120.0
    """A token that ends sooner is renewed first."""

    def __init__(self, address: str, patience: RetryPolicy | None = None) -> None:
        place = urlsplit(address)
        self._host = place.netloc
        root = place.path.split("/stac/")[0]
        self._tokens = f"{place.scheme}://{place.netloc}{root}/sas/v1/token"
        self._web = Web(patience=patience)
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def sign(self, url: str) -> str:
        """Address with its token."""
        container = self._container(url)
        if container is None:
            return url
        with self._lock:
            token, until = self._known.get(container, ("", 0.0))
            if time.time() > until - self.margin_s:
                token = self._fetch(container)
        return f"{url.split('?')[0]}?{token}"

    def renew(self, url: str) -> bool:
        """Fetch a new token for an address whose old one was refused."""
        container = self._container(url)
        if container is None:
            return False
        with self._lock:
            self._fetch(container)
        return True

    def _container(self, url: str) -> str | None:
        place = urlsplit(url)
        path = place.path.strip("/").split("/")
        if place.netloc.endswith(".blob.core.windows.net"):
            return f"{place.netloc.split('.')[0]}/{path[0]}"
        is_file = place.netloc == self._host and not place.path.startswith("/api/")
        return f"mirror/{path[0]}" if is_file else None

    def _fetch(self, container: str) -> str:
        address = f"{self._tokens}/{container}"
        try:
            document = json.loads(self._web.get(address))
            token = str(document["token"])
            until = datetime.fromisoformat(document["msft:expiry"].replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkError(f"{address}: the server sent no token ({error}). Try again later.") from None
        self._known[container] = (token, until)
        return token
