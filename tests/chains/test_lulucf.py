"""The lulucf chain: one recipe, three experts, their cascade and the table of both."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from recipe_keys import keys_by_section, recorded_reads
from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import score
from tesela.chains.lulucf import demo as lulucf_demo
from tesela.chains.lulucf.recipe import PAPER, LulucfRecipe
from tesela.chains.lulucf.scores import join_labels
from tesela.chains.lulucf.table import Row, Table
from tesela.chains.run import run_recipe
from tesela.chains.target_patches import follow_splits, take_qualities
from tesela.comparison.compare import compare_recipe
from tesela.core.errors import InputError, RecipeError
from tesela.core.scene import Scene
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader, open_map
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.models.expert import Expert, ExpertHeader, read_header
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.patches.table import PatchTable
from tesela.recipes.schema import check_recipe
from tesela.sources.siose.rules import species_legend

GOOD = """
chain = "lulucf"
species = ["45", "24"]
[[scenes]]
name = "a"
paths = ["a.tif"]
[reference]
path = "b.gpkg"
"""
NOT_READ = {("CascadeMappingSection", "blend")}
"""Keys that a cascade refuses."""
CONTEXT, TREES, SPECIES = (
    open_legend("lulucf-context"),
    open_legend("tree-cover"),
    species_legend(("45", "24")),
)


def expert_of(name: str) -> Expert:
    legend = {"context": CONTEXT, "canopy": TREES, "species": SPECIES}[name]
    header = ExpertHeader(
        architecture=UnetArchitecture(bands=3, classes=len(legend), encoder="resnet18"),
        legend=legend,
        bands=("red", "green", "blue"),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        patch_size_px=64,
        pixel_size_m=0.5,
    )
    return Expert(header, torch.nn.Identity())


def the_cascade() -> Cascade:
    members = []
    for item in PAPER:
        gate = None if item.parent is None else Gate(item.parent, tuple(item.classes))
        members.append(Member(item.name, expert_of(item.name), gate))
    return Cascade("paper", tuple(members))


def patch_table(ids: list[str], *, quality: list[str], size_px: int = 64) -> PatchTable:
    frame = gpd.GeoDataFrame(
        {
            "patch_id": ids,
            "scene": "a",
            "row": range(len(ids)),
            "col": 0,
            "size_px": size_px,
            "split": "none",
            "quality": quality,
            "labelled": 1.0,
            "valid": 1.0,
            **{f"share_{code}": 0.0 for code in TREES.codes},
        },
        geometry=[shapely.box(0, n, 1, n + 1) for n in range(len(ids))],
        crs="EPSG:25830",
    )
    grid = GeoBox((64, 64), Affine(1, 0, 0, 0, -1, 0), "EPSG:25830")
    return PatchTable(frame, {"a": Scene("a", (), grid)}, {}, TREES, size_px, size_px)


def test_the_recipe_without_experts_is_that_of_the_paper() -> None:
    recipe = check_recipe(tomllib.loads(GOOD), where="recipe")
    assert isinstance(recipe, LulucfRecipe)
    assert [item.name for item in recipe.experts] == ["context", "canopy", "species"]
    assert [recipe.legend_of(item, None).codes for item in recipe.experts[1:]] == [
        ("tree", "open"),
        ("45", "24", "CNF", "FDC", "FDP"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"species": ["4500"]}, "4500"),
        ({"imbalance": ["loss", "loss"]}, "imbalance strategy loss stands twice"),
        ({"imbalance": ["weights"]}, "imbalance.0 = 'weights'"),
        ({"patches": {"split": "quality"}}, "reviewed names no reviewed patch table"),
        ({"reference": {"path": "b.gpkg", "min_area": "1 acre"}}, "'1 acre' is not an area"),
        (
            {"experts": [{"name": "x", "legend": "tree-cover", "parent": "y"}]},
            "the first expert has no parent",
        ),
        (
            {"experts": [{"name": "x", "legend": "lulucf-context"}, {"name": "y", "legend": "tree-cover"}]},
            "each other one names one before it",
        ),
        (
            {
                "experts": [
                    {"name": "x", "legend": "lulucf-context"},
                    {"name": "y", "legend": "tree-cover", "parent": "x", "classes": ["wood"]},
                ]
            },
            "must be some of water, artificial, forest",
        ),
    ],
)
def test_a_mistake_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        check_recipe(tomllib.loads(GOOD) | change, where="recipe")


def test_labels_of_three_experts_join_as_the_cascade_maps_them() -> None:
    cascade = the_cascade()
    codes = {item.value: item.code for item in cascade.legend.classes}
    context = [CONTEXT[code].value for code in ("water", "forest", "forest", "forest", "forest", "crops")]
    labels = {
        "context": np.array([[*context, 0]], np.uint8),
        "canopy": np.array([[1, 2, 1, 1, 0, 1, 1]], np.uint8),
        "species": np.array([[1, 1, 1, 0, 1, 1, 1]], np.uint8),
    }
    joined = join_labels(cascade, labels)[0]
    # an open gate without a label behind it: nodata; behind a closed gate, labels of the child do not count
    assert [codes.get(int(value), "-") for value in joined] == ["water", "open", "45", "-", "-", "crops", "-"]


def test_ratings_are_taken_over_by_patch() -> None:
    table = patch_table(["a", "b", "c"], quality=["", "", ""])
    rated = take_qualities(table, patch_table(["c", "a", "x"], quality=["low", "high", "medium"]))
    assert rated.frame["quality"].tolist() == ["high", "", "low"]
    with pytest.raises(InputError, match="not those of this recipe"):
        take_qualities(table, patch_table(["x"], quality=["low"]))
    with pytest.raises(InputError, match="not those of this recipe"):
        take_qualities(table, patch_table(["a"], quality=["low"], size_px=32))


def test_experts_below_follow_the_split_of_the_first() -> None:
    first = patch_table(["a", "b", "c"], quality=["high", "medium", "low"])
    first = first.with_splits(np.array(["train", "val", "test"], object))
    followed = follow_splits(patch_table(["c", "d", "a", "b"], quality=[""] * 4), first)
    assert followed.frame["split"].tolist() == ["test", "none", "train", "val"]
    assert followed.frame["quality"].tolist() == ["low", "", "high", "medium"]
    with pytest.raises(InputError, match="No patch of split 'val'"):
        follow_splits(patch_table(["a"], quality=[""]), first)


def row(name: str, imbalance: str, area: str) -> Row:
    none = np.zeros(2, np.int64)
    counts = Confusion(TREES, np.array([[6, 2], [1, 1]], np.int64), none, none)
    return Row.of(name, imbalance, area, score(counts))


def test_the_table_holds_each_score_once_and_survives_json() -> None:
    names, areas = ("context", "cascade"), ("test patches", "unbiased patches")
    rows = [row(name, strategy, area) for strategy in ("loss", "none") for area in areas for name in names]
    table = Table(tuple(rows), ("loss", "none"))
    assert table.rows[0].accuracy == pytest.approx(0.7)
    assert table.rows[0].miou == pytest.approx((6 / 9 + 1 / 4) / 2)
    again = Table.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table
    assert len(table.lines()) == 2 + 8
    worse = Table((*rows[:2], *(replace(item, miou=0.1) for item in rows[2:4]), *rows[4:]), ("loss", "none"))
    assert worse.metrics()[0].overall == 0.1, "unbiased patches, where there are some"
    headline, *_, own = table.metrics()
    assert (headline.name, headline.overall, own.name) == ("IoU", table.rows[0].miou, "context IoU")
    assert headline.by_class == pytest.approx({"Tree cover": 6 / 9, "No tree cover": 1 / 4}, abs=1e-6)
    page = table.to_html(title="A <title>", facts={"Seed": "1 & 2"})
    assert "A &lt;title&gt;" in page
    assert "1 &amp; 2" in page
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.slow
def test_one_recipe_makes_experts_cascade_map_and_table_and_then_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = lulucf_demo.DemoSize(
        512, 0.5, patch_px=32, encoder="tu-mobilenetv3_small_050", decoder="small", epochs=1, threads=1
    )
    monkeypatch.setitem(lulucf_demo.SIZES, "small", size)
    file = lulucf_demo.write_lulucf_demo(tmp_path, size="small", seed=0)
    text = file.read_text(encoding="utf-8").replace('imbalance = ["loss", "none"]', 'imbalance = ["loss"]')
    text = text.replace("batch_size = 4", "batch_size = 16\npixels = 2000\ntrees = 8")
    grid = open_scene(next((tmp_path / "sheet").glob("PNOA_*.tif"))).grid.zoom_out(4)
    heights = np.random.default_rng(0).gamma(1, 5, (1, *grid.shape)).astype(np.float32)
    write_bands(tmp_path / "ndsm.tif", heights, grid, names=("height",))
    text += '[[layers]]\nname = "height"\npaths = ["ndsm.tif"]\nkind = "height"\n'
    text += '[[layers]]\nname = "dem"\npaths = ["ndsm.tif"]\nkind = "elevation"\nderive = ["slope"]\n'
    file.write_text(text, encoding="utf-8")
    with recorded_reads(monkeypatch) as reads:
        done = run_recipe(file, quiet=True)
    pretraining = {("PretrainingSection", name) for name in ("scenes", "budget", "test_area")} | {
        ("CorrectionSection", name) for name in ("path", "layer", "field", "source")
    }  # there are none
    unused = {("CascadeMappingSection", "transfer"), *pretraining}
    assert keys_by_section(LulucfRecipe) - reads == NOT_READ | unused, "the chain reads all keys"
    assert done.run.done == [
        "label",
        "layers",
        "patches",
        "train-context",
        "train-canopy",
        "train-species",
        "map",
        "assess",
    ]
    expert = read_header(tmp_path / "experts" / "loss" / "species" / "species.safetensors")
    assert expert.bands[-2:] == ("height", "slope")
    table = Table.from_dict(json.loads((tmp_path / "report" / "table.json").read_text(encoding="utf-8")))
    assert table.names == ("context", "canopy", "species", "cascade")
    assert table.areas == ("test patches", "unbiased patches")
    made = open_map(tmp_path / "maps" / "loss" / "sheet.tif")
    assert made.legend.codes[:6] == CONTEXT.codes
    with MapReader(made) as reader:
        assert (reader.read(made.grid) > 0).all()
    assert any("report" in line for line in done.lines)
    assert run_recipe(file, quiet=True).run.done == []

    # of one expert, a network, for speed; runs that differ in the mapping alone share its training
    one = tmp_path / "one.toml"
    text = re.sub(r"(?ms)^\[reference\.canopy\].*?(?=^\[)", "", text)  # which no other expert reads
    text = text.replace("pixels = 2000\ntrees = 8", 'model = "unet"')
    one.write_text(text + '[[experts]]\nname = "context"\nlegend = "lulucf-context"\n', encoding="utf-8")
    vary = ["mapping.overlap_px=0,32", "patches.unbiased=0.25"]
    compared = compare_recipe(one, vary=vary, out=tmp_path / "tables", quiet=True).comparison
    assert [entry.labels for entry in compared.entries] == [("0", "0.25"), ("32", "0.25")]
    names = [metric.name for metric in compared.metrics]
    assert names == ["IoU", "F1", "accuracy", "context IoU"]
    assert all(entry.blocks > 4 and entry.mflops_per_px > 0 for entry in compared.entries)
    best = compared.best
    assert best.interval[0] <= best.mean("IoU") <= best.interval[1]
