"""Addresses of layers: a file, a file in a zip, a part of one of GDAL's file systems, or a database."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tesela.core.errors import InputError, join_words
from tesela.io.addresses import check_no_secret, is_address

_VECTORS = frozenset(
    {
        ".gpkg",
        ".parquet",
        ".geoparquet",
        ".shp",
        ".geojson",
        ".geojsonl",
        ".geojsons",
        ".ndjson",
        ".json",
        ".fgb",
        ".gml",
        ".kml",
        ".kmz",
        ".gdb",
        ".sqlite",
        ".db",
        ".tab",
        ".mif",
        ".dxf",
        ".shz",
        ".csv",
    }
)
_RASTERS = frozenset(
    {
        ".tif",
        ".tiff",
        ".vrt",
        ".img",
        ".jp2",
        ".png",
        ".jpg",
        ".jpeg",
        ".asc",
        ".bil",
        ".nc",
        ".hdf",
        ".h5",
        ".zarr",
        ".ecw",
    }
)
_SIDE_FILES = frozenset({".csv", ".json", ".db"})
"""Kinds that also lie beside data in a zip."""

DATABASE = ("postgresql://", "postgres://")
"""How addresses of PostgreSQL databases begin."""

_LAYER = "|layername="
"""As QGIS writes it: ``file.gpkg|layername=clc``."""


@dataclass(frozen=True)
class VectorAddress:
    """Where a layer lies."""

    text: str
    """As given, without the layer."""
    source: str
    """What GDAL opens."""
    layer: str | None
    """Layer that the address names."""
    file: Path | None
    """File or folder of this machine that holds it; None for what lies elsewhere."""

    @property
    def is_database(self) -> bool:
        """Whether it is a PostgreSQL database."""
        return self.source.startswith(DATABASE)

    @property
    def is_parquet(self) -> bool:
        """Whether it is a GeoParquet."""
        return self.file is not None and self.file.suffix.lower() in (".parquet", ".geoparquet")


def parse_address(text: str | Path) -> VectorAddress:
    """
    Read the address of a layer; whether it exists is asked when it is opened.

    Parameters
    ----------
    text : str or Path
        A file; a zip with one vector file; ``zip://a.zip!b.shp`` or ``/vsizip/a.zip/b.shp`` for one of several; a path
        of another file system of GDAL (``/vsi...``, ``https://...``); ``postgresql://host/database``. Each may end
        in ``|layername=NAME``.

    Raises
    ------
    InputError
        If a zip holds no vector file or several, a name holds "!" or ";", or an address holds a password.

    Examples
    --------
    >>> parse_address("zip://data/r.zip!inner/r.shp").source
    '/vsizip/data/r.zip/inner/r.shp'
    >>> parse_address("clc.gpkg|layername=clc18").layer
    'clc18'
    """
    whole, _, layer = str(text).partition(_LAYER)
    if whole.startswith("PG:"):
        raise InputError(
            "Databases are named postgresql://user@host:port/database here, not PG:...; give the password in the "
            "variable PGPASSWORD or in ~/.pgpass."
        )
    if whole.startswith(DATABASE):
        return VectorAddress(_without_secret(whole), whole, layer or None, None)
    source, file = whole, Path(whole)
    if not is_address(whole):
        check_layer_name(file)
    if whole.startswith("zip://"):
        archive, _, member = whole.removeprefix("zip://").partition("!")
        source, file = f"/vsizip/{archive}", Path(archive)
        source = f"{source}/{member.strip('/')}" if member else _zipped(file)
    elif whole.startswith(("http://", "https://")):
        check_no_secret(whole)
        return VectorAddress(whole, f"/vsicurl/{whole}", layer or None, None)
    elif whole.startswith("/vsizip/"):
        inside = whole.removeprefix("/vsizip/").strip("{}")
        end = inside.lower().find(".zip")
        file = Path(inside[: end + 4] if end >= 0 else inside)
        if not file.is_absolute() and not file.exists() and Path("/", file).exists():
            file = Path("/", file)  # GDAL's documents write /vsizip//home, people often /vsizip/home
            source = f"/vsizip/{file}{inside[end + 4 :]}"
        if end >= 0 and not inside[end + 4 :].strip("/"):
            source = _zipped(file)
    elif whole.startswith("/vsi"):
        return VectorAddress(whole, whole, layer or None, None)
    elif file.suffix.lower() == ".zip" and file.is_file():
        source = _zipped(file)
    return VectorAddress(whole, source, layer or None, file)


def check_layer_name(file: Path) -> None:
    """
    Check that a file of polygons can be read and written by its name.

    Raises
    ------
    InputError
        If the name holds "!" or ";", which pyogrio takes for the parts of an address.
    """
    if "!" in file.name or ";" in file.name:
        raise InputError(f"{file}: the name of a file of polygons cannot hold '!' or ';'; rename it.")


def local_file(address: str | Path) -> Path:
    """
    File of this machine that an address reads, whether it exists or not.

    Examples
    --------
    >>> local_file("zip://a.zip!b.shp").name, local_file("clc.gpkg|layername=clc18").name
    ('a.zip', 'clc.gpkg')
    """
    text = str(address).partition(_LAYER)[0]
    if text.startswith("zip://"):
        return Path(text.removeprefix("zip://").partition("!")[0])
    if text.startswith("/vsizip/"):
        inside = text.removeprefix("/vsizip/")
        end = inside.lower().find(".zip")
        return Path(inside[: end + 4] if end >= 0 else inside)
    return Path(text)


def is_vector(reference: str | Path) -> bool:
    """
    Whether a reference is a file of polygons and not a raster.

    Decided by the suffix; of a zip, by those of its files; where neither shows it, by whether GDAL finds a layer.
    """
    text = str(reference)
    if text.startswith((*DATABASE, "PG:")) or _LAYER in text:
        return True
    try:
        address = parse_address(reference)
    except InputError:
        return not any(name.suffix.lower() in _RASTERS for name in _members(Path(text)))
    named = address.source if address.file is not None else address.source.partition("?")[0]
    suffix = PurePosixPath(named).suffix.lower()
    if suffix in _VECTORS | _RASTERS:
        return suffix in _VECTORS
    if address.file is not None and not address.file.exists():
        return suffix == ".zip"
    return _has_layers(address.source)


def _has_layers(source: str) -> bool:
    import warnings

    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return len(pyogrio.list_layers(source)) > 0
    except (DataSourceError, ValueError):
        return False


def _members(archive: Path) -> list[PurePosixPath]:
    """Files of a zip, and of file geodatabases in it their folders."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name) for name in opened.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile):
        return []
    whole: dict[PurePosixPath, None] = {}
    for name in names:
        bases = [base for base in name.parents if base.suffix.lower() == ".gdb"]
        whole[bases[-1] if bases else name] = None
    return [name for name in whole if not name.parts[0].startswith("__MACOSX")]


def _zipped(archive: Path) -> str:
    """Address for GDAL of the vector file in a zip."""
    if not archive.is_file():
        raise InputError(f"{archive}: no such file.")
    names = _members(archive)
    if not names:
        raise InputError(f"{archive}: is empty or no zip file; fetch it again, or give the unpacked file.")
    vectors = [name for name in names if name.suffix.lower() in _VECTORS]
    vectors = [name for name in vectors if name.suffix.lower() not in _SIDE_FILES] or vectors
    if len(vectors) != 1:
        what = f"{len(vectors)} vector files ({join_words(vectors)})" if vectors else "no vector file"
        advice = f"name one: zip://{archive}!{vectors[0]}" if vectors else f"it holds {join_words(names)}"
        raise InputError(f"{archive}: holds {what}; {advice}.")
    if vectors[0].suffix.lower() in (".parquet", ".geoparquet"):
        raise InputError(f"{archive}: holds a GeoParquet ({vectors[0]}), which is read unpacked; unpack it.")
    return f"/vsizip/{archive}/{vectors[0]}"


def _without_secret(address: str) -> str:
    """
    The address of a database if it holds no password.

    A password in an address would reach manifests, reports and the history of the shell.
    """
    parts = urlsplit(address)
    if parts.password is not None or "password=" in parts.query.lower():
        raise InputError(
            "The address of the database holds a password; leave it out, and give it in the variable PGPASSWORD or "
            "in ~/.pgpass."
        )
    return address
