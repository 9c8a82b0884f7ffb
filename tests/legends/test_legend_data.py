"""The shipped legends and crosswalks obey their rules, read with nothing but the csv module."""

import csv
import re
from itertools import pairwise
from pathlib import Path

import pytest

from repository import SOURCE

LEGENDS = SOURCE / "legends"
CROSSWALKS = LEGENDS / "crosswalks"

LEGEND_FILES = sorted(LEGENDS.glob("*.csv"))
CROSSWALK_FILES = sorted(CROSSWALKS.glob("*.csv"))

# Classes per level, coarsest first, as the sources count them.
SIZES = {
    "corine": [5, 15, 44],
    "lulucf": [6],
    "lulucf-context": [6],
    "siose-ar": [62],
    "tree-cover": [2],
    "mfe-species": [4, 192],
    "sipna": [4, 10],
    "esa-worldcover": [11],
    "dynamic-world": [9],
}
PAIRS = {
    ("corine-2", "lulucf"),
    ("corine", "lulucf"),
    ("corine", "sipna"),
    ("siose-ar", "lulucf"),
    ("siose-ar", "lulucf-context"),
    ("siose-ar", "tree-cover"),
    ("esa-worldcover", "lulucf"),
    ("dynamic-world", "lulucf"),
    ("sipna-codes", "sipna"),
}
PARTIAL = {
    ("corine", "mfe-species"),
    *(("lulucf-context", name) for name in ("corine", "dynamic-world", "esa-worldcover", "siose-ar")),
    ("lulucf", "siose-ar"),
    *(("mfe-species-1", name) for name in ("corine", "lulucf", "siose-ar")),
    ("siose-ar", "corine"),
    ("siose-ar", "mfe-species"),
    *(("tree-cover", name) for name in ("lulucf", "siose-ar")),
}
"""Ways of a cascade's classes to a richer legend, of which they reach some classes only."""
COMPLETE = {
    ("lulucf-context", "lulucf"),
    ("lulucf", "lulucf-context"),
    ("lulucf", "tree-cover"),
    ("sipna", "lulucf"),
}
NUMBERS = "sipna-codes"
"""Published numbers of classes that are no legend of ours."""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def levels(name: str) -> list[list[dict[str, str]]]:
    rows = read(LEGENDS / f"{name}.csv")
    return [
        [row for row in rows if row["level"] == level] for level in sorted({row["level"] for row in rows})
    ]


def by_code(name: str, level: int) -> dict[str, dict[str, str]]:
    return {row["code"]: row for row in levels(name)[level - 1]}


def test_exactly_the_named_legends_are_shipped() -> None:
    assert {path.stem for path in LEGEND_FILES} == set(SIZES)


def test_exactly_the_named_crosswalks_are_shipped() -> None:
    assert {tuple(path.stem.split("__")) for path in CROSSWALK_FILES} == PAIRS | PARTIAL | COMPLETE


