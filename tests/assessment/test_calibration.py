"""Calibration: by hand, by the plain formula, and of a map whose confidence is right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.assessment import Assessment, assess
from tesela.assessment.calibration import Calibration
from tesela.assessment.document import calibration_figures
from tesela.assessment.pictures import draw_reliability
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.maps import ScoreWriter, write_map

LEGEND = Legend("demo", (LandClass(1, "w", "Water", "#0000ff"), LandClass(2, "l", "Land", "#ffff00")))
GRID = GeoBox((2, 5), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


def uint8(rows: list[list[int]]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


@pytest.fixture
def assess_confidence(tmp_path: Path) -> Callable[..., Assessment]:
    def run(
        predicted: NDArray[np.uint8], truth: NDArray[np.uint8], confidence: NDArray[np.uint8]
    ) -> Assessment:
        sides = [
            write_map(tmp_path / f"{name}.tif", values, GRID, legend=LEGEND)
            for name, values in (("map", predicted), ("reference", truth))
        ]
        with ScoreWriter(tmp_path / "confidence.tif", GRID, ["confidence"], scale=0.01, unit="") as writer:
            writer.write(0, 0, confidence[None])
        return assess(*sides, confidence=tmp_path / "confidence.tif")

    return run


def test_a_calibration_counted_by_hand(assess_confidence: Callable[..., Assessment]) -> None:
    calibration = assess_confidence(
        uint8([[1, 1, 1, 1, 2], [2, 2, 2, 0, 1]]),
        uint8([[1, 1, 2, 2, 2], [2, 1, 0, 1, 1]]),
        uint8([[90, 90, 90, 60, 60], [60, 60, 60, 90, 255]]),
    ).calibration
    assert calibration is not None
    # evaluated with a confidence: three at 90 % (two right), four at 60 % (two right)
    assert (calibration.evaluated_px, calibration.unknown_px) == (7, 1)
    assert calibration.accuracy == pytest.approx(4 / 7)
    assert calibration.mean_confidence == pytest.approx((3 * 0.9 + 4 * 0.6) / 7)
    assert calibration.mean_where_right == pytest.approx((0.9 + 0.6) / 2)
    assert calibration.mean_where_wrong == pytest.approx((0.9 + 2 * 0.6) / 3)
    assert calibration.error() == pytest.approx((3 * (0.9 - 2 / 3) + 4 * (0.6 - 0.5)) / 7)
    water = calibration.of_class("w")
    assert (water.evaluated_px, water.accuracy) == (4, 0.5)
    assert calibration.accuracy_of_most_confident(3 / 7) == pytest.approx(2 / 3)
    assert calibration.accuracy_of_most_confident(1) == pytest.approx(4 / 7)
    assert draw_reliability(calibration_figures(calibration)).count('class="bar-0"') == 2


def test_bins_end_with_their_upper_edge() -> None:
    counts = np.zeros((2, 2, 101), np.int64)
    counts[1, 0, [0, 20, 21, 40, 100]] = 1
    bins = Calibration(LEGEND, counts, unknown_px=0).bins(5)
    assert [item.evaluated_px for item in bins] == [2, 2, 0, 0, 1]
    assert (bins[1].low, bins[1].high) == (0.2, 0.4)


@settings(deadline=None, max_examples=50)
@given(arrays(np.int64, (2, 2, 101), elements=st.integers(0, 3)), st.integers(1, 20))
def test_the_error_is_that_of_the_plain_formula(counts: NDArray[np.int64], size: int) -> None:
    calibration = Calibration(LEGEND, counts, unknown_px=0)
    if not calibration.evaluated_px:
        return
    percent = np.repeat(np.tile(np.arange(101), 2), counts.sum(axis=1).ravel())
    right = np.repeat(np.repeat([0, 1], 101), counts.sum(axis=1).ravel())
    error = 0.0
    for m in range(size):
        inside = (percent * size > 100 * m) & (percent * size <= 100 * (m + 1)) | ((percent == 0) & (m == 0))
        if inside.any():
            error += inside.mean() * abs(percent[inside].mean() / 100 - right[inside].mean())
    assert calibration.error(size) == pytest.approx(error)
    assert sum(item.evaluated_px for item in calibration.bins(size)) == calibration.evaluated_px


def test_confidence_that_equals_the_accuracy_has_hardly_an_error() -> None:
    counts = np.zeros((2, 2, 101), np.int64)
    counts[1, 0], counts[0, 0] = np.arange(101) * 10, (100 - np.arange(101)) * 10
    calibration = Calibration(LEGEND, counts, unknown_px=0)
    assert calibration.error() == pytest.approx(0, abs=1e-12)
    assert (
        calibration.accuracy_of_most_confident(0.1)
        > calibration.accuracy_of_most_confident(0.5)
        > calibration.accuracy
    )


def test_a_file_that_is_no_confidence_is_an_error(assess_confidence: Callable[..., Assessment]) -> None:
    ones = np.ones(GRID.shape, np.uint8)
    with pytest.raises(InputError, match="holds 200, but confidence runs from 0 to 100"):
        assess_confidence(ones, ones, ones * 200)
