"""Pixels from which trees learn: drawn from patches, with the features of the window around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesela.core.band_dates import STATIC
from tesela.core.errors import InputError, join_words
from tesela.core.legend import IGNORE
from tesela.models.segmentation.dates_encoder import HIDDEN_DATES
from tesela.models.segmentation.feature_spec import FeatureSpec
from tesela.models.segmentation.window_features import compute_features
from tesela.patches.dataset import PatchDataset
from tesela.patches.overlap import first_shown
from tesela.patches.table import SPLITS, PatchTable


@dataclass(frozen=True)
class TreePixels:
    """Pixels drawn from patches."""

    values: NDArray[np.int16]
    """(features, pixels)"""
    classes: NDArray[np.int64]
    """(pixels,): positions in the legend."""

    def of_features(self, positions: NDArray[np.int64]) -> TreePixels:
        """The pixels with some of their features."""
        return TreePixels(np.ascontiguousarray(self.values[positions]), self.classes)


def draw_pixels(
    table: PatchTable,
    splits: Sequence[str],
    *,
    spec: FeatureSpec,
    bands: Sequence[str],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    pixels: int,
    seed: int,
) -> TreePixels:
    """
    Draw labelled pixels of the patches of some splits, each with the same chance, and compute their features.

    A pixel that several patches show is one pixel. Windows reach beyond the patch into the scene: a pixel has the
    features that it has in a map. Of several dates, some are hidden in some patches (`HIDDEN_DATES`), so that trees
    know of gaps.

    Parameters
    ----------
    pixels : int
        How many; all where there are fewer.

    Raises
    ------
    InputError
        If no pixel of the splits has a label.
    """
    dates, margin = spec.band_dates, spec.margin_px
    drawn = _Drawn(pixels)
    for split in splits:
        patches = PatchDataset(table, split, bands=bands, mean=mean, std=std, dates=dates, margin_px=margin)
        for index, shown in enumerate(first_shown(table.of_split(split), table.size_px)):
            rng = np.random.default_rng([seed, SPLITS.index(split), index])
            key = rng.random(shown.size)
            wanted = shown.ravel() & (key < drawn.bound)
            if not wanted.any():
                continue
            image, labels = patches[index]
            if dates:
                _hide_dates(image.numpy(), labels.numpy(), dates, rng)
            flat = labels.numpy().ravel()
            chosen = np.flatnonzero(wanted & (flat != IGNORE))
            if chosen.size:
                features = crop_features(image.permute(1, 2, 0).contiguous().numpy(), spec, mean, std)
                drawn.add(features.reshape(len(features), -1)[:, chosen], flat[chosen], key[chosen])
    if not drawn.size:
        raise InputError(
            f"No pixel of the patches of {join_words(splits)} has data and a label. Look at the label maps there."
        )
    return drawn.pixels()


class _Drawn:
    """The pixels of the least keys so far; of more than twice as many as are wanted the rest is let go."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.size, self.bound = wanted, 0, 1.0
        self._values: list[NDArray[np.int16]] = []
        self._classes: list[NDArray[np.int64]] = []
        self._keys: list[NDArray[np.float64]] = []

    def add(self, values: NDArray[np.int16], classes: NDArray[np.int64], keys: NDArray[np.float64]) -> None:
        """Add pixels whose keys are below the bound."""
        self._values.append(values)
        self._classes.append(classes)
        self._keys.append(keys)
        self.size += classes.size
        if self.size > 2 * self.wanted:
            self._cut()

    def pixels(self) -> TreePixels:
        """As many as are wanted, in the order in which they came."""
        self._cut()
        return TreePixels(np.ascontiguousarray(self._values[0]), self._classes[0])

    def _cut(self) -> None:
        values, classes = np.concatenate(self._values, axis=1), np.concatenate(self._classes)
        keys = np.concatenate(self._keys)
        if keys.size > self.wanted:
            kept = np.sort(np.argpartition(keys, self.wanted)[: self.wanted])
            values, classes, keys = values[:, kept], classes[kept], keys[kept]
            self.bound = float(keys.max())
        self._values, self._classes, self._keys, self.size = [values], [classes], [keys], classes.size


def _hide_dates(
    image: NDArray[np.float32], labels: NDArray[np.int64], dates: Sequence[int], rng: np.random.Generator
) -> None:
    """Hide some dates of a patch, but not all, in place; pixels without any date left lose their label."""
    of_band = np.array(dates)
    chances = rng.random(of_band.max() + 1)
    hidden = (chances < HIDDEN_DATES) & (np.arange(len(chances)) != chances.argmax())
    if not hidden.any():
        return
    image[np.isin(of_band, np.flatnonzero(hidden))] = 0
    margin = (image.shape[-1] - labels.shape[-1]) // 2
    inner = slice(margin, margin + labels.shape[-1])
    labels[(image[of_band != STATIC][:, inner, inner] == 0).all(0)] = IGNORE


def crop_features(
    image: NDArray[np.float32], spec: FeatureSpec, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.int16]:
    """Features of an image without its margin, (features, rows, cols)."""
    margin = spec.margin_px
    inner = slice(margin, image.shape[0] - margin)
    features = compute_features(image, spec, mean.astype(np.float32), std.astype(np.float32), rows=inner)
    return features[:, :, margin : image.shape[1] - margin]
