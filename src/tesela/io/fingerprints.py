"""Fingerprints: the content of a file, or of a folder, together with the files that are read along with it."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from xml.etree import ElementTree

import xxhash

from tesela.core.errors import InputError
from tesela.core.machine import cache_folder
from tesela.io.addresses import archive_of, is_address

_APPENDED = (".msk", ".msk.ovr", ".ovr", "-wal", "-journal")
"""Added to a file's whole name: mask and overviews of a raster, changes that SQLite has not merged yet."""

_REPLACED = {
    ".shp": (".shx", ".dbf", ".prj", ".cpg"),
    ".tab": (".dat", ".map", ".id"),
    ".mif": (".mid",),
    ".csv": (".csvt", ".prj"),
    ".tif": (".tab",),
}
"""Replace the ending of a file, by that ending."""

_REPLACED_ELSEWHERE = (".prj", ".hdr", ".tab")
"""Replace any other ending: coordinate system, header of a raw raster, georeference of MapInfo."""

_VRT_SOURCES = {"SourceFilename", "SourceDataset", "SrcDataSource"}
_QUOTED = re.compile(r'"([^"]+)"')

_BUFFER_BYTES = 1 << 20
_REMEMBERED_BYTES = 1 << 20
"""Smaller files are hashed again: that is as quick as to look them up."""
_MOST_REMEMBERED = 200_000


def fingerprint(path: str | Path) -> str:
    """
    Fingerprint of a file or folder: a hash of all bytes, and of those of the files that are read along with it.

    Files read along are the parts of a shapefile, the mask, overviews and world file of a raster, its ``.aux.xml``
    (without statistics, which a viewer may add), the sources of a VRT, and the write-ahead log of a GeoPackage. Of a
    folder, such as a Zarr cube, all files count. Names do not count, so that a moved file keeps its fingerprint.

    The hash (XXH3, 128 bits) of a file is remembered in the user's cache folder, see `file_hash`.

    Of addresses count: of a file in a zip, all bytes of the zip; of a file of a server, its address and what the server
    states of its size, date and version; of a table or query of a database, all rows; of other file systems of GDAL
    the address alone.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    InputError
        If the file does not exist or cannot be read.
    NetworkError
        If the server of an address cannot be reached.
    """
    return _address_fingerprint(str(path)) if is_address(path) else _combine(path, _content)


def _address_fingerprint(address: str) -> str:
    zipped = archive_of(address)
    url = address.removeprefix("/vsicurl/")
    if zipped is not None:
        state = f"{zipped[1]}\0{file_hash(zipped[0])}"
    elif address.startswith(("postgresql://", "postgres://")):
        from tesela.io.vector.postgis import digest_rows  # io.vector imports this module

        state = digest_rows(address)
    elif url.startswith(("http://", "https://")):
        from tesela.io.http import RetryPolicy, Web

        url = url.partition("|layername=")[0]
        state = f"{url.partition('?')[0]}\0{Web(patience=RetryPolicy(tries=3)).version(url)}"
    else:
        state = address
    return xxhash.xxh3_128_hexdigest(state.encode())


def file_state(path: str | Path) -> str:
    """
    Digest of sizes and times of the files that `fingerprint` covers, for where reading them costs too much.

    It differs after every change, but also between copies of the same content. Of an address ("https://...") the text
    alone counts, and of a file in a zip also the state of the zip.

    Raises
    ------
    InputError
        If the file does not exist.
    """
    text = str(path)
    if is_address(text):
        zipped = archive_of(text)
        inside = None if zipped is None or not zipped[0].is_file() else _state(zipped[0].stat())
        return xxhash.xxh3_128_hexdigest(f"{text}\0{inside}".encode())
    return _combine(path, lambda part: _state(part.stat()))


