"""Engines: all return the same scores, and the fastest is chosen."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pointwise import LEGEND, Pointwise, expected_map, make_expert, read_map, write_scene
from tesela.core.errors import RecipeError
from tesela.core.machine import steady_memory
from tesela.io.scenes import open_scene
from tesela.mapping.augmentation import FlippedEngine
from tesela.mapping.engine_benchmark import choose_engine
from tesela.mapping.engines import KINDS, make_engine
from tesela.mapping.numerics import keep_fine_exact
from tesela.mapping.predict import predict_map
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import Feature, FeatureSpec
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.unet import UnetArchitecture, make_unet

NAMES = [f"{kind}-{precision}" for kind, item in KINDS.items() for precision in item.precisions]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    channels = (16, 16, 8, 8, 8)
    made = make_unet(encoder="resnet18", bands=2, classes=5, decoder_channels=channels)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NAMES)
def test_all_engines_give_the_scores_of_the_network(network: torch.nn.Module, name: str) -> None:
    kind, _, precision = name.partition("-")
    if KINDS[kind].missing():
        pytest.skip(KINDS[kind].missing())
    if kind == "compile" and precision == "bf16":
        pytest.skip("torch's compiler takes a minute for each precision; fp32 covers both")
    images = np.random.default_rng(0).standard_normal((1, 64, 96, 2), np.float32)
    expected = network(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    engine = make_engine(network, name)
    assert engine.name == name
    scores = engine.scores(images)
    assert scores.shape == (1, 64, 96, 5)
    assert scores.dtype == np.float32
    assert (engine.classes(images) == scores.argmax(-1)).all()
    tolerance = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}[precision] * float(np.abs(expected).max())
    assert np.abs(scores - expected).max() < tolerance


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("cuda", "compile"))])
def test_members_of_a_fused_expert_run_by_themselves(network: torch.nn.Module, name: str) -> None:
    """The engine compiles the network as it is alone, and adds the scores of the trees."""
    if KINDS[name.partition("-")[0]].missing():
        pytest.skip(KINDS[name.partition("-")[0]].missing())
    spec = FeatureSpec(2, (), (Feature(0, "value"), Feature(1, "mean", 3)))
    trees = ClassTreesArchitecture(2, 5, "boosting", 1, 2, 0, spec)
    built = trees.build()
    built.fill({"feature": np.array([[0, 1]]), "leaf": np.arange(20, dtype=np.float32).reshape(1, 4, 5) / 4})
    unet = UnetArchitecture(2, 5, "resnet18", (16, 16, 8, 8, 8))
    fused = FusedNetwork(FusedArchitecture((unet, trees)), [network, built])
    fused.weight.copy_(torch.tensor([0.5, 1.25]))
    images = np.random.default_rng(0).standard_normal((1, 64, 96, 2), np.float32)
    alone = make_engine(network, name).scores(images)
    engine = make_engine(fused, name)
    assert fused.traceable
    assert engine.name == name
    parts = (torch.from_numpy(alone), torch.from_numpy(built.scores(images[0])[None]))
    expected = sum(w * torch.log_softmax(part, -1) for w, part in zip((0.5, 1.25), parts, strict=True))
    scores = engine.scores(images)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)
    assert (engine.classes(images) == scores.argmax(-1)).all()


def test_in_bf16_the_convolutions_next_to_the_image_stay_fp32(network: torch.nn.Module) -> None:
    exact = keep_fine_exact(network, 2)
    kinds: dict[str, torch.dtype] = {}
    names = ("encoder.conv1", "encoder.layer1.0.conv1", "encoder.layer2.0.conv1", "decoder.blocks.3.conv1.0")
    names += ("decoder.blocks.4.conv1.0",)
    for name in names:
        exact.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: kinds.update({name: output.dtype})
        )
    images = torch.randn(1, 2, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        # in fp32 the scores are those of the network: normalisations are fused, not lost
        assert (exact(images) - network(images)).abs().max() < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            exact(images)
    fp32, bf16 = torch.float32, torch.bfloat16
    assert [kinds[name] for name in names] == [fp32, fp32, bf16, bf16, fp32]
    assert isinstance(exact.get_submodule("encoder.bn1"), torch.nn.Identity)
    assert isinstance(
        network.get_submodule("encoder.bn1"), torch.nn.BatchNorm2d
    )  # the network itself does not change


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra 'fast' is not installed")
def test_openvino_makes_the_same_map_as_the_network_on_the_whole_array(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (130, 90), nodata_cols=4)
    expert = make_expert()
    made = predict_map(
        expert,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        window_px=96,
        engine="openvino",
        precision="fp32",
    )
    assert made.engine == "openvino-fp32"
    assert (read_map(tmp_path / "map.tif") == expected_map(image, expert)).mean() > 0.9999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "torhc"}, "Unknown engine 'torhc': did you mean 'torch'"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
        ({"precision": "fp16"}, "fp16' needs a GPU"),
        ({"engine": "openvino", "precision": "fp16"}, "Unknown engine 'openvino-fp16'"),
    ],
)
def test_an_engine_or_precision_that_does_not_exist_is_refused(options: dict[str, str], message: str) -> None:
    if torch.cuda.is_available() and options.get("precision") == "fp16":
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=message):
        choose_engine(Pointwise(), **options)


def test_an_engine_that_cannot_be_used_is_refused_with_the_reason() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match="cuda-fp16' cannot be used: torch finds no NVIDIA GPU"):
        make_engine(Pointwise(), "cuda-fp16")


def test_small_jobs_have_no_trial() -> None:
    trial = [np.zeros((512, 512, 2), np.float32)]
    engine, measured = choose_engine(Pointwise(), trial=trial, windows=2)
    assert engine.name == "torch-fp32"
    assert not measured.rates


def test_the_fastest_engine_that_agrees_is_chosen() -> None:
    random = np.random.default_rng(0)
    trial = [random.standard_normal((512, 512, 2)).astype(np.float32) for _ in range(2)]
    engine, measured = choose_engine(Pointwise(), trial=trial, windows=1000)
    agreeing = [name for name in measured.rates if measured.agreement.get(name, 1) >= 0.999]
    assert engine.name == max(agreeing, key=lambda name: measured.rates[name])
    assert "torch-fp32" in measured.rates


def test_a_resumed_job_keeps_its_engine(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (900, 200))
    scene = open_scene(tmp_path / "scene.tif")

    def stop_half_way(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        predict_map(make_expert(), scene, tmp_path / "map.tif", window_px=96, progress=stop_half_way)
    plan = tmp_path / ".map.tif.parts" / "plan.json"
    if not torch.cuda.is_available():
        plan.write_text(plan.read_text().replace("torch-fp32", "torch-bf16"))
    made = predict_map(make_expert(), scene, tmp_path / "map.tif", window_px=96)
    assert made.resumed > 0
    assert made.engine == ("torch-bf16" if not torch.cuda.is_available() else made.engine)


class Slanted(torch.nn.Module):
    """Uses the pixels above and twice to the left, so all eight flips and rotations differ."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        above = torch.nn.functional.pad(images, (0, 0, 1, 0))[:, :, :-1]
        left = torch.nn.functional.pad(images, (2, 0, 0, 0))[:, :, :, :-2]
        return torch.cat([left[:, :1], above[:, 1:]], 1)


