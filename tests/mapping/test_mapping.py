"""Mapping: windows, kernels and the pipeline from scene and expert to map."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointwise import LEGEND, Pointwise, expected_map, make_expert, read_map, write_scene
from repository import TESTS
from tesela.core.errors import ExpertError, GridError, InputError, RecipeError
from tesela.io.maps import MapReader
from tesela.io.scenes import open_scene
from tesela.mapping.engine_benchmark import choose_engine
from tesela.mapping.predict import check_pixel_size, predict_map
from tesela.mapping.reading import prefetch
from tesela.mapping.windows import Footprint, WindowPlan, make_strips


@given(
    length=st.integers(1, 5000),
    window=st.integers(3, 40).map(lambda n: n * 32),
    margin=st.sampled_from([0, 16, 20, 32]),  # 20 is rounded up
)
def test_windows_keep_every_pixel_once_and_start_at_multiples_of_the_stride(
    length: int, window: int, margin: int
) -> None:
    plan = WindowPlan.fit((length, length), window_px=window, margin_px=margin, multiple_px=32)
    kept = np.zeros(length, np.int64)
    for span in plan.row_spans:
        kept[span.keep_start : span.keep_stop] += 1
        assert span.start % 32 == 0
        assert span.start <= span.keep_start
        assert span.keep_stop <= span.start + plan.height_px
        if span.keep_start:
            assert span.keep_start - span.start == plan.margin_px
        if span.keep_stop < length:
            assert span.start + plan.height_px - span.keep_stop == plan.margin_px
    assert (kept == 1).all()
    assert plan.height_px % 32 == 0
    assert plan.height_px <= max(window, 32)


@given(length=st.integers(200, 5000), window=st.integers(5, 40).map(lambda n: n * 32))
def test_windows_waste_less_than_one_stride_each(length: int, window: int) -> None:
    plan = WindowPlan.fit((length, 100), window_px=window, margin_px=32, multiple_px=32)
    count = len(plan.row_spans)
    assert count == max(1, math.ceil((length - 64) / (window - 64)))
    assert plan.height_px * count - (length + 64 * (count - 1)) < 32 * count


def test_margins_are_rounded_up_so_that_windows_start_at_multiples_of_the_stride() -> None:
    plan = WindowPlan.fit((900, 900), window_px=256, margin_px=20, multiple_px=32)
    assert plan.margin_px == 32
    assert all(span.start % 32 == 0 for span in plan.row_spans)


def test_a_window_smaller_than_its_margins_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 96 px, a multiple of 32"):
        WindowPlan.fit((100, 100), window_px=64, margin_px=32, multiple_px=32)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 260), cols=st.integers(1, 260), memory=st.sampled_from([1, 200_000, 1 << 28]))
def test_the_map_equals_the_network_applied_to_the_whole_array_at_any_size(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cols: int, memory: int
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    image = write_scene(folder / "scene.tif", (rows, cols), nodata_cols=min(3, cols - 1))
    expert = make_expert()
    made = predict_map(
        expert,
        open_scene(folder / "scene.tif"),
        folder / "map.tif",
        window_px=96,
        overlap_px=32,
        memory=memory,
        precision="fp32",
    )
    expected = expected_map(image, expert)
    assert (read_map(folder / "map.tif") == expected).all()
    assert made.pixels == int((expected > 0).sum())
    assert not (folder / ".map.tif.parts").exists()


def test_bands_are_taken_by_name_in_any_order(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (70, 50))
    expert = make_expert()
    with rasterio.open(
        tmp_path / "swapped.tif", "w", **rasterio.open(tmp_path / "scene.tif").profile
    ) as data:
        data.write(image[::-1])
        data.descriptions = ("nir", "red")
    predict_map(expert, open_scene(tmp_path / "swapped.tif"), tmp_path / "map.tif", precision="fp32")
    assert (read_map(tmp_path / "map.tif") == expected_map(image, expert)).all()


def test_bands_may_be_in_several_files(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (70, 50))
    for number, name in enumerate(("red", "nir")):
        profile = rasterio.open(tmp_path / "scene.tif").profile | {"count": 1}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as data:
            data.write(image[number], 1)
    expert = make_expert()
    predict_map(
        expert,
        open_scene([tmp_path / "nir.tif", tmp_path / "red.tif"]),
        tmp_path / "map.tif",
        precision="fp32",
    )
    assert (read_map(tmp_path / "map.tif") == expected_map(image, expert)).all()


def test_the_map_carries_colours_names_legend_and_overviews(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (1100, 600))
    made = predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as data:
        assert data.nodata == 0
        assert data.colormap(1)[20] == (0x20, 0x20, 0, 255)
        assert data.overviews(1)
        assert data.crs.to_epsg() == 25830
        assert data.transform == rasterio.Affine(10, 0, 500000, 0, -10, 4100000)
    assert made.map.legend == LEGEND
    assert "<Category>Class 20</Category>" in (tmp_path / "map.tif.aux.xml").read_text()
    assert 'label="20 Class 20"' in (tmp_path / "map.qml").read_text()
    with MapReader(made.map) as reader:
        assert set(np.unique(reader.read(made.map.grid))) <= {0, 10, 20, 30}


def test_scores_come_from_the_same_pass_and_are_255_without_data(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (130, 70), nodata_cols=4)
    expert = make_expert()
    predict_map(
        expert,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        window_px=96,
        overlap_px=32,
        precision="fp32",
        confidence=tmp_path / "confidence.tif",
        entropy=tmp_path / "entropy.tif",
        probabilities=tmp_path / "probabilities.tif",
    )
    scaled = (image.astype(np.float32) - np.array([100, 50], np.float32)[:, None, None]) / np.array(
        [30, 20], np.float32
    )[:, None, None]
    p = torch.softmax(expert.network(torch.from_numpy(scaled)[None])[0], 0).numpy()
    with rasterio.open(tmp_path / "confidence.tif") as data:
        confidence = data.read(1)
    with rasterio.open(tmp_path / "probabilities.tif") as data:
        shares = data.read()
        assert data.descriptions == ("10", "20", "30")
    with rasterio.open(tmp_path / "entropy.tif") as data:
        entropy = data.read(1)
    assert (confidence[:, :4] == 255).all()
    assert (shares[:, :, :4] == 255).all()
    assert np.abs(confidence[:, 4:] - 100 * p.max(0)[:, 4:]).max() <= 0.51
    assert np.abs(shares[:, :, 4:] / 254 - p[:, :, 4:]).max() <= 0.51 / 254
    disorder = -(p * np.log(p)).sum(0) / np.log(3)
    assert np.abs(entropy[:, 4:] - 100 * disorder[:, 4:]).max() <= 0.51


def test_a_scene_without_data_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (40, 40), nodata_cols=40)
    with pytest.raises(InputError, match="no pixel with data"):
        predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif")
    with pytest.raises(InputError, match=r"map\.png: rasters are written as GeoTIFF; end the name in \.tif"):
        predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.png")
    with pytest.raises(RecipeError, match="Unknown engine 'gpu'"):
        predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", engine="gpu")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"], "no parts of a run that cannot go on"


def test_windows_without_data_are_not_run(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (400, 90), nodata_cols=0)
    image[:, 100:] = 0
    with rasterio.open(tmp_path / "scene.tif", "r+") as data:
        data.write(image)

    class Counting(Pointwise):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return super().forward(images)

    expert = make_expert(Counting())
    made = predict_map(
        expert, open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif", window_px=96, overlap_px=0
    )
    assert (read_map(tmp_path / "map.tif") == expected_map(image, make_expert())).all()
    assert made.windows == 5
    assert Counting.calls == 2


def test_a_missing_band_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (40, 40))
    scene = open_scene(tmp_path / "scene.tif", bands=["red", "green"])
    with pytest.raises(InputError, match="Unknown band 'nir'"):
        predict_map(make_expert(), scene, tmp_path / "map.tif")


def test_pixels_of_another_size_than_in_training_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (40, 40), transform=rasterio.Affine(30, 0, 500000, 0, -30, 4100000))
    with pytest.raises(GridError, match="are 30 m, but the expert was trained on 10 m"):
        predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif")


@pytest.mark.parametrize(("side_m", "accepted"), [(6.6, False), (6.7, True), (15, True), (15.2, False)])
def test_pixels_may_be_half_as_large_again_as_in_training(
    tmp_path: Path, side_m: float, accepted: bool
) -> None:
    transform = rasterio.Affine(side_m, 0, 500000, 0, -side_m, 4100000)
    write_scene(tmp_path / "scene.tif", (40, 40), transform=transform)
    scene = open_scene(tmp_path / "scene.tif")
    if accepted:
        check_pixel_size(make_expert(), scene)
    else:
        with pytest.raises(GridError, match="but the expert was trained on 10 m"):
            check_pixel_size(make_expert(), scene)


def test_a_truncated_scene_is_refused_and_leaves_no_map(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (600, 600), compress="deflate")
    content = (tmp_path / "scene.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.tif"):
        predict_map(make_expert(), open_scene(tmp_path / "cut.tif"), tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def test_no_output_replaces_the_scene_or_another_output(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (40, 40))
    scene, out = open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif"
    with pytest.raises(RecipeError, match="is read, and would be replaced"):
        predict_map(make_expert(), scene, tmp_path / "scene.tif")
    with pytest.raises(RecipeError, match="is named for two outputs"):
        predict_map(make_expert(), scene, out, confidence=out)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is a folder with other files"):
        predict_map(make_expert(), scene, tmp_path / "folder")
    with pytest.raises(RecipeError, match="overlap is -2 px"):
        predict_map(make_expert(), scene, out, overlap_px=-2)
    expert = make_expert()
    with pytest.raises(ExpertError, match="is for unmixing, but an expert for segmentation is needed"):
        predict_map(replace(expert, header=replace(expert.header, task="unmixing")), scene, out)
    assert not out.exists()


def test_two_runs_of_one_output_do_not_mix(tmp_path: Path) -> None:
    from tesela.io.parts import PartStore

    write_scene(tmp_path / "scene.tif", (40, 40))
    with PartStore(tmp_path / "map.tif"), pytest.raises(InputError, match="another run is writing"):
        predict_map(make_expert(), open_scene(tmp_path / "scene.tif"), tmp_path / "map.tif")


def test_parts_of_another_expert_are_not_used(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (300, 60))
    scene = open_scene(tmp_path / "scene.tif")

    def stop_half_way(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        predict_map(
            make_expert(), scene, tmp_path / "map.tif", window_px=96, precision="fp32", progress=stop_half_way
        )
    other = Pointwise()
    other.layer.weight.data *= -1
    made = predict_map(make_expert(other), scene, tmp_path / "map.tif", window_px=96, precision="fp32")
    assert made.resumed == 0
    assert (read_map(tmp_path / "map.tif") == expected_map(image, make_expert(other))).all()


def test_strips_take_no_more_than_their_memory() -> None:
    plan = WindowPlan.fit((10_000, 200_000), window_px=1088, margin_px=32, multiple_px=32)
    footprint = Footprint(bands=4, stored_bytes=2, classes=12, layers=1, block_rows=512)
    panels = make_strips(plan, footprint, memory=512 << 20)
    widths = [panel[0].shape[1] for panel in panels]
    assert sum(widths) == 200_000
    assert footprint.windows(plan) + (max(widths) + 64) * footprint.column(plan) <= 512 << 20
    assert max(widths) - min(widths) <= 2 * plan.width_px
    assert sorted(strip.number for panel in panels for strip in panel) == list(
        range(len(panels) * len(plan.row_spans))
    )


def test_errors_of_the_reader_thread_are_raised() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise InputError("broken block")

    taken = prefetch(items(), depth=1)
    assert next(taken) == 1
    with pytest.raises(InputError, match="broken block"):
        next(taken)


def test_bf16_is_not_chosen_when_classes_change() -> None:
    class Fragile(torch.nn.Module):
        """Differences smaller than the step of bf16 decide the class."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = images[:, :1]
            step = 1.0 if torch.is_autocast_enabled("cpu") else 2.0
            return torch.cat([x, x * 0 + step], 1)

    trial = [np.full((512, 512, 2), 1.5, np.float32)]
    engine, measured = choose_engine(Fragile(), trial=trial, windows=100)
    assert engine.name == "torch-fp32"
    assert measured.agreement.get("torch-bf16", 0) == 0


