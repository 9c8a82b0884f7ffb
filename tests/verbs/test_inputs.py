"""What users hold goes in: paths, arrays, GeoDataFrames, maps; the answer is the same bit by bit."""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array
import geopandas as gpd
import numpy as np
import pytest
import rioxarray
import shapely
import xarray as xr

import tesela
from pointwise import LEGEND, make_expert, read_map, write_scene
from tesela.io.arrays import array_bands, array_grid
from tesela.io.held import Held
from tesela.io.maps import MapReader
from tesela.io.scenes import SceneReader

ROWS, COLS = 96, 130
SIDE_M = 10.0
LEFT, TOP = 500_000.0, 4_100_000.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("held")
    write_scene(place / "scene.tif", (ROWS, COLS), nodata_cols=3)
    image = rioxarray.open_rasterio(place / "scene.tif")
    for number, name in enumerate(("red", "nir")):
        image[number : number + 1].assign_attrs(long_name=name).rio.to_raster(place / f"{name}.tif")
    squares().to_file(place / "reference.gpkg", layer="reference")
    values = np.full((ROWS, COLS), 10, np.uint8)
    values[:, 40:] = 20
    values[:50, 90:] = 30
    grid = tesela.open_scene(place / "scene.tif").grid
    tesela.write_map(place / "map.tif", values, grid, legend=LEGEND)
    return place


def squares() -> gpd.GeoDataFrame:
    """Polygons of the three classes, with a column that no file needs."""
    box, bottom = shapely.box, TOP - ROWS * SIDE_M
    shapes = [
        box(LEFT, bottom, LEFT + 402, TOP),
        box(LEFT + 402, bottom, LEFT + 900, TOP),
        box(LEFT + 900, TOP - 503, LEFT + COLS * SIDE_M, TOP),
    ]
    return gpd.GeoDataFrame({"code": ["10", "20", "30"], "id": [5, 6, 7]}, geometry=shapes, crs=25830)


def opened(folder: Path, **options: Any) -> xr.DataArray:
    array = rioxarray.open_rasterio(folder / "scene.tif", **options)
    assert isinstance(array, xr.DataArray)
    return array


def as_dataset(folder: Path) -> xr.Dataset:
    array = opened(folder)
    parts = {name: array[number].drop_vars("band") for number, name in enumerate(("red", "nir"))}
    return xr.Dataset({name: part.assign_attrs(long_name="reflectance") for name, part in parts.items()})


SCENES: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: folder / "scene.tif",
    "text": lambda folder: str(folder / "scene.tif"),
    "paths": lambda folder: [folder / "red.tif", folder / "nir.tif"],
    "joined paths": lambda folder: f"{folder / 'red.tif'},{folder / 'nir.tif'}",
    "scene": lambda folder: tesela.open_scene(folder / "scene.tif"),
    "array of rioxarray": opened,
    "loaded array": lambda folder: opened(folder).load(),
    "masked array": lambda folder: opened(folder, masked=True),
    "array of Dask": lambda folder: opened(folder, chunks={"x": 37, "y": 41}),
    "masked array of Dask": lambda folder: opened(folder, masked=True, chunks={"band": 1, "x": 37, "y": 41}),
    "dimensions in another order": lambda folder: opened(folder).transpose("x", "y", "band"),
    "rows from the south": lambda folder: opened(folder).isel(y=slice(None, None, -1)),
    "columns from the east": lambda folder: opened(folder).isel(x=slice(None, None, -1)),
    "named by coordinate": lambda folder: (
        opened(folder).assign_coords(band=["red", "nir"]).drop_attrs(deep=False).assign_attrs(_FillValue=0)
    ),
    "of odc-geo": lambda folder: opened(folder).odc.assign_crs("EPSG:25830"),
    "dataset": as_dataset,
    "dataset of Dask": lambda folder: as_dataset(folder).chunk({"y": 50}),
    "with a time": lambda folder: opened(folder).expand_dims(time=np.array(["2018-07-01"], "M8[ns]")),
}


@pytest.mark.parametrize("kind", SCENES)
def test_a_scene_of_any_kind_gives_the_map_of_its_file(kind: str, folder: Path, tmp_path: Path) -> None:
    expert = make_expert()
    tesela.predict(expert, folder / "scene.tif", tmp_path / "wanted.tif", engine="torch")
    made = tesela.predict(expert, SCENES[kind](folder), engine="torch")
    assert (read_map(Path(made.path)) == read_map(tmp_path / "wanted.tif")).all()
    assert made.grid == tesela.open_map(tmp_path / "wanted.tif").grid
    assert str(made.grid.crs) == "EPSG:25830"


REFERENCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: folder / "reference.gpkg",
    "GeoDataFrame": lambda folder: squares(),
    "GeoDataFrame of another CRS": lambda folder: squares().set_index("id"),
    "a column named fid": lambda folder: squares().assign(fid=[1.5, 1.5, 2.5]),
    "categories": lambda folder: squares().astype({"code": "category"}),
    "geometries of another name": lambda folder: squares().rename_geometry("shape"),
    "layer": lambda folder: tesela.open_layer(folder / "reference.gpkg"),
    "layer of a GeoDataFrame": lambda folder: tesela.open_layer(squares()),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_polygons_of_any_kind_give_the_labels_of_their_file(kind: str, folder: Path, tmp_path: Path) -> None:
    like = folder / "scene.tif"
    options: dict[str, Any] = {"like": like, "legend": LEGEND, "field": "code"}
    wanted = tesela.label(folder / "reference.gpkg", tmp_path / "wanted.tif", **options)
    made = tesela.label(REFERENCES[kind](folder), **options)
    assert (read_map(Path(made.path)) == read_map(Path(wanted.path))).all()
    shares = tesela.label(REFERENCES[kind](folder), fractions=True, **options)
    exact = tesela.label(folder / "reference.gpkg", tmp_path / "shares.tif", fractions=True, **options)
    assert isinstance(shares, tesela.AbundanceMap)
    assert isinstance(exact, tesela.AbundanceMap)
    assert np.array_equal(shares.read(), exact.read(), equal_nan=True)


MAPS: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: folder / "map.tif",
    "map": lambda folder: tesela.open_map(folder / "map.tif"),
    "array": lambda folder: tesela.open_map(folder / "map.tif").to_xarray(),
    "array of Dask": lambda folder: tesela.open_map(folder / "map.tif").to_xarray(lazy=True),
    "array of rioxarray": lambda folder: rioxarray.open_rasterio(folder / "map.tif"),
    "masked array": lambda folder: rioxarray.open_rasterio(folder / "map.tif", masked=True).squeeze("band"),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_of_any_kind_gives_the_answers_of_its_file(kind: str, folder: Path) -> None:
    source = MAPS[kind](folder)
    made, wanted = (tesela.generalise(item, mmu="2 ha", min_width=0) for item in (source, folder / "map.tif"))
    assert (read_map(Path(made.path)) == read_map(Path(wanted.path))).all()
    frames = [tesela.vectorise(item) for item in (source, folder / "map.tif")]
    assert frames[0].equals(frames[1])
    tables = [tesela.assess(folder / "map.tif", item).to_frame() for item in (source, folder / "map.tif")]
    assert tables[0].equals(tables[1])
    labels = tesela.label(source, like=folder / "scene.tif", legend=LEGEND)
    assert (read_map(Path(labels.path)) == read_map(folder / "map.tif")).all()


def test_all_plain_columns_of_a_geodataframe_come_through() -> None:
    frame = squares().assign(
        fid=[7, 7, 9], seen=np.array(["2018-06-01"] * 3, "M8[ms]"), other=squares().geometry
    )
    layer = tesela.open_layer(frame)
    assert layer.fields == ("code", "id", "fid", "seen")
    assert layer.to_geodataframe()["fid"].tolist() == [7, 7, 9]
    with pytest.raises(
        tesela.InputError, match="Leave out the columns that are neither numbers, texts nor dates"
    ):
        tesela.open_layer(frame.assign(parts=[1j, 2j, 3j]))


def test_the_legend_of_an_array_without_one_is_given(folder: Path) -> None:
    bare = tesela.open_map(folder / "map.tif").to_xarray().drop_attrs(deep=False)
    with pytest.raises(tesela.LegendError, match=r"does not name its legend; give it \(tesela.open_map"):
        tesela.open_map(bare)
    assert tesela.open_map(bare, legend=LEGEND).legend == LEGEND
    assert tesela.assess(folder / "map.tif", bare).scores.accuracy == 1.0


def test_a_cube_of_arrays_is_the_cube_of_its_folder(tmp_path: Path) -> None:
    from tesela.io.cube_writer import CubeWriter
    from unmixing_scene import COLS, GRID, NAMES, ROWS, TIMES, make_table

    table = make_table()
    values = table.values.reshape(ROWS, COLS, len(TIMES), len(NAMES)).transpose(2, 3, 0, 1)
    with CubeWriter(tmp_path / "cube.zarr", GRID, times=TIMES, bands=NAMES, layers=table.layers) as writer:
        writer.write(0, 0, values)
        writer.write_layers(0, 0, table.static.reshape(ROWS, COLS, 2).transpose(2, 0, 1))
    cube = tesela.open_cube(tmp_path / "cube.zarr")
    dataset = cube.to_xarray()
    for source in (dataset, dataset.load(), dataset.drop_attrs(deep=False)):
        made = tesela.open_cube(source)
        assert (made.times, made.bands, made.layers) == (cube.times, cube.bands, cube.layers)
        assert np.array_equal(made.read(), cube.read(), equal_nan=True)
        assert np.array_equal(made.read_counts(), cube.read_counts())
        assert np.array_equal(made.read_layers(), cube.read_layers())
    alone = tesela.open_cube(dataset["series"].isel(y=slice(None, None, -1)))
    assert np.array_equal(alone.read(), cube.read(), equal_nan=True)
    assert alone.layers == ()
    with pytest.raises(tesela.InputError, match="a cube needs its series in one named 'series'"):
        tesela.open_cube(dataset.drop_vars("series"))


