"""Addresses: inputs that are no plain files ("https://...", "zip://a.zip!b.tif", "postgresql://...")."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tesela.core.errors import InputError

_SECRETS = re.compile(
    r"(^|[-_])(password|passwd|pwd|token|secret|signature|sig|key|apikey|api_key)$", re.IGNORECASE
)
"""Names of query parameters that hold what only their owner may know."""


def is_address(path: str | Path) -> bool:
    """
    Whether an input has an address, not a path.

    Examples
    --------
    >>> is_address("https://host/a.tif"), is_address("/vsizip/a.zip/b.tif"), is_address("a.tif")
    (True, True, False)
    """
    return "://" in str(path) or str(path).startswith("/vsi")


def archive_of(address: str | Path) -> tuple[Path, str] | None:
    """
    Zip of this machine that an address reads, and the file in it; None for other addresses.

    Examples
    --------
    >>> archive_of("zip://r.zip!inner/r.shp")[1], archive_of("https://host/r.zip")
    ('inner/r.shp', None)
    """
    text = str(address)
    if text.startswith("zip://"):
        archive, _, member = text.removeprefix("zip://").partition("!")
        return Path(archive), member.strip("/")
    if not text.startswith("/vsizip/"):
        return None
    inside = text.removeprefix("/vsizip/")
    end = inside.lower().find(".zip")
    if end < 0 or inside.startswith("/vsi"):
        return None
    archive, member = inside[: end + 4], inside[end + 4 :].strip("/")
    if not Path(archive).is_file() and Path("/", archive).is_file():
        archive = f"/{archive}"  # GDAL's documents write /vsizip//home, people often /vsizip/home
    return Path(archive), member


def in_folder(folder: Path, name: str) -> str | Path:
    """
    What a file of settings names, seen from its folder: a path, or an address whose zip is in the folder.

    Examples
    --------
    >>> in_folder(Path("/data"), "zip://r.zip!r.shp"), in_folder(Path("/data"), "https://host/a.tif")
    ('zip:///data/r.zip!r.shp', 'https://host/a.tif')
    """
    if not is_address(name):
        return folder / name
    name, bar, layer = name.partition("|layername=")
    for start, between in (("zip://", "!"), ("/vsizip/", "/")):
        zipped = archive_of(name) if name.startswith(start) else None
        if zipped is not None and not zipped[0].is_absolute():
            name = f"{start}{folder / zipped[0]}" + (f"{between}{zipped[1]}" if zipped[1] else "")
    return f"{name}{bar}{layer}"


def relative_name(path: str | Path, folder: Path) -> str:
    """A path or the zip of an address relative to a folder; other addresses stay as they are. See `in_folder`."""
    if not is_address(path):
        return os.path.relpath(path, folder)
    zipped = archive_of(path)
    return str(path) if zipped is None else f"zip://{os.path.relpath(zipped[0], folder)}!{zipped[1]}"


def check_no_secret(address: str | Path, *, kept: bool = False) -> None:
    """
    Check that an address of a server holds no password, which would reach messages, reports and manifests.

    Parameters
    ----------
    kept : bool
        The address is stored, in a manifest for example: its query holds no key or signature either.

    Raises
    ------
    InputError
        If it does; the message does not repeat it.
    """
    text = str(address)
    start = text.find("http")
    if start < 0 or not text.startswith(("http://", "https://", "/vsi")):
        return
    try:
        parts = urlsplit(text[start:].partition("|layername=")[0])
        password = parts.password
    except ValueError:
        raise InputError("An address cannot be read; write https://host/file.tif.") from None
    if password is not None:
        raise InputError(
            f"The address of {parts.hostname} holds a password; leave it out, and give it in the variable "
            f"GDAL_HTTP_USERPWD (user:password)."
        )
    if kept and any(_SECRETS.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise InputError(
            f"The address of {parts.hostname} holds a key or signature, which manifests would keep; copy the file "
            f"first, or give an address without one."
        )
