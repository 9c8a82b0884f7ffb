"""Exact fractions: areas of polygons and pixels in the cells of a grid."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from repository import DATA
from tesela.cli import main
from tesela.core.coverage import box_areas, pixel_areas
from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.legend import LandClass, Legend
from tesela.core.outlines import CellPlane, Outlines
from tesela.io.abundance import open_abundance, round_shares
from tesela.io.legends import open_legend
from tesela.io.maps import write_map
from tesela.labels.fractions import Fractions, polygon_fractions, read_fractions, write_fractions

LANJARON = DATA / "lanjaron_l8_clc"
needs_lanjaron = pytest.mark.skipif(
    not LANJARON.exists(), reason=f"the real data are not at {DATA} (set TESELA_DATA)"
)

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
MODIS_M = 463.3127165694

LEGEND = Legend(
    "two", (LandClass(1, "wood", "Woodland", "#00aa00"), LandClass(7, "field", "Field", "#ffff00"))
)


def grid(rows: int, cols: int, size: float = 10.0, *, left: float = 0.0, top: float | None = None) -> GeoBox:
    up = rows * size if top is None else top
    return GeoBox((rows, cols), Affine(size, 0, left, 0, -size, up), "EPSG:3035")


def cells_of(box: GeoBox) -> np.ndarray:
    rows, cols = box.shape
    at = box.affine
    return np.array(
        [
            [
                shapely.Polygon([at * (c, r), at * (c + 1, r), at * (c + 1, r + 1), at * (c, r + 1)])
                for c in range(cols)
            ]
            for r in range(rows)
        ],
        object,
    )


def overlay(shapes: np.ndarray, classes: np.ndarray, count: int, box: GeoBox) -> np.ndarray:
    """Areas by class and cell as shapely's overlay finds them, in cells."""
    cells = cells_of(box)
    areas = np.zeros((count, *cells.shape))
    for shape, number in zip(shapes, classes, strict=True):
        areas[number] += shapely.area(shapely.intersection(cells, shape)) / shapely.area(cells)
    return areas


def write_polygons(path: Path, shapes: list, codes: list, *, crs: str = "EPSG:3035") -> Path:
    gpd.GeoDataFrame({"code": codes}, geometry=shapes, crs=crs).to_file(path)
    return path


# --- hand cases ---


def test_a_square_that_fills_a_quarter_of_a_cell_covers_a_quarter() -> None:
    fractions = polygon_fractions(np.array([shapely.box(5, 5, 10, 10)]), np.array([0]), 1, grid=grid(1, 2))
    assert fractions.cover.tolist() == [[0.25, 0.0]]
    assert fractions.shares[0, 0, 0] == 1.0
    assert np.isnan(fractions.shares[0, 0, 1])


def test_a_hole_belongs_to_the_polygon_that_fills_it() -> None:
    ring = shapely.box(0, 0, 30, 30).difference(shapely.box(8, 8, 18, 18))
    fractions = polygon_fractions(
        np.array([ring, shapely.box(8, 8, 18, 18)]), np.array([0, 1]), 2, grid=grid(3, 3)
    )
    assert fractions.cover == pytest.approx(np.ones((3, 3)), abs=1e-15)
    assert fractions.shares[1] == pytest.approx(
        np.array([[0, 0, 0], [0.16, 0.64, 0], [0.04, 0.16, 0]]), abs=1e-15
    )


def test_rings_may_run_either_way_and_multipolygons_have_parts() -> None:
    outer, inner = [(0, 0), (30, 0), (30, 30), (0, 30)], [(10, 10), (20, 10), (20, 20), (10, 20)]
    for shell in (outer, outer[::-1]):
        for hole in (inner, inner[::-1]):
            parts = shapely.MultiPolygon([shapely.Polygon(shell, [hole]), shapely.box(12, 12, 18, 18)])
            fractions = polygon_fractions(np.array([parts]), np.array([0]), 1, grid=grid(3, 3))
            assert fractions.cover.tolist() == [[1, 1, 1], [1, pytest.approx(0.36), 1], [1, 1, 1]]


def test_collections_give_their_polygons_and_nothing_else() -> None:
    nested = shapely.GeometryCollection(
        [shapely.Point(5, 5), shapely.GeometryCollection([shapely.MultiPolygon([shapely.box(0, 0, 10, 5)])])]
    )
    shapes = np.array([nested, None, shapely.Polygon(), shapely.LineString([(0, 0), (10, 10)])], object)
    assert Outlines.from_shapes(shapes).owners.tolist() == [0]
    assert polygon_fractions(shapes, np.zeros(4, int), 1, grid=grid(1, 1)).cover.item() == 0.5


def test_polygons_far_larger_than_the_grid_cover_it_whole() -> None:
    huge = np.array([shapely.box(-1e6, -1e6, 1e6, 1e6)])
    assert (polygon_fractions(huge, np.array([0]), 1, grid=grid(4, 5)).cover == 1).all()


def test_cells_of_the_far_side_do_not_keep_dust_of_rounding() -> None:
    tilted = np.array([shapely.Polygon([(1.1, 3.3), (2.7, 9.1), (7.9, 8.3), (6.1, 0.7)])])
    fractions = polygon_fractions(tilted, np.array([0]), 1, grid=grid(1, 50))
    assert (fractions.cover[0, 1:] == 0).all()


# --- laws ---


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    points=st.integers(2, 40),
    turn=st.sampled_from([0.0, 0.0, 13.0, 90.0, 201.0]),
    across=st.floats(2.0, 30.0),
    down=st.floats(-30.0, -2.0),
)
def test_fractions_equal_the_overlay_of_shapely_on_random_coverages(
    seed: int, points: int, turn: float, across: float, down: float
) -> None:
    random = np.random.default_rng(seed)
    seeds = shapely.MultiPoint(random.uniform(-20, 120, (points, 2)))
    frame = shapely.box(-30, -30, 130, 130)
    tiles = shapely.get_parts(shapely.voronoi_polygons(seeds, extend_to=frame))
    shapes = shapely.intersection(tiles, frame)
    hole = shapely.Point(50, 50).buffer(15, quad_segs=3)
    shapes = np.append(shapely.difference(shapes, hole), hole)
    classes = random.integers(0, 4, len(shapes))
    transform = Affine.translation(40, 60) * Affine.rotation(turn) * Affine.scale(across, down)
    box = GeoBox((5, 7), transform, "EPSG:3035")
    fractions = polygon_fractions(shapes, classes, 4, grid=box)
    expected = overlay(shapes, classes, 4, box)
    assert np.nan_to_num(fractions.shares) * fractions.cover == pytest.approx(expected, abs=1e-9)
    covered = fractions.cover > 0
    assert fractions.shares[:, covered].sum(axis=0) == pytest.approx(1, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), turn=st.sampled_from([0.0, 31.0, 250.0]), mirror=st.booleans())
def test_pixels_are_quadrangles_in_cells_that_lie_askew(seed: int, turn: float, mirror: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 4, (17, 21)).astype(np.uint8)
    plane_of = np.full(256, -1)
    plane_of[1:4] = (0, 1, 0)
    transform = (
        Affine.translation(2.3, 1.7) * Affine.rotation(turn) * Affine.scale(-0.3 if mirror else 0.3, 0.21)
    )
    cols, rows = np.meshgrid(np.arange(0, 25, 8), np.arange(0, 25, 8))
    control = np.stack(
        [
            transform.a * cols + transform.b * rows + transform.c,
            transform.d * cols + transform.e * rows + transform.f,
        ]
    )
    areas = pixel_areas(values, plane_of, control=control, step=8, shape=(2, 6, 8))
    cells = np.array([[shapely.box(c, r, c + 1, r + 1) for c in range(8)] for r in range(6)], object)
    expected = np.zeros((2, 6, 8))
    for i, j in np.argwhere(plane_of[values] >= 0):
        corners = [
            transform * (j, i),
            transform * (j + 1, i),
            transform * (j + 1, i + 1),
            transform * (j, i + 1),
        ]
        expected[plane_of[values[i, j]]] += shapely.area(
            shapely.intersection(cells, shapely.Polygon(corners))
        )
    assert areas == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    side=st.floats(0.05, 3.0),
    start=st.floats(-2.0, 2.0),
    flip=st.sampled_from([1.0, -1.0]),
)
def test_boxes_and_quadrangles_agree_where_axes_are_parallel(
    seed: int, side: float, start: float, flip: float
) -> None:
    values = np.random.default_rng(seed).integers(0, 3, (9, 12)).astype(np.uint8)
    plane_of = np.full(256, -1)
    plane_of[1:3] = (0, 1)
    across, down = start + side * np.arange(13), 4.0 + flip * side * np.arange(10)
    boxes = box_areas(values, plane_of, across=across, down=down, shape=(2, 5, 6))
    control = np.stack(np.meshgrid(across, down))
    quadrangles = pixel_areas(values, plane_of, control=control, step=1, shape=(2, 5, 6))
    assert boxes == pytest.approx(quadrangles, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(1, 44), seed=st.integers(0, 2**31))
