"""Experts in other programs: ONNX Runtime and plain torch give the scores that Tesela gives."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from repository import ROOT
from tesela.core.errors import ExpertError
from tesela.core.legend import LandClass, Legend
from tesela.models import onnx_export
from tesela.models.architecture import Architecture
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.inference import TorchRunner, unmix
from tesela.models.segmentation.networks import plan_network
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.models.unmixers import BritsArchitecture, EncoderArchitecture, MixingArchitecture
from tesela.models.unmixing_header import SeriesScaling

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water", "#0000ff"),
        LandClass(2, "l", "Land", "#ffff00"),
        LandClass(7, "f", "Wood", "#008800"),
    ),
)
ENCODER = "tu-mobilenetv3_small_050"
SERIES = SeriesScaling(tuple(range(1, 7)), ("altitude",), (500.0,), (200.0,), (0.5, 0.25, 0.25))


def expert_of(plan: Architecture, bands: tuple[str, ...] = ("red", "nir")) -> Expert:
    torch.manual_seed(1)
    count = len(bands)
    header = ExpertHeader(
        plan, LEGEND, bands, (0.1,) * count, (0.2,) * count, patch_size_px=64, pixel_size_m=10.0
    )
    return Expert(header, plan.build().eval())


def unmixer_of(plan: Architecture) -> Expert:
    torch.manual_seed(1)
    header = ExpertHeader(
        plan,
        LEGEND,
        ("red", "nir"),
        (0.1, 0.3),
        (0.05, 0.1),
        patch_size_px=1,
        pixel_size_m=460.0,
        task="unmixing",
        series=SERIES,
    )
    return Expert(header, plan.build().eval())


def run_onnx(path: Path, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {item.name for item in session.get_inputs()} == set(inputs)
    result: np.ndarray = session.run(None, inputs)[0]
    return result


def scores_of(expert: Expert, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return expert.network(torch.from_numpy(expert.scaled(images))).numpy()


def assert_near(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(ours).max())


@pytest.mark.slow
def test_a_unet_has_the_scores_of_torch_in_any_size_and_with_gaps(tmp_path: Path) -> None:
    expert = expert_of(UnetArchitecture(2, 3, encoder=ENCODER, decoder_channels=(8, 8, 8, 8, 8)))
    path = expert.to_onnx(tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    for shape in ((1, 2, 64, 160), (3, 2, 32, 32)):
        images = rng.random(shape, np.float32)
        images[0, :, :5], images[0, 1, 7], images[0, 0, 8] = np.nan, np.nan, np.inf
        assert_near(scores_of(expert, images), run_onnx(path, image=images))
    import onnx

    meta = {item.key: item.value for item in onnx.load(path).metadata_props}
    document = json.loads(meta["tesela"])
    assert document["bands"] == ["red", "nir"]
    assert [item["code"] for item in document["legend"]["classes"]] == ["w", "l", "f"]


@pytest.mark.slow
def test_a_unet_of_several_dates_leaves_out_dates_with_a_missing_band(tmp_path: Path) -> None:
    bands = ("red_2018-04-01", "nir_2018-04-01", "red_2018-08-01", "nir_2018-08-01", "altitude")
    plan = plan_network("unet", band_names=bands, classes=3, encoder="tu-resnet10t", decoder="small")
    expert = expert_of(plan, bands)
    assert expert.header.standardisation.dates
    images = np.random.default_rng(0).random((2, 5, 64, 64), np.float32)
    images[0, 1, :20], images[0, 3, 10:40], images[1, 4, 50:] = np.nan, np.nan, np.nan
    path = expert.to_onnx(tmp_path / "a.onnx")
    assert_near(scores_of(expert, images), run_onnx(path, image=images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "leading"),
    [
        (BritsArchitecture(bands=2, classes=3, layers=1, hidden=4, embedding=3), (7,)),
        (EncoderArchitecture(2, 3, SERIES.months, 1, context=1, head="dirichlet", embedding=16), (2, 9, 8)),
    ],
    ids=["brits", "neighbours"],
)
def test_shares_of_series_with_gaps_are_those_of_torch(
    plan: Architecture, leading: tuple[int, ...], tmp_path: Path
) -> None:
    expert, rng = unmixer_of(plan), np.random.default_rng(0)
    series = rng.random((*leading, 6, 2), np.float32)
    layers = 1000 * rng.random((*leading, 1), np.float32)
    series[0, ..., :3, 0], layers[1] = np.nan, np.nan
    path = expert.to_onnx(tmp_path / "b.onnx")
    ours = unmix(expert.header, TorchRunner(expert.network), series, layers).shares  # type: ignore[arg-type]
    assert_near(ours, run_onnx(path, series=series, layers=layers))


def test_what_onnx_cannot_run_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linear = unmixer_of(MixingArchitecture(2, 3, 6, 3, (0, 1, 2), "nnls"))
    with pytest.raises(ExpertError, match="kernels of its own"):
        linear.to_onnx(tmp_path / "a.onnx")
    unet = expert_of(UnetArchitecture(2, 3, encoder=ENCODER, decoder_channels=(8, 8, 8, 8, 8)))
    with pytest.raises(ExpertError, match=r"must end in \.onnx"):
        unet.to_onnx(tmp_path / "a.bin")
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExpertError, match="onnx, onnxscript is not installed; install tesela's extra 'onnx'"):
        unet.to_onnx(tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_documented_lines_open_an_expert_in_plain_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = expert_of(UnetArchitecture(2, 3, encoder=ENCODER, decoder_channels=(8, 8, 8, 8, 8)))
    save_expert(tmp_path / "corine.safetensors", expert)
    images = np.random.default_rng(0).random((1, 2, 64, 96), np.float32)
    images[0, :, :5] = np.nan
    text = (ROOT / "docs" / "experts.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert "tesela." not in code
    monkeypatch.chdir(tmp_path)
    scope = {"images": torch.from_numpy(images)}
    exec(compile(code, "docs/experts.md", "exec"), scope)
    opened = open_expert(tmp_path / "corine.safetensors")
    assert_near(scores_of(opened, images), scope["scores"].detach().numpy())
    if importlib.util.find_spec("torchgeo") is None:
        return
    del scope["scores"]
    task = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[2]
    exec(compile(task, "docs/experts.md", "exec"), scope)
    assert_near(scores_of(opened, images), scope["scores"].detach().numpy())
