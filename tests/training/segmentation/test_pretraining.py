"""Pretraining without labels: which pixels it sees, what its loss counts, that it resumes, and that it is a start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from safetensors import safe_open
from torch import nn

from segmentation_scene import QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.models.segmentation.unet import make_unet
from tesela.models.segmentation.weights import read_weights
from tesela.patches.unlabelled import read_windows
from tesela.training.segmentation import pretraining
from tesela.training.segmentation.pretraining import SQUARE_PX, MaskedReconstruction, pretrain_encoder

SETTINGS = replace(QUICK, precision="fp32", accelerator="cpu", batch_size=8)
SCALE = Standardisation(("red", "nir"), (0.4, 0.5), (0.3, 0.3))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return next(iter(make_patch_table(tmp_path_factory.mktemp("scene")).scenes.values()))


def areas(scene: Scene, cols: slice) -> gpd.GeoDataFrame:
    """Some columns of the scene, in geographic coordinates."""
    left, bottom, _, top = scene.grid.boundingbox
    step = abs(scene.grid.resolution.x)
    box = shapely.box(left + cols.start * step, bottom, left + cols.stop * step, top)
    return gpd.GeoDataFrame(geometry=[box], crs=str(scene.grid.crs)).to_crs("EPSG:4326")


# ---- windows ------------------------------------------------------------------------------------------


def test_pixels_of_areas_left_out_are_in_no_window(tmp_path: Path, scene: Scene) -> None:
    with rasterio.open(scene.bands[0].path) as data:
        image, profile = data.read(), data.profile
    image[:, :, 100:160] = 777.0
    path = tmp_path / "marked.tif"
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)
    bands = tuple(replace(band, path=str(path)) for band in scene.bands)
    marked = replace(scene, bands=bands)
    everything = read_windows([marked], SCALE, size_px=32, seed=0)
    assert (everything.images > 100).any()
    windows = read_windows([marked], SCALE, size_px=32, seed=0, left_out=areas(scene, slice(99, 161)))
    assert windows.images.max() < 10
    assert 0 < len(windows) < len(everything)
    hidden = ~windows.valid[:, None].repeat(2, 1)
    assert (windows.images[hidden] == 0).all()
    assert windows.valid.mean((1, 2)).min() >= 0.5


def test_without_a_window_one_line_says_what_to_do(scene: Scene) -> None:
    with pytest.raises(InputError, match=r"No window of 32 px of scene has data .* outside the test area"):
        read_windows([scene], SCALE, size_px=32, seed=0, left_out=areas(scene, slice(-2, 400)))


# ---- the loss -----------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Predicts the same everywhere, and remembers what it was shown."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.encoder = value, nn.Identity()
        self.shown = torch.zeros(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown = images
        return torch.full_like(images, self.value)


def test_the_loss_is_the_error_of_hidden_pixels_with_data() -> None:
    images = torch.full((4, 2, 32, 32), 2.0)
    valid = torch.ones(4, 32, 32, dtype=torch.bool)
    images[:, :, :8] = 0.0
    valid[:, :8] = False
    network = Constant(0.5)
    loss = MaskedReconstruction(network).loss(images, valid, np.random.default_rng(0))
    assert float(loss) == pytest.approx(1.5), "pixels without data, off by 0.5, do not count"
    hidden = network.shown[:, 0, 8:] == 0
    assert 0.3 < float(hidden.float().mean()) < 0.7
    squares = hidden.reshape(4, 3, SQUARE_PX, 4, SQUARE_PX)
    assert torch.equal(squares.all(4).all(2), squares.any(4).any(2)), "whole squares are hidden"


# ---- the training -------------------------------------------------------------------------------------


def pretrain(scene: Scene, out: Path, **keys: object) -> Path:
    options = {
        "settings": SETTINGS,
        "standardisation": SCALE,
        "size_px": 32,
        "budget": "1 min",
        "quiet": True,
    }
    return pretrain_encoder([scene], out, **(options | keys))  # type: ignore[arg-type]


def set_steps(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(pretraining, "_count_steps", lambda *_: steps)


def test_an_interrupted_pretraining_resumes_and_ends_with_the_same_bytes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_steps(monkeypatch, 6)
    whole = pretrain(scene, tmp_path / "whole" / "start.safetensors")
    plain = MaskedReconstruction.loss
    calls = []

    def interrupt(self: MaskedReconstruction, *arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt("stop")
        return plain(self, *arguments)  # type: ignore[arg-type]

    out = tmp_path / "resumed" / "start.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("tesela.training.shell.TrainingFolder.is_due", True)
        patch.setattr(MaskedReconstruction, "loss", interrupt)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            pretrain(scene, out)
        assert not out.exists()
        calls += [1] * 10
        pretrain(scene, out)
    assert len(calls) == 4 + 10 + 3, "the three finished steps are not repeated"
    assert out.read_bytes() == whole.read_bytes()
    assert not (out.parent / ".training").exists()


def test_a_start_fits_the_encoder_and_states_its_bands(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_steps(monkeypatch, 25)
    losses = []
    plain = MaskedReconstruction.loss

    def record(self: MaskedReconstruction, *arguments: object) -> torch.Tensor:
        loss = plain(self, *arguments)  # type: ignore[arg-type]
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(MaskedReconstruction, "loss", record)
    out = pretrain(scene, tmp_path / "start.safetensors")
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    with safe_open(out, framework="pt") as file:
        facts = json.loads(file.metadata()["meta"])
    assert facts["bands"] == ["red", "nir"]
    assert facts["encoder"] == SETTINGS.encoder
    assert facts["areas_left_out"] == 0
    tensors = read_weights(out)
    network = make_unet(encoder=SETTINGS.encoder, bands=2, classes=4, weights=out, band_names=("nir", "red"))
    state = network.encoder.state_dict()
    stem = next(name for name in state if state[name].ndim == 4)
    assert torch.equal(state[stem], tensors[stem].flip(1)), "bands in another order are put in order"
    assert all(torch.equal(state[name], tensors[name]) for name in state if name != stem)


def test_trees_cannot_be_pretrained(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"A model 'boosting' has no encoder to pretrain\. Take unet or auto"
    ):
        pretrain(scene, tmp_path / "start.safetensors", settings=replace(SETTINGS, model="boosting"))


def test_a_budget_is_nearly_kept(scene: Scene, tmp_path: Path) -> None:
    import time

    begun = time.process_time()
    pretrain(scene, tmp_path / "start.safetensors", budget="3 s")
    assert time.process_time() - begun < 6