def file_hash(path: str | Path) -> str:
    """
    Hash (XXH3, 128 bits) of all bytes of one file.

    It is remembered by path, device, inode, size and times, so that it is paid once for each content. A file that
    was changed a moment ago is not remembered, because a further change might keep the same times.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        digest = _hash(Path(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    _memory.save()
    return digest


def read_along(path: str | Path) -> list[Path]:
    """
    Files that are read along with a file, see `fingerprint`; empty for a folder, and for what does not exist.

    Sources of a VRT that cannot be found are left out.
    """
    file = Path(path)
    if not file.is_file():
        return []
    return [part for _, part in _files_of(file, set()) if part is not None and part != file]


def _combine(path: str | Path, describe: Callable[[Path], str]) -> str:
    target = Path(path)
    digest = xxhash.xxh3_128()
    try:
        parts = _files_below(target) if target.is_dir() else _files_of(target, set())
        for label, part in parts:
            if text := "missing" if part is None else describe(part):
                digest.update(f"{label}\0{text}\n".encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    _memory.save()
    return digest.hexdigest()


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of a folder by relative name, in order; locks of programs that have it open do not count."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".lock"):
                file = Path(root, name)
                yield file.relative_to(folder).as_posix(), file


def _files_of(file: Path, seen: set[Path]) -> Iterator[tuple[str, Path | None]]:
    """A file and those read along with it, each with its label; None for a missing source."""
    seen.add(file.resolve())
    yield "", file
    for ending in _APPENDED:
        part = file.with_name(file.name + ending)
        if part.is_file() and part.stat().st_size:  # an empty log holds no changes
            yield f"+{ending}", part
    described = file.with_name(f"{file.name}.aux.xml")
    if described.is_file():
        yield "+.aux.xml", described
    for ending in _replacing_endings(file.suffix.lower()):
        choices = (file.with_suffix(ending), file.with_suffix(ending.upper()))
        replaced = next((choice for choice in choices if choice.is_file()), None)
        if replaced is not None:
            yield ending, replaced
    if file.suffix.lower() == ".vrt":
        for source in _sources_of(file):
            if source is None or not source.exists():
                yield "source", None
            elif source.is_dir():
                yield from _files_below(source)
            elif source.resolve() not in seen:
                yield from _files_of(source, seen)


def _replacing_endings(ending: str) -> list[str]:
    """Endings of the files beside one that ends in `ending`: parts of a format, and world files."""
    if len(ending) < 2:
        return []
    key = ".tif" if ending == ".tiff" else ending
    endings = [*_REPLACED.get(key, _REPLACED_ELSEWHERE), f".{ending[1]}{ending[-1]}w", f"{ending}w", ".wld"]
    return [item for item in dict.fromkeys(endings) if item != ending]


def _sources_of(vrt: Path) -> Iterator[Path | None]:
    """Local files that a VRT names; None for one that cannot be found. Addresses of servers do not count."""
    try:
        root = ElementTree.parse(vrt).getroot()
    except ElementTree.ParseError:
        return
    for element in root.iter():
        name = (element.text or "").strip()
        if element.tag in _VRT_SOURCES and name and "://" not in name and not name.startswith("PG:"):
            relative = "1" in (element.get("relativeToVRT"), element.get("relativetoVRT"))
            yield _local_source(name, vrt.parent if relative else Path())


def _local_source(name: str, folder: Path) -> Path | None:
    """File behind a name of GDAL: a path, ``/vsizip/ARCHIVE/FILE``, or ``NETCDF:"FILE":variable``."""
    while name.startswith("/vsi"):
        name = name[1:].partition("/")[2]
    quoted: list[str] = _QUOTED.findall(name)
    for text in (name, *quoted, *name.split(":")):
        path = folder / text
        for candidate in (path, *path.parents[:-1]):  # an archive is a file above the path
            if text and (candidate.is_file() or (candidate == path and candidate.is_dir())):
                return candidate
    return None


def _content(file: Path) -> str:
    return _described_content(file) if file.name.endswith(".aux.xml") else _hash(file)


def _described_content(file: Path) -> str:
    """Hash of an ``.aux.xml`` without statistics and histograms; empty where nothing else is in it."""
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError:
        return _hash(file)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "Histograms" or (child.get("key") or "").startswith("STATISTICS_"):
                parent.remove(child)
    while hollow := [
        (p, c) for p in root.iter() for c in p if c.tag in ("Metadata", "PAMRasterBand") and not len(c)
    ]:
        for parent, child in hollow:
            parent.remove(child)
    if not len(root):
        return ""
    text = ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), strip_text=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _hash(file: Path) -> str:
    before = file.stat()
    key, state = str(file.resolve()), _state(before)
    large = before.st_size >= _REMEMBERED_BYTES
    remembered = _memory.get(key, state) if large else None
    if remembered is not None:
        return remembered
    started_ns = time.time_ns()
    digest = xxhash.xxh3_128()
    buffer = bytearray(_BUFFER_BYTES)
    with file.open("rb", buffering=0) as content:
        while count := content.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
        after = os.fstat(content.fileno())
    settled = started_ns - max(before.st_mtime_ns, before.st_ctime_ns) > _grain_ns(before)
    if large and settled and _state(after) == state:
        _memory.put(key, state, digest.hexdigest())
    return digest.hexdigest()


def _state(status: os.stat_result) -> str:
    times = f"{status.st_mtime_ns}.{status.st_ctime_ns}"  # the second cannot be set back by a program
    return f"{status.st_dev}.{status.st_ino}.{status.st_size}.{times}"


def _grain_ns(status: os.stat_result) -> int:
    """Span in which a file system may give two changes one time: 2 s where it keeps whole seconds, as FAT does."""
    return 2_000_000_000 if status.st_mtime_ns % 1_000_000_000 == 0 else 50_000_000


class _HashMemory:
    """Hashes by path and state of the file: in this process, and in the user's cache folder where it is writable."""

    _TABLE = (
        "CREATE TABLE IF NOT EXISTS xxh3 (path TEXT PRIMARY KEY, state TEXT NOT NULL, hash TEXT NOT NULL)"
    )

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, str]] = {}
        self._unsaved: list[str] = []
        self._lock = threading.Lock()

    def get(self, path: str, state: str) -> str | None:
        with self._lock:
            entry = self._entries.get(path)
            if entry is None or entry[0] != state:
                entry = self._read(path)
            if entry is None or entry[0] != state:
                return None
            self._entries[path] = entry
            return entry[1]

    def put(self, path: str, state: str, value: str) -> None:
        with self._lock:
            self._entries[path] = state, value
            self._unsaved.append(path)

    def save(self) -> None:
        """Write what is new in one transaction; without a writable folder it is remembered in this process only."""
        with self._lock:
            rows = [(path, *self._entries[path]) for path in self._unsaved]
            self._unsaved.clear()
        if not rows:
            return
        file = self._file
        with suppress(OSError, sqlite3.Error):
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=5)) as base, base:
                base.execute(self._TABLE)
                base.executemany("REPLACE INTO xxh3 VALUES (?, ?, ?)", rows)
                oldest = "DELETE FROM xxh3 WHERE rowid <= (SELECT max(rowid) FROM xxh3) - ?"
                base.execute(oldest, (_MOST_REMEMBERED,))

    def _read(self, path: str) -> tuple[str, str] | None:
        file = self._file
        if not file.is_file():
            return None
        try:
            with closing(sqlite3.connect(file, timeout=5)) as base:
                row = base.execute("SELECT state, hash FROM xxh3 WHERE path = ?", (path,)).fetchone()
        except sqlite3.OperationalError:  # locked, or without the table
            return None
        except sqlite3.DatabaseError:  # damaged: begin a new one
            with suppress(OSError):
                file.unlink()
            return None
        return None if row is None else (str(row[0]), str(row[1]))

    @property
    def _file(self) -> Path:
        return cache_folder() / "fingerprints.sqlite"


_memory = _HashMemory()
