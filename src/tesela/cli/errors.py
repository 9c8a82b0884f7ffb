"""Errors as one line for a person: what could not be done, why, and what to do."""

from __future__ import annotations

import errno
import json
import struct
import zipfile
import zlib

from tesela.core.errors import TeselaError
from tesela.core.extras import missing_line

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_READERS = frozenset(
    {
        "numcodecs",
        "openpyxl",
        "pyarrow",
        "pyogrio",
        "pyproj",
        "rasterio",
        "safetensors",
        "safetensors_rust",
        "shapely",
        "sqlite3",
        "xarray",
        "zarr",
    }
)
"""Libraries whose errors are about a file or its content."""

_CONTENT = (UnicodeError, json.JSONDecodeError, zipfile.BadZipFile, EOFError, struct.error, zlib.error)

UNEXPECTED = "unexpected"
"""First word of a line about an error that nobody foresaw; `--debug` shows where it comes from."""


def describe(error: Exception) -> str:
    """
    One line about an error that ends a command.

    Examples
    --------
    >>> describe(OSError(28, "No space left on device", "map.tif"))
    'map.tif: cannot be written (No space left on device). Make room on the disk and run the same command again.'
    """
    return " ".join(_text(error).split())


def _text(error: Exception) -> str:
    if isinstance(error, TeselaError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (line := missing_line(error.name or "")):
        return line
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno in _FULL:
        what = error.filename or "A file"
        return f"{what}: cannot be written ({error.strerror}). Make room on the disk and run the same command again."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be read or written ({error.strerror})."
    if isinstance(error, MemoryError):
        return f"There is not enough memory ({str(error) or name}). Lower --memory or --window, or cut the input."
    packed = isinstance(error, RuntimeError) and "decompression" in str(
        error
    )  # numcodecs' word for damaged chunks
    if packed or isinstance(error, _CONTENT) or type(error).__module__.partition(".")[0] in _READERS:
        return (
            f"A file cannot be read or written ({name}: {error}). It may be damaged, or the disk full; add --debug to "
            f"see which one it is."
        )
    return f"{UNEXPECTED} {name}: {error}. Add --debug to see where it comes from, and please report it."
