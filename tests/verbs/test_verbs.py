"""Each command is a function of `import tesela`; without a path it answers in memory what the file would hold."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import odc.geo.xr  # noqa: F401 - the accessor
import pytest
import rioxarray
import typer
import xarray as xr

import tesela
from pointwise import LEGEND, make_expert, read_map, write_scene
from tesela.cli.app import app
from tesela.core.errors import RecipeError
from tesela.models.expert import save_expert
from tesela.simulate.sheet.files import write_sheet

SHORT = {"update_queue": "update"}
"""`tesela update POLYGONS MAP` is short for `tesela update queue POLYGONS MAP`."""

RENAMED = {"map_file": "map", "queue_file": "queue", "run_folder": "run"}
ONLY_PRINTED = {
    "generalise": {"change_log"},  # `details` of the map is the log, which writes itself
    "unmix": {"endmembers", "library"},
    "legend_list": set(),
}
"""Parameters of commands for files beside the answer, which are methods of the answer in Python."""


def commands() -> Iterator[tuple[str, Callable[..., object]]]:
    """Name in Python and function of each command."""

    def visit(group: typer.Typer, words: tuple[str, ...]) -> Iterator[tuple[str, Callable[..., object]]]:
        for item in group.registered_commands:
            assert item.callback is not None
            name = item.name or item.callback.__name__
            yield "_".join((*words, name)).replace("-", "_"), item.callback
        for part in group.registered_groups:
            assert part.typer_instance is not None
            yield from visit(part.typer_instance, (*words, str(part.typer_instance.info.name)))

    yield from ((SHORT.get(name, name), function) for name, function in visit(app, ()))


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_function_with_its_options(name: str) -> None:
    verb = getattr(tesela, name)
    assert callable(verb)
    assert inspect.getdoc(verb)
    taken = set(inspect.signature(verb).parameters)
    wanted = set(inspect.signature(COMMANDS[name]).parameters) - {"quiet", "as_json"}
    missing = {RENAMED.get(item, item) for item in wanted} - taken - ONLY_PRINTED.get(name, set())
    assert not missing


def test_the_flat_names_are_functions_also_when_the_packages_of_that_name_are_loaded() -> None:
    code = """
