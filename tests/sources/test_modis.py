"""Cubes from MOD09A1 and MYD09A1: bits, months, satellites, grids and names."""

import datetime
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy.io import netcdf_file

from modis_composites import CLEAR, GRID, bytes_of, write_composite, write_varied
from tesela.cli import main
from tesela.core.errors import GridError, InputError, RecipeError
from tesela.core.grid import window_grid
from tesela.io.cube import Cube
from tesela.io.images import write_bands
from tesela.io.sinusoidal import SINUSOIDAL, TILE_M, modis_grid, modis_tile
from tesela.sources.ancillary import Ancillary, place_layers
from tesela.sources.modis.cube import write_modis_cube
from tesela.sources.modis.files import BANDS, LAYERS, find_composites
from tesela.sources.modis.months import Work, bytes_per_cell, make_block
from tesela.sources.modis.quality import QualityRule, band_quality, parse_rule, usable, usable_state


def build(folder: Path, **options: object) -> Cube:
    return write_modis_cube([folder], folder / "cube.zarr", **options)  # type: ignore[arg-type]


# --- bits, held against the tables of the product's guide


@given(qualities=st.lists(st.integers(0, 15), min_size=7, max_size=7), modland=st.integers(0, 3))
def test_each_band_has_four_bits_of_its_own(qualities: list[int], modland: int) -> None:
    word = modland
    for band, quality in enumerate(qualities):
        word |= quality << (2 + 4 * band)
    word |= 0b11 << 30  # both corrections done
    read = [int(band_quality(np.array([word], np.uint32), band)[0]) for band in range(1, 8)]
    assert read == qualities
    values = np.full((7, 1), 500, np.int16)
    good = usable(values, np.array([word], np.uint32), np.array([CLEAR["state"]], np.uint16), QualityRule())
    assert good[:, 0].tolist() == [modland <= 1 and quality == 0 for quality in qualities]


@pytest.mark.parametrize(
    ("bits", "good"),
    [
        (0b00, True),  # clear
        (0b01, False),  # cloudy
        (0b10, False),  # mixed
        (0b11, True),  # not set, assumed clear
        (1 << 2, False),  # shadow
        (0b101 << 3, True),  # deep inland water
        (0b11 << 6, False),  # high aerosol
        (0b10 << 6, True),  # average aerosol
        (0b01 << 8, True),  # small cirrus
        (0b10 << 8, False),  # average cirrus
        (1 << 10, False),  # internal cloud
        (1 << 11, True),  # fire
        (1 << 12, True),  # snow
        (1 << 13, True),  # beside a cloud
        (1 << 14, True),  # salt pan since collection 6
        (1 << 15, True),  # internal snow
        (65_535, False),  # fill
    ],
)
def test_the_state_bits_mean_what_the_guide_states(bits: int, good: bool) -> None:
    assert bool(usable_state(np.array([bits], np.uint16), QualityRule())[0]) is good


def test_snow_and_pixels_beside_clouds_can_be_refused() -> None:
    rule = QualityRule(snow=False, beside_cloud=False)
    for bits in (1 << 12, 1 << 13, 1 << 15):
        assert not usable_state(np.array([bits], np.uint16), rule)[0]
    assert usable_state(np.array([1 << 14], np.uint16), rule)[0]


@pytest.mark.parametrize(
    ("number", "good"), [(-28_672, False), (-101, False), (-100, True), (16_000, True), (16_001, False)]
)
def test_numbers_outside_the_valid_range_are_gaps(number: int, good: bool) -> None:
    values = np.full((7, 1), number, np.int16)
    usable_px = usable(values, np.zeros(1, np.uint32), np.full(1, CLEAR["state"], np.uint16), QualityRule())
    assert usable_px.all() == good


# --- the grid


def test_the_tile_of_granada_is_where_the_product_has_it() -> None:
    grid = modis_tile(17, 5)
    assert grid.resolution.x == pytest.approx(463.3127165694, abs=1e-9)
    assert round(TILE_M, 6) == 1_111_950.519767
    assert grid.affine.f == pytest.approx(10_007_554.6779 - 5 * TILE_M, abs=1e-3)
    longitude, latitude = place_layers(window_grid(grid, 0, 0, 1, 1))
    assert latitude[0, 0] == pytest.approx(40.0, abs=0.01)
    covering = modis_grid(GeoBox((10, 10), Affine(0.1, 0, -5, 0, -0.1, 38), "EPSG:4326"))
    step = ~grid.affine @ (covering.affine.c, covering.affine.f)
    assert [abs(part - round(part)) < 1e-6 for part in step] == [True, True]
    del longitude


# --- months and satellites, by hand


def test_a_month_without_composites_between_others_is_an_error_that_names_it(tmp_path: Path) -> None:
    for day in ("2013001", "2013040", "2013100", "2013130"):
        write_composite(tmp_path, day=day)
    for climatology in (False, True):
        with pytest.raises(InputError, match=r"no composite of 2013-03, but .*files are missing"):
            build(tmp_path, climatology=climatology)
    assert build(tmp_path, months=("2013-04", "2013-05")).times == ("2013-04", "2013-05")


def test_a_month_is_the_mean_of_the_means_of_both_satellites(tmp_path: Path) -> None:
    write_composite(tmp_path, "MOD", "2013001", value=1000)
    write_composite(tmp_path, "MOD", "2013009", value=2000)
    write_composite(tmp_path, "MYD", "2013001", value=4000)
    cube = build(tmp_path)
    assert cube.times == ("2013-01",)
    assert cube.bands == BANDS
    assert cube.grid == GRID
    assert cube.read()[0, 0] == pytest.approx((1500 + 4000) / 2 / 10_000)
    assert cube.read()[0, 6] == pytest.approx((1560 + 4060) / 2 / 10_000)
    assert (cube.read_counts() == 3).all()
    pooled = write_modis_cube([tmp_path], tmp_path / "pooled.zarr", merge="observations")
    assert pooled.read()[0, 0] == pytest.approx(7000 / 3 / 10_000)


def test_an_observation_counts_in_the_month_of_its_own_day(tmp_path: Path) -> None:
    seen = np.full(GRID.shape, 30)
    seen[0, 0] = 32  # the first of February, though the composite begins on 25 January
    seen[0, 1] = 0
    write_composite(tmp_path, "MOD", "2013025", value=1000, seen=seen)
    cube = build(tmp_path, months=("2013-01", "2013-02"))
    values = cube.read()[:, 0]
    assert np.isnan(values[:, 0, 1]).all()
    assert np.isnan(values[0, 0, 0])
    assert values[1, 0, 0] == pytest.approx(0.1)
    assert np.isnan(values[1]).sum() == values[1].size - 1
    assert cube.read_counts().sum() == 7 * (values[0].size - 1)


def test_a_composite_over_new_year_fills_both_years(tmp_path: Path) -> None:
    seen = np.full(GRID.shape, 361)
    seen[1] = 2
    write_composite(tmp_path, "MYD", "2012361", seen=seen)
    cube = build(tmp_path, months=("2012-12", "2013-01"))
    values = cube.read()[:, 0]
    assert np.isnan(values[0, 1]).all()
    assert np.isfinite(values[1, 1]).all()
    assert np.isnan(values[1, 2]).all()


def test_equal_months_of_several_years_are_averaged_year_by_year(tmp_path: Path) -> None:
    write_composite(tmp_path, "MOD", "2012001", value=1000)
    write_composite(tmp_path, "MOD", "2012009", value=1000)
    write_composite(tmp_path, "MOD", "2013001", value=4000)
    cube = build(tmp_path, climatology=True)
    assert cube.times == tuple(f"{month:02d}" for month in range(1, 13))
    assert cube.read()[0, 0] == pytest.approx(0.25)
    assert (cube.read_counts()[0] == 3).all()
    assert np.isnan(cube.read()[1:]).all()


def test_bad_observations_leave_gaps_band_by_band(tmp_path: Path) -> None:
    state = np.full(GRID.shape, CLEAR["state"])
    state[2, 2] = 0b01
    qc = np.zeros(GRID.shape, np.uint32)
    qc[3, 3] = 0b1000 << 22  # band 6: dead detector
    write_composite(tmp_path, state=state, qc=qc)
    values = build(tmp_path).read()[0]
    assert np.isnan(values[:, 2, 2]).all()
    assert np.isnan(values[:, 3, 3]).tolist() == [False] * 5 + [True, False]
    assert np.isnan(values).sum() == 8


# --- grids, blocks and resuming


def test_other_grids_take_the_nearest_pixel_and_larger_cells_the_mean(tmp_path: Path) -> None:
    value = np.arange(30).reshape(1, *GRID.shape) * 100
    write_composite(tmp_path, value=value)
    half = GeoBox((3, 2), GRID.affine @ Affine.scale(2), GRID.crs)
    cube = build(tmp_path, grid=half)
    np.testing.assert_allclose(
        cube.read()[0, 0], value[0, :6, :4].reshape(3, 2, 2, 2).mean(axis=(1, 3)) / 10_000, atol=1e-7
    )
    degrees = GeoBox(
        (4, 4),
        Affine(0.004, 0, place_layers(GRID)[0][1, 1], 0, -0.004, place_layers(GRID)[1][1, 1]),
        "EPSG:4326",
    )
    near = write_modis_cube([tmp_path], tmp_path / "near.zarr", grid=degrees).read()[0, 0]
    assert set(np.round(near[np.isfinite(near)] * 10_000)) <= set(value.ravel().tolist())


