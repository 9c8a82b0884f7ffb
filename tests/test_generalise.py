"""Generalised maps keep the unit, invent nothing, and do not depend on strips, threads or turns."""

import csv
import json
import os
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
from scipy import ndimage

from tesela.core.errors import GridError, LegendError, RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.generalise import (
    MosaicRule,
    Plan,
    PriorityTable,
    Share,
    drop_narrow_parts,
    drop_small_areas,
    find_priority,
    generalise_map,
    load_priority,
)
from tesela.generalise import regions as regions_module
from tesela.generalise.opening import Disc, find_narrow, open_classes
from tesela.generalise.regions import build_graph
from tesela.generalise.unit import NO_CLASSES, merge_graph
from tesela.io import scratch as scratch_module
from tesela.io.legends import list_priorities, load_legend
from tesela.io.maps import ClassMap, MapReader, write_map
from tesela.io.scratch import ScratchRaster

Values = NDArray[np.uint8]

TURNS: dict[str, Callable[[Values], Values]] = {
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda values: np.rot90(values, 2),
    "transposed": np.transpose,
}
LEGEND = Legend("test", tuple(LandClass(v, f"c{v}", f"Class {v}", f"#0000{v:02x}") for v in range(1, 10)))


def picture(text: str) -> Values:
    """Rows of digits; a dot is nodata."""
    rows = [line.strip().replace(".", "0") for line in text.strip().splitlines()]
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def ranks_of(*rows: tuple[int, ...]) -> NDArray[np.int32]:
    """Ranks from rows for classes 1, 2, ..."""
    table = np.zeros((256, 256), np.int32)
    table[1 : len(rows) + 1, 1 : len(rows[0]) + 1] = rows
    return table


