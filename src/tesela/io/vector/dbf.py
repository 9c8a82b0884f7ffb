"""
Parts of a shapefile, by their bytes: its text encoding, and whether the parts are whole and of one file.

Files without ``.cpg`` are common, and some of those lie; of parts that were cut, GDAL reads what is there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from tesela.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES = 1 << 28
"""Rows are looked at up to this size; a file with one accent in its last row beyond it is rare."""

_CODE_PAGES = {0x01: "CP437", 0x02: "CP850", 0x03: "CP1252", 0x57: "CP1252", 0x58: "CP1252", 0x64: "CP852"}
"""Language drivers of dBASE: byte 29 of the header."""


def shapefile_encoding(source: str, file: Path) -> str | None:
    """
    Encoding of the attributes of a shapefile.

    Bytes that are valid UTF-8 are UTF-8: text in another encoding practically never is. Else it is the encoding that
    the ``.cpg`` or the header names; where they name none, or UTF-8, it is Windows-1252, of which Latin-1 is a part.

    Parameters
    ----------
    source : str
        What GDAL opens.
    file : Path
        The shapefile, or the zip that holds it.

    Returns
    -------
    str or None
        None where all is ASCII, or the file has no attributes.
    """
    try:
        with _opener(source, file) as opened:
            table = opened(".dbf")
            if table is None:
                return None
            with table:
                header = table.read(32)
                head = table.read(max(int.from_bytes(header[8:10], "little") - 32, 0))
                rows = table.read(_MOST_BYTES)
            names = b" ".join(head[at : at + 11].partition(b"\0")[0] for at in range(0, len(head) - 31, 32))
            if (names + rows).isascii():
                return None
            if _is_utf8(names) and (_is_utf8(rows) or _fields_are_utf8(header, head, rows)):
                return "UTF-8"
            declared = opened(".cpg")
            if declared is None:
                return _CODE_PAGES.get(header[29], "CP1252")
            with declared:
                return _named(declared.read(64).decode("ascii", "replace"), header)
    except (OSError, zipfile.BadZipFile, IndexError):
        return None  # opening the layer reports what is wrong


def check_parts(source: str, file: Path) -> None:
    """
    Check that the shapes of a shapefile end where its ``.shx`` says, the rows where the ``.dbf`` says, in one number.

    Those in a zip are not looked at: it has checksums.

    Parameters
    ----------
    source, file
        As in `shapefile_encoding`.

    Raises
    ------
    InputError
        If a part is cut, or of another file.
    """
    if source.startswith("/vsizip/"):
        return
    with _opener(source, file) as opened:
        sizes, heads = {}, {}
        for suffix in (".shp", ".shx", ".dbf"):
            part = opened(suffix)
            if part is not None:
                with part:
                    heads[suffix] = part.read() if suffix == ".shx" else part.read(32)
                    sizes[suffix] = part.seek(0, 2)
    needed, counts = {}, {}
    if ".shp" in sizes and len(heads.get(".shx", b"")) >= 100:
        index = heads[".shx"]
        needed[".shx"] = 2 * int.from_bytes(index[24:28], "big")
        words = np.frombuffer(index[100 : len(index) - (len(index) - 100) % 8], ">i4").reshape(-1, 2)
        needed[".shp"] = int((words.astype(np.int64).sum(axis=1) * 2 + 8).max(initial=100))
        counts[".shp"] = len(words)
    if sizes.get(".dbf", 0) >= 32:
        first, length = (int.from_bytes(heads[".dbf"][at : at + 2], "little") for at in (8, 10))
        counts[".dbf"] = int.from_bytes(heads[".dbf"][4:8], "little")
        needed[".dbf"] = first + counts[".dbf"] * length
    for suffix, size in needed.items():
        if sizes[suffix] < size:
            raise InputError(
                f"{file}: its {suffix} is cut ({sizes[suffix]:,} of {size:,} bytes). Get the files again."
            )
    if len(set(counts.values())) > 1:
        raise InputError(
            f"{file}: has {counts['.shp']:,} shapes, but {counts['.dbf']:,} rows in its .dbf: one of them belongs to "
            f"another file, or was cut. Get all files of the shapefile again."
        )


def _named(text: str, header: bytes) -> str:
    """Encoding that a ``.cpg`` names: "1252", "ANSI 1252", "ISO-8859-15", "88591", "LDID/87"."""
    digits = "".join(letter for letter in text if letter.isdecimal())
    if digits.startswith("8859"):
        return f"ISO-8859-{digits[4:] or 1}"
    if "ldid" in text.lower():
        return _CODE_PAGES.get(int(digits or 0), "CP1252")
    if digits in ("437", "850", "852", "1250", "1251", "1252", "1253", "1254", "1257"):
        return f"CP{digits}"
    return _CODE_PAGES.get(header[29], "CP1252")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fields_are_utf8(header: bytes, head: bytes, rows: bytes) -> bool:
    """Whether all values are UTF-8; a letter that the end of a field cuts in two is forgiven."""
    length = int.from_bytes(header[10:12], "little")
    ends, at = [], 1
    for first in range(0, len(head) - 31, 32):
        ends.append((at, at + head[first + 16]))
        at = ends[-1][1]
    for first in range(0, len(rows), max(length, 1)):
        row = rows[first : first + length]
        for begin, end in () if row.isascii() else ends:
            try:
                row[begin:end].decode("utf-8")
            except UnicodeDecodeError as error:
                if error.reason != "unexpected end of data":
                    return False
    return bool(ends)


@contextmanager
def _opener(source: str, file: Path) -> Iterator[Callable[[str], IO[bytes] | None]]:
    """A function that opens the file beside the shapefile with another suffix, None where there is none."""
    if not source.startswith("/vsizip/"):

        def beside(suffix: str) -> IO[bytes] | None:
            for name in (file.with_suffix(suffix), file.with_suffix(suffix.upper())):
                if name.is_file():
                    return name.open("rb")
            return None

        yield beside
        return
    with zipfile.ZipFile(file) as archive:
        member = source.partition(file.as_posix())[2].strip("/")
        names = {name.lower(): name for name in archive.namelist()}

        def inside(suffix: str) -> IO[bytes] | None:
            found = names.get(str(Path(member).with_suffix(suffix)).lower())
            return None if found is None else archive.open(found)

        yield inside
