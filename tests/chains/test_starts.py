"""A recipe with [pretraining]: which scenes and areas it uses, and that trainings begin from its start."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.chains.run import build_chain
from tesela.chains.scene_chain import SceneChain
from tesela.core.errors import RecipeError
from tesela.io.images import write_bands
from tesela.patches.table import open_patches
from tesela.recipes.schema import check_recipe
from tesela.recipes.stages import run_stages

SIDE_PX, PIXEL_M = 256, 10
LEFT, TOP = 500_000, 4_500_000
RECIPE = """
chain = "corine"
out = "run"
legend = "corine-1"
[[scenes]]
name = "near"
paths = ["near.tif"]
[[scenes]]
name = "beside"
paths = ["beside.tif"]
use = "map"
[reference]
path = "classes.gpkg"
field = "CODE_18"
[patches]
size_px = 32
block = "640 m"
[pretraining]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene on the reference, one beside it to map, and one without labels whose band has no name."""
    rng = np.random.default_rng(0)
    for name, left in (("near", LEFT), ("beside", LEFT + 2560), ("extra", LEFT + 90_000)):
        grid = GeoBox((SIDE_PX, SIDE_PX), Affine(PIXEL_M, 0, left, 0, -PIXEL_M, TOP), "EPSG:25830")
        noise = rng.integers(1, 255, (1, SIDE_PX, SIDE_PX), np.uint8)
        write_bands(tmp_path / f"{name}.tif", noise, grid, names=("red" if name != "extra" else "band1",))
    boxes = [shapely.box(x, TOP - 2560, x + 320, TOP) for x in range(LEFT, LEFT + 2560, 320)]
    codes = ["112", "211", "311", "512"] * 2
    frame = gpd.GeoDataFrame({"CODE_18": codes}, geometry=boxes, crs="EPSG:25830")
    frame.to_file(tmp_path / "classes.gpkg")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stages hand to pretraining and training, in whose place files are written."""
    seen: dict[str, Any] = {"pretrainings": 0}

    def pretrain(scenes: Any, out: Path, **options: Any) -> Path:
        seen.update(options, scenes=scenes, pretrainings=seen["pretrainings"] + 1)
        out.write_text(options["budget"])
        return out

    def train(table: Any, out: Path, **options: Any) -> Path:
        seen["trained"] = options["settings"]
        out.write_text(str(options["settings"]))
        return out

    monkeypatch.setattr("tesela.training.segmentation.pretraining.pretrain_encoder", pretrain)
    monkeypatch.setattr("tesela.training.segmentation.train.train_segmentation", train)
    return seen


def chain_of(folder: Path, text: str = "", recipe: str = RECIPE) -> SceneChain[Any]:
    document = tomllib.loads(recipe + text)
    chain = build_chain(check_recipe(document, where="recipe", folder=folder), folder, quiet=True)
    assert isinstance(chain, SceneChain)
    return chain


def test_test_patches_and_scenes_to_map_are_left_out(folder: Path, calls: dict[str, Any]) -> None:
    chain = chain_of(folder)
    assert run_stages(chain.stages, until="train").done == ["label", "patches", "pretrain", "train"]
    assert [scene.name for scene in calls["scenes"]] == ["near"]
    left_out = calls["left_out"].geometry.union_all()
    frame = open_patches(chain.targets[0].patch_file).frame
    test = frame[frame["split"] == "test"].geometry.union_all()
    other = frame[frame["split"] != "test"].geometry.union_all()
    assert test.area > 0
    assert left_out.covers(test)
    assert left_out.intersection(other).area < 1
    assert left_out.covers(shapely.box(LEFT + 2561, TOP - 2559, LEFT + 5119, TOP - 1)), "the scene to map"
    trained = calls["trained"]
    assert trained.weights == str(chain.start.pretrained_file)
    assert trained.encoder == calls["settings"].encoder != "auto"
    assert calls["size_px"] == 32


def test_the_user_may_name_scenes_and_the_test_area(folder: Path, calls: dict[str, Any]) -> None:
    chain = chain_of(folder, 'scenes = ["*.tif"]\nbudget = "9 s"\n')
    run_stages(chain.stages, until="pretrain")
    assert sorted(scene.name for scene in calls["scenes"]) == ["beside", "extra", "near"]
    assert all(scene.band_names == ("red",) for scene in calls["scenes"] if scene.name != "extra")
    assert calls["left_out"] is not None
    assert calls["budget"] == "9 s"
    run_stages(chain_of(folder, "test_area = true\n").stages, until="pretrain")
    assert [scene.name for scene in calls["scenes"]] == ["near", "beside"]
    assert calls["left_out"] is None


def test_files_without_names_of_bands_are_read_like_the_first_scene(
    folder: Path, calls: dict[str, Any]
) -> None:
    named = RECIPE.replace('paths = ["near.tif"]', 'paths = ["near.tif"]\nbands = ["B04"]').replace(
        'paths = ["beside.tif"]', 'paths = ["beside.tif"]\nbands = ["B04"]'
    )
    run_stages(chain_of(folder, 'scenes = ["extra.tif"]\n', named).stages, until="pretrain")
    assert [scene.band_names for scene in calls["scenes"]] == [("B04",)]


def test_another_start_makes_the_training_stale(folder: Path, calls: dict[str, Any]) -> None:
    run_stages(chain_of(folder).stages, until="train")
    assert run_stages(chain_of(folder).stages, until="train").done == []
    again = run_stages(chain_of(folder, 'budget = "9 s"\n').stages, until="train")
    assert again.done == ["pretrain", "train"]
    plain = run_stages(chain_of(folder, recipe=RECIPE.replace("[pretraining]", "")).stages, until="train")
    assert plain.done == ["train"]
    assert calls["trained"].weights is None
    assert calls["pretrainings"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('scenes = ["lost/*.tif"]', r"pretraining\.scenes: no file lost/\*\.tif"),
        ('budget = "soon"', r"pretraining\.budget: .*soon"),
        ('[training]\nmodel = "forest"', r"a model 'forest' cannot be pretrained: leave \[pretraining\] out"),
        ("[training]\npublished = true", r"published recipe is not pretrained"),
        (
            'scenes = ["near.tif"]\n[[layers]]\nname = "z"\npaths = ["near.tif"]\nkind = "height"',
            r"pretraining\.scenes: layers are there for the scenes of the recipe only",
        ),
    ],
)
def test_mistakes_are_reported_before_anything_runs(folder: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        chain_of(folder, text)
