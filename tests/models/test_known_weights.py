"""Weights for satellite imagery by name: found, read whatever their layout, and matched to bands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tesela.core.errors import ExpertError
from tesela.models.segmentation.known_weights import (
    KNOWN_WEIGHTS,
    find_known_weights,
    known_weights_file,
)
from tesela.models.segmentation.unet import make_unet
from tesela.models.segmentation.weights import weight_names

STEM = "conv1.weight"
FILE = "resnet18_sentinel2_all_moco-59bfdff9.pth"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Encoder of 13 bands."""
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = make_unet(encoder="resnet18", bands=13, classes=2).encoder.state_dict()
    return state


def other(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: item + 1 for name, item in tensors.items()}


def prefixed(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": item for name, item in tensors.items()}


def stem_of(weights: str | Path, bands: tuple[str, ...]) -> torch.Tensor:
    network = make_unet(encoder="resnet18", bands=len(bands), classes=2, weights=weights, band_names=bands)
    return network.encoder.state_dict()[STEM]


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without caches and without a hub; the folder in which torchgeo keeps its files."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


# ---- layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    ["plain with a head", "MoCo v1", "MoCo v3", "DINO"],
)
def test_checkpoints_of_self_supervision_give_their_trained_encoder(
    layout: str, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    strange = other(tensors)
    documents: dict[str, dict[str, object]] = {
        "plain with a head": {**tensors, "fc.weight": torch.zeros(2, 512), "fc.bias": torch.zeros(2)},
        "MoCo v1": {
            "epoch": 99,
            "state_dict": {
                **prefixed(tensors, "module.encoder_q."),
                **prefixed(strange, "module.encoder_k."),
                "module.queue": torch.zeros(128, 16),
            },
        },
        "MoCo v3": {
            "state_dict": {
                **prefixed(tensors, "module.base_encoder."),
                **prefixed(strange, "module.momentum_encoder."),
                "module.base_encoder.fc.0.weight": torch.zeros(4, 512),
            }
        },
        "DINO": {"student": prefixed(strange, "module.backbone."), "teacher": prefixed(tensors, "backbone.")},
    }
    file = tmp_path / "B13_rn18_moco_0099_ckpt.pth"
    torch.save(documents[layout], file)
    stem = stem_of(file, ("B04", "swir16", "slope"))
    wanted = [tensors[STEM][:, 3], tensors[STEM][:, 11], tensors[STEM].mean(1)]
    assert torch.allclose(stem, torch.stack(wanted, 1) * 13 / 3)


# ---- names --------------------------------------------------------------------------------------------


def test_every_known_file_has_bands() -> None:
    counts = {name: len(known.bands) for weights in KNOWN_WEIGHTS.values() for name, known in weights.items()}
    assert all(counts.values())
    assert counts["SENTINEL2_ALL_MOCO"] == 13
    assert counts["SENTINEL2_ALL_SECO_ECO"] == 12
    assert counts["SENTINEL2_ALL_NDVI_SECO_ECO"] == counts["SENTINEL2_MI_MS_SATLAS"] == 9
    assert counts["SENTINEL1_GRD_SOFTCON"] == 2
    assert counts["LANDSAT_OLI_TIRS_TOA_MOCO"] == 11
    assert counts["SENTINEL2_SI_RGB_SATLAS"] == counts["SENTINEL2_RGB_SECO"] == 3


def test_names_are_written_as_in_torchgeo_or_short() -> None:
    short = find_known_weights("tu-resnet50", "sentinel2_all_moco")
    assert short is not None
    assert short == find_known_weights("resnet50", "ResNet50_Weights.SENTINEL2_ALL_MOCO")
    assert short.file == "resnet50_sentinel2_all_moco-df8b932e.pth"
    assert find_known_weights("resnet50", "imagenet") is None
    assert {"imagenet", "SENTINEL2_RGB_SECO"} <= set(weight_names("resnet18"))


def test_weights_of_another_encoder_name_it() -> None:
    with pytest.raises(
        ExpertError, match=r"are of encoder resnet50, not of 'resnet18'. Set encoder = \"resnet50\""
    ):
        find_known_weights("resnet18", "SENTINEL2_ALL_DINO")
    with pytest.raises(ExpertError, match="are of encoder resnet50, not of 'resnet18'"):
        find_known_weights("resnet18", "ResNet50_Weights.SENTINEL2_ALL_MOCO")


def test_the_cache_of_torchgeo_is_used(no_hub: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, no_hub / FILE)
    stem = stem_of("SENTINEL2_ALL_MOCO", ("B08", "B02"))
    assert torch.allclose(stem, tensors[STEM][:, [7, 1]] * 13 / 2)


def test_the_hub_is_asked_for_the_file(
    no_hub: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        torch.save(tensors, tmp_path / file)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    stem = stem_of("ResNet18_Weights.SENTINEL2_ALL_MOCO", ("B08", "B02"))
    assert asked == [("torchgeo/resnet18_sentinel2_all_moco", FILE)]
    assert torch.allclose(stem, tensors[STEM][:, [7, 1]] * 13 / 2)


def test_without_a_hub_one_line_names_the_file(no_hub: Path) -> None:
    with pytest.raises(ExpertError, match=rf'Fetch {FILE} of torchgeo/.* weights = "{FILE}"') as caught:
        known_weights_file("resnet18", "SENTINEL2_ALL_MOCO")
    assert "\n" not in str(caught.value)