def test_the_cube_does_not_depend_on_the_blocks_nor_on_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_varied(tmp_path)
    whole = build(tmp_path)
    made = []

    def stop(done: int, of: int) -> None:
        made.append((done, of))
        if done == 3:
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        write_modis_cube([tmp_path], tmp_path / "b.zarr", memory_bytes=1, progress=stop)
    assert not (tmp_path / "b.zarr").exists()
    again: list[tuple[int, int]] = []
    cube = write_modis_cube(
        [tmp_path], tmp_path / "b.zarr", memory_bytes=1, progress=lambda done, of: again.append((done, of))
    )
    assert made[-1] == (3, 12)
    assert again[0] == (3, 12)
    assert again[-1] == (12, 12)
    assert bytes_of(Path(cube.path)) == bytes_of(Path(whole.path))
    assert not list(tmp_path.glob(".b.zarr*"))


# --- layers


def test_layers_come_with_the_cube_in_order(tmp_path: Path) -> None:
    write_composite(tmp_path)
    fine = GeoBox((60, 50), GRID.affine @ Affine.scale(0.1), GRID.crs)
    height = np.broadcast_to(np.arange(50, dtype=np.float32) * fine.resolution.x, (1, 60, 50))
    write_bands(tmp_path / "dem.tif", np.ascontiguousarray(height), fine, names=("z",))
    write_bands(tmp_path / "rain.tif", np.full((1, 60, 50), 600, np.float32), fine, names=("p",))
    ancillary = Ancillary(dem=tmp_path / "dem.tif", rasters={"precipitation": tmp_path / "rain.tif"})
    cube = build(tmp_path, ancillary=ancillary)
    assert cube.layers == ("longitude", "latitude", "altitude", "slope", "precipitation")
    layers = cube.read_layers()
    assert layers[3, 2, 2] == pytest.approx(45, abs=1e-3)
    assert layers[2, 2, 2] == pytest.approx(24.5 * fine.resolution.x, rel=1e-4)
    assert layers[4] == pytest.approx(600)
    far = Ancillary(place=False, rasters={"rain": tmp_path / "far.tif"})
    shifted = GeoBox((5, 5), Affine(100, 0, 400_000, 0, -100, 6_000_000), "EPSG:25830")
    write_bands(tmp_path / "far.tif", np.zeros((1, 5, 5), np.float32), shifted, names=("p",))
    with pytest.raises(GridError, match=r"far\.tif: does not reach the grid"):
        write_modis_cube([tmp_path], tmp_path / "far.zarr", ancillary=far)
    with pytest.raises(InputError, match="layer altitude is given twice"):
        Ancillary(dem="dem.tif", rasters={"altitude": "other.tif"})


def test_a_layer_need_not_reach_every_block(tmp_path: Path) -> None:
    tall = window_grid(modis_tile(17, 5), 1200, 2000, 40, 5)
    write_composite(tmp_path, grid=tall)
    north = np.full((1, 8, 5), 600, np.float32)
    write_bands(tmp_path / "rain.tif", north, window_grid(tall, 0, 0, 8, 5), names=("p",))
    ancillary = Ancillary(place=False, rasters={"rain": tmp_path / "rain.tif"})
    layer = build(tmp_path, ancillary=ancillary, memory_bytes=1).read_layers()[0]  # three blocks of 16 rows
    assert layer[:8] == pytest.approx(600)
    assert np.isnan(layer[9:]).all()


# --- names


def test_three_layouts_of_names_are_supported(tmp_path: Path) -> None:
    write_composite(tmp_path / "one", "MOD", "2013001")
    names = [*LAYERS[:7], "QA", "StateQA", "DayOfYear"]
    values = np.stack([np.full(GRID.shape, 1000.0)] * 7 + [np.full(GRID.shape, v) for v in (0.0, 72.0, 12.0)])
    write_bands(tmp_path / "MYD09A1_2013_01_09.tif", values, GRID, names=names)
    for layer in LAYERS:
        (tmp_path / f"MOD09A1.061_{layer}_doy2013017_aid0001.tif").touch()
    composites = find_composites([tmp_path])
    assert [(item.satellite, item.start, item.tile) for item in composites] == [
        ("MOD", datetime.date(2013, 1, 1), "h17v05"),
        ("MYD", datetime.date(2013, 1, 9), ""),
        ("MOD", datetime.date(2013, 1, 17), ""),
    ]
    assert composites[1].layers["sur_refl_qc_500m"].band == 8
    cube = write_modis_cube(
        [tmp_path / "one", tmp_path / "MYD09A1_2013_01_09.tif"], tmp_path / "c.zarr", grid=GRID
    )
    assert cube.read()[0, 0] == pytest.approx(0.1)
    assert (cube.read_counts() == 2).all()


