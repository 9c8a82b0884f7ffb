"""The minimum mapping unit, by hand and by its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pixel_maps import (
    EDGES,
    ORIENTATIONS,
    UNITS,
    Values,
    areas_of,
    is_cut,
    maps,
    picture,
    rank_tables,
    ranks_of,
)
from tesela.generalise import regions as regions_module
from tesela.generalise.regions import build_graph
from tesela.generalise.strips import Plan
from tesela.generalise.unit import drop_small_areas, merge_graph
from tesela.io.scratch import ScratchRaster


def test_an_area_under_the_unit_goes_to_the_longest_shared_border() -> None:
    values = picture("""
        11122
        11322
        11322
        11122""")
    merged = drop_small_areas(values, unit_px=3, edges="keep")
    assert (
        merged
        == picture("""
        11122
        11122
        11122
        11122""")
    ).all()  # 4 sides touch class 1, 2 touch class 2


def test_an_area_that_reaches_the_unit_stays() -> None:
    values = picture("""
        1111
        1221
        1111""")
    assert (drop_small_areas(values, unit_px=2) == values).all()


def test_priority_goes_before_the_longest_border() -> None:
    values = picture("""
        11122
        11322
        11122""")
    ranks = ranks_of((0, 0, 0), (0, 0, 0), (5, 1, 0))  # class 3 would rather be 2 than 1
    assert drop_small_areas(values, unit_px=2, ranks=ranks)[1, 2] == 2
    assert drop_small_areas(values, unit_px=2)[1, 2] == 1


def test_equal_borders_go_to_the_larger_neighbour() -> None:
    values = picture("""
        55555555
        51132225
        55555555""")
    ranks = ranks_of(*[(0, 0, 0, 0, 0)] * 2, (1, 1, 0, 9, 9))
    assert drop_small_areas(values, unit_px=2, ranks=ranks, edges="keep")[1, 3] == 2


def test_equal_neighbours_go_to_the_lower_value() -> None:
    values = picture("""
        5555555
        5223445
        5555555""")
    ranks = ranks_of(*[(0, 0, 0, 0, 0)] * 2, (9, 1, 0, 1, 9))
    assert drop_small_areas(values, unit_px=2, ranks=ranks)[1, 3] == 2


def test_borders_with_all_areas_of_a_class_count_together() -> None:
    values = picture("""
        11244
        11344
        11244""")
    # the 3 has one side with class 1 and one with class 4, and two with class 2, in two separate areas
    assert drop_small_areas(values, unit_px=2)[1, 2] == 2


def test_smallest_areas_go_first() -> None:
    values = picture("""
        1111111
        1322221
        1111111""")
    # the single 3 joins 1 by its longer border before the four 2s are processed
    merged = drop_small_areas(values, unit_px=5)
    assert (merged == 1).all()
    assert (
        drop_small_areas(values, unit_px=2)
        == picture("""
        1111111
        1122221
        1111111""")
    ).all()


def test_small_areas_can_reach_the_unit_together() -> None:
    values = picture("""
        111111
        122231
        111111""")
    ranks = ranks_of((0, 0, 0), (0, 0, 0), (9, 1, 0))
    assert (
        drop_small_areas(values, unit_px=4, ranks=ranks)
        == picture("""
        111111
        122221
        111111""")
    ).all()


def test_areas_that_meet_through_a_merged_one_become_one_area() -> None:
    values = picture("""
        11111111
        12223221
        11111111""")
    ranks = ranks_of((0, 0, 0), (0, 0, 0), (9, 1, 0))
    assert (
        drop_small_areas(values, unit_px=6, ranks=ranks)
        == picture("""
        11111111
        12222221
        11111111""")
    ).all()


def test_corners_do_not_connect() -> None:
    values = picture("""
        1111
        1211
        1121
        1111""")
    assert (drop_small_areas(values, unit_px=2) == 1).all()


def test_areas_cut_by_the_edge_are_kept_or_merged() -> None:
    values = picture("""
        2111
        1111
        1113""")
    assert (drop_small_areas(values, unit_px=4, edges="keep") == values).all()
    assert (drop_small_areas(values, unit_px=4, edges="merge") == 1).all()


def test_areas_cut_by_nodata_are_kept_or_merged() -> None:
    values = picture("""
        11111
        12.11
        11111""")
    assert (drop_small_areas(values, unit_px=4, edges="keep") == values).all()
    assert drop_small_areas(values, unit_px=4, edges="merge").tolist() == [[1] * 5, [1, 1, 0, 1, 1], [1] * 5]


def test_an_island_in_nodata_has_no_neighbour() -> None:
    values = picture("""
        ...1
        .2.1
        ...1""")
    assert (drop_small_areas(values, unit_px=3, edges="merge") == values).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 7), (7, 1)])
def test_maps_of_a_few_pixels_or_none_pass_through(shape: tuple[int, int]) -> None:
    values = np.ones(shape, np.uint8)
    assert (drop_small_areas(values, unit_px=100, edges="merge") == values).all()


def by_the_book(values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str) -> Values:
    """The rules of `drop_small_areas`, one size after another, with scipy and masks."""
    done = 0
    while True:
        stood = areas_of(values)
        turn = [
            (value, size, mask)
            for value, size, mask in stood
            if done < size < unit_px and not (edges == "keep" and is_cut(values, mask))
        ]
        if not turn:
            return values
        done = min(size for _, size, _ in turn)
        for kind in sorted({value for value, size, _ in turn if size == done}):
            now = [mask for _, _, mask in areas_of(values)]
            after = values.copy()
            for value, size, mask in turn:
                if value != kind or size != done or not any((mask == other).all() for other in now):
                    continue  # another kind or size, or it has grown
                choice = best_neighbour(values, mask, ranks[value], stood)
                if choice:
                    after[mask] = choice
            values = after


def best_neighbour(
    values: Values,
    mask: NDArray[np.bool_],
    rank: NDArray[np.int32],
    stood: list[tuple[int, int, NDArray[np.bool_]]],
) -> int:
    """Class by rank, border, largest neighbour as it stood, value; 0 where there is none."""
    padded = np.pad(values, 1)
    length: dict[int, int] = {}
    for row, col in np.argwhere(mask):
        for v, u in ((row, col + 1), (row + 2, col + 1), (row + 1, col), (row + 1, col + 2)):
            inside = 0 < v <= mask.shape[0] and 0 < u <= mask.shape[1] and mask[v - 1, u - 1]
            if padded[v, u] and not inside:
                length[int(padded[v, u])] = length.get(int(padded[v, u]), 0) + 1
    around = ndimage.binary_dilation(mask) & ~mask
    largest = {
        kind: max(size for _, size, place in stood if (place & around & (values == kind)).any())
        for kind in length
    }
    return min(length, key=lambda k: (rank[k], -length[k], -largest[k], k)) if length else 0


@settings(max_examples=150, deadline=None)
@given(maps(most_px=9), UNITS, rank_tables(), EDGES)
def test_the_graph_gives_what_the_rules_give_on_pixels(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str
) -> None:
    expected = by_the_book(values, unit_px, ranks, edges)
    assert (drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges) == expected).all()


@settings(max_examples=200, deadline=None)
@given(maps(), UNITS, rank_tables(), EDGES)
def test_no_interior_area_is_left_under_the_unit(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str
) -> None:
    merged = drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges)
    for _, size, mask in areas_of(merged):
        if size >= unit_px:
            continue
        alone = not (ndimage.binary_dilation(mask) & ~mask & (merged > 0)).any()
        assert is_cut(merged, mask) if edges == "keep" else alone


@settings(max_examples=200, deadline=None)
@given(maps(), UNITS, rank_tables(), EDGES)
def test_the_unit_invents_no_class_leaves_nodata_alone_and_holds_when_repeated(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str
) -> None:
    merged = drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges)
    assert set(np.unique(merged)) <= set(np.unique(values))
    assert ((merged == 0) == (values == 0)).all()
    assert (drop_small_areas(merged, unit_px=unit_px, ranks=ranks, edges=edges) == merged).all()


@settings(max_examples=150, deadline=None)
@given(maps(), UNITS, rank_tables(), EDGES, st.integers(1, 60), st.integers(1, 3))
def test_the_unit_does_not_depend_on_strips_or_threads(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str, strip_px: int, threads: int
) -> None:
    whole = drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges, plan=Plan(1 << 20, 1))
    cut = drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges, plan=Plan(strip_px, threads))
    assert (whole == cut).all()


@settings(max_examples=100, deadline=None)
@given(maps(), UNITS, rank_tables(), EDGES, st.sampled_from(sorted(ORIENTATIONS)))
def test_a_flipped_or_rotated_map_gives_the_flipped_or_rotated_result(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str, how: str
) -> None:
    turn = ORIENTATIONS[how]
    expected = turn(drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges))
    turned = np.ascontiguousarray(turn(values))
    assert (drop_small_areas(turned, unit_px=unit_px, ranks=ranks, edges=edges) == expected).all()


def test_labels_that_are_not_kept_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).integers(0, 4, (60, 40)).astype(np.uint8)
    kept = drop_small_areas(values, unit_px=9, plan=Plan(200, 2))
    monkeypatch.setattr(regions_module, "KEEP_LABELS_PX", 0)
    assert (drop_small_areas(values, unit_px=9, plan=Plan(200, 2)) == kept).all()


def test_an_area_that_winds_through_all_strips_is_one_area() -> None:
    values = np.ones((101, 101), np.uint8)
    for turn in range(0, 100, 4):  # one snake of class 2, two pixels of class 1 between its bends
        values[turn, 1:-1] = 2
        values[turn : turn + 5, 99 if turn % 8 else 1] = 2
    length = int((values == 2).sum())
    for strip_px in (1, 500, 1 << 20):
        graph = build_graph(ScratchRaster.of(values).read, (101, 101), unit_px=length, plan=Plan(strip_px, 1))
        snake = [int(graph.size[root]) for root in graph.roots if graph.value[root] == 2]
        assert snake == [length]
        merge_graph(graph, unit_px=length, edges="merge")
        assert length in graph.size[graph.roots]
