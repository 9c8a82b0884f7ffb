"""Changes, mosaics and cubes without an output path: they lie in temporary files that go with the answer."""

import gc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rioxarray
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import tesela
from mosaic_scenes import GRID, catalogue_of, seen
from tesela.simulate.server.catalogue import write_item
from tesela.simulate.server.server import ProviderServer

LAND = GeoBox((60, 80), Affine(100, 0, 500_000, 0, -100, 4_100_000), "EPSG:25830")
YEARS = (2018, 2024)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> list[tesela.ClassMap]:
    """Six categories in blocks of 10 px, 1 km; a square of cropland becomes settlements."""
    folder = tmp_path_factory.mktemp("changes")
    values = np.kron(np.arange(48).reshape(6, 8) % 6 + 1, np.ones((10, 10), int)).astype(np.uint8)
    later = values.copy()
    later[:10, 10:17] = 5
    legend = tesela.open_legend("lulucf")
    made = []
    for year, array in zip(YEARS, (values, later), strict=True):
        tesela.write_map(folder / f"{year}.tif", array, LAND, legend=legend)
        made.append(tesela.open_map(folder / f"{year}.tif"))
    return made


def test_a_sample_of_change_is_drawn_interpreted_and_accounted_in_memory(
    maps: list[tesela.ClassMap], tmp_path: Path
) -> None:
    samples = tesela.sample_changes(maps, years=YEARS, points=80, minimum=5)
    filed = tesela.sample_changes(maps, tmp_path / "changes", years=YEARS, points=80, minimum=5)
    assert list(samples) == [YEARS]
    assert filed[YEARS].file == tmp_path / "changes/sample_2018-2024.gpkg"
    points = samples[YEARS].to_geodataframe()
    assert points.equals(gpd.read_file(filed[YEARS].file, layer="points"))
    assert samples[YEARS].document["expected_se"] is None
    codes = {item.value: item.code for item in maps[0].legend.classes}
    states = []
    for held in maps:
        array = held.to_xarray()
        near = array.sel(x=xr.DataArray(points["x"]), y=xr.DataArray(points["y"]), method="nearest").values
        states.append([codes[value] for value in near.tolist()])
    points["reference"] = [f"{a}>{b}" for a, b in zip(*states, strict=True)]
    assert samples[YEARS].interpret(points) is samples[YEARS]
    made = tesela.account(maps, years=YEARS, sample={YEARS: samples[YEARS]})
    changes = made.to_frame("changes")
    built = changes[changes["to"].eq("settlements") & changes["mapped_ha"].eq(70)].iloc[0]
    assert built["low_ha"] <= 70 <= built["high_ha"]
    assert built["basis"] != "pixel-counted"
    with pytest.raises(
        tesela.InputError, match="A sample is the path of its GeoPackage, or what sample_draw"
    ):
        tesela.account(maps, years=YEARS, sample={YEARS: points})
    with pytest.raises(tesela.InputError, match="sample_id 9999 is no point of this sample"):
        samples[YEARS].interpret(points.assign(sample_id=9999))
    with pytest.raises(tesela.InputError, match="have no column 'reference'"):
        samples[YEARS].interpret(points[["sample_id"]])
    file = samples[YEARS].file
    assert file.exists()
    del samples
    gc.collect()
    assert not file.exists()


def test_a_change_layer_without_a_path_goes_with_its_maps(
    maps: list[tesela.ClassMap], tmp_path: Path
) -> None:
    layers = tesela.change_layer([item.to_xarray() for item in maps], years=YEARS, mmu="5 ha")
    filed = tesela.change_layer(maps, tmp_path / "layers", years=YEARS, mmu="5 ha")
    layer = layers[YEARS]
    assert layer.changed_ha == filed[YEARS].changed_ha == pytest.approx(70)
    later = layer.later
    assert later is not None
    assert (later.to_xarray().values == maps[1].to_xarray().values).all()
    assert (layer.map.to_xarray().values > 0).sum() == 70
    file = Path(later.path)
    del layers, layer
    gc.collect()
    assert file.exists()
    del later
    gc.collect()
    assert not file.exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ProviderServer]:
    folder = catalogue_of(tmp_path / "catalogue", [seen(day, 1000 * day) for day in (1, 2, 3)])
    with ProviderServer(folder) as running:
        yield running


def test_a_mosaic_is_a_scene_and_an_array(server: ProviderServer, tmp_path: Path) -> None:
    options = {"like": GRID, "year": 2018, "months": "4", "bands": "rgb", "buffer": 0}
    (made,) = tesela.mosaic_sentinel_2(catalogue=server.address, **options)
    (filed,) = tesela.mosaic_sentinel_2(tmp_path / "out", catalogue=server.address, **options)
    array = made.to_xarray()
    assert array.dims == ("band", "y", "x")
    assert array.band.values.tolist() == list(made.scene.band_names)
    with rioxarray.open_rasterio(filed.image) as wanted:
        assert (wanted.values == array.values).all()
        assert wanted.rio.transform() == array.rio.transform()
    assert {**made.to_dict(), "image": "", "count": "", "item": "", "seconds": 0} == {
        **filed.to_dict(),
        "image": "",
        "count": "",
        "item": "",
        "seconds": 0,
    }
    scene = made.scene
    del made
    gc.collect()
    assert tesela.open_scene(scene) is scene
    assert Path(scene.bands[0].path).exists()


def test_images_in_an_array_become_a_cube_with_layers_in_arrays() -> None:
    times = np.array(["2018-01-03", "2018-01-20", "2018-02-05"], "datetime64[ns]")
    rows, cols = 6, 8
    values = np.stack([np.full((rows, cols), level, np.float32) for level in (0.1, 0.3, 0.5)])
    values[2, 0, 0] = np.nan
    place = {"y": 4_100_000 - 250 - 500.0 * np.arange(rows), "x": 500_250 + 500.0 * np.arange(cols)}
    images = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": times, **place}, name="ndvi")
    images = images.odc.assign_crs("EPSG:25830")
    height = xr.DataArray(
        np.full((rows, cols), 700, np.float32), dims=("y", "x"), coords=place, name="height"
    )
    height = height.odc.assign_crs("EPSG:25830")
    cube = tesela.mosaic_stack(images, dem=height, layer={"twice": height * 2})
    assert cube.times == ("2018-01", "2018-02")
    assert cube.bands == ("ndvi",)
    series = cube.read()
    np.testing.assert_allclose(series[0, 0], 0.2, rtol=1e-6)
    assert np.isnan(series[1, 0, 0, 0])
    altitude, twice = cube.read_layers(["altitude", "twice"])
    assert (altitude == 700).all()
    assert (twice == 1400).all()
    with pytest.raises(tesela.InputError, match="The layer 'both' has 2 bands"):
        tesela.mosaic_stack(images, layer={"both": xr.concat([height, height], "band")})


def test_a_static_layer_is_a_scene(tmp_path: Path) -> None:
    heights = np.full(GRID.shape, 500, np.int16)
    folder = tmp_path / "catalogue"
    write_item(
        folder, "tile", {"data": heights}, GRID, collection="dem", first=datetime(2021, 1, 1, tzinfo=UTC)
    )
    with ProviderServer(folder) as server:
        layer = tesela.mosaic_layer(collection="dem", asset="data", like=GRID, catalogue=server.address)
    assert layer.band_names == ("data",)
    assert layer.grid == GRID
