"""Every key of every recipe does what it says: a change of it changes a stage, or is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from recipe_keys import Key, all_keys, get, other_value, parts_of, put, work_of
from repository import ROOT
from tesela.chains.scene_recipe import USUAL_ENCODERS
from tesela.core.errors import RecipeError
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS
from tesela.recipes.chain_registry import CHAINS, find_chain
from tesela.recipes.schema import RENAMED, check_recipe, open_recipe

RECIPES = {
    "corine": """
        chain = "corine"
        [[scenes]]
        name = "a"
        paths = ["a.tif"]
        [[layers]]
        name = "terrain"
        paths = ["dem.tif"]
        kind = "elevation"
        [reference]
        path = "b.gpkg"
        [[corrections]]
        path = "b.gpkg"
        [pretraining]
        budget = "1 min"
    """,
    "lulucf": """
        chain = "lulucf"
        species = ["45"]
        [[scenes]]
        name = "a"
        paths = ["a.tif"]
        [[layers]]
        name = "terrain"
        paths = ["dem.tif"]
        kind = "elevation"
        [reference]
        path = "b.gpkg"
        [[corrections]]
        path = "b.gpkg"
        [[experts]]
        name = "first"
        legend = "lulucf-context"
        [[experts]]
        name = "middle"
        legend = "lulucf-context"
        parent = "first"
        classes = ["forest"]
        [[experts]]
        name = "last"
        legend = "species"
        parent = "first"
        classes = ["forest"]
        [experts.reference]
        path = "b.gpkg"
        [pretraining]
        budget = "1 min"
    """,
    "unmixing": """
        chain = "unmixing"
        [cube]
        modis = ["modis"]
        [reference]
        path = "b.gpkg"
        [pretraining]
        kind = "gaps"
        epochs = 3
    """,
}
"""A recipe of each chain in which every section has a place."""

CANOPY_KEYS = ("paths", "height", "cover_percent", "cell", "crown", "roofs")

BESIDE: dict[str, dict[tuple[str, ...], Any]] = {
    "cube.path": {("cube",): {"path": "cube.zarr"}},
    "cube.msmtu": {("cube",): {"msmtu": "modis"}, ("reference",): None},
    "split.published": {("cube",): {"msmtu": "modis"}, ("reference",): None},
    "pretraining.kind": {("pretraining",): {"kind": "gaps", "series": "other.zarr"}},
    **{
        f"cube.stack.{name}": {("cube",): {"stack": {"files": ["a.tif"]}}}
        for name in (
            "files",
            "bands",
            "dates",
            "period",
            "mask",
            "scale",
            "offset",
            "nodata",
            "grid",
        )
    },
    "bands": {("layers",): []},
    **{
        f"layers.{name}": {("layers",): [{"name": "soil", "paths": ["dem.tif"], "kind": "raster"}]}
        for name in ("bands", "resampling")
    },
    "pretraining.scenes": {("layers",): []},
    "training.model": {("pretraining",): None},
    "training.published": {("pretraining",): None},
    "patches.unbiased": {("patches",): {"split": "quality", "reviewed": "reviewed.parquet"}},
    "patches.assign": {("patches",): {"split": "region"}},
    "experts.context_bands": {("pretraining",): None},
    "joint": {("training",): {"model": "unet"}},
    **{
        f"reference.canopy.{name}": {
            ("reference", "canopy"): {"paths": ["dem.tif"]},
            ("experts",): [
                {"name": "first", "legend": "lulucf-context"},
                {"name": "trees", "legend": "tree-cover", "parent": "first", "classes": ["forest"]},
            ],
        }
        for name in CANOPY_KEYS
    },
    **{
        f"experts.reference.canopy.{name}": {
            ("experts", "legend"): "tree-cover",
            ("experts", "reference", "canopy"): {"paths": ["dem.tif"]},
        }
        for name in CANOPY_KEYS
    },
}
"""Keys that need others beside them."""

HOW_ONLY = {
    "mapping.memory": "how many pixels are held at a time: the map is the same",
    "mapping.cluster": "who does the work: the map is the same",
    "cube.memory": "how many pixels are held at a time: the cube is the same",
    "cube.cluster": "who does the work: the cube is the same",
}
"""Keys that change no output, and must not make a stage stale."""

REFUSED = {
    "training.seed": "seed of the training is that of the recipe",
    **{f"lulucf mapping.{name}": f"a cascade cannot be mapped with {name}" for name in ("blend", "transfer")},
}
"""Keys that are answered with one line, since they would be ignored."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files that the recipes name, and a second network to choose."""
    monkeypatch.setitem(SEGMENTATION_NETWORKS, "other", SEGMENTATION_NETWORKS["unet"])
    names = (
        "a.tif",
        "b.gpkg",
        "dem.tif",
        "other.tif",
        "other.gpkg",
        "reviewed.parquet",
        "weights.safetensors",
    )
    for name in names:
        (tmp_path / name).touch()
    for name in ("modis", "cube.zarr", "other.zarr"):
        (tmp_path / name).mkdir()
    (tmp_path / "crosswalk.csv").write_text("from,to\n1,nodata\n")
    return tmp_path


