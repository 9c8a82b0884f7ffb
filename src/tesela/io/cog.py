"""Cloud-optimised GeoTIFFs, written in one pass: each tile is compressed once, overviews are made on the way."""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from tesela.core.errors import InputError
from tesela.core.legend import NODATA
from tesela.io.outputs import check_raster_names, check_target, temporary_folder
from tesela.io.raster import raster_crs
from tesela.io.tiff import TiffLayout, silence_libtiff, write_tiff
from tesela.io.tiles import HALVINGS, PACKERS, Tile

BLOCK_PX = 512
"""Side of the blocks of every raster that we write."""

_AHEAD = 64
"""Tiles that may wait for compression: 16 MiB of bytes."""


class CogWriter:
    """
    Writes a raster by windows that do not overlap, and makes it a COG at the end; pixels never written are nodata.

    In a `with` block: the file appears at `path` when the block ends well, and not at all otherwise. Windows that
    come row by row cost least: a tile is compressed when its last pixel is there, and only tiles begun are in
    memory, ``3 x cols x (512 + rows of a window)`` pixels. Overviews halve by mode or mean of the next finer ones,
    see `tesela.io.tiles`.
    """

    overviews = "mode"
    packing = "lzw"

    def __init__(
        self, path: str | Path, grid: GeoBox, *, bands: int = 1, nodata: int = NODATA, dtype: str = "uint8"
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self._nodata = nodata
        self._dtype = np.dtype(dtype)
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        self._folder = Path()
        self._stack = ExitStack()
        check_target(self.path)
        if self.path.is_dir():
            raise InputError(f"{path}: is a folder; name a file, such as {self.path / 'map.tif'}.")
        check_raster_names([path])
        try:
            self._folder = self._stack.enter_context(temporary_folder(self.path))
            self._header = self._folder / "header.tif"
            profile = {
                "driver": "GTiff",
                "width": 1,
                "height": 1,
                "count": bands,
                "dtype": dtype,
                "nodata": nodata,
            }
            silence_libtiff()
            with rasterio.open(self._header, "w", crs=raster_crs(grid), transform=grid.affine, **profile):
                pass
            self._levels = [
                _Level(self._folder / f"level{number}", shape, bands)
                for number, shape in enumerate(_shapes((int(grid.shape[0]), int(grid.shape[1]))))
            ]
        except (OSError, RasterioError) as error:
            self._discard()
            raise InputError(f"{path}: cannot be written ({error}).") from None

    def __enter__(self) -> Self:
        return self

    def write(self, row: int, col: int, values: NDArray[np.unsignedinteger]) -> None:
        """
        Write a window with its corner at `row`, `col`.

        Parameters
        ----------
        values : (rows, cols) or (bands, rows, cols) array of uint8, or of the raster's type

        Raises
        ------
        InputError
            If the disk is full.
        """
        layers = values if values.ndim == 3 else values[np.newaxis]
        try:
            self._put(0, row, col, layers)
        except OSError as error:
            raise self._unwritten(error) from error

    def describe(self, data: rasterio.DatasetWriter) -> None:
        """Write names, colours and tags into the header; for subclasses to fill in."""

    def finish_beside(self) -> None:
        """Write the files beside the raster; for subclasses to fill in."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except (OSError, RasterioError) as error:
            raise self._unwritten(error) from error
        finally:
            self._discard()

    def _put(self, depth: int, row: int, col: int, layers: Tile) -> None:
        """Copy a window into the tiles of a level; finished tiles are packed and halved into the next level."""
        level = self._levels[depth]
        rows, cols = layers.shape[1:]
        for y in range(row // BLOCK_PX, -(-(row + rows) // BLOCK_PX)):
            for x in range(col // BLOCK_PX, -(-(col + cols) // BLOCK_PX)):
                top, left = y * BLOCK_PX, x * BLOCK_PX
                here = layers[
                    :, max(0, top - row) : top + BLOCK_PX - row, max(0, left - col) : left + BLOCK_PX - col
                ]
                tile = level.begun.get((y, x))
                if tile is None:
                    blank = np.full((level.bands, BLOCK_PX, BLOCK_PX), self._nodata, self._dtype)
                    tile = level.begun[y, x] = _Begun(blank, level.pixels(y, x))
                at = max(0, row - top), max(0, col - left)
                tile.values[:, at[0] : at[0] + here.shape[1], at[1] : at[1] + here.shape[2]] = here
                tile.missing -= here.shape[1] * here.shape[2]
                if tile.missing <= 0:
                    self._close_tile(depth, y, x)

    def _close_tile(self, depth: int, y: int, x: int) -> None:
        level = self._levels[depth]
        values = level.begun.pop((y, x)).values
        level.waiting.append((y, x, self._pool.submit(self._pack, values)))
        while len(level.waiting) > _AHEAD:
            level.store_next()
        if depth + 1 < len(self._levels):
            half = np.empty((level.bands, BLOCK_PX // 2, BLOCK_PX // 2), self._dtype)
            HALVINGS[self.overviews](values, self._nodata, half)
            row, col = y * BLOCK_PX // 2, x * BLOCK_PX // 2
            rows, cols = self._levels[depth + 1].shape
            self._put(depth + 1, row, col, half[:, : rows - row, : cols - col])

    def _pack(self, values: Tile) -> bytes:
        return PACKERS[self.packing][1](np.ascontiguousarray(values.transpose(1, 2, 0)).tobytes())

    def _finish(self) -> None:
        for depth, level in enumerate(self._levels):
            for y, x in sorted(level.begun):
                self._close_tile(depth, y, x)
            while level.waiting:
                level.store_next()
        for level in self._levels:
            level.fill(self._pack(np.full((level.bands, BLOCK_PX, BLOCK_PX), self._nodata, self._dtype)))
        with rasterio.open(self._header, "r+") as data:
            self.describe(data)
        cog = self._folder / self.path.name
        layouts = [TiffLayout(level.shape, level.file, level.starts, level.sizes) for level in self._levels]
        write_tiff(cog, self._header, layouts, block_px=BLOCK_PX, compression=PACKERS[self.packing][0])
        self.finish_beside()
        cog.replace(self.path)

    def _unwritten(self, error: Exception) -> InputError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return InputError(
            f"{self.path}: cannot be written ({reason}). Make room on the disk and run the same command again."
        )

    def _discard(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for level in getattr(self, "_levels", ()):
            level.file.close()
        self._stack.close()


class _Begun:
    """A tile that lacks pixels."""

    def __init__(self, values: Tile, missing: int) -> None:
        self.values = values
        self.missing = missing


class _Level:
    """The raster, or one of its overviews: tiles begun, tiles being packed, and a file of packed ones."""

    def __init__(self, path: Path, shape: tuple[int, int], bands: int) -> None:
        self.shape = shape
        self.bands = bands
        self.file: IO[bytes] = path.open("w+b")
        self.begun: dict[tuple[int, int], _Begun] = {}
        self.waiting: deque[tuple[int, int, Future[bytes]]] = deque()
        down, across = (-(-side // BLOCK_PX) for side in shape)
        self.starts = np.zeros((down, across), np.uint64)
        self.sizes = np.zeros((down, across), np.uint32)
        self.end = 0

    def pixels(self, y: int, x: int) -> int:
        """Pixels of a tile that lie on the raster."""
        rows, cols = self.shape
        return min(BLOCK_PX, rows - y * BLOCK_PX) * min(BLOCK_PX, cols - x * BLOCK_PX)

    def store_next(self) -> None:
        """Append the oldest packed tile to the file."""
        y, x, future = self.waiting.popleft()
        packed = future.result()
        self.starts[y, x], self.sizes[y, x] = self.end, len(packed)
        self.end += self._append(packed)

    def fill(self, packed: bytes) -> None:
        """Store this tile in place of all that were never written."""
        for y, x in np.argwhere(self.sizes == 0):
            self.starts[y, x], self.sizes[y, x] = self.end, len(packed)
            self.end += self._append(packed)

    def _append(self, packed: bytes) -> int:
        # GDAL's layout: the size before each tile, its last four bytes again behind it
        return self.file.write(struct.pack("<I", len(packed)) + packed + packed[-4:])


def _shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of the raster and its overviews, each half of the one before, to the first that fits into a tile."""
    shapes = [shape]
    while max(shapes[-1]) > BLOCK_PX:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes
