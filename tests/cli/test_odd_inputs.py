"""Files that are not what a command takes, and options that do not fit them: one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.io.legends import open_legend
from tesela.io.maps import open_map, write_map

GRID = GeoBox((64, 64), Affine(10.0, 0, 500_000.0, 0, -10.0, 4_100_000.0), "EPSG:25830")
CLASSES = np.repeat(np.array([1, 2, 3, 5], np.uint8), 16)[:, None] * np.ones(64, np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map, its polygons and a scene; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.tif", CLASSES, GRID, legend=open_legend("corine-1"))
    raster("scene.tif", CLASSES)
    strips = [shapely.box(500_000, 4_099_840 - 160 * k, 500_640, 4_100_000 - 160 * k) for k in range(4)]
    codes = {"CODE_18": ["112", "211", "311", "512"]}
    gpd.GeoDataFrame(codes, geometry=strips, crs="EPSG:25830").to_file("clc.gpkg", engine="pyogrio")
    return tmp_path


def raster(path: str, values: np.ndarray, **more: object) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": values.dtype} | more
    with rasterio.open(path, "w", crs="EPSG:25830", transform=GRID.affine, **profile) as data:
        data.descriptions = ("red",)  # before the pixels: the header comes first
        data.write(values, 1)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The line of a command that fails."""
    before = set(Path().iterdir())
    assert main(list(words)) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "unexpected" not in line
    assert set(Path().iterdir()) == before, "nothing is written"
    return line


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (["--mode", "composite"], "--mode"),
        (["--min-share", "0.5"], "--min-share"),
        (["--no-land-use", "--years", "2018"], "--no-land-use, --years"),
    ],
)
def test_options_of_siose_do_not_vanish_with_other_files(
    folder: Path, capsys: pytest.CaptureFixture[str], option: list[str], name: str
) -> None:
    words = ["label", "clc.gpkg", "--like", "scene.tif", "--legend", "corine-1", "-q", "-o", "out.tif"]
    assert f"{name}: for a file of SIOSE AR alone" in told(capsys, *words, *option)
    assert main(words) == 0


def test_a_map_is_no_confidence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, "vectorise", "map.tif", "--confidence", "map.tif", "-q", "-o", "out.gpkg")
    assert "map.tif: has a palette, as maps have" in line


def test_tree_cover_is_in_per_cent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raster("cover.tif", np.where(CLASSES == 3, 130, 40).astype(np.uint8))
    write_map(folder / "later.tif", CLASSES, GRID, legend=open_legend("corine-1"))
    maps = ["account", "map.tif", "later.tif", "--years", "2018,2020", "-q", "-o", "out"]
    assert "The tree cover of 2018 holds 130" in told(capsys, *maps, "--tree-cover", "2018=cover.tif")
    raster("cover.tif", np.where(CLASSES == 3, 80, 40).astype(np.uint8))
    assert main([*maps, "--tree-cover", "2018=cover.tif"]) == 0


@pytest.mark.parametrize("command", ["account", "change-layer"])
def test_one_map_in_two_years_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    write_map(folder / "later.tif", CLASSES, GRID, legend=open_legend("corine-1"))
    maps = ["map.tif", "later.tif", str(folder / "map.tif"), "--years", "2012,2018,2024"]
    assert main([command, *maps, "-q", "-o", "out"]) == 0
    assert "map.tif: is the map of 2012, 2024; nothing changes" in capsys.readouterr().err
    assert main([command, "map.tif", "later.tif", "--years", "2012,2018", "-q", "-o", "other"]) == 0
    assert "nothing changes" not in capsys.readouterr().err


def test_a_truncated_raster_drafts_no_legend(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    raster("noise.tif", rng.integers(1, 200, (64, 64)).astype(np.uint8))
    data = Path("noise.tif").read_bytes()
    Path("noise.tif").write_bytes(data[: len(data) * 2 // 3])
    line = told(capsys, "legend", "init", "--from", "noise.tif", "-q", "-o", "out.csv")
    assert "noise.tif: a window cannot be read, the file is broken or truncated" in line
    assert "previous exception" not in line
    assert "Get or make it again" in line


def test_a_legend_may_write_colour(folder: Path) -> None:
    Path("mine.csv").write_text("value,code,name,colour\n1,F,Forest,#00aa00\n2,W,Water,#0000aa\n")
    assert [item.color for item in open_legend("mine.csv").classes] == ["#00aa00", "#0000aa"]


def test_a_patch_table_has_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, "patches", "scene.tif", "--labels", "map.tif", "--size", "16", "-q", "-o", "out.csv")
    assert "out.csv: a patch table is written as GeoParquet; end the name in .parquet" in line


def test_a_sample_saved_under_another_layer_says_where_it_belongs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", "draw", "map.tif", "--points", "40", "--minimum", "5", "-q", "-o", "sample.gpkg"]
    assert main(words) == 0
    points = gpd.read_file("sample.gpkg", layer="points")
    points["reference"] = "1"
    points.to_file("mine.gpkg", layer="mine", engine="pyogrio")
    capsys.readouterr()
    line = told(capsys, "sample", "estimate", "mine.gpkg", "map.tif", "-q", "-o", "out")
    assert "mine.gpkg: has no layer 'points' (it has mine)" in line
    estimate = ["sample", "estimate", "sample.gpkg", "map.tif", "-q", "-o", "out"]
    assert main([*estimate, "--responses", "mine.gpkg"]) == 0
    assert open_map("map.tif").legend.address == "corine-1"


def test_a_scale_of_zero_makes_no_cube(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raster("ndvi_2010-01.tif", CLASSES)
    line = told(capsys, "mosaic", "stack", "ndvi_2010-01.tif", "--scale", "0", "-q", "-o", "out.zarr")
    assert "The scale is 0" in line
