"""Vectorising: polygons that tile the map, their attributes, and the files they are written to."""

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.legend import LandClass, Legend
from tesela.generalise.strips import Plan
from tesela.generalise.vectorise import polygons_of, simplify_coverage, vectorise_map
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, ScoreWriter, write_map
from tesela.io.vector import open_layer, read_layer
from tesela.labels.masks import write_labels

LEGEND = Legend(
    "four",
    tuple(LandClass(value, f"c{value}", f"Class {value}", f"#0000{value:02x}") for value in (1, 2, 3, 9)),
)


def make_map(folder: Path, values: object, *, size: float = 10.0, crs: str = "EPSG:3035") -> ClassMap:
    array = np.array(values, np.uint8)
    grid = GeoBox(array.shape, Affine(size, 0, 1000, 0, -size, 2000), crs)
    return write_map(folder / "map.tif", array, grid, legend=LEGEND)


def rasterised(frame: gpd.GeoDataFrame, source: ClassMap) -> np.ndarray:
    """Class of the polygon that holds each pixel's centre; every pixel is tested against every polygon."""
    rows, cols = source.grid.shape
    x, y = source.grid.affine * np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    values = np.zeros((rows, cols), np.uint8)
    for shape, code in zip(frame.geometry, frame["code"], strict=True):
        inside = shapely.contains_xy(shape, x, y)
        assert (values[inside] == 0).all()
        values[inside] = LEGEND[code].value
    return values


# --- hand cases ---


def test_two_areas_and_nodata_become_two_squares(tmp_path: Path) -> None:
    frame = polygons_of(make_map(tmp_path, [[1, 1, 0], [1, 1, 2]]))
    assert frame["code"].tolist() == ["c1", "c2"]
    assert frame["name"].tolist() == ["Class 1", "Class 2"]
    assert frame["id"].tolist() == [1, 2]
    assert frame["area_m2"].tolist() == [400, 100]
    assert frame["area_ha"].tolist() == [0.04, 0.01]
    assert frame["perimeter_m"].tolist() == [80, 40]
    assert frame.geometry[0].equals(shapely.box(1000, 1980, 1020, 2000))
    assert frame.geometry[1].equals(shapely.box(1020, 1980, 1030, 1990))


def test_a_straight_border_has_a_corner_where_two_neighbours_meet_on_it(tmp_path: Path) -> None:
    frame = polygons_of(make_map(tmp_path, [[1, 2], [1, 3]]))
    assert (1010, 1990) in list(frame.geometry[0].exterior.coords)
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())


def test_a_hole_is_a_hole_and_its_filling_a_polygon(tmp_path: Path) -> None:
    frame = polygons_of(make_map(tmp_path, [[1, 1, 1], [1, 2, 1], [1, 1, 1]]))
    assert [len(shape.interiors) for shape in frame.geometry] == [1, 0]
    assert frame["area_m2"].tolist() == [800, 100]
    assert frame["perimeter_m"].tolist() == [160, 40]


def test_parts_that_touch_at_a_corner_are_areas_of_their_own(tmp_path: Path) -> None:
    frame = polygons_of(make_map(tmp_path, [[1, 2], [2, 1]]))
    assert frame["code"].tolist() == ["c1", "c2", "c2", "c1"]
    assert frame["area_m2"].tolist() == [100] * 4


def test_a_ring_that_closes_at_a_corner_only_has_a_hole_that_touches_its_outline(tmp_path: Path) -> None:
    frame = polygons_of(make_map(tmp_path, [[1, 1, 1], [1, 2, 1], [1, 1, 0]]))
    assert frame.geometry.is_valid.all()
    assert len(frame.geometry[0].interiors) == 1
    assert frame["area_m2"].tolist() == [700, 100]


def test_a_rotated_grid_gives_rotated_polygons(tmp_path: Path) -> None:
    affine = Affine.translation(500, 500) * Affine.rotation(30) * Affine.scale(10, -10)
    source = write_map(
        tmp_path / "map.tif", np.array([[1, 2]], np.uint8), GeoBox((1, 2), affine, "EPSG:3035"), legend=LEGEND
    )
    frame = polygons_of(source)
    assert frame["area_m2"].tolist() == pytest.approx([100, 100])
    assert shapely.get_coordinates(frame.geometry[1]).tolist().count([*(affine * (2, 1))]) == 1


