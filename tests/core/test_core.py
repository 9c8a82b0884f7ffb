"""Legends, crosswalks, scenes, quantities and the wording of errors."""

import dataclasses

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core import (
    Band,
    Crosswalk,
    InputError,
    LandClass,
    Legend,
    LegendError,
    RecipeError,
    Scene,
    TeselaError,
    parse_area_m2,
    parse_length_m,
)
from tesela.core import errors as all_errors
from tesela.core.crosswalk import CrosswalkRow
from tesela.core.errors import join_words, unknown_name
from tesela.io import list_legends, open_crosswalk, open_legend

ROWS = [
    {"level": "1", "value": "1", "code": "A", "name": "Artificial", "color": "#FF0000", "parent": ""},
    {"level": "1", "value": "2", "code": "N", "name": "Natural", "color": "#00ff00", "parent": ""},
    {"level": "2", "value": "9", "code": "A1", "name": "Town", "color": "#ff0001", "parent": "A"},
    {"level": "2", "value": "4", "code": "N1", "name": "Wood", "color": "#00ff01", "parent": "N"},
    {"level": "2", "value": "7", "code": "N2", "name": "Water", "color": "#0000ff", "parent": "N"},
]
TREE = Legend.from_rows("tree", ROWS)

legends = st.sampled_from([open_legend(name) for name in list_legends()])


def flat(*codes: str) -> Legend:
    return Legend("flat", tuple(LandClass(n, code, code, "#000000") for n, code in enumerate(codes, 1)))


def changed(**fields: str) -> list[dict[str, str]]:
    return [ROWS[0] | fields, *ROWS[1:]]


def test_a_legend_is_read_from_rows_level_by_level() -> None:
    assert (TREE.depth, TREE.levels, TREE.address) == (2, 2, "tree-2")
    assert (TREE.codes, TREE.values, TREE.names) == (("A1", "N1", "N2"), (9, 4, 7), ("Town", "Wood", "Water"))
    assert TREE.level(1).codes == ("A", "N")
    assert TREE.level(1).address == "tree-1"
    assert TREE.ancestor("N2", 1) == LandClass(2, "N", "Natural", "#00ff00")
    assert TREE["A1"].rgb == (255, 0, 1)
    assert TREE.level_table(1)[[0, 9, 4, 7, 5, 255]].tolist() == [0, 1, 2, 2, 0, 0]


def test_a_legend_of_one_level_is_addressed_by_its_name() -> None:
    assert flat("a").address == "flat"
    assert repr(flat("a", "b")) == "<Legend flat: 2 classes>"


def test_a_legend_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        TREE.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        TREE.index_table[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        TREE.value_table[0] = 1


@given(legends)
def test_positions_and_values_are_each_others_inverse(legend: Legend) -> None:
    positions = np.arange(len(legend), dtype=np.uint8)
    assert (legend.index_table[legend.value_table[positions]] == positions).all()
    strange = sorted(set(range(256)) - set(legend.values))
    assert (legend.index_table[strange] == 255).all()
    assert (legend.value_table[len(legend) :] == 0).all()


@given(legends)
def test_rows_of_a_legend_make_the_same_legend(legend: Legend) -> None:
    assert Legend.from_rows(legend.name, legend.to_rows()) == legend
    for depth in range(1, legend.depth + 1):
        cut = legend.level(depth)
        assert Legend.from_rows(cut.name, cut.to_rows(), levels=cut.levels) == cut


def test_legends_of_other_names_and_colours_may_have_the_same_classes() -> None:
    other = Legend("other", (LandClass(1, "a", "a", "#ffffff"), LandClass(2, "b", "b", "#ffffff")))
    assert flat("a", "b").same_classes(other)
    assert flat("a", "b") != other
    assert not flat("a", "c").same_classes(other)
    assert not flat("b", "a").same_classes(other)


@given(legends)
def test_every_class_lies_in_one_class_of_every_coarser_level(legend: Legend) -> None:
    for depth in range(1, legend.depth + 1):
        table = legend.level_table(depth)
        assert set(table[list(legend.values)].tolist()) == set(legend.level(depth).values)
        assert table[0] == 0


def test_the_document_of_a_legend_is_that_of_the_command_line() -> None:
    assert TREE.level(1).to_dict() == {
        "name": "tree",
        "level": 1,
        "nodata": 0,
        "classes": [
            {"value": 1, "code": "A", "name": "Artificial", "color": "#ff0000", "parent": None},
            {"value": 2, "code": "N", "name": "Natural", "color": "#00ff00", "parent": None},
        ],
    }
    assert TREE.to_dict()["classes"][2]["parent"] == "N"  # type: ignore[index]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has classes of level none: levels must run from 1"),
        (changed(value="2"), "value 2 occurs twice; each must be unique in its level"),
        (changed(code="N"), "code N occurs twice"),
        (changed(value="255"), r"value 255 is outside 1 to 254 \(0 is nodata\)"),
        (changed(value="0"), "value 0 is outside"),
        (changed(value="1.5"), "line 2: level and value must be whole numbers"),
        (changed(color="red"), "colour red is not of the form #rrggbb"),
        (changed(name=""), "line 2: no name; each row needs value, code and name"),
        (changed(code="B"), "parent A is not a class of level 1"),
        (changed(parent="N"), "parent N is not a class of level 0"),
        ([ROWS[0] | {"level": "2"}], "levels must run from 1 without a gap"),
    ],
)
def test_a_wrong_legend_says_what_is_wrong(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(LegendError, match=message):
        Legend.from_rows("wrong", rows)


def test_unknown_codes_values_and_levels_are_told() -> None:
    with pytest.raises(LegendError, match="In legend 'tree-2': Unknown code 'N3': did you mean 'N"):
        TREE["N3"]
    with pytest.raises(LegendError, match="has levels 1 to 2; there is no level 3"):
        TREE.level(3)
    with pytest.raises(LegendError, match="has levels 1 to 1; there is no level 2"):
        TREE.level(1).ancestor("A", 2)
    with pytest.raises(
        LegendError, match=r"map\.tif holds the values 5, 6, but legend 'tree-2' has values 4, 7, 9"
    ):
        TREE.check_values([0, 4, 5, 6], where="map.tif")
    TREE.check_values([0, 4, 7, 9], where="map.tif")
    with pytest.raises(
        LegendError, match=r"but legend 'flat' has values 1 to 3\. Translate them with a crosswalk"
    ):
        flat("a", "b", "c").check_values([9], where="x")


def crosswalk_of(*rows: tuple[str, str] | tuple[str, str, float]) -> Crosswalk:
    return Crosswalk("mine", TREE, tuple(CrosswalkRow(*row) for row in rows))


def test_a_crosswalk_says_what_it_merges_splits_and_leaves_out() -> None:
    crosswalk = crosswalk_of(("x", "A1"), ("y", "A1"), ("z", "N1", 0.4), ("z", "N2", 0.6), ("q", "nodata"))
    assert crosswalk.merges == {"A1": ("x", "y")}
    assert crosswalk.splits == {"z": ("N2", "N1")}
    assert crosswalk.left_out == ("q",)
    assert crosswalk.main_target == {"x": 9, "y": 9, "z": 7, "q": 0}
    assert crosswalk.values_of(["z", "q", "x"], where="here").tolist() == [7, 0, 9]
    assert (
        crosswalk.summary()
        == "4 codes -> 3 classes. merged: x, y -> A1. split, the largest share first: z -> N2, N1. left to nodata: q"
    )


def test_an_even_split_goes_to_the_first_row() -> None:
    assert crosswalk_of(("z", "N2", 0.5), ("z", "N1", 0.5)).main_target == {"z": 7}


def test_a_crosswalk_keeps_to_its_legend_and_its_shares_sum_to_one() -> None:
    with pytest.raises(LegendError, match="mine -> tree-2: Unknown target code 'N3': did you mean"):
        crosswalk_of(("x", "N3"))
    with pytest.raises(LegendError, match=r"the shares of z \(0\.9\) do not sum to 1"):
        crosswalk_of(("z", "N1", 0.4), ("z", "N2", 0.5))
    for rows, message in [
        ([{"from": "a", "to": ""}], r"line 2: needs columns 'from' and 'to', but holds 'a' and ''"),
        (
            [{"from": "a", "to": "N1"}, {"from": "b", "to": "N1", "share": "half"}],
            r"line 3: share 'half' is not a number",
        ),
    ]:
        with pytest.raises(LegendError, match=message):
            Crosswalk.from_rows("mine", TREE, rows)


def test_codes_without_a_row_are_an_error_and_not_nodata() -> None:
    with pytest.raises(
        LegendError, match=r"Field x holds the codes r, s, which crosswalk mine -> tree-2 lacks"
    ):
        crosswalk_of(("a", "A1")).values_of(["a", "s", "r", "s"], where="Field x")
    with pytest.raises(LegendError, match="Legend 'flat' holds the codes b"):
        crosswalk_of(("a", "A1")).table(flat("a", "b"))


def test_a_table_translates_rasters() -> None:
    table = crosswalk_of(("a", "A1"), ("b", "nodata"), ("c", "N2")).table(flat("a", "b", "c"))
    assert table[[0, 1, 2, 3, 4, 255]].tolist() == [0, 9, 0, 7, 0, 0]


def test_a_crosswalk_can_be_cut_at_a_coarser_level() -> None:
    cut = crosswalk_of(("x", "A1"), ("z", "N1", 0.4), ("z", "N2", 0.6), ("q", "nodata")).to_level(1)
    assert cut.target == TREE.level(1)
    assert cut.splits == {}
    assert cut.main_target == {"x": 1, "z": 2, "q": 0}


shipped = st.sampled_from(
    [
        ("corine", "lulucf"),
        ("esa-worldcover", "lulucf"),
        ("siose-ar", "lulucf"),
        ("siose-ar", "lulucf-context"),
    ]
)


@given(shipped, st.lists(st.integers(0, 10_000), min_size=300, max_size=300))
def test_a_crosswalk_keeps_pixel_counts(pair: tuple[str, str], amounts: list[int]) -> None:
    source, target = open_legend(pair[0]), open_legend(pair[1])
    crosswalk = open_crosswalk(pair[0], target)
    counts = np.zeros(256, np.int64)
    counts[[0, *source.values]] = amounts[: len(source) + 1]
    moved = np.bincount(crosswalk.table(source), weights=counts, minlength=256)
    assert moved.sum() == counts.sum()
    assert set(np.flatnonzero(moved)) <= {0, *target.values}
    left_out = [source[code].value for code in crosswalk.left_out]
    assert moved[0] == counts[[0, *left_out]].sum()


@given(legends)
def test_a_legend_goes_to_its_own_levels_without_a_table(legend: Legend) -> None:
    assert Crosswalk.identity(legend).table(legend)[list(legend.values)].tolist() == list(legend.values)
    for depth in range(1, legend.depth + 1):
        np.testing.assert_array_equal(
            Crosswalk.identity(legend, depth).table(legend), legend.level_table(depth)
        )


def scene(**more: object) -> Scene:
    grid = GeoBox((3, 4), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:25830")
    bands = (Band("red", "a.tif", 1, "uint16", 0.0, 1e-4, -0.1), Band("nir", "b.tif", 2, "float32"))
    return Scene("july", bands, grid, **more)  # type: ignore[arg-type]


def test_a_scene_gives_bands_by_name_in_the_order_asked() -> None:
    assert scene().band_names == ("red", "nir")
    assert scene().select(["nir", "red"]).band_names == ("nir", "red")
    assert scene().select(["nir"]).bands[0].path == "b.tif"
    assert repr(scene()) == "<Scene july: 2 bands, 3 x 4 px, EPSG:25830>"
    with pytest.raises(
        InputError, match=r"Scene 'july': Unknown band 'nri': did you mean 'nir'\? Known: red, nir"
    ):
        scene().select(["red", "nri"])


@pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326", "EPSG:3042", "ESRI:54008"])
def test_a_scene_survives_its_document(crs: str) -> None:
    first = dataclasses.replace(
        scene(date="2018-07", invalid="nodata"), grid=GeoBox((3, 4), Affine(0.1, 0, 2, 0, -0.1, 40), crs)
    )
    again = Scene.from_dict(first.to_dict())
    assert again == first
    assert again.grid.affine == first.grid.affine


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("100 m", 100),
        ("1.5 km", 1500),
        ("100m", 100),
        ("100", 100),
        (100, 100),
        (".5km", 500),
        ("5e2 m", 500),
    ],
)
def test_lengths_are_read_with_their_unit(text: str | float, metres: float) -> None:
    assert parse_length_m(text) == metres


