"""The torch dataset of a patch table: windows read on demand."""

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
from tesela.core.grid import window_grid
from tesela.core.legend import IGNORE
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.maps import ClassMap, MapReader
from tesela.io.scenes import SceneReader
from tesela.patches.table import PatchTable


class Patch(NamedTuple):
    """One patch, as input of a network."""

    image: Tensor
    """(bands, size, size) float32, standardised, with a margin on each side where one is asked for; 0 without data."""
    labels: Tensor
    """(size, size) int64, positions in the legend; 255 is ignored."""


class PatchDataset(Dataset[Patch]):
    """
    Patches of one split.

    Imagery is standardised by band, ``(x - mean) / std``. Pixels without data have no label: those that lack a band;
    with `dates` (the number of the date of each band) those without a complete date. Each process opens its own
    files. Training keeps the patches in memory (`training.segmentation.data`) and flips them.
    """

    def __init__(
        self,
        table: PatchTable,
        split: str,
        *,
        bands: Sequence[str] | None = None,
        mean: Sequence[float] | NDArray[np.float64] | None = None,
        std: Sequence[float] | NDArray[np.float64] | None = None,
        dates: Sequence[int] = (),
        margin_px: int = 0,
    ) -> None:
        rows = table.of_split(split)
        self.table = table
        self.split = split
        self.rows = [
            (str(scene), int(row), int(col))
            for scene, row, col in zip(rows["scene"], rows["row"], rows["col"], strict=True)
        ]
        self._windows = _Windows(table, bands, margin_px=margin_px)
        self.bands = self._windows.bands
        self.standardisation = Standardisation.of(self.bands, mean, std, dates)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Patch:
        """Patch by its number in the split."""
        image, labels = self._windows.read(*self.rows[index])
        ready = self.standardisation.apply(image)
        inner = self._windows.inner
        labels[~self.standardisation.complete(image[:, inner, inner]).any(axis=0)] = IGNORE
        return Patch(torch.from_numpy(ready), torch.from_numpy(labels.astype(np.int64)))


def band_statistics(
    table: PatchTable, split: str = "train", *, bands: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Mean and standard deviation of each band over the patches of a split, pixels without data left out.

    One pass, patch by patch, in float64, with the numerically stable update of Chan, Golub and LeVeque (1979).

    Returns
    -------
    (bands,) array of float64, (bands,) array of float64
        A constant band has a deviation of 1, to avoid a division by 0.

    Raises
    ------
    InputError
        If the split has no patch, or a band has no data in any patch.
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
    """Reads the windows of patches; each process opens its own files."""

    def __init__(self, table: PatchTable, bands: Sequence[str] | None, *, margin_px: int = 0) -> None:
        first = next(iter(table.scenes.values()))
        self.bands = first.band_names if bands is None else tuple(bands)
        self._table = table
        self._margin = margin_px
        self._scenes: dict[str, Scene] = {
            name: scene.select(self.bands) for name, scene in table.scenes.items()
        }
        self._owner = os.getpid()
        self._images: dict[str, SceneReader] = {}
        self._maps: dict[str, MapReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": {}, "_maps": {}}

    def read(self, scene: str, row: int, col: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Imagery (bands, size, size), NaN without data; positions in the legend (size, size), 255 without label."""
        image = self.read_image(scene, row, col)
        path = self._table.labels[scene]
        if path not in self._maps:
            grid = self._table.scenes[scene].grid
            self._maps[path] = MapReader(ClassMap(path, grid, self._table.legend))
        values = self._maps[path].read(self._table.grid_of(scene, row, col))
        return image, self._table.legend.index_table[values]

    @property
    def inner(self) -> slice:
        """Rows and columns of an image without its margin."""
        return slice(self._margin, self._margin + self._table.size_px)

    def read_image(self, scene: str, row: int, col: int) -> NDArray[np.float32]:
        """Imagery (bands, size, size), with its margin, NaN without data."""
        if self._owner != os.getpid():  # forked: open files of our own
            self._images, self._maps, self._owner = {}, {}, os.getpid()
        if scene not in self._images:
            self._images[scene] = SceneReader(self._scenes[scene])
        side, margin = self._table.size_px + 2 * self._margin, self._margin
        grid = window_grid(self._table.scenes[scene].grid, row - margin, col - margin, side, side)
        return self._images[scene].read(grid)