def areas_of(values: Values) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Class, pixels and mask of every area, by scipy."""
    found = []
    for value in np.unique(values[values > 0]):
        labels, count = ndimage.label(values == value)
        found += [(int(value), int((labels == k).sum()), labels == k) for k in range(1, count + 1)]
    return found


def is_cut(values: Values, mask: NDArray[np.bool_]) -> bool:
    """Whether an area touches the edge of the map or nodata."""
    edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    return bool(edge or (ndimage.binary_dilation(mask) & (values == 0)).any())


@st.composite
def maps(draw: st.DrawFn, *, most_px: int = 14) -> Values:
    """Small maps of up to five classes, with nodata, from noise to coarse blocks."""
    shape = (draw(st.integers(1, most_px)), draw(st.integers(1, most_px)))
    classes = draw(st.integers(1, 5))
    lowest = draw(st.sampled_from([0, 1]))
    zoom = draw(st.sampled_from([1, 1, 2, 3]))
    coarse = draw(
        arrays(np.uint8, (-(-shape[0] // zoom), -(-shape[1] // zoom)), elements=st.integers(lowest, classes))
    )
    return np.ascontiguousarray(np.kron(coarse, np.ones((zoom, zoom), np.uint8))[: shape[0], : shape[1]])


@st.composite
def rank_tables(draw: st.DrawFn) -> NDArray[np.int32]:
    return ranks_of(*draw(arrays(np.int32, (5, 5), elements=st.integers(0, 2))).tolist())


EDGES = st.sampled_from(["keep", "merge"])
UNITS = st.integers(1, 12)
WIDTHS = st.sampled_from([2.0, 2.5, 3.0, 3.33, 4.0, 5.0])


# --- the unit, by hand --------------------------------------------------------------------------------------


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
    # the single 3 joins 1 by its longer border before the four 2s are looked at
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


def test_areas_cut_by_the_edge_are_kept_or_merged_as_asked() -> None:
    values = picture("""
        2111
        1111
        1113""")
    assert (drop_small_areas(values, unit_px=4, edges="keep") == values).all()
    assert (drop_small_areas(values, unit_px=4, edges="merge") == 1).all()


def test_areas_cut_by_nodata_are_kept_or_merged_as_asked() -> None:
    values = picture("""
        11111
        12.11
        11111""")
    assert (drop_small_areas(values, unit_px=4, edges="keep") == values).all()
    assert drop_small_areas(values, unit_px=4, edges="merge").tolist() == [[1] * 5, [1, 1, 0, 1, 1], [1] * 5]


def test_an_island_in_nodata_has_nobody_to_go_to() -> None:
    values = picture("""
        ...1
        .2.1
        ...1""")
    assert (drop_small_areas(values, unit_px=3, edges="merge") == values).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 7), (7, 1)])
def test_maps_of_a_few_pixels_or_none_pass_through(shape: tuple[int, int]) -> None:
    values = np.ones(shape, np.uint8)
    assert (drop_small_areas(values, unit_px=100, edges="merge") == values).all()


# --- the unit, laws -----------------------------------------------------------------------------------------


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
@given(maps(), UNITS, rank_tables(), EDGES, st.sampled_from(sorted(TURNS)))
def test_a_turned_map_gives_the_turned_answer(
    values: Values, unit_px: int, ranks: NDArray[np.int32], edges: str, how: str
) -> None:
    turn = TURNS[how]
    expected = turn(drop_small_areas(values, unit_px=unit_px, ranks=ranks, edges=edges))
    turned = np.ascontiguousarray(turn(values))
    assert (drop_small_areas(turned, unit_px=unit_px, ranks=ranks, edges=edges) == expected).all()


def test_labels_made_anew_give_the_same_as_labels_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).integers(0, 4, (60, 40)).astype(np.uint8)
    kept = drop_small_areas(values, unit_px=9, plan=Plan(200, 2))
    monkeypatch.setattr(regions_module, "KEEP_LABELS_PX", 0)
    assert (drop_small_areas(values, unit_px=9, plan=Plan(200, 2)) == kept).all()


def test_an_area_without_end_is_found_across_all_strips() -> None:
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


# --- the width ----------------------------------------------------------------------------------------------


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


def test_exempt_classes_stay_narrow_and_get_nothing() -> None:
    values = strip_of(5)
    values[19:22, 5:-5] = 3  # a narrow strip along the river
    exempt = NO_CLASSES.copy()
    exempt[2] = True
    kept = drop_narrow_parts(values, width_px=10, exempt=exempt)
    assert ((kept == 2) == (values == 2)).all()
    assert not (kept == 3).any()


def test_a_class_goes_on_beyond_the_edge_or_ends_there_as_asked() -> None:
    values = np.ones((40, 40), np.uint8)
    values[:4] = 2  # four rows along the edge: wide if it goes on, narrow if it ends
    assert (drop_narrow_parts(values, width_px=10, edges="keep") == values).all()
    assert (drop_narrow_parts(values, width_px=10, edges="merge") == 1).all()


def test_a_class_goes_on_under_nodata_or_ends_there_as_asked() -> None:
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


@settings(max_examples=100, deadline=None)
@given(maps(most_px=30), WIDTHS, rank_tables(), EDGES, st.sampled_from(sorted(TURNS)))
def test_a_turned_map_is_widened_to_the_turned_answer(
    values: Values, width_px: float, ranks: NDArray[np.int32], edges: str, how: str
) -> None:
    turn = TURNS[how]
    widened = drop_narrow_parts(values, width_px=width_px, ranks=ranks, edges=edges)
    turned = np.ascontiguousarray(turn(values))
    assert (drop_narrow_parts(turned, width_px=width_px, ranks=ranks, edges=edges) == turn(widened)).all()
    assert set(np.unique(widened)) <= set(np.unique(values))
    assert ((widened == 0) == (values == 0)).all()


# --- the whole ----------------------------------------------------------------------------------------------


def grid_for(values: Values, pixel_m: float = 10.0) -> GeoBox:
    return GeoBox(values.shape, Affine(pixel_m, 0, 440_000, 0, -pixel_m, 4_090_000), "EPSG:25830")


def written(folder: Path, values: Values, legend: Legend = LEGEND, name: str = "map.tif") -> ClassMap:
    return write_map(folder / name, values, grid_for(values), legend=legend)


def read_all(source: ClassMap) -> Values:
    with MapReader(source) as reader:
        return reader.read(source.grid)


def landscape(side_px: int, *, seed: int = 0, classes: int = 6, noise: float = 0.1) -> tuple[Values, Values]:
    """Fractal landscape, and the same with salt and pepper."""
    rng = np.random.default_rng(seed)
    field = np.zeros((side_px, side_px))
    for cell in (64, 24, 8):
        coarse = rng.standard_normal((side_px // cell + 2, side_px // cell + 2))
        field += ndimage.zoom(coarse, cell, order=1)[:side_px, :side_px] * (cell / 64) ** 0.7
    cuts = np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])
    truth = (rng.permutation(classes) + 1).astype(np.uint8)[np.searchsorted(cuts, field)]
    noisy = np.where(rng.random(truth.shape) < noise, rng.integers(1, classes + 1, truth.shape), truth)
    return truth, noisy.astype(np.uint8)


def test_a_map_keeps_unit_and_width_and_the_ledger_explains_every_pixel(tmp_path: Path) -> None:
    truth, noisy = landscape(400)
    noisy[100:140, 200:260] = 0
    source = written(tmp_path, noisy)
    passes: list[tuple[int, int]] = []
    out, ledger = generalise_map(
        source,
        tmp_path / "out.tif",
        mmu_m2=20_000,
        min_width_m=60,
        narrow_out=tmp_path / "narrow.tif",
        progress=lambda done, total: passes.append((done, total)),
    )
    values = read_all(out)
    assert ((values == 0) == (noisy == 0)).all()
    left: dict[tuple[str, int], int] = {}
    for value, size, mask in areas_of(values):
        if size < 200:
            assert is_cut(values, mask)
            left[f"c{value}", size] = left.get((f"c{value}", size), 0) + 1
    assert sum(item.areas for item in ledger.below) == sum(left.values())
    assert sum(item.pixels for item in ledger.below) == sum(size * n for (_, size), n in left.items())
    assert {item.reason for item in ledger.below} <= {"edge", "nodata"}
    assert ledger.before == {f"c{v}": int((noisy == v).sum()) for v in range(1, 10)}
    assert ledger.after == {f"c{v}": int((values == v).sum()) for v in range(1, 10)}
    assert set(ledger.balance().values()) == {0}
    assert {move.reason for move in ledger.moves} == {"width", "unit"}
    narrow = read_all(ClassMap(str(tmp_path / "narrow.tif"), out.grid, LEGEND))
    assert {f"c{v}": int((narrow == v).sum()) for v in range(1, 10)} == ledger.narrow
    assert (narrow[narrow > 0] == values[narrow > 0]).all()
    assert sum(ledger.narrow.values()) < 0.005 * values.size
    assert (values == truth).mean() > (noisy == truth).mean() - 0.2
    assert passes[0][0] == 1
    assert passes[-1][0] == passes[-1][1]
    assert passes == sorted(passes)


def test_a_settled_map_is_not_changed_again(tmp_path: Path) -> None:
    options = {"mmu_m2": 20_000.0, "min_width_m": 60.0, "priority": "auto", "edges": "merge", "rounds": 30}
    legend = load_legend("corine-2")
    _, noisy = landscape(300, seed=4)
    source = written(tmp_path, np.array([0, *legend.values], np.uint8)[noisy], legend)
    first, ledger = generalise_map(source, tmp_path / "first.tif", mosaic=True, **options)  # type: ignore[arg-type]
    assert ledger.settled
    second, again = generalise_map(first, tmp_path / "second.tif", mosaic=True, **options)  # type: ignore[arg-type]
    assert (read_all(first) == read_all(second)).all()
    assert again.moves == ()
    assert again.settled
    assert again.rounds == 1


@settings(max_examples=25, deadline=None)
@given(
    maps(most_px=40), st.integers(1, 40), WIDTHS, EDGES, st.sampled_from(sorted(TURNS)), st.integers(40, 400)
)
def test_the_whole_is_the_same_under_strips_turns_and_files(
    tmp_path_factory: pytest.TempPathFactory,
    values: Values,
    unit_px: int,
    width_px: float,
    edges: str,
    how: str,
    strip_px: int,
) -> None:
    folder = tmp_path_factory.mktemp("turns")
    turned = np.ascontiguousarray(TURNS[how](values))

    def generalised(array: Values, name: str, plan: Plan) -> Values:
        out, ledger = generalise_map(
            written(folder, array, name=f"{name}-in.tif"),
            folder / f"{name}.tif",
            mmu_m2=unit_px * 100.0,
            min_width_m=width_px * 10,
            edges=edges,
            rounds=3,
            plan=plan,
        )
        assert set(ledger.balance().values()) == {0}
        return read_all(out)

    expected = generalised(values, "whole", Plan(1 << 20, 1))
    assert (generalised(turned, "turned", Plan(strip_px, 2)) == TURNS[how](expected)).all()


def test_maps_too_large_for_memory_give_the_same_from_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, noisy = landscape(300, seed=2)
    source = written(tmp_path, noisy)
    expected, ledger = generalise_map(source, tmp_path / "a.tif", mmu_m2=10_000, min_width_m=40, rounds=2)
    monkeypatch.setattr(scratch_module, "IN_MEMORY_PX", 0)
    monkeypatch.setattr(regions_module, "KEEP_LABELS_PX", 0)
    found, same = generalise_map(
        source, tmp_path / "b.tif", mmu_m2=10_000, min_width_m=40, rounds=2, plan=Plan(9_000, 2)
    )
    assert (read_all(found) == read_all(expected)).all()
    assert same == ledger
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_area_of_one_class_alone_is_named_as_such(tmp_path: Path) -> None:
    source = written(tmp_path, np.full((5, 4), 7, np.uint8))
    out, ledger = generalise_map(source, tmp_path / "out.tif", mmu_m2=250_000, edges="merge")
    assert [(item.code, item.reason, item.areas, item.pixels) for item in ledger.below] == [
        ("c7", "alone", 1, 20)
    ]
    assert (read_all(out) == 7).all()


def test_a_map_of_nodata_stays_one(tmp_path: Path) -> None:
    source = written(tmp_path, np.zeros((30, 30), np.uint8))
    out, ledger = generalise_map(source, tmp_path / "out.tif", mmu_m2=250_000, min_width_m=100, rounds=2)
    assert not read_all(out).any()
    assert ledger.below == ()
    assert ledger.moves == ()


def test_the_ledger_is_written_as_a_table_or_a_document(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        picture("""
        11111
        12311
        11111"""),
    )
    _, ledger = generalise_map(source, tmp_path / "out.tif", mmu_m2=200)
    with ledger.write(tmp_path / "ledger.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    moves = [row for row in rows if row["kind"] == "move"]
    assert [(row["source"], row["target"], row["areas"], row["area_m2"]) for row in moves] == [
        ("c2", "c1", "1", "100.0"),
        ("c3", "c1", "1", "100.0"),
    ]
    document = json.loads(ledger.write(tmp_path / "ledger.json").read_text(encoding="utf-8"))
    assert document["before"]["c1"] == 13
    assert document["after"]["c1"] == 15
    assert document["moves"][0]["reason"] == "unit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mmu_m2": -1.0}, "must not be negative"),
        ({"mmu_m2": 1.0, "edges": "cut"}, 'edges is "cut" and must be "keep" or "merge"'),
        ({"mmu_m2": 1.0, "rounds": 0}, "rounds is 0 and must be at least 1"),
    ],
)
def test_options_out_of_range_are_named(tmp_path: Path, options: dict[str, float], message: str) -> None:
    source = written(tmp_path, np.ones((4, 4), np.uint8))
    with pytest.raises(RecipeError, match=message):
        generalise_map(source, tmp_path / "out.tif", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out.tif").exists()


def test_maps_in_degrees_or_with_oblong_pixels_are_refused(tmp_path: Path) -> None:
    values = np.ones((4, 4), np.uint8)
    degrees = write_map(
        tmp_path / "d.tif", values, GeoBox((4, 4), Affine(0.1, 0, 5, 0, -0.1, 40), "EPSG:4326"), legend=LEGEND
    )
    with pytest.raises(GridError, match="Generalising needs a map in a projected CRS"):
        generalise_map(degrees, tmp_path / "out.tif", mmu_m2=1)
    oblong = write_map(
        tmp_path / "o.tif",
        values,
        GeoBox((4, 4), Affine(10, 0, 0, 0, -20, 4e6), "EPSG:25830"),
        legend=LEGEND,
    )
    with pytest.raises(GridError, match="needs square ones"):
        generalise_map(oblong, tmp_path / "out.tif", mmu_m2=1, min_width_m=100)
    assert generalise_map(oblong, tmp_path / "out.tif", mmu_m2=1)[1].pixel_m2 == 200


def test_an_exempt_class_that_the_legend_lacks_is_named(tmp_path: Path) -> None:
    source = written(tmp_path, np.ones((4, 4), np.uint8))
    with pytest.raises(LegendError, match="Unknown code 'c99'"):
        generalise_map(source, tmp_path / "out.tif", mmu_m2=1, min_width_m=100, exempt=["c99"])


# --- priorities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_priorities())
def test_shipped_tables_are_complete_and_prefer_the_same_group(name: str) -> None:
    legend = load_legend(name.removeprefix("tesela-"))
    table = load_priority(name, legend)
    assert find_priority(legend) == table
    for area in legend.codes:
        assert table.score(area, area) == 0
        same = [table.score(area, code) for code in legend.codes if code[0] == area[0] and code != area]
        water = [table.score(area, code) for code in legend.codes if code[0] == "5"]
        if area[0] in "12" and same:
            assert max(same) < min(water)


def test_equal_scores_have_equal_ranks() -> None:
    legend = Legend("t", LEGEND.classes[:3])
    table = PriorityTable("t", legend, ((0, 1.5, 2), (1.5, 0, 2), (2, 9, 0)))
    assert table.ranks[1:4, 1:4].tolist() == [[0, 1, 2], [1, 0, 2], [2, 3, 0]]


def test_pairs_go_before_single_codes() -> None:
    legend = Legend("t", LEGEND.classes[:3])
    rows = [
        {"CODE": "c1", "PRI": "3"},
        {"CODE": "c2", "PRI": "4"},
        {"CODE": "c3", "PRI": "5"},
        {"CODE": "c1c3", "PRI": "1"},
    ]
    table = PriorityTable.from_rows("mine", legend, rows)
    assert table.scores == ((0, 4, 1), (3, 0, 5), (3, 4, 0))


def test_incomplete_tables_name_what_they_lack(tmp_path: Path) -> None:
    legend = Legend("t", LEGEND.classes[:3])
    path = tmp_path / "mine.csv"
    path.write_text("area,c1,c2,c3\nc1,0,1,2\nc2,1,0,\nc3,1,2,0\n", encoding="utf-8")
    with pytest.raises(LegendError, match="'mine' lacks 1 of the pairs of legend 't': c2->c3"):
        load_priority(path, legend)
    with pytest.raises(LegendError, match="lacks 2 of the pairs of legend 't': c1->c3, c2->c3"):
        PriorityTable.from_rows("p", legend, [{"CODE": "c1", "PRI": "1"}, {"CODE": "c2", "PRI": "2"}])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"CODE": "c1", "PRI": "low"}], "line 2: 'low' is not a number"),
        ([{"CODE": "c9c1", "PRI": "1"}], "line 2: CODE 'c9c1' is neither a class"),
        ([{"area": "c1", "c1": "0", "c2": "x"}], "line 2: 'x' is not a number"),
    ],
)
def test_wrong_cells_of_a_table_are_named(rows: list[dict[str, str]], message: str) -> None:
    legend = Legend("t", LEGEND.classes[:3])
    with pytest.raises(LegendError, match=message):
        PriorityTable.from_rows("mine", legend, rows)


def test_codes_that_can_be_read_in_two_ways_are_refused() -> None:
    legend = Legend("t", tuple(LandClass(k, code, code, "#000000") for k, code in enumerate(("1", "11"), 1)))
    with pytest.raises(LegendError, match="can be read in 2 ways"):
        PriorityTable.from_rows("mine", legend, [{"CODE": "111", "PRI": "1"}])


def test_an_unknown_table_is_named_with_the_known_ones() -> None:
    with pytest.raises(LegendError, match="did you mean 'tesela-corine-2'"):
        load_priority("tesela-corin-2", load_legend("corine-2"))


# --- mosaics ------------------------------------------------------------------------------------------------


def parcels(first: int, second: int, *, cell: int = 4, cells: int = 6) -> Values:
    """A chequerboard of parcels of two classes within class 9 (here: code of forest or towns)."""
    board = np.indices((cells, cells)).sum(axis=0) % 2
    values = np.full((cells * cell + 8, cells * cell + 8), 9, np.uint8)
    values[4:-4, 4:-4] = np.kron(np.where(board, first, second), np.ones((cell, cell))).astype(np.uint8)
    return values


RULE = MosaicRule("c5", (Share(("c1", "c2", "c5")),))


def mosaicked(
    folder: Path, values: Values, rule: MosaicRule, *, mmu_m2: float = 20_000
) -> tuple[Values, set[str]]:
    out, ledger = generalise_map(written(folder, values), folder / "out.tif", mmu_m2=mmu_m2, mosaic=[rule])
    return read_all(out), {move.reason for move in ledger.moves}


def test_small_parcels_of_two_crops_become_the_mixed_class(tmp_path: Path) -> None:
    values, reasons = mosaicked(tmp_path, parcels(1, 2), RULE)
    assert (values[4:-4, 4:-4] == 5).all()
    assert (values[:4] == 9).all()
    assert reasons == {"mosaic"}


def test_a_group_under_the_unit_or_of_one_class_is_no_mosaic(tmp_path: Path) -> None:
    values, reasons = mosaicked(tmp_path, parcels(1, 2), RULE, mmu_m2=60_000)
    assert not (values == 5).any()
    assert reasons == {"unit"}
    single = parcels(1, 2)
    single[single == 2] = 9
    assert not (mosaicked(tmp_path, single, RULE)[0] == 5).any()


def test_a_mosaic_keeps_the_shares_of_its_rule(tmp_path: Path) -> None:
    rule = MosaicRule("c5", (Share(("c1",), 0.25, 0.75), Share(("c2",), 0.25, 0.75)))
    assert (mosaicked(tmp_path, parcels(1, 2), rule)[0] == 5).any()
    strict = MosaicRule("c5", (Share(("c1",), 0.6), Share(("c2",))))
    assert not (mosaicked(tmp_path, parcels(1, 2), strict)[0] == 5).any()


def test_corine_has_mosaic_rules_and_other_legends_say_that_they_have_none(tmp_path: Path) -> None:
    legend = load_legend("corine-2")
    table = np.zeros(10, np.uint8)
    table[[1, 2, 9]] = legend["21"].value, legend["22"].value, legend["31"].value
    source = written(tmp_path, table[parcels(1, 2)], legend)
    out, _ = generalise_map(source, tmp_path / "out.tif", mmu_m2=20_000, mosaic=True)
    assert (read_all(out)[4:-4, 4:-4] == legend["24"].value).all()
    with pytest.raises(LegendError, match="has no mosaic rules"):
        generalise_map(written(tmp_path, parcels(1, 2)), tmp_path / "o.tif", mmu_m2=1, mosaic=True)


# --- real ground --------------------------------------------------------------------------------------------


@pytest.mark.real
def test_corine_of_lanjaron_rasterised_and_noised_comes_back_within_the_standard(tmp_path: Path) -> None:
    root = Path(os.environ.get("TESELA_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    path = root / "lanjaron_l8_clc" / "clc2018_lanjaron.gpkg"
    if not path.exists():
        pytest.skip(f"{path.name} is not in TESELA_DATA or ../shared/data")
    import geopandas as gpd
    from rasterio.features import rasterize

    frame = gpd.read_file(path, layer="clc")
    legend = load_legend("corine-3")
    left, bottom, _, top = frame.total_bounds
    shape = (int((top - bottom) / 10), 900)
    grid = GeoBox(shape, Affine(10, 0, left, 0, -10, top), "EPSG:25830")
    values = [legend[str(code)].value for code in frame["CODE_18"]]
    truth = rasterize(zip(frame.geometry, values, strict=True), out_shape=shape, transform=grid.affine)
    truth = truth.astype(np.uint8)
    rng = np.random.default_rng(5)
    noisy = np.where(
        (rng.random(shape) < 0.1) & (truth > 0),
        rng.choice(np.array(sorted(set(values)), np.uint8), shape),
        truth,
    )
    cleaned = {}
    for name, values_in in (("truth", truth), ("noisy", noisy.astype(np.uint8))):
        source = write_map(tmp_path / f"{name}.tif", values_in, grid, legend=legend)
        out, ledger = generalise_map(
            source, tmp_path / f"{name}-out.tif", mmu_m2=250_000, min_width_m=100, priority="auto"
        )
        assert ledger.settled
        assert set(ledger.balance().values()) == {0}
        cleaned[name] = read_all(out)
        for _, size, mask in areas_of(cleaned[name]):
            assert size >= 2500 or is_cut(cleaned[name], mask)
    ground = truth > 0
    assert (noisy == truth)[ground].mean() < 0.92
    assert (cleaned["noisy"] == cleaned["truth"])[ground].mean() > 0.97
    assert (cleaned["noisy"] == truth)[ground].mean() > 0.93  # CORINE itself has 4 % of narrow ground here
    disc = Disc(10.0)
    padded = np.pad(cleaned["noisy"], 12, mode="edge")
    opened = open_classes(padded, disc.half_runs, disc.side_px)
    narrow = find_narrow(padded, opened, disc.corner_steps, NO_CLASSES)[12:-12, 12:-12]
    assert narrow.mean() < 0.002