def every_key() -> list[tuple[str, Key]]:
    return [(chain, key) for chain in CHAINS for key in all_keys(find_chain(chain).load("recipe"))]


def test_all_kinds_of_keys_are_tested() -> None:
    texts = {f"{chain} {key.text}" for chain, key in every_key()}
    assert {
        "corine layers.neighbourhood",
        "corine patches.reviewed",
        "corine mapping.tta",
        "corine assessment.mmu",
        "lulucf experts.reference.trees",
        "lulucf training.imbalance_strategy",
        "unmixing cube.layers",
        "unmixing training.epochs",
        "unmixing pretraining.series",
    } <= texts
    assert len(texts) > 150


@pytest.mark.parametrize(("chain", "key"), every_key(), ids=lambda part: getattr(part, "text", part))
def test_a_change_of_a_key_changes_a_stage_or_is_refused(chain: str, key: Key, folder: Path) -> None:
    if key.text == "chain":
        return  # another chain is another recipe
    document = tomllib.loads(RECIPES[chain])
    for path, value in BESIDE.get(key.text, {}).items():
        document = put(document, path, value)
    value = get(check_recipe(document, where="recipe", folder=folder), key.path) if key.text else None
    other = other_value(key, value)
    changed = put(document, key.path, other)
    refusal = REFUSED.get(f"{chain} {key.text}", REFUSED.get(key.text))
    if refusal is not None:
        with pytest.raises(RecipeError, match=refusal):
            work_of(changed, folder)
        return
    same = work_of(document, folder) == work_of(changed, folder)
    assert same == (key.text in HOW_ONLY), f"{key.text} = {other!r}"


@pytest.mark.parametrize("name", CHAINS)
def test_every_key_of_a_recipe_stands_in_the_documents(name: str) -> None:
    page = ROOT / "docs" / "recipes.md"
    words = set(re.findall(r"`\[{0,2}(\w+)\]{0,2}[^`]*`", page.read_text(encoding="utf-8")))
    keys = {part for key in all_keys(find_chain(name).load("recipe")) for part in key.path}
    assert "epochs" in keys
    assert keys - words == set()


@pytest.mark.parametrize("former", RENAMED)
def test_a_renamed_key_is_answered_with_its_present_name(former: str) -> None:
    chain = next(name for name, key in every_key() if key.text == RENAMED[former])
    document = put(tomllib.loads(RECIPES[chain]), tuple(former.split(".")), "x")
    shown = r"\.(\d+\.)?".join(former.split("."))  # of tables in a list, their number is given
    with pytest.raises(RecipeError, match=rf"{shown} is now called {re.escape(RENAMED[former])}"):
        check_recipe(document, where="recipe")
    assert former not in {key.text for _, key in every_key()}