def bare_array(**coordinates: Any) -> xr.DataArray:
    coords = {"y": [25.0, 15.0, 5.0], "x": [5.0, 15.0]} | coordinates
    return xr.DataArray(np.ones((3, 2), np.float32), dims=("y", "x"), coords=coords, name="red")


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no CRS": (
        lambda: tesela.open_scene(bare_array()),
        tesela.GridError,
        r"'red': has no coordinate system.*rio.write_crs",
    ),
    "no coordinates": (
        lambda: tesela.open_scene(bare_array().drop_vars("y").rio.write_crs(25830)),
        tesela.GridError,
        "dimension y has no coordinates",
    ),
    "uneven rows": (
        lambda: tesela.open_scene(bare_array(y=[25.0, 17.0, 5.0]).rio.write_crs(25830)),
        tesela.GridError,
        "rows or columns are not evenly spaced",
    ),
    "other dimensions": (
        lambda: tesela.open_scene(bare_array().rename(y="row", x="col")),
        tesela.GridError,
        r"has the dimensions row, col; rows and columns are needed, named y and x",
    ),
    "complex numbers": (
        lambda: tesela.open_scene(bare_array().astype("complex64").rio.write_crs(25830)),
        tesela.InputError,
        "holds complex64 values; real numbers are needed",
    ),
    "classes that are none": (
        lambda: tesela.open_map((bare_array() * 1.5).rio.write_crs(25830), legend=LEGEND),
        tesela.InputError,
        "holds 1.5, which is not a class",
    ),
    "a number as scene": (
        lambda: tesela.open_scene(7),  # type: ignore[arg-type]
        tesela.InputError,
        r"A scene is a path, several paths, a DataArray or Dataset with a CRS, or a Scene; 7 \(int\) came",
    ),
    "a number as map": (
        lambda: tesela.generalise(7),  # type: ignore[arg-type]
        tesela.InputError,
        r"A map is a path, a ClassMap, or a DataArray of classes with a CRS; 7 \(int\) came",
    ),
    "a GeoDataFrame without CRS": (
        lambda: tesela.open_layer(squares().set_crs(None, allow_override=True)),
        tesela.GridError,
        r"The GeoDataFrame has no coordinate system.*set_crs",
    ),
    "a table without geometries": (
        lambda: tesela.open_layer(gpd.GeoDataFrame({"code": ["1"]})),
        tesela.InputError,
        "has no column of geometries",
    ),
    "a number as reference": (
        lambda: tesela.label(7, like=bare_array().rio.write_crs(25830), legend=LEGEND),  # type: ignore[arg-type]
        tesela.InputError,
        r"A reference is a path, a postgresql:// address, a GeoDataFrame.*; 7 \(int\) came",
    ),
    "a number as legend": (
        lambda: tesela.open_legend(7),  # type: ignore[arg-type]
        tesela.InputError,
        r"A legend is a name such as corine-2.*; 7 \(int\) came",
    ),
    "a number as expert": (
        lambda: tesela.open_expert(7),  # type: ignore[arg-type]
        tesela.InputError,
        r"An expert is the path of a .safetensors file, or an Expert; 7 \(int\) came",
    ),
    "a number as cube": (
        lambda: tesela.open_cube(7),  # type: ignore[arg-type]
        tesela.InputError,
        r"A cube is a Zarr folder, a Cube, or a Dataset with series and a CRS; 7 \(int\) came",
    ),
    "a number as grid": (
        lambda: tesela.label(squares(), like=7, legend=LEGEND, field="code"),  # type: ignore[arg-type]
        tesela.InputError,
        r"The grid is that of a path, a Scene.*; 7 \(int\) came",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_go_in_is_refused_in_one_line(case: str) -> None:
    call, kind, text = WRONG[case]
    with pytest.raises(kind, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_bands_are_named_by_coordinate_name_and_time() -> None:
    y, x = np.arange(4) * -10.0 + 35, np.arange(3) * 10.0 + 5
    stack = xr.DataArray(
        np.zeros((2, 2, 4, 3), np.float32),
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(["2018-04-11", "2018-07-01"], "M8[ns]"),
            "band": ["B04", "B08"],
            "y": y,
            "x": x,
        },
    ).rio.write_crs(25830)
    assert array_bands(stack) == ("B04_2018-04-11", "B08_2018-04-11", "B04_2018-07-01", "B08_2018-07-01")
    assert array_bands(stack.isel(time=0)) == ("B04", "B08")
    assert array_bands(stack.isel(time=0).assign_coords(band=[1, 2])) == ("band1", "band2")
    assert array_bands(stack.isel(time=0).to_dataset("band")) == ("B04", "B08")
    assert array_bands(stack.isel(time=0, band=0, drop=True).rename("ndvi")) == ("ndvi",)
    token = f"integers-{'0a' * 16}"  # as Dask names an array
    assert array_bands(stack.isel(time=0, band=0, drop=True).rename(token)) == ("band1",)
    with tesela.io.scenes.SceneReader(tesela.open_scene(stack)) as reader:
        assert reader.read(reader.scene.grid).shape == (4, 4, 3)


def test_a_chunk_is_computed_once_and_never_more_than_the_budget_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []

    def chunk(block_info: Any = None) -> np.ndarray[Any, Any]:
        place = block_info[None]["array-location"]
        asked.append((place[0][0], place[1][0]))
        return np.full([stop - start for start, stop in place], len(asked), np.float32)

    lazy = dask.array.map_blocks(
        chunk, chunks=((100,) * 6, (90,) * 5), dtype=np.float32, meta=np.empty((0, 0), "f4")
    )
    array = xr.DataArray(lazy, dims=("y", "x"), coords={"y": 6000 - np.arange(600.0), "x": np.arange(450.0)})
    budget = 2 * 100 * 90 * 4
    monkeypatch.setattr("tesela.io.arrays._BUDGET_BYTES", budget)
    computed: list[int] = []
    plain = xr.DataArray.values.fget

    def watched(self: xr.DataArray) -> Any:
        if self.ndim == 2:
            computed.append(self.nbytes)
        return plain(self)

    monkeypatch.setattr(xr.DataArray, "values", property(watched))
    scene = tesela.open_scene(array.rio.write_crs(25830))
    assert len(asked) == len(set(asked)) == 30
    assert max(computed) <= budget
    with SceneReader(scene) as reader:
        values = reader.read(scene.grid)[0]
    assert set(np.unique(values)) == set(range(1, 31))


def test_temporary_files_go_with_the_last_object_that_refers_to_them(folder: Path) -> None:
    scene = tesela.open_scene(opened(folder))
    file = Path(scene.bands[0].path)
    part = scene.select(["nir"])
    del scene
    assert file.exists()
    renamed = replace(part, name="other")
    del part
    with SceneReader(renamed) as reader:
        del renamed
        assert np.isfinite(reader.read(reader.scene.grid)).any()
    del reader
    assert not file.exists()
    assert not file.parent.exists()


def test_an_array_keeps_the_file_of_its_map(folder: Path) -> None:
    made = tesela.generalise(folder / "map.tif", mmu="1 ha", min_width=0)
    lazy = made.to_xarray(lazy=True)
    file = Path(made.path)
    del made
    assert (lazy.values > 0).any()
    saved = tesela.open_map(lazy).save(folder / "saved.tif")
    del lazy
    gc.collect()  # graphs of Dask are cycles
    assert not file.exists()
    with MapReader(saved) as reader:
        assert (reader.read(saved.grid) > 0).any()
    assert {path.name for path in folder.glob("saved*")} == {"saved.tif", "saved.tif.aux.xml", "saved.qml"}


def test_a_copy_in_another_process_does_not_own_the_files(folder: Path) -> None:
    scene = tesela.open_scene(opened(folder))
    copy = pickle.loads(pickle.dumps(scene))
    assert copy == scene
    file = Path(copy.bands[0].path)
    del copy
    assert file.exists()
    held = Held()
    child = os.fork()
    if child == 0:
        held._release()
        os._exit(0)
    os.waitpid(child, 0)
    assert held.folder.exists()


def test_a_full_temporary_folder_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("")
    with pytest.raises(tesela.InputError, match="no temporary files can be made there"):
        Held()


def test_the_grid_of_an_array_is_that_of_its_file(folder: Path) -> None:
    wanted = tesela.open_scene(folder / "scene.tif").grid
    for array in (opened(folder), opened(folder)[:, ::-1], as_dataset(folder)):
        assert array_grid(array) == wanted
    part = opened(folder).isel(y=slice(10, 20), x=slice(5, 9))  # its stored transform is that of the whole
    assert array_grid(part) == wanted[10:20, 5:9]
