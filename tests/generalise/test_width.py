"""The minimum width, by hand and by its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pixel_maps import EDGES, ORIENTATIONS, WIDTHS, Values, maps, rank_tables, ranks_of
from tesela.generalise.opening import Disc, open_classes
from tesela.generalise.strips import Plan
from tesela.generalise.unit import NO_CLASSES
from tesela.generalise.width import drop_narrow_parts


def disc_mask(width_px: float) -> NDArray[np.bool_]:
    side = Disc(width_px).side_px
    offset = np.arange(side) - (side - 1) / 2
    mask: NDArray[np.bool_] = np.hypot(offset[:, None], offset[None, :]) <= max(width_px, side - 1) / 2 + 1e-9
    return mask


@pytest.mark.parametrize("width_px", [1.0, 1.5, 2.0, 3.0, 3.33, 5.0, 7.2, 10.0, 11.0, 25.0, 400.0])
def test_the_disc_is_as_wide_as_the_width_and_round(width_px: float) -> None:
    disc, mask = Disc(width_px), disc_mask(width_px)
    assert mask.shape == (disc.side_px, disc.side_px)
    assert disc.area_px == mask.sum()
    assert disc.side_px - 1 < width_px <= disc.side_px
    assert mask.any(axis=0).all()
    assert (mask == mask.T).all()


@pytest.mark.parametrize("width_px", [2.0, 2.5, 3.0, 3.33, 4.0, 5.0, 6.0, 7.0, 10.0])
def test_the_opening_of_all_classes_at_once_is_that_of_each_class(width_px: float) -> None:
    rng = np.random.default_rng(int(width_px * 100))
    disc = Disc(width_px)
    for zoom in range(2, 10):
        values = np.kron(rng.integers(0, 4, (8, 9)), np.ones((zoom, zoom))).astype(np.uint8)
        values[rng.random(values.shape) < 0.01] = 1
        padded = np.pad(values, 12)
        opened = open_classes(padded, disc.half_runs, disc.side_px)
        expected = np.zeros(padded.shape, np.bool_)
        for value in (1, 2, 3):
            expected |= ndimage.binary_opening(padded == value, disc_mask(width_px))
        assert ((opened & (padded != 0)) == expected).all()


def strip_of(width_px: int) -> Values:
    values = np.ones((40, 60), np.uint8)
    values[14 : 14 + width_px, 5:-5] = 2
    return values


def test_a_strip_as_wide_as_the_width_stays_and_a_narrower_one_goes() -> None:
    assert (drop_narrow_parts(strip_of(10), width_px=10) == strip_of(10)).all()
    assert (drop_narrow_parts(strip_of(9), width_px=10) == 1).all()
    assert (drop_narrow_parts(strip_of(3).T.copy(), width_px=3.33) == 1).all()
    assert (drop_narrow_parts(strip_of(4), width_px=3.33) == strip_of(4)).all()


def test_right_angled_corners_are_not_narrow() -> None:
    values = np.ones((40, 40), np.uint8)
    values[10:30, 10:30] = 2
    assert (drop_narrow_parts(values, width_px=10) == values).all()


@pytest.mark.parametrize(("height", "stays"), [(2, True), (3, False)])
def test_a_bump_goes_if_it_is_higher_than_what_the_disc_leaves_of_a_corner(height: int, stays: bool) -> None:
    assert Disc(10).corner_steps == 2
    body = np.ones((40, 60), np.uint8)
    body[10:30, 5:45] = 2
    values = body.copy()
    values[20:23, 45 : 45 + height] = 2
    assert (drop_narrow_parts(values, width_px=10) == (values if stays else body)).all()


def test_a_narrow_arm_goes_and_the_body_stays() -> None:
    values = np.ones((40, 60), np.uint8)
    values[10:30, 5:25] = 2
    body = values.copy()
    values[18:21, 25:50] = 2
    assert (drop_narrow_parts(values, width_px=10) == body).all()


def test_a_strip_between_two_areas_is_shared_along_its_middle() -> None:
    values = np.ones((41, 30), np.uint8)
    values[18:22] = 3
    values[22:] = 2
    shared = drop_narrow_parts(values, width_px=10)
    assert (shared[:20] == 1).all()
    assert (shared[20:] == 2).all()


def test_a_strip_between_two_areas_goes_to_the_better_one() -> None:
    values = np.ones((41, 30), np.uint8)
    values[18:22] = 3
    values[22:] = 2
    ranks = ranks_of((0, 0, 0), (0, 0, 0), (4, 1, 0))
    given_away = drop_narrow_parts(values, width_px=10, ranks=ranks)
    assert (given_away[:18] == 1).all()
    assert (given_away[18:] == 2).all()


def test_of_two_neighbours_at_the_same_distance_the_one_on_more_sides_gets_a_pixel() -> None:
    values = np.full((41, 60), 2, np.uint8)
    values[:20] = 1
    values[20, 10:41] = 3  # class 1 above, class 2 below and at both ends
    widened = drop_narrow_parts(values, width_px=3)
    assert (widened[20, 11:40] == 1).all()
    assert widened[20, [10, 40]].tolist() == [2, 2]


def test_the_side_of_a_disc_does_not_depend_on_rounding_errors() -> None:
    assert 0.1 + 0.2 > 0.3
    assert Disc((0.1 + 0.2) * 10).side_px == Disc(3.0).side_px == 3
    assert Disc(3.001).side_px == 4


def test_exempt_classes_stay_narrow_and_gain_no_pixels() -> None:
    values = strip_of(5)
    values[19:22, 5:-5] = 3  # a narrow strip along the river
    exempt = NO_CLASSES.copy()
    exempt[2] = True
    kept = drop_narrow_parts(values, width_px=10, exempt=exempt)
    assert ((kept == 2) == (values == 2)).all()
    assert not (kept == 3).any()


def test_a_class_continues_beyond_the_edge_or_ends_there() -> None:
    values = np.ones((40, 40), np.uint8)
    values[:4] = 2  # four rows along the edge: wide if the class continues, narrow if it ends
    assert (drop_narrow_parts(values, width_px=10, edges="keep") == values).all()
    assert (drop_narrow_parts(values, width_px=10, edges="merge") == 1).all()


def test_a_class_continues_under_nodata_or_ends_there() -> None:
    values = np.ones((40, 40), np.uint8)
    values[16:20], values[20:36] = 2, 0
    assert (drop_narrow_parts(values, width_px=10, edges="keep") == values).all()
    merged = drop_narrow_parts(values, width_px=10, edges="merge")
    assert (merged[:20] == 1).all()
    assert (merged[20:36] == 0).all()


@settings(max_examples=120, deadline=None)
@given(maps(most_px=30), WIDTHS, rank_tables(), EDGES, st.integers(1, 200), st.integers(1, 2))
def test_the_width_does_not_depend_on_strips_or_threads(
    values: Values, width_px: float, ranks: NDArray[np.int32], edges: str, strip_px: int, threads: int
) -> None:
    whole = drop_narrow_parts(values, width_px=width_px, ranks=ranks, edges=edges, plan=Plan(1 << 20, 1))
    plan = Plan(strip_px, threads)
    assert (drop_narrow_parts(values, width_px=width_px, ranks=ranks, edges=edges, plan=plan) == whole).all()


@pytest.mark.parametrize("seed", range(3))
def test_strips_of_a_few_rows_give_the_width_of_the_whole_noisy_map(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.kron(random.integers(1, 4, (45, 45)), np.ones((2, 2))).astype(np.uint8)
    values[random.random(values.shape) < 0.05] = 1
    whole = drop_narrow_parts(values, width_px=5, plan=Plan(1 << 20, 1))
    assert (drop_narrow_parts(values, width_px=5, plan=Plan(1, 1)) == whole).all()


@settings(max_examples=100, deadline=None)
@given(maps(most_px=30), WIDTHS, rank_tables(), EDGES, st.sampled_from(sorted(ORIENTATIONS)))
def test_a_flipped_or_rotated_map_is_widened_to_the_same_result(
    values: Values, width_px: float, ranks: NDArray[np.int32], edges: str, how: str
) -> None:
    turn = ORIENTATIONS[how]
    widened = drop_narrow_parts(values, width_px=width_px, ranks=ranks, edges=edges)
    turned = np.ascontiguousarray(turn(values))
    assert (drop_narrow_parts(turned, width_px=width_px, ranks=ranks, edges=edges) == turn(widened)).all()
    assert set(np.unique(widened)) <= set(np.unique(values))
    assert ((widened == 0) == (values == 0)).all()