def test_augmentation_is_the_mean_probability_of_the_eight_flips_and_rotations() -> None:
    images = np.random.default_rng(1).standard_normal((1, 8, 8, 2), np.float32)
    engine = make_engine(Slanted(), "torch-fp32")
    p = torch.softmax(torch.from_numpy(FlippedEngine(engine).scores(images)), -1).numpy()
    expected = np.zeros((8, 8, 2))
    for rotation in range(4):
        for flipped in (False, True):
            view = np.rot90(images[0], rotation)
            view = view[:, ::-1] if flipped else view
            one = torch.softmax(torch.from_numpy(engine.scores(view[None].copy())[0].copy()), -1).numpy()
            one = one[:, ::-1] if flipped else one
            expected += np.rot90(one, -rotation) / 8
    assert np.abs(p - expected).max() < 1e-6
    flat = np.full((1, 8, 8, 2), 0.3, np.float32)
    p = torch.softmax(torch.from_numpy(FlippedEngine(engine).scores(flat)), -1).numpy()[0]
    # the mean over all flips and rotations of a flat image is symmetric
    assert np.abs(p - p[::-1]).max() < 1e-6
    assert np.abs(p - p.transpose(1, 0, 2)).max() < 1e-6


def test_augmentation_does_not_change_the_map_of_a_pointwise_network(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (200, 90))
    expert = make_expert()
    predict_map(expert, open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", tta="d4", window_px=96)
    with rasterio.open(tmp_path / "map.tif") as data:
        assert (data.read(1) == expected_map(image, expert)).mean() > 0.9999
    with pytest.raises(RecipeError, match="Unknown augmentation 'd8'"):
        predict_map(expert, open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", tta="d8")


class Positional(torch.nn.Module):
    """Scores depend on the position in the window, which blending smooths."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows, cols = (torch.linspace(-2, 2, side) for side in images.shape[2:])
        return torch.cat([images[:, :1] + rows[:, None], images[:, 1:] * cols], 1)


@pytest.mark.parametrize(("shape", "overlap"), [((200, 150), 32), ((110, 500), 32), ((60, 50), 16)])
def test_blended_windows_make_the_map_of_one_weighted_sum_over_the_scene(
    tmp_path: Path, shape: tuple[int, int], overlap: int
) -> None:
    image = write_scene(tmp_path / "scene.tif", shape)
    expert = make_expert(Positional())
    options = {"engine": "torch", "precision": "fp32", "window_px": 64, "overlap_px": overlap}
    predict_map(expert, open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", blend="hann", **options)

    side, step = 64, 64 - overlap
    along = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    hann = np.outer(along, along)
    mean, std = (np.array(each)[:, None, None] for each in (expert.header.mean, expert.header.std))
    starts = [range(0, max(1, length - overlap), step) for length in shape]
    padded = np.zeros((2, *(each[-1] + side for each in starts)), np.float32)
    padded[:, : shape[0], : shape[1]] = (image - mean) / std
    total = np.zeros((2, *padded.shape[1:]))
    for row in starts[0]:
        for col in starts[1]:
            window = (slice(row, row + side), slice(col, col + side))
            scores = expert.network(torch.from_numpy(padded[:, *window])[None])[0]
            total[:, *window] += torch.softmax(scores, 0).numpy() * hann
    expected = np.array(LEGEND.values)[total.argmax(0)][: shape[0], : shape[1]]
    same = read_map(tmp_path / "map.tif") == expected
    # at the far edges a window that is mostly outside may or may not take part
    assert same[: shape[0] - overlap, : shape[1] - overlap].mean() > 0.9999
    assert same.mean() > 0.98


def test_windows_that_cannot_be_blended_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (100, 100))
    scene, expert = open_scene(tmp_path / "scene.tif"), make_expert()
    with pytest.raises(
        RecipeError, match=r"cannot be blended\. The overlap must be from 1 px to half a window"
    ):
        predict_map(expert, scene, tmp_path / "map.tif", blend="hann", window_px=64, overlap_px=40)
    with pytest.raises(RecipeError, match="Unknown blend 'gauss'"):
        predict_map(expert, scene, tmp_path / "map.tif", blend="gauss")


def test_memory_settings_may_be_nested_and_are_restored() -> None:
    with steady_memory():
        with steady_memory():
            held = np.ones((64, 1024, 1024), np.uint8)
        assert held.all()
    assert np.ones((64, 1024, 1024), np.uint8).all()


def test_classes_picked_by_the_engine_make_the_same_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; here on the processor, in batches."""
    image = write_scene(tmp_path / "scene.tif", (300, 290), nodata_cols=7)
    monkeypatch.setattr("tesela.mapping.engines.TorchEngine.picks", True)
    monkeypatch.setattr("tesela.mapping.engines.TorchEngine.batch", 3)
    expert = make_expert()
    options = {"engine": "torch", "precision": "fp32", "window_px": 96}
    predict_map(expert, open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", **options)
    assert (read_map(tmp_path / "map.tif") == expected_map(image, expert)).all()
