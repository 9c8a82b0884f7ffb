"""Settings of a training, and the hardware that it runs on."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from pydantic import BaseModel, ValidationError

from tesela.core.errors import RecipeError
from tesela.models.segmentation.unet import make_unet
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.trainer import choose_hardware, freeze_idle
from tesela.training.settings import SettingsError

QUICK = SegmentationSettings(encoder="resnet18", epochs=4, batch_size=4, learning_rate=3e-3)


def test_published_settings_are_those_of_the_paper() -> None:
    resolved = SegmentationSettings(published=True, encoder="resnet101", epochs=3).resolved
    assert (resolved.optimizer, resolved.epochs, resolved.patience, resolved.weights) == (
        "adam",
        100,
        0,
        "imagenet",
    )
    assert SegmentationSettings(published=True, weights="mine.pth").resolved.weights == "mine.pth"
    assert QUICK.resolved == QUICK
    with pytest.raises(SettingsError, match="the paper used resnet50 and resnet101"):
        SegmentationSettings(published=True, encoder="resnet18")


def test_settings_out_of_range_are_all_named() -> None:
    with pytest.raises(RecipeError, match=r"epochs is 0.*; learning_rate is 50.*; devices is 0"):
        SegmentationSettings(epochs=0, learning_rate=50, devices=0)


def test_a_recipe_reports_wrong_settings_beside_its_other_mistakes() -> None:
    class Recipe(BaseModel):
        training: SegmentationSettings
        name: str

    with pytest.raises(ValidationError, match="2 validation errors") as caught:
        Recipe.model_validate({"training": {"epochs": 0}, "name": 3})
    assert [error["loc"] for error in caught.value.errors()] == [("training",), ("name",)]
    with pytest.raises(ValidationError, match=r"training\.epoch\s+Unexpected"):
        Recipe.model_validate({"training": {"epoch": 3}, "name": "x"})


def test_settings_load_without_torch() -> None:
    code = "import sys; from tesela.training import SegmentationSettings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_hardware_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="torch finds no CUDA device"):
        choose_hardware(replace(QUICK, accelerator="gpu"))
    with pytest.raises(SettingsError, match="devices is 4096, but this machine has"):
        choose_hardware(replace(QUICK, devices=4096))
    with pytest.raises(SettingsError, match="a CPU does not train in"):
        choose_hardware(replace(QUICK, precision="fp16"))
    assert choose_hardware(replace(QUICK, precision="fp32")) == ("cpu", 1, "32-true")


def test_all_gpus_are_used_in_bf16_where_they_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_hardware(QUICK) == ("gpu", 3, "bf16-mixed")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_hardware(replace(QUICK, devices=2)) == ("gpu", 2, "16-mixed")
    assert choose_hardware(replace(QUICK, accelerator="cpu"))[:2] == ("cpu", 1)


def test_parameters_that_no_output_depends_on_are_left_out() -> None:
    network = make_unet(encoder="efficientnet-b0", bands=2, classes=2)
    freeze_idle(network, bands=2)
    idle = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert idle == ["encoder._conv_head.weight", "encoder._bn1.weight", "encoder._bn1.bias"]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
