"""Scores of abundance maps: by hand, against scikit-learn, and the laws that they obey."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from report_page import Page
from tesela.assessment.abundance import report
from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.calibration import LEVELS, ShareCalibration, part_inside
from tesela.assessment.abundance.document import AbundanceReportDocument
from tesela.assessment.abundance.report import render_page, write_abundance_report
from tesela.assessment.abundance.scores import AbundanceSums, flat_scores, intervals, mean_of
from tesela.core.beta import beta_parameters
from tesela.core.errors import GridError, InputError
from tesela.core.grid import window_grid
from tesela.core.legend import LandClass, Legend, sum_to_level
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.images import write_bands
from tesela.io.legends import open_legend

PAIR = Legend("pair", (LandClass(1, "a", "A", "#aa0000"), LandClass(2, "b", "B", "#00aa00")))
FINE = open_legend("sipna-2")
GRID = GeoBox((60, 80), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")


def shares(count: int, seed: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), count)


def test_scores_are_those_computed_by_hand() -> None:
    truth = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
    estimate = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    sums = AbundanceSums.of(PAIR, truth, estimate)
    assert sums.evaluated_px == 3
    assert sums.by_class("mae")[0] == pytest.approx(100 * (0.1 + 0.2 + 0.3) / 3)
    assert sums.by_class("rmse")[0] == pytest.approx(100 * ((0.01 + 0.04 + 0.09) / 3) ** 0.5)
    assert sums.by_class("rrmse")[0] == pytest.approx(100 * (0.14 / 1.36) ** 0.5)
    assert sums.by_class("cc")[0] == pytest.approx(np.corrcoef(truth[:, 0], estimate[:, 0])[0, 1])
    assert sums.by_class("f1").tolist() == pytest.approx(
        [2 / 3, 2 / 3]
    )  # a: 1 hit of 2 and 1; b: 1 of 1 and 2
    assert sums.mean("f1") == pytest.approx(2 / 3)


def test_scores_agree_with_scikit_learn() -> None:
    from sklearn.metrics import f1_score, mean_absolute_error, root_mean_squared_error

    truth, estimate = shares(400, 1), shares(400, 2) * 0.5 + shares(400, 1) * 0.5
    sums = AbundanceSums.of(FINE, truth, estimate)
    assert sums.mean("mae") == pytest.approx(100 * mean_absolute_error(truth, estimate))
    assert sums.mean("rmse") == pytest.approx(100 * root_mean_squared_error(truth, estimate))
    expected = [np.corrcoef(truth[:, k], estimate[:, k])[0, 1] for k in range(10)]
    assert sums.by_class("cc") == pytest.approx(expected)
    assert sums.mean("f1") == pytest.approx(
        f1_score(truth.argmax(1), estimate.argmax(1), average="macro", labels=range(10))
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 60))
def test_sums_of_parts_are_the_sums_of_the_whole(seed: int, cut: int) -> None:
    truth, estimate = shares(60, seed), shares(60, seed + 1)
    whole = AbundanceSums.of(FINE, truth, estimate)
    parts = AbundanceSums.of(FINE, truth[:cut], estimate[:cut]) + AbundanceSums.of(
        FINE, truth[cut:], estimate[cut:]
    )
    np.testing.assert_allclose(parts.table, whole.table, equal_nan=True)
    assert (whole.by_class("mae") <= whole.by_class("rmse") + 1e-9).all()
    np.testing.assert_allclose(flat_scores(whole.flat, 10), whole.table, equal_nan=True)


def test_a_perfect_map_has_no_error() -> None:
    truth = shares(50, 3)
    sums = AbundanceSums.of(FINE, truth, truth)
    assert [sums.mean(name) for name in ("mae", "rmse", "rrmse")] == [0, 0, 0]
    assert sums.mean("cc") == pytest.approx(1)
    assert sums.mean("f1") == 1


def test_absent_and_constant_classes_have_no_score() -> None:
    truth = np.array([[1.0, 0.0], [1.0, 0.0]])
    sums = AbundanceSums.of(PAIR, truth, truth)
    assert np.isnan(sums.by_class("cc")).all()
    assert np.isnan(sums.by_class("f1")).tolist() == [False, True]
    assert np.isnan(sums.by_class("rrmse")).tolist() == [False, True]
    assert sums.mean("f1") == 1
    assert np.isnan(AbundanceSums.empty(PAIR).mean("rmse"))


def test_the_interval_holds_the_score_and_narrows_with_blocks() -> None:
    blocks = [AbundanceSums.of(FINE, shares(50, k), shares(50, k + 100)) for k in range(40)]
    flat = np.stack([item.flat for item in blocks])
    low, high = intervals(flat, 10)
    mean = mean_of(flat_scores(flat.sum(axis=0), 10))
    assert (low < mean).all()
    assert (mean < high).all()
    few = intervals(flat[:6], 10)
    assert (few[1] - few[0])[1] > (high - low)[1]
    assert np.isnan(intervals(flat[:1], 10)[0]).all()


def test_honest_deviations_are_calibrated_and_too_small_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    mean = rng.beta(0.2, 1, (40_000, 2))
    deviation = np.sqrt(mean * (1 - mean)) * rng.uniform(0.05, 0.7, mean.shape)
    truth = rng.beta(*beta_parameters(mean, deviation))
    truth[truth < 1e-4] = 0  # as in real maps, most shares are exactly 0
    assert (truth == 0).mean() > 0.3
    honest, small = (ShareCalibration.of(truth, mean, deviation * part) for part in (1, 1 / 3))
    for level in LEVELS:
        assert honest.coverage[f"{100 * level:.0f}"] == pytest.approx(level, abs=0.01)
    assert honest.error < 0.005
    assert small.coverage["68"] < 0.5
    assert small.error > 0.05
    half = ShareCalibration.of(truth[:100], mean[:100], deviation[:100]) + ShareCalibration.of(
        truth[100:], mean[100:], deviation[100:]
    )
    np.testing.assert_allclose(half.curve, honest.curve, equal_nan=True)


def test_the_part_of_a_share_inside_an_interval_is_that_computed_by_hand() -> None:
    # all shares are equally likely: the central interval of 20 % is 0.4 to 0.6, and 0.5 covers 0.495 to 0.505
    flat = np.full(4, 1 / 12**0.5)
    inside = part_inside(np.array([0.5, 0.25, 0.1, 0.0]), np.full(4, 0.5), flat)
    assert inside[0] == pytest.approx([1, 0.5, 0, 0], abs=1e-6)  # 50 %: from 0.25 to 0.75
    assert inside[2] == pytest.approx([1, 1, 0.5, 0], abs=1e-6)  # 80 %: from 0.1 to 0.9
    # with a deviation of 0 only the resolution counts: an equal share is inside as often as it should be
    exact = part_inside(np.array([0.3, 0.4]), np.array([0.3, 0.3]), np.zeros(2))
    assert exact[:, 0] == pytest.approx(LEVELS, abs=1e-6)
    assert (exact[:, 1] == 0).all()


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[AbundanceMap, AbundanceMap, Path]:
    folder = tmp_path_factory.mktemp("abundance")
    truth = np.moveaxis(shares(60 * 80, 5).reshape(60, 80, 10), -1, 0)
    estimate = 0.7 * truth + 0.3 * np.moveaxis(shares(60 * 80, 6).reshape(60, 80, 10), -1, 0)
    truth[:, :3] = np.nan
    return write(folder / "map.tif", estimate, FINE), write(folder / "truth.tif", truth, FINE), folder


def write(path: Path, content: np.ndarray, legend: Legend) -> AbundanceMap:
    with AbundanceWriter(path, GRID, legend) as file:
        file.write_shares(0, 0, content)
    return AbundanceMap(str(path), GRID, legend)


def test_maps_are_assessed_by_pixel_block_and_level(maps: tuple[AbundanceMap, AbundanceMap, Path]) -> None:
    estimate, truth, folder = maps
    assessment = assess_abundance(estimate, truth, errors=folder / "errors.tif")
    assert assessment.sums.evaluated_px == 57 * 80
    t, p = (np.moveaxis(item.read()[:, 3:], 0, -1).reshape(-1, 10) for item in (truth, estimate))
    assert assessment.sums.mean("rmse") == pytest.approx(AbundanceSums.of(FINE, t, p).mean("rmse"), abs=1e-9)
    coarse = [sum_to_level(part.T, FINE, 1).T for part in (t, p)]
    assert assessment.levels[1].mean("mae") == pytest.approx(
        AbundanceSums.of(FINE.level(1), *coarse).mean("mae"), abs=1e-6
    )
    # 18 x 15 km over 40 x 30 km: three by two blocks
    assert assessment.block_names == ("1.1", "1.2", "1.3", "2.1", "2.2", "2.3")
    assert sum(item.evaluated_px for item in assessment.block_sums) == 57 * 80
    assert assessment.density.sum() == 10 * 57 * 80
    import rasterio

    with rasterio.open(folder / "errors.tif") as data:
        errors = data.read() / 10_000
        assert data.descriptions == ("rmse", "rrmse")
    assert errors[0, 10, 10] == pytest.approx(
        (((estimate.read() - truth.read())[:, 10, 10] ** 2).mean()) ** 0.5, abs=1e-4
    )
    np.testing.assert_allclose(assessment.overview.rmse[10, 10], errors[0, 10, 10], atol=1e-4)


def test_only_chosen_pixels_are_evaluated(maps: tuple[AbundanceMap, AbundanceMap, Path]) -> None:
    estimate, truth, _ = maps
    chosen = np.zeros(GRID.shape, np.bool_)
    chosen[0:10, 0:10] = True
    assessment = assess_abundance(estimate, truth, chosen=chosen)
    assert assessment.sums.evaluated_px == 70
    assert np.isfinite(assessment.overview.rmse).sum() == 70
    with pytest.raises(InputError, match="share no pixel to evaluate"):
        assess_abundance(estimate, truth, chosen=np.zeros(GRID.shape, np.bool_))


def test_a_coarse_map_is_compared_with_a_finer_reference(
    maps: tuple[AbundanceMap, AbundanceMap, Path], tmp_path: Path
) -> None:
    estimate, truth, _ = maps
    upper = write(tmp_path / "upper.tif", sum_to_level(estimate.read(), FINE, 1), FINE.level(1))
    assessment = assess_abundance(upper, truth)
    assert assessment.sums.mean("rmse") == pytest.approx(
        assess_abundance(estimate, truth).levels[1].mean("rmse"), abs=0.01
    )
    with pytest.raises(InputError, match="both must be in one legend"):
        assess_abundance(estimate, upper)


def test_other_pixels_and_legends_are_refused(
    maps: tuple[AbundanceMap, AbundanceMap, Path], tmp_path: Path
) -> None:
    estimate, truth, _ = maps
    moved = AbundanceMap(
        truth.path, GeoBox(GRID.shape, GRID.affine @ Affine.translation(0.4, 0), GRID.crs), FINE
    )
    with pytest.raises(GridError, match="have different pixels"):
        assess_abundance(estimate, moved)
    other = AbundanceMap(truth.path, window_grid(GRID, 0, 0, 60, 80), PAIR)
    with pytest.raises(InputError, match="both must be in one legend"):
        assess_abundance(estimate, other)


def assess_with_uncertainty(maps: tuple[AbundanceMap, AbundanceMap, Path]) -> AbundanceAssessment:
    estimate, truth, folder = maps
    spread = np.full((10, *GRID.shape), 20, np.uint8)
    write_bands(folder / "deviation.tif", spread, GRID, names=FINE.codes, nodata=255, scale=1 / 254)
    return assess_abundance(estimate, truth, uncertainty=folder / "deviation.tif")


def test_the_report_is_one_offline_page_with_its_figures_as_json(
    maps: tuple[AbundanceMap, AbundanceMap, Path], tmp_path: Path
) -> None:
    assessment = assess_with_uncertainty(maps)
    assert assessment.calibration is not None
    assert assessment.calibration.count == 10 * 57 * 80
    path = write_abundance_report(tmp_path, assessment, title="A <test>", facts={"Seed": "1"})
    page = path.read_text(encoding="utf-8")
    assert "A &lt;test&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    document = json.loads((tmp_path / "assessment.json").read_text(encoding="utf-8"))
    assert document["mean"]["rmse"] == pytest.approx(assessment.sums.mean("rmse"))
    assert [row["code"] for row in document["classes"]] == list(FINE.codes)
    for name in ("density", "classes", "abundances", "errors", "calibration"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def write_pair(path: Path, rows: list[list[float]]) -> AbundanceMap:
    """Shares of the classes A and B in a row of three pixels."""
    grid = GeoBox((1, 3), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")
    with AbundanceWriter(path, grid, PAIR) as file:
        file.write_shares(0, 0, np.array(rows).T[:, np.newaxis])
    return AbundanceMap(str(path), grid, PAIR)


def test_document_and_page_have_the_figures_computed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # errors of A, and of B: -0.1, -0.2, 0.2; largest class of the reference A, A, B, of the map A, B, B
    reference = write_pair(tmp_path / "reference.tif", [[1, 0], [0.6, 0.4], [0, 1]])
    map = write_pair(tmp_path / "map.tif", [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    shown: dict[str, object] = {}

    def render(document: AbundanceReportDocument, pictures: Mapping[str, bytes], *, cell_px: int) -> str:
        shown.update(pictures=pictures, cell_px=cell_px)
        return render_page(document, pictures, cell_px=cell_px)

    monkeypatch.setattr(report, "render_page", render)
    path = write_abundance_report(tmp_path / "out", assess_abundance(map, reference), notes=["A note."])
    document = json.loads(path.with_name("assessment.json").read_text(encoding="utf-8"))
    a, b = document["classes"]
    assert (document["evaluated_px"], document["blocks"]) == (3, 1)
    assert (a["reference_share"], a["map_share"]) == pytest.approx((1.6 / 3, 0.5), abs=1e-6)
    assert (b["reference_share"], b["map_share"]) == pytest.approx((1.4 / 3, 0.5), abs=1e-6)
    assert (a["mae"], b["mae"]) == pytest.approx((100 * 0.5 / 3, 100 * 0.5 / 3), abs=1e-4)
    assert (a["rmse"], b["rmse"]) == pytest.approx((100 * 0.03**0.5, 100 * 0.03**0.5), abs=1e-4)
    assert a["rrmse"] == pytest.approx(100 * (0.09 / 1.36) ** 0.5, abs=1e-4)
    assert b["rrmse"] == pytest.approx(100 * (0.09 / 1.16) ** 0.5, abs=1e-4)
    assert a["f1"] == b["f1"] == pytest.approx(2 / 3)
    assert document["by_block"]["1.1"]["evaluated_px"] == 3
    assert document["notes"] == ["A note."]
    page = Page(path.read_text(encoding="utf-8"))
    assert page.table("Scores by class")[1:] == [
        ["A", "53.3 %", "50.0 %", "16.67", "17.32", "25.72", "0.9368", "0.6667"],
        ["B", "46.7 %", "50.0 %", "16.67", "17.32", "27.85", "0.9368", "0.6667"],
        ["Mean of the classes", "", "", "16.67", "17.32", "26.79", "0.9368", "0.6667"],
    ]
    assert page.table("Scores by block")[1:] == [["1.1", "3", "16.67", "17.32", "26.79", "0.9368", "0.6667"]]
    assert page.figures["RRMSE"] == "26.79 %"
    assert page.sentences[0] == "A note."
    assert render_page(document, shown["pictures"], cell_px=shown["cell_px"]) == path.read_text(
        encoding="utf-8"
    )  # type: ignore[arg-type]