def test_rounded_shares_sum_to_one_and_move_less_than_a_step(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(classes, 0.3), (4, 5)).transpose(2, 0, 1)
    shares[:, 1, 2] = np.nan
    steps = round_shares(shares)
    empty = np.zeros((4, 5), bool)
    empty[1, 2] = True
    assert (steps[:, empty] == 65535).all()
    assert (steps[:, ~empty].sum(axis=0, dtype=int) == 10_000).all()
    assert np.abs(steps[:, ~empty] - shares[:, ~empty] * 10_000).max() < 1


def test_the_largest_remainders_are_rounded_up() -> None:
    shares = np.array([0.33332, 0.33336, 0.33332])[:, np.newaxis, np.newaxis]
    assert round_shares(shares).ravel().tolist() == [3333, 3334, 3333]


def test_shares_that_do_not_sum_to_one_are_not_rounded() -> None:
    with pytest.raises(InputError, match=r"sum to between 0\.7 and 0\.7; they must sum to 1"):
        round_shares(np.full((1, 1, 1), 0.7))


# --- other coordinate systems ---


@pytest.mark.parametrize("crs", [SINUSOIDAL, "EPSG:4326", "EPSG:25830"])
def test_long_edges_follow_their_true_curve_in_another_crs(crs: str) -> None:
    corners = [(3_200_000, 1_700_000), (3_260_000, 1_690_000), (3_250_000, 1_760_000)]
    triangle = shapely.Polygon(corners)
    to_crs = pyproj.Transformer.from_crs("EPSG:3035", crs, always_xy=True)
    true = shapely.transform(
        shapely.segmentize(triangle, 50.0), lambda x, y: to_crs.transform(x, y), interleaved=False
    )
    left, bottom, right, top = true.bounds
    size = (right - left) / 25
    box = GeoBox((int((top - bottom) / size), 25), Affine(size, 0, left, 0, -size, top), crs)
    fractions = polygon_fractions(np.array([triangle]), np.array([0]), 1, grid=box, crs="EPSG:3035")
    expected = overlay(np.array([true]), np.array([0]), 1, box)[0]
    assert fractions.cover == pytest.approx(expected, abs=2e-5)
    straight = shapely.transform(triangle, lambda x, y: to_crs.transform(x, y), interleaved=False)
    assert np.abs(overlay(np.array([straight]), np.array([0]), 1, box)[0] - expected).max() > 1e-3


def test_neighbours_in_another_crs_leave_neither_gap_nor_overlap() -> None:
    left, right = shapely.box(3_200_000, 1_700_000, 3_230_000, 1_760_000), None
    right = shapely.box(3_230_000, 1_700_000, 3_260_000, 1_760_000)
    plane = CellPlane.between("EPSG:3035", grid(1, 1))
    assert plane.to_grid is None
    to_crs = pyproj.Transformer.from_crs("EPSG:3035", SINUSOIDAL, always_xy=True)
    x, y = to_crs.transform(3_230_000, 1_730_000)
    box = GeoBox((20, 20), Affine(MODIS_M, 0, x - 10 * MODIS_M, 0, -MODIS_M, y + 10 * MODIS_M), SINUSOIDAL)
    fractions = polygon_fractions(np.array([left, right]), np.array([0, 1]), 2, grid=box, crs="EPSG:3035")
    assert fractions.cover == pytest.approx(1, abs=1e-9)
    assert 0 < np.nanmean(fractions.shares[0]) < 1


def test_a_polygon_that_leaves_the_grids_crs_is_cut_to_it() -> None:
    world = np.array([shapely.box(-180, -90, 180, 90)])
    box = GeoBox((3, 3), Affine(1000, 0, 500_000, 0, -1000, 4_100_000), "EPSG:25830")
    fractions = polygon_fractions(world, np.array([0]), 1, grid=box, crs="EPSG:4326")
    assert fractions.cover == pytest.approx(1, abs=1e-9)


