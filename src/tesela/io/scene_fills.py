"""Fill values of a scene that no file declares, found in a sample of its stored numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tesela.core.errors import InputError
from tesela.core.notes import note
from tesela.core.scene import Band, Scene
from tesela.io.invalid_numbers import possible_fills, undeclared_fill
from tesela.io.masks import has_mask, read_mask
from tesela.io.pixel_values import broken_file, is_valid
from tesela.io.raster import open_dataset

_WINDOWS = 5
_SIDE_PX = 64
_COLLAR = 0.9
"""Least share of zeros, in all bands at once, of a window at the edge that lies in a collar."""
_LEAST_BANDS = 3
"""Fewer bands may be layers, or heights, whose zeros are measurements."""


@dataclass(frozen=True)
class _Sample:
    """Windows of a band from all over its file."""

    numbers: NDArray[np.generic]
    """(windows, rows, cols), as stored."""
    valid: NDArray[np.bool_]
    """Where they are not nodata."""
    at_edge: NDArray[np.bool_]
    """(windows,)"""

    @property
    def values(self) -> NDArray[np.generic]:
        """The numbers with data, (numbers,)."""
        return self.numbers[self.valid]


def declare_fills(scene: Scene) -> Scene:
    """
    The scene with its undeclared fill values as nodata, where its `invalid` is "nodata"; 25 windows a band are read.

    Three kinds are looked for: a number that part of the sample has, far from all others (see
    `tesela.io.invalid_numbers.undeclared_fill`); the largest number of the type, -9999 and the like, which are looked
    for in every window that is read later; and a collar, windows at the edge that are 0 in all of three bands or more.

    Raises
    ------
    InputError
        If `invalid` is "error" and a band has a number of the first kind. Those of the second kind are errors of the
        reader, where it meets one; a collar is a note.
    """
    samples = [_sample(band) for band in scene.bands]
    bands = tuple(_declared(band, scene, found) for band, found in zip(scene.bands, samples, strict=True))
    if _has_collar(scene.bands, samples):
        if scene.invalid == "nodata":
            bands = tuple(replace(band, nodata=0.0) if band.nodata is None else band for band in bands)
            note(f"Scene '{scene.name}': 0 is taken as nodata; windows at its edge are 0 in all bands.")
        else:
            note(
                f"Scene '{scene.name}' is 0 in all bands of windows at its edge: a collar without data? Declare it "
                f'(--nodata 0), or pass invalid = "nodata" (--invalid nodata); now 0 counts as a measurement.'
            )
    return scene if bands == scene.bands else replace(scene, bands=bands)


def _declared(band: Band, scene: Scene, sample: _Sample) -> Band:
    values = sample.values
    band = replace(band, fills=possible_fills(values))
    fill = undeclared_fill(values)
    if fill is None:
        return band
    share = float((values == fill).mean())
    if scene.invalid == "error":
        raise InputError(
            f"Band '{band.name}' of {band.path} holds {fill:g} in {share:.1%} of a sample, far from all its other "
            f"numbers: a fill value that the file does not declare as nodata. Declare it (gdal_edit.py -a_nodata "
            f'{fill:g}, or --nodata {fill:g}), or pass invalid = "nodata" (--invalid nodata).'
        )
    note(f"Band '{band.name}' of {band.path}: {fill:g}, in {share:.1%} of a sample, is taken as nodata.")
    if band.nodata is None:
        return replace(band, nodata=fill)
    return replace(band, fills=tuple(sorted({*band.fills, fill})))


def _has_collar(bands: tuple[Band, ...], samples: list[_Sample]) -> bool:
    """Whether a window at the edge is 0 in all bands, and none of them declares nodata."""
    if len(bands) < _LEAST_BANDS or any(band.nodata is not None for band in bands):
        return False
    if any(np.dtype(band.dtype).kind not in "iu" for band in bands):
        return False
    if len({sample.numbers.shape for sample in samples}) > 1:
        return False
    zero = np.logical_and.reduce([(sample.numbers == 0) & sample.valid for sample in samples])
    shares = zero.mean((1, 2))
    return bool((shares[samples[0].at_edge] > _COLLAR).any() and not (shares > _COLLAR).all())


def _sample(band: Band) -> _Sample:
    with open_dataset(band.path) as data:
        rows, cols = (
            np.unique(np.linspace(0, max(0, length - _SIDE_PX), _WINDOWS).astype(int)).tolist()
            for length in (data.height, data.width)
        )
        parts, masks, edges = [], [], []
        try:
            for row in rows:
                for col in cols:
                    window = Window(col, row, min(_SIDE_PX, data.width), min(_SIDE_PX, data.height))
                    part = data.read(band.index, window=window)
                    valid = is_valid(part, band.nodata)
                    if band.mask and has_mask(data):
                        valid &= read_mask(data, window)
                    parts.append(part)
                    masks.append(valid)
                    edges.append(row in (rows[0], rows[-1]) or col in (cols[0], cols[-1]))
        except RasterioError as error:
            raise broken_file(band.path, error) from None
    return _Sample(np.stack(parts), np.stack(masks), np.array(edges, np.bool_))