import sys
import tesela.generalise.unit, tesela.patches.table
from tesela.patches.split import split_patches
import tesela
assert callable(tesela.generalise) and callable(tesela.patches), (tesela.generalise, tesela.patches)
import tesela.patches.thinning
import importlib
importlib.import_module("tesela.generalise.width")
assert callable(tesela.generalise) and callable(tesela.patches)
from tesela import generalise, patches
assert generalise.__module__ == "tesela.verbs.maps" and patches.__module__ == "tesela.verbs.labels"
from tesela.generalise import regions
assert regions.__name__ == "tesela.generalise.regions"
assert sys.modules["tesela.patches"].__path__
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_asking_for_what_trains_loads_no_torch_and_costs_little() -> None:
    code = """
import time, sys
import tesela
tesela.train_segmentation, tesela.train_unmixing, tesela.predict, tesela.open_expert
print(time.process_time(), *({"torch", "lightning", "xarray"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    assert not loaded
    assert float(seconds) < 3, "0.6 s where nothing else runs"


def test_nothing_but_open_opens() -> None:
    openers = {name for name in tesela._HOME if name.split("_")[0] in ("load", "read", "find", "get")}
    assert not openers
    assert {
        name.removeprefix("open_") for name in tesela._HOME if name.startswith("open_")
    } == {
        "abundance", "cascade", "catalogue", "crosswalk", "cube", "expert", "layer", "legend", "map", "patches",
        "recipe", "review", "scene",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verbs")
    write_scene(place / "scene.tif", (80, 90))
    grid = tesela.open_scene(place / "scene.tif").grid
    legend = tesela.open_legend("corine-1")
    rng = np.random.default_rng(3)
    for year in (2018, 2024):
        values = np.kron(rng.integers(1, 6, (8, 9)), np.ones((10, 10), int)).astype(np.uint8)
        tesela.write_map(place / f"map{year}.tif", values, grid, legend=legend)
    tesela.vectorise(place / "map2018.tif", place / "polygons.gpkg")
    save_expert(place / "expert.safetensors", tesela.train_unmixing(*unmixing()))
    return place


def unmixing() -> tuple[Any, Any]:
    from unmixing_scene import make_table

    return make_table(), tesela.UnmixingSettings(model="fclsu", accelerator="cpu")


def cube(folder: Path) -> xr.Dataset:
    from tesela.io.cube_writer import CubeWriter
    from unmixing_scene import COLS, GRID, NAMES, ROWS, TIMES, make_table

    if not (folder / "cube.zarr").exists():
        values = make_table().values.reshape(ROWS, COLS, len(TIMES), len(NAMES)).transpose(2, 3, 0, 1)
        with CubeWriter(
            folder / "cube.zarr", GRID, times=TIMES, bands=NAMES, layers=("altitude", "slope")
        ) as writer:
            writer.write(0, 0, values)
            writer.write_layers(0, 0, make_table().static.reshape(ROWS, COLS, 2).transpose(2, 0, 1))
    return tesela.open_cube(folder / "cube.zarr").to_xarray()


def same_rasters(made: Any, path: Path) -> bool:
    with rioxarray.open_rasterio(path) as wanted, rioxarray.open_rasterio(made.path) as own:
        return bool((wanted.values == own.values).all()) and own.rio.transform() == wanted.rio.transform()


def test_predict_and_its_layers(folder: Path, tmp_path: Path) -> None:
    layers: dict[str, Any] = dict.fromkeys(("confidence", "entropy", "probabilities"), True)
    made = tesela.predict(make_expert(), folder / "scene.tif", engine="torch", **layers)
    filed = tesela.predict(
        make_expert(), folder / "scene.tif", tmp_path / "map.tif", engine="torch", **layers
    )
    assert same_rasters(made, tmp_path / "map.tif")
    assert filed.layers["entropy"] == str(tmp_path / "map.entropy.tif")
    for layer in layers:
        assert (made.to_xarray(layer).values == filed.to_xarray(layer).values).all()
    assert made.to_xarray("probabilities").dims == ("band", "y", "x")
    assert list(made.to_xarray("probabilities").band.values) == list(LEGEND.codes)
    with pytest.raises(
        tesela.InputError, match=r"Unknown layer 'shares'. .*confidence, entropy, probabilities"
    ):
        made.to_xarray("shares")


def test_an_expert_applies_itself(folder: Path, tmp_path: Path) -> None:
    expert = tesela.open_expert(make_expert())
    made = expert.predict(rioxarray.open_rasterio(folder / "scene.tif"), engine="torch")
    wanted = tesela.predict(make_expert(), folder / "scene.tif", engine="torch")
    assert (made.to_xarray().values == wanted.to_xarray().values).all()
    assert "Class 10" in expert._repr_html_()
    shares = tesela.open_expert(folder / "expert.safetensors").predict(cube(folder))
    assert isinstance(shares, tesela.AbundanceMap)


def test_label_and_fractions(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"like": folder / "scene.tif", "legend": "corine-1", "field": "code"}
    for fractions in (False, True):
        made = tesela.label(folder / "polygons.gpkg", fractions=fractions, **options)
        tesela.label(folder / "polygons.gpkg", tmp_path / "out.tif", fractions=fractions, **options)
        assert same_rasters(made, tmp_path / "out.tif")


def test_unmix(folder: Path, tmp_path: Path) -> None:
    made = tesela.unmix(folder / "expert.safetensors", cube(folder), classes=True)
    tesela.unmix(folder / "expert.safetensors", folder / "cube.zarr", tmp_path / "shares.tif")
    assert same_rasters(made, tmp_path / "shares.tif")
    shares = xr.decode_cf(made.to_xarray())
    assert list(shares.data_vars) == list(made.legend.codes)
    total = sum(shares[code] for code in made.legend.codes)
    assert abs(float(total.mean()) - 1) < 1e-4
    assert shares[made.legend.codes[0]].attrs["long_name"] == made.legend.names[0]
    again = tesela.open_abundance(made.to_xarray())
    assert np.array_equal(again.read(), made.read(), equal_nan=True)
    assert tesela.assess(made, again).to_frame()["mae"].max() == 0
    assert tesela.assess(made, again).to_frame("overall").loc["mae", "value"] == 0
    assert "mean share" in made._repr_html_()
    with tesela.io.maps.MapReader(tesela.open_map(made.layers["classes"])) as reader:
        assert reader.read(made.grid).shape == tuple(made.grid.shape)


def test_generalise_and_convert(folder: Path, tmp_path: Path) -> None:
    made = tesela.generalise(folder / "map2018.tif", mmu="2 ha", min_width="30 m", narrow=True)
    tesela.generalise(folder / "map2018.tif", tmp_path / "g.tif", mmu="2 ha", min_width="30 m")
    assert same_rasters(made, tmp_path / "g.tif")
    assert made.details.moved_px > 0  # type: ignore[attr-defined]
    assert made.to_xarray("narrow").shape == (80, 90)
    translated = tesela.legend_convert(folder / "map2018.tif", to="lulucf")
    tesela.legend_convert(folder / "map2018.tif", tmp_path / "l.tif", to="lulucf")
    assert same_rasters(translated, tmp_path / "l.tif")
    assert translated.details.target.name == "lulucf"  # type: ignore[attr-defined]


def test_vectorise_and_update(folder: Path, tmp_path: Path) -> None:
    polygons = tesela.vectorise(folder / "map2018.tif")
    assert isinstance(polygons, gpd.GeoDataFrame)
    filed = tesela.open_layer(folder / "polygons.gpkg").to_geodataframe()
    assert polygons.drop(columns="geometry").equals(filed.drop(columns="geometry").reset_index(drop=True))
    assert (polygons.geometry.values == filed.geometry.values).all()
    made = tesela.update(polygons, folder / "map2024.tif", field="code")
    named = tesela.update(folder / "polygons.gpkg", folder / "map2024.tif", tmp_path / "u.gpkg", field="code")
    frame, wanted = made.to_geodataframe(), named.to_geodataframe()
    assert len(frame) > 5
    assert frame.equals(wanted)
    assert made.verdicts == named.verdicts


def test_update_finds_the_covers_of_a_siose_file_and_needs_a_field_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    sheet = write_sheet(tmp_path, size_px=256, pixel_m=1.0)
    made = tesela.update(sheet.reference, sheet.truth, mmu="0.1 ha")
    named = tesela.update(
        sheet.reference,
        sheet.truth,
        layer="SAR_99_T_POLIGONOS",
        field="ID_COBERTURA_MAX",
        source="siose-ar",
        mmu="0.1 ha",
    )
    assert made.to_geodataframe().equals(named.to_geodataframe())
    assert made.verdicts["changed"][0] > 0
    with pytest.raises(RecipeError, match="Name the field of the old codes: --field"):
        tesela.update(folder / "polygons.gpkg", folder / "map2024.tif")


def test_assess(folder: Path, tmp_path: Path) -> None:
    made = tesela.assess(folder / "map2024.tif", folder / "map2018.tif")
    filed = tesela.assess(folder / "map2024.tif", folder / "map2018.tif", tmp_path / "report")
    assert made.report is None
    assert filed.report is not None
    assert filed.report.exists()
    table = made.to_frame()
    assert table.equals(filed.to_frame())
    overall = tesela.assess(folder / "map2024.tif", folder / "map2018.tif", tiles=20).to_frame("overall")
    assert overall["value"].to_dict() == made.to_frame("overall")["value"].to_dict()
    assert overall.loc["macro_f1", "value"] == made.scores.macro_f1
    assert (overall["low"] < overall["value"]).all()
    assert (overall["value"] < overall["high"]).all()
    assert overall["tiles"].tolist() == [20, 20, 20]
    assert made.to_frame("overall")["low"].isna().all()  # the bootstrap needs two tiles
    with pytest.raises(tesela.InputError, match="Unknown table 'classs': did you mean 'classes'"):
        made.to_frame("classs")
    assert made.assessment.to_dict() == filed.assessment.to_dict()
    assert {"iou", "f1", "precision", "recall", "reference_ha", "map_ha"} <= set(table.columns)
    assert "Accuracy 0." in made._repr_html_()
    polygons = tesela.assess(
        folder / "map2024.tif", gpd.read_file(folder / "polygons.gpkg", layer="map"), field="code"
    )
    assert polygons.scores.accuracy == made.scores.accuracy


def test_a_sample_is_drawn_interpreted_and_estimated_in_memory(folder: Path, tmp_path: Path) -> None:
    made = tesela.sample_draw(folder / "map2018.tif", points=60, minimum=5, seed=2)
    filed = tesela.sample_draw(folder / "map2018.tif", tmp_path / "p.gpkg", points=60, minimum=5, seed=2)
    points = made.to_geodataframe()
    assert points.equals(filed.to_geodataframe())
    truth = rioxarray.open_rasterio(folder / "map2024.tif").squeeze()
    near = truth.sel(x=xr.DataArray(points["x"]), y=xr.DataArray(points["y"]), method="nearest").values
    legend = tesela.open_legend("corine-1")
    codes = {item.value: item.code for item in legend.classes}
    points["reference"] = [codes[value] for value in near.tolist()]
    points[["sample_id", "reference"]].to_csv(tmp_path / "responses.csv", index=False)
    for sample in (made, tmp_path / "p.gpkg"):
        result = tesela.sample_estimate(sample, folder / "map2018.tif", responses=tmp_path / "responses.csv")
        table = result.to_frame()
        assert result.page is None
        assert list(table.index) == list(legend.codes)
        assert table["area_ha"].sum() == pytest.approx(72)
        assert (table["area_ha_low"] <= table["area_ha"]).all()


def test_account(folder: Path, tmp_path: Path) -> None:
    maps = [tesela.open_map(folder / f"map{year}.tif").to_xarray() for year in (2018, 2024)]
    made = tesela.account(maps, years=(2018, 2024))
    paths = [folder / f"map{year}.tif" for year in (2018, 2024)]
    filed = tesela.account(paths, tmp_path / "account", years=(2018, 2024))
    assert not made.files
    assert filed.files["page"].exists()
    for table in ("areas", "changes", "remaining", "cohorts", "checks"):
        assert made.to_frame(table).equals(filed.to_frame(table)), table
    assert "Land account 2018 to 2024" in made._repr_html_()
    with pytest.raises(tesela.InputError, match="Unknown table 'area': did you mean 'areas'"):
        made.to_frame("area")


@pytest.mark.slow
def test_patches_and_an_expert_in_memory(folder: Path, tmp_path: Path) -> None:
    image = rioxarray.open_rasterio(folder / "scene.tif")
    labels = tesela.label(folder / "map2018.tif", like=image, legend="corine-1")
    table = tesela.patches(image, labels, size=16, block="160 m", seed=1)
    del image, labels
    filed = tesela.patches(folder / "scene.tif", folder / "map2018.tif", size=16, block="160 m", seed=1)
    columns = ["row", "col", "split", *table.share_columns]
    assert table.frame[columns].equals(filed.frame[columns])
    settings = tesela.SegmentationSettings(
        model="unet", encoder="tu-mobilenetv3_small_050", decoder="small", epochs=1, seed=1
    )
    bigger = tesela.patches(folder / "scene.tif", folder / "map2018.tif", size=32, stride=8, split="random")
    expert = tesela.train_segmentation(bigger, settings, quiet=True)
    assert expert.predict(folder / "scene.tif", engine="torch", any_scene=True).legend.address == "corine-1"
    with pytest.raises(tesela.InputError, match="the table would name temporary files of arrays"):
        tesela.patches(
            rioxarray.open_rasterio(folder / "scene.tif"),
            folder / "map2018.tif",
            tmp_path / "t.parquet",
            size=16,
        )


def test_exported_arrays_open_rightly_elsewhere(folder: Path, tmp_path: Path) -> None:
    source = tesela.open_map(folder / "map2018.tif")
    array = source.to_xarray()
    assert array.dtype == np.uint8
    assert array.rio.crs.to_epsg() == 25830
    assert array.rio.nodata == 0
    assert array.rio.transform() == source.grid.affine
    assert array.odc.geobox == source.grid
    legend = source.legend
    assert array.attrs["flag_values"].tolist() == list(legend.values)
    assert len(array.attrs["flag_meanings"].split()) == len(legend)
    assert array.attrs["flag_colors"].split() == [item.color for item in legend.classes]

    array.rio.to_raster(tmp_path / "by_rioxarray.tif")
    again = tesela.open_map(tmp_path / "by_rioxarray.tif")
    assert again.legend == legend
    assert (read_map(Path(again.path)) == array.values).all()
    array.to_netcdf(tmp_path / "map.nc", engine="scipy", format="NETCDF3_64BIT")
    with xr.open_dataset(tmp_path / "map.nc", engine="scipy", decode_coords="all") as data:
        assert data["classes"].rio.crs.to_epsg() == 25830
        assert (tesela.open_map(data["classes"]).to_xarray().values == array.values).all()
    warped = array.rio.reproject("EPSG:3035")
    assert warped.tesela.legend == legend


def test_arrays_of_classes_show_their_legend(folder: Path) -> None:
    source = tesela.open_map(folder / "map2018.tif")
    array = source.to_xarray()
    assert array.tesela.legend == source.legend
    assert array.tesela.palette[1] == source.legend["1"].color
    assert array.tesela.areas.equals(source.areas)
    assert source.to_xarray(lazy=True).tesela.areas.equals(source.areas)
    part = array.isel(y=slice(0, 20))
    assert part.tesela.areas["pixels"].sum() == 20 * 90
    assert part.tesela.areas["area_ha"].sum() == pytest.approx(18.0)
    assert part.tesela.to_map().areas.equals(part.tesela.areas)
    with pytest.raises(tesela.LegendError, match="does not name its legend"):
        _ = array.drop_attrs(deep=False).tesela.legend


def test_maps_are_drawn_and_shown_in_notebooks(folder: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    source = tesela.open_map(folder / "map2018.tif")
    for axes in (source.plot(), source.to_xarray().tesela.plot()):
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[0] == "1 Artificial surfaces"
        box = source.grid.boundingbox
        assert axes.get_xlim() == (box.left, box.right)
        plt.close(axes.figure)
    card = source._repr_html_()
    assert card.count("<tr>") == 1 + len(source.areas)
    assert "data:image/png;base64," in card
    assert "http" not in card


def test_a_map_without_its_legend_in_the_file_teaches_by_that_of_the_object(
    folder: Path, tmp_path: Path
) -> None:
    bare = rioxarray.open_rasterio(folder / "map2018.tif")
    bare.attrs.pop("TESELA_LEGEND")
    bare.rio.to_raster(tmp_path / "bare.tif")
    named = tesela.open_map(tmp_path / "bare.tif", legend="corine-1")
    labels = tesela.label(named, like=folder / "scene.tif", legend="corine-1")
    assert (read_map(Path(labels.path)) == read_map(folder / "map2018.tif")).all()


def test_a_large_map_comes_as_a_lazy_array(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tesela.open_map(folder / "map2018.tif")
    monkeypatch.setattr("tesela.io.array_views.IN_MEMORY_BYTES", 80 * 90 - 1)
    monkeypatch.setattr("tesela.io.array_views._CHUNK_PX", 32)
    array = source.to_xarray()
    assert array.chunks == ((32, 32, 16), (32, 32, 26))
    assert (array.values == read_map(folder / "map2018.tif")).all()
    assert (
        array.isel(y=slice(3, 40), x=slice(60, 70)).values == source.to_xarray(lazy=False)[3:40, 60:70]
    ).all()
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(tesela.InputError, match="too large to be read at once, and Dask is not installed"):
        source.to_xarray()