@pytest.mark.parametrize("chain", CHAINS)
def test_true_is_no_number_in_any_key(chain: str) -> None:
    keys = [
        key
        for key in all_keys(find_chain(chain).load("recipe"))
        if {int, float} & set(parts_of(key.kind)) and bool not in parts_of(key.kind)
    ]
    assert {"seed", "training.epochs"} <= {key.text for key in keys}
    for key in keys:
        shown = r"\.(\d+\.)?".join(key.path)
        with pytest.raises(RecipeError, match=rf"{shown} = true: give a number"):
            check_recipe(put(tomllib.loads(RECIPES[chain]), key.path, True), where="recipe")


def test_all_true_and_false_for_numbers_are_listed_also_those_set_by_a_command(tmp_path: Path) -> None:
    text = "[training]\nepochs = true\nlearning_rte = 1\n[patches]\nbuffer = false\nsplit = 'block'\n"
    (tmp_path / "a.toml").write_text(
        f"name = 'a'\nout = 'out'\nlegend = 'corine-1'\n{RECIPES['corine']}".partition("[pretraining]")[0]
        + text
    )
    with pytest.raises(RecipeError, match="mistakes") as error:
        open_recipe(tmp_path / "a.toml", changes=["patches.fractions=[true, 0.0, 0.0]"])
    listed = (
        "patches.buffer = false: give a number; ",
        "patches.fractions.0 = true: ",
        "training.epochs = true: ",
    )
    assert all(words in str(error.value) for words in listed)
    assert "did you mean learning_rate" in str(error.value)


# --- what is checked before anything runs


def test_a_changed_legend_or_crosswalk_makes_labels_stale(folder: Path) -> None:
    (folder / "mine.csv").write_text("value,code,name,color\n1,a,Land,#00ff00\n2,b,Water,#0000ff\n")
    (folder / "crosswalk_a.csv").write_text("from,to\n311,a\n512,b\n")
    document = tomllib.loads(RECIPES["corine"]) | {"legend": "mine.csv"}
    document["reference"] |= {"crosswalk": "crosswalk_a.csv"}
    before = {stage[0]: stage for stage in work_of(document, folder)}
    assert {"mine.csv", "crosswalk_a.csv"} <= set(before["label"][3]), "both are inputs, whose content counts"
    (folder / "mine.csv").write_text("value,code,name,color\n1,a,Land,#00ff00\n2,b,Sea,#0000ff\n")
    after = {stage[0]: stage for stage in work_of(document, folder)}
    for name in ("label", "patches", "train", "assess"):
        assert before[name][2] != after[name][2], (
            f"the content of the legend stands in the settings of {name}"
        )