def test_areas_in_degrees_are_measured_on_the_ellipsoid(tmp_path: Path) -> None:
    grid = GeoBox((1, 1), Affine(0.01, 0, 9, 0, -0.01, 46), "EPSG:4326")
    frame = polygons_of(write_map(tmp_path / "m.tif", np.ones((1, 1), np.uint8), grid, legend=LEGEND))
    area, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.box(9, 45.99, 9.01, 46))
    assert frame["area_m2"].item() == pytest.approx(abs(area))


def test_mean_confidence_is_that_of_the_areas_pixels(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 1, 2], [1, 3, 3]])
    with ScoreWriter(tmp_path / "c.tif", source.grid, ["confidence"], scale=1.0, unit="%") as writer:
        writer.write(0, 0, np.array([[80, 60, 90], [255, 255, 255]], np.uint8))
    frame = polygons_of(source, confidence=tmp_path / "c.tif", plan=Plan(strip_px=1, threads=1))
    assert frame["confidence"].tolist() == pytest.approx([70, 90, np.nan], nan_ok=True)


# --- laws ---


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 24),
    cols=st.integers(1, 24),
    classes=st.integers(1, 4),
    strip_px=st.sampled_from([1, 50, 1 << 20]),
)
def test_polygons_cover_the_map_exactly_whatever_the_strips(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, cols: int, classes: int, strip_px: int
) -> None:
    values = np.random.default_rng(seed).choice([0, 1, 2, 3, 9][: classes + 1], (rows, cols))
    values[0, 0] = 1
    source = make_map(tmp_path_factory.mktemp("tile"), values)
    frame = polygons_of(source, plan=Plan(strip_px=strip_px, threads=1))
    shapes = frame.geometry.to_numpy()
    assert frame.geometry.is_valid.all()
    assert shapely.coverage_is_valid(shapes)
    assert (rasterised(frame, source) == values).all()
    assert frame["area_m2"].sum() == (values > 0).sum() * 100
    assert frame.equals(polygons_of(source))
    for border in (False, True):
        simple = polygons_of(source, simplify_m=25.0, simplify_border=border)
        assert simple["code"].tolist() == frame["code"].tolist()
        assert simple.geometry.is_valid.all()
        assert (simple["area_m2"] > 0).all()
        assert shapely.coverage_is_valid(simple.geometry.to_numpy())
    simple = polygons_of(source, simplify_m=25.0)
    assert simple["area_m2"].sum() == pytest.approx((values > 0).sum() * 100)
    assert shapely.union_all(simple.geometry.to_numpy()).symmetric_difference(
        shapely.union_all(shapes)
    ).area == pytest.approx(0, abs=1e-6)


def test_simplification_takes_corners_away() -> None:
    stairs = shapely.Polygon(
        [(0, 0), (50, 0), (50, 10), (40, 10), (40, 20), (30, 20), (30, 30), (20, 30), (20, 40), (0, 40)]
    )
    other = shapely.box(0, 0, 60, 60).difference(stairs)
    simple = simplify_coverage(np.array([stairs, other]), 11.0)
    before = shapely.get_num_coordinates(np.array([stairs, other])).sum()
    assert shapely.get_num_coordinates(simple).sum() < before
    assert shapely.area(simple).sum() == pytest.approx(3600)


def test_a_coverage_that_simplification_would_make_invalid_is_an_error() -> None:
    bow_tie = np.array([shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])])
    with pytest.raises(InputError, match="would make 1 polygons invalid; use a smaller length"):
        simplify_coverage(bow_tie, 0.1)


# --- files ---


