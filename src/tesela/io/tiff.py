"""The TIFF container of a COG: directories first, then the tiles of the overviews, then those of the raster."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 32
"""Files from this size on have 64-bit offsets (BigTIFF)."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of one item, by TIFF's number of the type."""

_SHORT, _LONG, _LONG8 = 3, 4, 16

# TIFF 6.0 and GeoTIFF 1.1 numbers of the tags that are written here; all others come from the header.
_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION = 254, 256, 257, 259
_STRIPS = {273, 278, 279}
_TILE_WIDTH, _TILE_HEIGHT, _TILE_STARTS, _TILE_SIZES = 322, 323, 324, 325
_ONLY_FULL = {33550, 33922, 34264, 34735, 34736, 34737, 42112}
"""Georeferencing and metadata: overviews do not repeat them."""

# What GDAL reads to know that it may fetch tiles by their leaders: docs of its COG driver, "file format".
_GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_LEADER = 4
"""Bytes before each tile that store its size; as many follow it."""


@functools.cache
def silence_libtiff() -> None:
    """
    Keep libtiff from printing a line of its own for each write that fails: GDAL reports the same as an error.

    Does nothing where the library hides its names.
    """
    import rasterio._base

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(rasterio._base.__file__).TIFFSetErrorHandler(None)


@dataclass(frozen=True)
class TiffLayout:
    """Packed tiles of one level, with leader and trailer, in a file."""

    shape: tuple[int, int]
    tiles: IO[bytes]
    starts: NDArray[np.uint64]
    """(tile rows, tile columns): offset of each tile's leader in `tiles`."""
    sizes: NDArray[np.uint32]
    """Packed bytes of each tile, without leader and trailer."""

    @property
    def spans(self) -> NDArray[np.uint64]:
        """Bytes that each tile takes with leader and trailer, row by row."""
        return self.sizes.ravel().astype(np.uint64) + np.uint64(2 * _LEADER)


@dataclass(frozen=True)
class _Tag:
    number: int
    kind: int
    count: int
    content: bytes


def write_tiff(
    path: Path, header: Path, levels: Sequence[TiffLayout], *, block_px: int, compression: int
) -> None:
    """
    Write a COG whose tiles are packed already.

    Parameters
    ----------
    header : path
        Classic TIFF of any size with the bands, colours, georeferencing and metadata that the COG shall have.
    levels : sequence of TiffLayout
        The raster, then its overviews from fine to coarse.
    compression : int
        TIFF's number of the compression of the tiles.
    """
    common = _read_tags(header)
    total = sum(int(level.spans.sum()) for level in levels)
    big = total + sum(level.sizes.size * 16 + 65536 for level in levels) >= LARGEST
    # the tables of tiles have a known size, so that all offsets are known before anything is written
    blank = [np.zeros(level.sizes.size, np.uint64) for level in levels]
    start = len(_directories(common, levels, blank, block_px=block_px, compression=compression, big=big))
    offsets: list[NDArray[np.uint64]] = [blank[0]] * len(levels)
    for number in reversed(range(len(levels))):
        ends = np.cumsum(levels[number].spans) + np.uint64(start)
        offsets[number] = ends - levels[number].spans + np.uint64(_LEADER)
        start = int(ends[-1])
    with path.open("wb") as out:
        out.write(_directories(common, levels, offsets, block_px=block_px, compression=compression, big=big))
        for level in reversed(levels):
            _copy_tiles(level, out)


def _directories(
    common: Sequence[_Tag],
    levels: Sequence[TiffLayout],
    offsets: Sequence[NDArray[np.uint64]],
    *,
    block_px: int,
    compression: int,
    big: bool,
) -> bytes:
    """All bytes before the first tile."""
    head = b"II+\0\x08\0\0\0" if big else b"II*\0"
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST) + _GHOST
    ghost += b" " * (-len(ghost) % 8)
    word = 8 if big else 4
    at = len(head) + word + len(ghost)
    at += -at % 8
    pieces = [head + struct.pack("<Q" if big else "<I", at) + ghost]
    pieces[0] += b"\0" * (at - len(pieces[0]))
    for number, (level, offsets_of) in enumerate(zip(levels, offsets, strict=True)):
        tags = {tag.number: tag for tag in common if number == 0 or tag.number not in _ONLY_FULL}
        rows, cols = level.shape
        numbers = {_SUBFILE: 1} if number else {}
        numbers |= {
            _WIDTH: cols,
            _HEIGHT: rows,
            _COMPRESSION: compression,
            _TILE_WIDTH: block_px,
            _TILE_HEIGHT: block_px,
        }
        for key, value in numbers.items():
            kind = _SHORT if key == _COMPRESSION else _LONG
            tags[key] = _Tag(key, kind, 1, struct.pack("<H" if kind == _SHORT else "<I", value))
        starts = offsets_of.astype("<u8" if big else "<u4").tobytes()
        tags[_TILE_STARTS] = _Tag(_TILE_STARTS, _LONG8 if big else _LONG, offsets_of.size, starts)
        tags[_TILE_SIZES] = _Tag(_TILE_SIZES, _LONG, offsets_of.size, level.sizes.astype("<u4").tobytes())
        directory = _directory(list(tags.values()), at, last=number == len(levels) - 1, big=big)
        pieces.append(directory)
        at += len(directory)
    return b"".join(pieces)


def _directory(tags: list[_Tag], at: int, *, last: bool, big: bool) -> bytes:
    """One directory at offset `at`, with the content of its tags behind it."""
    count, word = ("<Q", "<Q") if big else ("<H", "<I")
    room = struct.calcsize(word)
    length = struct.calcsize(count) + len(tags) * (4 + 2 * room) + room
    entries, behind = [], b""
    for tag in sorted(tags, key=lambda item: item.number):
        entry = struct.pack("<HH", tag.number, tag.kind) + struct.pack(word, tag.count)
        if len(tag.content) <= room:
            entry += tag.content.ljust(room, b"\0")
        else:
            behind += b"\0" * (-(at + length + len(behind)) % 8)
            entry += struct.pack(word, at + length + len(behind))
            behind += tag.content
        entries.append(entry)
    behind += b"\0" * (-(at + length + len(behind)) % 8)
    after = 0 if last else at + length + len(behind)
    return struct.pack(count, len(tags)) + b"".join(entries) + struct.pack(word, after) + behind


def _copy_tiles(level: TiffLayout, out: IO[bytes]) -> None:
    """Append the tiles row by row; those in this order already in one piece."""
    level.tiles.flush()
    starts, spans = level.starts.ravel(), level.spans
    breaks = np.flatnonzero(starts[1:] != (starts + spans)[:-1]) + 1
    for run in np.split(np.arange(starts.size), breaks):
        level.tiles.seek(int(starts[run[0]]))
        left = int(spans[run].sum())
        while left:
            piece = level.tiles.read(min(left, 1 << 20))
            out.write(piece)
            left -= len(piece)


def _read_tags(path: Path) -> list[_Tag]:
    """Tags of the only directory of a classic little-endian TIFF, without those of its strips."""
    content = path.read_bytes()
    at = struct.unpack_from("<I", content, 4)[0]
    tags = []
    for index in range(struct.unpack_from("<H", content, at)[0]):
        entry = at + 2 + 12 * index
        number, kind, count = struct.unpack_from("<HHI", content, entry)
        length = count * _SIZES[kind]
        offset = entry + 8 if length <= 4 else struct.unpack_from("<I", content, entry + 8)[0]
        if number not in _STRIPS:
            tags.append(_Tag(number, kind, count, content[offset : offset + length]))
    return tags
