"""Tree cover from heights, LiDAR, crowns and points."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import laspy
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

import tesela
from repository import DATA
from tesela.core.errors import GridError, InputError, RecipeError
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, MapReader, write_map
from tesela.io.scenes import open_scene
from tesela.labels.canopy import BuiltLand, CanopyRules, write_canopy_labels
from tesela.sources.lidar import write_lidar_cover

CRS = "EPSG:25830"
GRID = GeoBox((20, 30), Affine(1, 0, 500_000, 0, -1, 4_100_020), CRS)
LEGEND = open_legend("tree-cover")
NONE, TREE, OPEN = 0, LEGEND["tree"].value, LEGEND["open"].value


def labels_of(paths: list[Path], tmp_path: Path, **given: object) -> NDArray[np.uint8]:
    made = write_canopy_labels(paths, tmp_path / "labels.tif", like=GRID, legend=LEGEND, **given)  # type: ignore[arg-type]
    with MapReader(made) as reader:
        return reader.read(GRID)


def heights(path: Path, values: NDArray[np.float32], grid: GeoBox = GRID) -> Path:
    return write_bands(path, values[np.newaxis].astype(np.float32), grid, names=("height",), nodata=np.nan)


def test_a_pixel_is_tree_from_the_height_on_and_has_no_label_without_one(tmp_path: Path) -> None:
    values = np.zeros(GRID.shape, np.float32)
    values[0, :4] = (1.99, 2.0, 9.0, np.nan)
    path = heights(tmp_path / "ndsm.tif", values)
    assert labels_of([path], tmp_path)[0, :5].tolist() == [OPEN, TREE, TREE, NONE, OPEN]
    higher = labels_of([path], tmp_path, rules=CanopyRules(height_m=5))
    assert higher[0, :5].tolist() == [OPEN, OPEN, TREE, NONE, OPEN]


def test_finer_heights_are_compared_before_they_are_averaged(tmp_path: Path) -> None:
    fine = GeoBox((80, 120), GRID.affine * Affine.scale(0.25), CRS)
    values = np.zeros(fine.shape, np.float32)
    values[0, 0] = 100.0  # a mast: the mean of its pixel is 6.25 m, its share 1 / 16
    values[0:4, 4:6] = 3.0  # half of the second pixel
    path = heights(tmp_path / "fine.tif", values, fine)
    assert labels_of([path], tmp_path)[0, :3].tolist() == [OPEN, TREE, OPEN]
    assert labels_of([path], tmp_path, rules=CanopyRules(cover_percent=51))[0, 1] == OPEN


def test_what_is_high_on_built_land_has_no_label(tmp_path: Path) -> None:
    context = open_legend("lulucf-context")
    land = np.full(GRID.shape, context["forest"].value, np.uint8)
    land[:, 15:] = context["artificial"].value
    built = BuiltLand(write_map(tmp_path / "context.tif", land, GRID, legend=context), ("artificial",))
    values = np.zeros(GRID.shape, np.float32)
    values[5, 10:20] = 6.0
    row = labels_of([heights(tmp_path / "ndsm.tif", values)], tmp_path, built=built)[5]
    assert row.tolist() == [OPEN] * 10 + [TREE] * 5 + [NONE] * 5 + [OPEN] * 10


def test_sheets_of_heights_continue_each_other_and_beyond_them_there_is_no_label(tmp_path: Path) -> None:
    left, right = GRID[:, :10], GRID[:, 10:20]
    files = [
        heights(tmp_path / f"{name}.tif", np.full(part.shape, 5.0, np.float32), part)
        for name, part in (("left", left), ("right", right))
    ]
    made = labels_of(files, tmp_path)
    assert (made[:, :20] == TREE).all()
    assert (made[:, 21:] == NONE).all()
    away = GeoBox((4, 4), Affine(1, 0, 700_000, 0, -1, 4_100_020), CRS)
    with pytest.raises(GridError, match="no heights reach the scene"):
        labels_of([heights(tmp_path / "away.tif", np.zeros((4, 4), np.float32), away)], tmp_path)


def crowns(path: Path, shapes: list[shapely.Geometry], crs: str = CRS) -> Path:
    gpd.GeoDataFrame({"id": range(len(shapes))}, geometry=shapes, crs=CRS).to_crs(crs).to_file(path)
    return path


@pytest.mark.parametrize("crs", [CRS, "EPSG:4258"])
def test_crowns_are_tree_and_the_rest_of_their_bounds_is_open(tmp_path: Path, crs: str) -> None:
    boxes = [shapely.box(x, y, x + 3, y + 3) for x, y in ((500_005, 4_100_005), (500_015, 4_100_012))]
    made = labels_of([crowns(tmp_path / "crowns.gpkg", boxes, crs)], tmp_path)
    assert (made[12:15, 5:8] == TREE).all()
    assert (made[5:8, 15:18] == TREE).all()
    assert np.count_nonzero(made == TREE) == 18
    assert made[10, 12] == OPEN, "between the crowns"
    assert made[1, 1] == NONE, "outside the bounds of the layer nobody has looked"


def test_layers_of_other_sheets_are_left_out(tmp_path: Path) -> None:
    here, there = shapely.box(500_005, 4_100_005, 500_015, 4_100_015), shapely.box(9e5, 4e6, 9.1e5, 4.01e6)
    files = [crowns(tmp_path / "here.gpkg", [here]), crowns(tmp_path / "there.gpkg", [there])]
    assert np.array_equal(labels_of(files, tmp_path), labels_of(files[:1], tmp_path))
    with pytest.raises(GridError, match="no crowns reach the scene"):
        labels_of(files[1:], tmp_path)
    zone = GeoBox((4, 4), Affine(1, 0, 300_000, 0, -1, 4_100_020), "EPSG:25831")
    sheets = [
        heights(tmp_path / "zone.tif", np.zeros((4, 4), np.float32), zone),
        heights(tmp_path / "own.tif", np.full(GRID.shape, 4.0, np.float32)),
    ]
    assert (labels_of(sheets, tmp_path) == TREE).all()


def test_around_a_point_is_a_crown_then_a_ring_without_label(tmp_path: Path) -> None:
    points = [shapely.Point(500_000 + x, 4_100_020 - y) for x, y in ((10.5, 10.5), (0.5, 0.5), (29.5, 19.5))]
    made = labels_of([crowns(tmp_path / "trees.gpkg", points)], tmp_path, rules=CanopyRules(crown_m=2.2))
    assert made[10, 8:16].tolist() == [TREE, TREE, TREE, TREE, TREE, NONE, NONE, OPEN]
    assert made[16, 20] == OPEN


def cloud(path: Path, *, ground: int = 2, building: bool = False, crs: str | None = CRS) -> Path:
    """A slope of a metre in two, with a wood of 8 m in the west whose pulses also reach the ground, and a roof."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 30, 20_000), rng.uniform(0, 20, 20_000)
    terrain = 100 + x / 2
    wood, roof = x < 10, x > 24
    first = np.where(wood | roof, terrain + 8, terrain)
    kind = np.where(wood, 5, np.where(roof, 6 if building else 1, ground))
    below = np.flatnonzero(wood)
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 4_100_000.0, 0.0])
    if crs is not None:
        header.add_crs(pyproj.CRS.from_user_input(crs))
    las = laspy.LasData(header)
    las.x = 500_000 + np.concatenate([x, x[below]])
    las.y = 4_100_000 + np.concatenate([y, y[below]])
    las.z = np.concatenate([first, terrain[below]])
    las.classification = np.concatenate([kind, np.full(len(below), ground)]).astype(np.uint8)
    las.return_number = np.concatenate([np.ones(len(x)), np.full(len(below), 2)]).astype(np.uint8)
    las.number_of_returns = np.concatenate([np.where(wood, 2, 1), np.full(len(below), 2)]).astype(np.uint8)
    las.write(path)
    return path


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_lidar_counts_first_returns_above_the_slope(tmp_path: Path, ending: str) -> None:
    path = cloud(tmp_path / f"cloud.{ending}", building=True)
    cover = write_lidar_cover([path], tmp_path / "cover.tif", like=GRID, height_m=2, cell_m=2)
    assert cover.has_buildings
    made = labels_of([path], tmp_path)
    assert (made[:, :9] == TREE).all()
    assert (made[:, 11:] == OPEN).all(), "the slope is no tree, nor is a roof of class 6"


