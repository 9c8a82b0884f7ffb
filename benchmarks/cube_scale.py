"""
Rates of the unmixing chain on one core, measured on a small cube and scaled to Andalusia, Spain and Europe at 460 m.

    .venv/bin/python benchmarks/cube_scale.py [--side 512]

A stack of 12 monthly files of 7 bands (int16, random numbers, a fifth missing) becomes a cube, a class raster of 20 m
shares, and experts trained on 4,000 of its pixels map it. Pixels per CPU second and the peak memory of each step are
measured; CPU hours of the regions are these rates times their land area, not measured. Prints JSON.
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
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

KM2 = {"Andalusia": 87_600, "Spain": 506_000, "Europe (EEA39)": 5_850_000}
"""Land areas."""

CELL_KM2 = 0.4633127**2
BANDS = tuple(f"b{number}" for number in range(1, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    grid = GeoBox((options.side,) * 2, Affine(460, 0, 200_000, 0, -460, 4_400_000), "EPSG:25830")
    steps: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(write_inputs, folder, grid)
        for step, work in STEPS.items():
            if "OpenVINO" in step and importlib.util.find_spec("openvino") is None:
                continue
            seconds, peak = measured(work, folder, grid)
            steps[step] = {"px_per_cpu_s": round(options.side**2 / seconds), "peak_mib": round(peak)}
            print(step, steps[step], file=sys.stderr, flush=True)
    hours = {
        region: {
            step: round(area / CELL_KM2 / numbers["px_per_cpu_s"] / 3600, 2)
            for step, numbers in steps.items()
        }
        for region, area in KM2.items()
    }
    print(json.dumps({"measured": steps, "scaled_cpu_hours": hours}, indent=2))


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
    from tesela.io.legends import load_legend
    from tesela.io.maps import write_map

    rng = np.random.default_rng(0)
    for month in range(1, 13):
        numbers = rng.integers(1, 6000, (7, *grid.shape), np.int16)
        numbers[rng.random(numbers.shape) < 0.2] = -1
        write_bands(folder / f"stack_2013-{month:02d}.tif", numbers, grid, names=BANDS, nodata=-1, scale=1e-4)
    fine = GeoBox(tuple(int(side) * 23 for side in grid.shape), grid.affine * Affine.scale(1 / 23), grid.crs)
    legend = load_legend("corine-2")
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
    from tesela.io.legends import load_legend
    from tesela.labels.fractions import write_fractions

    begun = time.process_time()
    write_fractions(
        folder / "reference.tif",
        folder / "shares.tif",
        like=grid,
        legend=load_legend("corine-2"),
        source="corine-2",
    )
    return time.process_time() - begun


def read_table(folder: Path, grid: GeoBox) -> float:
    from tesela.io.abundance import open_abundance
    from tesela.io.cube import open_cube
    from tesela.patches.pixels import read_pixels

    begun = time.process_time()
    read_pixels(open_cube(folder / "cube.zarr"), open_abundance(folder / "shares.tif"))
    return time.process_time() - begun


def map_by(model: str, engine: str, folder: Path) -> float:
    import torch

    from tesela.io.abundance import open_abundance
    from tesela.io.cube import open_cube
    from tesela.mapping.abundance.unmix import unmix_cube
    from tesela.patches.pixels import read_pixels
    from tesela.training.unmixing.settings import UnmixingSettings
    from tesela.training.unmixing.train import train_unmixing

    torch.set_num_threads(1)
    cube = open_cube(folder / "cube.zarr")
    table = read_pixels(cube, open_abundance(folder / "shares.tif")).take(np.arange(4000))
    splits = np.where(np.arange(4000) % 4 == 0, 1, 0).astype(np.uint8)
    from dataclasses import replace

    settings = UnmixingSettings(model=model, context=0, epochs=1, trees=30)  # type: ignore[arg-type]
    expert = train_unmixing(replace(table, splits=splits), settings, quiet=True)
    begun = time.process_time()
    unmix_cube(expert, cube, folder / f"{model}_{engine}.tif", engine=engine)
    return time.process_time() - begun


def map_mlp(folder: Path, grid: GeoBox) -> float:
    return map_by("mlp", "torch", folder)


def map_mlp_openvino(folder: Path, grid: GeoBox) -> float:
    return map_by("mlp", "openvino", folder)


def map_forest(folder: Path, grid: GeoBox) -> float:
    return map_by("forest", "torch", folder)


STEPS: dict[str, Callable[[Path, GeoBox], float]] = {
    "cube from a stack": make_cube,
    "shares of 20 m classes": count_shares,
    "pixel table": read_table,
    "map, mlp, torch": map_mlp,
    "map, mlp, OpenVINO": map_mlp_openvino,
    "map, forest of 30": map_forest,
}

if __name__ == "__main__":
    main()
