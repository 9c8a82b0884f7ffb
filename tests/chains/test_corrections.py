"""Corrections: reviewed polygons over the labels of corine and lulucf, without a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from tesela.chains.run import build_chain
from tesela.chains.scene_chain import SceneChain
from tesela.core.errors import GridError, LegendError, RecipeError
from tesela.generalise.uncertain_areas import rank_areas
from tesela.generalise.uncertainty import UncertaintyFiles
from tesela.io.maps import ScoreWriter, open_map, write_map
from tesela.io.scenes import open_scene
from tesela.io.update_queue import read_queue, write_decisions
from tesela.patches.table import open_patches
from tesela.recipes.schema import open_recipe
from tesela.recipes.stages import Run, run_stages

SIDE_PX, PIXEL_M = 128, 10
LEFT, TOP = 500_000, 4_500_000
CORINE = """
chain = "corine"
out = "run"
legend = "corine-1"
[[scenes]]
name = "near"
paths = ["near.tif"]
[reference]
path = "classes.gpkg"
field = "CODE_18"
[[corrections]]
path = "fixed.gpkg"
field = "code"
[patches]
size_px = 32
block = "320 m"
min_labelled = 0.01
"""
LULUCF = """
chain = "lulucf"
out = "run"
species = ["26", "45"]
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
path = "classes.gpkg"
field = "CODE_18"
source = "mine"
crosswalk = "trees.csv"
[[corrections]]
path = "fixed.gpkg"
field = "code"
[patches]
size_px = 32
block = "320 m"
min_labelled = 0.01
"""


def square(col: int, row: int, size: int = 16) -> shapely.Polygon:
    """A square of pixels of the scene."""
    x, y = LEFT + col * PIXEL_M, TOP - row * PIXEL_M
    return shapely.box(x, y - size * PIXEL_M, x + size * PIXEL_M, y)


def write_polygons(path: Path, field: str, rows: list[tuple[Any, shapely.Polygon]]) -> None:
    codes, shapes = zip(*rows, strict=True)
    gpd.GeoDataFrame({field: list(codes)}, geometry=list(shapes), crs="EPSG:25830").to_file(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scenes, far apart; forest on the left half of one, crops on its right half."""
    rng = np.random.default_rng(0)
    options = {"driver": "GTiff", "width": SIDE_PX, "height": SIDE_PX, "count": 1, "dtype": "uint8"}
    for name, left in (("near", LEFT), ("far", LEFT + 50_000)):
        grid = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, TOP)
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path, "w", crs="EPSG:25830", transform=grid, **options) as file:
            file.write(rng.integers(1, 255, (1, SIDE_PX, SIDE_PX), np.uint8))
            file.descriptions = ("red",)
    half = [shapely.transform(square(0, 0, 128), lambda xy: (xy - [LEFT, 0]) * [0.5, 1] + [LEFT, 0])]
    half.append(shapely.transform(half[0], lambda xy: xy + np.array([640, 0])))
    write_polygons(tmp_path / "classes.gpkg", "CODE_18", [("311", half[0]), ("211", half[1])])
    (tmp_path / "context.csv").write_text("from,to\n211,crops\n311,forest\n")
    (tmp_path / "trees.csv").write_text("from,to\n211,nodata\n311,tree\n")
    return tmp_path


def run(folder: Path, text: str, until: str = "label") -> tuple[SceneChain[Any], Run]:
    (folder / "recipe.toml").write_text(text)
    chain = build_chain(*open_recipe(folder / "recipe.toml"), quiet=True)
    assert isinstance(chain, SceneChain)
    return chain, run_stages(chain.stages, until=until)


def labels_of(chain: SceneChain[Any], target: int = 0) -> dict[str, int]:
    """Pixels of the near scene by code of the labels."""
    item = chain.targets[target]
    with rasterio.open(item.label_file(chain.recipe.scenes[0])) as file:
        values, counts = np.unique(file.read(1), return_counts=True)
    codes = {0: "", **dict(zip(item.legend.values, item.legend.codes, strict=True))}
    return {codes[int(value)]: int(count) for value, count in zip(values, counts, strict=True)}


def test_corrected_polygons_replace_the_labels_and_others_leave_them(folder: Path) -> None:
    rows = [("512", square(0, 0)), (None, square(32, 0)), ("311", square(0, 64)), ("999", square(96, 96))]
    write_polygons(folder / "fixed.gpkg", "code", rows)
    chain, _ = run(folder, CORINE)
    assert labels_of(chain) == {"": 256, "2": 8192 - 256, "3": 8192 - 256, "5": 256}
    assert chain.labels.corrected == "5.12 ha of the labels by 3 reviewed polygons"
    assert json.loads((folder / "run/labels/corrections/near.json").read_text()) == {
        "corine": {"polygons": 3, "drawn_ha": pytest.approx(7.68), "changed_ha": pytest.approx(5.12)}
    }


def test_labels_are_drawn_again_when_the_corrections_change_and_only_then(folder: Path) -> None:
    write_polygons(folder / "fixed.gpkg", "code", [("512", square(0, 0))])
    assert run(folder, CORINE)[1].done == ["label"]
    assert run(folder, CORINE)[1].done == []
    write_polygons(folder / "fixed.gpkg", "code", [("112", square(0, 0))])
    chain, again = run(folder, CORINE)
    assert again.done == ["label"]
    assert labels_of(chain) == {"1": 256, "2": 8192, "3": 8192 - 256}
    chain, again = run(folder, CORINE.replace('[[corrections]]\npath = "fixed.gpkg"\nfield = "code"', ""))
    assert labels_of(chain) == {"2": 8192, "3": 8192}
    assert chain.labels.corrected == ""


