"""Training patches cut at random places: what they show, and which labels they hold."""

import pickle

import numpy as np
import pytest
import torch

from segmentation_scene import make_patch_table
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable
from tesela.patches.wide import WidePatches
from tesela.training.segmentation.data import LEAST_LABELLED, shift_patches

MARGIN = 16


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PatchTable:
    return make_patch_table(tmp_path_factory.mktemp("scene"))


def test_labels_of_the_margin_come_from_training_patches_only(table: PatchTable) -> None:
    plain = PatchDataset(table, "train")
    wide = WidePatches(PatchDataset(table, "train", margin_px=MARGIN), margin_px=MARGIN)
    size = table.size_px
    scene = np.full((4 * size, 6 * size), 255)  # labels of the training patches where they lie
    for (_, row, col), (_, labels) in zip(plain.rows, plain, strict=False):
        scene[row : row + size, col : col + size] = labels
    around = np.pad(scene, MARGIN, constant_values=255)
    assert len(wide) == len(plain) == 18
    for number, (_, row, col) in enumerate(plain.rows):
        image, labels = wide[number]
        assert image.shape == (2, size + 2 * MARGIN, size + 2 * MARGIN)
        expected = around[row : row + size + 2 * MARGIN, col : col + size + 2 * MARGIN]
        assert np.array_equal(labels.numpy(), expected)
    again = pickle.loads(pickle.dumps(wide))  # as a process that reads ahead gets it
    assert torch.equal(again[3][1], wide[3][1])


def test_windows_are_cut_of_image_and_labels_alike_and_follow_the_generator() -> None:
    labels = torch.arange(48 * 48).reshape(1, 48, 48).repeat(40, 1, 1) + 1000
    images = labels[:, None].float()
    cut, same = shift_patches(images, labels, np.random.default_rng(0), size_px=32)
    assert cut.shape == (40, 1, 32, 32)
    assert torch.equal(cut[:, 0].long(), same)
    corners = {int(item) for item in same[:, 0, 0]}
    assert len(corners) > 30
    assert all((corner - 1000) % 48 <= 16 and (corner - 1000) // 48 <= 16 for corner in corners)
    again = shift_patches(images, labels, np.random.default_rng(0), size_px=32)[1]
    assert torch.equal(again, same)
    assert shift_patches(images, labels, np.random.default_rng(0), size_px=48)[0] is images


def test_a_patch_without_labelled_neighbours_keeps_most_of_its_labels() -> None:
    labels = torch.full((200, 64, 64), 255)
    labels[:, 16:48, 16:48] = 1
    images = torch.zeros(200, 1, 64, 64)
    _, cut = shift_patches(images, labels, np.random.default_rng(1), size_px=32)
    labelled = (cut != 255).sum((1, 2))
    assert labelled.min() >= LEAST_LABELLED * 32 * 32
    assert len(labelled.unique()) > 10
