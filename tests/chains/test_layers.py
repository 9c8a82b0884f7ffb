"""Layers of a recipe are bands of its scenes, from the patches to the map."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.chains.run import build_chain
from tesela.chains.scene_chain import SceneChain
from tesela.cli import main
from tesela.core.errors import GridError, RecipeError
from tesela.io.images import write_bands
from tesela.models.expert import read_header
from tesela.patches.table import open_patches
from tesela.recipes.schema import check_recipe
from tesela.recipes.stages import run_stages

SIDE_PX, SQUARE_PX, PIXEL_M = 256, 32, 10
LEFT, TOP = 500_000, 4_500_000
BANDS = ("red", "altitude", "slope", "aspect_sin", "aspect_cos", "position")
SCENES = """
[[scenes]]
name = "near"
paths = ["near.tif"]
[[layers]]
name = "terrain"
paths = ["dem.tif"]
kind = "elevation"
[patches]
size_px = 32
block = "320 m"
[training]
model = "boosting"
pixels = 20000
trees = 40
window_sides_px = [3]
[reference]
path = "classes.gpkg"
field = "CODE_18"
"""
CORINE = (
    """
chain = "corine"
out = "run"
legend = "corine-1"
"""
    + SCENES
)
LULUCF = (
    """
chain = "lulucf"
out = "run"
"""
    + SCENES
    + """
