"""Recipes: their mistakes are reported all at once; stages are skipped and resumed."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import rasterio

from recipe_keys import keys_by_section, recorded_reads
from tesela.chains.corine.chain import CorineChain
from tesela.chains.corine.recipe import CorineRecipe
from tesela.chains.run import build_chain
from tesela.cli import main
from tesela.core.errors import RecipeError
from tesela.recipes.chain_registry import CHAINS
from tesela.recipes.schema import Recipe, check_recipe, open_recipe

GOOD = """
chain = "corine"
[[scenes]]
name = "a"
paths = ["a.tif"]
[reference]
path = "b.gpkg"
"""


def test_five_mistakes_are_reported_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    text = """
        chain = "corine"
        legend = "corine-9"
        [[scenes]]
        name = "a"
        paths = ["a.tif"]
        [reference]
        path = "missing.gpkg"
        [patches]
        sise_px = 128
        block = "2 miles"
        [training]
        epoch = 3
    """
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.toml has 5 mistakes") as caught:
        open_recipe(tmp_path / "r.toml")
    message = str(caught.value)
    assert "unknown key patches.sise_px (did you mean size_px?)" in message
    assert "unknown key training.epoch (did you mean epochs?)" in message
    assert "levels 1 to 3; there is no level 9" in message
    assert "'2 miles' is not a length" in message
    assert "reference.path: no file missing.gpkg" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain": "corin"}, "chain = 'corin'"),
        ({"scenes": []}, "scenes"),
        ({"seed": -1}, "seed = -1"),
        (
            {"scenes": [{"name": "a", "paths": ["x"]}, {"name": "a", "paths": ["y"]}]},
            "scene name a stands twice",
        ),
        ({"patches": {"fractions": [0.5, 0.2, 0.2]}}, "must sum to 1"),
        ({"patches": {"size_px": 100}}, "patches.size_px = 100"),
        ({"training": {"learning_rate": 50}}, "learning_rate is 50"),
        ({"training": {"encoder": "vit", "published": True}}, "the paper used resnet50 and resnet101"),
        ({"mapping": {"memory": "4 bananas"}}, "4 bananas"),
        ({"assessment": {"mmu": "25 m"}}, "'25 m' is not an area"),
        ({"reference": {}}, "reference.path is missing"),
    ],
)
def test_a_mistake_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        check_recipe(tomllib.loads(GOOD) | change, where="recipe")


@pytest.mark.parametrize("chain", CHAINS)
def test_all_parts_of_a_chain_are_found(chain: str) -> None:
    parts = CHAINS[chain]
    assert issubclass(parts.load("recipe"), Recipe)
    assert {"stages", "products", "summary", "lines"} <= set(dir(parts.load("chain")))
    assert callable(parts.load("demo"))
    text = resources.files("tesela.chains").joinpath(chain, "template.toml").read_text(encoding="utf-8")
    assert check_recipe(tomllib.loads(text), where=f"{chain}.toml").chain == chain


@pytest.mark.parametrize("chain", ["corine", "lulucf"])
def test_other_bands_make_other_patches(chain: str, tmp_path: Path) -> None:
    """A patch needs data in all bands that are used, and keeps their files."""
    text = resources.files("tesela.chains").joinpath(chain, "template.toml").read_text(encoding="utf-8")
    settings = []
    for bands in (["a", "b"], ["b", "c"]):
        recipe = check_recipe({**tomllib.loads(text), "bands": bands}, where="recipe")
        stages = build_chain(recipe, tmp_path, quiet=True).stages
        settings.append({stage.name: stage.settings for stage in stages})
    assert settings[0]["label"] == settings[1]["label"]
    assert settings[0]["patches"] != settings[1]["patches"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"chain": "corin"}, "recipe has 1 mistake: chain = 'corin' (did you mean corine? known: corine"),
        ({"name": "a"}, "chain is missing (known: corine"),
        ({"chain": ["corine"]}, "chain = ['corine'] ("),
    ],
)
def test_an_unknown_chain_names_the_known(document: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        check_recipe(document, where="recipe")


def test_the_commented_recipe_is_valid_and_shows_the_defaults() -> None:
    text = resources.files("tesela.chains").joinpath("corine", "template.toml").read_text(encoding="utf-8")
    recipe = check_recipe(tomllib.loads(text), where="corine.toml")
    assert recipe.legend == "corine-2"
    uncommented = re.sub(r"^# (\[|\w+ = )", r"\1", text, flags=re.MULTILINE)
    document = tomllib.loads(uncommented)
    assert document["training"].pop("published")  # which does not go with [pretraining]
    assert document["pretraining"].pop("scenes")  # which do not go with [[layers]]
    assert isinstance(CorineRecipe.model_validate(document), CorineRecipe), "commented keys must be known too"


@pytest.mark.slow
def test_a_recipe_runs_from_imagery_to_report_and_then_skips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tesela.simulate.region.region import write_region

    write_region(tmp_path / "region", size_px=256, seasons=("july",), seed=3, clouds="gaps", min_area_ha=2)
    (tmp_path / "r.toml").write_text(
        """
        chain = "corine"
        name = "tiny"
        out = "run"
        legend = "corine-1"
        bands = ["B08", "B04", "B03", "slope", "position"]
        [[scenes]]
        name = "july"
        paths = ["region/scene_july.tif"]
        [[layers]]
        name = "terrain"
        paths = ["region/altitude.tif"]
        kind = "elevation"
        [reference]
        path = "region/reference.gpkg"
        field = "CODE_18"
        [patches]
        size_px = 32
        block = "640 m"
        [training]
        encoder = "tu-mobilenetv3_small_050"
        decoder = "small"
        epochs = 2
        trees = 8
        pixels = 2000
        [assessment]
        mmu = "2 ha"
        """
    )
    with recorded_reads(monkeypatch) as reads:
        assert main(["run", str(tmp_path / "r.toml"), "--quiet", "--json"]) == 0
    pretraining = {("PretrainingSection", name) for name in ("scenes", "budget", "test_area")} | {
        ("CorrectionSection", name) for name in ("path", "layer", "field", "source")
    }  # there are none
    unused = {("MappingSection", "transfer"), *pretraining}  # no scene is mapped only
    assert keys_by_section(CorineRecipe) - reads == unused, "the chain reads all keys"
    document = json.loads(capsys.readouterr().out)
    assert document["done"] == ["label", "layers", "patches", "train", "map", "assess"]
    assert 0 < document["accuracy"] <= 1
    assert 0 < document["generalised"]["accuracy"] <= 1
    report = json.loads(Path(document["reports"][0]).with_name("assessment.json").read_text(encoding="utf-8"))
    assert report["generalised"]["scores"]["accuracy"] == pytest.approx(
        document["generalised"]["accuracy"], abs=1e-6
    )
    with (
        rasterio.open(document["maps"][0]) as data,
        rasterio.open(tmp_path / "region/scene_july.tif") as image,
    ):
        values = data.read(1)
        assert data.transform == image.transform
        empty = (image.read() == 0).all(0)
        assert ((values == 0) == empty).all(), "nodata stays nodata, all else has a class"
        assert set(np.unique(values)) <= {0, 1, 2, 3, 4, 5}
    assert Path(document["reports"][0]).stat().st_size < 15_000_000
    recipe, folder = open_recipe(tmp_path / "r.toml")
    chain = build_chain(recipe, folder, quiet=True)
    assert isinstance(chain, CorineChain)
    metrics, blocks = chain.metrics(), chain.blocks()
    assert [item.name for item in metrics] == ["IoU", "F1", "accuracy"]
    assert metrics[0].overall == pytest.approx(document["miou"])
    assert float(blocks.score(blocks.counts.sum(axis=0))) == pytest.approx(document["miou"]), "blocks add up"
    assert len(blocks.names) > 1
    assert chain.mflops_per_px() > 0
    assert main(["run", str(tmp_path / "r.toml"), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" generalised (2 ha)")
    assert [line.split()[0] for line in lines] == ["accuracy", "mIoU", "macro", "map", "report"]
    assert main(["run", str(tmp_path / "r.toml"), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == []
