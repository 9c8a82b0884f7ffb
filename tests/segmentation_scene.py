"""A small scene for tests of segmentation: squares of classes by colour, as patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.legend import LandClass, Legend
from tesela.io.maps import write_map
from tesela.io.scenes import open_scene
from tesela.patches.table import PatchTable, make_patches
from tesela.training.segmentation.settings import SegmentationSettings

LEGEND = Legend(
    "three",
    (
        LandClass(10, "w", "Water", "#0000ff"),
        LandClass(20, "f", "Forest", "#00aa00"),
        LandClass(30, "b", "Bare", "#aaaaaa"),
        LandClass(40, "s", "Snow", "#ffffff"),
    ),
)
QUICK = SegmentationSettings(
    model="unet",
    encoder="tu-mobilenetv3_small_050",
    decoder="small",
    epochs=4,
    batch_size=4,
    seed=3,
    learning_rate=3e-3,
)


def make_patch_table(folder: Path, *, size_px: int = 32, seed: int = 0) -> PatchTable:
    """A scene of three classes in squares of 8 px, each of its own colour under noise; Snow is nowhere."""
    import rasterio

    rng = np.random.default_rng(seed)
    rows, cols = 4 * size_px, 6 * size_px
    classes = np.kron(rng.integers(0, 3, (rows // 8, cols // 8)), np.ones((8, 8), int))
    colours = np.array([[0.1, 0.1], [0.2, 0.8], [0.9, 0.5]])
    image = (colours[classes] + rng.normal(0, 0.05, (rows, cols, 2))).transpose(2, 0, 1).astype(np.float32)
    image[:, :3, :5] = np.nan
    grid = GeoBox((rows, cols), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:32630")
    path = folder / "scene.tif"
    folder.mkdir(exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=cols,
        height=rows,
        count=2,
        dtype="float32",
        crs="EPSG:32630",
        transform=rasterio.Affine(*list(grid.affine)[:6]),
        nodata=float("nan"),
    ) as file:
        file.write(image)
        file.descriptions = ("red", "nir")
    labels = np.array(LEGEND.values, np.uint8)[classes]
    labels[-4:, -4:] = 0
    reference = write_map(folder / "labels.tif", labels, grid, legend=LEGEND)
    table = make_patches([open_scene(path)], [reference], size_px=size_px)
    splits = ["val" if number % 4 == 3 else "train" for number in range(len(table))]
    return table.with_splits(splits)