# --- files ---


def test_a_layer_becomes_an_abundance_map_that_is_read_back(tmp_path: Path) -> None:
    layer = write_polygons(
        tmp_path / "a.gpkg", [shapely.box(0, 0, 15, 20), shapely.box(15, 0, 40, 20)], ["wood", "field"]
    )
    written = write_fractions(layer, tmp_path / "f.tif", like=grid(2, 5), legend=LEGEND)
    again = open_abundance(tmp_path / "f.tif")
    assert again == written
    shares = again.read()[:, 0]
    assert shares[:, :4].tolist() == [[1, 0.5, 0, 0], [0, 0.5, 1, 1]]
    assert np.isnan(shares[:, 4]).all()
    with rasterio.open(tmp_path / "f.tif") as data:
        assert data.descriptions == ("Woodland", "Field")
        assert data.dtypes == ("uint16", "uint16")
        assert data.scales == (0.0001, 0.0001)
        assert data.nodata == 65535
    assert [path.name for path in tmp_path.iterdir()].count("f.tif") == 1


def test_cells_covered_too_little_have_no_data(tmp_path: Path) -> None:
    layer = write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 14, 10)], ["wood"])
    like = grid(1, 2)
    for least, expected in ((0.5, [True, False]), (0.3, [True, True])):
        written = write_fractions(layer, tmp_path / "f.tif", like=like, legend=LEGEND, min_cover=least)
        assert np.isfinite(written.read()[0, 0]).tolist() == expected
    written = write_fractions(layer, tmp_path / "f.tif", like=like, legend=LEGEND)
    assert np.isfinite(written.read()[0, 0]).tolist() == [True, False]  # at least half by default


def test_a_crosswalk_shares_out_what_it_splits_and_leaves_out_what_it_drops(tmp_path: Path) -> None:
    crosswalk = Crosswalk(
        "mine",
        LEGEND,
        (
            CrosswalkRow("mixed", "wood", 0.25),
            CrosswalkRow("mixed", "field", 0.75),
            CrosswalkRow("thin", "wood", 0.5),
            CrosswalkRow("thin", "nodata", 0.5),
            CrosswalkRow("sea", "nodata"),
            CrosswalkRow("trees", "wood"),
        ),
    )
    squares = [shapely.box(10 * number, 0, 10 * number + 10, 10) for number in range(4)]
    layer = write_polygons(tmp_path / "a.gpkg", squares, ["mixed", "thin", "sea", "trees"])
    fractions = read_fractions(layer, like=grid(1, 4), legend=LEGEND, crosswalk=crosswalk)
    assert fractions.cover[0].tolist() == [1, 0.5, 0, 1]
    assert fractions.shares[:, 0, [0, 1, 3]].tolist() == [[0.25, 1, 1], [0.75, 0, 0]]


def test_a_crosswalk_splits_the_numbers_of_a_raster_too(tmp_path: Path) -> None:
    source = Legend("old", (LandClass(3, "311", "Mixed", "#111111"), LandClass(5, "312", "Wood", "#222222")))
    crosswalk = Crosswalk(
        "old",
        LEGEND,
        (
            CrosswalkRow("311", "wood", 0.25),
            CrosswalkRow("311", "field", 0.75),
            CrosswalkRow("312", "wood"),
        ),
    )
    write_map(tmp_path / "m.tif", np.array([[3, 5], [3, 0]], np.uint8), grid(2, 2), legend=source)
    fractions = read_fractions(tmp_path / "m.tif", like=grid(1, 1, 20), legend=LEGEND, crosswalk=crosswalk)
    assert fractions.cover.item() == 0.75
    assert fractions.shares[:, 0, 0] == pytest.approx([1.5 / 3, 1.5 / 3])


def test_pixels_that_do_not_align_with_cells_count_by_shared_area(tmp_path: Path) -> None:
    write_map(tmp_path / "m.tif", np.array([[1, 7]], np.uint8), grid(1, 2), legend=LEGEND)
    box = GeoBox((1, 2), Affine(8, 0, 4, 0, -8, 10), "EPSG:3035")
    fractions = read_fractions(tmp_path / "m.tif", like=box, legend=LEGEND)
    assert fractions.cover == pytest.approx(np.array([[1, 1]]))
    assert fractions.shares[0, 0] == pytest.approx([0.75, 0])


