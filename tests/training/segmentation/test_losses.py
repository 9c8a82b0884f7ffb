"""Losses, weights and scores of classes, by cases done by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tesela.training.segmentation.losses import (
    border_pixels,
    class_weights,
    patch_weights,
    segmentation_loss,
)
from tesela.training.segmentation.task import count_pairs, validation_scores


def some_scores(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 8, 8), generator=generator)
    labels[0, :3] = 255
    return torch.randn(2, 4, 8, 8, generator=generator), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs_where_both_say_the_same(smoothing: float, weighted: bool) -> None:
    logits, labels = some_scores()
    weight = torch.tensor([0.5, 1.0, 2.0, 4.0]) if weighted else None
    ours = segmentation_loss(logits, labels, kind="ce", weight=weight, label_smoothing=smoothing)
    if smoothing and weighted:  # torch weighs the smoothed part by each class, we by the label's
        log_probs = torch.log_softmax(logits, 1)
        valid = labels != 255
        assert weight is not None
        w = weight[labels[valid]]
        picked = log_probs.movedim(1, -1)[valid]
        nll = -(0.8 * picked.gather(1, labels[valid][:, None])[:, 0] + 0.2 * picked.mean(1))
        expected = (w * nll).sum() / w.sum()
    else:
        expected = functional.cross_entropy(
            logits, labels, weight=weight, ignore_index=255, label_smoothing=smoothing
        )
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_dice_of_a_case_done_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1, 255]]])
    logits = torch.zeros(1, 3, 1, 4)  # every class has probability 1/3 in every pixel
    # class 0: overlap 2/3, areas 1 and 2: (2 * 2/3 + 1) / (1 + 2 + 1); class 1: (2 * 1/3 + 1) / (1 + 1 + 1)
    dice = ((7 / 3) / 4 + (5 / 3) / 3) / 2
    assert segmentation_loss(logits, labels, kind="dice").item() == pytest.approx(1 - dice, rel=1e-6)
    both = segmentation_loss(logits, labels, kind="ce_dice").item()
    assert both == pytest.approx(np.log(3) + 1 - dice, rel=1e-6)


@pytest.mark.parametrize("kind", ["ce", "dice", "ce_dice"])
def test_a_perfect_prediction_has_no_loss_and_ignored_pixels_no_gradient(kind: str) -> None:
    logits, labels = some_scores()
    logits.requires_grad_()
    segmentation_loss(logits, labels, kind=kind, label_smoothing=0.1).backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, :3] == 0).all()
    assert (logits.grad[0, :, 3:] != 0).any()
    perfect = functional.one_hot(torch.where(labels == 255, 0, labels), 4).movedim(-1, 1) * 50.0
    assert segmentation_loss(perfect, labels, kind=kind).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["ce", "dice", "ce_dice"])
def test_a_batch_without_labels_gives_zero_and_no_gradient(kind: str) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), 255), kind=kind, weight=torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_class_weights_follow_the_inverse_root_and_weigh_a_pixel_one_on_average() -> None:
    pixels = np.array([900, 100, 0, 400])
    weights = class_weights(pixels)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[2] == 1
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert class_weights(np.array([10**12, 1]))[1] == pytest.approx(10, rel=0.01)


def test_patches_with_rare_classes_are_drawn_more_often() -> None:
    shares = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    chances = patch_weights(shares)
    assert chances.sum() == pytest.approx(1)
    assert chances[3] > chances[0] == chances[1] > chances[4] > 0


def test_scores_of_a_matrix_done_by_hand() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1, 255]), torch.tensor([0, 0, 1, 1, 2])
    counts = count_pairs(labels, predicted, classes=4).numpy()
    assert counts[:2, :2].tolist() == [[2, 1], [0, 1]]
    scores = validation_scores(counts)
    assert scores.accuracy == 3 / 4
    assert scores.iou == (pytest.approx(2 / 3), pytest.approx(1 / 2), None, None)
    assert scores.f1 == (pytest.approx(4 / 5), pytest.approx(2 / 3), None, None)
    assert scores.miou == pytest.approx(7 / 12)
    assert validation_scores(np.zeros((3, 3), np.int64)).macro_f1 == 0


def test_patches_are_drawn_by_the_mean_weight_of_their_labelled_pixels() -> None:
    shares = np.array([[0.5, 0.5], [0.25, 0.25], [0.8, 0.0], [0.0, 0.05]])
    common, rare = class_weights(shares.sum(0))
    wanted = np.array([(common + rare) / 2, (common + rare) / 2, common, rare], float)
    assert patch_weights(shares) == pytest.approx(wanted / wanted.sum())


STRIPES = torch.tensor([[[0, 0, 0, 1, 1, 1, 255, 2, 2, 2]] * 3])
"""Three classes side by side; between the last two lies a pixel without label."""


def test_pixels_at_a_border_touch_another_class_and_no_label_is_no_class() -> None:
    assert border_pixels(STRIPES)[0, 1].nonzero().flatten().tolist() == [2, 3]
    assert not border_pixels(torch.full((1, 4, 4), 255)).any()


@pytest.mark.parametrize("kind", ["ce", "dice", "ce_dice"])
def test_a_border_without_weight_is_as_without_label(kind: str) -> None:
    logits = torch.randn(1, 3, 3, 10, generator=torch.Generator().manual_seed(0))
    without = torch.where(border_pixels(STRIPES), 255, STRIPES)
    expected = segmentation_loss(logits, without, kind=kind).item()
    assert segmentation_loss(logits, STRIPES, kind=kind, border_weight=0.0).item() == pytest.approx(expected)
    whole = segmentation_loss(logits, STRIPES, kind=kind).item()
    assert segmentation_loss(logits, STRIPES, kind=kind, border_weight=1.0).item() == whole
    assert abs(whole - expected) > 1e-3


def test_half_a_weight_at_the_border_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1]]])  # the last two touch
    logits = torch.log(torch.tensor([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]]))[None, :, None]
    expected = -(np.log(0.9) + 0.5 * np.log(0.8) + 0.5 * np.log(0.3)) / 2
    loss = segmentation_loss(logits, labels, kind="ce", border_weight=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_relaxed_borders_allow_the_classes_that_they_touch_and_no_other() -> None:
    labels = torch.tensor([[[0, 0, 1]]])
    probabilities = torch.tensor([[0.9, 0.5, 0.3], [0.05, 0.2, 0.3], [0.05, 0.3, 0.4]])
    logits = torch.log(probabilities)[None, :, None]
    loss = segmentation_loss(logits, labels, kind="ce", border_relaxation=True)
    assert loss.item() == pytest.approx(-(np.log(0.9) + np.log(0.7) + np.log(0.6)) / 3, rel=1e-5)
