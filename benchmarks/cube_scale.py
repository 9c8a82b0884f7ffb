"""
Rates of the unmixing chain on one core, measured on a small cube and scaled to Andalusia, Spain and Europe at 460 m.

    .venv/bin/python benchmarks/cube_scale.py [--side 512] [--steps "cube from a stack" ...]

A stack of 12 monthly files of 7 bands (int16, random numbers, a fifth missing) becomes a cube, a class raster of 20 m
shares, and experts trained on 4,000 of its pixels map it; one epoch is trained on those. Pixels per CPU second and the
peak memory of each step are measured; cells, size and CPU hours of the regions are these numbers times their land area,
not measured. "200,000 px" is the training of 60 epochs with thinning = 200000. Prints JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

if TYPE_CHECKING:
    from tesela.patches.pixels import PixelTable
    from tesela.training.unmixing.settings import UnmixingSettings

KM2 = {"Andalusia": 87_600, "Spain": 506_000, "Europe (EEA39)": 5_850_000}
"""Land areas."""

CELL_KM2 = 0.4633127**2
EPOCHS = 60
"""Default of `epochs`."""

BANDS = tuple(f"b{number}" for number in range(1, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    options = parser.parse_args()
    grid = GeoBox((options.side,) * 2, Affine(460, 0, 200_000, 0, -460, 4_400_000), "EPSG:25830")
    steps: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(write_inputs, folder, grid)
        for step in options.steps:
            work = STEPS[step]
            if "OpenVINO" in step and importlib.util.find_spec("openvino") is None:
                continue
            seconds, peak = measured(work, folder, grid)
            steps[step] = {"px_per_cpu_s": round(options.side**2 / seconds), "peak_mib": round(peak)}
            print(step, steps[step], file=sys.stderr, flush=True)
        cube = folder / "cube.zarr"
        size = sum(file.stat().st_size for file in cube.rglob("*") if file.is_file()) / options.side**2
    regions = {}
    for region, area in KM2.items():
        cells = area / CELL_KM2
        hours = {step: round(cells / one["px_per_cpu_s"] / 3600, 3) for step, one in steps.items()}
        for step in [step for step in steps if step.startswith("epoch")]:
            rate = steps[step]["px_per_cpu_s"]
            hours[f"{step}, 60 epochs of 64 %"] = round(EPOCHS * 0.64 * cells / rate / 3600, 2)
            hours[f"{step}, 60 epochs, 200,000 px"] = round(EPOCHS * min(2e5, 0.64 * cells) / rate / 3600, 2)
        regions[region] = {
            "million_cells": round(cells / 1e6, 2),
            "cube_gib": round(size * cells / 2**30, 2),
            "cpu_hours": hours,
        }
    print(json.dumps({"measured": steps, "cube_bytes_per_px": round(size), "scaled": regions}, indent=2))


def measured(work: Callable[[Path, GeoBox], float], folder: Path, grid: GeoBox) -> tuple[float, float]:
    """CPU seconds that the work reports, and peak memory in MiB of a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        seconds, peak = pool.apply(alone, (work, folder, grid))
    return seconds, peak