KILLABLE = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pointwise import Pointwise, make_expert
from tesela.io.scenes import open_scene
from tesela.mapping.predict import predict_map

class Slow(Pointwise):
    def forward(self, images):
        time.sleep(0.02)
        return super().forward(images)

predict_map(make_expert(Slow()), open_scene(sys.argv[2]), sys.argv[3], window_px=96, precision="fp32")
"""


def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (900, 200))

    out = tmp_path / "killed.tif"
    parts = out.with_name(f".{out.name}.parts")

    def kill(after: int) -> int:
        call = [sys.executable, "-c", KILLABLE, str(TESTS), str(tmp_path / "scene.tif"), str(out)]
        process = subprocess.Popen(call)
        while process.poll() is None:
            if len(list(parts.glob("*.part"))) >= after:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        return process.wait()

    assert [kill(after) for after in (2, 7)] == [-signal.SIGKILL] * 2
    assert not out.exists()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("killed.tif", "whole.tif"):
            made = predict_map(
                make_expert(),
                open_scene(tmp_path / "scene.tif"),
                tmp_path / name,
                window_px=96,
                precision="fp32",
            )
            assert (made.resumed >= 7) == (name == "killed.tif")
    finally:
        torch.set_num_threads(before)
    sums = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("whole.tif", "killed.tif")
    ]
    assert sums[0] == sums[1]
