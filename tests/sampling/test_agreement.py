"""Agreement: published values, values by hand, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from tesela.core.errors import InputError
from tesela.sampling.agreement import krippendorff_alpha, measure_agreement, weighted_kappa

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: twelve units, four observers.
OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
PUBLISHED = np.array(
    [
        [-1 if text == "." else int(text) - 1 for text in line.split()]
        for line in OBSERVERS.strip().splitlines()
    ]
).T

ratings = arrays(
    np.int64, st.tuples(st.integers(2, 30), st.integers(2, 4)), elements=st.integers(-1, 2)
).filter(lambda table: bool(((table >= 0).sum(axis=1) >= 2).any()))


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level: str, alpha: float) -> None:
    assert krippendorff_alpha(PUBLISHED, categories=5, level=level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_of_two_people_by_hand() -> None:
    # 3 items, pairs 0-0, 0-1, 1-1: coincidences 2, 2 x 1, 2; each value 3 times of 6.
    # nominal: 1 - (2 / 6) / (2 * 9 / 30) = 1 - 5 / 9
    assert krippendorff_alpha(
        np.array([[0, 0], [0, 1], [1, 1]]), categories=2, level="nominal"
    ) == pytest.approx(4 / 9)


def test_weighted_kappa_by_hand() -> None:
    # rows 1, 1, 2 and columns 1, 2, 1 of 4: chance sum of distances 14 / 16, observed 1 / 4
    first, second = [0, 1, 2, 2], [0, 1, 1, 2]
    assert weighted_kappa(first, second, categories=3) == pytest.approx(1 - (1 / 4) / (14 / 16))
    # squares: chance (2 + 4 * 1 + 1 + 1 + 4 * 2 + 4) / 16 = 20 / 16
    assert weighted_kappa(first, second, categories=3, weights="quadratic") == pytest.approx(
        1 - (1 / 4) / (20 / 16)
    )


def test_unweighted_kappa_of_the_textbook() -> None:
    # 50 grants, two readers: both yes 20, only the first 5, only the second 10, both no 15; kappa is 0.4
    first = [0] * 25 + [1] * 25
    second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    assert weighted_kappa(first, second, categories=2, weights="nominal") == pytest.approx(0.4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) == 1:
        assert math.isnan(weighted_kappa(first, second, categories=3))
        return
    for ours, theirs in (("linear", "linear"), ("quadratic", "quadratic"), ("nominal", None)):
        expected = cohen_kappa_score(first, second, weights=theirs, labels=[0, 1, 2])
        assert weighted_kappa(first, second, categories=3, weights=ours) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(ratings, st.randoms(use_true_random=False))
def test_names_and_order_of_raters_and_items_do_not_matter(table: np.ndarray, random: object) -> None:
    generator = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    shuffled = generator.permuted(table, axis=1)[generator.permutation(len(table))]
    for level in ("nominal", "ordinal", "interval"):
        one, other = (krippendorff_alpha(each, categories=3, level=level) for each in (table, shuffled))
        assert one == pytest.approx(other, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(ratings)
def test_coefficients_are_at_most_one_and_inside_their_intervals(table: np.ndarray) -> None:
    measured = measure_agreement(table, categories=3, repeats=200)
    for part in (measured.percent, measured.kappa, measured.alpha):
        if not math.isnan(part.low):
            assert part.low <= part.high <= 1 + 1e-12
    assert measured.percent.low - 1e-12 <= measured.percent.value <= measured.percent.high + 1e-12


def test_raters_who_always_agree_have_complete_agreement() -> None:
    measured = measure_agreement(np.array([[0, 0, 0], [1, 1, -1], [2, -1, 2], [1, 1, 1]]), categories=3)
    assert (measured.items, measured.pairs) == (4, 8)
    for part in (measured.percent, measured.kappa, measured.alpha):
        assert (part.value, part.low, part.high) == (1, 1, 1)


def test_two_raters_who_guess_have_no_agreement() -> None:
    table = np.random.default_rng(0).integers(0, 3, (4000, 2))
    measured = measure_agreement(table, categories=3, repeats=500)
    for part in (measured.kappa, measured.alpha):
        assert part.low < 0 < part.high
        assert part.high - part.low < 0.08
    assert measured.percent.value == pytest.approx(1 / 3, abs=0.02)


def test_the_interval_covers_the_truth_in_95_of_100_samples() -> None:
    # two raters who know the truth 4 times of 5 and guess otherwise agree on 0.64 + 0.36 / 3 = 0.76 of the items
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        truth = generator.integers(0, 3, 120)[:, None]
        table = np.where(generator.random((120, 2)) < 0.8, truth, generator.integers(0, 3, (120, 2)))
        part = measure_agreement(table, categories=3, repeats=300).percent
        covered += part.low <= 0.76 <= part.high
    assert 178 <= covered <= 200


def test_undefined_agreement_is_reported() -> None:
    with pytest.raises(InputError, match="No item was rated by two reviewers"):
        measure_agreement(np.array([[0, -1], [-1, 1]]), categories=3)
    with pytest.raises(InputError, match="ranks 0 to 2"):
        measure_agreement(np.array([[0, 3]]), categories=3)
    with pytest.raises(InputError, match="Unknown weights 'linar': did you mean 'linear'"):
        weighted_kappa([0, 1], [0, 1], categories=2, weights="linar")
    with pytest.raises(InputError, match="Unknown level 'ratio'"):
        krippendorff_alpha(PUBLISHED, categories=5, level="ratio")
    document = measure_agreement(np.zeros((3, 2), np.int64), categories=3).to_dict()
    assert document["alpha"] == [None, None, None]
    assert document["percent"] == [1, 1, 1]


def test_the_interval_of_a_share_is_as_wide_as_its_binomial_error() -> None:
    table = np.zeros((400, 2), np.int64)
    table[:100, 1] = 1  # 3 of 4 agree: standard error sqrt(0.75 0.25 / 400)
    agreement = measure_agreement(table, categories=2, repeats=20_000)
    width = 2 * 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert agreement.percent.high - agreement.percent.low == pytest.approx(width, rel=0.04)


def test_the_document_counts_items_and_pairs() -> None:
    document = measure_agreement(np.array([[0, 0, 0], [1, 1, -1]]), categories=2, repeats=10).to_dict()
    assert (document["items"], document["pairs"]) == (2, 4)
