"""The benchmark of accuracy on real data: its splits share no unit, its scores are those counted by hand."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from repository import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_importable() -> Iterator[None]:
    sys.path.append(str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def data_set(*, side: int = 96, test_units: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    from real_accuracy.sets import DataSet, LabelledScene, _blocks

    rng = np.random.default_rng(0)
    labels = rng.integers(1, 3, (side, side)).astype(np.uint8)
    image = np.stack([labels * 50.0, rng.normal(100, 10, (side, side))]).astype(np.float32)
    transform = Affine(10, 0, 500_000, 0, -10, 4_100_000)
    scene = LabelledScene("one", image, labels, _blocks((side, side), 16), "EPSG:25830", transform)
    return DataSet("made", (scene,), ("red", "nir"), ("a", "b"), 32, "block", test_units=test_units)


def test_only_pixels_beside_another_class_are_border_pixels() -> None:
    from real_accuracy.scoring import border_pixels

    labels = np.ones((5, 6), np.uint8)
    labels[:, 3:] = 2
    labels[0, 0] = 0  # no class: not a border pixel, and makes none
    expected = np.zeros((5, 6), bool)
    expected[:, 2:4] = True
    assert (border_pixels(labels) == expected).all()


def test_scores_are_those_counted_by_hand_and_leave_out_classes_that_the_reference_lacks() -> None:
    from real_accuracy.scoring import score_matrices

    matrix = np.array([[[6, 2, 2], [0, 10, 0], [0, 0, 0]]])
    scores = {name: float(value[0]) for name, value in score_matrices(matrix).items()}
    assert scores["accuracy"] == pytest.approx(16 / 20)
    assert scores["miou"] == pytest.approx((6 / 10 + 10 / 12) / 2)
    assert scores["macro_f1"] == pytest.approx((12 / 16 + 20 / 22) / 2)


def test_a_map_compared_with_itself_differs_by_nothing_and_a_better_one_by_its_pixels() -> None:
    from real_accuracy.scoring import paired_difference

    worse = {0: {1: np.array([[8, 2], [0, 10]]), 2: np.array([[7, 3], [0, 10]])}}
    better = {0: {1: np.array([[10, 0], [0, 10]]), 2: np.array([[9, 1], [0, 10]])}}
    same = paired_difference(worse, worse)["accuracy"]
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0}
    gain = paired_difference(better, worse)["accuracy"]  # 2 of 20 pixels in each unit, whichever is drawn
    assert gain == pytest.approx({"difference": 0.1, "low": 0.1, "high": 0.1})


def test_every_seed_splits_whole_units_and_fixed_units_always_test() -> None:
    from real_accuracy.task import TEST, TRAIN, VAL, make_task

    data = data_set(test_units=(0, 5, 7))
    splits = [make_task(data, seed).split for seed in range(3)]
    assert all((split[[0, 5, 7]] == TEST).all() for split in splits)
    assert all([(split == part).sum() for part in (TRAIN, VAL, TEST)] == [26, 7, 3] for split in splits)
    assert not np.array_equal(splits[0], splits[1])
    assert np.array_equal(splits[0], make_task(data, 0).split)


def test_a_smaller_share_holds_training_units_of_a_larger_one_and_the_same_test() -> None:
    from real_accuracy.task import TEST, TRAIN, VAL, make_task, thinned

    task = make_task(data_set(), 0)
    tasks = [thinned(task, share) for share in (0.25, 0.5, 1.0)]
    units = [set(np.flatnonzero(item.split == TRAIN)) for item in tasks]
    assert units[0] < units[1] < units[2]
    assert len(units[1]) == round(len(units[2]) / 2)
    assert (tasks[2].split == task.split).all()
    for item in tasks:
        assert ((item.split == VAL) == (task.split == VAL)).all()
        assert ((item.split == TEST) == (task.split == TEST)).all()


def test_our_patches_hold_the_labels_of_their_own_split_and_none_that_tests(tmp_path: Path) -> None:
    import tesela
    from real_accuracy.ours import make_table
    from real_accuracy.task import TRAIN, VAL, make_task

    data = data_set()
    task = make_task(data, 1)
    table = make_table(task, tmp_path)
    scene = data.scenes[0]
    for name, split in (("train", TRAIN), ("val", VAL)):
        path = table.labels[f"one-{name}"]
        with tesela.io.maps.MapReader(tesela.open_map(path)) as reader:
            values = reader.read(scene_grid := table.scenes[f"one-{name}"].grid)
        assert tuple(scene_grid.shape) == scene.labels.shape
        assert ((values > 0) == task.mask(scene, split)).all()
    assert set(table.frame["split"]) == {"train", "val"}


def test_the_prior_moves_doubtful_pixels_to_the_rare_class_only() -> None:
    from real_accuracy.task import adjust

    probabilities = np.array([[0.6, 0.99], [0.4, 0.01]])
    shares = np.array([0.8, 0.2])
    assert adjust(probabilities, shares, 0.0).tolist() == [1, 1]
    assert adjust(probabilities, shares, 1.0).tolist() == [2, 1]


def test_a_forest_beside_the_clock_ends_and_finds_what_one_band_shows() -> None:
    from real_accuracy.scoring import TestCounts
    from real_accuracy.task import Clock, make_task
    from real_accuracy.tree_rivals import forest_pixel

    task = make_task(data_set(), 0)
    clock = Clock(0.5)
    trained = forest_pixel(task, clock)
    counts = TestCounts.empty()
    counts.add(task, task.data.scenes[0], trained.classify(task.data.scenes[0])[""])
    assert counts.scores(pixels_only=False)["accuracy"] == 1.0
    assert set(counts.matrices) == set(np.flatnonzero(task.split == 2))
