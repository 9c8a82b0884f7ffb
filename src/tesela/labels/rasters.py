"""A class raster as a reference: the nearest pixel, translated to another legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import InputError, LegendError, join_words
from tesela.core.grid import bounds_in, windows
from tesela.core.legend import NODATA, Legend
from tesela.core.notes import note
from tesela.io.crosswalks import open_crosswalk
from tesela.io.maps import open_map
from tesela.io.pixel_values import read_pixel_values
from tesela.io.raster import Closing, grid_of, open_dataset
from tesela.io.vector import Bounds
from tesela.labels.codes import CodeBook, make_code_book

_WINDOW_PX = 2048

_LARGEST = 2.0**53
"""Floating-point numbers up to here are whole by themselves."""


class RasterLabels(Closing):
    """
    Reads windows of class labels from a class raster, always by nearest pixel; use it in a `with` block.

    A map of Tesela contains its legend. The numbers of any other raster are read as official codes, else as
    legend values (CORINE: 111 to 523, else grid codes 1 to 44): the first reading that has all numbers on the grid.
    Where a number has two meanings, those of the whole raster decide, so that a file is read alike for every scene.
    """

    def __init__(
        self,
        path: str | Path,
        legend: Legend,
        *,
        like: GeoBox,
        source: str | None = None,
        crosswalk: Crosswalk | None = None,
    ) -> None:
        self.path = str(path)
        self._data = open_dataset(path)
        try:
            if self._data.count != 1:
                raise InputError(
                    f"{path}: has {self._data.count} bands; a class raster has one. Extract it "
                    f"(gdal_translate -b N)."
                )
            if self._data.dtypes[0].startswith("complex"):
                raise InputError(f"{path}: holds complex numbers; a class raster holds whole numbers.")
            self._grid = grid_of(self._data)
            self._like = like
            present = self._numbers_on(like)
            written = _written_legend(path) if source is None else None
            if written is not None and crosswalk is not None and crosswalk.missing(written.codes):
                written = None
            if written == legend and crosswalk is None:
                self._reading: Mapping[int, int] = {value: value for value in (NODATA, *legend.values)}
                legend.check_values(present, where=self.path)
            else:
                named = source if written is None else written.address
                if crosswalk is None and written is not None and (written.composed or legend.composed):
                    crosswalk = open_crosswalk(written, legend)
                book = make_code_book(legend, source=named, crosswalk=crosswalk)
                if written is None:
                    self._reading = self._choose_reading(book, present)
                else:
                    written.check_values(present, where=self.path)
                    values = book.values_of(written.codes, where=self.path)
                    self._reading = {NODATA: NODATA} | dict(zip(written.values, values.tolist(), strict=True))
        except BaseException:
            self._data.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def extent(self) -> Bounds:
        """Bounds of the raster in the grid's CRS."""
        assert self._like.crs is not None
        return bounds_in(self._grid, self._like.crs.to_wkt())

    def read(self, grid: GeoBox) -> NDArray[np.uint8]:
        """Class values on any grid, (rows, cols) uint8; 0 where the raster has no data or does not reach."""
        numbers, valid = self._read(grid)
        unique, index = np.unique(numbers[valid], return_inverse=True)
        strange = [int(number) for number in unique if int(number) not in self._reading]
        if strange:
            raise LegendError(
                f"{self.path} holds the numbers {strange} outside the grid for which it was opened; open it for "
                f"this one."
            )
        values = np.array([self._reading[int(number)] for number in unique], np.uint8)
        out: NDArray[np.uint8] = np.full(numbers.shape, NODATA, np.uint8)
        if unique.size:
            out[valid] = values[index]
        return out

    def _read(self, grid: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        raw, mask = read_pixel_values(self._data, [1], grid, nodata=self._data.nodata, continuous=False)
        numbers, valid = raw[0], mask[0]
        if numbers.dtype.kind == "f":
            valid = valid & ~np.isnan(numbers)
            present = numbers[valid]
            broken = present[
                (present != np.rint(present)) | (np.abs(present) > _LARGEST)
            ]  # the infinite are large
            if broken.size:
                raise InputError(
                    f"{self.path}: holds {broken[0]:g}, which is not a class; a class raster holds "
                    f"whole numbers."
                )
            numbers = np.where(valid, numbers, 0)
        return numbers.astype(np.int64), valid

    def _choose_reading(self, book: CodeBook, present: Sequence[int]) -> Mapping[int, int]:
        if not book.is_ambiguous(present):
            return book.reading_of(present, where=self.path)
        everywhere = self._numbers_on(self._grid)
        reading = book.reading_of(everywhere, where=self.path)
        other = next((way for way in _both(book) if way != reading and set(everywhere) <= set(way)), None)
        if other is not None and any(other[number] != reading[number] for number in everywhere):
            note(
                f"{self.path}: its numbers ({join_words(everywhere)}) are codes and values of {book.source}; they are "
                f"read as codes. Name their legend (--source) or give a crosswalk (--crosswalk FILE) if they are not."
            )
        return reading

    def _numbers_on(self, like: GeoBox) -> list[int]:
        present: set[int] = set()
        for _, _, grid in windows(like, _WINDOW_PX):
            numbers, valid = self._read(grid)
            present.update(np.unique(numbers[valid]).tolist())
        return sorted(present)


def _both(book: CodeBook) -> list[Mapping[int, int]]:
    return [way for level in book.readings for way in level]


def _written_legend(path: str | Path) -> Legend | None:
    try:
        return open_map(path).legend
    except (InputError, LegendError):
        return None