@pytest.mark.parametrize("chain", ["corine", "unmixing"])
def test_legends_and_crosswalks_are_read_from_the_folder_of_the_recipe(
    chain: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (folder / "mine.csv").write_text("value,code,name,color\n1,a,Land,#00ff00\n")
    document = tomllib.loads(RECIPES[chain]) | {"legend": "mine.csv"}
    document["reference"] |= {"source": "mine.csv"}
    label = next(stage for stage in work_of(document, folder) if stage[0] == "label")
    assert "mine.csv" in label[3]
    document["legend"] = "yours.csv"
    document["reference"]["source"] = "theirs.csv"
    with pytest.raises(RecipeError, match=r"2 mistakes: .*no file yours\.csv.*no file theirs\.csv"):
        work_of(document, folder)


def test_a_crosswalk_that_leads_elsewhere_is_a_mistake_of_the_recipe(folder: Path) -> None:
    (folder / "crosswalk_a.csv").write_text("from,to\n311,woods\n")
    for chain in CHAINS:
        document = tomllib.loads(RECIPES[chain])
        document["reference"] |= {"crosswalk": "crosswalk_a.csv"}
        with pytest.raises(RecipeError, match="woods"):
            work_of(document, folder)


def test_scenes_and_references_may_be_addresses_without_secrets(folder: Path) -> None:
    document = tomllib.loads(RECIPES["corine"])
    document["scenes"][0]["paths"] = ["https://example.org/a.tif"]
    document["reference"] |= {"path": "postgresql://me@host/base", "layer": "ign.clc"}
    work_of(document, folder)
    for key, value, said in (
        ("paths", ["https://me:1234@example.org/a.tif"], "holds a password"),
        ("paths", ["https://example.org/a.tif?sig=1234"], "holds a key or signature"),
        ("paths", ["zip://missing.zip!a.tif"], r"no file missing\.zip"),
        ("reference", "postgresql://me:1234@host/base", "holds a password"),
        ("reference", "missing.gpkg|layername=clc", r"no file missing\.gpkg"),
    ):
        wrong = tomllib.loads(RECIPES["corine"])
        wrong["scenes"][0][key] = value
        with pytest.raises(RecipeError, match=said) as caught:
            work_of(wrong, folder)
        assert "1234" not in str(caught.value)


def test_layers_of_the_network_are_a_mistake_of_the_recipe(folder: Path) -> None:
    document = tomllib.loads(RECIPES["corine"])
    document["layers"] = [{"name": "dem", "kind": "height", "paths": ["https://example.org/a.tif"]}]
    with pytest.raises(RecipeError, match="is not a local file"):
        work_of(document, folder)


def test_a_source_without_a_crosswalk_is_a_shipped_legend(folder: Path) -> None:
    document = tomllib.loads(RECIPES["corine"])
    document["reference"] |= {"source": "corin"}
    with pytest.raises(
        RecipeError, match=r"reference: source: Unknown legend 'corin': did you mean 'corine'\?"
    ):
        work_of(document, folder)
    document["reference"] |= {"crosswalk": "crosswalk.csv"}
    assert work_of(document, folder)


@pytest.mark.parametrize("chain", ["corine", "lulucf"])
def test_encoders_and_weights_are_checked_before_anything_runs(chain: str, folder: Path) -> None:
    def check(**training: object) -> None:
        work_of(tomllib.loads(RECIPES[chain]) | {"training": training}, folder)

    with pytest.raises(RecipeError, match=r"training: encoder: Unknown encoder 'resnet51'.*resnet50"):
        check(encoder="resnet51")
    with pytest.raises(RecipeError, match=r"training: weights: no file lost\.pth"):
        check(weights="lost.pth")
    with pytest.raises(RecipeError, match=r"has no weights 'imagnet' \(known: .*imagenet"):
        check(weights="imagnet")
    check(encoder="convnext_nano", weights="imagenet")
    document = tomllib.loads(RECIPES[chain]) | {"training": {"weights": "weights.safetensors"}}
    document.pop("pretraining")  # else its encoder is the start
    stages = {stage[0]: stage for stage in work_of(document, folder)}
    train = next(stage for name, stage in stages.items() if name.startswith("train"))
    assert "weights.safetensors" in train[3], "other weights make the training stale"


def test_the_encoders_that_need_no_look_up_exist() -> None:
    from tesela.models.segmentation.unet import encoder_name

    assert all(encoder_name(name) for name in USUAL_ENCODERS)


def test_one_key_sets_the_strategy_against_class_imbalance(folder: Path) -> None:
    document = tomllib.loads(RECIPES["lulucf"]) | {"training": {"imbalance_strategy": "none"}}
    folders = [stage[1] for stage in work_of(document, folder) if stage[0].startswith("train")]
    assert folders == [f"runs/lulucf/experts/none/{name}" for name in ("first", "middle", "last")]
    with pytest.raises(RecipeError, match="set the same thing; leave one of them out"):
        work_of(document | {"imbalance": ["loss"]}, folder)


@pytest.mark.parametrize("chain", ["corine", "lulucf"])
def test_a_split_by_quality_needs_a_reviewed_table(chain: str, folder: Path) -> None:
    document = tomllib.loads(RECIPES[chain])
    with pytest.raises(RecipeError, match="reviewed names no reviewed patch table"):
        work_of(document | {"patches": {"split": "quality"}}, folder)
    with pytest.raises(RecipeError, match="unbiased is for split = 'quality'"):
        work_of(document | {"patches": {"unbiased": 0.2}}, folder)
    quality = {"split": "quality", "reviewed": "reviewed.parquet", "unbiased": 0.2}
    patches = next(
        stage for stage in work_of(document | {"patches": quality}, folder) if stage[0] == "patches"
    )
    assert "reviewed.parquet" in patches[3]