def test_codes_of_the_map_and_of_the_reference_are_both_understood(folder: Path) -> None:
    write_polygons(folder / "fixed.gpkg", "code", [("5", square(0, 0))])
    assert labels_of(run(folder, CORINE)[0])["5"] == 256
    write_polygons(folder / "fixed.gpkg", "code", [("514", square(0, 0))])
    text = CORINE.replace('field = "code"', 'field = "code"\nsource = "siose-ar"')
    assert labels_of(run(folder, text)[0])["5"] == 256, "514 is water in SIOSE AR"
    write_polygons(folder / "fixed.gpkg", "code", [("wood", square(0, 0))])
    with pytest.raises(LegendError, match="wood"):
        run(folder, CORINE)


def test_a_scene_outside_the_reference_learns_from_corrections_alone(folder: Path) -> None:
    text = CORINE.replace("[reference]", '[[scenes]]\nname = "far"\npaths = ["far.tif"]\n[reference]')
    write_polygons(folder / "fixed.gpkg", "code", [("512", square(0, 0))])
    with pytest.raises(GridError, match="do not overlap"):
        run(folder, text)
    write_polygons(folder / "fixed.gpkg", "code", [("512", square(5000, 0))])
    chain, _ = run(folder, text)
    far = open_map(chain.targets[0].label_file(chain.recipe.scenes[1]))
    with rasterio.open(far.path) as file:
        values, counts = np.unique(file.read(1), return_counts=True)
    assert (values.tolist(), counts.tolist()) == ([0, 5], [SIDE_PX**2 - 256, 256])


def test_classes_of_a_cascade_reach_each_expert_that_they_speak_of(folder: Path) -> None:
    rows = [
        ("crops", square(0, 0)),
        ("open", square(0, 32)),
        ("forest", square(0, 64)),
        ("tree", square(96, 0)),
    ]
    write_polygons(folder / "fixed.gpkg", "code", rows)
    chain, _ = run(folder, LULUCF)
    assert labels_of(chain) == {"crops": 8192, "forest": 8192}
    canopy = {"tree": 8192 - 2 * 256 + 256, "open": 256, "": 8192}
    assert labels_of(chain, 1) == canopy, "crops close the gate; forest alone leaves trees as they were"
    assert chain.labels.corrected == "context 5.12 ha, canopy 7.68 ha of the labels by 4 reviewed polygons"


def test_ratings_of_an_expert_are_its_own_where_it_has_some(folder: Path) -> None:
    write_polygons(folder / "fixed.gpkg", "code", [("open", square(0, 0, 32))])
    chain, _ = run(folder, LULUCF, until="patches")
    tables = [open_patches(target.patch_file) for target in chain.targets]
    for table, quality, name in zip(tables, ("high", "low"), ("context", "canopy"), strict=True):
        table.frame["quality"] = quality
        table.write(folder / f"{name}.parquet")
    text = LULUCF.replace("[patches]", '[patches]\nreviewed = "context.parquet"')
    chain, _ = run(folder, text, until="patches")
    assert set(open_patches(chain.targets[1].patch_file).frame["quality"]) == {"high"}
    own = text.replace('name = "canopy"', 'name = "canopy"\nreviewed = "canopy.parquet"')
    chain, again = run(folder, own, until="patches")
    assert again.done == ["patches"]
    assert set(open_patches(chain.targets[0].patch_file).frame["quality"]) == {"high"}
    assert set(open_patches(chain.targets[1].patch_file).frame["quality"]) == {"low"}
    with pytest.raises(RecipeError, match=r"first expert are those of patches\.reviewed"):
        run(folder, text.replace('name = "context"', 'name = "context"\nreviewed = "context.parquet"'))


def test_decisions_on_a_queue_are_corrections_as_they_are(folder: Path) -> None:
    write_polygons(folder / "fixed.gpkg", "code", [("512", square(0, 0))])
    chain, _ = run(folder, CORINE)
    values = np.full((SIDE_PX, SIDE_PX), 3, np.uint8)
    values[:, 64:] = 2
    source = write_map(
        folder / "map.tif", values, open_scene(folder / "near.tif").grid, legend=chain.targets[0].legend
    )
    with ScoreWriter(folder / "confidence.tif", source.grid, ["confidence"], scale=1.0, unit="%") as writer:
        writer.write(0, 0, np.full((SIDE_PX, SIDE_PX), 60, np.uint8))
    files = UncertaintyFiles(confidence=folder / "confidence.tif")
    queue = rank_areas(source, folder / "queue.gpkg", files, block_px=64, most=4).path
    text = CORINE.replace('path = "fixed.gpkg"\nfield = "code"', 'path = "queue.gpkg"')
    assert labels_of(run(folder, text)[0]) == {"2": 8192, "3": 8192}, "nothing is decided"
    first = read_queue(queue).proposals.iloc[0]
    write_decisions(queue, {str(first.name): ("5", "")})
    chain, again = run(folder, text)
    assert again.done == ["label"]
    assert labels_of(chain) == {
        first["old_code"]: 4096,
        {"2": "3", "3": "2"}[first["old_code"]]: 8192,
        "5": 4096,
    }
    assert chain.labels.corrected == "40.96 ha of the labels by 1 reviewed polygon"
