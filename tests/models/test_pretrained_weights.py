"""Pretrained weights of a package give the network they were trained as; bands are matched by name."""

from __future__ import annotations

import importlib.resources
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional as F

from pointwise import make_expert
from tesela.core.errors import ExpertError
from tesela.models.expert import Expert, save_expert
from tesela.models.segmentation.unet import UnetArchitecture, make_unet
from tesela.models.segmentation.weight_bands import (
    BAND_ALIASES,
    KNOWN_FILES,
    bands_in_metadata,
    bands_of_known_file,
    common_name,
    match_bands,
    spread_by_name,
)
from tesela.models.segmentation.weights import (
    START_ENCODER,
    START_PACKAGE,
    load_encoder_weights,
    packaged_weights,
    pretrained_weights,
    read_weights,
)

SMALL = "resnet18"
STEM = "conv1.weight"
TORCHGEO = {
    "resnet18_landsat_tm_toa_moco-1c691b4f.pth": 7,
    "resnet18_landsat_etm_toa_simclr-4d813f79.pth": 9,
    "resnet50_landsat_etm_sr_moco-1266cde3.pth": 6,
    "resnet18_landsat_oli_tirs_toa_moco-a3002f51.pth": 11,
    "resnet50_landsat_oli_sr_simclr-94f78913.pth": 7,
    "resnet18_sentinel2_all_moco-59bfdff9.pth": 13,
    "resnet50_sentinel2_all_dino-d6c330e9.pth": 13,
    "rn50_ssl4eo-s12_ms_decur_ep100-fc6b09ff.pth": 13,
    "rn50_ssl4eo-s12_sar_decur_ep100-f0e69ba2.pth": 2,
    "resnet50_sentinel1_all_moco-906e4356.pth": 2,
    "resnet18_sentinel2_rgb_seco-cefca942.pth": 3,
    "resnet50_fmow_rgb_gassl-da43d987.pth": 3,
    "sentinel2_resnet50_mi_ms-da5413d2.pth": 9,
    "sentinel2_resnet152_si_ms-4500c6cb.pth": 9,
    "sentinel2_resnet50_si_rgb-45fc6972.pth": 3,
    "resnet50_sentinel2_all_seco_eco-a273eb78.pth": 12,
    "resnet50_sentinel2_all_ndvi_seco_eco-3a74b167.pth": 9,
    "closp-rn_s2_encoder-183922a5.pth": 13,
    "geoclosp-rn_s1_encoder-e63ae1af.pth": 2,
    "B13_rn50_softcon.pth": 13,
    "B2_rn50_softcon.pth": 2,
    "B3_rn18_moco_0099_ckpt.pth": 3,
}
"""Files of residual networks and their channels, after ``torchgeo/models/resnet.py`` and SSL4EO-S12."""


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """The tensors of the package, under its own names."""
    folder = importlib.resources.files(START_PACKAGE) / "models"
    (file,) = (item for item in folder.iterdir() if item.name.endswith(".pth"))
    with importlib.resources.as_file(file) as path:
        return read_weights(path)


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    """EfficientNet-Lite0 of timm with its head, loaded from the package: no tensor is missing, none is left."""
    import timm

    tensors = packaged_weights(f"tu-{START_ENCODER}")
    assert tensors is not None
    network = timm.create_model(START_ENCODER)
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def photographs() -> list[NDArray[np.uint8]]:
    """A palace and a flower, which scikit-learn ships."""
    from sklearn.datasets import load_sample_images

    return [np.asarray(image) for image in load_sample_images().images]


def as_input(photograph: NDArray[np.uint8]) -> torch.Tensor:
    """The middle square in 224 x 224 px, scaled as EfficientNet-Lite was trained."""
    image = torch.from_numpy(photograph.astype(np.float32)).permute(2, 0, 1)[None]
    rows, cols = image.shape[2:]
    side = min(rows, cols)
    top, left = (rows - side) // 2, (cols - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    return (F.interpolate(square, size=(224, 224), mode="bilinear", antialias=True) - 127) / 128


