"""Stacks of any sensor: dates are found, masks and units apply, months are means, and numbers stay."""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from tesela.cli import main
from tesela.core.errors import GridError, InputError
from tesela.core.grid import window_grid
from tesela.io.cube import open_cube
from tesela.io.images import write_bands
from tesela.sources.ancillary import Ancillary
from tesela.sources.stack.cube import write_stack_cube
from tesela.sources.stack.dates import find_date, parse_dates
from tesela.sources.stack.planes import find_planes
from tesela.sources.stack.reading import MaskRule, parse_mask

GRID = GeoBox((40, 30), Affine(30, 0, 500_000, 0, -30, 4_100_000), "EPSG:32630")
NO_LAYERS = Ancillary(place=False)


def plane(number: float, grid: GeoBox = GRID) -> NDArray[np.int16]:
    """Numbers that differ by row, column and image."""
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]]
    return (1000 * number + 10 * rows + cols).astype(np.int16)[np.newaxis]


@pytest.mark.parametrize(
    ("name", "date", "rest"),
    [
        ("ndvi_2010-03-17", "2010-03-17", "ndvi"),
        ("2010_03_mean", "2010-03", "mean"),
        ("T30SVG_20180704T105031_B04_10m", "2018-07-04", "T30SVG_B04_10m"),
        ("VNP13A1.A2020033.h17v05.002", "2020-02-02", "VNP13A1.h17v05.002"),
        (
            "MOD13Q1.006__250m_16_days_NDVI_doy2014049_aid0001",
            "2014-02-18",
            "MOD13Q1.006_250m_16_days_NDVI_aid0001",
        ),
        ("SVDNB_npp_20200101-20200131_vcmcfg.avg_rade9h", "2020-01-01", "SVDNB_npp_vcmcfg.avg_rade9h"),
        ("NDVI_march_2016", "2016-03", "NDVI"),
    ],
)
def test_dates_of_the_usual_names_are_found(name: str, date: str, rest: str) -> None:
    assert find_date(name) == (date, rest)


@pytest.mark.parametrize("name", ["dem_30m", "LC08_190028", "ndvi_2010", "x_20101341", "tile_209913"])
def test_other_numbers_are_no_dates(name: str) -> None:
    assert find_date(name) is None