def test_layers_are_read_from_subdatasets_as_in_hdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hdf"
    folder.mkdir()
    rows, cols = GRID.shape
    a = GRID.affine
    with netcdf_file(
        folder / "MOD09A1.A2013001.h17v05.061.hdf", "w"
    ) as file:  # a container that GDAL reads here
        file.createDimension("y", rows)
        file.createDimension("x", cols)
        file.createVariable("x", "d", ("x",))[:] = a.c + a.a * (np.arange(cols) + 0.5)
        file.createVariable("y", "d", ("y",))[:] = a.f + a.e * (np.arange(rows) + 0.5)
        crs = file.createVariable("crs", "i", ())
        crs.spatial_ref = GRID.crs.to_wkt(version="WKT1_GDAL").encode()
        crs.GeoTransform = f"{a.c} {a.a} 0 {a.f} 0 {a.e}".encode()
        for number, layer in enumerate(LAYERS):
            content = file.createVariable(layer, "d", ("y", "x"))
            content.grid_mapping = b"crs"
            content[:] = {7: 0, 8: CLEAR["state"], 9: 3}.get(number, 1000 + 10 * number)
    monkeypatch.chdir(tmp_path)
    composites = find_composites(["hdf"])
    assert set(composites[0].layers) == set(LAYERS)
    assert str(tmp_path) in composites[0].layers["sur_refl_b01"].address  # workers are elsewhere
    cube = write_modis_cube(["hdf"], tmp_path / "c.zarr", grid=GRID)
    assert cube.read()[0, 6] == pytest.approx(0.106)


def test_addresses_are_sorted_without_being_opened() -> None:
    base = "https://example.test/a/MYD09A1.A2022105.h17v05.061.2022117_"
    composites = find_composites([f"{base}{layer}.tif?sig=x" for layer in LAYERS])
    assert composites[0].satellite == "MYD"
    assert composites[0].start == datetime.date(2022, 4, 15)


def test_mistakes_in_names_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not contain the product"):
        find_composites(["image.tif"])
    with pytest.raises(InputError, match="There is no MOD09A1 or MYD09A1"):
        find_composites([tmp_path])
    write_composite(tmp_path)
    next(tmp_path.glob("*b03.tif")).unlink()
    with pytest.raises(InputError, match="MOD09A1 of 2013-01-01 h17v05 lacks sur_refl_b03"):
        find_composites([tmp_path])
    (tmp_path / "x").mkdir()
    hdf = tmp_path / "x" / "MOD09A1.A2013001.h17v05.061.hdf"
    hdf.write_bytes(b"not really")
    try:
        import pyhdf.SD  # noqa: F401 - only whether it is there

        message = "the file is broken"
    except ImportError:
        message = "this GDAL does not read HDF4, which the wheels"
    with pytest.raises(InputError, match=message):
        find_composites([tmp_path / "x"])


