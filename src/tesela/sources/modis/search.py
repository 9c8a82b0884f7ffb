"""MOD09A1 and MYD09A1 in catalogues: the addresses of the layers that a cube needs."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

from tesela.core.errors import InputError, join_words
from tesela.io.http import Web
from tesela.io.manifest import NAME
from tesela.sources.areas import Area
from tesela.sources.catalogue import find_items
from tesela.sources.modis.files import LAYERS
from tesela.sources.providers import Catalogue

_COMPOSITE = timedelta(days=8)
"""A composite that starts earlier than this before a day has no observation of it."""


def holds_items(folder: str | Path) -> bool:
    """Whether a folder holds a catalogue or items; the JSON of cubes, parts and manifests beside images is none."""
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
        Days wanted; composites that begin up to eight days before are among the answer.
    collection : str, optional
        Default: that of the provider.

    Raises
    ------
    InputError
        If the provider has no MODIS, nothing is found, or an item lacks a layer.
    NetworkError
        If the server fails.
    """
    wanted = collection or (catalogue.provider.modis if catalogue.provider else None)
    if catalogue.provider is not None and not wanted:
        raise InputError(
            f"{catalogue.provider.name} has no MOD09A1. Take planetary-computer, or a folder of files "
            f"(--catalogue FOLDER)."
        )
    items = find_items(
        catalogue, web, collection=wanted, bounds=area.bounds, first=first - _COMPOSITE, last=last
    )
    if not items:
        raise InputError(
            f"{catalogue.address} knows no MOD09A1 or MYD09A1 of {first} to {last} in this area."
        )
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
