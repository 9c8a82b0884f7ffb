"""`tesela init --like` and `tesela run --dry-run`: a recipe that fits a scene, and inputs that are opened first."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

import tesela
from tesela.chains.run import RecipePlan
from tesela.io.images import write_bands
from tesela.recipes.first_recipe import fitting_patches

GRID = GeoBox((200, 330), Affine(30, 0, 500_000, 0, -30, 4_100_000), "EPSG:25830")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bands(tmp_path / "scene.tif", np.ones((2, *GRID.shape), np.uint8), GRID, names=("red", "nir"))
    left, bottom, right, top = GRID.boundingbox
    polygons = gpd.GeoDataFrame({"CODE_18": ["311"]}, geometry=[box(left, bottom, right, top)], crs=25830)
    polygons.to_file(tmp_path / "clc2018.gpkg", engine="pyogrio")
    return tmp_path


def test_a_recipe_fits_the_scene_it_is_made_for(folder: Path) -> None:
    path = tesela.init("corine", folder / "corine.toml", like=folder / "scene.tif")
    recipe, _ = tesela.open_recipe(path)
    (scene,) = recipe.scenes  # type: ignore[attr-defined]  # a CorineRecipe
    assert (scene.paths, scene.bands) == (["scene.tif"], ["red", "nir"])
    assert (recipe.patches.size_px, recipe.patches.block) == (32, 1920)  # type: ignore[attr-defined]
    text = path.read_text(encoding="utf-8")
    assert "# names" not in text
    lines = [line for line in text.splitlines() if line.startswith(("paths", "split", "block"))]
    assert {line.index("#") for line in lines} == {29}
    other = tesela.init("corine", folder / "other.toml").read_text(encoding="utf-8")
    assert "tesela run other.toml" in other
    assert "corine.toml" not in other
    with pytest.raises(tesela.RecipeError, match="The chain 'unmixing' maps no scenes"):
        tesela.init("unmixing", folder / "unmixing.toml", like=folder / "scene.tif")
    assert not (folder / "unmixing.toml").exists()


@pytest.mark.parametrize(
    ("side_px", "pixel_m", "wanted"),
    [(200, 30, (32, 1920)), (1000, 10, (96, 1920)), (2000, 10, (128, 2560)), (10_980, 10, (128, 5000))],
)
def test_patches_grow_with_the_scene(side_px: int, pixel_m: float, wanted: tuple[int, int]) -> None:
    grid = GeoBox((side_px, 2 * side_px), Affine(pixel_m, 0, 500_000, 0, -pixel_m, 4_100_000), "EPSG:25830")
    assert fitting_patches([grid]) == wanted


def test_a_dry_run_opens_everything_and_writes_nothing(folder: Path) -> None:
    path = tesela.init("corine", folder / "corine.toml", like=folder / "scene.tif")
    before = sorted(folder.rglob("*"))
    planned = tesela.run(path, changes=["training.budget=90 s"], dry_run=True)
    assert isinstance(planned, RecipePlan)
    inputs = dict(planned.preview.inputs)
    assert inputs["reference clc2018.gpkg"] == "1 polygon of the layer clc2018, field CODE_18"
    assert "2 bands" in inputs["scene area"]
    assert inputs["patches"].startswith("at most 60 of 32 px, about 36 to train")
    assert planned.preview.seconds["train"] == 90
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(tesela.InputError, match="Unknown field 'CODE_12': did you mean 'CODE_18'"):
        tesela.run(path, changes=["reference.field=CODE_12"], dry_run=True)
    with pytest.raises(tesela.InputError, match=r"Scene 'area': Unknown band 'swir'.*red, nir"):
        tesela.run(path, changes=['bands=["red", "swir"]'], dry_run=True)
    (folder / "scene.tif").write_bytes((folder / "scene.tif").read_bytes()[:300])
    with pytest.raises(tesela.InputError, match=r"scene\.tif"):
        tesela.run(path, dry_run=True)
