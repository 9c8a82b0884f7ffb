"""Peers: how the same work is done without Tesela."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from rasterio.windows import Window


def rasterio_loop(
    network: torch.nn.Module,
    scene: Path,
    out: Path,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    window_px: int = 512,
    overlap_px: int = 128,
) -> None:
    """
    The loop that most scripts have: read a window, scale it, run the network in fp32, argmax, crop, write; then
    overviews by GDAL as it makes a COG of the result.
    """
    margin = overlap_px // 2
    step = window_px - overlap_px
    network = network.eval().to(memory_format=torch.channels_last)
    tiles = out.with_suffix(".tiles.tif")
    with rasterio.open(scene) as data:
        rows, cols = data.shape
        profile = data.profile | {
            "count": 1,
            "dtype": "uint8",
            "nodata": 0,
            "compress": "lzw",
            "interleave": "band",
        }
        with rasterio.open(
            tiles, "w", **(profile | {"tiled": True, "blockxsize": 512, "blockysize": 512})
        ) as target:
            target.write_colormap(1, {value: (value, 0, 0, 255) for value in range(256)})
            for row in range(0, rows, step):
                for col in range(0, cols, step):
                    answer = _answer(network, data, (row, col), margin, window_px, mean, std)
                    keep = answer[
                        margin : margin + min(step, rows - row), margin : margin + min(step, cols - col)
                    ]
                    target.write(keep, 1, window=Window(col, row, keep.shape[1], keep.shape[0]))
    rasterio.shutil.copy(tiles, out, driver="COG", compress="deflate", overview_resampling="mode")
    tiles.unlink()


def _answer(
    network: torch.nn.Module,
    data: rasterio.DatasetReader,
    corner: tuple[int, int],
    margin: int,
    window_px: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> NDArray[np.uint8]:
    place = Window(corner[1] - margin, corner[0] - margin, window_px, window_px)
    image = data.read(window=place, boundless=True, fill_value=0).astype(np.float32)
    image = (image - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    with torch.inference_mode():
        batch = torch.from_numpy(image)[None].contiguous(memory_format=torch.channels_last)
        found: NDArray[np.uint8] = (network(batch)[0].argmax(0) + 1).to(torch.uint8).numpy()
    return found
