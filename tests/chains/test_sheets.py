"""Sheets of a chain: each is mapped once, with its neighbours in view, and all become one map."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch

from tesela.chains.corine.chain import CorineChain
from tesela.chains.run import build_chain
from tesela.chains.sheets import read_outline
from tesela.core.errors import GridError, InputError, RecipeError
from tesela.io.legends import open_legend
from tesela.mapping import predict as predict_module
from tesela.models.expert import Expert, ExpertHeader, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.recipes.schema import check_recipe
from tesela.recipes.sections import SceneSection
from tesela.recipes.stages import run_stages

RECIPE = """
chain = "corine"
out = "run"
legend = "corine-1"
[[scenes]]
paths = "sheets/*.tif"
[reference]
path = "sheets/a.tif"
source = "corine-1"
[mapping]
engine = "torch"
precision = "fp32"
join = "auto"
window_px = 64
overlap_px = 16
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sheets of 64 px in a row, and a trained expert in its place."""
    rng = np.random.default_rng(0)
    for number, name in enumerate("abc"):
        (tmp_path / "sheets").mkdir(exist_ok=True)
        with rasterio.open(
            tmp_path / f"sheets/{name}.tif",
            "w",
            driver="GTiff",
            width=64,
            height=64,
            count=1,
            dtype="uint8",
            crs="EPSG:25830",
            transform=rasterio.Affine(10, 0, 500_000 + 640 * number, 0, -10, 4_500_000),
        ) as file:
            file.write(rng.integers(1, 255, (1, 64, 64), np.uint8))
            file.descriptions = ("red",)
    architecture = UnetArchitecture(1, 5, encoder="resnet10t", decoder_channels=(16, 16, 8, 8, 8))
    torch.manual_seed(0)
    header = ExpertHeader(
        architecture=architecture,
        legend=open_legend("corine-1"),
        bands=("red",),
        mean=(128.0,),
        std=(70.0,),
        patch_size_px=32,
        pixel_size_m=10.0,
    )
    save_expert(chain_of(tmp_path).expert_file, Expert(header, architecture.build().eval()))
    return tmp_path


def chain_of(folder: Path, **mapping: Any) -> CorineChain:
    document = tomllib.loads(RECIPE)
    document["mapping"] |= mapping
    chain = build_chain(check_recipe(document, where="recipe", folder=folder), folder, quiet=True)
    assert isinstance(chain, CorineChain)
    return chain


def map_and_join(chain: CorineChain) -> None:
    stages = [stage for stage in chain.stages if stage.name in ("map", "join")]
    run_stages(stages)


def test_a_killed_run_keeps_its_sheets_and_a_new_sheet_is_mapped_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[str] = []
    stop = [1]
    whole = predict_module.predict_map

    def predict(expert: Expert, scene: Any, *args: Any, **options: Any) -> Any:
        if len(mapped) == stop[0]:
            raise KeyboardInterrupt
        mapped.append(scene.name)
        return whole(expert, scene, *args, **options)

    monkeypatch.setattr(predict_module, "predict_map", predict)
    for stop[0] in (1, 2, 99):  # each time one sheet more, then killed
        try:
            map_and_join(chain_of(folder))
        except KeyboardInterrupt:
            continue
    assert mapped == ["a", "b", "c"]
    joined = folder / "run/joined/corine.tif"
    before = joined.read_bytes()
    with rasterio.open(joined) as data:
        values = data.read(1)
    assert values.shape == (64, 192)
    assert (values > 0).all()
    parts = [rasterio.open(folder / f"run/maps/{name}.tif").read(1) for name in "abc"]
    assert (values == np.concatenate(parts, axis=1)).all()
    (folder / "sheets/c.tif").rename(folder / "c.tif")
    map_and_join(chain_of(folder))
    assert mapped == ["a", "b", "c", "b"], "b has lost its neighbour"
    (folder / "c.tif").rename(folder / "sheets/c.tif")
    map_and_join(chain_of(folder))
    assert joined.read_bytes() == before
    mapped.clear()
    map_and_join(chain_of(folder, join="EPSG:25829"))
    assert not mapped, "another CRS of the joined map"
    with rasterio.open(joined) as data:
        assert data.crs.to_epsg() == 25829
    map_and_join(chain_of(folder, confidence=True, probabilities=True))
    for kind, bands in (("confidence", 1), ("probabilities", 5)):
        parts = [rasterio.open(folder / f"run/maps/{name}_{kind}.tif").read() for name in "abc"]
        with rasterio.open(folder / f"run/joined/corine_{kind}.tif") as data:
            assert data.shape == (64, 192)
            assert data.count == bands
            assert (data.read() == np.concatenate(parts, axis=2)).all()


def test_outlines_are_found_by_name_image_or_sheet(tmp_path: Path) -> None:
    boxes = [shapely.box(0, 0, 9, 9), shapely.box(9, 0, 18, 9)]
    frame = gpd.GeoDataFrame(
        {"location": ["x/a.tif", "x/b.tif"], "HOJA": ["0557", "0558"]}, geometry=boxes, crs=25830
    )
    frame.to_file(tmp_path / "index.gpkg")
    for name, path in (("s", "b.tif"), ("b", "s.tif"), ("s", "PNOA_MA_OF_ETRS89_HU30_h25_0558_1.tif")):
        section = SceneSection(name=name, paths=[path])
        assert read_outline(tmp_path / "index.gpkg", section).union_all().equals(boxes[1])
    with pytest.raises(InputError, match="none of its 2 polygons is named 's'"):
        read_outline(tmp_path / "index.gpkg", SceneSection(name="s", paths=["s.tif"]))
    frame.iloc[:1].to_file(tmp_path / "one.gpkg")
    assert (
        read_outline(tmp_path / "one.gpkg", SceneSection(name="s", paths=["s.tif"])).iloc[0].equals(boxes[0])
    )


def test_a_wrong_zone_or_crs_is_named(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"mapping\.join: 'zone 30' is neither none, auto nor a CRS"):
        chain_of(folder, join="zone 30")
    chain = chain_of(folder)
    section = chain.recipe.scenes[0]
    chain.labels.check_scene(section.model_copy(update={"zone": 30}))
    with pytest.raises(
        GridError, match="Scene 'a' is given for UTM zone 29, but its file is in EPSG:25830, zone 30N"
    ):
        chain.labels.check_scene(section.model_copy(update={"zone": 29}))