@pytest.mark.parametrize("path", [*LEGEND_FILES, *CROSSWALK_FILES], ids=lambda path: path.stem)
def test_files_are_plain_utf8_with_unix_line_ends_and_no_stray_blanks(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    assert "\r" not in text
    assert not text.startswith("\ufeff")
    assert text.endswith("\n")
    for row in read(path):
        assert None not in row, f"too many fields: {row}"
        for value in row.values():
            assert value is not None, f"too few fields: {row}"
            assert value == value.strip()


@pytest.mark.parametrize("path", LEGEND_FILES, ids=lambda path: path.stem)
def test_a_legend_has_the_header_and_the_classes_of_its_source(path: Path) -> None:
    assert path.read_text(encoding="utf-8").splitlines()[0] == "level,value,code,name,color,parent"
    assert [len(level) for level in levels(path.stem)] == SIZES[path.stem]
    assert [int(row["level"]) for row in read(path)] == sorted(int(row["level"]) for row in read(path))


@pytest.mark.parametrize("path", LEGEND_FILES, ids=lambda path: path.stem)
def test_values_fit_a_byte_and_values_codes_and_names_are_unique_in_a_level(path: Path) -> None:
    for level in levels(path.stem):
        assert all(1 <= int(row["value"]) <= 254 for row in level)
        for field in ("value", "code", "name"):
            column = [row[field] for row in level]
            assert len(set(column)) == len(column), field
            assert all(column), field
        assert "nodata" not in {row["code"] for row in level}


@pytest.mark.parametrize("path", LEGEND_FILES, ids=lambda path: path.stem)
def test_colours_are_hexadecimal_in_lower_case(path: Path) -> None:
    for row in read(path):
        assert re.fullmatch("#[0-9a-f]{6}", row["color"]), row


@pytest.mark.parametrize("path", LEGEND_FILES, ids=lambda path: path.stem)
def test_every_parent_stands_one_level_up_and_every_class_above_has_a_child(path: Path) -> None:
    tree = levels(path.stem)
    assert {row["parent"] for row in tree[0]} == {""}
    for upper, lower in pairwise(tree):
        assert {row["parent"] for row in lower} == {row["code"] for row in upper}


def test_corine_values_are_grid_codes_at_level_3_and_codes_above() -> None:
    first, second, third = levels("corine")
    assert [int(row["value"]) for row in third] == list(range(1, 45))
    assert [row["value"] for row in first + second] == [row["code"] for row in first + second]
    assert (third[0]["code"], third[-1]["code"]) == ("111", "523")
    assert [row["code"] for row in third] == sorted(row["code"] for row in third)


def test_corine_parents_are_the_leading_digits() -> None:
    for level in levels("corine")[1:]:
        assert all(row["parent"] == row["code"][:-1] for row in level)


def test_corine_colours_are_those_of_the_eea() -> None:
    third = by_code("corine", 3)
    assert third["132"]["color"] == "#a64d00"  # the catalogue of Earth Engine has a64dcc
    assert third["211"]["color"] == "#ffffa8"  # a QGIS style in circulation has ffa8ff
    assert third["212"]["color"] == "#ffff00"  # and ff00ff
    assert third["311"]["color"] == "#80ff00"
    assert third["523"]["color"] == "#e6f2ff"


def test_corine_colours_of_upper_levels_are_those_of_the_first_child_but_for_the_sea() -> None:
    first, second, third = levels("corine")
    for upper, lower in ((first, second), (second, third)):
        for row in upper:
            children = [child for child in lower if child["parent"] == row["code"]]
            chosen = children[-1] if row["code"] == "52" else children[0]
            assert row["color"] == chosen["color"]


def test_siose_codes_run_in_order_and_keep_the_spanish_names() -> None:
    rows = levels("siose-ar")[0]
    assert [int(row["value"]) for row in rows] == list(range(1, 63))
    assert [int(row["code"]) for row in rows] == sorted(int(row["code"]) for row in rows)
    names = {row["code"]: row["name"] for row in rows}
    assert (names["101"], names["232"], names["999"]) == ("Edificación", "Olivar", "Desconocido")


def test_worldcover_values_are_the_official_ones() -> None:
    rows = levels("esa-worldcover")[0]
    assert [int(row["value"]) for row in rows] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
    assert all(row["code"] == row["value"] for row in rows)


def test_dynamic_world_values_are_one_above_the_official_codes_because_0_is_nodata() -> None:
    rows = levels("dynamic-world")[0]
    assert [int(row["code"]) for row in rows] == list(range(9))
    assert all(int(row["value"]) == int(row["code"]) + 1 for row in rows)


@pytest.mark.parametrize(
    "path",
    [path for path in CROSSWALK_FILES if not path.stem.startswith(NUMBERS)],
    ids=lambda path: path.stem,
)
def test_a_crosswalk_is_total_and_names_only_classes_that_exist(path: Path) -> None:
    source, target = path.stem.split("__")
    assert path.read_text(encoding="utf-8").splitlines()[0] == "from,to,share,note"
    rows = read(path)
    targets = {row["code"] for level in levels(target) for row in level} | {"nodata"}
    assert {row["to"] for row in rows} <= targets
    tree, _, depth = source.rpartition("-") if source[-1].isdigit() else (source, "", "0")
    assert list(dict.fromkeys(row["from"] for row in rows)) == [
        row["code"] for row in levels(tree)[int(depth) - 1]
    ]


@pytest.mark.parametrize("path", CROSSWALK_FILES, ids=lambda path: path.stem)
def test_the_shares_of_a_code_are_positive_and_sum_to_one(path: Path) -> None:
    shares: dict[str, float] = {}
    for row in read(path):
        assert 0 < float(row["share"]) <= 1
        shares[row["from"]] = shares.get(row["from"], 0.0) + float(row["share"])
    assert all(total == pytest.approx(1) for total in shares.values())
    pairs = [(row["from"], row["to"]) for row in read(path)]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("path", CROSSWALK_FILES, ids=lambda path: path.stem)
def test_every_class_of_the_target_can_be_reached(path: Path) -> None:
    target = path.stem.split("__")[1]
    unknown = {"greenhouses"} if path.stem == "corine__sipna" else set()  # CORINE does not separate them
    reached = {row["to"] for row in read(path)}
    if tuple(path.stem.split("__")) in PARTIAL:
        assert reached - {"nodata"}
    else:
        assert {row["code"] for row in levels(target)[-1]} - unknown <= reached


@pytest.mark.parametrize("path", CROSSWALK_FILES, ids=lambda path: path.stem)
def test_a_code_left_to_nodata_says_why(path: Path) -> None:
    assert all(row["note"] for row in read(path) if row["to"] == "nodata")


def test_what_is_left_to_nodata_is_what_the_facts_leave_out() -> None:
    left_out = {
        path.stem: {row["from"] for row in read(path) if row["to"] == "nodata"}
        for path in CROSSWALK_FILES
        if not path.stem.endswith("__mfe-species")  # all that is no forest
    }
    assert {name: codes for name, codes in left_out.items() if codes} == {
        "corine__lulucf": {"334", "523"},
        "corine-2__lulucf": {"52"},
        "siose-ar__lulucf": {"523", "999"},
        "siose-ar__lulucf-context": {"999"},
        "siose-ar__tree-cover": {"999"},
        "siose-ar__corine": {"999"},
        "tree-cover__lulucf": {"open"},
        "tree-cover__siose-ar": {"open"},
    }


def test_sources_names_every_file() -> None:
    text = (LEGENDS / "SOURCES.md").read_text(encoding="utf-8")
    for path in [*LEGEND_FILES, *CROSSWALK_FILES]:
        assert f"`{path.name}`" in text, path.name
