"""Ensembles: several networks in one expert."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segmentation_scene import QUICK, make_patch_table
from tesela.core.errors import InputError
from tesela.models.expert import open_expert
from tesela.patches.table import PatchTable
from tesela.training.segmentation import members
from tesela.training.segmentation.members import join_experts
from tesela.training.segmentation.train import train_segmentation

TWO = replace(QUICK, epochs=1, members=2)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    return make_patch_table(tmp_path_factory.mktemp("scene"))


def test_an_ensemble_is_one_expert_and_continues_after_its_last_network(
    table: PatchTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    whole = train_segmentation(table, tmp_path / "whole" / "a.safetensors", settings=TWO, quiet=True)
    expert = open_expert(whole)
    assert expert.header.architecture.kind == "fused"
    assert expert.network.weight.tolist() == [0.5, 0.5]
    assert expert.header.training["members"] == 2
    first, second = (dict(item.named_parameters()) for item in expert.network.members)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert sorted(item.name for item in whole.parent.iterdir()) == ["a.safetensors", "logs"]

    def full_disk(*_: object) -> None:
        raise InputError("disk full")

    broken = tmp_path / "broken" / "a.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(members, "save_expert", full_disk)
        with pytest.raises(InputError, match="disk full"):
            train_segmentation(table, broken, settings=TWO, quiet=True)
    with monkeypatch.context() as patched:  # both networks are there: nothing is trained again
        patched.setattr("tesela.training.segmentation.train.fit_experts", full_disk)
        train_segmentation(table, broken, settings=TWO, quiet=True)
    assert broken.read_bytes() == whole.read_bytes()


def test_joined_experts_multiply_their_probabilities_and_open_fused_ones(
    table: PatchTable, tmp_path: Path
) -> None:
    files = [
        train_segmentation(
            table, tmp_path / f"{seed}.safetensors", settings=replace(QUICK, epochs=1, seed=seed), quiet=True
        )
        for seed in (1, 2)
    ]
    one, two = (open_expert(file) for file in files)
    nested = join_experts([join_experts([one, two], [0.5, 0.5]), one], [1.0, 0.25])
    assert [item.kind for item in nested.header.architecture.members] == ["unet"] * 3
    image = torch.randn(1, 2, 32, 32)
    with torch.inference_mode():
        logs = [torch.log_softmax(item.network(image), 1) for item in (one, two)]
        got = torch.softmax(nested.network(image), 1)
    expected = torch.softmax(0.75 * logs[0] + 0.5 * logs[1], 1)
    assert torch.allclose(got, expected, atol=1e-5)
