"""Cubes: what is written is read again, by any window, with gaps, and whole or not at all."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from tesela.core.errors import GridError, InputError
from tesela.core.grid import window_grid
from tesela.io import cube_writer
from tesela.io.cube import month_of, open_cube
from tesela.io.cube_writer import CubeWriter

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
PX = 463.3127165694
GRID = GeoBox((70, 50), Affine(PX, 0, -444_780.2079, 0, -PX, 4_230_972.7277), SINUSOIDAL)
TIMES = tuple(f"2013-{month:02d}" for month in range(1, 13))
BANDS = ("b01", "b02", "b03", "b04", "b05", "b06", "b07")


def series(grid: GeoBox = GRID, *, times: int = 12, bands: int = 7) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.random((times, bands, *grid.shape), np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cube") / "a.zarr"
    values = series()
    writer = CubeWriter(
        path, GRID, times=TIMES, bands=BANDS, layers=("altitude", "slope"), notes={"rule": "mean"}
    )
    with writer:
        for row in range(0, 70, 32):
            for col in range(0, 50, 32):
                block = np.s_[..., row : row + 32, col : col + 32]
                writer.write(row, col, values[block], np.full(values[block].shape, 300))
                writer.write_layers(row, col, values[0, :2][block])
    return path


def test_a_cube_written_by_blocks_is_read_as_it_was(written: Path) -> None:
    cube = open_cube(written)
    assert (cube.times, cube.bands, cube.layers) == (TIMES, BANDS, ("altitude", "slope"))
    assert cube.grid == GRID
    assert cube.months == tuple(range(1, 13))
    assert cube.notes == {"rule": "mean"}
    np.testing.assert_array_equal(cube.read(), series())
    np.testing.assert_array_equal(cube.read_layers(["slope"])[0], series()[0, 1])
    assert (cube.read_counts() == 255).all()  # more are not told


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(-5, 75), col=st.integers(-5, 55), rows=st.integers(1, 20), cols=st.integers(1, 20))
def test_any_window_holds_the_pixels_there_and_gaps_outside(
    written: Path, row: int, col: int, rows: int, cols: int
) -> None:
    padded = np.pad(series()[0, 0], 100, constant_values=np.nan)
    expected = padded[row + 100 : row + 100 + rows, col + 100 : col + 100 + cols]
    block = open_cube(written).read(window_grid(GRID, row, col, rows, cols))
    np.testing.assert_array_equal(block[0, 0], expected)


def test_xarray_opens_it_with_names_and_place(written: Path) -> None:
    import odc.geo.xr  # noqa: F401 - gives datasets their grid

    data = open_cube(written).to_xarray()
    assert data.series.dims == ("time", "band", "y", "x")
    july = data.series.sel(time="2013-07-01", band="b02").to_numpy()
    np.testing.assert_array_equal(july, series()[6, 1])
    assert data.odc.geobox == GRID


def test_programs_find_dates_axes_and_a_known_system_by_the_cf_conventions(written: Path) -> None:
    import odc.geo.xr  # noqa: F401 - gives datasets their grid
    import xarray as xr

    data = xr.open_zarr(written)  # as anyone opens it: consolidated, with no option
    assert data.time.dtype.kind == "M"
    assert [f"{day:%Y-%m-%d}" for day in data.time.to_index()[:2]] == ["2013-01-01", "2013-02-01"]
    assert data.month.to_numpy().tolist() == list(range(1, 13))
    assert data.series.resample(time="QS").mean().sizes["time"] == 4
    assert "MODIS Sinusoidal" in data.spatial_ref.attrs["crs_wkt"]
    assert data.spatial_ref.attrs["grid_mapping_name"] == "sinusoidal"
    assert (data.x.attrs["standard_name"], data.y.attrs["axis"]) == ("projection_x_coordinate", "Y")
    assert data.odc.geobox == GRID
    assert "consolidated_metadata" in json.loads((written / "zarr.json").read_text())


def test_months_of_no_certain_year_are_dates_of_the_first_one(tmp_path: Path) -> None:
    months = tuple(f"{month:02d}" for month in range(1, 13))
    with CubeWriter(
        tmp_path / "a.zarr", GRID, times=months, bands=("ndvi",), notes={"months": ["2012-01", "2013-12"]}
    ) as writer:
        writer.write(0, 0, series(bands=1))
    cube = open_cube(tmp_path / "a.zarr")
    assert cube.times == months
    assert str(cube.to_xarray().time.to_numpy()[6])[:10] == "2012-07-01"


def test_a_cube_of_the_first_version_opens_still(written: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.zarr"
    shutil.copytree(written, old)
    (old / "series").rename(old / "values")
    header = json.loads((old / "zarr.json").read_text())
    document = json.loads(header["attributes"]["tesela"]) | {"version": 1}
    del header["consolidated_metadata"]
    for name in ("checksums", "digest"):  # which cubes did not have then
        del header["attributes"][name]
    header["attributes"]["tesela"] = document  # an object then, not text
    (old / "zarr.json").write_text(json.dumps(header))
    np.testing.assert_array_equal(open_cube(old).read(), series())
    document["version"] = 9
    (old / "zarr.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="cube of version 9, but this Tesela reads up to 2"):
        open_cube(old)


def test_a_chunk_that_vanished_is_named_and_an_empty_one_is_a_gap(written: Path, tmp_path: Path) -> None:
    whole = open_cube(written)
    path = tmp_path / "cube.zarr"
    shutil.copytree(written, path)
    chunks = sorted(file for file in path.glob("series/c/*/*/*/*") if file.is_file())
    chunks[-1].unlink()
    cube = open_cube(path)
    with pytest.raises(InputError, match=rf"{chunks[-1].relative_to(tmp_path)}: has vanished"):
        cube.read()
    np.testing.assert_array_equal(cube.read_counts(), whole.read_counts())
    with CubeWriter(tmp_path / "b.zarr", GRID, times=("01",), bands=("red",)) as writer:
        pass
    assert np.isnan(open_cube(writer.path).read()).all()


def test_a_changed_byte_of_a_cube_is_noticed_and_added_attributes_are_not(
    written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cube.zarr"
    shutil.copytree(written, path)
    whole = open_cube(path).read()
    zarr.open_group(str(path), mode="r+").attrs["note"] = "ours"
    np.testing.assert_array_equal(open_cube(path).read(), whole)
    chunk = next(file for file in sorted(path.glob("series/c/*/*/*/*")) if file.is_file())
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(InputError, match=r"is not the file that was written, the cube is damaged"):
        open_cube(path).read()
    chunk.write_bytes(content)
    header = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(header.replace("4230972", "4230972".replace("9", "8")))
    with pytest.raises(InputError, match=r"zarr.json: is not the file that was written"):
        open_cube(path)
    for key in ("clevel", "chunk_shape", "separator"):  # zarr gives them to its classes by name
        (path / "zarr.json").write_text(header.replace(f'"{key}"', f'"{key[:-1]}"'))
        with pytest.raises(InputError, match=r"is broken|is not the file that was written"):
            open_cube(path)


def test_a_large_cube_has_fewer_files_and_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cube_writer, "_SHARDED_PX", 40 * 100)
    grid = GeoBox((60, 100), GRID.affine, SINUSOIDAL)
    values = series(grid, times=240)
    values[..., 64:] = np.nan  # shards of 64 px, four chunks on each side
    with CubeWriter(
        tmp_path / "a.zarr",
        grid,
        times=[f"{1990 + k // 12}-{k % 12 + 1:02d}" for k in range(240)],
        bands=BANDS,
    ) as writer:
        assert writer.chunk_px == 64
        for col in (0, 64):
            writer.write(0, col, values[..., col : col + 64])
    cube = open_cube(tmp_path / "a.zarr")
    assert cube.chunk_px == 64
    np.testing.assert_array_equal(cube.read(), values)
    files = [
        file
        for file in (tmp_path / "a.zarr" / "series").rglob("*")
        if file.name != "zarr.json" and file.is_file()
    ]
    assert len(files) == 1, "the empty shard has none"
    np.testing.assert_array_equal(cube.to_xarray()["series"].values, values)
    files[0].unlink()
    with pytest.raises(InputError, match="has vanished"):
        cube.read(window_grid(grid, 0, 0, 4, 4))


def test_a_series_may_have_any_length(tmp_path: Path) -> None:
    grid = window_grid(GRID, 0, 0, 3, 4)
    times = tuple(f"2010-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(46))
    with CubeWriter(tmp_path / "a.zarr", grid, times=times, bands=("ndvi",)) as writer:
        writer.write(0, 0, series(grid, times=46, bands=1))
        writer.write_layers(0, 0, np.zeros((0, 3, 4), np.float32))  # no layer: nothing to write
    cube = open_cube(tmp_path / "a.zarr")
    assert cube.read().shape == (46, 1, 3, 4)
    assert cube.read_layers().shape == (0, 3, 4)
    assert (cube.read_counts() == np.isfinite(cube.read())).all()


def test_nothing_is_left_of_a_cube_that_fails_and_the_older_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for value in (1.0, 2.0):
        with CubeWriter(path, GRID, times=("01",), bands=("ndvi",)) as writer:
            writer.write(0, 0, np.full((1, 1, 70, 50), value))
    with pytest.raises(RuntimeError, match="power cut"):
        write_and_fail(path)
    assert (open_cube(path).read() == 2).all()
    assert [item.name for item in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_that_is_no_cube_is_told(tmp_path: Path, written: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_cube(tmp_path / "none.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is no Zarr folder"):
        open_cube(tmp_path / "empty")
    import zarr

    zarr.open_group(str(tmp_path / "other.zarr"), mode="w", zarr_format=3)
    with pytest.raises(InputError, match=r"no cube of Tesela\. Make one of it: tesela mosaic stack"):
        open_cube(tmp_path / "other.zarr")
    shutil.copytree(written, tmp_path / "torn.zarr")
    chunk = tmp_path / "torn.zarr" / "series" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(InputError, match="is not the file that was written"):
        open_cube(tmp_path / "torn.zarr").read()
    attributes = json.loads((tmp_path / "torn.zarr" / "zarr.json").read_text())
    for name in ("checksums", "digest"):
        del attributes["attributes"][name]
    document = json.loads(attributes["attributes"]["tesela"])
    document["grid"]["shape"][0] += 1
    attributes["attributes"]["tesela"] = json.dumps(document)
    (tmp_path / "torn.zarr" / "zarr.json").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match=r"its arrays have the shapes .*, its attributes need"):
        open_cube(tmp_path / "torn.zarr")
    del document["grid"]
    attributes["attributes"]["tesela"] = json.dumps(document)
    (tmp_path / "torn.zarr" / "zarr.json").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match=r"KeyError\('grid'\) is missing or wrong"):
        open_cube(tmp_path / "torn.zarr")
    (tmp_path / "torn.zarr" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="is broken"):
        open_cube(tmp_path / "torn.zarr")


def test_mistakes_in_writing_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="band red occurs twice"):
        CubeWriter(tmp_path / "a.zarr", GRID, times=("01",), bands=("red", "red"))
    with pytest.raises(InputError, match="'2013' is not a time"):
        CubeWriter(tmp_path / "a.zarr", GRID, times=("2013",), bands=("red",))
    with (
        pytest.raises(InputError, match=r"shape \(1, 2, 3, 4\) at \(0, 0\)"),
        CubeWriter(tmp_path / "a.zarr", GRID, times=("01",), bands=("red",)) as writer,
    ):
        writer.write(0, 0, np.zeros((1, 2, 3, 4)))
    with pytest.raises(InputError, match="Unknown layer 'slop': did you mean 'slope'"):
        open_cube(make(tmp_path)).read_layers(["slop"])


def test_a_cube_never_replaces_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    cube = CubeWriter(tmp_path / "home", GRID, times=("01",), bands=("red",))
    with pytest.raises(InputError, match="is a folder with other files"), cube:
        pass
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


def test_a_window_of_other_pixels_is_refused(tmp_path: Path) -> None:
    shifted = GeoBox(GRID.shape, GRID.affine @ Affine.translation(0.5, 0), GRID.crs)
    with pytest.raises(GridError, match="the window has other pixels"):
        open_cube(make(tmp_path)).read(shifted)


def write_and_fail(path: Path) -> None:
    with CubeWriter(path, GRID, times=("01",), bands=("b",)) as writer:
        writer.write(0, 0, np.zeros((1, 1, 70, 50)))
        raise RuntimeError("power cut")


def make(folder: Path) -> Path:
    with CubeWriter(folder / "b.zarr", GRID, times=("01",), bands=("red",), layers=("slope",)) as writer:
        writer.write(0, 0, np.zeros((1, 1, 70, 50)))
    return folder / "b.zarr"


@pytest.mark.parametrize(("text", "month"), [("2013-01", 1), ("2013-12-31", 12), ("07", 7)])
def test_months_are_read_from_times(text: str, month: int) -> None:
    assert month_of(text) == month


def test_thirteen_months_are_refused() -> None:
    with pytest.raises(InputError, match="'13' is not a time"):
        month_of("13")
