"""Scenes: opened with names and units, read by window on any grid, and bad files told in one line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from tesela.core import GridError, InputError, Scene
from tesela.core.grid import pixel_offset, window_grid, windows
from tesela.io import SceneReader, open_scene
from tesela.io.raster import grid_of, open_dataset

LEFT, TOP = 500_000.0, 4_100_000.0
NAN = float("nan")
NINE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def grid(
    rows: int = 3,
    cols: int = 3,
    *,
    side: float = 10,
    at: tuple[float, float] = (0, 0),
    crs: str = "EPSG:25830",
) -> GeoBox:
    """Grid whose corner lies `at` metres right of and below the origin."""
    return GeoBox((rows, cols), Affine(side, 0, LEFT + at[0], 0, -side, TOP - at[1]), crs)


def write(
    path: Path,
    values: object,
    *,
    dtype: str = "float32",
    nodata: float | None = None,
    side: float = 10,
    crs: str | None = "EPSG:25830",
    names: Sequence[str] = (),
    scale: float = 1.0,
    offset: float = 0.0,
) -> Path:
    numbers = np.asarray(values, dtype)
    numbers = numbers if numbers.ndim == 3 else numbers[None]
    count, rows, cols = numbers.shape
    profile = {"driver": "GTiff", "count": count, "dtype": dtype, "crs": crs, "nodata": nodata}
    transform = grid(rows, cols, side=side).affine
    with rasterio.open(path, "w", height=rows, width=cols, transform=transform, **profile) as data:
        data.write(numbers)
        if names:
            data.descriptions = tuple(names)
        if (scale, offset) != (1, 0):
            data.scales, data.offsets = (scale,) * count, (offset,) * count
    return path


def read(scene: Scene, where: GeoBox | None = None) -> np.ndarray:
    with SceneReader(scene) as reader:
        return reader.read(scene.grid if where is None else where)


def test_a_scene_is_read_as_it_is_on_its_own_pixels(tmp_path: Path) -> None:
    pixels = read(open_scene(write(tmp_path / "a.tif", NINE, dtype="uint8")))
    assert pixels.dtype == np.float32
    assert pixels.tolist() == [NINE]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "uint32", "int32", "float32", "float64"]
)
def test_every_type_of_number_is_read(tmp_path: Path, dtype: str) -> None:
    assert read(open_scene(write(tmp_path / "a.tif", NINE, dtype=dtype))).tolist() == [NINE]


def test_windows_past_the_edge_have_no_data_there(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", NINE, dtype="uint8"))
    pixels = read(scene, window_grid(scene.grid, -1, 2, 3, 3))[0]
    np.testing.assert_array_equal(pixels, [[NAN, NAN, NAN], [3, NAN, NAN], [6, NAN, NAN]])
    assert np.isnan(read(scene, window_grid(scene.grid, 50, 50, 2, 2))).all()
    far = GeoBox((2, 2), Affine(10, 0, 900_000, 0, -10, 1_000_000), "EPSG:25829")
    assert np.isnan(read(scene, far)).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), cols=st.integers(1, 40), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_windows_cover_every_pixel_once(tmp_path: Path, rows: int, cols: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, rows, cols)).astype(np.float32)
    scene = open_scene(write(tmp_path / "a.tif", values))
    joined = np.zeros_like(values)
    times = np.zeros((rows, cols), int)
    with SceneReader(scene) as reader:
        for row, col, window in windows(scene.grid, size):
            place = np.s_[row : row + window.shape[0], col : col + window.shape[1]]
            joined[:, *place] = reader.read(window)
            times[place] += 1
            assert pixel_offset(scene.grid, window) == (row, col)
    assert (times == 1).all()
    np.testing.assert_array_equal(joined, values)


def test_scale_and_offset_come_from_the_file_or_the_caller(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [[0, 10_000]], dtype="uint16", scale=1e-4, offset=-0.1)
    assert read(open_scene(path))[0, 0].tolist() == pytest.approx([-0.1, 0.9])
    assert read(open_scene(path, scale=1e-3))[0, 0].tolist() == pytest.approx([-0.1, 9.9])
    assert read(open_scene(path, scale=1, offset=0))[0, 0].tolist() == [0, 10_000]
    for scale in (0, NAN):
        with pytest.raises(InputError, match="it is a number other than 0"):
            open_scene(path, scale=scale)
    with pytest.raises(InputError, match="The offset is inf"):
        open_scene(path, offset=float("inf"))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 255), ("int16", -9999), ("uint32", 4294967295), ("float32", NAN), ("float32", -3.4e38)],
)
def test_declared_nodata_becomes_nan_and_is_not_scaled(tmp_path: Path, dtype: str, nodata: float) -> None:
    path = write(tmp_path / "a.tif", [[1, nodata, 3]], dtype=dtype, nodata=nodata, scale=2)
    np.testing.assert_array_equal(read(open_scene(path))[0], [[2, NAN, 6]])


def test_the_caller_may_say_what_nodata_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [[0, 1, 2]], dtype="uint8", nodata=2)
    np.testing.assert_array_equal(read(open_scene(path, nodata=0))[0], [[NAN, 1, 2]])


@pytest.mark.parametrize("nodata", [-9999, 256, 0.5, NAN, float("inf")])
def test_a_nodata_value_that_the_type_cannot_hold_masks_nothing(tmp_path: Path, nodata: float) -> None:
    # -9999 would wrap round to 241 in a byte
    scene = open_scene(write(tmp_path / "a.tif", [[0, 241, 255]], dtype="uint8"), nodata=nodata)
    assert read(scene)[0].tolist() == [[0, 241, 255]]
    assert not np.isnan(read(scene, grid(2, 2, side=5, at=(12, 2)))).any()


def test_a_mask_beside_the_bands_is_honoured(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [NINE, NINE], dtype="uint8")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as data:
        data.write_mask(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool))
    pixels = read(open_scene(path))
    assert np.isnan(pixels[:, 1, 1]).all()
    assert np.isfinite(pixels).sum() == 16
    shrunk = read(open_scene(path), grid(6, 6, side=5))
    assert np.isnan(shrunk[0, 2:4, 2:4]).all()
    assert np.isfinite(shrunk[0, 0]).all()


@pytest.mark.parametrize("side", [2, 5])
def test_a_mask_of_another_size_is_named(tmp_path: Path, side: int) -> None:
    path = write(tmp_path / "a.tif", [NINE, NINE], dtype="uint8")
    other = write(tmp_path / "b.tif", np.ones((2, side, side)), dtype="uint8")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(other, "r+") as data:
        data.write_mask(np.ones((side, side), bool))
    (tmp_path / "b.tif.msk").rename(tmp_path / "a.tif.msk")
    for size in (3, 6):
        with pytest.raises(
            InputError, match=rf"a\.tif\.msk: the mask has {side} x {side} pixels, but .* 3 x 3: it"
        ):
            read(open_scene(path), grid(size, size, side=30 / size))


def test_where_alpha_is_nought_there_is_no_data(tmp_path: Path) -> None:
    values = np.array([NINE, [[255, 0, 255]] * 3], np.uint8)
    path = write(tmp_path / "a.tif", values, dtype="uint8")
    with rasterio.open(path, "r+") as data:
        data.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    scene = open_scene(path).select(["band1"])
    np.testing.assert_array_equal(read(scene)[0], [[1, NAN, 3], [4, NAN, 6], [7, NAN, 9]])
    assert np.isnan(read(scene, grid(3, 1, at=(11, 1)))).all()
    assert np.isfinite(read(scene, grid(2, 1, at=(1, 1)))).all()


@pytest.mark.parametrize("strange", [NAN, float("inf"), -float("inf")])
def test_undeclared_nan_and_infinity_are_told_or_taken_as_nodata(tmp_path: Path, strange: float) -> None:
    path = write(tmp_path / "a.tif", [[1, strange, 3]], names=["red"])
    with pytest.raises(InputError, match=r"Band 'red' of .*a\.tif holds -?(nan|inf) \(1 px.*--invalid"):
        read(open_scene(path))
    pixels = read(open_scene(path, invalid="nodata"))
    np.testing.assert_array_equal(pixels[0], [[1, NAN, 3]])
    with pytest.raises(InputError, match="invalid is 'ignore'; it is 'error' or 'nodata'"):
        open_scene(path, invalid="ignore")


def test_infinity_is_told_even_where_nan_is_nodata(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [[1, NAN, np.inf]], nodata=NAN)
    with pytest.raises(InputError, match="holds inf"):
        read(open_scene(path))


def test_between_pixels_images_are_interpolated(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(8.0) * 10, (8, 1))
    scene = open_scene(write(tmp_path / "a.tif", ramp))
    np.testing.assert_allclose(read(scene, grid(4, 4, at=(25, 25)))[0], [[25, 35, 45, 55]] * 4, atol=0.01)


def test_larger_pixels_are_means_of_those_within(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", np.arange(16.0).reshape(4, 4)))
    np.testing.assert_allclose(read(scene, grid(2, 2, side=20))[0], [[2.5, 4.5], [10.5, 12.5]])


def test_means_leave_out_what_has_no_data(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", [[1, -1, -1, -1], [3, -1, -1, -1]], nodata=-1))
    np.testing.assert_allclose(read(scene, grid(1, 2, side=20))[0], [[2, NAN]])


def test_another_crs_shows_the_same_ground(tmp_path: Path) -> None:
    cols, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
    scene = open_scene(write(tmp_path / "a.tif", [LEFT + 10 * cols - 5e5, TOP - 10 * rows - 4.1e6]))
    there = GeoBox((20, 20), Affine(10, 0, 1_034_700, 0, -10, 4_115_900), "EPSG:25829")
    pixels = read(scene, there)
    x, y = there.affine * (np.meshgrid(np.arange(20) + 0.5, np.arange(20) + 0.5))
    x, y = pyproj.Transformer.from_crs(25829, 25830, always_xy=True).transform(x, y)
    np.testing.assert_allclose(pixels[0], x - 5e5, atol=0.15)  # of 10 m: 0.015 px
    np.testing.assert_allclose(pixels[1], y - 4.1e6, atol=0.15)


def test_northing_first_crs_are_read_east_then_north(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", NINE, crs="EPSG:3042")  # ETRS89 UTM 30 with axes N, E
    assert read(open_scene(path), grid(crs="EPSG:25830")).tolist() == [NINE]


def test_several_files_are_one_scene_on_the_finest_grid(tmp_path: Path) -> None:
    red = write(tmp_path / "red.tif", np.arange(16).reshape(4, 4))
    swir = write(tmp_path / "swir.tif", [[10, 20], [30, 40]], side=20)
    for source in ([red, swir], f"{swir}, {red}"):
        scene = open_scene(source).select(["red", "swir"])
        assert scene.grid == grid(4, 4)
        pixels = read(scene)
        assert pixels[0].tolist() == np.arange(16).reshape(4, 4).tolist()
        assert pixels[1, 0, 0] == 10
        assert 10 < pixels[1, 1, 1] < 40
    assert open_scene([red, swir]).name == "red"


def test_bands_are_named_by_the_caller_the_file_or_their_number(tmp_path: Path) -> None:
    named = write(tmp_path / "n.tif", [NINE, NINE], names=["B04", "B08"])
    plain = write(tmp_path / "p.tif", [NINE, NINE])
    alone = write(tmp_path / "dem.tif", NINE)
    assert open_scene(named).band_names == ("B04", "B08")
    assert open_scene(plain).band_names == ("band1", "band2")
    assert open_scene([named, alone]).band_names == ("B04", "B08", "dem")
    assert open_scene(named, bands=["red", "nir"]).band_names == ("red", "nir")
    with pytest.raises(InputError, match=r"n\.tif has 2 bands, but 1 names were given \(red\)"):
        open_scene(named, bands=["red"])
    with pytest.raises(InputError, match="band name red occurs more than once"):
        open_scene(named, bands=["red", "red"])
    with pytest.raises(InputError, match=r"at several dates, give the date of each file \(dates = "):
        open_scene([named, named])


def test_bands_asked_for_in_another_order_come_in_that_order(tmp_path: Path) -> None:
    scene = open_scene(
        write(tmp_path / "a.tif", np.arange(3)[:, None, None] * np.ones((1, 2, 2)), names="rgb")
    )
    assert read(scene.select(["b", "r"]))[:, 0, 0].tolist() == [2, 0]


def test_a_missing_crs_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        GridError, match=r"a\.tif: has no coordinate system\. Assign the right one \(gdal_edit"
    ):
        open_scene(write(tmp_path / "a.tif", NINE, crs=None))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_missing_geotransform_says_what_to_do(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:25830", "height": 3, "width": 3}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as data:
        data.write(np.array([NINE], np.uint8))
    with pytest.raises(GridError, match=r"a\.tif: has no geotransform\. Georeference it"):
        open_scene(tmp_path / "a.tif")


def test_two_crs_in_one_scene_are_an_error(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.tif", NINE), write(tmp_path / "b.tif", NINE, crs="EPSG:25829")]
    with pytest.raises(
        GridError, match=r"two coordinate systems \(EPSG:25829, EPSG:25830\): a\.tif, b\.tif\. Warp"
    ):
        open_scene(paths)


def test_files_of_two_places_are_no_scene(tmp_path: Path) -> None:
    here = write(tmp_path / "a.tif", NINE)
    there = tmp_path / "b.tif"
    with rasterio.open(here) as data:
        profile = data.profile | {"transform": grid(at=(500, 0)).affine}
    with rasterio.open(there, "w", **profile) as data:
        data.write(np.array([NINE], np.float32))
    with pytest.raises(GridError, match=r"b\.tif does not cover the area of a\.tif"):
        open_scene([here, there])


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.tif: no such file"):
        open_scene(tmp_path / "gone.tif")
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(InputError, match=r"text\.tif: not a raster that GDAL can read"):
        open_scene(tmp_path / "text.tif")
    (tmp_path / "towns.gpkg").write_text("hello")
    with pytest.raises(InputError, match=r"towns\.gpkg: not a raster .* are the arguments in their order\?"):
        open_scene(tmp_path / "towns.gpkg")
    with pytest.raises(InputError, match="at least one file"):
        open_scene([])
    with pytest.raises(InputError, match="at least one file"):
        open_scene(" , ")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.zip", r"Name the raster in it \(/vsizip/.*a\.zip/NAME\.tif\), or unpack it"),
        ("a.tar.gz", r"Name the raster in it \(/vsitar/"),
        ("a.tif.gz", r"Unpack it, or give /vsigzip/"),
    ],
)
def test_an_archive_in_place_of_a_raster_gets_its_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=remedy):
        open_dataset(tmp_path / name)
    with pytest.raises(InputError, match="It is a folder: name a raster in it"):
        open_dataset(tmp_path)


def test_a_truncated_file_is_told_when_the_lost_part_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (512, 512))
    path = write(tmp_path / "a.tif", values, dtype="uint8")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    scene = open_scene(path)
    assert read(scene, window_grid(scene.grid, 0, 0, 8, 8)).shape == (1, 8, 8)
    with pytest.raises(InputError, match=r"a\.tif: a window cannot be read, the file is broken or truncated"):
        read(scene, window_grid(scene.grid, 500, 0, 8, 8))
    with pytest.raises(InputError, match=r"a\.tif: a window cannot be read, the file is broken or truncated"):
        read(scene, grid(8, 8, side=7, at=(0, 5000)))


def test_files_are_closed_when_the_block_ends(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", NINE))
    with SceneReader(scene) as reader:
        pass
    with pytest.raises(InputError, match="cannot be read"):
        reader.read(scene.grid)


def test_grids_are_the_same_within_a_thousandth_of_a_pixel() -> None:
    base = grid(100, 100)
    assert pixel_offset(base, grid(10, 10, at=(30, 50))) == (5, 3)
    assert pixel_offset(base, grid(10, 10, at=(30.005, 50))) == (5, 3)
    assert pixel_offset(base, grid(10, 10, at=(30.05, 50))) is None
    assert pixel_offset(base, grid(10, 10, side=10.01)) is None
    assert pixel_offset(base, grid(10, 10, crs="EPSG:25829")) is None
    assert pixel_offset(base, window_grid(base, -7, 12, 3, 3)) == (-7, 12)


@pytest.mark.real
def test_real_reflectance_is_that_of_its_readme(lanjaron: Path) -> None:
    scene = open_scene(lanjaron / "l8_b2b7_30m.tif", scale=2.75e-5, offset=-0.2)
    assert scene.band_names == ("B2", "B3", "B4", "B5", "B6", "B7")
    pixels = read(scene)
    assert not np.isnan(pixels).any()
    assert pixels.mean(axis=(1, 2)).tolist() == pytest.approx([0.11, 0.11, 0.11, 0.27, 0.16, 0.08], abs=0.006)
    with open_dataset(lanjaron / "dem_25m.tif") as data:
        assert grid_of(data).crs.epsg == 3042
    height = read(open_scene(lanjaron / "dem_25m.tif"), scene.grid)
    known = height[np.isfinite(height)]
    assert known.size > 0.99 * height.size
    assert 230.5 <= known.min() < 300
    assert 3000 < known.max() <= 3170.5
    snow = pixels[0] > 0.4
    assert height[0][snow].mean() > 2500
