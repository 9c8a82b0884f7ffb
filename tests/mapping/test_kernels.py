"""Kernels of mapping, by hand: standardised windows, classes from scores, gates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tesela.mapping.kernels import (
    assign_child,
    keep_parent,
    pick_classes,
    scale_window,
    share_probability,
    weigh_classes,
)

VALUES = np.zeros(256, np.uint8)
VALUES[:3] = 10, 20, 30


def scores_of(*p: float) -> NDArray[np.float32]:
    """Scores of one pixel with these probabilities, (1, 1, classes)."""
    return np.log(np.array([[p]], np.float32))


# --- windows ---


def cut(raw: NDArray[np.generic], *, nodata: float) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """A window of 2 x 3 px of two bands, gain 2 and 4, bias 1 and -1."""
    image, valid = np.full((2, 3, 2), np.nan, np.float32), np.zeros((2, 3), np.bool_)
    gain, bias = np.array([2, 4], np.float32), np.array([1, -1], np.float32)
    missing = np.full(2, nodata)
    count = scale_window(raw, (0, 0), np.array([0, 1]), gain, bias, missing, image, valid)
    return image, valid, count


def test_a_window_is_number_times_gain_plus_bias() -> None:
    image, valid, count = cut(np.full((2, 2, 3), 5, np.uint16), nodata=np.nan)
    assert image[..., 0].tolist() == [[11.0] * 3] * 2
    assert image[..., 1].tolist() == [[19.0] * 3] * 2
    assert valid.all()
    assert count == 6


@pytest.mark.parametrize("missing", [7.0, np.nan, np.inf])
def test_a_pixel_without_data_in_one_band_is_0_in_all(missing: float) -> None:
    raw = np.full((2, 2, 3), 5, np.float32)
    raw[1, 0, 2] = missing
    image, valid, count = cut(raw, nodata=7)
    assert valid.tolist() == [[True, True, False], [True] * 3]
    assert image[0, 2].tolist() == [0, 0]
    assert image[0, 1].tolist() == [11, 19]
    assert count == 5


def test_a_window_past_the_end_of_the_scene_is_0_there() -> None:
    image, valid, count = cut(np.full((2, 1, 2), 5, np.uint8), nodata=0)
    assert valid.tolist() == [[True, True, False], [False] * 3]
    assert (image[~valid] == 0).all()
    assert count == 2


# --- classes ---


@pytest.mark.parametrize("planar", [False, True])
def test_the_first_of_two_equal_scores_is_the_class(planar: bool) -> None:
    scores = np.zeros((1, 4, 3), np.float32)
    scores[0] = [[1, 1, 1], [0, 2, 2], [3, 0, 3], [0, 0, 1]]
    if planar:
        scores = np.ascontiguousarray(scores.transpose(2, 0, 1)).transpose(1, 2, 0)
    out = np.zeros((1, 4), np.uint8)
    pick_classes(scores, np.array([[True, True, True, False]]), VALUES, corner=(0, 0), out=out)
    assert out.tolist() == [[10, 20, 10, 0]]


def test_confidence_entropy_and_probabilities_are_rounded() -> None:
    scores = np.concatenate([scores_of(0.5, 0.25, 0.25), scores_of(1 / 3, 1 / 3, 1 / 3)], axis=1)
    confidence, entropy = (np.zeros((1, 2), np.uint8) for _ in range(2))
    p = np.zeros((3, 1, 2), np.uint8)
    weigh_classes(scores, np.ones((1, 2), np.bool_), (0, 0), confidence, entropy, p)
    assert confidence.tolist() == [[50, 33]]
    assert entropy.tolist() == [[95, 100]]  # 1.04 / ln 3
    assert p[:, 0, 0].tolist() == [127, 64, 64]  # 63.5 is rounded up


# --- gates ---


def test_a_child_replaces_its_parent_and_its_probability_multiplies() -> None:
    table = np.zeros((256, 2), np.uint8)
    table[2] = 4, 5
    values, confidence = np.array([[2, 2]], np.uint8), np.array([[0.8, 0.6]], np.float32)
    scores = np.concatenate([scores_of(0.25, 0.75)] * 2, axis=1)
    assign_child(scores, (0, 0), np.array([[True, False]]), table, values, confidence)
    assert values.tolist() == [[5, 2]]
    assert confidence[0].tolist() == pytest.approx([0.6, 0.6])


def test_probability_is_shared_among_children_and_the_most_probable_class_wins() -> None:
    values, confidence = np.array([[1, 1]], np.uint8), np.array([[0.3, 0.5]], np.float32)
    weight = np.array([[0.6, 0.6]], np.float32)
    open_weights = np.zeros((1, 1, 2), np.float32)
    scores = np.concatenate([scores_of(0.5, 0.4, 0.1)] * 2, axis=1)
    row, below = np.array([4, 5, 6], np.uint8), np.array([0, -1, -1])
    share_probability(
        scores, (0, 0), np.ones((1, 2), np.bool_), weight, row, below, open_weights, values, confidence
    )
    assert open_weights[0, 0].tolist() == pytest.approx([0.3, 0.3])  # class 4 is shared out further
    assert values.tolist() == [[1, 1]]  # 0.6 x 0.4 is less than 0.3 and 0.5
    below[0] = -1
    share_probability(
        scores, (0, 0), np.ones((1, 2), np.bool_), weight * 1.2, row, below, open_weights, values, confidence
    )
    assert values.tolist() == [[4, 1]]  # 0.72 x 0.5
    assert confidence[0].tolist() == pytest.approx([0.36, 0.5])


def test_a_parent_is_kept_where_no_expert_shared_its_probability() -> None:
    values, confidence = np.array([[1, 1, 1]], np.uint8), np.array([[0.3, 0.3, 0.7]], np.float32)
    weight = np.full((1, 3), 0.6, np.float32)
    keep_parent(np.array([[False, True, False]]), weight, 2, values, confidence)
    assert values.tolist() == [[2, 1, 1]]
    assert confidence[0].tolist() == pytest.approx([0.6, 0.3, 0.7])


def test_a_gap_at_one_date_is_0_at_that_date_only() -> None:
    raw = np.full((4, 1, 3), 5, np.float32)
    raw[1, 0, 0] = raw[3, 0, 1] = raw[2, 0, 1] = 7  # bands 0 and 1 are of two dates, band 2 is static
    raw[3, 0, 2] = 7
    raw[1, 0, 2] = 7
    image, valid = np.full((1, 3, 4), np.nan, np.float32), np.zeros((1, 3), np.bool_)
    count = scale_window(
        raw,
        (0, 0),
        np.array([0, 1, 2, -1]),
        np.ones(4, np.float32),
        np.zeros(4, np.float32),
        np.full(4, 7.0),
        image,
        valid,
        np.array([0, 1, -1, 2]),
    )
    assert image[0].tolist() == [[5, 0, 5, 0], [0, 0, 0, 0], [5, 0, 5, 0]]
    assert valid[0].tolist() == [True, False, True]
    assert count == 2
