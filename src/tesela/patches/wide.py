"""Patches with a margin whose labels are those of their neighbours in the same split."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.grid import window_grid
from tesela.core.legend import IGNORE
from tesela.io.maps import ClassMap, MapReader
from tesela.patches.dataset import Patch, PatchDataset


class WidePatches:
    """
    Patches with a labelled margin on each side, of which a training cuts one patch at a random place.

    Imagery of the margin is that of the scene. Labels of the margin are those of the pixels that another patch of the
    same split covers too; elsewhere they are 255, so nothing is learned from the area of another split.

    Parameters
    ----------
    patches : PatchDataset
        Made with a margin.
    margin_px : int
        That margin.
    """

    def __init__(self, patches: PatchDataset, *, margin_px: int) -> None:
        self.patches, self.margin_px = patches, margin_px
        self._maps: dict[tuple[int, str], MapReader] = {}
        self._places: dict[str, NDArray[np.int64]] = {}
        for scene in {row[0] for row in patches.rows}:
            self._places[scene] = np.array([row[1:] for row in patches.rows if row[0] == scene], np.int64)

    def __len__(self) -> int:
        return len(self.patches)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def __getitem__(self, index: int) -> Patch:
        """Image (bands, size + 2 margins, size + 2 margins), and its labels likewise."""
        image, inner = self.patches[index]
        table, margin = self.patches.table, self.margin_px
        scene, row, col = self.patches.rows[index]
        side = table.size_px + 2 * margin
        top, left = row - margin, col - margin
        grid = window_grid(table.scenes[scene].grid, top, left, side, side)
        labels = table.legend.index_table[self._map(scene).read(grid)].astype(np.int64)
        covered = np.zeros((side, side), bool)
        places = self._places[scene]
        near = places[np.abs(places - (row, col)).max(1) < table.size_px + margin]
        for starts in (near - (top, left)).tolist():
            rows, cols = (slice(max(start, 0), start + table.size_px) for start in starts)
            covered[rows, cols] = True
        labels[~covered] = IGNORE
        wide = torch.from_numpy(labels)
        wide[(image == 0).all(0)] = IGNORE  # no data, see `Standardisation`
        wide[margin : side - margin, margin : side - margin] = inner
        return Patch(image, wide)

    def _map(self, scene: str) -> MapReader:
        """Reader of a scene's labels; each process opens its own."""
        table = self.patches.table
        key = (os.getpid(), table.labels[scene])
        if key not in self._maps:
            self._maps[key] = MapReader(ClassMap(key[1], table.scenes[scene].grid, table.legend))
        return self._maps[key]
