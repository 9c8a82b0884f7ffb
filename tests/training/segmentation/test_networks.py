"""A new network for class maps is one dataclass and one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointwise import make_expert
from segmentation_scene import LEGEND, QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.models.expert import open_expert
from tesela.models.header import read_architecture
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.training.segmentation.fit import fit_experts
from tesela.training.segmentation.heads import Head
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.train import train_segmentation
from tesela.training.settings import SettingsError


@dataclass(frozen=True)
class PointwiseArchitecture:
    """A 1 x 1 convolution."""

    bands: int
    classes: int

    kind = "pointwise"
    summary = "1 x 1 convolution"
    stride = 1

    @classmethod
    def plan(cls, *, bands: int, classes: int, encoder: str, decoder: str) -> PointwiseArchitecture:
        return cls(bands, classes)

    def build(
        self, *, weights: str | Path | None = None, band_names: Sequence[str] | None = None
    ) -> torch.nn.Module:
        return torch.nn.Conv2d(self.bands, self.classes, 1)

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> PointwiseArchitecture:
        return cls(int(str(document["bands"])), int(str(document["classes"])))


def test_a_registered_network_is_trained_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEGMENTATION_NETWORKS, "pointwise", PointwiseArchitecture)
    table = make_patch_table(tmp_path / "scene", size_px=20)  # a U-Net needs multiples of 32
    settings = replace(QUICK, model="pointwise", epochs=10, learning_rate=0.3, ema=0.5, seed=1)
    expert = open_expert(train_segmentation(table, tmp_path / "a.safetensors", settings=settings, quiet=True))
    assert expert.header.architecture == PointwiseArchitecture(2, 4)
    assert expert.header.training["model"] == "pointwise"
    assert expert.header.scores["macro_f1"] > 0.8
    assert isinstance(expert.network, torch.nn.Conv2d)


def test_an_unknown_network_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Unknown model 'unet2'.*unet"):
        SegmentationSettings(model="unet2")
    table = make_patch_table(tmp_path / "scene", size_px=20)
    with pytest.raises(InputError, match="20 px wide, but model 'unet' needs a multiple of 32 px"):
        train_segmentation(table, tmp_path / "a.safetensors", settings=QUICK, quiet=True)


def test_files_written_before_the_registry_can_be_read() -> None:
    document = {
        "kind": "unet",
        "bands": 4,
        "classes": 3,
        "encoder": "resnet18",
        "decoder_channels": [16, 8, 8, 8, 8],
    }
    plan = UnetArchitecture(4, 3, encoder="resnet18", decoder_channels=(16, 8, 8, 8, 8))
    assert read_architecture(document) == plan
    assert plan.to_dict() == document


def test_class_maps_are_trained_with_networks_for_class_maps(tmp_path: Path) -> None:
    from tesela.models.unmixers import BritsArchitecture

    header = replace(make_expert().header, legend=LEGEND, architecture=BritsArchitecture(2, 4))
    head = Head(header, tmp_path / "a.safetensors", np.zeros((1, 4)), 0)
    with pytest.raises(InputError, match=r"no class maps can be trained with BRITS.* Take unet"):
        fit_experts([head], [], [], plan=header.architecture, target=head.out, settings=QUICK)  # type: ignore[arg-type]