def alone(work: Callable[[Path, GeoBox], float], folder: Path, grid: GeoBox) -> tuple[float, float]:
    seconds = work(folder, grid)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_inputs(folder: Path, grid: GeoBox) -> float:
    from tesela.io.images import write_bands
    from tesela.io.legends import open_legend
    from tesela.io.maps import write_map

    rng = np.random.default_rng(0)
    for month in range(1, 13):
        numbers = rng.integers(1, 6000, (7, *grid.shape), np.int16)
        numbers[rng.random(numbers.shape) < 0.2] = -1
        write_bands(folder / f"stack_2013-{month:02d}.tif", numbers, grid, names=BANDS, nodata=-1, scale=1e-4)
    fine = GeoBox(tuple(int(side) * 23 for side in grid.shape), grid.affine * Affine.scale(1 / 23), grid.crs)
    legend = open_legend("corine-2")
    patches = rng.choice(legend.values[:12], (int(fine.shape[0]) // 64 + 1, int(fine.shape[1]) // 64 + 1))
    values = patches.astype(np.uint8).repeat(64, 0).repeat(64, 1)[: fine.shape[0], : fine.shape[1]]
    write_map(folder / "reference.tif", values, fine, legend=legend)
    return 0.0


def make_cube(folder: Path, grid: GeoBox) -> float:
    from tesela.sources.ancillary import Ancillary
    from tesela.sources.stack.cube import write_stack_cube

    begun = time.process_time()
    write_stack_cube(
        sorted(folder.glob("stack_*.tif")), folder / "cube.zarr", ancillary=Ancillary(place=False)
    )
    return time.process_time() - begun


def count_shares(folder: Path, grid: GeoBox) -> float:
    from tesela.io.legends import open_legend
    from tesela.labels.fractions import write_fractions

    begun = time.process_time()
    write_fractions(
        folder / "reference.tif",
        folder / "shares.tif",
        like=grid,
        legend=open_legend("corine-2"),
        source="corine-2",
    )
    return time.process_time() - begun


def read_table(folder: Path, grid: GeoBox) -> float:
    from tesela.io.abundance import open_abundance
    from tesela.io.cube import open_cube
    from tesela.patches.pixels import read_pixels

    begun = time.process_time()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        read_pixels(
            open_cube(folder / "cube.zarr"), open_abundance(folder / "shares.tif"), scratch=Path(scratch)
        ).write(folder / "pixels.safetensors")
    return time.process_time() - begun


def labelled(folder: Path) -> PixelTable:
    """4,000 pixels, a quarter of them for validation."""
    from tesela.io.abundance import open_abundance
    from tesela.io.cube import open_cube
    from tesela.patches.pixels import read_pixels

    table = read_pixels(open_cube(folder / "cube.zarr"), open_abundance(folder / "shares.tif"))
    splits = np.where(np.arange(4000) % 4 == 0, 1, 0).astype(np.uint8)
    return replace(table.take(np.arange(4000)), splits=splits)


def settings_of(model: str, context: int) -> UnmixingSettings:
    from tesela.training.unmixing.settings import UnmixingSettings

    return UnmixingSettings(model=model, context=context, epochs=1, trees=30, accelerator="cpu")  # type: ignore[arg-type]


def map_by(model: str, context: int, engine: str, folder: Path, grid: GeoBox) -> float:
    import torch

    from tesela.io.cube import open_cube
    from tesela.mapping.abundance.unmix import unmix_cube
    from tesela.training.unmixing.train import train_unmixing

    torch.set_num_threads(1)
    expert = train_unmixing(labelled(folder), settings_of(model, context), quiet=True)
    begun = time.process_time()
    unmix_cube(expert, open_cube(folder / "cube.zarr"), folder / f"{model}_{engine}.tif", engine=engine)
    return time.process_time() - begun


def train_epoch(model: str, context: int, folder: Path, grid: GeoBox) -> float:
    """CPU seconds of an epoch, without its validation, as if on all pixels."""
    import torch

    from tesela.training.unmixing.batches import TRAIN, PixelSource
    from tesela.training.unmixing.loop import NetworkTraining
    from tesela.training.unmixing.train import fit_scaling, plan_network

    torch.set_num_threads(1)
    table, settings = labelled(folder), replace(settings_of(model, context), validate_every=10, epochs=10)
    mean, std, scaling = fit_scaling(table)
    training = NetworkTraining(
        plan_network(table, settings), PixelSource(table, scaling, mean, std), settings, None
    )
    training.run_epoch()  # sets up
    begun = time.process_time()
    training.run_epoch()
    each = (time.process_time() - begun) / int((table.splits == TRAIN).sum())
    return each * float(np.prod(grid.shape))


STEPS: dict[str, Callable[[Path, GeoBox], float]] = {
    "cube from a stack": make_cube,
    "shares of 20 m classes": count_shares,
    "pixel table": read_table,
    "epoch, mlp": partial(train_epoch, "mlp", 0),
    "epoch, tempcnn with neighbours": partial(train_epoch, "tempcnn", 2),
    "map, mlp, float32": partial(map_by, "mlp", 0, "torch"),
    "map, mlp, bf16": partial(map_by, "mlp", 0, "torch-bf16"),
    "map, mlp, OpenVINO": partial(map_by, "mlp", 0, "openvino"),
    "map, tempcnn with neighbours, float32": partial(map_by, "tempcnn", 2, "torch"),
    "map, tempcnn with neighbours, bf16": partial(map_by, "tempcnn", 2, "torch-bf16"),
    "map, forest of 30": partial(map_by, "forest", 0, "torch"),
    "map, boosting of 30, 3 x 3": partial(map_by, "boosting", 1, "torch"),
}

if __name__ == "__main__":
    main()
