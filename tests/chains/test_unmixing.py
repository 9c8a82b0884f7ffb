"""The unmixing chain from a cube to its report, its template, and the virtual region it is shown on."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from recipe_keys import keys_by_section, recorded_reads
from tesela.chains.run import build_chain, run_recipe
from tesela.chains.unmixing.pretraining import read_series
from tesela.chains.unmixing.recipe import StackSection, UnmixingRecipe
from tesela.core.errors import InputError, RecipeError
from tesela.io.abundance import AbundanceWriter, open_abundance
from tesela.io.cube_writer import CubeWriter
from tesela.io.legends import open_legend
from tesela.io.msmtu import BANDS, TIMES
from tesela.io.timespec import LabelledSeries, write_timespec
from tesela.models.expert import open_expert
from tesela.models.output import Tensor, UnmixingNetwork
from tesela.patches.pixels import read_pixel_table, table_of_timespec
from tesela.recipes.chain_registry import find_chain
from tesela.recipes.first_recipe import write_template
from tesela.recipes.schema import check_recipe, open_recipe
from tesela.recipes.stages import run_stages
from tesela.simulate.region.modis import _Response, _season_weights
from tesela.training.unmixing.loop import load_start

GRID = GeoBox((30, 24), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")
NOT_READ = {
    *(
        ("CubeSection", key)
        for key in (
            "modis",
            "months",
            "climatology",
            "dem",
            "layers",
            "memory",
            "cluster",
            "stack",
            "merge",
            "quality",
        )
    ),
    ("SplitSection", "published"),
    *(("StackSection", key) for key in StackSection.model_fields),
    ("SharesSection", "field"),
    *(("PretrainingSection", key) for key in ("kind", "series", "weights", "epochs", "purity")),
}
"""Keys that a recipe of a cube and of shares that exist does not need."""
LAYERS = ("longitude", "latitude", "altitude", "precipitation")
RECIPE = """
chain = "unmixing"
name = "tiny"
out = "run"
legend = "sipna-2"
ancillary = "{ancillary}"
[cube]
path = "cube.zarr"
[reference]
path = "shares.tif"
[split]
block = ["3 km", "3 km"]
fractions = [0.5, 0.25, 0.25]
[training]
model = "mlp"
context = 0
head = "dirichlet"
epochs = 2
batch_size = 128
accelerator = "cpu"
[mapping]
engine = "torch"
uncertainty = true
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A linear mixture of ten spectra on 30 x 24 cells, a fifth of it hidden, and a recipe."""
    rng = np.random.default_rng(0)
    legend = open_legend("sipna-2")
    shares = np.moveaxis(rng.dirichlet(np.full(10, 0.3), (30, 24)), -1, 0)
    values = np.einsum("ktb,krc->tbrc", rng.random((10, 12, 7)) * 0.5, shares)
    values[rng.random(values.shape) < 0.2] = np.nan
    with CubeWriter(tmp_path / "cube.zarr", GRID, times=TIMES, bands=BANDS, layers=LAYERS) as cube:
        cube.write(0, 0, values)
        cube.write_layers(0, 0, rng.random((4, 30, 24)))
    with AbundanceWriter(tmp_path / "shares.tif", GRID, legend) as file:
        file.write_shares(0, 0, shares)
    (tmp_path / "tiny.toml").write_text(RECIPE.format(ancillary="all"))
    return tmp_path


def test_the_chain_runs_from_a_cube_to_a_report_and_is_then_up_to_date(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded_reads(monkeypatch) as reads:
        outcome = run_recipe(project / "tiny.toml", quiet=True)
    assert keys_by_section(UnmixingRecipe) - reads == NOT_READ, "the chain reads all keys"
    assert outcome.run.done == ["label", "pixels", "train", "map", "assess"]
    assert [line.split()[0] for line in outcome.lines] == [
        "MAE",
        "RMSE",
        "RRMSE",
        "CC",
        "F1",
        "map",
        "report",
    ]
    shares = open_abundance(project / "run/maps/abundances.tif").read()
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-4)
    document = json.loads((project / "run/report/assessment.json").read_text())
    table = read_pixel_table(project / "run/pixels/pixels.safetensors")
    assert document["evaluated_px"] == table.counts["test"]
    assert document["calibration"]["shares"] == 10 * table.counts["test"]
    assert (project / "run/report/report.html").exists()
    chain = outcome.chain
    metrics = chain.metrics()  # type: ignore[attr-defined]
    blocks = chain.blocks()  # type: ignore[attr-defined]
    assert [metric.name for metric in metrics] == ["RMSE", "MAE", "RRMSE", "CC", "F1"] * 2
    assert [metric.level for metric in metrics] == [2] * 5 + [1] * 5
    assert metrics[0].better == "lower"
    assert metrics[3].better == "higher"
    assert blocks.score(blocks.counts.sum(axis=0)[np.newaxis])[0] == pytest.approx(metrics[0].overall)
    assert chain.mflops_per_px() > 0.01  # type: ignore[attr-defined]
    again = run_recipe(project / "tiny.toml", quiet=True)
    assert again.run.done == []


def test_a_recipe_may_count_pixels_as_published(project: Path) -> None:
    left, top = 400_000, 4_100_000
    squares = [
        shapely.box(left, top - 15_000, left + 204, top),
        shapely.box(left + 204, top - 15_000, left + 12_000, top),
    ]
    gpd.GeoDataFrame({"CLASS": ["1", "42"]}, geometry=squares, crs="EPSG:25830").to_file(
        project / "sipna.gpkg"
    )
    codes = open_legend("sipna-2").codes
    (project / "crosswalk.csv").write_text("from,to,share\n1,artificial,1\n42,forest,1\n")
    reference = 'path = "sipna.gpkg"\nfield = "CLASS"\nsource = "mine"\ncrosswalk = "crosswalk.csv"\n'
    for count, share in (("", 204 / 500), ('count = "10 m"\n', 0.4)):
        text = RECIPE.format(ancillary="all").replace('path = "shares.tif"\n', reference + count)
        (project / "tiny.toml").write_text(text)
        recipe, folder = open_recipe(project / "tiny.toml")
        run_stages(build_chain(recipe, folder, quiet=True).stages, until="label")
        shares = open_abundance(project / "run/labels/shares.tif").read()
        assert shares[codes.index("artificial"), :, 0] == pytest.approx(share, abs=1e-4)
    (project / "tiny.toml").write_text(
        RECIPE.format(ancillary="all").replace("[split]", 'count = "10 m"\n[split]')
    )
    recipe, folder = open_recipe(project / "tiny.toml")
    with pytest.raises(InputError, match="holds shares already, so nothing is counted"):
        run_stages(build_chain(recipe, folder, quiet=True).stages, until="label")


@pytest.mark.parametrize(
    ("source", "kind"), [("cube", "gaps"), ("own", "gaps"), ("timespec", "classes"), ("table", "both")]
)
def test_pretraining_runs_before_training_on_any_series(
    project: Path, source: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    values = rng.random((40, 12, 7)).astype(np.float32) * 0.5
    values[rng.random(values.shape) < 0.2] = np.nan
    series = LabelledSeries(values, ("Forest", "Water"), np.arange(40) % 2)
    write_timespec(series, project / "timespec")
    table_of_timespec(series).write(project / "series.safetensors")
    with CubeWriter(project / "other.zarr", GRID, times=TIMES, bands=BANDS) as cube:
        cube.write(0, 0, rng.random((12, 7, 30, 24)))
    names = {"cube": "other.zarr", "timespec": "timespec", "table": "series.safetensors"}
    where = f'series = "{names[source]}"\n' if source in names else ""
    text = RECIPE.format(ancillary="all") + f'[pretraining]\nkind = "{kind}"\nepochs = 2\n{where}'
    (project / "tiny.toml").write_text(text)
    given: list[frozenset[str]] = []

    def spy(network: UnmixingNetwork, start: Mapping[str, Tensor]) -> frozenset[str]:
        given.append(load_start(network, start))
        return given[-1]

    monkeypatch.setattr("tesela.training.unmixing.loop.load_start", spy)
    recipe, folder = open_recipe(project / "tiny.toml")
    chain = build_chain(recipe, folder, quiet=True)
    run_stages(chain.stages, until="train")
    left_out = ("head.",) if source == "own" else ("head.", "film.")  # other series have no layers
    names_of_all = open_expert(chain.expert_file).network.state_dict()
    assert given == [frozenset(name for name in names_of_all if not name.startswith(left_out))]
    assert run_stages(chain.stages, until="train").done == []
    if source == "timespec":
        file = project / "timespec/1Forest.json"
        file.write_text(file.read_text().replace("Pixel_Metadata", "Metadata"))
        assert run_stages(chain.stages, until="train").done == ["train"]


def test_series_that_do_not_fit_are_reported_before_training(project: Path) -> None:
    with CubeWriter(project / "other.zarr", GRID, times=TIMES, bands=("red", "nir")) as cube:
        cube.write(0, 0, np.zeros((12, 2, 30, 24)))
    text = RECIPE.format(ancillary="all") + '[pretraining]\nkind = "gaps"\nseries = "other.zarr"\n'
    (project / "tiny.toml").write_text(text)
    recipe, folder = open_recipe(project / "tiny.toml")
    stages = build_chain(recipe, folder, quiet=True).stages
    with pytest.raises(InputError, match="have the bands red, nir; they lack sur_refl_b01"):
        run_stages(stages, until="train")
    (project / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no series to pretrain on"):
        read_series(project / "notes.txt")


def test_sets_of_layers_are_those_of_the_published_ablation(project: Path) -> None:
    for name, layers in (
        ("none", ()),
        ("topographic", ("longitude", "latitude", "altitude")),
        ("climatic", ("precipitation",)),
    ):
        (project / "tiny.toml").write_text(RECIPE.format(ancillary=name))
        recipe, folder = open_recipe(project / "tiny.toml")
        run_stages(build_chain(recipe, folder, quiet=True).stages, until="pixels")
        assert read_pixel_table(project / "run/pixels/pixels.safetensors").layers == layers


def test_mistakes_of_a_recipe_are_reported_at_once() -> None:
    document = tomllib.loads(RECIPE.format(ancillary="all"))
    document["cube"] = {"path": "cube.zarr", "modis": ["modis"]}
    document["split"]["blok"] = 1
    fitted = tomllib.loads(RECIPE.format(ancillary="all"))
    fitted |= {"training": {"model": "forest"}, "pretraining": {"kind": "gaps"}}
    with pytest.raises(RecipeError, match="a model 'forest' is fitted at once and cannot be pretrained"):
        check_recipe(fitted, where="tiny.toml")
    with pytest.raises(
        RecipeError, match=r"2 mistakes: .*give either path.*unknown key split\.blok \(did you mean block\?\)"
    ):
        check_recipe(document, where="tiny.toml")


def test_the_template_is_a_recipe_once_its_files_are_there(tmp_path: Path) -> None:
    path = write_template("unmixing", tmp_path / "unmixing.toml")
    recipe = check_recipe(tomllib.loads(path.read_text()), where="unmixing.toml")
    assert isinstance(recipe, find_chain("unmixing").load("recipe"))
    with pytest.raises(RecipeError, match=r"no file modis.*no file sipna\.gpkg"):
        open_recipe(path)


def test_the_response_of_a_cell_keeps_constants_and_reaches_its_neighbours() -> None:
    fine = GeoBox((200, 200), Affine(25, 0, 0, 0, -25, 5000), "EPSG:25830")
    cells = GeoBox((8, 8), Affine(500, 0, 500, 0, -500, 4500), "EPSG:25830")
    response = _Response(fine, cells)
    assert response.mix(np.full((1, 200, 200), 0.3, np.float32)) == pytest.approx(0.3, abs=1e-6)
    point = np.zeros((1, 200, 200), np.float32)
    point[0, 20 + 2 * 20 : 20 + 3 * 20, 20 + 3 * 20 : 20 + 4 * 20] = 1  # the whole of cell (2, 3)
    seen = response.mix(point)[0]
    assert seen.sum() == pytest.approx(1, abs=1e-4)
    assert seen[2, 3] == pytest.approx(0.75, abs=0.01)
    assert seen[2, 2] == pytest.approx(0.125, abs=0.01)
    assert seen[1, 3] == 0


def test_seasons_follow_each_other_round_the_year() -> None:
    for day in (1.0, 15.0, 105.0, 150.0, 196.0, 258.0, 366.0):
        weights = _season_weights(np.full((1, 1), day, np.float32))
        assert weights.sum() == pytest.approx(1)
    assert _season_weights(np.full((1, 1), 196.0, np.float32))[2, 0, 0] == pytest.approx(1)
