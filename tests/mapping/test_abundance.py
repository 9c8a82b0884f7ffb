"""tesela unmix: whole cubes, in blocks, resumed, on Dask, and its errors."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from odc.geo.geobox import GeoBox

from pointwise import make_expert
from tesela.cli import main
from tesela.core.errors import ExpertError, InputError, RecipeError
from tesela.io.abundance import open_abundance
from tesela.io.cube import Cube, open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.maps import MapReader, open_map
from tesela.io.parts import PartStore
from tesela.io.raster import open_dataset
from tesela.mapping.abundance import engines
from tesela.mapping.abundance.blocks import BlockLayout, make_blocks
from tesela.mapping.abundance.unmix import unmix_cube
from tesela.models.expert import Expert, open_expert, save_expert
from tesela.models.inference import Unmixed
from tesela.models.output import NetworkOutput
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import COLS, GRID, NAMES, ROWS, TIMES, make_table

SMALL = 20_000  # bytes: blocks of one chunk


def write_cube(path: Path, *, times: tuple[str, ...] = TIMES, bands: tuple[str, ...] = NAMES) -> Cube:
    table = make_table()
    values = table.values.reshape(ROWS, COLS, len(TIMES), len(NAMES)).transpose(2, 3, 0, 1)
    with CubeWriter(path, GRID, times=times, bands=bands, layers=table.layers) as writer:
        writer.write(0, 0, values[: len(times), : len(bands)])
        writer.write_layers(0, 0, table.static.reshape(ROWS, COLS, 2).transpose(2, 0, 1))
    return open_cube(path)


@cache
def expert(model: str) -> Expert:
    options = {"context": 2, "ensemble_size": 2} if model == "tempcnn" else {}
    plan = UnmixingSettings(model=model, epochs=1, batch_size=128, accelerator="cpu", **options)  # type: ignore[arg-type]
    return train_unmixing(make_table(), plan)


@pytest.mark.parametrize("model", ["brits", "tempcnn", "fclsu"])
def test_the_map_holds_the_experts_shares(model: str, tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    made = unmix_cube(expert(model), cube, tmp_path / "shares.tif", memory=SMALL)
    shares = made.map.read()
    wanted = unmix_pixels(expert(model), make_table()).shares.T.reshape(3, ROWS, COLS)
    never = ~np.isfinite(make_table().values).any((1, 2)).reshape(ROWS, COLS)
    assert (np.isnan(shares) == never).all()
    assert np.abs(shares - wanted)[:, ~never].max() <= 1e-4 + 1e-6
    assert np.abs(shares.sum(0) - 1)[~never].max() < 1e-6
    assert (made.pixels, made.unseen) == (ROWS * COLS, 4)
    assert open_abundance(tmp_path / "shares.tif").legend.address == "toy-2"
    assert not list(tmp_path.glob(".shares*"))


def test_classes_uncertainty_and_filled_series_come_with_the_shares(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    unmix_cube(
        expert("brits"),
        cube,
        tmp_path / "shares.tif",
        classes=tmp_path / "classes.tif",
        uncertainty=tmp_path / "spread.tif",
        prior=tmp_path / "prior.tif",
        imputed=tmp_path / "filled.zarr",
        memory=SMALL,
    )
    shares = open_abundance(tmp_path / "shares.tif").read()
    never = np.isnan(shares[0])
    assert never.sum() == 4
    with MapReader(open_map(tmp_path / "classes.tif")) as reader:
        assert (reader.read(GRID) == np.where(never, 0, shares.argmax(0) + 1)).all()
    usual = open_abundance(tmp_path / "prior.tif").read()
    assert (np.isnan(usual[0]) == ~never).all(), "the prior is where nothing was observed, and only there"
    mean = make_table().split("train").targets.mean(0)
    assert np.abs(usual[:, never] - mean[:, None]).max() <= 1e-4
    wanted = unmix_pixels(expert("brits"), make_table())
    assert wanted.deviation is not None
    with open_dataset(tmp_path / "spread.tif") as data:
        raw = data.read()
        assert data.nodata == 255
    assert ((raw == 255) == never).all()
    difference = raw / 254 - wanted.deviation.T.reshape(3, ROWS, COLS)
    assert np.abs(difference[:, ~never]).max() <= 0.5 / 254 + 1e-6
    before, after = cube.read(), open_cube(tmp_path / "filled.zarr").read()
    seen = np.isfinite(before)
    assert (after[seen] == before[seen]).all()
    assert np.isfinite(after[..., 0, 0]).all()
    assert np.isnan(after[..., 3, 3]).all()


def test_a_coarser_level_is_the_sum_of_its_children(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    fine = unmix_cube(expert("tempcnn"), cube, tmp_path / "fine.tif").map.read()
    coarse = unmix_cube(expert("tempcnn"), cube, tmp_path / "coarse.tif", level=1).map
    assert coarse.legend.address == "toy-1"
    difference = np.abs(coarse.read() - np.stack([fine[0] + fine[1], fine[2]]))
    assert np.nanmax(difference) <= 2e-4 + 1e-6


def test_an_interrupted_run_continues_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    unmix_cube(expert("brits"), cube, tmp_path / "whole.tif", memory=SMALL)
    write, stored = PartStore.write, []

    def killed(self: PartStore, number: int, layers: np.ndarray) -> None:
        if stored:
            raise KeyboardInterrupt
        stored.append(number)
        write(self, number, layers)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "write", killed)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT011 - it carries no text
            unmix_cube(expert("brits"), cube, tmp_path / "again.tif", memory=SMALL)
    assert not (tmp_path / "again.tif").exists()
    made = unmix_cube(expert("brits"), cube, tmp_path / "again.tif", memory=SMALL)
    assert made.resumed == 1
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.slow
def test_workers_of_a_cluster_make_the_same_bytes(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    unmix_cube(expert("tempcnn"), cube, tmp_path / "alone.tif", memory=SMALL)
    unmix_cube(expert("tempcnn"), cube, tmp_path / "many.tif", memory=SMALL, cluster="local")
    assert (tmp_path / "many.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()


def large_cube(path: Path) -> Cube:
    """A cube of many pixels of the scene, side by side."""
    table = make_table()
    values = table.values.reshape(ROWS, COLS, len(TIMES), len(NAMES)).transpose(2, 3, 0, 1)
    layers = table.static.reshape(ROWS, COLS, 2).transpose(2, 0, 1)
    down, across = -(-64 // ROWS), -(-64 // COLS)
    grid = GeoBox((down * ROWS, across * COLS), GRID.affine, GRID.crs)
    with CubeWriter(path, grid, times=TIMES, bands=NAMES, layers=table.layers) as writer:
        writer.write(0, 0, np.tile(values, (1, 1, down, across)))
        writer.write_layers(0, 0, np.tile(layers, (1, down, across)))
    return open_cube(path)


@pytest.mark.parametrize("model", ["tempcnn", "brits", "forest"])
def test_bf16_is_used_only_where_it_agrees(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_bf16", lambda: True)
    monkeypatch.setattr(engines, "WORTH_PIXELS", 0)
    monkeypatch.setitem(
        engines.KINDS, "openvino", dataclasses.replace(engines.KINDS["openvino"], missing=lambda: "x")
    )
    monkeypatch.setitem(
        engines.KINDS, "cuda", dataclasses.replace(engines.KINDS["cuda"], missing=lambda: "x")
    )
    cube = large_cube(tmp_path / "cube.zarr")
    trained = expert(model)
    monkeypatch.setattr(engines, "AGREEMENT", 0.9)  # of one epoch: shares are almost equal
    name = unmix_cube(trained, cube, tmp_path / "quick.tif").engine
    assert name == ("torch-bf16" if model == "tempcnn" else "torch")
    exact = unmix_cube(trained, cube, tmp_path / "exact.tif", engine="torch")
    assert exact.engine == "torch"
    difference = np.abs(open_abundance(tmp_path / "quick.tif").read() - exact.map.read())
    assert np.nanmax(difference) < 0.02
    if model == "tempcnn":
        assert np.nanmax(difference) > 0
        monkeypatch.setattr(engines, "AGREEMENT", 1.1)
        assert unmix_cube(trained, cube, tmp_path / "quick.tif").engine == "torch"


def test_engines_agree_by_classes_and_shares_of_observed_pixels() -> None:
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 2000).astype(np.float32)
    mask = np.ones((2000, 2, 1), np.float32)

    def output(values: np.ndarray) -> NetworkOutput:
        return NetworkOutput(torch.from_numpy(values), torch.from_numpy(values)[None])

    far, few = shares + np.float32(0.006), shares.copy()
    few[:10] = few[:10, ::-1]
    assert engines.agrees(output(shares + np.float32(0.004)), output(shares), mask)
    assert not engines.agrees(output(far), output(shares), mask)
    assert not engines.agrees(output(few), output(shares), mask)
    mask[:10] = 0
    assert engines.agrees(output(few), output(shares), mask), "pixels that are never observed do not count"
    mask[400:] = 0
    assert not engines.agrees(output(shares), output(shares), mask), "too few pixels to try"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("model", ["tempcnn", "brits"])
def test_a_gpu_makes_the_same_map(model: str, tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    here = unmix_cube(expert(model), cube, tmp_path / "cpu.tif", engine="torch").map.read()
    there = unmix_cube(expert(model), cube, tmp_path / "gpu.tif", engine="auto")
    assert there.engine == "cuda"
    assert np.nanmax(np.abs(there.map.read() - here)) <= 2e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_missing_is_one_line(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    with pytest.raises(RecipeError, match="Engine 'cuda' cannot be used: torch finds no NVIDIA GPU here"):
        unmix_cube(expert("brits"), cube, tmp_path / "gpu.tif", engine="cuda")


def test_blocks_cover_the_cube_once(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    for memory in (1, 10**9):
        seen = np.zeros((ROWS, COLS), int)
        for block in make_blocks(cube, margin_px=2, memory=memory):
            rows, cols = block.shape
            seen[block.row : block.row + rows, block.col : block.col + cols] += 1
        assert (seen == 1).all()


def test_a_part_is_read_as_it_was_written() -> None:
    generator = np.random.default_rng(0)
    unmixed = Unmixed(
        shares=generator.dirichlet([1, 1, 1], (4, 5)).astype(np.float32),
        deviation=np.full((4, 5, 3), 0.5, np.float32),
        unseen=generator.random((4, 5)) < 0.5,
        imputed=generator.normal(size=(4, 5, 2, 3)).astype(np.float32),
    )
    layout = BlockLayout(3, True, 6)
    part = layout.unpack(layout.pack(unmixed))
    assert (part.shares.sum(0) == 10_000).all()
    assert (part.unseen == unmixed.unseen).all()
    assert (part.deviation == 127).all()
    assert unmixed.imputed is not None
    assert (part.series == unmixed.imputed.reshape(4, 5, 6).transpose(2, 0, 1)).all()


def test_a_cube_or_expert_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.zarr")
    out = tmp_path / "shares.tif"
    with pytest.raises(InputError, match="lacks the bands swir"):
        unmix_cube(expert("brits"), write_cube(tmp_path / "two.zarr", bands=NAMES[:2]), out)
    with pytest.raises(InputError, match="its months are 1, 2"):
        unmix_cube(expert("brits"), write_cube(tmp_path / "short.zarr", times=TIMES[:6]), out)
    uncalibrated = dataclasses.replace(expert("fclsu").header, variance=())
    with pytest.raises(ExpertError, match="has no uncertainty and was not calibrated"):
        unmix_cube(
            Expert(uncalibrated, expert("fclsu").network), cube, out, uncertainty=tmp_path / "spread.tif"
        )
    with pytest.raises(ExpertError, match="does not fill gaps"):
        unmix_cube(expert("tempcnn"), cube, out, imputed=tmp_path / "filled.zarr")
    segmenter = make_expert()
    with pytest.raises(ExpertError, match="one for unmixing was needed"):
        unmix_cube(segmenter, cube, out)
    plain = dataclasses.replace(expert("brits").header, series=None, task="segmentation")
    with pytest.raises(ExpertError, match="one for unmixing was needed"):
        unmix_cube(Expert(plain, expert("brits").network), cube, out)
    before = cube.read()
    with pytest.raises(RecipeError, match=r"cube\.zarr is read, and would be replaced"):
        unmix_cube(expert("brits"), cube, out, imputed=tmp_path / "cube.zarr")
    assert np.array_equal(cube.read(), before, equal_nan=True)
    with pytest.raises(RecipeError, match=r"shares\.tif is named for two outputs"):
        unmix_cube(expert("brits"), cube, out, classes=tmp_path / "." / "shares.tif")
    assert not out.exists()


def test_the_command_maps_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cube(tmp_path / "cube.zarr")
    save_expert(tmp_path / "one.safetensors", expert("brits"))
    assert open_expert(tmp_path / "one.safetensors").header.task == "unmixing"
    words = [
        "unmix",
        str(tmp_path / "one.safetensors"),
        str(tmp_path / "cube.zarr"),
        "-o",
        str(tmp_path / "a.tif"),
    ]
    assert main(words) == 0
    assert "4 px without observations are nodata" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["never_observed"] == 4
