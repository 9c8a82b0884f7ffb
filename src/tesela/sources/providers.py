"""Who provides imagery: addresses, and how requests are signed."""

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
"""No signature, short-lived tokens that anybody can fetch, or keys of an S3 account."""


@dataclass(frozen=True)
class Provider:
    """A STAC API; its collections are facts of each sensor."""

    name: str
    address: str
    signing: Signing = "none"


PROVIDERS: Mapping[str, Provider] = {
    item.name: item
    for item in (
        Provider("earth-search", "https://earth-search.aws.element84.com/v1"),
        Provider("planetary-computer", "https://planetarycomputer.microsoft.com/api/stac/v1", signing="sas"),
        Provider("cdse", "https://stac.dataspace.copernicus.eu/v1", signing="s3"),
    )
}
"""By name; section 6 of `facts/standards.md` of the project gives the sources."""


@dataclass(frozen=True)
class Catalogue:
    """Where to search: a provider, any STAC API, or a static catalogue, items or products on disk."""

    address: str
    provider: Provider | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is an address on a server."""
        return is_remote(self.address)

    def collection(self, collections: Mapping[str, str]) -> str | None:
        """Collection of the provider, of a sensor's table by name of provider."""
        return None if self.provider is None else collections.get(self.provider.name)

    def web(self, patience: RetryPolicy | None = None) -> Web:
        """Client of its server; it signs requests where the provider requires it."""
        if self.provider is not None and self.provider.signing == "sas":
            return Web(patience=patience, signer=TokenSigner(self.address, patience))
        return Web(patience=patience)


def open_catalogue(text: str) -> Catalogue:
    """
    Read the name of a provider, an address, ``NAME=ADDRESS`` for a mirror of a provider, or a path.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> open_catalogue("earth-search").address
    'https://earth-search.aws.element84.com/v1'
    >>> open_catalogue("planetary-computer=http://127.0.0.1:8000/api/stac/v1").provider.signing
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
    Signs addresses with the tokens of Planetary Computer, one per storage container; renews them before they expire.

    Addresses of other servers stay as they are.
    """

    margin_s = 120.0
    """A token that expires sooner is renewed first."""

    def __init__(self, address: str, patience: RetryPolicy | None = None) -> None:
        parts = urlsplit(address)
        self._host = parts.netloc
        root = parts.path.split("/stac/")[0]
        self._token_address = f"{parts.scheme}://{parts.netloc}{root}/sas/v1/token"
        self._web = Web(patience=patience)
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def sign(self, url: str) -> str:
        """Address with its token."""
        container = self._container(url)
        if container is None:
            return url
        with self._lock:
            token, until = self._tokens.get(container, ("", 0.0))
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
        parts = urlsplit(url)
        path = parts.path.strip("/").split("/")
        if parts.netloc.endswith(".blob.core.windows.net"):
            return f"{parts.netloc.split('.')[0]}/{path[0]}"
        is_file = parts.netloc == self._host and not parts.path.startswith("/api/")
        return f"mirror/{path[0]}" if is_file else None

    def _fetch(self, container: str) -> str:
        address = f"{self._token_address}/{container}"
        try:
            document = json.loads(self._web.get(address))
            token = str(document["token"])
            until = datetime.fromisoformat(document["msft:expiry"].replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkError(f"{address}: the server sent no token ({error}). Try again later.") from None
        self._tokens[container] = (token, until)
        return token