@pytest.mark.parametrize(
    ("text", "square_metres"),
    [("25 ha", 250_000), ("1 km2", 1e6), ("0.5 km²", 5e5), ("30 m2", 30), (30, 30), ("5ha", 5e4)],
)
def test_areas_are_read_with_their_unit(text: str | float, square_metres: float) -> None:
    assert parse_area_m2(text) == square_metres


@pytest.mark.parametrize(
    "text", ["25 ha", "100 px", "-5 m", "m", "", "1,5 km", float("nan"), float("inf"), -1]
)
def test_what_is_no_length_is_told_with_an_example(text: str | float) -> None:
    with pytest.raises(
        RecipeError, match=r"is not a length: write a number and one of m, km, cm, such as \"100 m\""
    ):
        parse_length_m(text)


def test_what_is_no_area_is_told() -> None:
    with pytest.raises(
        RecipeError, match="'25 hectares' is not an area: write a number and one of m2, ha, km2"
    ):
        parse_area_m2("25 hectares")
    with pytest.raises(RecipeError, match="'25' is an area without a unit: write '25 m2', or ha, or km2"):
        parse_area_m2("25")
    assert parse_area_m2("0") == 0


@given(st.floats(0, 40_000, allow_nan=False))
def test_a_bare_number_is_in_metres(number: float) -> None:
    assert parse_length_m(number) == number
    assert parse_length_m(f"{number} km") == pytest.approx(number * 1000)


def test_every_error_is_one_of_ours() -> None:
    errors = [
        item for item in vars(all_errors).values() if isinstance(item, type) and issubclass(item, Exception)
    ]
    assert len(errors) == 7
    assert all(issubclass(item, TeselaError) for item in errors)


@given(st.lists(st.text("abcxyz", min_size=1), min_size=1, max_size=40), st.integers(1, 40))
def test_long_lists_are_cut_short_and_counted(words: list[str], most: int) -> None:
    text = join_words(words, most=most)
    shown = text.split(" and ")[0].split(", ")
    assert shown == words[:most]
    assert text.endswith(f" and {len(words) - most} more") == (len(words) > most)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    assert (
        unknown_name("band", "B8", ["B08", "B04"])
        == "Unknown band 'B8': did you mean 'B08'? Known: B08, B04."
    )
    assert unknown_name("band", "thermal", ["B08"]) == "Unknown band 'thermal'. Known: B08."
