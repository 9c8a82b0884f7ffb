"""Settings of a training, and the hardware that it runs on."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from segmentation_scene import make_patch_table
from tesela.core.errors import InputError, RecipeError
from tesela.models.segmentation.unet import make_unet
from tesela.training.segmentation import sizing
from tesela.training.segmentation.budget import Costs, Schedule, plan_epochs
from tesela.training.segmentation.head_patches import quality_chances
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.sizing import sized_settings
from tesela.training.segmentation.trainer import choose_hardware, freeze_idle
from tesela.training.settings import SettingsError

QUICK = SegmentationSettings(model="unet", encoder="resnet18", epochs=4, batch_size=4, learning_rate=3e-3)


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


def test_bf16_is_for_processors_that_compute_in_it_and_networks_without_depthwise_convolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flags = {"avx512_bf16"}
    monkeypatch.setattr("tesela.training.segmentation.trainer.has_cpu_flag", lambda flag: flag in flags)
    residual = make_unet(encoder="resnet18", bands=2, classes=2)
    depthwise = make_unet(encoder="tf_efficientnet_lite0", bands=2, classes=2)
    assert choose_hardware(QUICK, residual)[2] == "bf16-mixed"
    assert choose_hardware(QUICK, depthwise)[2] == "32-true"
    assert choose_hardware(replace(QUICK, precision="bf16"), depthwise)[2] == "bf16-mixed"
    flags.clear()
    assert choose_hardware(QUICK, residual)[2] == "32-true"


def test_few_labelled_pixels_get_a_small_network_and_a_named_encoder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_patch_table(tmp_path)
    plain = SegmentationSettings()
    monkeypatch.setattr(sizing, "has_packaged_weights", lambda encoder: True)
    small = sized_settings(plain, table)
    assert (small.encoder, small.weights, small.decoder) == ("tf_efficientnet_lite0", "imagenet", "small")
    random = sized_settings(replace(plain, weights="random"), table)
    assert (random.encoder, random.weights, random.decoder) == ("resnet18", "random", "small")
    monkeypatch.setattr(sizing, "has_packaged_weights", lambda encoder: False)
    assert sized_settings(plain, table).encoder == "resnet18"
    named = sized_settings(replace(plain, encoder="resnet34"), table)
    assert (named.encoder, named.decoder) == ("resnet34", "full")
    monkeypatch.setattr(sizing, "SMALL_PIXELS", 1000)
    large = sized_settings(plain, table)
    assert (large.encoder, large.weights, large.decoder) == ("resnet50", None, "full")
    assert SegmentationSettings(published=True).resolved.encoder == "resnet50"
    monkeypatch.undo()
    assert sized_settings(replace(plain, weights="mine.pth"), table).encoder == "resnet50"


def test_patches_are_drawn_by_their_quality(tmp_path: Path) -> None:
    table = make_patch_table(tmp_path)
    assert quality_chances(table, (1, 0.5, 0.25)) is None  # no patch has a class
    quality = ["low" if number % 2 else "high" for number in range(len(table))]
    rated = replace(table, frame=table.frame.assign(quality=quality))
    chances = quality_chances(rated, (1, 0.5, 0.25))
    assert chances is not None
    expected = [0.25 if item == "low" else 1.0 for item in rated.of_split("train")["quality"]]
    assert chances.tolist() == expected
    assert quality_chances(rated, (1, 1, 1)) is None
    bad = replace(table, frame=table.frame.assign(quality="low"))
    with pytest.raises(InputError, match="leave no training patch: all are of quality low"):
        quality_chances(bad, (1, 1, 0))
    with pytest.raises(SettingsError, match=r"quality_weights is \[0, 0, 0\]"):
        SegmentationSettings(quality_weights=(0, 0, 0))


def test_epochs_fit_the_budget_and_get_longer_where_the_validation_would_dominate() -> None:
    costs = Costs(step=1.0, validation=2.0)
    assert plan_epochs(costs, left_s=1002.0, steps=48) == Schedule(epochs=20, steps=48)
    assert plan_epochs(Costs(step=1.0, validation=8.0), left_s=88.0, steps=2) == Schedule(epochs=2, steps=32)
    assert plan_epochs(costs, left_s=-5.0, steps=48) == Schedule(epochs=1, steps=1)