def test_one_file_of_dated_bands_becomes_a_cube_by_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    months = [f"2010-{month:02d}" for month in range(1, 13)]
    bands = np.concatenate([plane(month) for month in range(12)])
    bands[4, :, :7] = 0  # missing in May
    path = write_bands(tmp_path / "a.tif", bands, GRID, names=[f"NDVI_{m.replace('-', '_')}" for m in months])
    words = ["mosaic", "stack", str(path), "--nodata", "0", "--scale", "0.0001", "--bands", "ndvi"]
    assert main([*words, "--json", "-o", str(tmp_path / "cube.zarr")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["times"], document["bands"], document["shape"]) == (months, ["ndvi"], [40, 30])
    cube = open_cube(tmp_path / "cube.zarr")
    wanted = np.where(bands == 0, np.nan, bands * 0.0001)
    np.testing.assert_allclose(cube.read()[:, 0], wanted, rtol=1e-6)
    assert cube.grid == GRID
    assert cube.layers == ("longitude", "latitude")


def test_files_of_a_date_and_band_each_are_averaged_by_month_where_they_are_clear(tmp_path: Path) -> None:
    for day, number in (("20200105", 1), ("20200121", 3), ("20200206", 5)):
        clear = np.full((1, 40, 30), 2, np.int16)
        clear[0, :10] |= (1 << 3) if day == "20200105" else 0  # cloud in the north of the first image
        stem = tmp_path / f"LC08_L2SP_190028_{day}_20200823_02_T1"
        for band, values in (("SR_B4", plane(number)), ("SR_B5", plane(number + 1)), ("QA_PIXEL", clear)):
            write_bands(Path(f"{stem}_{band}.TIF"), values, GRID, names=[""])
    cube = write_stack_cube(
        [tmp_path], tmp_path / "cube.zarr", masks=[MaskRule("QA_PIXEL", bits=(3, 4))], ancillary=NO_LAYERS
    )
    assert (cube.times, cube.bands) == (("2020-01", "2020-02"), ("SR_B4", "SR_B5"))
    values, counts = cube.read(), cube.read_counts()
    np.testing.assert_allclose(values[0, 0, 10:], plane(2)[0, 10:])  # the mean of 1 and 3
    np.testing.assert_allclose(values[0, 0, :10], plane(3)[0, :10])  # the clear one alone
    np.testing.assert_allclose(values[1, 1], plane(6)[0])
    assert (counts[0, 0, :10] == 1).all()
    assert (counts[0, 0, 10:] == 2).all()


def test_masks_hide_pixels_before_they_are_averaged_over_larger_cells(tmp_path: Path) -> None:
    values = np.full((1, 40, 30), 100, np.int16)
    values[0, :, ::2] = 9000  # clouds in every other column
    classes = np.full((1, 40, 30), 4, np.int16)
    classes[0, :, ::2] = 9
    path = tmp_path / "S2_2018-07-04.tif"
    write_bands(path, np.concatenate([values, classes]), GRID, names=("B04", "SCL"))
    cells = GeoBox((4, 3), GRID.affine * Affine.scale(10), GRID.crs)
    cube = write_stack_cube(
        [path], tmp_path / "cube.zarr", masks=[MaskRule("SCL", (9,))], grid=cells, ancillary=NO_LAYERS
    )
    np.testing.assert_allclose(cube.read(), 100)


def test_tiles_of_one_date_lie_side_by_side(tmp_path: Path) -> None:
    east = window_grid(GRID, 0, 30, 40, 30)
    write_bands(tmp_path / "A_h17v05_2013-01-09_ndvi.tif", plane(1), GRID, names=[""])
    write_bands(tmp_path / "A_h18v05_2013-01-09_ndvi.tif", plane(2), east, names=[""])
    cube = write_stack_cube([tmp_path], tmp_path / "cube.zarr", period="image", ancillary=NO_LAYERS)
    assert (cube.times, cube.bands, tuple(cube.grid.shape)) == (("2013-01-09",), ("ndvi",), (40, 60))
    np.testing.assert_array_equal(cube.read()[0, 0], np.concatenate([plane(1)[0], plane(2)[0]], axis=1))


def test_an_image_of_another_zone_far_away_is_named_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for month in (1, 2, 3):
        write_bands(tmp_path / f"ndvi_2010-{month:02d}.tif", plane(month), GRID, names=[""])
    other = GeoBox(GRID.shape, GRID.affine, "EPSG:32631")
    write_bands(tmp_path / "ndvi_2010-04.tif", plane(4), other, names=[""])
    out = tmp_path / "cube.zarr"
    wanted = r"2010-04\.tif \(EPSG:32631\) lies 53\d km from .*2010-01\.tif \(EPSG:32630\).*--like"
    with pytest.raises(GridError, match=wanted):
        write_stack_cube([tmp_path], out, ancillary=NO_LAYERS)
    assert not out.exists()
    (tmp_path / "ndvi_2010-01.tif").rename(tmp_path / "ndvi_2010-05.tif")
    (tmp_path / "ndvi_2010-04.tif").rename(tmp_path / "ndvi_2010-01.tif")  # the first one is the wrong one
    with pytest.raises(GridError, match=r"2010-01\.tif \(EPSG:32631\) lies .* from .*2010-02\.tif"):
        write_stack_cube([tmp_path], out, period="image", ancillary=NO_LAYERS)
    cube = write_stack_cube([tmp_path], out, grid=GRID, period="image", ancillary=NO_LAYERS)
    assert np.isnan(cube.read()[0]).all()
    assert "1 of 4 files do not reach the grid and give nothing" in caplog.text


def test_neighbours_in_two_zones_become_one_cube(tmp_path: Path) -> None:
    west = GeoBox((40, 40), Affine(30, 0, 765_000, 0, -30, 4_100_000), "EPSG:32630")  # 0 degrees: the edge
    x, y = Transformer.from_crs("EPSG:32630", "EPSG:32631", always_xy=True).transform(766_200, 4_100_000)
    east = GeoBox((40, 40), Affine(30, 0, x, 0, -30, y), "EPSG:32631")
    for name, grid, value in (("a", west, 3), ("b", east, 5)):
        write_bands(
            tmp_path / f"{name}_ndvi_2010-01.tif", np.full((1, 40, 40), value, np.int16), grid, names=[""]
        )
    cube = write_stack_cube([tmp_path], tmp_path / "cube.zarr", ancillary=NO_LAYERS)
    assert cube.grid.crs == west.crs
    values = cube.read()[0, 0]
    assert {3.0, 5.0} <= set(np.unique(values[np.isfinite(values)]))
    assert np.isfinite(values).sum() > 2 * 40 * 40 * 0.9


def test_equal_months_of_all_years_become_twelve(tmp_path: Path) -> None:
    for date, number in (("2012-03-02", 1), ("2013-03-20", 2), ("2013-07-01", 7)):
        write_bands(tmp_path / f"evi_{date}.tif", plane(number), GRID, names=[""])
    cube = write_stack_cube([tmp_path], tmp_path / "cube.zarr", climatology=True, ancillary=NO_LAYERS)
    assert cube.months == tuple(range(1, 13))
    np.testing.assert_allclose(cube.read()[2, 0], plane(1.5)[0])
    assert np.isnan(cube.read()[[0, 1, 3, 4, 5, 7]]).all()


def test_zarr_of_xarray_and_our_own_cubes_go_in(tmp_path: Path) -> None:
    import odc.geo.xr  # noqa: F401 - gives arrays a grid
    import xarray as xr

    values = np.concatenate([plane(1), plane(2)]).astype(np.float32)
    values[0, :5] = np.nan
    array = xr.DataArray(
        values,
        dims=("time", "y", "x"),
        coords={"time": np.array(["2018-04-03", "2018-05-07"], "datetime64[ns]")},
    )
    x, y = (
        GRID.affine * (np.arange(30) + 0.5, np.zeros(30)),
        GRID.affine * (np.zeros(40), np.arange(40) + 0.5),
    )
    array = array.assign_coords(x=x[0], y=y[1]).odc.assign_crs("EPSG:32630")
    array.to_dataset(name="ndvi").to_zarr(tmp_path / "theirs.zarr", zarr_format=2, consolidated=True)
    cube = write_stack_cube([tmp_path / "theirs.zarr"], tmp_path / "cube.zarr", ancillary=NO_LAYERS)
    assert (cube.times, cube.bands, cube.grid) == (("2018-04", "2018-05"), ("ndvi",), GRID)
    np.testing.assert_array_equal(cube.read()[:, 0], values)
    again = write_stack_cube([tmp_path / "cube.zarr"], tmp_path / "again.zarr", ancillary=NO_LAYERS)
    np.testing.assert_array_equal(again.read(), cube.read())

    chunk = next(path for path in (tmp_path / "cube.zarr" / "series" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(InputError, match="is not the file that was written, the cube is damaged"):
        write_stack_cube([tmp_path / "cube.zarr"], tmp_path / "third.zarr", ancillary=NO_LAYERS)
    assert not (tmp_path / "third.zarr").exists()


def test_netcdf_goes_in_through_gdal(tmp_path: Path) -> None:
    import rasterio
    from scipy.io import netcdf_file

    with rasterio.Env() as environment:
        if "netCDF" not in environment.drivers():
            pytest.skip("this GDAL does not read NetCDF")
    wkt = rasterio.CRS.from_epsg(32630).to_wkt()
    with netcdf_file(tmp_path / "evi.nc", "w") as file:
        for name, content, units in (
            ("time", np.array([0.0, 31.0]), "days since 2018-01-01"),
            ("y", 4_100_000 - 30 * (np.arange(40) + 0.5), "m"),
            ("x", 500_000 + 30 * (np.arange(30) + 0.5), "m"),
        ):
            file.createDimension(name, len(content))
            variable = file.createVariable(name, "d", (name,))
            variable[:] = content
            variable.units = units
        file.variables["x"].standard_name = "projection_x_coordinate"
        file.variables["y"].standard_name = "projection_y_coordinate"
        crs = file.createVariable("crs", "i", ())
        crs.grid_mapping_name, crs.spatial_ref, crs.crs_wkt = "transverse_mercator", wkt, wkt
        evi = file.createVariable("evi", "h", ("time", "y", "x"))
        evi[:] = np.concatenate([plane(1), plane(2)])
        evi.grid_mapping = "crs"
    cube = write_stack_cube([tmp_path / "evi.nc"], tmp_path / "cube.zarr", ancillary=NO_LAYERS)
    assert (cube.times, cube.bands) == (("2018-01", "2018-02"), ("evi",))
    np.testing.assert_array_equal(cube.read()[:, 0], np.concatenate([plane(1), plane(2)]))


def test_a_run_that_stops_goes_on_with_the_blocks_that_are_left(tmp_path: Path) -> None:
    large = GeoBox((20, 1500), GRID.affine, GRID.crs)  # three blocks
    for month in (1, 2):
        write_bands(tmp_path / f"a_2013-{month:02d}.tif", plane(month, large), large, names=("red",))
    done: list[int] = []

    def stop(count: int, of: int) -> None:
        done.append(count)
        if count == 1:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_stack_cube([tmp_path], tmp_path / "c.zarr", memory_bytes=1, ancillary=NO_LAYERS, progress=stop)
    assert not (tmp_path / "c.zarr").exists()
    cube = write_stack_cube(
        [tmp_path],
        tmp_path / "c.zarr",
        memory_bytes=1,
        ancillary=NO_LAYERS,
        progress=lambda at, of: done.append(at),
    )
    assert done == [0, 1, 1, 2, 3]  # the second run starts with one block
    np.testing.assert_allclose(cube.read()[1, 0], plane(2, large)[0])


def test_a_month_whose_file_vanished_is_an_error_that_names_it(tmp_path: Path) -> None:
    for month in (1, 2, 3, 4, 5, 6):
        for band in ("ndvi", "lst"):
            write_bands(tmp_path / f"{band}_2010-{month:02d}.tif", plane(month), GRID, names=[""])

    def write() -> tuple[str, ...]:
        return write_stack_cube([tmp_path], tmp_path / "cube.zarr", ancillary=NO_LAYERS).times

    assert write() == tuple(f"2010-{month:02d}" for month in range(1, 7))
    for gone in (("lst_2010-03.tif",), ("lst_2010-03.tif", "ndvi_2010-03.tif"), ("lst_2010-06.tif",)):
        files = {name: (tmp_path / name).read_bytes() for name in gone}
        for name in gone:
            (tmp_path / name).unlink()
        with pytest.raises(InputError, match=rf"has no image of {gone[0][4:11]}, but 1 of each other month"):
            write()
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    write_bands(tmp_path / "ndvi_2010-05-20.tif", plane(9), GRID, names=[""])  # no regular series any more
    (tmp_path / "ndvi_2010-03.tif").unlink()
    assert write()[2] == "2010-03"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    write_bands(tmp_path / "ndvi.tif", np.concatenate([plane(1), plane(2)]), GRID, names=("", ""))
    out = tmp_path / "cube.zarr"
    with pytest.raises(InputError, match=r"neither its name nor its bands contain a date"):
        write_stack_cube([tmp_path / "ndvi.tif"], out)
    with pytest.raises(InputError, match=r"3 dates are given, but there are 2 bands"):
        find_planes([tmp_path / "ndvi.tif"], dates=parse_dates(["2010-01..2010-03"]))
    cube = write_stack_cube([tmp_path / "ndvi.tif"], out, dates=["2010-01", "2010-03"], ancillary=NO_LAYERS)
    assert cube.times == ("2010-01", "2010-02", "2010-03")
    assert np.isnan(cube.read()[1]).all()
    write_bands(tmp_path / "a_2010-01.tif", plane(1), GRID, names=("red",))
    with pytest.raises(InputError, match=r"The files have the bands red, not B04, B08"):
        write_stack_cube([tmp_path / "a_2010-01.tif"], out, bands=["B04", "B08"])
    with pytest.raises(InputError, match=r"mask 'SCL' is no band of the files"):
        write_stack_cube([tmp_path / "a_2010-01.tif"], out, masks=[MaskRule("SCL", (1,))])
    with pytest.raises(InputError, match="'SCL' is no mask"):
        parse_mask("SCL")
    away = GeoBox(GRID.shape, Affine(30, 0, 0, 0, -30, 0), GRID.crs)
    with pytest.raises(GridError, match="No image reaches the grid"):
        write_stack_cube([tmp_path / "a_2010-01.tif"], out, grid=away)
    with pytest.raises(InputError, match="no file matches"):
        find_planes([tmp_path / "b_*.tif"])
