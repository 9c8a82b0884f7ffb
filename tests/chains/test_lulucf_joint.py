"""The experts of the lulucf chain trained jointly: one network, three files, one backbone in the map."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tesela.chains.lulucf.chain import LulucfChain
from tesela.chains.metrics import count_mflops_per_px
from tesela.chains.run import build_chain, run_recipe
from tesela.core.errors import RecipeError
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import open_cascade
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.shared_backbone import shared_stages
from tesela.models.expert import open_expert
from tesela.recipes.schema import check_recipe, open_recipe
from tesela.simulate.sheet.files import write_sheet

RECIPE = """
chain = "lulucf"
joint = true
out = "{out}"
species = ["45"]
[[scenes]]
name = "a"
paths = ["{image}"]
[reference]
path = "{reference}"
[reference.canopy]
paths = ["{heights}"]
[patches]
size_px = 64
block = "32 m"
[training]
model = "unet"
encoder = "tu-mobilenetv3_small_050"
decoder = "small"
epochs = 2
batch_size = 8
threads = 1
[mapping]
window_px = 320
engine = "torch"
precision = "fp32"
"""
EXPERTS = ("context", "canopy", "species")


@pytest.mark.slow
def test_a_joint_training_that_is_killed_ends_with_the_bytes_of_another_and_maps_on_one_backbone(
    tmp_path: Path,
) -> None:
    sheet = write_sheet(tmp_path, size_px=512, seed=3)
    files = {"image": sheet.image.name, "reference": sheet.reference.name, "heights": sheet.heights.name}
    for name in ("whole", "killed"):
        text = RECIPE.format(out=name, **files)
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    done = run_recipe(tmp_path / "whole.toml", quiet=True).run.done
    assert done == ["label", "patches", "train", "map", "assess"]

    run_recipe(tmp_path / "killed.toml", until="patches", quiet=True)
    kill_in_training(
        tmp_path / "killed.toml", tmp_path / "killed" / "logs" / "loss" / "joint" / "metrics.csv"
    )
    assert run_recipe(tmp_path / "killed.toml", until="train", quiet=True).run.done == ["train"]
    assert run_recipe(tmp_path / "killed.toml", until="train", quiet=True).run.done == []
    for name in EXPERTS:
        whole, killed = (
            tmp_path / run / "experts" / "loss" / "joint" / f"{name}.safetensors"
            for run in ("whole", "killed")
        )
        assert whole.read_bytes() == killed.read_bytes()

    experts = [
        open_expert(tmp_path / "whole" / "experts" / "loss" / "joint" / f"{name}.safetensors")
        for name in EXPERTS
    ]
    assert [shared_stages(experts[0].network, item.network) for item in experts[1:]] == [2, 2]
    assert len({item.header.standardisation for item in experts}) == 1
    chain = build_chain(*open_recipe(tmp_path / "whole.toml"), quiet=True)
    assert isinstance(chain, LulucfChain)
    alone = count_mflops_per_px(chain.trainings.files()[0], side_px=64)
    assert alone < chain.mflops_per_px() < 1.3 * alone, "what they share counts once"
    cascade = open_cascade(tmp_path / "whole" / "maps" / "loss" / "cascade.toml")
    made = predict_cascade(cascade, open_scene(sheet.image), tmp_path / "map.tif", window_px=320)
    assert list(made.engines) == ["context+canopy+species"], "they run on the windows and features of one"
    table = json.loads((tmp_path / "whole" / "report" / "table.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in table["rows"]} == {*EXPERTS, "cascade"}


def kill_in_training(recipe: Path, log: Path) -> None:
    """Run a recipe in a process of its own, and kill it after the first epoch."""
    code = f"from tesela.chains.run import run_recipe; run_recipe({str(recipe)!r}, quiet=True)"
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=one_thread) as process:
        deadline = time.monotonic() + 300
        while not log.exists():
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not list((recipe.parent / recipe.stem / "experts").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {}}, r"training\.model is 'auto'; set it to unet or unet_dates, or leave joint out"),
        ({"training": {"model": "forest"}}, r"training\.model is 'forest'"),
        ({"training": {"model": "unet", "members": 2}}, r"leave joint or training\.members out"),
        ({"experts": [{"name": "a", "legend": "lulucf-context"}]}, "a is the only expert; leave joint out"),
        ({"experts": [{"epochs": 3}]}, "expert b is trained with the others, so it has no epochs of its own"),
        ({"experts": [{"context_bands": True}]}, "leave context_bands or joint out"),
    ],
)
def test_what_cannot_be_trained_jointly_is_a_mistake_of_the_recipe(
    change: dict[str, Any], message: str
) -> None:
    names = {"out": "run", "image": "a.tif", "reference": "b.gpkg", "heights": "n.tif"}
    document = tomllib.loads(RECIPE.format(**names))
    assert check_recipe(document, where="recipe")
    child = {"name": "b", "legend": "tree-cover", "parent": "a", "classes": ["forest"]}
    experts = change.get("experts")
    if experts and "name" not in experts[0]:
        change = {"experts": [{"name": "a", "legend": "lulucf-context"}, child | experts[0]]}
    if experts:
        document["reference"].pop("canopy")
    with pytest.raises(RecipeError, match=rf"joint: .*{message}"):
        check_recipe(document | change, where="recipe")


def test_a_published_recipe_can_be_trained_jointly() -> None:
    text = RECIPE.format(out="run", image="a.tif", reference="b.gpkg", heights="n.tif")
    document = tomllib.loads(text) | {"training": {"published": True}}
    assert check_recipe(document, where="recipe")
