"""Changes: their classes, areas with intervals from a sample or an error model, and the change layer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from known_land import CROP, FOREST, GRASS, LULUCF, TOWN, YEARS, Region, grid, make_region, write
from tesela.accounting.accounting import account_maps
from tesela.accounting.change_odds import ProbabilityReader
from tesela.accounting.change_uncertainty import ErrorModel, estimate_changes, simulate_changes
from tesela.accounting.changes import map_change_layer, map_changes
from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import InputError, LegendError
from tesela.core.legend import LandClass, Legend
from tesela.core.scene import Scene
from tesela.io.images import write_bands
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, open_map
from tesela.io.scenes import open_scene
from tesela.io.tables import read_table
from tesela.sampling.change_codes import change_code, change_legend, change_values
from tesela.sampling.design import plan_sample
from tesela.sampling.draw import draw_sample
from tesela.sampling.error_matrix import Sample


@pytest.fixture
def region() -> Region:
    return make_region()


@pytest.fixture
def maps(tmp_path: Path) -> list[ClassMap]:
    return make_region().write(tmp_path)


@given(arrays(np.uint8, (2, 40), elements=st.integers(0, 6)))
@settings(max_examples=40, deadline=None)
def test_change_values_name_both_classes(pair: NDArray[np.uint8]) -> None:
    changes = change_legend(LULUCF)
    codes = {0: None} | {item.value: item.code for item in changes.classes}
    for before, after, value in zip(*pair, change_values(pair[0], pair[1], LULUCF), strict=True):
        expected = None
        if before and after:
            expected = change_code(LULUCF.classes[before - 1].code, LULUCF.classes[after - 1].code)
        assert codes[int(value)] == expected


def wrong_map(truth: NDArray[np.uint8], *, seed: int, share: float = 0.04) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    mapped = truth.copy()
    errs = rng.random(truth.shape) < share
    mapped[errs] = rng.integers(1, 7, errs.sum())
    return mapped


def test_a_sample_corrects_the_bias_of_change_areas(tmp_path: Path, region: Region) -> None:
    truth = [region.values[0], region.values[-1]]
    years = [2000, 2024]
    maps = [write(tmp_path / f"{k}.tif", wrong_map(v, seed=k)) for k, v in enumerate(truth)]
    strata = map_changes(maps[0], maps[1], tmp_path / "changes.tif")
    design = plan_sample(strata, points=2000, minimum=30, seed=1)
    path = draw_sample(strata, tmp_path / "sample.gpkg", design=design)
    points, others = (
        read_table(path, layer="points"),
        {k: read_table(path, layer=k) for k in ("strata", "key")},
    )
    row = ((4_100_000 - points["y"]) // 100).astype(int)
    col = ((points["x"] - 500_000) // 100).astype(int)
    codes = change_legend(LULUCF).codes
    right = (truth[0][row, col] - 1).astype(int) * 6 + truth[1][row, col] - 1
    points["reference"] = [codes[k] for k in right]
    write_layers(path, {"points": points, **others})
    accounts = account_maps(maps, years, tmp_path / "out", samples={(2000, 2024): path}, forest=None)
    (estimate,) = accounts.estimates
    assert estimate.basis == "design-based"
    true_areas = np.bincount(truth[1].ravel(), minlength=7)[1:]
    for item, area in zip(estimate.after, true_areas, strict=True):
        assert abs(item.value - area) < 4 * item.se + 5  # a class too rare for the sample has no error
    lost = int(((truth[0] == CROP) & (truth[1] == TOWN)).sum())
    change = estimate.changes[CROP - 1][TOWN - 1]
    mapped = float(estimate.mapped_ha[CROP - 1, TOWN - 1])
    assert abs(change.value - lost) < 4 * change.se + 5
    assert abs(mapped - lost) > 30  # the map alone is far off
    rows = read_table(accounts.files["changes"])
    assert set(rows["basis"]) == {"design-based"}
    total = sum(item.value for row in estimate.changes for item in row)
    assert total == pytest.approx(40_000)


def test_estimated_changes_add_up_to_the_areas_before_and_after() -> None:
    rng = np.random.default_rng(0)
    codes = change_legend(LULUCF).codes
    counts = rng.integers(0, 4, size=(5, 36, 36))
    sample = Sample(codes, tuple("abcde"), np.array([4e4, 3e4, 2e4, 1e4, 5e3]), counts, pixel_area_ha=0.5)
    estimates = estimate_changes(sample, np.zeros((6, 6)), legend=LULUCF, years=(2000, 2010))
    values = np.array([[item.value for item in row] for row in estimates.changes])
    assert values.sum(axis=1) == pytest.approx([item.value for item in estimates.before])
    assert values.sum(axis=0) == pytest.approx([item.value for item in estimates.after])
    assert values.sum() == pytest.approx(sample.area_ha)
    document = json.loads(json.dumps(estimates.to_dict()))
    assert document["basis"] == "design-based"
    with pytest.raises(LegendError, match="not changes of legend 'lulucf'"):
        estimate_changes(
            Sample.from_matrix(np.eye(6) * 5, sizes_px=[9] * 6, classes=LULUCF.codes),
            np.zeros((6, 6)),
            legend=LULUCF,
            years=(2000, 2010),
        )


def test_without_a_sample_the_result_is_marked_as_a_model(maps: list[ClassMap], tmp_path: Path) -> None:
    model = ErrorModel(np.eye(6) * 90 + 2, independent=400)
    accounts = account_maps(maps[:2], YEARS[:2], tmp_path / "out", error_model=model)
    assert [item.basis for item in accounts.estimates] == ["model-based"]
    assert "model-based" in (tmp_path / "out" / "changes.csv").read_text(encoding="utf-8")
    assert any("Not an estimate from reference data" in note for note in accounts.notes)
    assert any("model-based" in line for line in accounts.to_lines())


def test_a_model_of_a_map_without_errors_returns_the_map() -> None:
    mapped = np.diag([100.0, 80, 60, 40, 20, 10])
    mapped[1, 4] = 7
    estimates = simulate_changes(
        mapped, legend=LULUCF, years=(2000, 2010), model=ErrorModel(np.eye(6), independent=1e9)
    )
    assert [[item.value for item in row] for row in estimates.changes] == pytest.approx(mapped, abs=1e-4)


@given(st.floats(0, 1), st.integers(50, 5000))
@settings(max_examples=20, deadline=None)
def test_simulated_changes_keep_the_total_area(persistence: float, independent: int) -> None:
    mapped = np.random.default_rng(1).uniform(0, 50, (6, 6)) + np.diag([500.0] * 6)
    model = ErrorModel(np.eye(6) * 80 + 4, independent=independent, persistence=persistence, draws=50)
    estimates = simulate_changes(mapped, legend=LULUCF, years=(2000, 2010), model=model)
    values = np.array([[item.value for item in row] for row in estimates.changes])
    assert values.sum() == pytest.approx(mapped.sum())
    assert values.sum(axis=1) == pytest.approx([item.value for item in estimates.before])
    assert values.sum(axis=0) == pytest.approx([item.value for item in estimates.after])


def test_intervals_of_the_model_cover_the_truth_when_its_assumptions_hold() -> None:
    """Truth is drawn from the mapped classes with known probabilities; the model has a matrix of 300 pixels."""
    rng = np.random.default_rng(5)
    probabilities = np.array([[0.9, 0.1, 0.05], [0.07, 0.85, 0.1], [0.03, 0.05, 0.85]])
    three = Legend("three", LULUCF.classes[:3])
    mapped = np.array([[500.0, 60, 20], [30, 400, 10], [5, 25, 300]])
    stable = np.diag(mapped)
    off = mapped - np.diag(stable)
    truth = probabilities @ off @ probabilities.T + np.diag(probabilities @ stable)
    covered = np.zeros((3, 3))
    runs = 400
    for run in range(runs):
        matrix = np.stack([rng.multinomial(100, probabilities[:, m]) for m in range(3)], axis=1)
        model = ErrorModel(matrix.astype(float), independent=300, draws=400, seed=run)
        estimates = simulate_changes(mapped, legend=three, years=(2000, 2006), model=model)
        low = np.array([[item.low for item in row] for row in estimates.changes])
        high = np.array([[item.high for item in row] for row in estimates.changes])
        covered += (low <= truth) & (truth <= high)
    assert (covered / runs).min() >= 0.91
    assert (covered / runs).max() <= 0.99


def test_a_confusion_in_classes_of_the_map_becomes_one_of_categories() -> None:
    context = open_legend("lulucf-context")
    to = ("wetlands", "settlements", "forest_land", "cropland", "grassland", "other_land")
    crosswalk = Crosswalk(
        "x", LULUCF, tuple(CrosswalkRow(a, b) for a, b in zip(context.codes, to, strict=True))
    )
    counts = np.arange(36).reshape(6, 6)
    model = ErrorModel.from_confusion(counts, context, independent=100, crosswalk=crosswalk)
    assert model.confusion[FOREST - 1, CROP - 1] == counts[2, 3]
    assert model.confusion.sum() == counts.sum()
    split = replace(
        crosswalk,
        rows=(
            *crosswalk.rows[1:],
            CrosswalkRow(context.codes[0], to[0], 0.6),
            CrosswalkRow(context.codes[0], to[1], 0.4),
        ),
    )
    whole = ErrorModel.from_confusion(counts, context, independent=100, crosswalk=split)
    np.testing.assert_array_equal(whole.confusion, model.confusion)
    with pytest.raises(InputError, match="independent > 0"):
        ErrorModel(np.eye(6), independent=0)
    with pytest.raises(LegendError, match=r"has the shape \(3, 3\)"):
        simulate_changes(np.eye(6), legend=LULUCF, years=(0, 1), model=ErrorModel(np.eye(3), independent=9))


def probabilities(path: Path, values: NDArray[np.uint8], share: NDArray[np.floating], size_m: float) -> Scene:
    """Bands of the six classes: the mapped class has a share, the rest is cropland's, or grassland's for cropland."""
    out = np.full((6, *values.shape), 1, np.uint8)
    other = np.where(values == CROP, GRASS, CROP)
    for number in range(6):
        out[number][values == number + 1] = np.rint(254 * share)[values == number + 1]
        out[number][other == number + 1] = np.rint(254 * (1 - share))[other == number + 1]
    box = grid(*values.shape, size_m=size_m)
    return open_scene(write_bands(path, out, box, names=LULUCF.codes, nodata=255, scale=1 / 254))


def test_the_change_layer_contains_only_areas_of_5_ha_and_likely_changes(tmp_path: Path) -> None:
    before = np.full((700, 100), CROP, np.uint8)
    after = before.copy()
    after[500:530, 10:30] = TOWN  # 6 ha at 10 m, across the border of two strips
    after[100:120, 10:35] = TOWN  # exactly 5 ha
    after[200:220, 10:34] = FOREST  # 4.8 ha
    after[300:320, 10:30], after[300:320, 30:50] = TOWN, FOREST  # 8 ha together, of two changes
    after[600:660, 50:90] = GRASS  # 24 ha that was nearly grassland before
    maps = [write(tmp_path / f"{k}.tif", v, size_m=10.0) for k, v in enumerate((before, after))]
    sure = np.full(before.shape, 0.9)
    doubtful = sure.copy()
    doubtful[600:660, 50:90] = 0.6
    scenes = tuple(
        probabilities(tmp_path / f"p{k}.tif", values, doubtful, 10.0)
        for k, values in enumerate((before, after))
    )
    later = tmp_path / "later.tif"
    layer = map_change_layer(*maps, tmp_path / "changes.tif", probabilities=scenes, later=later)
    assert (layer.changed_ha, layer.uncertain_ha, layer.small_ha) == pytest.approx((11.0, 24.0, 12.8))
    from tesela.io.maps import MapReader

    with MapReader(layer.map) as reader:
        values = reader.read(layer.map.grid)
    town = change_legend(LULUCF)["cropland>settlements"].value
    assert sorted(np.unique(values)) == [0, town]
    assert (values == town).sum() == 1100
    with MapReader(open_map(later)) as reader:
        assert (reader.read(layer.map.grid) == np.where(values == town, TOWN, CROP)).all()
    everything = map_change_layer(maps[0], maps[1], tmp_path / "all.tif", min_area_m2=0)
    assert everything.changed_ha == pytest.approx(47.8)
    nothing = map_change_layer(maps[0], maps[0], tmp_path / "none.tif")
    assert nothing.changed_ha == 0


def test_a_class_without_counts_has_no_errors_and_others_have_the_mean_of_their_prior() -> None:
    three = Legend("three", LULUCF.classes[:3])
    confusion = np.zeros((3, 3))
    confusion[0, 0] = 12.0  # classes 1 and 2 were never assessed
    model = ErrorModel(confusion, independent=12, draws=20_000)
    mapped = np.diag([90.0, 60.0, 30.0])
    estimates = simulate_changes(mapped, legend=three, years=(2000, 2005), model=model)
    # Dirichlet of 12 + 1/3, 1/3, 1/3: of the 90 ha, 1/39 is class 1 and 1/39 class 2
    after = [item.value for item in estimates.after]
    assert after == pytest.approx([90 * 37 / 39, 60 + 90 / 39, 30 + 90 / 39], rel=0.01)
    assert estimates.changes[0][1].value == 0, "at persistence 1 unchanged pixels stay unchanged"
    rows = estimates.to_dict()["changes"]
    assert [row["estimate_ha_per_year"] for row in rows] == [None] * 3  # type: ignore[index, union-attr]


def test_a_yearly_estimate_is_the_change_over_the_years_between() -> None:
    counts = np.zeros((1, 36, 36), int)
    counts[0, 1, 1], counts[0, 0, 0] = 20, 80
    sample = Sample(change_legend(LULUCF).codes, ("all",), np.array([1000.0]), counts, pixel_area_ha=1.0)
    estimates = estimate_changes(sample, np.zeros((6, 6)), legend=LULUCF, years=(2000, 2005))
    (row,) = [row for row in estimates.to_dict()["changes"] if row["from"] != row["to"]]  # type: ignore[union-attr, index]
    assert row["estimate_ha"]["value"] == pytest.approx(200)
    assert row["estimate_ha_per_year"]["value"] == pytest.approx(40)


def test_a_change_of_exactly_the_least_odds_counts(tmp_path: Path) -> None:
    before, after = np.full((4, 4), CROP, np.uint8), np.full((4, 4), GRASS, np.uint8)
    after[:, [1, 3]] = CROP  # two areas of a column each
    maps = [write(tmp_path / f"{k}.tif", values) for k, values in enumerate((before, after))]
    share = np.array([[0.5, 0.9, 0.75, 0.9]] * 4)
    scenes = tuple(
        probabilities(tmp_path / f"p{k}.tif", values, share, 100.0)
        for k, values in enumerate((before, after))
    )
    stored = np.rint(254 * share[0]) / np.rint(254 * (1 - share[0]))  # odds of a class against the other
    layer = map_change_layer(
        *maps,
        tmp_path / "layer.tif",
        min_area_m2=0,
        probabilities=scenes,
        min_odds=stored[2] ** 2,
    )
    assert (layer.changed_ha, layer.uncertain_ha) == (4, 4)


def test_classes_of_a_crosswalk_share_their_probabilities_and_lost_bands_are_told(tmp_path: Path) -> None:
    two = Legend("two", (LandClass(1, "a", "A", "#112233"), LandClass(2, "b", "B", "#445566")))
    table = np.zeros(256, np.uint8)
    table[1:7] = (1, 1, 1, 2, 2, 0)
    planes = np.array([10, 20, 30, 40, 50, 104], np.uint8)[:, None, None] * np.ones((1, 3, 3), np.uint8)
    box = grid(3, 3)
    names = LULUCF.codes
    scene = open_scene(write_bands(tmp_path / "p.tif", planes, box, names=names, nodata=255))
    with ProbabilityReader(scene, LULUCF, two, table) as reader:
        assert reader.read(box)[:, 1, 1].tolist() == [60, 90]
    with pytest.raises(LegendError, match="has no band for cropland, but forest_land"):
        ProbabilityReader(scene.select(["forest_land"]), Legend("one", LULUCF.classes[1:2]), two, table)