def test_hdf4_is_read_by_pyhdf_where_gdal_cannot(tmp_path: Path) -> None:
    hdf = pytest.importorskip("pyhdf.SD", reason="pyhdf is not installed")
    with rasterio.Env() as environment:
        if "HDF4" in environment.drivers():
            pytest.skip("this GDAL reads HDF4 itself")
    path = tmp_path / "MOD09A1.A2013001.h17v05.061.hdf"
    file = hdf.SD(str(path), hdf.SDC.WRITE | hdf.SDC.CREATE)
    left, top = GRID.affine.c, GRID.affine.f
    right, bottom = GRID.affine * (GRID.shape[1], GRID.shape[0])
    file.attr("StructMetadata.0").set(
        hdf.SDC.CHAR,
        f"GROUP=GRID_1\nUpperLeftPointMtrs=({left:.6f},{top:.6f})\nLowerRightMtrs=({right:.6f},{bottom:.6f})\n"
        "Projection=GCTP_SNSOID\n",
    )
    quality = np.full(GRID.shape, 0b11 << 30, np.int64)  # both corrections done: the sign of an int32
    quality[0] = 0b1100 << 2  # a dead detector of band 1
    for name in LAYERS:
        kind, numpy_kind = (
            (hdf.SDC.UINT32, np.uint32) if name.endswith("qc_500m") else (hdf.SDC.INT16, np.int16)
        )
        values = {"sur_refl_qc_500m": quality, "sur_refl_state_500m": 0b01_001_000, "sur_refl_day_of_year": 9}
        array = file.create(name, kind, tuple(GRID.shape))
        array[:] = np.broadcast_to(values.get(name, 1500), GRID.shape).astype(numpy_kind)
        array.endaccess()
    file.end()
    for _ in range(2):  # the second time from the GeoTIFF beside it
        cube = write_modis_cube([tmp_path], tmp_path / "cube.zarr")
    assert cube.grid.affine.almost_equals(GRID.affine, 1e-3)
    values = cube.read()
    assert np.isnan(values[0, 0, 0]).all()
    np.testing.assert_allclose(values[0, 0, 1:], 0.15, rtol=1e-6)
    np.testing.assert_allclose(values[0, 1:], 0.15, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_reflectances_in_place_of_the_numbers_are_refused(tmp_path: Path, kind: type) -> None:
    write_composite(tmp_path)
    path = next(tmp_path.glob("*sur_refl_b01*.tif"))
    with rasterio.open(path) as data:
        profile, values = data.profile, data.read() * 1e-4
    path.unlink()
    with rasterio.open(path, "w", **profile | {"dtype": np.dtype(kind).name, "nodata": None}) as data:
        data.write(values.astype(kind))
    with pytest.raises(InputError, match="holds reflectances of 0 to 1; the numbers of the product"):
        build(tmp_path)


def test_the_command_makes_a_cube_beside_its_files_again_and_replaces_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_composite(tmp_path)
    words = ["mosaic", "modis", "--catalogue", str(tmp_path), "--quiet"]
    for _ in range(2):
        assert main([*words, "-o", str(tmp_path / "cube.zarr")]) == 0
    before = set(tmp_path.iterdir())
    assert main([*words, "-o", str(tmp_path)]) == 1
    assert "is read, and would be replaced" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_months_without_composites_are_reported(tmp_path: Path) -> None:
    write_composite(tmp_path)
    with pytest.raises(
        InputError, match=r"There is no composite in 2014-01 to 2014-12; those given are of 2013-01"
    ):
        build(tmp_path, months=("2014-01", "2014-12"))
    with pytest.raises(InputError, match="are no months"):
        build(tmp_path, months=("January", "2014-12"))
    with pytest.raises(InputError, match="Unknown merge"):
        build(tmp_path, merge="both")


def test_float32_cannot_hold_the_quality_bits(tmp_path: Path) -> None:
    names = [*LAYERS]
    values = np.zeros((10, *GRID.shape), np.float32)
    write_bands(tmp_path / "MYD09A1_2013_01_09.tif", values, GRID, names=names)
    with pytest.raises(InputError, match="holds float32, which cannot hold the quality bits"):
        build(tmp_path)


def test_the_crs_is_a_sphere() -> None:
    assert "6371007.181" in SINUSOIDAL


def test_a_rule_is_read_by_key_and_mistakes_are_one_line() -> None:
    assert parse_rule(["aerosol=1", "snow=false", "cloud=0"]) == QualityRule(
        aerosol=1, snow=False, cloud=(0,)
    )
    with pytest.raises(RecipeError, match=r"did you mean .aerosol.\? Known: modland"):
        parse_rule(["aerosols=1"])
    with pytest.raises(RecipeError, match="shadow is 'maybe'; true or false was needed"):
        parse_rule(["shadow=maybe"])


def test_a_block_takes_no_more_memory_than_its_budget() -> None:
    months = tuple(f"2012-{month:02d}" for month in range(1, 13))
    grid = GeoBox((160, 160), Affine(463, 0, 0, 0, -463, 0), SINUSOIDAL)
    work = Work((), grid, months, 1, False, QualityRule(), "satellites")
    tracemalloc.start()
    make_block(work)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 160 * 160 * bytes_per_cell(work)


def test_the_command_takes_a_folder_with_its_rule_and_merge(tmp_path: Path) -> None:
    write_composite(tmp_path / "files")
    words = ["mosaic", "modis", str(tmp_path / "files"), "-o", str(tmp_path / "cube.zarr"), "--quiet"]
    assert main([*words, "--quality", "aerosol=1", "--merge", "observations"]) == 0
    notes = bytes_of(tmp_path / "cube.zarr")["zarr.json"].decode().replace("\\", "")
    assert '"aerosol": 1' in notes
    assert '"merge": "observations"' in notes