@pytest.mark.parametrize("crs", ["EPSG:3035", SINUSOIDAL])
def test_a_raster_and_its_polygons_have_the_same_fractions(tmp_path: Path, crs: str) -> None:
    random = np.random.default_rng(5)
    values = random.choice(np.array([0, 1, 7], np.uint8), (40, 50))
    own = GeoBox((40, 50), Affine(25, 0, 3_200_000, 0, -25, 1_701_000), "EPSG:3035")
    write_map(tmp_path / "m.tif", values, own, legend=LEGEND)
    squares = cells_of(own)[values > 0]
    codes = np.where(values[values > 0] == 1, "wood", "field")
    write_polygons(tmp_path / "m.gpkg", list(squares), list(codes))
    to_crs = pyproj.Transformer.from_crs("EPSG:3035", crs, always_xy=True)
    x, y = to_crs.transform(3_200_100, 1_700_900)
    turn = Affine.rotation(0 if crs == SINUSOIDAL else 20)
    box = GeoBox((5, 6), Affine.translation(x, y) * turn * Affine.scale(130, -130), crs)
    a, b = (read_fractions(tmp_path / name, like=box, legend=LEGEND) for name in ("m.tif", "m.gpkg"))
    assert a.cover == pytest.approx(b.cover, abs=1e-5)
    assert a.shares == pytest.approx(b.shares, abs=1e-5, nan_ok=True)
    assert a.cover[1:-1, 1:-1].min() > 0.4


def test_blocks_of_cells_give_the_same_answer_as_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    tiles = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(random.uniform(0, 400, (60, 2)))))
    layer = write_polygons(tmp_path / "a.gpkg", list(tiles), list(random.choice(["wood", "field"], 60)))
    box = GeoBox((33, 37), Affine.rotation(10) * Affine.scale(10, 10), "EPSG:3035")
    whole = read_fractions(layer, like=box, legend=LEGEND)
    monkeypatch.setattr("tesela.labels.fractions._BLOCK_CELLS", 8)
    parts = read_fractions(layer, like=box, legend=LEGEND)
    assert parts.cover == pytest.approx(whole.cover, abs=1e-12)
    assert parts.shares == pytest.approx(whole.shares, abs=1e-12, nan_ok=True)


def test_an_unknown_code_and_a_reference_elsewhere_are_clear_errors(tmp_path: Path) -> None:
    layer = write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 10, 10)], ["lava"])
    with pytest.raises(LegendError, match="holds the codes lava, which"):
        write_fractions(layer, tmp_path / "f.tif", like=grid(1, 1), legend=LEGEND)
    with pytest.raises(GridError, match="do not overlap"):
        write_fractions(layer, tmp_path / "f.tif", like=grid(1, 1, left=5000), legend=LEGEND)
    write_map(tmp_path / "m.tif", np.ones((1, 1), np.uint8), grid(1, 1), legend=LEGEND)
    with pytest.raises(GridError, match="do not overlap"):
        read_fractions(tmp_path / "m.tif", like=grid(1, 1, left=5000), legend=LEGEND)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gpkg", ".qml", ".tif", ".xml"]


def test_a_reference_without_a_class_on_the_grid_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    crosswalk = Crosswalk("mine", LEGEND, (CrosswalkRow("sea", "nodata"),))
    layer = write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 10, 10)], ["sea"])
    with pytest.raises(InputError, match="covers no cell of the grid to 50%"):
        write_fractions(layer, tmp_path / "f.tif", like=grid(1, 1), legend=LEGEND, crosswalk=crosswalk)
    assert not (tmp_path / "f.tif").exists()


def test_a_raster_has_no_field_and_an_abundance_map_is_no_byte_raster(tmp_path: Path) -> None:
    write_map(tmp_path / "m.tif", np.ones((1, 1), np.uint8), grid(1, 1), legend=LEGEND)
    with pytest.raises(InputError, match="has no field or layer"):
        read_fractions(tmp_path / "m.tif", like=grid(1, 1), legend=LEGEND, field="code")
    with pytest.raises(InputError, match="an abundance map holds uint16"):
        open_abundance(tmp_path / "m.tif")


