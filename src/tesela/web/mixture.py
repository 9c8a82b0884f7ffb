"""Abundance maps on the view page: the largest class, one class at a time, uncertainty, and the mixture of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import InputError, join_words
from tesela.core.grid import pixel_offset
from tesela.core.legend import Legend
from tesela.core.spectra import Spectra
from tesela.io.abundance import AbundanceMap
from tesela.io.cube import Cube
from tesela.io.pixel_values import read_pixel_values
from tesela.io.pyramid import TILE_PX, Pyramid
from tesela.io.raster import Closing, open_dataset
from tesela.web.layers import Picture, Pool, class_rows, packed

_NONE = 255
_SAMPLE_PX = 4 * TILE_PX
_MOST_DEVIATION = 25
"""Per cent of a cell at which the colours of the uncertainty end."""


class _Bands(Closing):
    """Reads some bands of a raster on any grid as shares, NaN where there is no data; one thread at a time."""

    def __init__(self, path: str) -> None:
        self._data = open_dataset(path)

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def read(self, grid: GeoBox, bands: list[int]) -> NDArray[np.float32]:
        """(bands, rows, cols) float32 in the unit of the file."""
        data = self._data
        raw, valid = read_pixel_values(data, bands, grid, nodata=data.nodata, continuous=False)
        values = raw.astype(np.float32) * np.float32(data.scales[bands[0] - 1])
        values[~valid] = np.nan
        return values


class LargestLayer:
    """The class with the largest share; tiles are class values, as of a class map."""

    kind = "class"

    def __init__(self, source: AbundanceMap, pyramid: Pyramid, *, name: str) -> None:
        self.source, self.name, self._pyramid = source, name, pyramid
        self._readers = Pool(lambda: _Bands(source.path))
        self._all = list(range(1, len(source.legend) + 1))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Class values of a tile; 0 where there is no data."""
        with self._readers.lend() as reader:
            shares = reader.read(self._pyramid.tile(level, x, y), self._all)
        return packed(self._largest(shares))

    def at(self, pixel: GeoBox) -> object:
        """Class value of a pixel."""
        return int(self._largest(self.shares(pixel))[0, 0]) or None

    def shares(self, pixel: GeoBox) -> NDArray[np.float32]:
        """(classes, 1, 1) shares of a pixel."""
        with self._readers.lend() as reader:
            return reader.read(pixel, self._all)

    def describe(self) -> dict[str, object]:
        """Legend with the area of each class: the sum of its shares."""
        grid, legend = self.source.grid, self.source.legend
        step = max(1, int(np.ceil(max(grid.shape) / _SAMPLE_PX)))
        with self._readers.lend() as reader:
            shares = reader.read(grid.zoom_out(step) if step > 1 else grid, self._all)
        known = np.isfinite(shares[0])
        pixels = int(known.sum()) * step * step
        means = (
            np.nan_to_num(shares[:, known].mean(axis=1, dtype=np.float64))
            if known.any()
            else np.zeros(len(legend))
        )
        counts = dict(zip(legend.values, (float(mean) * pixels for mean in means), strict=True))
        return {
            "legend": legend.address,
            "family": legend.name,
            "exact": step == 1,
            "classes": class_rows(legend, grid, counts),
            "year": "",
            "finest": 0,
        }

    def _largest(self, shares: NDArray[np.float32]) -> NDArray[np.uint8]:
        known = np.isfinite(shares).all(axis=0)
        best = np.nan_to_num(shares).argmax(axis=0)
        return np.where(known, self.source.legend.value_table[best], 0).astype(np.uint8)


