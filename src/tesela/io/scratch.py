"""The scratch raster: class values of a map on their way from one step to the next."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.machine import read_at, write_at
from tesela.io.raster import Closing

IN_MEMORY_PX = 1 << 28
"""Rasters up to this size stay in memory (256 MiB); larger ones are files."""


class ScratchRaster(Closing):
    """
    A uint8 raster read and written by whole rows, from several threads at once; use it in a `with` block.

    Large ones are a plain file that is removed with the block: the system may drop its pages, so memory stays
    flat for any size of map.
    """

    def __init__(self, shape: tuple[int, int], *, folder: Path | None = None) -> None:
        self.shape = shape
        self._file: IO[bytes] | None = None
        self._values: NDArray[np.uint8] | None = None
        if folder is None:
            self._values = np.zeros(shape, np.uint8)
            return
        try:
            # without a name: the system removes it when it is closed, even when this process is killed
            self._file = tempfile.TemporaryFile(prefix=".tesela-scratch.", dir=folder, buffering=0)  # noqa: SIM115
            self._file.truncate(shape[0] * shape[1])
        except OSError as error:
            raise InputError(f"{folder}: no scratch file can be made there ({error.strerror}).") from None

    @classmethod
    def of(cls, values: NDArray[np.uint8]) -> ScratchRaster:
        """Wrap a (rows, cols) array; writing changes it."""
        raster = cls((0, 0))
        raster.shape = (int(values.shape[0]), int(values.shape[1]))
        raster._values = values
        return raster

    @classmethod
    def like(cls, shape: tuple[int, int], *, folder: Path) -> ScratchRaster:
        """Make one in memory where it is small enough, else in a file in `folder`."""
        return cls(shape, folder=folder if shape[0] * shape[1] > IN_MEMORY_PX else None)

    def close(self) -> None:
        """Release the memory or the file."""
        self._values = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Rows `first` to `stop`, (stop - first, cols) uint8; not to be written to."""
        if self._values is not None:
            return self._values[first:stop]
        cols = self.shape[1]
        rows = np.empty((stop - first, cols), np.uint8)
        self._transfer(read_at, rows, at=first * cols)
        return rows

    def write(self, first: int, values: NDArray[np.uint8]) -> None:
        """Write whole rows, (rows, cols) uint8, from row `first` on."""
        if self._values is not None:
            self._values[first : first + len(values)] = values
            return
        try:
            self._transfer(write_at, np.ascontiguousarray(values), at=first * self.shape[1])
        except OSError as error:
            raise InputError(
                f"The scratch file cannot be written ({error.strerror}). Is the disk full?"
            ) from None

    def _transfer(
        self, move: Callable[[int, memoryview, int], int], rows: NDArray[np.uint8], *, at: int
    ) -> None:
        assert self._file is not None
        view = rows.data.cast("B")
        done = 0
        while done < len(view):
            step = move(self._file.fileno(), view[done : done + (1 << 30)], at + done)
            if step == 0:
                raise InputError("The scratch file ended too early. Is the disk full?")
            done += step