def reference_logits(tensors: dict[str, torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, set[str]]:
    """
    EfficientNet-Lite0 in plain torch, by the package's own names.

    Padding is TensorFlow's "SAME", normalisation has epsilon 0.001, activation is ReLU6, and a block of stride 1
    whose input and output have the same channels adds its input.
    """
    used: set[str] = set()

    def take(name: str) -> torch.Tensor:
        used.add(name)
        return tensors[name]

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = take(f"{name}.weight")
        pads: list[int] = []
        for size, width in ((x.shape[3], kernel.shape[3]), (x.shape[2], kernel.shape[2])):
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            take(f"{name}.{item}") for item in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = F.relu6(norm(conv(image, "_conv_stem", 2), "_bn0"))
    for number, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)):
        block, before = f"_blocks.{number}", x
        if number:
            x = F.relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = F.relu6(norm(conv(x, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if x.shape == before.shape:
            x = x + before
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, take("_fc.weight"), take("_fc.bias")), used


# ---- the package --------------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_network_of_the_package_and_that_of_timm_agree(
    published: dict[str, torch.Tensor], classifier: torch.nn.Module
) -> None:
    generator = torch.Generator().manual_seed(0)
    odd = torch.randn(1, 3, 75, 101, generator=generator)  # "SAME" pads odd and even sizes differently
    for image in (*(as_input(photograph) for photograph in photographs()), odd):
        logits, used = reference_logits(published, image)
        assert logits.std() > 0.5, "constant logits would prove nothing"
        assert (classifier(image) - logits).abs().max() < 1e-4
        assert used == {name for name in published if not name.endswith("num_batches_tracked")}


@torch.inference_mode()
def test_photographs_are_recognised(classifier: torch.nn.Module) -> None:
    palace, flower = (int(classifier(as_input(photograph)).argmax()) for photograph in photographs())
    assert (palace, flower) == (698, 985)  # ImageNet's "palace" and "daisy"


@torch.inference_mode()
@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "tu-tf_efficientnet_lite0.in1k"])
def test_a_unet_starts_from_the_package(encoder: str, classifier: torch.nn.Module) -> None:
    network = make_unet(
        encoder=encoder, bands=3, classes=2, weights="imagenet", band_names=("B04", "B03", "B02")
    ).eval()
    image = as_input(photographs()[0])
    deepest = network.encoder(image)[-1]
    x = classifier.blocks(classifier.bn1(classifier.conv_stem(image)))  # type: ignore[operator]
    assert deepest.shape == (1, 320, 7, 7)
    assert torch.allclose(deepest, x, atol=1e-4)


@pytest.mark.parametrize("names", [None, ("blue", "green", "red", "nir")])
def test_channels_of_photographs_repeat_whatever_the_names_of_bands(names: tuple[str, ...] | None) -> None:
    network = make_unet(encoder=START_ENCODER, bands=4, classes=2, weights="imagenet", band_names=names)
    tensors = packaged_weights(START_ENCODER)
    assert tensors is not None
    rgb = tensors["conv_stem.weight"]
    stem = network.encoder.state_dict()["model.conv_stem.weight"]
    assert torch.allclose(stem, rgb[:, [0, 1, 2, 0]] * 0.75)


def test_photograph_channels_of_a_file_go_to_the_bands_of_their_colours(tmp_path: Path) -> None:
    bands = ("blue", "green", "red", "nir", "swir1", "swir2")
    tensors = packaged_weights(START_ENCODER)
    assert tensors is not None
    file = tmp_path / "w.safetensors"
    save_file({name: item.contiguous() for name, item in tensors.items()}, file, {"bands": "red,green,blue"})
    network = make_unet(encoder=START_ENCODER, bands=6, classes=2, weights=file, band_names=bands)
    rgb = tensors["conv_stem.weight"]
    stem = network.encoder.state_dict()["model.conv_stem.weight"]
    for band, channel in enumerate((2, 1, 0)):
        assert torch.allclose(stem[:, band], rgb[:, channel] / 2)
    for band in (3, 4, 5):
        assert torch.allclose(stem[:, band], rgb.mean(1) / 2)


def test_no_other_encoder_takes_the_package() -> None:
    for encoder in ("tu-tf_efficientnet_lite1", "tu-tf_efficientnet_lite0.other", "efficientnet-b0"):
        assert packaged_weights(encoder) is None


def test_without_the_package_there_are_no_packaged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, START_PACKAGE, None)
    assert packaged_weights(START_ENCODER) is None