def test_the_later_of_two_overlapping_polygons_has_the_area_under_both() -> None:
    twice = np.array([shapely.box(0, 0, 10, 10), shapely.box(5, 0, 10, 10)])
    fractions = polygon_fractions(twice, np.array([0, 1]), 2, grid=grid(1, 1))
    assert fractions.cover.item() == 1
    assert fractions.shares[:, 0, 0] == pytest.approx([0.5, 0.5])


# --- counted pixels, as published ---


def test_counting_gives_the_share_of_pixels_whose_centre_a_class_holds(tmp_path: Path) -> None:
    layer = write_polygons(
        tmp_path / "a.gpkg", [shapely.box(0, 0, 4, 10), shapely.box(4, 0, 20, 10)], ["wood", "field"]
    )
    halves = read_fractions(layer, like=grid(1, 2), legend=LEGEND, count_m=5)  # centres at 2.5 and 7.5
    assert halves.shares[:, 0].tolist() == [[0.5, 0], [0.5, 1]]
    tenths = read_fractions(layer, like=grid(1, 2), legend=LEGEND, count_m=1)
    assert tenths.shares[:, 0].tolist() == [[0.4, 0], [0.6, 1]]
    beside = read_fractions(layer, like=grid(1, 3, left=3), legend=LEGEND, count_m=2.5)
    assert beside.shares[:, 0, 0].tolist() == [0.25, 0.75]  # centres at 3.75, 6.25, 8.75 and 11.25
    assert beside.cover.tolist() == [[1, 0.75, 0]]


def test_cells_that_are_no_multiple_of_the_pixels_hold_more_or_fewer_of_them(tmp_path: Path) -> None:
    layer = write_polygons(
        tmp_path / "a.gpkg", [shapely.box(0, 0, 30, 100), shapely.box(30, 0, 100, 100)], ["wood", "field"]
    )
    fractions = read_fractions(layer, like=grid(1, 2, 46, top=46), legend=LEGEND, count_m=10)
    assert fractions.shares[0, 0].tolist() == [
        0.6,
        0,
    ]  # of five columns three are wood; the second cell holds four
    assert fractions.cover.tolist() == [[1, 1]]


def test_finer_pixels_come_nearer_to_exact_shares(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    tiles = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(random.uniform(0, 2000, (80, 2)))))
    moved = shapely.transform(tiles, lambda xy: xy + np.array([3_200_000, 1_700_000]))
    codes = list(random.choice(["wood", "field"], len(moved)))
    layer = write_polygons(tmp_path / "a.gpkg", list(moved), codes)
    x, y = pyproj.Transformer.from_crs("EPSG:3035", SINUSOIDAL, always_xy=True).transform(
        3_201_000, 1_701_000
    )
    modis = GeoBox((3, 3), Affine(MODIS_M, 0, x - 1.5 * MODIS_M, 0, -MODIS_M, y + 1.5 * MODIS_M), SINUSOIDAL)
    exact = read_fractions(layer, like=modis, legend=LEGEND).shares
    off = [
        np.abs(read_fractions(layer, like=modis, legend=LEGEND, count_m=side).shares - exact).max()
        for side in (40, 10, 2)
    ]
    assert off[0] > off[1] > off[2]
    assert off[1] < 0.02
    assert off[2] < 0.002


def test_a_raster_is_counted_by_its_pixels_and_split_codes_are_shared_out(tmp_path: Path) -> None:
    write_map(tmp_path / "m.tif", np.array([[1, 7], [7, 0]], np.uint8), grid(2, 2), legend=LEGEND)
    fractions = read_fractions(tmp_path / "m.tif", like=grid(1, 2, 20, left=0), legend=LEGEND, count_m=10)
    assert fractions.cover.tolist() == [[0.75, 0]]
    assert fractions.shares[:, 0, 0] == pytest.approx([1 / 3, 2 / 3])
    crosswalk = Crosswalk(
        "mine", LEGEND, (CrosswalkRow("mixed", "wood", 0.25), CrosswalkRow("mixed", "field", 0.75))
    )
    layer = write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 10, 10)], ["mixed"])
    mixed = read_fractions(layer, like=grid(1, 1), legend=LEGEND, crosswalk=crosswalk, count_m=2)
    assert mixed.shares[:, 0, 0].tolist() == [0.25, 0.75]


