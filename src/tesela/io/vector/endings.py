"""
Ends of text formats: GML, GeoJSON by lines and MapInfo's MIF that were cut.

GDAL reads the features before the cut and reports nothing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tesela.core.errors import InputError

_PART = 1 << 16
"""Bytes at the start and the end that are looked at."""

_LONGEST = 1 << 28
"""Bytes of the longest last line that is looked at."""

_ROOT = re.compile(rb"<([A-Za-z_][^\s/>]*)")


def check_end(source: str, *, driver: str, count: int) -> None:
    """
    Check that a text file of features was not cut.

    Parameters
    ----------
    source : str
        What GDAL opens. Files of an archive are not looked at: those have checksums.
    driver : str
        Name of GDAL's driver that reads it.
    count : int
        Number of features that GDAL finds.

    Raises
    ------
    InputError
        If the root element of a GML has no end, the last line of a GeoJSON by lines is no JSON, or a MIF has fewer
        features than its MID has rows.
    """
    file = Path(source)
    if not file.is_file():
        return
    reason = None
    if driver == "GML":
        reason = _open_root(file)
    elif driver == "GeoJSONSeq":
        reason = _broken_line(file)
    elif driver == "MapInfo File" and file.suffix.lower() == ".mif":
        reason = _fewer_than_rows(file, count)
    if reason is not None:
        raise InputError(f"{source}: is cut ({reason}). Get or write the file again.")


def _open_root(file: Path) -> str | None:
    with file.open("rb") as data:
        head = data.read(_PART)
        data.seek(max(0, file.stat().st_size - _PART))
        tail = data.read()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        return None  # UTF-16 or compressed
    root = _ROOT.search(re.sub(rb"<!--.*?-->", b"", head, flags=re.DOTALL))
    if root is None or re.search(rb"</" + re.escape(root[1]) + rb"\s*>", tail):
        return None
    return f"its element {root[1].decode('utf-8', 'replace')} has no end"


def _broken_line(file: Path) -> str | None:
    size = file.stat().st_size
    length, last = _PART, b""
    with file.open("rb") as data:
        while length <= _LONGEST:
            data.seek(max(0, size - length))
            text = data.read().strip(b"\x1e \r\n\t\0")
            # Records are lines, or start with the record separator and may have several lines.
            parts = re.split(rb"\x1e" if b"\x1e" in text else rb"\n", text)
            last = parts[-1]
            if len(parts) > 1 or length >= size:
                break
            length *= 8
        else:
            return None
    try:
        json.loads(last.decode("utf-8", "replace")) if last else None
    except json.JSONDecodeError:
        return "its last feature is no JSON"
    return None


def _fewer_than_rows(file: Path, count: int) -> str | None:
    for beside in (file.with_suffix(".mid"), file.with_suffix(".MID")):
        if beside.is_file():
            rows, quotes = 0, 0
            with beside.open("rb") as lines:
                for line in lines:
                    quotes += line.count(b'"')
                    rows += bool(line.strip()) and quotes % 2 == 0  # a value in quotes may have several lines
            return f"it has {count:,} features, but its {beside.name} {rows:,} rows" if count < rows else None
    return None