def test_roofs_that_a_cloud_does_not_tell_have_no_label(tmp_path: Path) -> None:
    context = open_legend("lulucf-context")
    land = np.full(GRID.shape, context["artificial"].value, np.uint8)
    built = BuiltLand(write_map(tmp_path / "context.tif", land, GRID, legend=context), ("artificial",))
    made = labels_of([cloud(tmp_path / "cloud.laz")], tmp_path, built=built)
    assert (made[:, 26:] == NONE).all()
    assert (made[:, 12:22] == OPEN).all()


def test_what_a_cloud_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no point on the scene is of class 2"):
        labels_of([cloud(tmp_path / "bare.las", ground=1)], tmp_path)
    with pytest.raises(GridError, match="has no coordinate system"):
        labels_of([cloud(tmp_path / "lost.las", crs=None)], tmp_path)
    whole = cloud(tmp_path / "whole.laz").read_bytes()
    (tmp_path / "cut.laz").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputError, match="not a point cloud that laspy can read"):
        labels_of([tmp_path / "cut.laz"], tmp_path)
    with pytest.raises(InputError, match="no such file"):
        labels_of([tmp_path / "none.laz"], tmp_path)
    with pytest.raises(RecipeError, match="point clouds and rasters of heights"):
        labels_of([tmp_path / "whole.laz", tmp_path / "ndsm.tif"], tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    with pytest.raises(InputError, match=r"install the extra `lidar` \(pip install 'tesela\[lidar\]'\)"):
        labels_of([tmp_path / "whole.laz"], tmp_path)


def test_the_command_draws_crowns(tmp_path: Path) -> None:
    path = cloud(tmp_path / "cloud.laz", building=True)
    made = tesela.label(path, like=GRID, legend="tree-cover", crowns="2 m")
    assert isinstance(made, ClassMap)
    with MapReader(made) as reader:
        assert np.array_equal(reader.read(GRID), labels_of([path], tmp_path))
    with pytest.raises(RecipeError, match="labels of the legend tree-cover, not of 'corine-1'"):
        tesela.label(path, like=GRID, legend="corine-1", crowns="2 m")
    with pytest.raises(RecipeError, match="leave field, layer"):
        tesela.label(path, like=GRID, legend="tree-cover", crowns="2 m", field="a")


@pytest.mark.real
def test_crowns_of_a_real_plot_cover_what_their_boxes_cover(tmp_path: Path) -> None:
    image, boxes = (DATA / "neon_tree_crowns" / f"SJER_005{end}" for end in (".tif", "_crowns.gpkg"))
    if not boxes.exists():
        pytest.skip("needs ../shared/data/neon_tree_crowns")
    grid = open_scene(image).grid
    made = write_canopy_labels([boxes], tmp_path / "labels.tif", like=grid, legend=LEGEND)
    with MapReader(made) as reader:
        labels = reader.read(grid)
    plot = shapely.box(*grid.extent.boundingbox)
    area = gpd.read_file(boxes).to_crs(str(grid.crs)).union_all().intersection(plot).area
    assert np.count_nonzero(labels == TREE) * 0.1**2 == pytest.approx(area, rel=0.01)
