"""Counting, scoring and assessing: matrices counted by hand, laws, and scikit-learn for comparison."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.assessment.assessment import Assessment, assess
from tesela.assessment.confusion import Confusion, count_confusion
from tesela.assessment.overall import scores_of_draws
from tesela.assessment.scores import f1, iou, kappa, pixel_accuracy, precision, recall, score
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.grid import window_grid
from tesela.core.legend import LandClass, Legend
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map
from tesela.io.pixel_areas import pixels_inside

WATER, LAND, WOOD = (
    LandClass(1, "w", "Water", "#0000ff"),
    LandClass(2, "l", "Land", "#ffff00"),
    LandClass(7, "f", "Wood", "#008800"),
)
LEGEND = Legend("demo", (WATER, LAND, WOOD))
CORINE = open_legend("corine-3")
GRID = GeoBox((6, 8), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")

values = st.sampled_from([0, 1, 2, 7])
pairs = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=values),
        arrays(np.uint8, shape, elements=values),
    )
)


def uint8(rows: list[list[int]]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


# By hand: reference over prediction, 10 evaluated pixels, 1 hole in the map, 2 in the reference.
REFERENCE = uint8([[1, 1, 1, 1, 2, 2, 2], [2, 7, 7, 7, 0, 0, 0]])
PREDICTED = uint8([[1, 1, 1, 2, 2, 2, 7], [0, 7, 7, 2, 1, 7, 0]])
COUNTS = [[3, 1, 0], [0, 2, 1], [0, 1, 2]]


@pytest.fixture
def confusion() -> Confusion:
    return count_confusion(REFERENCE, PREDICTED, LEGEND)


@pytest.fixture
def make_map(tmp_path: Path) -> Callable[..., ClassMap]:
    def make(
        name: str, pixels: NDArray[np.uint8], *, grid: GeoBox = GRID, legend: Legend = LEGEND
    ) -> ClassMap:
        return write_map(tmp_path / f"{name}.tif", pixels, grid, legend=legend)

    return make


def random_map(
    seed: int, *, legend: Legend = LEGEND, shape: tuple[int, int] = GRID.shape, nodata: float = 0.1
) -> NDArray[np.uint8]:
    chance = np.random.default_rng(seed)
    pixels = chance.choice(np.array(legend.values, np.uint8), shape)
    pixels[chance.random(shape) < nodata] = 0
    return pixels


# Counting


def test_a_matrix_counted_by_hand(confusion: Confusion) -> None:
    assert confusion.counts.tolist() == COUNTS
    assert confusion.unmapped.tolist() == [0, 1, 0]
    assert confusion.unreferenced.tolist() == [1, 0, 1]
    assert (confusion.evaluated_px, confusion.unmapped_px, confusion.unreferenced_px) == (10, 1, 2)
    assert confusion.coverage == 10 / 11


@settings(deadline=None)
@given(pairs)
def test_no_pixel_is_lost(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    reference, predicted = pair
    confusion = count_confusion(reference, predicted, LEGEND)
    neither = int(((reference == 0) & (predicted == 0)).sum())
    assert (
        confusion.evaluated_px + confusion.unmapped_px + confusion.unreferenced_px + neither == reference.size
    )
    assert (confusion.reference_px + confusion.unmapped).tolist() == [
        int((reference == v).sum()) for v in LEGEND.values
    ]
    assert (confusion.predicted_px + confusion.unreferenced).tolist() == [
        int((predicted == v).sum()) for v in LEGEND.values
    ]


@settings(deadline=None)
@given(pairs, st.integers(0, 9))
def test_the_parts_of_a_map_add_up_to_the_whole(
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]], cut: int
) -> None:
    reference, predicted = pair
    parts = [
        count_confusion(reference[:cut], predicted[:cut], LEGEND),
        count_confusion(reference[cut:], predicted[cut:], LEGEND),
    ]
    whole = count_confusion(reference, predicted, LEGEND)
    assert sum(parts, start=Confusion.empty(LEGEND)) == whole


@settings(deadline=None)
@given(pairs)
def test_swapping_map_and_reference_transposes_the_matrix(
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    there, back = count_confusion(*pair, LEGEND), count_confusion(*pair[::-1], LEGEND)
    assert there.counts.tolist() == back.counts.T.tolist()
    assert there.unmapped.tolist() == back.unreferenced.tolist()


def test_views_that_are_not_contiguous_are_counted_right(confusion: Confusion) -> None:
    assert count_confusion(REFERENCE[:, ::-1].T, PREDICTED[:, ::-1].T, LEGEND) == confusion


def test_folding_to_a_level_equals_counting_at_that_level() -> None:
    reference, predicted = random_map(1, legend=CORINE), random_map(2, legend=CORINE)
    fine = count_confusion(reference, predicted, CORINE)
    for depth in (1, 2, 3):
        assert fine.at_level(depth) == count_confusion(reference, predicted, CORINE, level=depth)
    assert fine.at_level(1).evaluated_px == fine.evaluated_px
    assert fine.at_level(1).at_level(1) == fine.at_level(2).at_level(1)


def test_a_confusion_cannot_be_changed(confusion: Confusion) -> None:
    with pytest.raises(ValueError, match="read-only"):
        confusion.counts[0, 0] = 9


def test_confusions_of_two_legends_cannot_be_added(confusion: Confusion) -> None:
    with pytest.raises(LegendError, match=r"'demo' and in 'corine-3' cannot be added.*one legend"):
        confusion + Confusion.empty(CORINE)


def test_a_matrix_of_the_wrong_size_is_an_error() -> None:
    with pytest.raises(LegendError, match=r"counts .* \(2, 2\); legend 'demo' of 3 classes needs \(3, 3\)"):
        Confusion(LEGEND, np.zeros((2, 2), np.int64), np.zeros(3, np.int64), np.zeros(3, np.int64))


@pytest.mark.parametrize(("side", "named"), [(0, "The reference"), (1, "The map")])
def test_a_value_that_the_legend_lacks_is_named(side: int, named: str) -> None:
    both = [REFERENCE.copy(), PREDICTED.copy()]
    both[side][0, 0] = 9
    with pytest.raises(
        LegendError, match=rf"{named} holds the values 9, but legend 'demo' has values 1, 2, 7"
    ):
        count_confusion(both[0], both[1], LEGEND)


def test_arrays_of_two_shapes_are_an_error() -> None:
    with pytest.raises(InputError, match=r"reference has \(2, 7\) pixels and the map \(1, 7\)"):
        count_confusion(REFERENCE, PREDICTED[:1], LEGEND)


def test_arrays_that_are_not_bytes_are_an_error() -> None:
    with pytest.raises(InputError, match="came as uint8 and int64; they must be uint8"):
        count_confusion(REFERENCE, PREDICTED.astype(np.int64), LEGEND)  # type: ignore[arg-type]


# Scoring


def test_scores_computed_by_hand(confusion: Confusion) -> None:
    scores = score(confusion)
    assert scores.evaluated_px == 10
    assert scores.accuracy == pytest.approx(7 / 10)
    assert scores.majority == pytest.approx(4 / 10)
    water, land, wood = scores.classes
    assert (water.iou, water.f1, water.precision, water.recall) == pytest.approx((3 / 4, 6 / 7, 1, 3 / 4))
    assert (land.iou, land.f1, land.precision, land.recall) == pytest.approx((2 / 5, 4 / 7, 1 / 2, 2 / 3))
    assert (wood.iou, wood.f1, wood.precision, wood.recall) == pytest.approx((1 / 2, 2 / 3, 2 / 3, 2 / 3))
    assert scores.mean_iou == pytest.approx((3 / 4 + 2 / 5 + 1 / 2) / 3)
    assert scores.macro_f1 == pytest.approx((6 / 7 + 4 / 7 + 2 / 3) / 3)
    # chance agreement: (4 x 3 + 3 x 4 + 3 x 3) / 100
    assert scores.kappa == pytest.approx((0.7 - 0.33) / (1 - 0.33))
    assert (land.reference_px, land.predicted_px, land.correct_px) == (3, 4, 2)
    assert (scores.absent, scores.missed, scores.invented) == ((), (), ())


def test_holes_of_the_map_lower_recall_when_they_are_to_count_as_errors(confusion: Confusion) -> None:
    scores = score(confusion, unmapped_as_errors=True)
    land = scores.classes[1]
    assert scores.evaluated_px == 11
    assert scores.accuracy == pytest.approx(7 / 11)
    assert (land.iou, land.f1, land.precision, land.recall) == pytest.approx((2 / 6, 4 / 8, 1 / 2, 2 / 4))
    assert scores.classes[0] == score(confusion).classes[0]


def test_a_class_absent_from_both_sides_is_left_out_of_means_and_named() -> None:
    scores = score(count_confusion(uint8([[1, 2, 2]]), uint8([[1, 2, 1]]), LEGEND))
    assert scores.absent == ("f",)
    assert math.isnan(scores.classes[2].iou)
    assert scores.mean_iou == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_a_class_never_mapped_or_invented_counts_as_zero() -> None:
    scores = score(count_confusion(uint8([[1, 1, 7]]), uint8([[1, 1, 2]]), LEGEND))
    assert (scores.missed, scores.invented, scores.absent) == (("f",), ("l",), ())
    for item in scores.classes[1:]:
        assert (item.iou, item.f1, item.precision, item.recall) == (0, 0, 0, 0)
    assert scores.mean_iou == scores.macro_f1 == pytest.approx(1 / 3)


def test_without_evaluated_pixels_there_are_no_scores() -> None:
    scores = score(Confusion.empty(LEGEND))
    assert scores.evaluated_px == 0
    for value in (scores.accuracy, scores.mean_iou, scores.macro_f1, scores.kappa, scores.coverage):
        assert math.isnan(value)
    assert scores.absent == LEGEND.codes


def test_kappa_does_not_exist_where_one_class_fills_both_sides() -> None:
    assert math.isnan(kappa(np.diag([5, 0, 0])))


@settings(deadline=None)
@given(pairs)
def test_scores_equal_those_of_scikit_learn(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    from sklearn import metrics

    reference, predicted = pair
    both = (reference > 0) & (predicted > 0)
    if not both.any():
        return
    truth, guess = reference[both], predicted[both]
    scores = score(count_confusion(reference, predicted, LEGEND))
    means = {"average": "macro", "zero_division": 0}
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(truth, guess))
    assert scores.mean_iou == pytest.approx(metrics.jaccard_score(truth, guess, **means))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(truth, guess, **means))
    assert scores.macro_precision == pytest.approx(metrics.precision_score(truth, guess, **means))
    assert scores.macro_recall == pytest.approx(metrics.recall_score(truth, guess, **means))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns and returns NaN where kappa does not exist
        theirs = metrics.cohen_kappa_score(truth, guess)
    assert scores.kappa == pytest.approx(theirs, nan_ok=True)


def test_scores_of_many_draws_are_those_of_each(confusion: Confusion) -> None:
    other = np.array(confusion.counts).T * 3
    other[:, 1] = other[1] = 0  # a class that is absent from the draw
    counts = np.stack([confusion.counts, other]).astype(np.float64)
    none = np.zeros(len(confusion.legend), np.int64)
    for made, of in zip(scores_of_draws(counts), (np.array(confusion.counts), other), strict=True):
        wanted = score(Confusion(confusion.legend, of, none, none))
        assert made.tolist() == pytest.approx([wanted.accuracy, wanted.mean_iou, wanted.macro_f1])


@settings(deadline=None)
@given(arrays(np.int64, (4, 4), elements=st.integers(0, 50)), st.integers(2, 9))
def test_scores_depend_on_shares_not_on_size(counts: NDArray[np.int64], times: int) -> None:
    for of in (iou, f1, precision, recall):
        np.testing.assert_allclose(of(counts), of(counts * times))
    assert pixel_accuracy(counts) == pytest.approx(pixel_accuracy(counts * times), nan_ok=True)


@settings(deadline=None)
@given(arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
def test_iou_never_exceeds_f1_which_lies_between_precision_and_recall(counts: NDArray[np.int64]) -> None:
    present = ~np.isnan(f1(counts))
    low = np.minimum(precision(counts), recall(counts))[present]
    high = np.maximum(precision(counts), recall(counts))[present]
    middle = f1(counts)[present]
    assert (iou(counts)[present] <= middle + 1e-12).all()
    assert ((low <= middle + 1e-12) & (middle <= high + 1e-12)).all()


# Assessing


def test_two_maps_on_one_grid_are_compared_as_their_arrays(make_map: Callable[..., ClassMap]) -> None:
    predicted, reference = random_map(1), random_map(2)
    assessment = assess(make_map("map", predicted), make_map("reference", reference))
    assert assessment.confusion == count_confusion(reference, predicted, LEGEND)
    assert assessment.scores == score(assessment.confusion)
    assert assessment.legend == LEGEND


@pytest.mark.parametrize("tiles_px", [1, 3, 4, 100])
def test_tiles_add_up_to_the_whole_and_lie_where_they_say(
    make_map: Callable[..., ClassMap], tiles_px: int
) -> None:
    predicted, reference = random_map(3), random_map(4)
    assessment = assess(make_map("map", predicted), make_map("reference", reference), tiles_px=tiles_px)
    assert (
        sum((tile.confusion for tile in assessment.tiles), start=Confusion.empty(LEGEND))
        == assessment.confusion
    )
    for tile in assessment.tiles:
        rows = slice(tile.row * tiles_px, (tile.row + 1) * tiles_px)
        cols = slice(tile.col * tiles_px, (tile.col + 1) * tiles_px)
        assert tile.confusion == count_confusion(reference[rows, cols], predicted[rows, cols], LEGEND)
        left, _, _, top = tile.bounds
        assert (left, top) == (500_000 + tile.col * tiles_px * 10, 4_100_000 - tile.row * tiles_px * 10)
    assert assessment.tiles[-1].bounds[1:3] == (4_099_940.0, 500_080.0)


def test_windows_of_large_tiles_are_joined(
    make_map: Callable[..., ClassMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted, reference = random_map(3), random_map(4)
    sides = make_map("map", predicted), make_map("reference", reference)
    whole = assess(*sides, tiles_px=6)
    monkeypatch.setattr("tesela.assessment.streaming._WINDOW_PX", 4)
    parts = assess(*sides, tiles_px=6)
    assert [tile.confusion for tile in parts.tiles] == [tile.confusion for tile in whole.tiles]


def test_areas_are_those_of_the_pixels(make_map: Callable[..., ClassMap]) -> None:
    assessment = assess(make_map("map", random_map(3)), make_map("reference", random_map(4)), tiles_px=4)
    np.testing.assert_allclose(assessment.areas_ha, assessment.confusion.counts * 0.01)


def test_areas_in_degrees_are_geodesic(make_map: Callable[..., ClassMap]) -> None:
    grid = GeoBox((6, 8), Affine(0.25, 0.0, 0.0, 0.0, -0.25, 0.75), "EPSG:4326")
    full = np.ones(grid.shape, np.uint8)
    assessment = assess(make_map("map", full, grid=grid), make_map("reference", full, grid=grid))
    # a degree at the equator: 111.32 km along it, 110.57 km across
    assert assessment.areas_ha.sum() == pytest.approx(2 * 1.5 * 11_132 * 1_105.7 / 10, rel=1e-3)
    assert any("areas are geodesic" in note for note in assessment.notes)


def test_a_reference_of_coarser_pixels_is_read_at_the_centres_of_the_map(
    make_map: Callable[..., ClassMap],
) -> None:
    coarse = GeoBox((2, 2), Affine(40.0, 0.0, 500_000.0, 0.0, -30.0, 4_100_000.0), "EPSG:32630")
    assessment = assess(
        make_map("map", np.full(GRID.shape, 2, np.uint8)),
        make_map("reference", uint8([[1, 2], [7, 0]]), grid=coarse),
    )
    assert assessment.confusion.counts[:, 1].tolist() == [12, 12, 12]
    assert assessment.confusion.unreferenced.tolist() == [0, 12, 0]
    assert any("another grid" in note for note in assessment.notes)


def test_a_reference_in_another_crs_is_read_on_the_map(make_map: Callable[..., ClassMap]) -> None:
    # EPSG:25830 is the same projection on ETRS89: the same places to less than a metre
    twin = GeoBox(GRID.shape, GRID.affine, "EPSG:25830")
    pixels, reference = random_map(5), random_map(6)
    assessment = assess(make_map("map", pixels), make_map("reference", reference, grid=twin))
    assert assessment.confusion == count_confusion(reference, pixels, LEGEND)


def test_a_reference_that_covers_a_part_leaves_the_rest_unreferenced(
    make_map: Callable[..., ClassMap],
) -> None:
    part = window_grid(GRID, 2, 3, 4, 9)
    full, reference = np.full(GRID.shape, 1, np.uint8), np.full(part.shape, 2, np.uint8)
    assessment = assess(make_map("map", full), make_map("reference", reference, grid=part))
    assert assessment.confusion.counts.tolist() == [[0, 0, 0], [20, 0, 0], [0, 0, 0]]
    assert assessment.confusion.unreferenced.tolist() == [28, 0, 0]


def test_only_pixels_whose_centres_lie_in_the_areas_are_evaluated(make_map: Callable[..., ClassMap]) -> None:
    predicted, reference = random_map(7), random_map(8)
    # one area over columns 2 to 4 of rows 1 and 2 (the fourth column's centre just outside), one off the map
    area = shapely.box(500_020.0, 4_099_970.0, 500_044.0, 4_099_990.0)
    within = gpd.GeoDataFrame(geometry=[area, shapely.box(0, 0, 1, 1)], crs="EPSG:32630")
    sides = make_map("map", predicted), make_map("reference", reference)
    assessment = assess(*sides, within=within, tiles_px=2)
    assert assessment.confusion == count_confusion(reference[1:3, 2:4], predicted[1:3, 2:4], LEGEND)
    assert any("2 test areas count" in note for note in assessment.notes)
    assert assessment.to_dict()["confined_to_areas"] == 2
    degrees = assess(*sides, within=within.to_crs("EPSG:4326"))
    assert degrees.confusion == assessment.confusion


def test_pixels_inside_areas_that_lie_elsewhere_are_none() -> None:
    elsewhere = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32630")
    assert not pixels_inside(GRID, elsewhere).any()


def test_maps_of_two_levels_of_one_tree_are_compared_at_the_level_given(
    make_map: Callable[..., ClassMap],
) -> None:
    fine, reference = random_map(1, legend=CORINE), random_map(2, legend=CORINE)
    coarse = CORINE.level_table(2)[fine]
    sides = make_map("map", coarse, legend=CORINE.level(2)), make_map("reference", reference, legend=CORINE)
    assessment = assess(*sides, level=1)
    assert assessment.confusion == count_confusion(reference, fine, CORINE, level=1)
    with pytest.raises(
        LegendError, match=r"'corine-2' \(15 classes\).*'corine-3' \(44.*level 2 \(--level 2\)"
    ):
        assess(*sides)
    with pytest.raises(LegendError, match="has levels 1 to 2; there is no level 3"):
        assess(*sides, level=3)


def test_maps_of_two_legends_are_an_error_that_says_how_to_translate(
    make_map: Callable[..., ClassMap],
) -> None:
    sides = make_map("map", random_map(1)), make_map("other", random_map(1, legend=CORINE), legend=CORINE)
    with pytest.raises(
        LegendError, match=r"legend 'demo' \(3 classes\).*tesela legend convert MAP --to demo"
    ):
        assess(*sides)


def test_a_reference_of_another_place_is_an_error(make_map: Callable[..., ClassMap]) -> None:
    away = window_grid(GRID, 0, 50, 6, 8)
    with pytest.raises(GridError, match=r"do not overlap: in EPSG:32630 .*map\.tif 500000 to 500080 east"):
        assess(make_map("map", random_map(1)), make_map("other", random_map(1), grid=away))


def test_nodata_everywhere_is_an_error(make_map: Callable[..., ClassMap]) -> None:
    empty = np.zeros(GRID.shape, np.uint8)
    with pytest.raises(InputError, match=r"both sides: .*map.tif has 48 px .*, the reference 0 px"):
        assess(make_map("map", np.ones(GRID.shape, np.uint8)), make_map("reference", empty))


def test_areas_without_an_evaluated_pixel_are_an_error(make_map: Callable[..., ClassMap]) -> None:
    elsewhere = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32630")
    with pytest.raises(InputError, match="No pixel inside the 1 areas given"):
        assess(make_map("map", random_map(1)), make_map("reference", random_map(1)), within=elsewhere)


def test_areas_without_a_crs_are_an_error(make_map: Callable[..., ClassMap]) -> None:
    lost = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)])
    with pytest.raises(GridError, match="have no coordinate system"):
        assess(make_map("map", random_map(1)), make_map("reference", random_map(1)), within=lost)


def test_a_tile_needs_a_pixel(make_map: Callable[..., ClassMap]) -> None:
    with pytest.raises(InputError, match="tiles_px is 0"):
        assess(make_map("map", random_map(1)), make_map("reference", random_map(1)), tiles_px=0)


def test_the_document_is_json_and_its_matrix_gives_its_scores(make_map: Callable[..., ClassMap]) -> None:
    reference = np.where(random_map(2) == 7, 2, random_map(2)).astype(np.uint8)
    predicted = np.where(random_map(1) == 7, 1, random_map(1)).astype(np.uint8)
    assessment = assess(make_map("map", predicted), make_map("reference", reference), tiles_px=4)
    document = json.loads(json.dumps(assessment.to_dict(), allow_nan=False))
    counts = np.array(document["matrix"]["pixels"])
    assert document["scores"]["accuracy"] == pytest.approx(np.trace(counts) / counts.sum(), abs=1e-6)
    assert document["pixels"]["evaluated"] == counts.sum()
    assert document["absent"] == ["f"]
    assert document["classes"][2]["iou"] is None
    assert [item["name"] for item in document["classes"]] == ["Water", "Land", "Wood"]
    assert sum(tile["evaluated_px"] for tile in document["tiles"]) == counts.sum()
    assert sum(item["map_ha"] for item in document["classes"]) == pytest.approx(document["evaluated_ha"])


def test_a_perfect_map_scores_one(make_map: Callable[..., ClassMap]) -> None:
    same = make_map("map", random_map(1))
    assessment: Assessment = assess(same, same)
    assert (
        assessment.scores.accuracy
        == assessment.scores.mean_iou
        == assessment.scores.macro_f1
        == assessment.scores.kappa
        == 1
    )