def test_other_names_of_weights_do_not_take_the_package() -> None:
    with pytest.raises(ExpertError, match="encoders of timm have 'imagenet'"):
        pretrained_weights(f"tu-{START_ENCODER}", "noisy-student")


def test_a_machine_without_network_and_weights_prints_one_line_for_each_kind(tmp_path: Path) -> None:
    """In a process of its own, as the hub reads its settings once: weights by name, of encoders, of the extra."""
    code = (
        "import sys\n"
        "from tesela.models.segmentation.unet import make_unet\n"
        "from tesela.core.errors import ExpertError\n"
        "def try_weights(encoder, weights):\n"
        "    try: make_unet(encoder=encoder, bands=5, classes=2, weights=weights)\n"
        "    except ExpertError as error: print(error)\n"
        "try_weights('resnet18', 'LANDSAT_OLI_SR_MOCO')\n"
        f"try_weights('{SMALL}', 'imagenet')\n"
        f"sys.modules['{START_PACKAGE}'] = None\n"
        f"for encoder in {(SMALL, START_ENCODER)!r}: try_weights(encoder, 'imagenet')\n"
    )
    home = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, check=True)
    by_name, of_encoder, *of_extra = done.stdout.splitlines()
    assert "resnet18_landsat_oli_sr_moco-660e82ed.pth of torchgeo/ssl4eo_landsat" in by_name
    assert "cannot be downloaded" in of_encoder
    assert "point weights to the file" in of_encoder
    hints = (
        "Take encoder 'tf_efficientnet_lite0' with tesela's extra 'start'",
        "Install tesela's extra 'start', which holds them; or fetch",
    )
    for line, hint in zip(of_extra, hints, strict=True):
        assert "not on this machine and cannot be downloaded" in line
        assert hint in line
    assert done.stderr == ""


# ---- bands of a file ----------------------------------------------------------------------------------