def test_a_geopackage_carries_the_style_of_its_classes(tmp_path: Path) -> None:
    layer = vectorise_map(make_map(tmp_path, [[1, 1, 2], [9, 9, 9]]), tmp_path / "map.gpkg")
    assert (layer.layer, layer.count) == ("map", 3)
    assert layer.fields == ("id", "code", "name", "area_m2", "area_ha", "perimeter_m")
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as file:
        rows = file.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        )
        ((table, column, default, style),) = rows.fetchall()
        kinds = dict(file.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall())
    assert (table, column, default) == ("map", "geom", 1)
    assert kinds == {"map": "features", "layer_styles": "attributes"}
    root = ElementTree.fromstring(style.split("\n", 1)[1])
    entries = {item.get("value"): item.get("label") for item in root.iter("category")}
    assert entries == {"c1": "c1 Class 1", "c2": "c2 Class 2", "c9": "c9 Class 9"}
    assert root.find("renderer-v2").get("attr") == "code"
    colors = [item.get("value") for item in root.iter("Option") if item.get("name") == "color"]
    assert colors == ["0,0,1,255", "0,0,2,255", "0,0,9,255"]


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 1, 2], [9, 9, 9]])
    for name in ("a.gpkg", "b.gpkg", "a.parquet", "b.parquet"):
        vectorise_map(source, tmp_path / name)
    for suffix in ("gpkg", "parquet"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_geoparquet_is_read_back_with_its_style_beside_it(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2], [9, 2]])
    frame = read_layer(vectorise_map(source, tmp_path / "areas.parquet"))
    assert frame["code"].tolist() == ["c1", "c2", "c9"]
    assert frame.crs.to_epsg() == 3035
    assert "categorizedSymbol" in (tmp_path / "areas.qml").read_text(encoding="utf-8")
    # the style of a raster of the same name stays
    vectorise_map(source, tmp_path / "map.parquet")
    assert "paletted" in (tmp_path / "map.qml").read_text(encoding="utf-8")
    assert "categorizedSymbol" in (tmp_path / "map.parquet.qml").read_text(encoding="utf-8")


def test_another_format_and_a_map_without_a_class_are_errors_that_write_nothing(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2]])
    with pytest.raises(InputError, match=r"end the name in \.gpkg or \.parquet"):
        vectorise_map(source, tmp_path / "map.shp")
    with pytest.raises(InputError, match="has no class, only nodata"):
        vectorise_map(make_map(tmp_path, [[0, 0]]), tmp_path / "map.gpkg")
    assert not (tmp_path / "map.gpkg").exists()
    assert not (tmp_path / "map.shp").exists()


def test_simplification_in_metres_needs_a_projected_map(tmp_path: Path) -> None:
    grid = GeoBox((1, 2), Affine(0.01, 0, 9, 0, -0.01, 46), "EPSG:4326")
    source = write_map(tmp_path / "m.tif", np.array([[1, 2]], np.uint8), grid, legend=LEGEND)
    with pytest.raises(GridError, match="Simplification in metres needs a map in a projected CRS"):
        polygons_of(source, simplify_m=20.0)


def test_a_raster_out_of_range_is_refused_as_confidence(tmp_path: Path) -> None:
    source = make_map(tmp_path, [[1, 2]])
    with ScoreWriter(tmp_path / "c.tif", source.grid, ["confidence"], scale=1.0, unit="%") as writer:
        writer.write(0, 0, np.array([[120, 3]], np.uint8))
    with pytest.raises(InputError, match="holds 120, but confidence runs from 0 to 100"):
        polygons_of(source, confidence=tmp_path / "c.tif")
    with ScoreWriter(tmp_path / "p.tif", source.grid, ["a", "b"], scale=1 / 254, unit="1") as writer:
        writer.write(0, 0, np.zeros((2, 1, 2), np.uint8))
    with pytest.raises(InputError, match="holds 2 bands of uint8; a confidence raster has one"):
        polygons_of(source, confidence=tmp_path / "p.tif")


@pytest.mark.real
def test_corine_of_lanjaron_at_20_m_is_a_valid_coverage_before_and_after_simplification(
    lanjaron: Path,
    tmp_path: Path,
) -> None:
    reference = open_layer(lanjaron / "clc2018_lanjaron.gpkg", layer="clc")
    left, bottom, right, top = reference.bounds
    grid = GeoBox(
        (int((top - bottom) / 20), int((right - left) / 20)), Affine(20, 0, left, 0, -20, top), "EPSG:25830"
    )
    legend = open_legend("corine-3")
    source = write_labels(reference.path, tmp_path / "m.tif", like=grid, legend=legend, layer="clc")
    frame = read_layer(vectorise_map(source, tmp_path / "m.gpkg", simplify_m=20.0))
    plain = polygons_of(source)
    for areas in (plain, frame):
        assert areas.geometry.is_valid.all()
        assert shapely.coverage_is_valid(areas.geometry.to_numpy())
        assert areas["area_m2"].sum() == pytest.approx(plain["area_m2"].sum())
    assert len(frame) == len(plain) > 100
    assert (
        shapely.get_num_coordinates(frame.geometry).sum()
        < 0.5 * shapely.get_num_coordinates(plain.geometry).sum()
    )
