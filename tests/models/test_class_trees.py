"""Trees for class maps: features and scores whose values are known by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from tesela.core.errors import ExpertError
from tesela.core.legend import LandClass, Legend
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert, with_prior
from tesela.models.segmentation import tree_kernels
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import MISSING, STEPS, Feature, FeatureSpec, default_features
from tesela.models.segmentation.fused import FusedArchitecture
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.window_features import compute_features
from tesela.training.segmentation.tree_fit import forest_arrays

LEGEND = Legend(
    "demo",
    (LandClass(1, "a", "A", "#111111"), LandClass(2, "b", "B", "#222222"), LandClass(3, "c", "C", "#333333")),
)
ONE, ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


def spec_of(*features: Feature, bands: int = 1) -> FeatureSpec:
    return FeatureSpec(bands, (), features)


def test_features_of_a_small_image_are_those_counted_by_hand() -> None:
    image = np.array([[1, 2, 0], [3, 4, 5], [6, 7, 8]], np.float32)[..., None]  # 0: no data
    spec = spec_of(
        Feature(0, "value"),
        Feature(0, "mean", 3),
        Feature(0, "deviation", 3),
        Feature(0, "minimum", 3),
        Feature(0, "maximum", 3),
        Feature(0, "gradient", 3),
    )
    value, mean, deviation, least, most, gradient = compute_features(image, spec, ZERO, ONE)
    corner = np.array([1, 2, 3, 4])
    assert value[0, 0] == STEPS
    assert mean[0, 0] == round(corner.mean() * STEPS)
    assert deviation[0, 0] == round(corner.std() * STEPS)
    assert (least[0, 0], most[0, 0]) == (STEPS, 4 * STEPS)
    assert mean[1, 1] == round(np.mean([1, 2, 3, 4, 5, 6, 7, 8]) * STEPS)
    assert least[1, 1] == STEPS  # the pixel without data counts for nothing
    assert gradient[1, 1] == round(np.hypot(5 - 3, 7 - 2) * STEPS)


def test_a_normalised_difference_is_taken_of_quantities() -> None:
    mean, std = np.array([0.1, 0.3], np.float32), np.array([0.05, 0.1], np.float32)
    image = ((np.array([0.2, 0.6], np.float32) - mean) / std).reshape(1, 1, 2)  # red 0.2, near infrared 0.6
    layers = compute_features(image, default_features(("red", "nir"), sides_px=()), mean, std)
    assert layers[2, 0, 0] == round(0.5 * 32 * STEPS)  # (0.6 - 0.2) / 0.8


def test_bands_of_several_dates_are_differenced_within_their_date() -> None:
    spec = default_features(("B04_april", "B08_april", "B04_july", "B08_july"), sides_px=())
    assert spec.differences == ((1, 0), (3, 2))


def test_features_do_not_depend_on_the_window_they_are_computed_in() -> None:
    image = np.random.default_rng(0).normal(size=(70, 60, 2)).astype(np.float32)
    image[20:30, 10:40] = 0
    spec = default_features(("red", "nir"), sides_px=(3, 7, 15))
    mean, std = np.full(2, 0.2, np.float32), np.full(2, 0.1, np.float32)
    whole, margin = compute_features(image, spec, mean, std), spec.margin_px
    part = compute_features(image[15:60, 5:50], spec, mean, std)
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_array_equal(part[inner], whole[:, 15 + margin : 60 - margin, 5 + margin : 50 - margin])


def stump() -> ClassTrees:
    """One tree of one level: band 0 above its mean is class b, else class a."""
    network = ClassTrees(ClassTreesArchitecture(1, 3, "boosting", 1, 1, 0, spec_of(Feature(0, "value"))))
    leaf = np.array([[[5, 0, 0], [0, 7, 0]]], np.float32)
    return network.fill(
        {"feature": np.zeros((1, 1)), "threshold": np.zeros((1, 1)), "leaf": leaf, "mean": ZERO, "std": ONE}
        | {"baseline": np.array([0.5, 0, -1], np.float32)}
    )


def test_a_tree_of_one_level_gives_the_scores_of_its_two_leaves() -> None:
    images = torch.tensor([[[[-1.0, 1.0]]]])  # (1, 1 band, 1 row, 2 cols)
    scores = stump()(images)
    assert scores.shape == (1, 3, 1, 2)
    assert scores[0, :, 0, 0].tolist() == [5.5, 0, -1]
    assert scores[0, :, 0, 1].tolist() == [0.5, 7, -1]


@pytest.mark.parametrize("permutes", [True, False])
@pytest.mark.parametrize(("trees", "depth", "classes"), [(131, 6, 11), (5, 7, 3), (6, 2, 1)])
def test_symmetric_trees_give_the_sums_of_their_leaves_on_any_processor(
    monkeypatch: pytest.MonkeyPatch, trees: int, depth: int, classes: int, permutes: bool
) -> None:
    if permutes and not tree_kernels.has_permutes():
        pytest.skip("the processor has no AVX-512")
    monkeypatch.setattr(tree_kernels, "has_permutes", lambda: permutes)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 70, 2)).astype(np.float32)
    spec = default_features(("red", "nir"), sides_px=(3,))
    mean, std = np.full(2, 0.2, np.float32), np.full(2, 0.1, np.float32)
    feature = rng.integers(0, len(spec.features), (trees, depth))
    threshold = rng.integers(-300, 300, (trees, depth))
    leaf = rng.normal(size=(trees, 1 << depth, classes)).astype(np.float32) / 10
    baseline = rng.normal(size=classes).astype(np.float32)
    network = ClassTrees(ClassTreesArchitecture(2, classes, "boosting", trees, depth, 0, spec))
    network.fill({"feature": feature, "threshold": threshold, "leaf": leaf, "baseline": baseline})
    network.fill({"mean": mean, "std": std})
    values = compute_features(image, spec, mean, std)
    expected = np.repeat(baseline[:, None], 350, 1).reshape(classes, 5, 70)
    for tree in range(trees):
        bits = (values[feature[tree]] > threshold[tree][:, None, None]).astype(int)
        places = (bits << np.arange(depth)[:, None, None]).sum(0)
        expected = expected + leaf[tree][places].transpose(2, 0, 1)
    np.testing.assert_allclose(network.planar_scores(image), expected, atol=0.03)  # leaves are rounded


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forest_answers_as_scikit_learn(threads: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(150, 40, 2)).astype(np.float32)
    spec = default_features(("red", "nir"), sides_px=(3, 7))
    mean, std = np.full(2, 0.2, np.float32), np.full(2, 0.1, np.float32)
    values = compute_features(image, spec, mean, std).reshape(len(spec.features), -1).T.astype(np.float32)
    labels = np.where(values[:, 0] > 40, 2, np.where(values[:, 1] > 0, 1, 0))
    labels[labels == 1] = 0  # class 1 is absent from the training
    forest = ExtraTreesClassifier(10, min_samples_leaf=3, random_state=0).fit(values, labels)
    arrays = forest_arrays(forest, classes=3)
    depth = max(tree.get_depth() for tree in forest.estimators_)
    network = ClassTrees(
        ClassTreesArchitecture(2, 3, "forest", 10, depth, len(arrays["feature"]), spec)
    ).fill({**arrays, "mean": mean, "std": std})
    shares = np.exp(network.scores(image, threads=threads)).reshape(-1, 3)
    np.testing.assert_allclose(shares[:, [0, 2]], forest.predict_proba(values), atol=2e-6)
    assert shares[:, 1].max() <= 1.1e-6


def header_of(network: ClassTrees) -> ExpertHeader:
    return ExpertHeader(
        architecture=network.architecture,
        legend=LEGEND,
        bands=("red",),
        mean=(0.0,),
        std=(1.0,),
        patch_size_px=32,
        pixel_size_m=10.0,
        frequencies=(0.75, 0.25, 0.0),
        prior=0.5,
    )


def test_an_expert_of_trees_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    network = stump()
    file = save_expert(tmp_path / "a.safetensors", Expert(header_of(network), network))
    again = open_expert(file)
    images = torch.randn(2, 1, 20, 30)
    torch.testing.assert_close(again.network(images), network(images), rtol=0, atol=0)
    assert again.header == header_of(network)


def test_another_strength_of_the_prior_moves_scores_by_the_logarithm_of_the_frequencies() -> None:
    network = stump()
    images = torch.randn(1, 1, 4, 4)
    changed = with_prior(Expert(header_of(network), network), 1.0)
    moved = (changed.network(images) - network(images))[0, :, 0, 0]
    expected = [
        -0.5 * np.log(0.75),
        -0.5 * np.log(0.25),
        0.0,
    ]  # from 0.5 to 1.0; a class never seen is not raised
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-6)
    assert changed.header.prior == 1.0
    with pytest.raises(ExpertError, match="does not hold the class frequencies"):
        with_prior(Expert(replace(header_of(network), frequencies=()), network), 1.0)


def test_a_fused_expert_adds_weighted_logarithms_of_probability(tmp_path: Path) -> None:
    network = stump()
    architecture = FusedArchitecture((network.architecture, network.architecture))
    fused = architecture.build()
    for member in fused.members:
        member.load_state_dict(network.state_dict())
    fused.weight.copy_(torch.tensor([0.5, 0.25]))
    images = torch.randn(1, 1, 8, 8)
    single = torch.log_softmax(network(images), 1)
    torch.testing.assert_close(fused(images), 0.75 * single)
    header = replace(header_of(network), architecture=architecture)
    again = open_expert(save_expert(tmp_path / "f.safetensors", Expert(header, fused)))
    torch.testing.assert_close(again.network(images), fused(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "bush"}, "form"),
        ({"depth": 99}, "depth"),
        ({"features": {"bands": 1, "differences": [], "features": [[5, "mean", 3]]}}, "feature"),
        ({"features": {"bands": 1, "differences": [], "features": [[0, "mean", 4]]}}, "feature"),
        ({"features": {"bands": 2, "differences": [], "features": []}}, "2 bands"),
        ({"features": {"bands": 1, "differences": [[0, 7]], "features": []}}, "difference"),
        ({"features": "none"}, "table"),
    ],
)
def test_a_header_of_trees_that_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(json.dumps(stump().architecture.to_dict())) | change
    with pytest.raises(ExpertError, match=message):
        ClassTreesArchitecture.from_dict(document)


def test_trees_of_a_stranger_that_point_outside_themselves_are_refused() -> None:
    network = stump()
    network.get_buffer("feature").fill_(3)
    network._arrays = None
    with pytest.raises(ExpertError, match="point outside themselves"):
        network(torch.zeros(1, 1, 2, 2))


def test_a_gap_at_one_date_is_missing_and_counts_in_no_window_of_that_date() -> None:
    spec = default_features(("B04_april", "B08_april", "B04_july", "B08_july"), sides_px=(3,))
    mean, std = np.full(4, 0.2, np.float32), np.full(4, 0.1, np.float32)
    image = np.random.default_rng(0).normal(size=(6, 6, 4)).astype(np.float32)
    whole = compute_features(image, spec, mean, std)
    image[1:4, 1:4, 2:] = 0  # no july
    gap = compute_features(image, spec, mean, std)
    for number, feature in enumerate(spec.features):
        centre = gap[number, 2, 2]
        if feature.layer in (2, 3, 5):  # bands of july and their difference
            assert centre == MISSING
        elif feature.layer in (0, 1, 4):
            np.testing.assert_array_equal(gap[number], whole[number])
    corner = spec.features.index(Feature(2, "mean", 3))
    beside = np.rint(image[:3, :3, 2] * STEPS).ravel()[[0, 1, 2, 3, 6]]  # those of the nine with data
    assert abs(gap[corner, 1, 1] - beside.mean()) <= 1
    every = spec.features.index(Feature(6, "value"))
    assert abs(gap[every, 2, 2] - image[2, 2, :2].mean() * STEPS) <= 1, "the mean of the dates with data"
