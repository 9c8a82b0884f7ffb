"""Grids as files state them: feet, Web Mercator, heights, local systems, control points."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from tesela.cli import main
from tesela.core.errors import GridError
from tesela.core.grid import has_true_lengths, pixel_size_m, unit_m
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap
from tesela.io.pixel_areas import equal_pixels_m2, pixel_area_m2
from tesela.io.raster import grid_of
from tesela.io.scenes import SceneReader, open_scene
from tesela.io.stac_items import footprint

LOCAL = (
    'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
MERCATOR = Affine(10, 0, -333_000, 0, -10, 4_900_000)


def write(path: Path, crs: str, at: Affine) -> Path:
    values = np.ones((64, 64), np.uint8)
    values[10:40, 20:50] = 2
    settings = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=crs, transform=at, **settings) as data:
        data.write(values, 1)
    return path


def test_feet_are_converted() -> None:
    grid = GeoBox((64, 64), Affine(32.808333, 0, 980_000, 0, -32.808333, 200_000), "EPSG:2263")
    assert pixel_size_m(grid) == pytest.approx((10, 10), rel=1e-4)
    assert has_true_lengths(grid)


def test_pixels_of_web_mercator_have_their_size_on_the_ground() -> None:
    grid = GeoBox((64, 64), MERCATOR, "EPSG:3857")
    assert not has_true_lengths(grid)
    lat = math.degrees(math.atan(math.sinh(4_899_680 / 6_378_137)))
    assert pixel_size_m(grid)[0] == pytest.approx(10 * math.cos(math.radians(lat)), rel=5e-3)


@pytest.mark.parametrize(("lat", "area"), [(37.0, 0.984), (43.0, 0.945), (52.0, 0.932), (65.0, 1.0)])
def test_areas_of_the_european_cone_are_those_of_the_ellipsoid(lat: float, area: float) -> None:
    x, y = pyproj.Transformer.from_crs(4326, 3034, always_xy=True).transform(-3.0, lat)
    at = Affine(100, 0, x, 0, -100, y)
    province = GeoBox((900, 900), at, "EPSG:3034")
    corners = [at * corner for corner in ((0, 0), (900, 0), (900, 900), (0, 900))]
    to = pyproj.Transformer.from_crs(3034, 4326, always_xy=True)
    sides = zip(corners, corners[1:] + corners[:1], strict=True)
    ring = to.transform(*np.concatenate([np.linspace(first, last, 50) for first, last in sides]).T)
    true = abs(pyproj.Geod(ellps="GRS80").polygon_area_perimeter(*ring)[0])
    assert true / 8.1e9 == pytest.approx(1 / area, abs=0.02)
    assert equal_pixels_m2(ClassMap("map.tif", province, open_legend("corine-1"))) == pytest.approx(
        true / 810_000, rel=4e-3
    )
    assert unit_m(province, what="The width") ** 2 * 1e4 == pytest.approx(true / 810_000, rel=1e-2)


def test_maps_whose_pixels_differ_are_refused() -> None:
    x, y = pyproj.Transformer.from_crs(4326, 3034, always_xy=True).transform(-9.0, 55.0)
    europe = GeoBox((2500, 1500), Affine(1000, 0, x, 0, -1000, y), "EPSG:3034")
    with pytest.raises(GridError, match=r"do not all have the same area.*EPSG:3035"):
        equal_pixels_m2(ClassMap("map.tif", europe, open_legend("corine-1")))


@pytest.mark.parametrize("code", [25830, 32630, 3035, 2154, 2263])
def test_national_systems_have_true_lengths_where_they_are_used(code: int) -> None:
    crs = pyproj.CRS.from_epsg(code)
    area = crs.area_of_use
    middle = ((area.west + area.east) / 2, (area.south + area.north) / 2)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*middle)
    assert has_true_lengths(GeoBox((64, 64), Affine(10, 0, x, 0, -10, y), f"EPSG:{code}"))


def test_areas_in_web_mercator_are_of_the_ellipsoid_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpd = pytest.importorskip("geopandas")
    path = write(tmp_path / "map.tif", "EPSG:3857", MERCATOR)
    out = tmp_path / "map.gpkg"
    assert main(["vectorise", str(path), "--legend", "corine-1", "-o", str(out), "-q"]) == 0
    corners = [MERCATOR * corner for corner in ((0, 0), (64, 0), (64, 64), (0, 64))]
    to = pyproj.Transformer.from_crs(3857, 4326, always_xy=True)
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*to.transform(*zip(*corners, strict=True)))
    assert gpd.read_file(out, layer="map").area_ha.sum() == pytest.approx(abs(area) / 1e4, rel=1e-4)
    call = ["generalise", str(path), "--legend", "corine-1", "--mmu", "6 ha", "-o", str(tmp_path / "g.tif")]
    assert (
        main(call) == 0
    )  # 900 px of 58 m2 are 5.2 ha, less than 6; by the plane's 100 m2 they would be 9 ha
    assert "10 units of EPSG:3857 are 7.6" in capsys.readouterr().err
    with rasterio.open(tmp_path / "g.tif") as data:
        assert (data.read(1) == 1).all()
    long = write(tmp_path / "long.tif", "EPSG:3857", Affine(5000, 0, -333_000, 0, -5000, 4_900_000))
    assert main([*call[:1], str(long), *call[2:]]) == 1
    assert "no constant area" in capsys.readouterr().err


def test_a_system_with_heights_is_that_without(tmp_path: Path) -> None:
    at = Affine(10, 0, 500_000, 0, -10, 4_100_000)
    high = write(tmp_path / "high.tif", "EPSG:25830+5773", at)
    plain = write(tmp_path / "plain.tif", "EPSG:25830", at)
    assert open_scene([plain, high], bands=["a", "b"]).grid.crs == "EPSG:25830"
    assert open_scene(high).grid == open_scene(plain).grid


def test_a_local_system_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "mask.tif", LOCAL, Affine(10, 0, 700_000, 0, -10, 6_600_000)))
    for call in (
        ["label", path, "--like", path, "--legend", "corine-1"],
        ["vectorise", path, "--legend", "corine-1"],
        ["generalise", path, "--legend", "corine-1", "--mmu", "1 ha"],
        ["assess", path, path, "--legend", "corine-1"],
    ):
        assert main([*call, "-o", str(tmp_path / "out.gpkg")]) == 1
        said = capsys.readouterr().err
        assert "'RGF93 v1 / Lambert-93' is a local one" in said
        assert len(said) < 500


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_need_warping(tmp_path: Path) -> None:
    path = tmp_path / "gcp.tif"
    points = [GroundControlPoint(0, 0, 500_000, 4_100_000), GroundControlPoint(0, 8, 500_080, 4_100_000)]
    points += [GroundControlPoint(8, 0, 500_000, 4_099_920)]
    with rasterio.open(path, "w", driver="GTiff", count=1, height=8, width=8, dtype="uint8") as data:
        data.write(np.ones((1, 8, 8), np.uint8))
        data.gcps = (points, CRS.from_epsg(25830))
    with pytest.raises(GridError, match=r"control points but no grid. Warp it"):
        open_scene(path)


@pytest.mark.parametrize(
    ("crs", "at", "box"),
    [
        ("EPSG:4326", Affine(0.001, 0, 356, 0, -0.001, 37), [-4, 36.936, -3.936, 37]),
        ("EPSG:4326", Affine(0.001, 0, 359.97, 0, -0.001, 37), [-0.03, 36.936, 0.034, 37]),
        ("EPSG:4326", Affine(0.001, 0, 179.97, 0, -0.001, -16), [179.97, -16.064, -179.966, -16]),
        ("EPSG:4326", Affine(5.625, 0, 0, 0, -2.8125, 90), [-180, -90, 180, 90]),
        ("EPSG:3413", Affine(10_000, 0, -320_000, 0, -10_000, 320_000), [-180, 85.8242, 180, 90]),
        ("EPSG:3031", Affine(10_000, 0, -320_000, 0, -10_000, 320_000), [-180, -90, 180, -85.8367]),
    ],
)
def test_boxes_of_published_items_are_within_a_turn(
    tmp_path: Path, crs: str, at: Affine, box: list[float]
) -> None:
    with rasterio.open(write(tmp_path / "map.tif", crs, at)) as data:
        geometry, found = footprint(grid_of(data))
    assert found == pytest.approx(box, abs=1e-3)
    shape = shapely.geometry.shape(geometry)
    assert shape.is_valid
    assert shape.bounds[0] >= -180
    assert shape.bounds[2] <= 180
    width = (box[2] - box[0]) % 360 or 360
    assert shape.area == pytest.approx(width * (box[3] - box[1]), rel=0.3)  # a square around a pole


def test_a_grid_that_lies_nowhere_is_refused() -> None:
    with pytest.raises(GridError, match="has no place on the Earth"):
        footprint(GeoBox((64, 64), Affine(10, 0, 9e7, 0, -10, 4.1e7), "EPSG:25830"))


@pytest.mark.parametrize("west", [-180, 0])
def test_the_earth_has_its_area(west: float) -> None:
    for crs, at in (
        ("EPSG:4326", Affine(5, 0, west, 0, -5, 90)),
        ("EPSG:3857", Affine(556_597, 0, -20_037_508, 0, -556_597, 20_037_508)),
    ):
        grid = GeoBox((36, 72), at, crs)
        if crs == "EPSG:3857":
            grid = GeoBox((72, 72), at, crs)
        whole = pixel_area_m2(grid) * grid.shape[0] * grid.shape[1]
        assert whole == pytest.approx(5.10066e14, rel=0.01)


def test_degrees_from_0_to_360_are_read_like_those_from_180_west(tmp_path: Path) -> None:
    east = write(tmp_path / "east.tif", "EPSG:4326", Affine(0.001, 0, 356, 0, -0.001, 37))
    west = write(tmp_path / "west.tif", "EPSG:4326", Affine(0.001, 0, -4, 0, -0.001, 37))
    assert open_scene(east).grid == open_scene(west).grid
    x, y = pyproj.Transformer.from_crs(4326, 25830, always_xy=True).transform(-3.97, 36.96)
    grid = GeoBox((32, 32), Affine(60, 0, x, 0, -60, y), "EPSG:25830")
    with SceneReader(open_scene(east)) as one, SceneReader(open_scene(west)) as other:
        np.testing.assert_array_equal(one.read(grid), other.read(grid))
        np.testing.assert_array_equal(one.read_stored(3, 5, (32, 32)), other.read_stored(3, 5, (32, 32)))
        assert np.isfinite(one.read(grid)).all()


@pytest.mark.parametrize(
    ("crs", "at"),
    [
        ("EPSG:4326", Affine(0.001, 0, 179.97, 0, -0.001, -16)),
        ("EPSG:4326", Affine(0.001, 0, 356, 0, -0.001, 37)),
        ("EPSG:3413", Affine(10_000, 0, -320_000, 0, -10_000, 320_000)),
    ],
)
def test_patches_are_cut_across_the_antimeridian_and_at_the_pole(
    tmp_path: Path, crs: str, at: Affine
) -> None:
    path = str(write(tmp_path / "scene.tif", crs, at))
    call = ["label", path, "--like", path, "--legend", "corine-1", "--source", "corine-1"]
    assert main([*call, "-o", str(tmp_path / "labels.tif"), "-q"]) == 0
    call = ["patches", path, "--labels", str(tmp_path / "labels.tif"), "--size", "32", "--split", "random"]
    assert main([*call, "-o", str(tmp_path / "patches.parquet"), "-q"]) == 0


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 1)])
def test_rasters_of_one_row_or_column_pass_through_the_commands(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path, out = tmp_path / "map.tif", tmp_path / "out"
    settings = {"driver": "GTiff", "count": 1, "height": shape[0], "width": shape[1], "dtype": "uint8"}
    at = Affine(10, 0, 500_000, 0, -10, 4_100_000)
    with rasterio.open(path, "w", crs="EPSG:25830", transform=at, **settings) as data:
        data.write(np.full((1, *shape), 3, np.uint8))
    legend = ["--legend", "corine-1"]
    assert (
        main(
            [
                "label",
                str(path),
                "--like",
                str(path),
                *legend,
                "--source",
                "corine-1",
                "-o",
                f"{out}.tif",
                "-q",
            ]
        )
        == 0
    )
    for call in (
        ["vectorise", f"{out}.tif", "-o", f"{out}.gpkg"],
        ["generalise", f"{out}.tif", "--mmu", "1 m2", "-o", f"{out}_g.tif"],
        ["assess", f"{out}.tif", f"{out}.tif", "-o", str(out)],
        [
            "sample",
            "draw",
            f"{out}.tif",
            "--points",
            str(min(2, max(shape))),
            "-o",
            f"{out}_s.gpkg",
            "--minimum",
            "1",
        ],
    ):
        assert main([*call, "-q"]) == 0
    with rasterio.open(f"{out}_g.tif") as data:
        assert (data.read(1) == 3).all()
