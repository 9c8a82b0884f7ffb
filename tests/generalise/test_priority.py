"""Priority tables: which neighbour gets an area."""

from pathlib import Path

import pytest

from pixel_maps import LEGEND
from tesela.core.errors import LegendError
from tesela.core.legend import LandClass, Legend
from tesela.generalise.priority import PriorityTable, find_priority, load_priority
from tesela.io.legends import list_priorities, open_legend


@pytest.mark.parametrize("name", list_priorities())
def test_shipped_tables_are_complete_and_prefer_the_same_group(name: str) -> None:
    legend = open_legend(name.removeprefix("tesela-"))
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


def test_codes_with_two_meanings_are_refused() -> None:
    legend = Legend("t", tuple(LandClass(k, code, code, "#000000") for k, code in enumerate(("1", "11"), 1)))
    with pytest.raises(LegendError, match="can be read in 2 ways"):
        PriorityTable.from_rows("mine", legend, [{"CODE": "111", "PRI": "1"}])


def test_an_unknown_table_lists_the_shipped_ones() -> None:
    with pytest.raises(LegendError, match="did you mean 'tesela-corine-2'"):
        load_priority("tesela-corin-2", open_legend("corine-2"))
