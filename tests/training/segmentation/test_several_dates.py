"""Trainings on several dates with gaps: they learn, resume with the same bytes, and map pixels with one date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from segmentation_scene import LEGEND, QUICK
from tesela.core.scene import Scene
from tesela.io.maps import write_map
from tesela.io.scenes import open_scene
from tesela.mapping.predict import predict_map
from tesela.models.expert import open_expert
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable, make_patches
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.task import SegmentationTask
from tesela.training.segmentation.train import train_segmentation

pytestmark = pytest.mark.slow
DATES = ("2018-04-11", "2018-07-02", "2018-09-20")
CURVES = np.array([[0.2, 0.8, 0.2], [0.7, 0.3, 0.7], [0.4, 0.4, 0.9]])
"""A band of each class by date."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_scene(folder: Path, *, seed: int = 0) -> tuple[Scene, np.ndarray, np.ndarray]:
    """Squares of three classes, an image file of each date, a third of each date hidden by squares of cloud."""
    rng = np.random.default_rng(seed)
    rows, cols = 192, 256
    classes = np.kron(rng.integers(0, 3, (rows // 8, cols // 8)), np.ones((8, 8), int))
    clouds = np.array([np.kron(rng.random((12, 16)) < 1 / 3, np.ones((16, 16), bool)) for _ in DATES])
    grid = GeoBox((rows, cols), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:32630")
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": 2, "dtype": "float32"}
    profile |= {"crs": "EPSG:32630", "transform": grid.affine, "nodata": float("nan")}
    folder.mkdir(exist_ok=True)
    files = []
    for number, date in enumerate(DATES):
        band = CURVES[classes, number]
        image = np.stack([band, 1 - band]) + rng.normal(0, 0.1, (2, rows, cols))
        image[:, clouds[number]] = np.nan
        files.append(folder / f"{date}.tif")
        with rasterio.open(files[-1], "w", **profile) as data:
            data.write(image.astype(np.float32))
    return replace(open_scene(files, bands=["red", "nir"], dates=DATES), name="area"), classes, clouds


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    folder = tmp_path_factory.mktemp("dates")
    scene, classes, _ = make_scene(folder)
    labels = write_map(
        folder / "labels.tif", np.array(LEGEND.values, np.uint8)[classes], scene.grid, legend=LEGEND
    )
    made = make_patches([scene], [labels], size_px=64)
    assert len(made) == 12  # clouds leave no patch out
    return made.with_splits(["val" if number % 4 == 3 else "train" for number in range(len(made))])


DATED = replace(QUICK, model="unet_dates", encoder="tu-resnet10t", epochs=30, patience=0, ema=0.9, prior=0.0)


def test_labels_count_where_one_date_has_data(table: PatchTable, tmp_path: Path) -> None:
    dates = (0, 0, 1, 1, 2, 2)
    gaps = PatchDataset(table, "train", dates=dates)
    strict = PatchDataset(table, "train")
    _, _, clouds = make_scene(tmp_path)
    some = sum(int((gaps[index].labels != 255).sum()) for index in range(len(gaps)))
    every = sum(int((strict[index].labels != 255).sum()) for index in range(len(strict)))
    whole = np.concatenate([(~clouds.all(0)).ravel(), (~clouds.any(0)).ravel()])
    assert every < some < whole[: whole.size // 2].sum()
    assert some / every == pytest.approx(
        whole[: whole.size // 2].sum() / whole[whole.size // 2 :].sum(), rel=0.2
    )


@pytest.mark.parametrize(
    "settings", [DATED, SegmentationSettings(model="boosting", trees=40, window_sides_px=(3,), pixels=8000)]
)
def test_an_expert_of_several_dates_maps_pixels_that_have_one(
    table: PatchTable, tmp_path: Path, settings: SegmentationSettings
) -> None:
    expert = open_expert(train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True))
    assert expert.header.standardisation.dates == (0, 0, 1, 1, 2, 2)
    scene, classes, clouds = make_scene(tmp_path / "new", seed=1)
    made = predict_map(expert, scene, tmp_path / "map.tif", engine="torch", window_px=128, overlap_px=32)
    with rasterio.open(made.map.path) as data:
        values = data.read(1)
    assert ((values == 0) == clouds.all(0)).all(), "mapped where a date has data, and nowhere else"
    right = values == np.array(LEGEND.values)[classes]
    number = (~clouds).sum(0)
    assert right[number == 3].mean() > 0.8
    assert right[number == 1].mean() > 0.5


def test_an_interrupted_training_of_dates_ends_with_the_same_bytes(
    table: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(DATED, epochs=4, encoder="tu-mobilenetv3_small_050")
    whole = train_segmentation(table, tmp_path / "whole" / "a.safetensors", settings=settings, quiet=True)
    out, plain, begun = tmp_path / "cut" / "a.safetensors", SegmentationTask.on_train_epoch_start, []

    def interrupt(self: SegmentationTask) -> None:
        begun.append(self.current_epoch)
        if len(begun) == 3:
            raise KeyboardInterrupt("stopped")
        plain(self)

    monkeypatch.setattr("tesela.training.shell.TrainingFolder.is_due", True)
    monkeypatch.setattr(SegmentationTask, "on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT011 - it has no message
        train_segmentation(table, out, settings=settings, quiet=True)
    assert not out.exists()
    train_segmentation(table, out, settings=settings, quiet=True)
    assert begun == [0, 1, 2, 2, 3]
    assert out.read_bytes() == whole.read_bytes()
