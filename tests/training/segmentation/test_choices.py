"""What is chosen on the validation patches: adjustments by class frequencies, weights of members, models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from segmentation_scene import make_patch_table
from tesela.io.maps import open_map
from tesela.models.expert import Expert
from tesela.patches.table import make_patches
from tesela.training.segmentation.auto import Candidate, choose_candidate
from tesela.training.segmentation.pool import fit_pool, pool_scores
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.validation import (
    USUAL_PRIOR,
    ValidationPixels,
    choose_prior,
    difference_interval,
    objective_of,
    pixel_blocks,
)


def pixels_of(scores: NDArray[np.floating], classes: NDArray[np.integer], *, each: int) -> ValidationPixels:
    """Pixels in blocks of `each`."""
    block = np.arange(len(classes)) // each
    return ValidationPixels(np.asarray(scores, np.float32), np.asarray(classes), block, block)


def rare_class(blocks: int, gap: float) -> ValidationPixels:
    """Blocks of 90 pixels of class a and 10 of class b, whose score is short by `gap` wherever b is right."""
    scores = np.tile(np.array([[0.0, -4.0]] * 90 + [[0.0, -gap]] * 10), (blocks, 1))
    return pixels_of(scores, np.tile([0] * 90 + [1] * 10, blocks), each=100)


def test_the_prior_is_the_nearest_to_the_usual_that_brings_the_rare_class_back() -> None:
    """Strengths from 0.7 on exceed 0.65 ln(9); all blocks say so, so 0.2 and 0.5 are measurably worse."""
    pixels = rare_class(12, float(np.log(9) * 0.65))
    assert choose_prior(pixels, np.array([0.9, 0.1]), objective="macro_f1") == 0.7
    assert choose_prior(pixels, np.array([0.9, 0.1]), objective="accuracy") == 0.7


def costly_class(blocks: int, gap: float) -> ValidationPixels:
    """As `rare_class`, but 20 of the 90 pixels of class a look like class b, too."""
    block = [[0.0, -4.0]] * 70 + [[0.0, -gap]] * 30
    return pixels_of(np.tile(np.array(block), (blocks, 1)), np.tile([0] * 90 + [1] * 10, blocks), each=100)


def test_both_scores_gain_nothing_at_the_cost_of_accuracy() -> None:
    """With the rare class accuracy falls from .9 to .8, macro F1 rises from .47 to .69, their mean from .69 to .74."""
    pixels = costly_class(12, float(np.log(9) * 0.65))
    chosen = {name: choose_prior(pixels, np.array([0.9, 0.1]), objective=name) for name in USUAL_PRIOR}
    assert chosen == {"macro_f1": 0.7, "both": USUAL_PRIOR["both"], "accuracy": USUAL_PRIOR["accuracy"]}


def test_a_worse_strength_is_not_taken_for_its_wider_interval() -> None:
    """
    The best strengths, from 0.3 on, cost accuracy. The usual one is behind them by a little, and in every block; 0 is
    behind by more, but in one block of twelve, which is no measured difference.
    """
    near, far, shift = 0.05, 0.25, np.log(8)
    common = [[0, -9, -9]] * 75 + [[-1, -9, 0]] * 2 + [[0, -9, -far * shift]] * 3
    rare = [[-9, -9, 0]] * 4 + [[0, -9, -far * shift]] * 2 + [[0, -99, -99]] * 4
    blocks = [[*common, *rare, *[[0, -gap * shift, -9]] * 10] for gap in (near, *[99] * 11)]
    pixels = pixels_of(np.concatenate(blocks), np.tile([0] * 80 + [2] * 10 + [1] * 10, 12), each=100)
    assert choose_prior(pixels, np.array([0.8, 0.1, 0.1]), objective="both") == USUAL_PRIOR["both"]


@pytest.mark.parametrize(("objective", "expected"), [("macro_f1", "unet"), ("both", "boosting x unet")])
def test_a_member_is_taken_alone_unless_it_is_less_accurate(objective: str, expected: str) -> None:
    network, joined = costly_class(12, -1.0), costly_class(12, 1.0)
    architecture = SimpleNamespace(summary="trees or a network")
    expert = cast(Expert, SimpleNamespace(header=SimpleNamespace(architecture=architecture)))
    winner, tried = choose_candidate(
        [Candidate("unet", expert, network), Candidate("boosting x unet", expert, joined)],
        np.array([0.9, 0.1]),
        settings=SegmentationSettings(objective=cast(Any, objective), prior=0.0),
    )
    assert winner.name == expected
    assert [(row["accuracy"], row["macro_f1"]) for row in tried] == [(0.8, 0.6875), (0.9, 0.4737)]


def test_the_prior_is_the_usual_one_where_the_patches_do_not_say() -> None:
    pixels = pixels_of(np.array([[0.0, -9.0]] * 100), np.zeros(100, int), each=10)
    for objective, usual in USUAL_PRIOR.items():
        assert choose_prior(pixels, np.array([0.9, 0.1]), objective=objective) == usual


@pytest.mark.parametrize(("blocks", "expected"), [(1, "usual"), (4, "usual"), (40, "measured")])
def test_a_gain_in_half_of_the_blocks_is_measured_by_many_only(blocks: int, expected: str) -> None:
    """Half of the blocks bring a rare class back at 0.7; two of four are too few to say so."""
    gap = float(np.log(9) * 0.65)
    scores = np.concatenate([rare_class(1, gap if number % 2 else 30.0).scores for number in range(blocks)])
    pixels = pixels_of(scores, np.tile([0] * 90 + [1] * 10, blocks), each=100)
    wanted = {"usual": USUAL_PRIOR["macro_f1"], "measured": 0.7}[expected]
    assert choose_prior(pixels, np.array([0.9, 0.1]), objective="macro_f1") == wanted


def test_blocks_go_by_place_however_many_patches_show_it(tmp_path: Path) -> None:
    """The same squares of the scene with patches side by side and with patches that overlap."""
    table = make_patch_table(tmp_path)
    scenes, labels = list(table.scenes.values()), [open_map(path) for path in table.labels.values()]
    squares = []
    for stride_px in (table.size_px, table.size_px // 4):
        patches = make_patches(scenes, labels, size_px=table.size_px, stride_px=stride_px)
        patches = patches.with_splits(["val"] * len(patches))
        number, place = (item.ravel() for item in np.indices((len(patches), table.size_px**2)))
        block = pixel_blocks(patches, "val", number, place)
        rows = patches.frame["row"].to_numpy()[number] + place // table.size_px
        cols = patches.frame["col"].to_numpy()[number] + place % table.size_px
        squares.append(set(zip(rows.tolist(), cols.tolist(), block.tolist(), strict=True)))
    assert squares[0] == squares[1]
    assert (
        len({block for *_, block in squares[0]}) == 24
    )  # of one patch: with larger ones there are fewer than 8


def test_objectives_are_those_counted_by_hand() -> None:
    counts = np.array([[8, 0], [1, 1]])
    macro = (16 / 17 + 2 / 3) / 2
    assert objective_of(counts, "accuracy") == 0.9
    assert objective_of(counts, "macro_f1") == pytest.approx(macro)
    assert objective_of(np.stack([counts, counts]), "both") == pytest.approx([(0.9 + macro) / 2] * 2)
    assert (
        objective_of(np.array([[5, 0], [0, 0]]), "macro_f1") == 1
    )  # a class that no label holds does not count


def test_the_interval_of_a_model_against_itself_is_empty_and_a_better_one_lies_above_zero() -> None:
    rng = np.random.default_rng(0)
    right = np.stack([np.diag(rng.integers(5, 9, 2)) for _ in range(12)])
    wrong = right[:, ::-1]
    assert difference_interval(right, right, objective="accuracy") == (0.0, 0.0)
    assert difference_interval(right, wrong, objective="accuracy")[0] == 1.0


def log_shares(classes: NDArray[np.int64], right: NDArray[np.bool_], share: float) -> NDArray[np.float64]:
    """Scores that give `share` to the class, or to the other one where they are not right."""
    named = np.where(right, classes, 1 - classes)
    return np.log(np.where(named[:, None] == np.arange(2), share, 1 - share))


def test_a_useless_member_gets_no_weight() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 8000)
    good = log_shares(classes, rng.random(8000) < 0.9, 0.9)
    noise = np.log(rng.dirichlet((1, 1), 8000))
    weights = fit_pool([pixels_of(item, classes, each=100) for item in (good, noise)])
    assert weights[0] >= 0.75
    assert weights[1] == 0


def test_members_of_equal_worth_share_the_weight_and_independent_ones_count_more_than_one() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 2, 8000)
    members = [
        pixels_of(log_shares(classes, rng.random(8000) < 0.8, 0.8), classes, each=100) for _ in range(2)
    ]
    weights = fit_pool(members)
    assert weights[0] == pytest.approx(weights[1], rel=0.2)
    assert sum(weights) > 1.7  # two independent witnesses: the sum of their logarithms, not the mean
    joined = pool_scores(members, weights)
    np.testing.assert_allclose(np.exp(joined).sum(1), 1, rtol=1e-5)


def test_blocks_that_disagree_give_weights_between() -> None:
    """One member is right in two blocks, the other in the third."""
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 2, 300)
    first = np.arange(300) < 200
    members = [
        pixels_of(log_shares(classes, right | (rng.random(300) < 0.5), 0.9), classes, each=100)
        for right in (first, ~first)
    ]
    weights = fit_pool(members)
    assert weights[0] > weights[1] > 0
