"""Context shares: probabilities of a cascade's first expert as input bands of those below it, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.context_bands import PREFIX, context_bands, is_context
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.scenes import SceneReader, open_scene
from tesela.mapping.reading import Scaler
from tesela.mapping.window_cover import Tile
from tesela.mapping.windows import Strip

_STEPS = 254
"""Steps to which probabilities are rounded, as in the rasters of `predict_map` from which experts learn."""


def scene_part(given: Standardisation) -> Standardisation:
    """What an expert takes from the scene: all but its context bands."""
    return _part(given, context=False)


def _part(given: Standardisation, *, context: bool) -> Standardisation:
    kept = [place for place, name in enumerate(given.bands) if is_context(name) == context]
    if len(kept) == len(given.bands):
        return given
    return Standardisation(
        tuple(given.bands[place] for place in kept),
        tuple(given.mean[place] for place in kept),
        tuple(given.std[place] for place in kept),
        tuple(given.dates[place] for place in kept) if given.dates else (),
    )


def with_context(scene: Scene, path: str | Path) -> Scene:
    """A scene with the probabilities that the first expert has written for it as further bands."""
    bands = [replace(band, name=context_bands([band.name])[0]) for band in open_scene(path).bands]
    return replace(scene, bands=(*scene.bands, *bands))


def with_blank_context(
    images: Sequence[NDArray[np.float32]], given: Standardisation
) -> list[NDArray[np.float32]]:
    """Windows of the scene part with context bands of 0, to measure engines with."""
    missing = len(given.bands) - len(scene_part(given).bands)
    return [np.pad(image, ((0, 0), (0, 0), (0, missing))) for image in images]


class ContextShares:
    """
    Probabilities of the first expert on one strip, margins included.

    Where two windows overlap, the one that keeps a column counts; in the rows of the margin each strip has its own, so
    that it depends on no other strip.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        self.codes = tuple(codes)
        self._corner = (0, 0)
        self._shares = np.zeros((0, 0, len(self.codes)), np.float32)

    def begin(self, strip: Strip, window: tuple[int, int]) -> None:
        """Forget the strip before; without data the probabilities are 0."""
        self._corner = strip.rows.start, strip.cols[0].start
        shape = (window[0], strip.cols[-1].start + window[1] - strip.cols[0].start)
        self._shares = np.zeros((*shape, len(self.codes)), np.float32)

    def put(self, tile: Tile, scores: NDArray[np.float32]) -> None:
        """Take the scores of a window, (rows, cols, classes), from left to right."""
        left = tile.corner[1] - self._corner[1]
        first = tile.cols[0] - tile.corner[1] if left else 0
        part = scores[:, first:]
        terms = np.exp(part - part.max(axis=2, keepdims=True))
        shares = np.rint(terms / terms.sum(axis=2, keepdims=True) * _STEPS) / np.float32(_STEPS)
        self._shares[: len(shares), left + first : left + first + shares.shape[1]] = shares

    def cut(
        self, bands: Sequence[str], corner: tuple[int, int], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Context bands of a window at a corner of the strip, (rows, cols, bands); 0 past the end."""
        places = [self.codes.index(band.removeprefix(PREFIX)) for band in bands]
        part = self._shares[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1], places]
        out = np.zeros((*shape, len(places)), np.float32)
        out[: part.shape[0], : part.shape[1]] = part
        return out


class ContextScaler(Scaler):
    """Cuts windows of an expert whose last bands are context bands."""

    def __init__(self, reader: SceneReader, standardisation: Standardisation, shares: ContextShares) -> None:
        super().__init__(reader, scene_part(standardisation))
        own = _part(standardisation, context=True)
        self._context, self._shares = own.bands, shares
        self._mean, self._std = np.array(own.mean, np.float32), np.array(own.std, np.float32)

    def cut(
        self, raw: NDArray[np.generic], corner: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
        """See `Scaler.cut`."""
        image, valid, count = super().cut(raw, corner, shape)
        planes = (self._shares.cut(self._context, corner, shape) - self._mean) / self._std
        planes[~valid] = 0
        return np.concatenate([image, planes], axis=2), valid, count
