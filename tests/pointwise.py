"""Scenes, and experts whose output is known pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from tesela.core.legend import LandClass, Legend
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.segmentation.unet import UnetArchitecture

LEGEND = Legend(
    "demo",
    tuple(
        LandClass(value, str(value), f"Class {value}", f"#{value:02d}{value:02d}00") for value in (10, 20, 30)
    ),
)


class Pointwise(torch.nn.Module):
    """A 1 x 1 convolution: its scores at a pixel depend on that pixel only."""

    def __init__(self, bands: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(bands, classes, 1)
        generator = torch.Generator().manual_seed(1)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data = torch.randn(self.layer.bias.shape, generator=generator) * 0.1
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(images)
        return scores


def make_expert(
    network: torch.nn.Module | None = None,
    *,
    legend: Legend = LEGEND,
    architecture: UnetArchitecture | None = None,
) -> Expert:
    header = ExpertHeader(
        architecture=architecture or UnetArchitecture(bands=2, classes=len(legend), encoder="resnet18"),
        legend=legend,
        bands=("red", "nir"),
        mean=(100.0, 50.0),
        std=(30.0, 20.0),
        patch_size_px=64,
        pixel_size_m=10.0,
    )
    return Expert(header, network or Pointwise())


def write_scene(
    path: Path, shape: tuple[int, int], *, nodata_cols: int = 0, **profile: object
) -> NDArray[np.uint8]:
    rows, cols = shape
    image = np.random.default_rng(rows * 7919 + cols).integers(1, 255, (2, rows, cols), np.uint8)
    image[:, :, :nodata_cols] = 0
    options = {"driver": "GTiff", "dtype": "uint8", "count": 2, "height": rows, "width": cols, "nodata": 0}
    options |= {"crs": "EPSG:25830", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 4100000)}
    with rasterio.open(path, "w", **(options | profile)) as data:
        data.write(image)
        data.descriptions = ("red", "nir")
    return image


def expected_map(image: NDArray[np.uint8], expert: Expert) -> NDArray[np.uint8]:
    scaled = (image.astype(np.float32) - np.array([100, 50], np.float32)[:, None, None]) / np.array(
        [30, 20], np.float32
    )[:, None, None]
    scores = expert.network(torch.from_numpy(scaled)[None])[0].numpy()
    values = LEGEND.value_table[scores.argmax(0)]
    return np.where((image > 0).all(0), values, 0).astype(np.uint8)


def read_map(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as data:
        values: NDArray[np.uint8] = data.read(1)
    return values
