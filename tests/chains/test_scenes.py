"""What corine and lulucf share: labels, patches and blocks of small scenes, without a training."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.chains.evaluation import LEAK, area_of, evaluated_area, evaluated_split
from tesela.chains.metrics import count_mflops_per_px
from tesela.chains.run import build_chain, run_recipe
from tesela.chains.scene_chain import SceneChain
from tesela.core.errors import GridError, RecipeError
from tesela.io.legends import open_legend
from tesela.models.expert import Expert, ExpertHeader, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.patches.table import open_patches
from tesela.recipes.schema import check_recipe
from tesela.recipes.stages import run_stages

SIDE_PX, PATCH_PX, PIXEL_M = 256, 32, 10
LEFT, TOP = 500_000, 4_500_000
CORINE = """
chain = "corine"
out = "run"
legend = "corine-1"
[[scenes]]
name = "near"
paths = ["near.tif"]
[[scenes]]
name = "far"
paths = ["far.tif"]
use = "map"
[reference]
path = "classes.gpkg"
field = "CODE_18"
[patches]
size_px = 32
block = "640 m"
"""
LULUCF = """
chain = "lulucf"
out = "run"
[[scenes]]
name = "near"
paths = ["near.tif"]
[reference]
path = "classes.gpkg"
field = "CODE_18"
source = "mine"
crosswalk = "context.csv"
[[experts]]
name = "context"
legend = "lulucf-context"
[[experts]]
name = "canopy"
legend = "tree-cover"
parent = "context"
classes = ["forest"]
[experts.reference]
path = "trees.gpkg"
field = "code"
source = "mine"
crosswalk = "trees.csv"
[patches]
size_px = 32
block = "640 m"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene on the reference and one far away; classes in squares of 320 m, trees on a tenth of each."""
    rng = np.random.default_rng(0)
    for name, left in (("near", LEFT), ("far", LEFT + 50_000)):
        grid = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, TOP)
        options = {"driver": "GTiff", "width": SIDE_PX, "height": SIDE_PX, "count": 1, "dtype": "uint8"}
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", crs="EPSG:25830", transform=grid, **options
        ) as file:
            file.write(rng.integers(1, 255, (1, SIDE_PX, SIDE_PX), np.uint8))
            file.descriptions = ("red",)
    step, count = PATCH_PX * PIXEL_M, SIDE_PX // PATCH_PX
    corners = [(LEFT + col * step, TOP - row * step) for row in range(count) for col in range(count)]
    codes = [("112", "211", "311", "512")[n % 4] for n in rng.permutation(len(corners))]
    squares = [shapely.box(x, y - step, x + step, y) for x, y in corners]
    gpd.GeoDataFrame({"CODE_18": codes}, geometry=squares, crs="EPSG:25830").to_file(
        tmp_path / "classes.gpkg"
    )
    small = [shapely.box(x, y - 100, x + 100, y) for x, y in corners]
    trees = {"code": ["t" if n % 3 else "o" for n in range(len(corners))]}
    gpd.GeoDataFrame(trees, geometry=small, crs="EPSG:25830").to_file(tmp_path / "trees.gpkg")
    (tmp_path / "trees.csv").write_text("from,to\nt,tree\no,open\n")
    crosswalk = "from,to\n112,artificial\n211,crops\n311,forest\n512,water\n"
    (tmp_path / "context.csv").write_text(crosswalk)
    return tmp_path


def run_until(stage: str, text: str, folder: Path, **sections: Any) -> SceneChain[Any]:
    document = tomllib.loads(text)
    for name, keys in sections.items():
        document[name] = document.get(name, {}) | keys
    chain = build_chain(check_recipe(document, where="recipe", folder=folder), folder, quiet=True)
    assert isinstance(chain, SceneChain)
    run_stages(chain.stages, until=stage)
    return chain


def test_a_scene_to_map_may_be_outside_the_reference_and_one_to_train_on_may_not(folder: Path) -> None:
    run_until("label", CORINE, folder)
    assert [path.name for path in (folder / "run/labels").glob("*.tif")] == ["near.tif"]
    with pytest.raises(GridError, match="do not overlap"):
        run_until("label", CORINE.replace('use = "map"', 'use = "both"'), folder)


def test_few_patches_are_noted_with_a_size_that_gives_more(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_until("patches", CORINE, folder)
    assert "Few patches" not in caplog.text
    run_until("patches", CORINE, folder, patches={"size_px": 64, "block": "640 m"})
    assert "Few patches of 64 px: train " in caplog.text
    assert "Smaller ones give more (size_px = 32)." in caplog.text


def test_what_was_done_ends_with_the_last_stage_also_where_an_earlier_one_was_up_to_date(
    folder: Path,
) -> None:
    (folder / "corine.toml").write_text(CORINE)
    assert run_recipe(folder / "corine.toml", until="label").lines[0] == "Done up to stage 'label'."
    assert run_recipe(folder / "corine.toml", until="patches").lines[0] == "Done up to stage 'patches'."


def test_corine_splits_by_quality_with_an_unbiased_test_beside_it(folder: Path) -> None:
    chain = run_until("patches", CORINE, folder)
    table = open_patches(chain.targets[0].patch_file)
    assert table.counts.keys() == {"train", "val", "test"}
    assert evaluated_split(table) == "test"
    ratings = [("high", "medium", "low")[n % 3] for n in range(len(table))]
    table.frame["quality"] = ratings
    table.write(folder / "reviewed.parquet")
    quality = {"split": "quality", "reviewed": "reviewed.parquet", "unbiased": 0.25}
    chain = run_until("patches", CORINE, folder, patches=quality)
    rated = open_patches(chain.targets[0].patch_file)
    assert rated.frame["quality"].tolist() == ratings
    assert rated.counts["unbiased"] == pytest.approx(len(table) / 4, abs=4)
    assert set(rated.of_split("test")["quality"]) == {"low"}
    assert set(rated.of_split("unbiased")["quality"]) == {"high", "medium", "low"}
    assert evaluated_split(rated) == "unbiased"
    near = chain.recipe.scenes[0]
    area = chain.evaluated.area(rated, near).within
    assert area is not None
    assert len(area) == len(area_of(rated, "unbiased", near)) == rated.counts["unbiased"]


def test_blocks_of_a_comparison_are_those_of_the_split(folder: Path) -> None:
    chain = run_until("patches", CORINE, folder)
    (folder / "run/maps").mkdir()
    shutil.copy(chain.targets[0].label_file(chain.recipe.scenes[0]), folder / "run/maps/near.tif")
    table, blocks = open_patches(chain.targets[0].patch_file), chain.blocks()
    assert blocks.counts.sum() == table.counts["test"] * PATCH_PX**2, "test pixels only"
    assert len(blocks.names) == table.counts["test"] / 4, "blocks of 640 m hold four patches"
    assert float(blocks.score(blocks.counts.sum(axis=0))) == 1
    whole = run_until("patches", CORINE, folder, assessment={"area": "all"}).blocks()
    assert whole.counts.sum() == SIDE_PX**2
    assert len(whole.names) == 16


def test_another_date_of_the_training_area_is_evaluated_on_its_test_patches(folder: Path) -> None:
    chain = run_until("label", CORINE.replace('"far.tif"', '"near.tif"'), folder)
    near, far = chain.recipe.scenes
    chain.patches.cut()
    table = open_patches(chain.targets[0].patch_file)
    there, again = chain.evaluated.area(table, near), chain.evaluated.area(table, far)
    assert there.within is not None
    assert again.within is not None
    assert again.within.geometry.tolist() == there.within.geometry.tolist()
    assert again.words == "test patches of other dates only"
    assert chain.evaluated.sections() == [near, far]
    nothing = table.with_splits(np.full(len(table), "train", object))
    assert chain.evaluated.area(nothing, far).words == LEAK
    assert chain.evaluated.area(nothing, near).empty


def test_a_sheet_that_overlaps_training_patches_is_evaluated_without_them(folder: Path) -> None:
    chain = run_until("patches", CORINE, folder)
    table = open_patches(chain.targets[0].patch_file).with_splits(["train", *["test"] * 63])
    side = PATCH_PX * PIXEL_M
    grid = GeoBox((256, 256), Affine(10, 0, LEFT - 2560 + side, 0, -10, TOP), "EPSG:25830")
    area = evaluated_area(table, "west", grid, whole=False)
    assert area.words == "the map without the training patches of other sheets"
    assert area.within is not None
    assert area.within.area.sum() == pytest.approx(2560**2 - side**2)
    assert not area.within.intersects(shapely.Point(LEFT + 5, TOP - 5)).any()
    assert area.within.intersects(shapely.Point(LEFT + 5, TOP - side - 5)).all(), (
        "a test patch trains nothing"
    )


def test_a_scene_elsewhere_is_evaluated_as_a_whole(folder: Path) -> None:
    chain = run_until("patches", CORINE, folder)
    table = open_patches(chain.targets[0].patch_file)
    assert chain.evaluated.area(table, chain.recipe.scenes[1]).words == "the whole map"


def test_experts_below_take_patches_with_few_labels(folder: Path) -> None:
    chain = run_until("patches", LULUCF, folder)
    context, canopy = (open_patches(target.patch_file) for target in chain.targets)
    assert len(canopy) == len(context) == 64, "a tenth of a patch has a label of the canopy"
    splits = dict(zip(context.frame["patch_id"], context.frame["split"], strict=True))
    assert canopy.frame["split"].tolist() == [splits[patch] for patch in canopy.frame["patch_id"]]


def test_a_scene_may_have_a_reference_of_its_own(folder: Path) -> None:
    shutil.copy(folder / "trees.gpkg", folder / "other.gpkg")
    text = LULUCF.replace('path = "classes.gpkg"', 'path = "other.gpkg"')
    chain = run_until(
        "label", text.replace('["near.tif"]', '["near.tif"]\nreference = "classes.gpkg"'), folder
    )
    section = chain.recipe.scenes[0]
    files = [chain.labels.reference_file(target, section).name for target in chain.targets]
    assert files == ["classes.gpkg", "trees.gpkg"], "an expert's own reference comes first"


def test_rules_for_siose_ar_are_refused_for_another_reference(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"is not SIOSE AR: leave mode, .* out of its reference"):
        run_until("label", LULUCF, folder, reference={"mode": "composite"})


def test_operations_are_counted_per_pixel(tmp_path: Path) -> None:
    legend = open_legend("tree-cover")
    network = UnetArchitecture(bands=3, classes=len(legend), encoder="resnet18")
    header = ExpertHeader(
        architecture=network,
        legend=legend,
        bands=("red", "green", "blue"),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        patch_size_px=64,
        pixel_size_m=0.5,
    )
    file = save_expert(tmp_path / "expert.safetensors", Expert(header, network.build()))
    small, large = (count_mflops_per_px(file, side_px=side) for side in (32, 64))
    assert small == pytest.approx(large)
    assert 0.05 < small < 1, "a U-Net with ResNet18: 21.4 GFLOPs on 256 x 256 px"