def test_counting_does_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    tiles = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(random.uniform(0, 400, (60, 2)))))
    placed = shapely.transform(tiles, lambda xy: xy + np.array([400_000, 4_100_000]))
    layer = write_polygons(
        tmp_path / "a.gpkg", list(placed), list(random.choice(["wood", "field"], 60)), crs="EPSG:25830"
    )
    x, y = pyproj.Transformer.from_crs("EPSG:25830", SINUSOIDAL, always_xy=True).transform(400_100, 4_100_300)
    box = GeoBox((20, 21), Affine.translation(x, y) * Affine.rotation(10) * Affine.scale(10, -10), SINUSOIDAL)
    whole = read_fractions(layer, like=box, legend=LEGEND, count_m=2)
    monkeypatch.setattr("tesela.labels.fractions._BLOCK_CELLS", 8)
    parts = read_fractions(layer, like=box, legend=LEGEND, count_m=2)
    np.testing.assert_array_equal(parts.shares, whole.shares)


def test_what_cannot_be_counted_is_reported(tmp_path: Path) -> None:
    layer = write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 10, 10)], ["wood"])
    with pytest.raises(GridError, match="contain no centre of a pixel of 50 m"):
        read_fractions(layer, like=grid(1, 1), legend=LEGEND, count_m=50)
    with pytest.raises(InputError, match="Pixels of 0 m cannot be counted"):
        read_fractions(layer, like=grid(1, 1), legend=LEGEND, count_m=0)
    with pytest.raises(InputError, match=r"pixels of 0\.001 m, too many to count"):
        read_fractions(layer, like=grid(1, 1), legend=LEGEND, count_m=0.001)
    with pytest.raises(GridError, match="do not overlap"):
        read_fractions(layer, like=grid(1, 1, left=5000), legend=LEGEND, count_m=1)
    degrees = write_polygons(tmp_path / "d.gpkg", [shapely.box(0, 40, 1, 41)], ["wood"], crs="EPSG:4326")
    box = GeoBox((2, 2), Affine(0.1, 0, 0.2, 0, -0.1, 40.8), "EPSG:4326")
    with pytest.raises(GridError, match="neither it nor the cells are in metres"):
        read_fractions(degrees, like=box, legend=LEGEND, count_m=10)
    metres = GeoBox((2, 2), Affine(100, 0, 250_000, 0, -100, 4_500_000), "EPSG:32631")
    assert read_fractions(degrees, like=metres, legend=LEGEND, count_m=10).cover.min() == 1


def test_the_command_counts_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = write_polygons(
        tmp_path / "a.gpkg", [shapely.box(0, 0, 4, 10), shapely.box(4, 0, 20, 10)], ["121", "311"]
    )
    write_map(tmp_path / "like.tif", np.ones((1, 2), np.uint8), grid(1, 2), legend=LEGEND)
    given = ["label", str(layer), "--like", str(tmp_path / "like.tif"), "--legend", "corine-1"]
    out = ["-o", str(tmp_path / "f.tif")]
    assert main([*given, "--fractions", "--count", "5 m", *out]) == 0
    assert open_abundance(tmp_path / "f.tif").read()[0, 0].tolist() == [0.5, 0]
    assert main([*given, "--fractions", *out]) == 0
    assert open_abundance(tmp_path / "f.tif").read()[0, 0].tolist() == pytest.approx([0.4, 0])
    assert main([*given, "--count", "5 m", *out]) == 1
    assert "give --fractions too" in capsys.readouterr().err


@pytest.mark.real
@needs_lanjaron
def test_corine_of_lanjaron_on_the_modis_grid_sums_to_one_and_meets_its_raster() -> None:
    legend = open_legend("corine-2")
    left = -20015109.3558 + MODIS_M * 42_523
    top = 10007554.6779 - MODIS_M * 12_709
    box = GeoBox((42, 28), Affine(MODIS_M, 0, left, 0, -MODIS_M, top), SINUSOIDAL)
    vector = read_fractions(
        LANJARON / "clc2018_lanjaron.gpkg", like=box, legend=legend, layer="clc", field="CODE_18"
    )
    raster = read_fractions(LANJARON / "clc2018_25m.tif", like=box, legend=legend)
    full = (vector.cover > 0.9999) & (raster.cover > 0.9999)
    assert full.sum() > 900
    assert vector.cover[full].max() < 1 + 1e-9
    assert vector.shares[:, full].sum(axis=0) == pytest.approx(1, abs=1e-12)
    assert np.abs(vector.shares - raster.shares)[:, full].mean() < 0.001
    assert isinstance(vector, Fractions)
