"""Scenes and networks to map with."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from tesela.core.legend import LandClass, Legend
from tesela.io.legends import open_legend
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.segmentation.unet import DECODER_CHANNELS, UnetArchitecture

CLASSES = 12
BANDS = ("B04", "B08", "B11")
LEGEND = Legend(
    "bench",
    tuple(LandClass(value, str(value), f"Class {value}", f"#10{value * 20:02x}40") for value in range(1, 13)),
)


class Pointwise(torch.nn.Module):
    """A 1 x 1 convolution: a network that costs next to nothing, so that the pipeline shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, CLASSES, 1).requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(images)
        return scores


def pointwise_expert() -> Expert:
    return Expert(
        header(UnetArchitecture(3, CLASSES), mean=(125.0,) * 3, std=(45.0,) * 3), Pointwise().eval()
    )


def header(
    architecture: UnetArchitecture,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    legend: Legend = LEGEND,
) -> ExpertHeader:
    return ExpertHeader(
        architecture=architecture,
        legend=legend,
        bands=BANDS,
        mean=mean,
        std=std,
        patch_size_px=256,
        pixel_size_m=0,
    )


def write_texture(path: Path, rows: int, cols: int) -> Path:
    """A scene of three uint8 bands, deflated, pixel by pixel: noise on several scales, repeated every 2048 px."""
    random = np.random.default_rng(0)
    field = np.zeros((3, 2048, 2048), np.float32)
    for cell in (4, 16, 64):
        coarse = random.standard_normal((3, 2048 // cell, 2048 // cell)).astype(np.float32)
        field += np.sqrt(cell) * np.repeat(np.repeat(coarse, cell, 1), cell, 2)
    field = field / field.std() * 45 + 125 + 4 * random.standard_normal(field.shape).astype(np.float32)
    tile = field.clip(1, 255).astype(np.uint8)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "height": rows,
        "width": cols,
        "crs": "EPSG:25830",
    }
    profile |= {
        "transform": rasterio.Affine(0.25, 0, 5e5, 0, -0.25, 4.1e6),
        "tiled": True,
        "compress": "deflate",
    }
    with rasterio.open(
        path, "w", blockxsize=512, blockysize=512, interleave="pixel", BIGTIFF="IF_SAFER", **profile
    ) as data:
        data.descriptions = BANDS
        for row in range(0, rows, 2048):
            for col in range(0, cols, 2048):
                part = tile[:, : min(2048, rows - row), : min(2048, cols - col)]
                data.write(part, window=Window(col, row, part.shape[2], part.shape[1]))
    return path


@dataclass(frozen=True)
class Ground:
    """A virtual region: bands and truth as arrays."""

    image: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    """Positions of classes, 0 to 11."""


def make_ground(size_px: int, *, seed: int) -> Ground:
    """Three bands of July of the virtual region, and its frequent classes."""
    from tesela.simulate.region.landscape import make_landscape
    from tesela.simulate.region.sensors import simulate_image
    from tesela.simulate.region.spectra import BANDS as ALL
    from tesela.simulate.region.surface import lay_surface

    landscape = make_landscape(size_px=size_px, seed=seed)
    image = simulate_image(landscape, "july", surface=lay_surface(landscape), clouds="none")
    found = np.asarray(image.values)[[list(ALL).index(band) for band in BANDS]]
    # the order of the classes must not depend on the region
    table = np.full(256, CLASSES - 1, np.uint8)
    levels = open_legend("corine-3")
    for item in levels.classes:
        code = levels.ancestor(item.code, 2).code
        if code in FREQUENT:
            table[item.value] = FREQUENT.index(code)
    return Ground(np.maximum(found, 1).astype(np.uint16), table[landscape.truth])


FREQUENT = ("11", "12", "13", "21", "22", "24", "31", "32", "33", "51", "52")
"""Codes of CORINE's level 2 that the virtual region has much of; all others are the twelfth class."""


def write_scene(path: Path, image: NDArray[np.uint16]) -> Path:
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 3,
        "height": image.shape[1],
        "width": image.shape[2],
    }
    profile |= {"crs": "EPSG:25830", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.1e6), "tiled": True}
    with rasterio.open(
        path, "w", blockxsize=512, blockysize=512, compress="deflate", nodata=0, **profile
    ) as data:
        data.descriptions = BANDS
        data.write(image)
    return path


def mirrored(array: NDArray[np.generic], times: int) -> NDArray[np.generic]:
    """The last two axes repeated so many times, every other copy mirrored, so that no edge shows."""
    for axis in (-2, -1):
        copies = [array if number % 2 == 0 else np.flip(array, axis) for number in range(times)]
        array = np.concatenate(copies, axis)
    return array


def trained_expert(work: Path, *, steps: int, size_px: int = 1024, encoder: str = "resnet50") -> Expert:
    """
    A U-Net trained on the virtual region; kept in the work folder.

    It sees some steps of crops of 128 px of one ground, then half as many of 256 px of eight grounds: a network that
    has learnt one ground by heart, or never seen more context than 128 px, answers in large windows to what it was
    not taught.
    """
    path = trained_file(work, steps, encoder)
    if not path.exists():
        architecture = UnetArchitecture(3, CLASSES, encoder=encoder)
        first = path.with_name(f"{path.stem}-128px.safetensors")
        if not first.exists():
            save_expert(first, train(make_ground(size_px, seed=1), architecture, steps=steps))
        taught = open_expert(first).network
        grounds = [make_ground(size_px, seed=seed) for seed in (1, *range(3, 10))]
        ground = Ground(*(np.concatenate(parts, -1) for parts in zip(*map(astuple, grounds), strict=True)))
        wide = train(ground, architecture, steps=steps // 2, start=taught, side_px=256, batch=4, rate=5e-4)
        save_expert(path, wide)
    return open_expert(path)


def trained_file(work: Path, steps: int, encoder: str = "resnet50") -> Path:
    """Where `trained_expert` keeps its network."""
    return work / f"{encoder}-{steps}.safetensors"


def train(
    ground: Ground,
    architecture: UnetArchitecture,
    *,
    steps: int,
    legend: Legend = LEGEND,
    labels: NDArray[np.uint8] | None = None,
    start: torch.nn.Module | None = None,
    side_px: int = 128,
    batch: int = 8,
    rate: float = 1e-3,
) -> Expert:
    """Train on random crops in bf16, from random weights or those of `start`."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = architecture.build().to(memory_format=torch.channels_last)
    if start is not None:
        network.load_state_dict(start.state_dict())
    mean = tuple(float(each) for each in ground.image.mean((1, 2)))
    std = tuple(float(each) for each in ground.image.std((1, 2)))
    scaled = (ground.image - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    scaled, truth = scaled.astype(np.float32), (ground.truth if labels is None else labels).astype(np.int64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        corners = random.integers(0, np.array(truth.shape) - side_px, (batch, 2))
        images = np.stack([scaled[:, r : r + side_px, c : c + side_px] for r, c in corners])
        answers = np.stack([truth[r : r + side_px, c : c + side_px] for r, c in corners])
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.cross_entropy(scores.float(), torch.from_numpy(answers), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)
    return Expert(header(architecture, mean=mean, std=std, legend=legend), network)


__all__ = [
    "BANDS",
    "CLASSES",
    "DECODER_CHANNELS",
    "LEGEND",
    "Ground",
    "header",
    "make_ground",
    "mirrored",
    "pointwise_expert",
    "train",
    "trained_expert",
    "write_scene",
    "write_texture",
]
