"""`tesela mosaic modis` and `layer` from the address of a catalogue to files, over HTTP on loopback."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.core.grid import window_grid
from tesela.io.cube import open_cube
from tesela.io.images import write_bands
from tesela.io.sinusoidal import modis_tile
from tesela.simulate.server.catalogue import write_item
from tesela.simulate.server.server import Fault, ProviderServer
from tesela.sources.modis.files import BANDS

# Two tiles that meet at 40 degrees north, near 3 degrees west: the lowest rows of one, the uppermost of the other.
TILES = {
    "h17v04": window_grid(modis_tile(17, 4), 2396, 1840, 4, 16),
    "h17v05": window_grid(modis_tile(17, 5), 0, 1840, 4, 16),
}
AREA = window_grid(modis_tile(17, 4), 2397, 1843, 6, 8)
"""Three rows of each tile."""
CLEAR, CLOUDY = 0b01_001_000, 0b01_001_001
COVER = np.random.default_rng(0).choice(np.array([0, 10, 40], np.uint8), (80, 120))
MOSAIC = GeoBox((20, 30), Affine(40, 0, 440_000, 0, -40, 4_090_000), "EPSG:32630")


def write_composite(
    folder: Path, satellite: str, day: str, level: int, *, without: tuple[str, ...] = ()
) -> None:
    """Eight days over both tiles; the southern one is brighter by 1000, its last row always under cloud."""
    first = datetime.strptime(day, "%Y%j").replace(tzinfo=UTC)
    for tile, grid in TILES.items():
        south = tile == "h17v05"
        shape = tuple(grid.shape)
        state = np.full(shape, CLEAR, np.uint16)
        if south:
            state[2] = CLOUDY
        layers = {
            band: np.full(shape, level + 1000 * south + 10 * number, np.int16)
            for number, band in enumerate(BANDS)
        }
        layers |= {
            "sur_refl_qc_500m": np.zeros(shape, np.uint32),
            "sur_refl_state_500m": state,
            "sur_refl_day_of_year": np.full(shape, int(day[4:]) + 3, np.uint16),
        }
        write_item(
            folder,
            f"{satellite}09A1.A{day}.{tile}.061.2021220000000",
            {name: values for name, values in layers.items() if name not in without},
            grid,
            collection="modis-09A1-061",
            first=first,
            last=first + timedelta(days=7),
        )


@pytest.fixture(scope="module")
def composites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """January of two years, from Terra and Aqua; February of the second by Terra alone."""
    folder = tmp_path_factory.mktemp("modis")
    for satellite, year, level in (
        ("MOD", 2012, 1000),
        ("MYD", 2012, 1040),
        ("MOD", 2013, 1200),
        ("MYD", 2013, 1240),
    ):
        write_composite(folder, satellite, f"{year}009", level)
    write_composite(folder, "MOD", "2013041", 2000)
    return folder


@pytest.fixture
def area(tmp_path: Path) -> Path:
    return write_bands(tmp_path / "area.tif", np.ones((1, *AREA.shape), np.uint8), AREA, names=("x",))


def test_two_tiles_of_modis_become_a_climatology_with_altitude(
    composites: Path, area: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane = np.where(np.arange(60) < 30, 500.0, 700.0)[None, :, None].repeat(80, axis=2).astype(np.float32)
    fine = GeoBox((60, 80), AREA.affine * Affine.scale(0.1), AREA.crs)
    dem = write_bands(tmp_path / "dem.tif", plane, fine, names=("altitude",))
    rain = write_bands(tmp_path / "rain.tif", plane / 2, fine, names=("rain",))
    with ProviderServer(composites, signed=True) as server:
        words = ["mosaic", "modis", "--like", str(area), "--first", "2012-01", "--last", "2013-12"]
        words += ["--climatology", "--dem", str(dem), "--layer", f"precipitation={rain}"]
        where = f"planetary-computer={server.address}"
        code = main([*words, "--catalogue", where, "--json", "-o", str(tmp_path / "cube.zarr")])
        searches = [path for path in server.requests if path.endswith("/search")]
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["shape"] == [6, 8]
    assert document["times"] == [f"{month:02d}" for month in range(1, 13)]
    assert searches
    cube = open_cube(tmp_path / "cube.zarr")
    values = cube.read()
    # the mean of both satellites of each year, (1020 + 1220) / 2, in the north; 1000 more in the south
    np.testing.assert_allclose(values[0, 0, :3], 0.112, rtol=1e-5)
    np.testing.assert_allclose(values[0, 0, 3:5], 0.212, rtol=1e-5)
    np.testing.assert_allclose(values[0, 6, :3], 0.118, rtol=1e-5)
    np.testing.assert_allclose(values[1, 0, :3], 0.2, rtol=1e-5)
    assert np.isnan(values[0, :, 5]).all()  # cloudy in every composite
    assert np.isnan(values[2:]).all()
    altitude, rainfall = cube.read_layers(["altitude", "precipitation"])
    assert (altitude[:3] == 500).all()
    assert (altitude[3:] == 700).all()
    assert (rainfall[:3] == 250).all()


def test_a_box_in_degrees_selects_months_of_single_years(
    composites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProviderServer(composites) as server:
        words = [
            "mosaic",
            "modis",
            "--area=-3.03,39.99,-3.0,40.01",
            "--first",
            "2013-01",
            "--last",
            "2013-02",
        ]
        where = ["--catalogue", server.address, "--collection", "modis-09A1-061"]
        assert main([*words, *where, "-o", str(tmp_path / "cube.zarr")]) == 0
    assert "2 months" in capsys.readouterr().out
    cube = open_cube(tmp_path / "cube.zarr")
    assert cube.times == ("2013-01", "2013-02")
    values = np.unique(cube.read()[0, 0])
    np.testing.assert_allclose(values[~np.isnan(values)], [0.122, 0.222], rtol=1e-5)


def test_missing_modis_files_are_reported_in_one_line(
    composites: Path, area: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_composite(tmp_path / "poor", "MOD", "2013009", 1000, without=("sur_refl_state_500m",))
    words = ["mosaic", "modis", "--like", str(area), "-o", str(tmp_path / "cube.zarr"), "--tries", "1"]
    months = ["--first", "2013-01", "--last", "2013-01"]
    gone = Fault(r"sur_refl_b03\.tif", status=404)
    with ProviderServer(tmp_path / "poor") as poor, ProviderServer(composites, faults=[gone]) as server:
        for address, more, message in (
            (poor.address, months, "h17v04.061.2021220000000 lacks sur_refl_state_500m"),
            (server.address, months, "sur_refl_b03.tif: the server has no such file"),
            (server.address, ["--first", "2010-01", "--last", "2010-02"], "has no MOD09A1 or MYD09A1"),
            (server.address, [], "A catalogue needs an area and months"),
        ):
            assert main([*words, *more, "--catalogue", address]) == 1
            error = capsys.readouterr().err.strip()
            assert message in error
            assert "\n" not in error
    assert not (tmp_path / "cube.zarr").exists()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderServer]:
    """Elevation in columns of 10 m that alternate, and land cover, of two files each, side by side."""
    folder = tmp_path_factory.mktemp("still")
    moment = datetime(2021, 1, 1, tzinfo=UTC)
    for side, start in (("west", 0), ("east", 60)):
        grid = GeoBox((80, 60), Affine(10, 0, 440_000 + 10 * start, 0, -10, 4_090_000), "EPSG:32630")
        columns = np.arange(60) % 2
        cover = COVER[:, start : start + 60]
        height = np.where(columns, 300.0, 100.0)[None, :].repeat(80, axis=0).astype(np.float32)
        height[:40, :20] = -999
        write_item(
            folder, f"wc-{side}", {"map": cover}, grid, collection="esa-worldcover", first=moment, nodata=0
        )
        write_item(folder, f"dem-{side}", {"data": height}, grid, collection="dem", first=moment, nodata=-999)
    with ProviderServer(folder) as server:
        yield server


def run_layer(server: ProviderServer, out: Path, *words: str) -> np.ndarray:
    like = write_bands(out.with_name("like.tif"), np.ones((1, *MOSAIC.shape), np.uint8), MOSAIC, names=("x",))
    common = ["mosaic", "layer", "--like", str(like), "--catalogue", server.address, "-o", str(out)]
    assert main([*common, *words]) == 0
    with rasterio.open(out) as data:
        assert data.transform == MOSAIC.affine
        band: np.ndarray = data.read(1)
    return band


def test_classes_are_taken_by_nearest_pixel_and_never_mixed(still: ProviderServer, tmp_path: Path) -> None:
    band = run_layer(
        still,
        tmp_path / "wc.tif",
        "--collection",
        "esa-worldcover",
        "--asset",
        "map",
        "--classes",
        "--year",
        "2021",
    )
    assert band.dtype == np.uint8
    np.testing.assert_array_equal(band, COVER[2::4, 2::4])


def test_quantities_are_averaged_over_each_pixel(still: ProviderServer, tmp_path: Path) -> None:
    band = run_layer(still, tmp_path / "dem.tif", "--collection", "dem", "--asset", "data")
    assert band.dtype == np.float32
    assert np.isnan(band[:10, :5]).all()
    np.testing.assert_allclose(band[10:], 200)  # two columns of 100 m and two of 300 m in each
    np.testing.assert_allclose(band[:, 5:15], 200)


def test_missing_layers_are_reported_in_one_line(
    still: ProviderServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mosaic", "layer", "--area=-3.68,36.94,-3.67,36.95", "--catalogue", still.address]
    words += ["-o", str(tmp_path / "no.tif"), "--tries", "1"]
    for more, message in (
        (["--collection", "dem", "--asset", "map"], "has no asset 'map'; it has data (--asset)"),
        (["--collection", "snow", "--asset", "map"], "has no items of collection 'snow' in this area"),
        (["--collection", "dem", "--asset", "data", "--year", "2019"], "has no items of collection 'dem'"),
        (["--collection", "dem", "--asset", "data", "--classes"], "holds classes outside 0 to 255"),
    ):
        assert main([*words, *more]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert not (tmp_path / "no.tif").exists()
