"""In which order patches are shown, and in which position and light."""

import numpy as np
import pytest
import torch

from tesela.training.segmentation.data import (
    MemoryPatches,
    PaddedPatches,
    TrainSampler,
    ValidationSampler,
    augment,
    rotate_and_flip,
)


def test_an_epochs_order_depends_on_seed_and_epoch_alone() -> None:
    draws = TrainSampler(10, batch_size=3, seed=1)
    first = list(draws)
    assert first == list(TrainSampler(10, batch_size=3, seed=1))
    assert len(first) == len(set(first)) == len(draws) == 9
    draws.set_epoch(1)
    assert list(draws) != first
    assert list(TrainSampler(10, batch_size=3, seed=2)) != first


def test_few_patches_make_one_small_batch() -> None:
    assert sorted(TrainSampler(2, batch_size=16, seed=0)) == [0, 1]


def test_devices_share_the_patches_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, validated = [], []
    for rank in range(3):
        monkeypatch.setattr("tesela.training.segmentation.data._rank", lambda rank=rank: rank)
        drawn.append(list(TrainSampler(14, batch_size=2, seed=5, devices=3)))
        validated.append(list(ValidationSampler(7, devices=3)))
    assert [len(item) for item in drawn] == [4, 4, 4]
    assert len({index for item in drawn for index in item}) == 12
    assert [len(item) for item in validated] == [3, 3, 3]
    assert sorted(index for item in validated for index in item) == list(range(9))  # 7 and 8 are padding


class TwoPatches:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((1, 2, 2), float(index)), torch.full((2, 2), index)


def test_padding_has_no_labels_and_memory_changes_nothing() -> None:
    padded = PaddedPatches(MemoryPatches(TwoPatches()))
    assert torch.equal(padded[1][1], torch.full((2, 2), 1))
    assert padded[1][1].dtype == torch.int64
    assert torch.equal(padded[3][0], torch.ones(1, 2, 2))
    assert (padded[3][1] == 255).all()


def test_the_eight_positions_of_a_square_are_all_different_and_form_a_group() -> None:
    square = torch.arange(9).reshape(3, 3)
    positions = {tuple(rotate_and_flip(square, position).flatten().tolist()) for position in range(8)}
    assert len(positions) == 8
    again = {
        tuple(rotate_and_flip(rotate_and_flip(square, 5), position).flatten().tolist())
        for position in range(8)
    }
    assert again == positions


def test_image_and_labels_turn_together_and_nodata_stays_zero() -> None:
    labels = torch.arange(64).reshape(1, 8, 8).repeat(50, 1, 1)
    images = labels[:, None].float()
    turned, same = augment(images, labels, np.random.default_rng(0))
    assert torch.equal(turned[:, 0].long(), same)
    assert len({tuple(item.flatten().tolist()) for item in same}) == 8
    lit, _ = augment(images, labels, np.random.default_rng(0), brightness=0.3, contrast=0.3)
    assert torch.equal(lit == 0, turned == 0)
    assert not torch.allclose(lit, turned)
    once, twice = (augment(images, labels, np.random.default_rng(9), contrast=0.2)[0] for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(images[:, 0].long(), labels)  # the input is left alone


def test_brightness_and_contrast_stay_within_their_limits() -> None:
    images, labels = torch.full((500, 2, 2, 2), 2.0), torch.zeros(500, 2, 2, dtype=torch.int64)
    lit, _ = augment(
        images, labels, np.random.default_rng(1), flips_and_rotations=False, brightness=0.1, contrast=0.2
    )
    assert 2 * 0.8 - 0.1 <= lit.min() < 1.7
    assert 2.3 < lit.max() <= 2 * 1.2 + 0.1