class ShareLayer:
    """The share of one class: tiles are in per cent, coloured by the page."""

    kind = "score"

    def __init__(self, source: AbundanceMap, pyramid: Pyramid, *, position: int) -> None:
        item = source.legend.classes[position]
        self.name = item.name if item.code == item.name else f"{item.code} {item.name}"
        self._pyramid, self._band = pyramid, position + 1
        self._readers = Pool(lambda: _Bands(source.path))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Per cents of a tile."""
        with self._readers.lend() as reader:
            return packed(_percent(reader.read(self._pyramid.tile(level, x, y), [self._band])[0]))

    def at(self, pixel: GeoBox) -> object:
        """Per cent of a pixel."""
        with self._readers.lend() as reader:
            return _number(_percent(reader.read(pixel, [self._band])[0]))

    def describe(self) -> dict[str, object]:
        """Group of the layer, by which the page lists it."""
        return {"finest": 0, "group": "share"}


class DeviationLayer:
    """The uncertainty of the shares: root of the mean variance over the classes, in per cent of a cell."""

    kind = "score"

    def __init__(self, path: str, pyramid: Pyramid, *, legend: Legend, name: str) -> None:
        self.name, self._pyramid = name, pyramid
        with open_dataset(path) as data:
            if data.count != len(legend):
                raise InputError(
                    f"{path}: has {data.count} bands, but the map has {len(legend)} classes; an uncertainty has one "
                    f"band per class. Write one with the map (tesela unmix --uncertainty FILE)."
                )
        self._all = list(range(1, len(legend) + 1))
        self._readers = Pool(lambda: _Bands(path))

    def tile(self, level: int, x: int, y: int) -> Picture:
        """Colours of a tile, 0 to 100 for 0 to 25 % of a cell."""
        with self._readers.lend() as reader:
            percent = self._together(reader.read(self._pyramid.tile(level, x, y), self._all))
        stretched = np.minimum(percent.astype(np.uint16) * (100 // _MOST_DEVIATION), 100)
        return packed(np.where(percent == _NONE, _NONE, stretched).astype(np.uint8))

    def at(self, pixel: GeoBox) -> object:
        """Per cent of a pixel."""
        return _number(self._together(self.deviations(pixel)))

    def deviations(self, pixel: GeoBox) -> NDArray[np.float32]:
        """(classes, 1, 1) standard deviation of each share of a pixel."""
        with self._readers.lend() as reader:
            return reader.read(pixel, self._all)

    def describe(self) -> dict[str, object]:
        """Its unit, and where its colours end."""
        return {"finest": 0, "unit": "root of the mean variance", "most": _MOST_DEVIATION}

    @staticmethod
    def _together(deviations: NDArray[np.float32]) -> NDArray[np.uint8]:
        return _percent(np.sqrt((deviations**2).mean(axis=0)))


@dataclass(frozen=True)
class PixelMixture:
    """What is behind a pixel of an abundance map: shares, their uncertainty, the reference, the series."""

    shares: LargestLayer
    deviations: DeviationLayer | None = None
    reference: LargestLayer | None = None
    cube: Cube | None = None
    endmembers: Spectra | None = None

    def at(self, pixel: GeoBox) -> dict[str, object]:
        """Document of a pixel for the page."""
        legend = self.shares.source.legend
        shares = self.shares.shares(pixel)[:, 0, 0]
        deviations = None if self.deviations is None else self.deviations.deviations(pixel)[:, 0, 0]
        reference = None if self.reference is None else self.reference.shares(pixel)[:, 0, 0]
        if not np.isfinite(shares).all():
            return {}
        rows = [
            {
                "value": item.value,
                "share": _rounded(shares[at]),
                "deviation": None if deviations is None else _rounded(deviations[at]),
                "reference": None if reference is None else _rounded(reference[at]),
            }
            for at, item in enumerate(legend.classes)
        ]
        return {"mixture": rows, **({} if self.cube is None else {"series": self._series(pixel)})}

    def _series(self, pixel: GeoBox) -> dict[str, object]:
        cube, spectra = self.cube, self.endmembers
        assert cube is not None
        values = cube.read(pixel)[:, :, 0, 0]
        ends = []
        for item in self.shares.source.legend.classes if spectra is not None else ():
            assert spectra is not None
            if item.code not in spectra.names:
                continue
            own = spectra.values[spectra.names.index(item.code)]
            months = [
                spectra.months.index(month)
                if month in spectra.months
                else (spectra.months.index(0) if 0 in spectra.months else -1)
                for month in cube.months
            ]
            bands = [spectra.bands.index(band) if band in spectra.bands else -1 for band in cube.bands]
            line = [
                [_rounded(own[at, band]) if at >= 0 and band >= 0 else None for at in months]
                for band in bands
            ]
            ends.append({"value": item.value, "lines": line})
        return {
            "times": list(cube.times),
            "bands": list(cube.bands),
            "lines": [[_rounded(value) for value in values[:, band]] for band in range(len(cube.bands))],
            "endmembers": ends,
        }


def check_cube(cube: Cube, source: AbundanceMap) -> None:
    """
    Check that a cube has the pixels of a map.

    Raises
    ------
    InputError
        If it has others.
    """
    if pixel_offset(cube.grid, source.grid) is None:
        raise InputError(
            f"{cube.path}: has other pixels than {source.path}; give the cube from which the map was made (--cube)."
        )


def check_endmembers(path: str | Path, spectra: Spectra, legend: Legend) -> None:
    """
    Check that spectra are of the classes of a map.

    Raises
    ------
    InputError
        If no name is a code of the legend.
    """
    if not set(spectra.names) & set(legend.codes):
        raise InputError(
            f"{path}: has spectra of {join_words(spectra.names[:6])}, but the map has the classes "
            f"{join_words(legend.codes[:6])}. Write those of its expert (tesela unmix EXPERT --endmembers FILE)."
        )


def _percent(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Per cents, 255 where there is no data."""
    whole = np.clip(np.rint(np.nan_to_num(shares) * 100), 0, 100)
    return np.where(np.isfinite(shares), whole, _NONE).astype(np.uint8)


def _number(percent: NDArray[np.uint8]) -> int | None:
    value = int(percent[0, 0])
    return value if value <= 100 else None


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