def donor(channels: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    tensors: dict[str, torch.Tensor] = make_unet(
        encoder=SMALL, bands=channels, classes=2
    ).encoder.state_dict()
    return tensors


def stem_of(file: Path, bands: tuple[str, ...]) -> torch.Tensor:
    network = make_unet(encoder=SMALL, bands=len(bands), classes=2, weights=file, band_names=bands)
    return network.encoder.state_dict()[STEM]


@pytest.mark.parametrize("form", ["list", "text", "json", "meta"])
def test_a_file_states_its_bands(tmp_path: Path, form: str) -> None:
    names = ["green", "red", "nir"]
    tensors = donor(3)
    file = tmp_path / ("w.safetensors" if form in ("text", "json") else "w.pth")
    if form == "list":
        torch.save({"bands": names, "state_dict": tensors}, file)
    elif form == "meta":
        torch.save({"meta": {"bands": names}, "state_dict": tensors}, file)
    else:
        save_file(tensors, file, {"bands": json.dumps(names) if form == "json" else ", ".join(names)})
    stem = stem_of(file, ("B08", "B03", "elevation"))
    expected = [tensors[STEM][:, 2], tensors[STEM][:, 0], tensors[STEM].mean(1)]
    assert torch.allclose(stem, torch.stack(expected, 1))


def test_the_same_bands_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    tensors = donor(3)
    save_file(tensors, tmp_path / "w.safetensors", {"bands": "red,green,blue"})
    assert torch.equal(stem_of(tmp_path / "w.safetensors", ("red", "green", "blue")), tensors[STEM])
    assert torch.equal(stem_of(tmp_path / "w.safetensors", ("B02", "B03", "B04")), tensors[STEM].flip(1))


def test_an_expert_gives_its_encoder_to_other_bands(tmp_path: Path) -> None:
    plan = UnetArchitecture(4, 3, encoder=SMALL)
    header = replace(
        make_expert().header,
        architecture=plan,
        bands=("B02", "B03", "B04", "B08"),
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
    )
    torch.manual_seed(1)
    network = plan.build()
    file = save_expert(tmp_path / "expert.safetensors", Expert(header, network))
    weight = network.encoder.state_dict()[STEM]
    assert torch.allclose(stem_of(file, ("red", "nir")), weight[:, [2, 3]] * 2)


def test_a_file_of_torchgeo_is_known_by_its_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = donor(13)
    torch.save(tensors, tmp_path / "resnet18_sentinel2_all_moco-59bfdff9.pth")
    with caplog.at_level(logging.INFO, logger="tesela"):
        stem = stem_of(
            tmp_path / "resnet18_sentinel2_all_moco-59bfdff9.pth", ("red", "B8A", "swir16", "slope")
        )
    weight = tensors[STEM] * (13 / 4)
    expected = torch.stack([weight[:, 3], weight[:, 8], weight[:, 11], weight.mean(1)], 1)
    assert torch.allclose(stem, expected)
    assert "red from red, B8A from nir08, swir16 from swir1, slope from the mean" in caplog.text


def test_names_that_match_nothing_spread_bands_as_without_names(tmp_path: Path) -> None:
    tensors = donor(3)
    save_file(tensors, tmp_path / "w.safetensors", {"bands": "red,green,blue"})
    stem = stem_of(tmp_path / "w.safetensors", ("one", "two", "three"))
    assert torch.equal(stem, tensors[STEM])
    save_file(tensors, tmp_path / "v.safetensors")  # states no bands
    assert torch.equal(stem_of(tmp_path / "v.safetensors", ("blue", "green", "red")), tensors[STEM])


def test_a_file_that_states_too_many_bands_is_refused(tmp_path: Path) -> None:
    save_file(donor(3), tmp_path / "w.safetensors", {"bands": "red,green,blue,nir"})
    with pytest.raises(
        ExpertError, match=r"has 4 bands .*\(red, green, blue and 1 more\), but its first .* has 3 channels"
    ):
        stem_of(tmp_path / "w.safetensors", ("red", "green", "blue"))


def test_names_of_bands_must_be_as_many_as_bands() -> None:
    with pytest.raises(ExpertError, match=r"U-Net of 3 bands got 2 band names \(red, nir\)"):
        make_unet(encoder=SMALL, bands=3, classes=2, band_names=("red", "nir"))


def test_the_report_names_the_source_of_each_band() -> None:
    network = make_unet(encoder=SMALL, bands=2, classes=2)
    report = load_encoder_weights(
        network.encoder,
        donor(3),
        source="donor",
        bands=("nir", "green"),
        weight_bands=("red", "green", "blue"),
    )
    assert report.bands == ("", "green")
    assert report.adapted == (STEM,)


# ---- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels"), TORCHGEO.items())
def test_files_of_torchgeo_have_as_many_bands_as_channels(name: str, channels: int) -> None:
    bands = bands_of_known_file(name)
    assert len(bands) == channels == len(set(bands))
    assert all(common_name(band) == band for band in bands)


def test_every_pattern_of_known_files_has_a_file() -> None:
    assert {bands_of_known_file(name) for name in TORCHGEO} == {bands for _, bands in KNOWN_FILES}
    assert bands_of_known_file("resnet50.pth") == ()


def test_no_spelling_belongs_to_two_bands() -> None:
    spellings = [name for name, aliases in BAND_ALIASES.items() for name in (name, *aliases)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("band", "name"),
    [
        ("B8A", "nir08"),
        ("Red Edge 1", "rededge1"),
        ("red-edge-2_july", "rededge2"),
        ("B04_2018_07", "red"),
        ("R", "red"),
        ("b_2", "b_2"),
        ("SR_B4", "sr_b4"),
    ],
)
def test_names_of_bands_lose_sensor_and_date(band: str, name: str) -> None:
    assert common_name(band) == name


def test_the_narrow_near_infrared_stands_in_for_the_broad_one() -> None:
    assert match_bands(("B08", "B8A"), ("nir", "nir08")) == (0, 1)
    assert match_bands(("B08", "B8A"), ("red", "nir08")) == (1, 1)
    assert match_bands(("SR_B4",), ("sr_b3", "SR_B4")) == (1,)


@pytest.mark.parametrize("metadata", [{}, {"bands": 4}, {"bands": ""}, {"bands": [1, 2]}, {"tesela": "{"}])
def test_metadata_without_names_state_no_bands(metadata: dict[str, object]) -> None:
    assert bands_in_metadata(metadata) == ()


def test_equal_bands_give_the_same_response_whatever_their_number() -> None:
    weight = torch.ones(4, 3, 3, 3)
    for channels in ((0, 1, 2), (2, None, None, 0), (None, 1)):
        assert torch.allclose(spread_by_name(weight, channels).sum(1), weight.sum(1))
