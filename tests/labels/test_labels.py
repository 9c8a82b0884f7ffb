"""A reference becomes a class mask: the polygon at the pixel's centre, the raster's nearest pixel."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from tesela.core import Crosswalk, GridError, InputError, LandClass, Legend, LegendError
from tesela.core.grid import window_grid, windows
from tesela.io import MapReader, open_crosswalk, open_legend, open_map, open_scene, write_map
from tesela.labels import open_reference, polygons, write_labels

LEFT, TOP = 500_000.0, 4_100_000.0
LEGEND = Legend("demo", tuple(LandClass(n, code, code, f"#0000{n:02x}") for n, code in enumerate("abc", 1)))
CORINE = open_legend("corine-3")


def grid_of(rows: int = 3, cols: int = 3, *, side: float = 10.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(side, 0, LEFT, 0, -side, TOP), "EPSG:25830")


def on_ground(left: float, top: float, right: float, bottom: float, *, side: float = 10.0) -> shapely.Polygon:
    """Rectangle given in pixels from the upper left corner."""
    return shapely.box(LEFT + left * side, TOP - bottom * side, LEFT + right * side, TOP - top * side)


def layer(
    path: Path,
    shapes: Sequence[object],
    codes: Sequence[object],
    *,
    crs: str = "EPSG:25830",
    field: str = "code",
) -> Path:
    frame = gpd.GeoDataFrame({field: list(codes)}, geometry=list(shapes), crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path, engine="pyogrio")
    return path


def raster(path: Path, numbers: object, *, nodata: float | None = None, dtype: str = "uint16") -> Path:
    values = np.asarray(numbers, dtype)
    grid = grid_of(*values.shape)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype=dtype, nodata=nodata, crs="EPSG:25830",
        transform=grid.affine, height=values.shape[0], width=values.shape[1],
    ) as data:  # fmt: skip
        data.write(values, 1)
    return path


def drawn(
    reference: Path, folder: Path, *, like: GeoBox | None = None, legend: Legend = LEGEND, **more: object
) -> list:
    grid = grid_of() if like is None else like
    made = write_labels(reference, folder / "labels.tif", like=grid, legend=legend, **more)
    with MapReader(open_map(made.path)) as reader:
        return reader.read(grid).tolist()


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "shp", "geojson"])
def test_a_pixel_takes_the_class_of_the_polygon_at_its_centre(tmp_path: Path, suffix: str) -> None:
    a, b = on_ground(0, 0, 1.4, 3), on_ground(1.4, 0, 3, 1.6)
    crs = "EPSG:25830"
    if suffix == "geojson":  # which is always WGS 84
        a, b = gpd.GeoSeries([a, b], crs=crs).to_crs(4326)
        crs = "EPSG:4326"
    path = layer(tmp_path / f"reference.{suffix}", [a, b], ["a", "b"], crs=crs)
    assert drawn(path, tmp_path) == [[1, 2, 2], [1, 2, 2], [1, 0, 0]]


@pytest.mark.parametrize(("edge", "middle"), [(1.49, 2), (1.5, 1), (1.51, 1)])
def test_a_centre_on_an_upright_edge_belongs_to_the_polygon_on_its_left(
    tmp_path: Path, edge: float, middle: int
) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, edge, 3), on_ground(edge, 0, 3, 3)], ["a", "b"])
    assert drawn(path, tmp_path) == [[1, middle, 2]] * 3


@pytest.mark.parametrize(("edge", "middle"), [(1.49, 2), (1.5, 2), (1.51, 1)])
def test_a_centre_on_a_level_edge_belongs_to_the_polygon_below(
    tmp_path: Path, edge: float, middle: int
) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 3, edge), on_ground(0, edge, 3, 3)], ["a", "b"])
    assert drawn(path, tmp_path) == [[1] * 3, [middle] * 3, [2] * 3]


def test_a_polygon_that_holds_no_centre_draws_nothing(tmp_path: Path) -> None:
    shapes = [on_ground(0, 0, 3, 3), on_ground(1.55, 0, 2.45, 3), on_ground(0.4, 0.4, 0.6, 0.6)]
    path = layer(tmp_path / "r.gpkg", shapes, ["a", "b", "c"])
    assert drawn(path, tmp_path) == [[3, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_a_hole_is_left_to_the_polygon_that_fills_it(tmp_path: Path) -> None:
    lake = on_ground(1, 1, 2, 2)
    path = layer(tmp_path / "r.gpkg", [lake, on_ground(0, 0, 3, 3) - lake], ["b", "a"])
    assert drawn(path, tmp_path) == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]


def test_the_later_of_two_overlapping_polygons_wins(tmp_path: Path) -> None:
    first, second = on_ground(0, 0, 2, 3), on_ground(1, 0, 3, 3)
    assert drawn(layer(tmp_path / "1.gpkg", [first, second], ["a", "b"]), tmp_path) == [[1, 2, 2]] * 3
    assert drawn(layer(tmp_path / "2.gpkg", [second, first], ["b", "a"]), tmp_path) == [[1, 1, 2]] * 3


def test_overlaps_are_settled_by_the_order_of_the_file_in_every_window(tmp_path: Path) -> None:
    # the spatial index of a GeoPackage gives features in an order of its own
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 60, (400, 2))
    shapes = [on_ground(x, y, x + 9, y + 9) for x, y in corners]
    codes = generator.choice(list("abc"), len(shapes))
    grid = grid_of(64, 64)
    path = layer(tmp_path / "r.gpkg", shapes, codes)
    values = [LEGEND[code].value for code in codes]
    expected = rasterize(
        zip(shapes, values, strict=True), out_shape=grid.shape, transform=grid.affine, dtype="uint8"
    )
    assert drawn(path, tmp_path, like=grid) == expected.tolist()


halves = st.lists(st.integers(1, 15), unique=True, max_size=5).map(sorted)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cols=halves, rows=halves, size=st.integers(3, 7))
def test_a_partition_labels_every_pixel_and_windows_agree(
    tmp_path: Path, cols: list[int], rows: list[int], size: int
) -> None:
    # edges at multiples of half a pixel: as many centres as can be lie on edges
    xs, ys = [0.0, *(c / 2 for c in cols), 8.0], [0.0, *(r / 2 for r in rows), 8.0]
    shapes = [
        on_ground(left, top, right, bottom, side=30.0)
        for top, bottom in pairwise(ys)
        for left, right in pairwise(xs)
    ]
    codes = [LEGEND.codes[number % 3] for number in range(len(shapes))]
    path = layer(tmp_path / "r.parquet", shapes, codes)
    grid = grid_of(8, 8, side=30.0)
    with open_reference(path, like=grid, legend=LEGEND) as reader:
        whole = reader.read(grid)
        assert (whole > 0).all()
        for row, col, window in windows(grid, size):
            rows_px, cols_px = window.shape
            np.testing.assert_array_equal(
                reader.read(window), whole[row : row + rows_px, col : col + cols_px]
            )


def test_the_rule_is_that_of_gdal(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    shapes = []
    for x, y, size in generator.uniform((0, 0, 3), (100, 100, 20), (60, 3)):
        radius = size * generator.uniform(0.3, 1, len(angles))
        ring = np.stack(
            [LEFT + 10 * (x + radius * np.cos(angles)), TOP - 10 * (y + radius * np.sin(angles))], axis=1
        )
        shapes.append(shapely.Polygon(ring))
    grid = grid_of(100, 100)
    codes = [LEGEND.codes[number % 3] for number in range(len(shapes))]
    path = layer(tmp_path / "r.parquet", shapes, codes)
    values = [LEGEND[code].value for code in codes]
    expected = rasterize(
        zip(shapes, values, strict=True), out_shape=grid.shape, transform=grid.affine, dtype="uint8"
    )
    assert drawn(path, tmp_path, like=grid) == expected.tolist()


def test_windows_may_reach_past_the_grid_but_must_lie_on_its_pixels(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(-1, -1, 1, 1)], ["a"])
    grid = grid_of()
    with open_reference(path, like=grid, legend=LEGEND) as reader:
        assert reader.read(window_grid(grid, -1, -2, 2, 4)).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0]]
        shifted = GeoBox((3, 3), grid.affine * Affine.translation(0.5, 0), grid.crs)
        with pytest.raises(GridError, match="not aligned to the pixels"):
            reader.read(shifted)


def test_long_edges_are_bent_by_the_projection_as_on_the_globe(tmp_path: Path) -> None:
    # edges along parallels, 5 degrees long, on a grid in LAEA: straight lines would be 2 km off
    shapes = [shapely.box(-8, 38, -3, 40), shapely.box(-8, 36, -3, 38)]
    path = layer(tmp_path / "r.gpkg", shapes, ["a", "b"], crs="EPSG:4326")
    to_grid = pyproj.Transformer.from_crs(4326, 3035, always_xy=True)
    x, y = to_grid.transform(-5.5, 38)
    grid = GeoBox((200, 200), Affine(100, 0, x - 10_000, 0, -100, y + 10_000), "EPSG:3035")
    labels = np.array(drawn(path, tmp_path, like=grid))
    cols, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
    to_globe = pyproj.Transformer.from_crs(3035, 4326, always_xy=True)
    expected = []
    for shift in (-0.1, 0.0, 0.1):  # of a pixel: what we promise
        _, latitude = to_globe.transform(x - 10_000 + 100 * cols, y + 10_000 - 100 * (rows + shift))
        expected.append(np.where(latitude > 38, 1, 2))
    sure = (expected[0] == expected[1]) & (expected[1] == expected[2])
    assert 0.99 < sure.mean() < 1
    np.testing.assert_array_equal(labels[sure], expected[1][sure])


def test_polygons_that_the_projection_would_fold_back_are_cut(tmp_path: Path) -> None:
    globe = shapely.box(-179, -89, 179, 89)
    path = layer(tmp_path / "r.gpkg", [globe], ["a"], crs="EPSG:4326")
    grid = GeoBox((4, 4), Affine(1000, 0, 300_000, 0, -1000, 4_500_000), "EPSG:25830")
    assert drawn(path, tmp_path, like=grid) == [[1] * 4] * 4


def test_grids_may_be_turned(tmp_path: Path) -> None:
    affine = Affine.translation(LEFT, TOP) * Affine.rotation(30) * Affine.scale(10, -10)
    grid = GeoBox((20, 20), affine, "EPSG:25830")
    half = shapely.Polygon([affine * corner for corner in ((0, 0), (10, 0), (10, 20), (0, 20))])
    path = layer(tmp_path / "r.gpkg", [half], ["a"])
    assert drawn(path, tmp_path, like=grid) == [[1] * 10 + [0] * 10] * 20


@pytest.mark.parametrize(
    "codes", [[311, 112], [311.0, 112.0], ["311", "112"], [" 311", "112 "], ["311.0", "112.00"]]
)
def test_codes_are_compared_as_text_however_they_are_stored(tmp_path: Path, codes: list[object]) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 1, 3), on_ground(1, 0, 3, 3)], codes)
    assert drawn(path, tmp_path, legend=CORINE) == [[23, 2, 2]] * 3


def test_codes_of_a_finer_level_or_mixed_levels_go_to_the_level_wanted(tmp_path: Path) -> None:
    shapes = [on_ground(0, 0, 1, 3), on_ground(1, 0, 2, 3), on_ground(2, 0, 3, 3)]
    path = layer(tmp_path / "r.gpkg", shapes, ["311", "31", "512"])
    assert drawn(path, tmp_path, legend=open_legend("corine-2")) == [[31, 31, 51]] * 3
    assert drawn(path, tmp_path, legend=open_legend("corine-1")) == [[3, 3, 5]] * 3


def test_a_source_is_translated_by_its_crosswalk(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 1, 3), on_ground(1, 0, 3, 3)], ["311", "112"])
    legend = open_legend("lulucf")
    expected = [legend["forest_land"].value] + [legend["settlements"].value] * 2
    assert drawn(path, tmp_path, legend=legend, source="corine") == [expected] * 3
    crosswalk = open_crosswalk("corine", legend)
    assert drawn(path, tmp_path, legend=legend, crosswalk=crosswalk) == [expected] * 3
    with pytest.raises(LegendError, match="holds the codes 112, 311, which legend 'lulucf' does not have"):
        drawn(path, tmp_path, legend=legend)


def test_unknown_codes_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 1, 3), on_ground(1, 0, 3, 3)], ["a", "z"])
    with pytest.raises(
        LegendError, match=r"Field 'code' of .*r\.gpkg holds the codes z, which legend 'demo'"
    ):
        drawn(path, tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["r.gpkg"]


def test_polygons_without_a_code_have_no_class_and_are_told_unless_the_crosswalk_has_null(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 1, 3), on_ground(1, 0, 3, 3)], ["a", None])
    assert drawn(path, tmp_path) == [[1, 0, 0]] * 3
    assert "1 polygon without a code in the field 'code' (feature 2): without a class" in caplog.text
    caplog.clear()
    crosswalk = Crosswalk.from_rows(
        "mine", LEGEND, [{"from": "a", "to": "c"}, {"from": "null", "to": "nodata"}]
    )
    assert drawn(path, tmp_path, crosswalk=crosswalk) == [[3, 0, 0]] * 3
    assert not caplog.text


def test_a_crosswalk_to_another_legend_is_an_error(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 1, 3)], ["a"])
    with pytest.raises(LegendError, match="leads to legend 'demo', but labels in 'corine-3' are wanted"):
        drawn(path, tmp_path, legend=CORINE, crosswalk=Crosswalk.identity(LEGEND))


def test_labels_that_all_go_to_nodata_are_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [on_ground(0, 0, 3, 3)], ["a"])
    crosswalk = Crosswalk.from_rows("mine", LEGEND, [{"from": "a", "to": "nodata"}])
    with pytest.raises(InputError, match="no pixel of the grid gets a class"):
        drawn(path, tmp_path, crosswalk=crosswalk)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["r.gpkg"]


def test_a_reference_of_another_area_is_reported_with_both_extents(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.gpkg", [shapely.box(10, 40, 11, 41)], ["a"], crs="EPSG:4326")
    with pytest.raises(
        GridError,
        match=r"r\.gpkg is at \d+ 4\d+ \d+ 4\d+, the scene at 500000 4099970 500030 4100000 .*EPSG:25830",
    ):
        drawn(path, tmp_path)


def test_the_field_is_chosen_or_requested(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame(
        {"CODE_18": ["311"], "AREA_HA": [1.0]}, geometry=[on_ground(0, 0, 3, 3)], crs=25830
    )
    frame.to_file(tmp_path / "r.gpkg", engine="pyogrio")
    assert drawn(tmp_path / "r.gpkg", tmp_path, legend=CORINE) == [[23] * 3] * 3
    assert drawn(tmp_path / "r.gpkg", tmp_path, legend=CORINE, field="code_18") == [[23] * 3] * 3
    with pytest.raises(
        InputError, match=r"Unknown field 'CODE_12': did you mean 'CODE_18'\? Known: CODE_18, AREA_HA"
    ):
        drawn(tmp_path / "r.gpkg", tmp_path, legend=CORINE, field="CODE_12")
    frame.rename(columns={"CODE_18": "use"}).to_file(tmp_path / "s.gpkg", engine="pyogrio")
    with pytest.raises(InputError, match=r"ambiguous which field .* it has use, AREA_HA"):
        drawn(tmp_path / "s.gpkg", tmp_path, legend=CORINE)


def test_a_file_of_several_layers_asks_for_one(tmp_path: Path) -> None:
    for name, code in (("old", "a"), ("new", "b")):
        frame = gpd.GeoDataFrame({"code": [code]}, geometry=[on_ground(0, 0, 3, 3)], crs=25830)
        frame.to_file(tmp_path / "r.gpkg", layer=name, engine="pyogrio")
    assert drawn(tmp_path / "r.gpkg", tmp_path, layer="new") == [[2] * 3] * 3
    with pytest.raises(InputError, match=r"has 2 polygon layers \((old, new|new, old)\); name one"):
        drawn(tmp_path / "r.gpkg", tmp_path)
    with pytest.raises(InputError, match="Unknown layer 'newer': did you mean 'new'"):
        drawn(tmp_path / "r.gpkg", tmp_path, layer="newer")


def test_a_layer_without_a_crs_is_reported_with_a_remedy(tmp_path: Path) -> None:
    path = layer(tmp_path / "r.shp", [on_ground(0, 0, 3, 3)], ["a"])
    path.with_suffix(".prj").unlink()
    with pytest.raises(GridError, match=r"no coordinate system\. Assign the right one"):
        drawn(tmp_path / "r.shp", tmp_path)


@pytest.mark.slow
def test_of_a_large_layer_only_the_polygons_of_a_window_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    col, row = np.meshgrid(np.arange(500), np.arange(400))
    x, y = LEFT + 20.0 * col.ravel(), TOP - 20.0 * row.ravel()
    path = layer(
        tmp_path / "r.gpkg", shapely.box(x, y - 20, x + 20, y), np.array(list("abc"))[(col + row).ravel() % 3]
    )
    read: list[int] = []

    def counted(*args: object, **more: object) -> gpd.GeoDataFrame:
        frame = polygons_read(*args, **more)
        read.append(len(frame))
        return frame

    polygons_read = polygons.read_layer
    monkeypatch.setattr(polygons, "read_layer", counted)
    grid = grid_of(800, 1000)
    with open_reference(path, like=grid, legend=LEGEND) as reader:
        labels = reader.read(window_grid(grid, 300, 500, 64, 64))
    assert sum(read) <= 34 * 34
    rows, cols = np.mgrid[300:364, 500:564] // 2
    np.testing.assert_array_equal(labels, (rows + cols) % 3 + 1)


def test_a_raster_is_read_by_nearest_pixel(tmp_path: Path) -> None:
    numbers = np.repeat(np.repeat([[311, 112], [512, 211]], 3, axis=0), 3, axis=1)
    path = raster(tmp_path / "r.tif", numbers)
    fine = GeoBox((12, 12), Affine(5, 0, LEFT, 0, -5, TOP), "EPSG:25830")
    expected = np.repeat(np.repeat([[23, 2], [41, 12]], 6, axis=0), 6, axis=1)
    assert drawn(path, tmp_path, like=fine, legend=CORINE) == expected.tolist()
    shifted = GeoBox((6, 6), Affine(10, 0, LEFT + 4, 0, -10, TOP - 4), "EPSG:25830")
    assert drawn(path, tmp_path, like=shifted, legend=CORINE) == [
        *[[23, 23, 23, 2, 2, 2]] * 3,
        *[[41, 41, 41, 12, 12, 12]] * 3,
    ]


@pytest.mark.parametrize(
    ("numbers", "nodata", "expected"),
    [
        ([[311, 112, 523]], None, [[23, 2, 44]]),  # codes
        ([[23, 2, 44]], None, [[23, 2, 44]]),  # grid codes of the EEA rasters
        (
            [[23, 48, 44], [49, 50, 255], [128, 0, 1]],
            None,
            [[23, 0, 44], [0, 0, 0], [0, 0, 1]],
        ),  # and their extras
        ([[311, 999, 990], [995, 112, 0]], None, [[23, 0, 0], [0, 2, 0]]),
        ([[23, 7, 44]], 7, [[23, 0, 44]]),  # declared nodata, though it were a class
    ],
)
def test_corine_rasters_of_both_codings_are_read(
    tmp_path: Path, numbers: list[list[int]], nodata: float | None, expected: list[list[int]]
) -> None:
    path = raster(tmp_path / "r.tif", numbers, nodata=nodata)
    like = grid_of(len(expected), 3)
    assert drawn(path, tmp_path, like=like, legend=CORINE) == expected


def test_metres_in_a_file_that_says_degrees_are_told(tmp_path: Path) -> None:
    path = layer(tmp_path / "a.geojson", [on_ground(0, 0, 3, 3)], ["a"], crs="EPSG:4326")
    with pytest.raises(GridError, match="its coordinates do not lie in its coordinate system"):
        drawn(path, tmp_path, like=grid_of(), legend=LEGEND)


def test_lists_are_codes_that_no_legend_has(tmp_path: Path) -> None:
    path = layer(tmp_path / "a.parquet", [on_ground(0, 0, 3, 3)], [["a", "b"]])
    with pytest.raises(LegendError, match=r"holds the codes \['a' 'b'\]"):
        drawn(path, tmp_path, like=grid_of(), legend=LEGEND)


def test_class_numbers_may_be_stored_as_floats_but_not_be_fractions(tmp_path: Path) -> None:
    path = raster(tmp_path / "r.tif", [[311, np.nan, 112]], dtype="float32")
    assert drawn(path, tmp_path, like=grid_of(1, 3), legend=CORINE) == [[23, 0, 2]]
    for number, text in ((112.5, r"112\.5"), (np.inf, "inf"), (1e30, r"1e\+30")):
        broken = raster(tmp_path / "s.tif", [[311, number, 112]], dtype="float32")
        with pytest.raises(InputError, match=f"holds {text}, which is not a class"):
            drawn(broken, tmp_path, like=grid_of(1, 3), legend=CORINE)


def test_a_raster_whose_level_is_not_clear_asks_for_it(tmp_path: Path) -> None:
    path = raster(tmp_path / "r.tif", [[12, 21, 31]])
    corine2 = open_legend("corine-2")
    with pytest.raises(LegendError, match=r"more than one level of legend 'corine'.*corine-2, corine-3"):
        drawn(path, tmp_path, like=grid_of(1, 3), legend=corine2)
    assert drawn(path, tmp_path, like=grid_of(1, 3), legend=corine2, source="corine-2") == [[12, 21, 31]]
    assert drawn(path, tmp_path, like=grid_of(1, 3), legend=corine2, source="corine-3") == [[21, 24, 33]]


def test_a_raster_with_unknown_numbers_names_them(tmp_path: Path) -> None:
    path = raster(tmp_path / "r.tif", [[311, 777, 112]])
    with pytest.raises(LegendError, match="holds the codes 777, which legend 'corine' does not have"):
        drawn(path, tmp_path, like=grid_of(1, 3), legend=CORINE)


def test_official_codes_win_over_values_in_a_raster_of_others(tmp_path: Path) -> None:
    legend = open_legend("dynamic-world")  # codes 0 to 8 are stored as values 1 to 9
    path = raster(tmp_path / "r.tif", [[0, 1, 8]], dtype="uint8")
    assert drawn(path, tmp_path, like=grid_of(1, 3), legend=legend) == [[1, 2, 9]]


def test_a_map_of_tesela_contains_its_legend(tmp_path: Path) -> None:
    grid = grid_of(1, 3)
    corine2 = open_legend("corine-2")
    made = write_map(tmp_path / "map.tif", np.array([[12, 31, 0]], np.uint8), grid, legend=corine2)
    assert drawn(Path(made.path), tmp_path, like=grid, legend=corine2) == [[12, 31, 0]]
    assert drawn(Path(made.path), tmp_path, like=grid, legend=open_legend("corine-1")) == [[1, 3, 0]]
    with pytest.raises(LegendError, match="No crosswalk from 'corine-2' to 'demo'"):
        drawn(Path(made.path), tmp_path, like=grid)


def test_a_raster_reference_has_no_field(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no field or layer; leave them out"):
        drawn(raster(tmp_path / "r.tif", [[311]]), tmp_path, legend=CORINE, field="CODE_18")


def test_a_raster_of_several_bands_is_no_class_raster(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "r.tif", "w", driver="GTiff", count=3, dtype="uint8", crs="EPSG:25830", height=3, width=3,
        transform=grid_of().affine,
    ) as data:  # fmt: skip
        data.write(np.ones((3, 3, 3), np.uint8))
    with pytest.raises(InputError, match="has 3 bands; a class raster has one"):
        drawn(tmp_path / "r.tif", tmp_path, legend=CORINE)


def test_a_missing_reference_is_named(tmp_path: Path) -> None:
    for name in ("gone.gpkg", "gone.tif"):
        with pytest.raises(InputError, match=rf"{name}: no such file"):
            drawn(tmp_path / name, tmp_path)


@pytest.mark.real
def test_real_polygons_agree_with_the_raster_of_another_crs_as_its_readme_states(
    lanjaron: Path, tmp_path: Path
) -> None:
    scene = open_scene(lanjaron / "l8_b2b7_30m.tif")
    polygon = write_labels(
        lanjaron / "clc2018_lanjaron.gpkg", tmp_path / "p.tif", like=scene.grid, legend=CORINE, layer="clc"
    )
    northing_first = write_labels(
        lanjaron / "clc2018_25m.tif", tmp_path / "r.tif", like=scene.grid, legend=CORINE
    )
    with MapReader(polygon) as first, MapReader(northing_first) as second:
        mine, theirs = first.read(scene.grid), second.read(scene.grid)
    assert (mine > 0).all()
    assert (mine == theirs).mean() == pytest.approx(0.980, abs=0.0005)
