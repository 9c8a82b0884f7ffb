"""`tesela published` and recipes of the published data: cube, shares, partitions, series by pixel, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tesela.chains.run import build_chain
from tesela.cli import main
from tesela.core.errors import RecipeError
from tesela.io.abundance import open_abundance
from tesela.io.crosswalks import open_crosswalk
from tesela.io.cube import open_cube
from tesela.io.legends import open_legend
from tesela.io.msmtu import CLASS_CODES, STEP_DEG, PublishedPixels, write_msmtu
from tesela.io.timespec import LabelledSeries, write_timespec
from tesela.models.expert import open_expert
from tesela.models.unmixers import BritsArchitecture
from tesela.patches.pixels import read_pixel_table
from tesela.recipes.schema import check_recipe, open_recipe
from tesela.recipes.stages import run_stages

RECIPE = """
chain = "unmixing"
out = "run"
legend = "sipna-{level}"
[cube]
msmtu = "published"
[training]
model = "nnls"
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Twelve pixels of a 3 x 4 grid in the published layout; the partitions of the two levels differ."""
    rng = np.random.default_rng(0)
    lon, lat = (np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3))
    fine = rng.dirichlet(np.ones(10), 12)
    coarse = np.stack([fine[:, 0], fine[:, 1:5].sum(1), fine[:, 5:9].sum(1), fine[:, 9]], axis=1)
    write_msmtu(
        PublishedPixels(
            ids=np.arange(12),
            values=rng.random((12, 12, 7)).astype(np.float32),
            layers=("longitude", "latitude"),
            static=np.stack([-5 + STEP_DEG * lon, 38 - STEP_DEG * lat], axis=1).astype(np.float32),
            shares={1: coarse.astype(np.float32), 2: fine.astype(np.float32)},
            splits={1: np.array([0, 1, 2] * 4, np.uint8), 2: np.array([0] * 6 + [1] * 3 + [2] * 3, np.uint8)},
        ),
        tmp_path / "published",
    )
    return tmp_path


def test_the_command_writes_cube_shares_and_partitions(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["published", "msmtu", str(published / "published"), "-o", str(published / "out")]) == 0
    assert "6 train, 3 val, 3 test" in capsys.readouterr().out
    cube, shares = open_cube(published / "out/cube.zarr"), open_abundance(published / "out/shares.tif")
    assert tuple(cube.grid.shape) == tuple(shares.grid.shape) == (4, 3)
    assert read_pixel_table(published / "out/pixels.safetensors").counts["val"] == 3


@pytest.mark.parametrize(("level", "train"), [(1, 4), (2, 6)])
def test_a_recipe_takes_shares_and_partitions_of_its_level(published: Path, level: int, train: int) -> None:
    (published / "a.toml").write_text(RECIPE.format(level=level))
    recipe, folder = open_recipe(published / "a.toml")
    chain = build_chain(recipe, folder, quiet=True)
    run_stages(chain.stages, until="pixels")
    table = read_pixel_table(chain.pixel_file)  # type: ignore[attr-defined]
    assert table.counts["train"] == train
    assert table.legend == open_legend(f"sipna-{level}")


def test_a_recipe_of_published_data_needs_no_reference_and_refuses_one() -> None:
    document = {"chain": "unmixing", "cube": {"msmtu": "published"}}
    check_recipe(document, where="a.toml")
    with pytest.raises(RecipeError, match=r"leave \[reference\] out"):
        check_recipe({**document, "reference": {"path": "b.tif"}}, where="a.toml")
    with pytest.raises(RecipeError, match="reference is missing"):
        check_recipe({"chain": "unmixing", "cube": {"path": "c.zarr"}}, where="a.toml")
    with pytest.raises(RecipeError, match="but legend is corine-1"):
        check_recipe({**document, "legend": "corine-1"}, where="a.toml")


def test_series_are_split_by_pixel_not_by_year(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((40, 36, 7)).astype(np.float32)
    write_timespec(LabelledSeries(values, ("Forest", "Water"), np.arange(40) // 20), tmp_path / "series")
    words = ["published", "timespec", str(tmp_path / "series"), "-o", str(tmp_path / "s.safetensors")]
    assert main([*words, "--shares", "0.5,0.25,0.25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"train": 60, "val": 30, "test": 30, "none": 0}
    table = read_pixel_table(tmp_path / "s.safetensors")
    assert all(len(set(table.splits[table.rows == pixel])) == 1 for pixel in range(40))
    assert main([*words, "--shares", "half"]) == 1
    assert "three numbers were needed" in capsys.readouterr().err


def test_a_published_checkpoint_becomes_an_expert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = BritsArchitecture(7, 4, 9, sigmoid=False).build()
    state: dict[str, torch.Tensor] = {}
    theirs = {"history": "hist_reg", "combine": "weight_combine", "out": "out", "join": "concat"}
    theirs |= {"ancillary": "ancillary_embed"}
    for ours, name in (("ahead", "rits_f"), ("back", "rits_b")):
        own = dict(getattr(network, ours).state_dict())
        gates = own.pop("gates.weight")
        state |= {
            f"model.{name}.rnn_cell.weight_ih": gates[:, :14],
            f"model.{name}.rnn_cell.weight_hh": gates[:, 14:],
            f"model.{name}.rnn_cell.bias_ih": own.pop("gates.bias"),
            f"model.{name}.rnn_cell.bias_hh": torch.zeros(400),
            f"model.{name}.temp_decay_h.W": own.pop("hidden_decay.weight"),
            f"model.{name}.temp_decay_h.b": own.pop("hidden_decay.bias"),
            f"model.{name}.temp_decay_x.W": torch.diag(own.pop("value_decay_weight")),
            f"model.{name}.temp_decay_x.b": own.pop("value_decay_bias"),
            f"model.{name}.feat_reg.W": own.pop("features.weight"),
            f"model.{name}.feat_reg.b": own.pop("features.bias"),
        }
        for key, item in own.items():
            module, part = key.split(".")
            state[f"model.{name}.{theirs[module]}.{part}"] = item
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    words = ["published", "checkpoint", str(tmp_path / "model.ckpt"), "-o", str(tmp_path / "n1.safetensors")]
    assert main([*words, "--legend", "sipna-1"]) == 0
    read = open_expert(tmp_path / "n1.safetensors")
    assert torch.equal(
        read.network.state_dict()["back.join.weight"], network.state_dict()["back.join.weight"]
    )  # type: ignore[union-attr]
    assert main([*words, "--legend", "sipna-2"]) == 1
    assert "predicts 4 classes, but legend 'sipna-2' has 10" in capsys.readouterr().err
    (tmp_path / "model.ckpt").write_bytes(b"no checkpoint")
    assert main([*words, "--legend", "sipna-1"]) == 1
    assert "is no published checkpoint of BRITS" in capsys.readouterr().err


def test_the_codes_of_sipna_are_a_shipped_crosswalk() -> None:
    crosswalk = open_crosswalk("sipna-codes", open_legend("sipna-2"))
    assert {row.code: row.to for row in crosswalk.rows} == CLASS_CODES[2]
    coarse = open_crosswalk("sipna-codes", open_legend("sipna-1"))
    assert {row.code: row.to for row in coarse.rows}["42"] == "terrestrial-lands"
