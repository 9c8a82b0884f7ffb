"""Ways between legends: shipped, over a third legend, and composed for the legend of a cascade."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.assessment.files import assess_files
from tesela.cli.app import run
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import LegendError
from tesela.core.legend import Legend
from tesela.io import crosswalks
from tesela.io.crosswalks import guess_crosswalk, list_crosswalks, open_crosswalk
from tesela.io.legends import legend_as_tag, legend_of_tag, open_legend
from tesela.io.maps import open_map, write_map
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.sources.siose.cascade_rules import make_classifier
from tesela.sources.siose.rules import SioseRules, species_legend

GRID = GeoBox((4, 8), Affine(1, 0, 400_000, 0, -1, 4_500_000), "EPSG:25830")


def cascade_legend(name: str = "lulucf") -> Legend:
    """Legend of the cascade of the paper; by default it has the name of a shipped legend, as recipes give it."""

    def member(called: str, legend: Legend, gate: Gate | None = None) -> Member:
        expert = cast("Any", SimpleNamespace(header=SimpleNamespace(legend=legend, bands=("red",))))
        return Member(called, expert, gate)

    experts = (
        member("context", open_legend("lulucf-context")),
        member("canopy", open_legend("tree-cover"), Gate("context", ("forest",))),
        member("species", species_legend(("21", "43")), Gate("canopy", ("tree",))),
    )
    return Cascade(name, experts).legend


def targets(crosswalk: Crosswalk) -> dict[str, list[str]]:
    """Targets of each code, in order."""
    return {code: [row.to for row in crosswalk.rows if row.code == code] for code in crosswalk.codes}


def test_every_shipped_crosswalk_covers_its_source_legend() -> None:
    for source, target in list_crosswalks():
        if source == "sipna-codes":
            continue
        table = open_crosswalk(source, open_legend(target))
        assert not table.missing(open_legend(source).codes), (source, target)


def test_a_cascade_reaches_a_legend_by_the_crosswalks_of_its_experts() -> None:
    table = open_crosswalk(cascade_legend(), open_legend("siose-ar"))
    to = targets(table)
    assert to["water"] == ["500"]
    assert to["tree"] == ["310"]
    assert to["21"] == ["316"]  # Pinus sylvestris, over the conifers
    assert to["43"] == ["312"]
    assert to["open"] == ["310"]  # says nothing about the cover: as forest, the class above
    assert table.way == (
        "lulucf-context -> siose-ar",
        "tree-cover -> siose-ar",
        "mfe-species-1 -> siose-ar",
    )


def test_the_levels_of_a_cascade_convert_alike() -> None:
    legend = cascade_legend()
    for depth in (1, 2, 3):
        to = targets(open_crosswalk(legend.level(depth), open_legend("lulucf")))
        assert to["pasture"] == ["grassland"]
        assert to["forest" if depth == 1 else "tree"] == ["forest_land"]


def test_codes_reach_the_deepest_class_of_a_cascade_that_they_tell() -> None:
    to = targets(open_crosswalk("siose-ar", cascade_legend()))
    assert to["210"] == ["crops"]
    assert to["302"] == ["pasture"]
    assert to["316"] == ["CNF", "21"]  # conifers: those without species first
    assert to["310"][0] == "tree"  # trees of any kind
    assert set(to["310"]) == {"tree", "21", "43", "CNF", "FDC", "FDP"}
    assert to["999"] == ["nodata"]
    species = targets(open_crosswalk("mfe-species", cascade_legend()))
    assert species["21"] == ["21"]
    assert species["24"] == ["CNF"]  # a pine that the expert does not tell


def test_origins_go_with_the_tag_and_leave_other_legends_alone() -> None:
    legend = cascade_legend("demo")
    again = legend_of_tag(legend_as_tag(legend), where="map.tif")
    assert again == legend
    assert again["21"].origin == "mfe-species-2:21"
    assert "origin" not in legend_as_tag(open_legend("corine"))


def test_a_way_over_two_crosswalks_says_so() -> None:
    table = open_crosswalk("corine", open_legend("lulucf-context"))
    assert table.way == ("corine -> lulucf", "lulucf -> lulucf-context")
    assert targets(table)["312"] == ["forest"]
    assert targets(table)["334"] == ["nodata"]


def test_two_ways_that_disagree_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = dict(crosswalks.crosswalk_tables())
    for name, wetland in (("tree-cover", "tree"), ("sipna", "artificial")):
        rows = {
            "tree-cover": ["1,tree,1,", *(f"{code},open,1," for code in "02345678")],
            "sipna": [
                "1,artificial,1,",
                *(f"{code},{wetland if code == '3' else 'forest'},1," for code in "02345678"),
            ],
        }[name]
        file = tmp_path / f"dynamic-world__{name}.csv"
        file.write_text("from,to,share,note\n" + "\n".join(rows) + "\n", encoding="utf-8")
        shipped[file.stem] = file
    other = {"tree-cover": ["tree,100,1,", "open,50,1,"]}
    file = tmp_path / "tree-cover__esa-worldcover.csv"
    file.write_text("from,to,share,note\n" + "\n".join(other["tree-cover"]) + "\n", encoding="utf-8")
    shipped[file.stem] = file
    sipna = [f"{code},{40 if code == 'artificial' else 50},1," for code in open_legend("sipna").codes]
    file = tmp_path / "sipna__esa-worldcover.csv"
    file.write_text("from,to,share,note\n" + "\n".join(sipna) + "\n", encoding="utf-8")
    shipped[file.stem] = file
    monkeypatch.setattr(crosswalks, "crosswalk_tables", lambda: shipped)
    with pytest.raises(LegendError, match="two ways disagree, over 'sipna' and over 'tree-cover'"):
        open_crosswalk("dynamic-world", open_legend("esa-worldcover"))


def test_no_way_names_what_is_shipped() -> None:
    with pytest.raises(LegendError, match="No crosswalk from 'corine' to 'dynamic-world' is shipped"):
        open_crosswalk("corine", open_legend("dynamic-world"))


def test_a_level_reaches_what_its_finer_levels_reach() -> None:
    """Eleven classes under one, each with 1/11, are one whole; in no other legend is a finer level found again."""
    level = open_legend("corine-1")
    assert targets(open_crosswalk(level, open_legend("sipna-1")))["1"] == ["artificial"]
    assert "2" in open_crosswalk(level, open_legend("tree-cover")).codes
    for source in ("corine-1", "corine-2"):
        with pytest.raises(LegendError, match="does not tell which of its finer classes a pixel has"):
            open_crosswalk(source, open_legend("corine-3"))


def test_codes_of_two_legends_must_be_named() -> None:
    legend = cascade_legend()
    assert guess_crosswalk(["101", "316"], legend, where="F") == open_crosswalk("siose-ar", legend)
    with pytest.raises(LegendError, match=r"which are in corine-3, siose-ar"):
        guess_crosswalk(["312", "511"], legend, where="F")
    assert guess_crosswalk(["mine"], legend, where="F") is None


def test_a_crosswalk_is_written_edited_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    legend = cascade_legend()
    write_map("map.tif", np.full((4, 8), legend["open"].value, np.uint8), GRID, legend=legend)
    assert run(["legend", "crosswalk", "map.tif", "--to", "siose-ar", "-o", "way.csv"]) == 0
    text = (tmp_path / "way.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text))
    assert {row["from"]: row["to"] for row in rows}["open"] == "310"
    (tmp_path / "way.csv").write_text(text.replace("open,310", "open,320"), encoding="utf-8")
    assert (
        run(["legend", "convert", "map.tif", "--to", "siose-ar", "--crosswalk", "way.csv", "-o", "s.tif"])
        == 0
    )
    import rasterio

    with rasterio.open("s.tif") as data:
        assert (data.read(1) == open_legend("siose-ar")["320"].value).all()
    assert open_map("s.tif").legend == open_legend("siose-ar")


def test_a_cascade_is_assessed_at_the_level_that_the_reference_tells(tmp_path: Path) -> None:
    legend = cascade_legend()
    values = np.full((4, 8), legend["21"].value, np.uint8)
    values[:, 4:] = legend["crops"].value
    write_map(tmp_path / "map.tif", values, GRID, legend=legend)
    lulucf = open_legend("lulucf")
    reference = np.where(values == legend["21"].value, lulucf["forest_land"].value, lulucf["cropland"].value)
    write_map(tmp_path / "reference.tif", reference.astype(np.uint8), GRID, legend=lulucf)
    result = assess_files(tmp_path / "map.tif", tmp_path / "reference.tif", tmp_path / "report")
    assert result.assessment.legend.depth == 2  # forest land is no species
    assert result.assessment.scores.accuracy == 1


def test_polygons_of_siose_get_the_species_of_a_cascade() -> None:
    table = pd.DataFrame({"cover": ["316", "210", "310", "316"]})
    parts = pd.DataFrame(
        {
            "number": [0, 1, 2, 3],
            "cover": ["316", "210", "310", "316"],
            "percent": [100.0] * 4,
            "species": ["021", None, None, "024"],
        }
    )
    classifier = make_classifier(cascade_legend(), SioseRules())
    assert classifier.needs_parts
    codes, shares = classifier.classes(table, parts)
    assert codes.tolist() == [
        "21",
        "crops",
        "",
        "CNF",
    ]  # trees without leaf type have no class of the last expert
    assert shares[[0, 1, 3]].tolist() == [1, 1, 1]
    codes, _ = make_classifier(cascade_legend().level(2), SioseRules()).classes(table, None)
    assert codes.tolist() == ["tree", "crops", "tree", "tree"]
