"""The torch dataset of a patch table: windows read when asked for, turned and flipped for training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.io.maps import ClassMap, MapReader
from tesela.io.scenes import SceneReader
from tesela.patches.table import PatchTable

IGNORE = 255
"""Label of pixels that neither teach nor judge: without class, or without imagery in a band."""


class Patch(NamedTuple):
    """One patch, as a network takes it."""

    image: Tensor
    """(bands, size, size) float32, standardised; 0 where there is no data."""
    labels: Tensor
    """(size, size) int64, positions in the legend; 255 is to be ignored."""


class PatchDataset(Dataset[Patch]):
    """
    Patches of one split.

    Imagery is standardised by band, ``(x - mean) / std``. With `augment`, each patch is shown in one of the
    eight positions of a square, a little brighter or darker and of a little more or less contrast; which,
    depends on the seed, the patch and how often it was shown, and not on the number of workers.

    Each process opens its own files. A split that fits into `cache_mib` is read once and kept; call `load`
    before workers are forked to have them share it.
    """

    def __init__(
        self,
        table: PatchTable,
        split: str,
        *,
        bands: Sequence[str] | None = None,
        mean: Sequence[float] | NDArray[np.float64] | None = None,
        std: Sequence[float] | NDArray[np.float64] | None = None,
        augment: bool = False,
        seed: int = 0,
        cache_mib: float = 512.0,
    ) -> None:
        rows = table.of_split(split)
        self.table = table
        self.split = split
        self.rows = [
            (str(scene), int(row), int(col))
            for scene, row, col in zip(rows["scene"], rows["row"], rows["col"], strict=True)
        ]
        self._windows = _Windows(table, bands)
        self.bands = self._windows.bands
        self.mean = _per_band(mean, len(self.bands), default=0.0)
        self.std = _per_band(std, len(self.bands), default=1.0)
        self.augment = augment
        self.seed = seed
        patch_mib = table.size_px**2 * (4 * len(self.bands) + 1) / 2**20
        self._cache: dict[int, tuple[NDArray[np.float32], NDArray[np.uint8]]] | None = (
            {} if patch_mib * len(self.rows) <= cache_mib else None
        )
        self._shown: Tensor = torch.zeros(len(self.rows), dtype=torch.int64)
        self._shown.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Patch:
        """Patch by its number in the split."""
        image, labels = self._standardised(index)
        if self.augment:
            shown = int(self._shown[index])
            self._shown[index] += 1
            image, labels = vary(image, labels, np.random.default_rng([self.seed, index, shown]))
        ready = np.where(np.isfinite(image), image, np.float32(0))
        return Patch(torch.from_numpy(ready), torch.from_numpy(labels.astype(np.int64)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache to the process that filled it: workers that are spawned read for themselves."""
        return self.__dict__ | {"_cache": None if self._cache is None else {}}

    def set_epoch(self, epoch: int) -> None:
        """Go on as if every patch had been shown `epoch` times: resumed training sees what it would have."""
        self._shown.fill_(epoch)

    def load(self) -> None:
        """Read the whole split into memory, if it fits."""
        if self._cache is not None:
            for index in range(len(self)):
                self._standardised(index)

    @property
    def class_pixels(self) -> NDArray[np.int64]:
        """Labelled pixels by class, (classes,) int64, from the shares in the table."""
        return self.table.class_pixels(self.split)

    def _standardised(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image, labels = self._windows.read(*self.rows[index])
        image = (image - self.mean) / self.std
        if self._cache is not None:
            self._cache[index] = image, labels
        return image, labels


def vary(
    image: NDArray[np.float32],
    labels: NDArray[np.uint8],
    generator: np.random.Generator,
    *,
    brightness: float = 0.1,
    contrast: float = 0.1,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """
    Show a patch in another position and another light.

    One of the eight positions of a square (four turns, flipped or not), then ``x (1 + c) + b`` with *c* and
    *b* drawn evenly from plus and minus the limits; *b* is in standard deviations, the same for all bands.

    Parameters
    ----------
    image : (bands, size, size) array of float32
        Standardised; NaN stays NaN.
    labels : (size, size) array of uint8
    """
    turns, flip = int(generator.integers(4)), bool(generator.integers(2))
    gain, shift = generator.uniform(-contrast, contrast), generator.uniform(-brightness, brightness)
    image, labels = np.rot90(image, turns, axes=(1, 2)), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, :, ::-1], labels[:, ::-1]
    return image * np.float32(1 + gain) + np.float32(shift), np.ascontiguousarray(labels)


def band_statistics(
    table: PatchTable, split: str = "train", *, bands: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Mean and standard deviation of each band over the patches of a split, pixels without data left out.

    One pass, patch by patch, in float64 and by the update of Chan, Golub and LeVeque (1979), which does not
    cancel.

    Returns
    -------
    (bands,) array of float64, (bands,) array of float64
        A band that is the same everywhere has a deviation of 1, so that dividing by it is harmless.

    Raises
    ------
    InputError
        If the split has no patch, or a band holds no data in any.
    """
    windows = _Windows(table, bands)
    size = len(windows.bands)
    count, mean, square = np.zeros(size), np.zeros(size), np.zeros(size)
    rows = table.of_split(split)
    for scene, row, col in zip(rows["scene"], rows["row"], rows["col"], strict=True):
        image = windows.read_image(str(scene), int(row), int(col)).reshape(size, -1).astype(np.float64)
        valid = np.isfinite(image)
        n = valid.sum(axis=1)
        own = np.where(valid, image, 0).sum(axis=1) / np.maximum(n, 1)
        spread = (np.where(valid, image - own[:, None], 0) ** 2).sum(axis=1)
        total = np.maximum(count + n, 1)
        square += spread + (own - mean) ** 2 * count * n / total
        mean += (own - mean) * n / total
        count += n
    if not count.all():
        empty = windows.bands[int(np.flatnonzero(count == 0)[0])]
        raise InputError(
            f"Band '{empty}' has no data in any patch of split '{split}'. Leave it out, or check its nodata "
            "value."
        )
    std = np.sqrt(square / count)
    return mean, np.where(std > 0, std, 1.0)


class _Windows:
    """Reads the windows of patches; each process opens its own files, and none travels to another process."""

    def __init__(self, table: PatchTable, bands: Sequence[str] | None) -> None:
        first = next(iter(table.scenes.values()))
        self.bands = first.band_names if bands is None else tuple(bands)
        self._table = table
        self._scenes: dict[str, Scene] = {
            name: scene.select(self.bands) for name, scene in table.scenes.items()
        }
        self._owner = os.getpid()
        self._images: dict[str, SceneReader] = {}
        self._maps: dict[str, MapReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": {}, "_maps": {}}

    def read(self, scene: str, row: int, col: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Imagery (bands, size, size); positions in the legend (size, size), 255 to ignore."""
        image = self.read_image(scene, row, col)
        path = self._table.labels[scene]
        if path not in self._maps:
            grid = self._table.scenes[scene].grid
            self._maps[path] = MapReader(ClassMap(path, grid, self._table.legend))
        values = self._maps[path].read(self._table.grid_of(scene, row, col))
        labels = self._table.legend.index_table[values]
        labels[~np.isfinite(image).all(axis=0)] = IGNORE
        return image, labels

    def read_image(self, scene: str, row: int, col: int) -> NDArray[np.float32]:
        """Imagery (bands, size, size), NaN without data."""
        if self._owner != os.getpid():  # forked: the parent's files are not ours
            self._images, self._maps, self._owner = {}, {}, os.getpid()
        if scene not in self._images:
            self._images[scene] = SceneReader(self._scenes[scene])
        return self._images[scene].read(self._table.grid_of(scene, row, col))


def _per_band(
    values: Sequence[float] | NDArray[np.float64] | None, count: int, *, default: float
) -> NDArray[np.float32]:
    found = np.full(count, default) if values is None else np.asarray(values, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise InputError(
            f"Mean and deviation hold {found.size} numbers; one finite number for each of {count} bands is "
            "needed."
        )
    return found.astype(np.float32)[:, None, None]