source = "mine"
crosswalk = "context.csv"
[[experts]]
name = "context"
legend = "lulucf-context"
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image of noise, and classes that only the elevation shows, of coarser pixels in another zone."""
    rng = np.random.default_rng(0)
    grid = GeoBox((SIDE_PX, SIDE_PX), Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP), "EPSG:25830")
    noise = rng.integers(1, 255, (1, SIDE_PX, SIDE_PX), np.uint8)
    write_bands(tmp_path / "near.tif", noise, grid, names=("red",))
    step, count = SQUARE_PX * PIXEL_M, SIDE_PX // SQUARE_PX
    numbers = rng.permutation(count * count) % 4
    corners = [(LEFT + col * step, TOP - row * step) for row in range(count) for col in range(count)]
    codes = [("112", "211", "311", "512")[n] for n in numbers]
    squares = [shapely.box(x, y - step, x + step, y) for x, y in corners]
    frame = gpd.GeoDataFrame({"CODE_18": codes, "number": numbers}, geometry=squares, crs="EPSG:25830")
    frame.to_file(tmp_path / "classes.gpkg")
    (tmp_path / "context.csv").write_text("from,to\n112,artificial\n211,crops\n311,forest\n512,water\n")
    write_elevation(tmp_path / "dem.tif", frame)
    return tmp_path


def write_elevation(path: Path, frame: gpd.GeoDataFrame) -> None:
    from rasterio.features import rasterize

    shapes = frame.to_crs("EPSG:25829")
    left, bottom, right, top = shapes.total_bounds
    grid = GeoBox(
        (int((top - bottom) / 20) + 6, int((right - left) / 20) + 6),
        Affine(20, 0, left - 60, 0, -20, top + 60),
        "EPSG:25829",
    )
    levels = rasterize(
        zip(shapes.geometry, 100 + 200 * shapes["number"], strict=True),
        out_shape=tuple(grid.shape),
        transform=grid.affine,
        fill=100,
        dtype="float32",
    )
    write_bands(path, levels[np.newaxis], grid, names=("z",))


def chain_of(text: str, folder: Path, **keys: Any) -> SceneChain[Any]:
    document = tomllib.loads(text) | keys
    chain = build_chain(check_recipe(document, where="recipe", folder=folder), folder, quiet=True)
    assert isinstance(chain, SceneChain)
    return chain


def pixels(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as data:
        return np.asarray(data.read(1))


@pytest.mark.parametrize("text", [CORINE, LULUCF], ids=["corine", "lulucf"])
def test_an_expert_maps_by_the_layers_what_the_image_does_not_show(text: str, folder: Path) -> None:
    chain = chain_of(text, folder)
    done = run_stages(chain.stages, until="map").done
    assert done[:3] == ["label", "layers", "patches"]
    expert = chain.trainings.files()[0]
    assert read_header(expert).bands == BANDS
    section = chain.recipe.scenes[0]
    target = chain.targets[0]
    assert open_patches(target.patch_file).scenes["near"].band_names == BANDS
    labels, mapped = pixels(target.label_file(section)), pixels(chain.map_file(section))
    assert (mapped > 0).all()
    if text is CORINE:
        assert (labels == mapped)[labels > 0].mean() > 0.9, "by chance 0.25"
        files = f"{folder / 'near.tif'},{folder / 'run/layers/near.tif'}"
        again = folder / "again.tif"
        assert main(["predict", str(expert), files, "-o", str(again), "--quiet"]) == 0
        assert np.array_equal(pixels(again), mapped), "image and layers are enough to map"
    assert run_stages(chain_of(text, folder).stages, until="map").done == []
    (folder / "dem.tif").touch()
    write_elevation(folder / "dem.tif", gpd.read_file(folder / "classes.gpkg").assign(number=0))
    done = run_stages(chain_of(text, folder).stages, until="patches").done
    assert done == ["layers", "patches"], "labels do not depend on layers"


def test_a_recipe_without_layers_has_no_such_stage(folder: Path) -> None:
    chain = chain_of(CORINE, folder, layers=[])
    assert [stage.name for stage in chain.stages] == ["label", "patches", "train", "map", "assess"]
    run_stages(chain.stages, until="patches")
    assert chain.scenes.bands == ("red",)
    assert not (folder / "run/layers").exists()


def test_only_the_bands_that_a_recipe_names_are_used_in_its_order(folder: Path) -> None:
    chain = chain_of(CORINE, folder, bands=["slope", "red"])
    run_stages(chain.stages, until="patches")
    table = open_patches(chain.targets[0].patch_file)
    assert table.scenes["near"].band_names == ("slope", "red")


def test_no_layer_is_written_where_one_does_not_cover_a_scene(folder: Path) -> None:
    grid = GeoBox((SIDE_PX, SIDE_PX), Affine(PIXEL_M, 0, LEFT + 90_000, 0, -PIXEL_M, TOP), "EPSG:25830")
    write_bands(folder / "far.tif", np.ones((1, *grid.shape), np.uint8), grid, names=("red",))
    far = {"name": "far", "paths": ["far.tif"], "use": "map"}
    scenes = [{"name": "near", "paths": ["near.tif"]}, far]
    with pytest.raises(GridError, match=r"'terrain' \(dem\.tif\) covers no part of scene 'far'"):
        run_stages(chain_of(CORINE, folder, scenes=scenes).stages, until="patches")
    assert not (folder / "run/layers/near.tif").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "raster", "derive": ["slope"]}, "layers.0: derive: not for kind = 'raster'; leave it out"),
        ({"derive": ["slope"], "neighbourhood": "1 km"}, "only position has one, and derive lacks it"),
        ({"derive": ["slope", "slope"]}, "each one may stand once"),
        ({"neighbourhood": "0 m"}, "must be more than 0 m"),
        ({"resampling": "nearest"}, "resampling: not for kind = 'elevation'"),
        ({"kind": "hight"}, "layers.0.kind = 'hight'"),
        ({"paths": ["lost.tif"]}, "no file lost.tif"),
        ({"path": "dem.tif"}, "unknown key layers.0.path (did you mean paths?)"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_mistakes_of_layers_are_reported_before_anything_runs(
    changes: dict[str, object], message: str, folder: Path
) -> None:
    document = tomllib.loads(CORINE)
    document["layers"][0] |= changes
    with pytest.raises(RecipeError) as caught:  # noqa: PT011 - the message is compared as it stands
        check_recipe(document, where="recipe", folder=folder)
    assert message in str(caught.value)


def test_layers_have_bands_of_their_own_that_are_used(folder: Path) -> None:
    twice = [{"name": name, "paths": ["dem.tif"], "kind": "elevation"} for name in ("a", "b")]
    with pytest.raises(RecipeError, match=r"band of the layers altitude, .*position, slope stands twice"):
        chain_of(CORINE, folder, layers=twice)
    with pytest.raises(RecipeError, match=r"bands: names no band of layer 'terrain' \(altitude, slope"):
        chain_of(CORINE, folder, bands=["red"])
