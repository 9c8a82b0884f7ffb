"""Which errors remain: kinds of pixels and rare classes, on shares whose errors are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tesela.assessment.abundance.remaining import KINDS, RemainingErrors
from tesela.core.legend import LandClass, Legend

LEGEND = Legend("two", (LandClass(1, "a", "A", "#ff0000"), LandClass(2, "b", "B", "#00ff00")))


def test_pixels_and_errors_are_counted_by_kind_and_by_largest_class() -> None:
    first = np.array([[1.0, 1.0, 0.0, 0.6], [1.0, 1.0, 0.1, np.nan]])
    truth = np.stack([first, 1 - first])
    estimate = truth.copy()
    estimate[:, 0, 0] = [0.8, 0.2]  # pure, inside
    estimate[:, 1, 2] = [0.5, 0.5]  # mixed, at a border
    evaluated = np.isfinite(first)
    remaining = RemainingErrors.of(LEGEND, truth, estimate, evaluated)
    kinds = {row["name"]: row for row in remaining.by_kind}
    assert tuple(kinds) == KINDS
    assert [round(kinds[name]["pixels"] * 7) for name in KINDS] == [2, 3, 0, 2]
    assert kinds["pure, inside"]["absolute"] == pytest.approx(0.4 / 1.2)
    assert kinds["mixed, at a border"]["squared"] == pytest.approx(0.32 / 0.40)
    by_class = {row["name"]: row for row in remaining.by_class}
    assert by_class["A"]["pixels"] == pytest.approx(5 / 7)
    assert by_class["B"]["squared"] == pytest.approx(0.32 / 0.40)
    twice = remaining + remaining
    assert twice.by_kind == remaining.by_kind, "parts of equal areas stay the same"


def test_a_class_of_little_area_is_called_rare() -> None:
    first = np.ones((1, 30))
    first[0, -1] = 0
    truth = np.stack([first, 1 - first])
    remaining = RemainingErrors.of(LEGEND, truth, truth, np.ones((1, 30), bool))
    assert [row["name"] for row in remaining.by_class] == ["A", "B (rare)"]
    assert all(row["squared"] == 0 for row in remaining.by_class)
