"""
Memory of a MODIS cube beside its budget.

    .venv/bin/python benchmarks/cube_memory.py [--budget "256 MiB"] [--side 1000] [--years 2]

Composites of one tile's corner (side x side cells, both satellites, one a month) are written, and a cube is made of
them in a process of its own; memory is what the call adds at its peak. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from mapping.probe import machine, measure, run_alone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", default="256 MiB")
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--years", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(options.one[0], options.one[1], options.budget)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_composites(Path(folder) / "modis", options.side, options.years)
        words = ["--budget", options.budget, "--one", f"{folder}/modis", f"{folder}/cube.zarr"]
        peak = run_alone(__file__, words)
    print(
        json.dumps(
            {"machine": machine(), "budget": options.budget, "side": options.side, "run": peak}, indent=2
        )
    )


def write_composites(folder: Path, side: int, years: int) -> None:
    """One composite a month and satellite, with the same numbers in all."""
    from odc.geo.geobox import GeoBox

    from tesela.io.images import write_bands
    from tesela.io.sinusoidal import SINUSOIDAL, modis_tile
    from tesela.simulate.region.modis import LAYERS

    grid = GeoBox((side, side), modis_tile(17, 5).affine, SINUSOIDAL)
    rng = np.random.default_rng(0)
    layers = np.zeros((len(LAYERS), side, side), np.int32)
    layers[:7] = rng.integers(0, 5000, (7, side, side))
    layers[8] = 0b01_001_000
    for month in range(12 * years):
        name = f"{2012 + month // 12}_{month % 12 + 1:02d}_01"
        day = (np.datetime64(name.replace("_", "-")) - np.datetime64(f"{2012 + month // 12}-01-01")).astype(
            int
        )
        layers[9] = day + 1
        for satellite in ("MOD", "MYD"):
            write_bands(folder / f"{satellite}09A1_{name}.tif", layers, grid, names=LAYERS)


def one_run(folder: str, out: str, budget: str) -> dict[str, object]:
    from tesela.core.units import parse_memory_bytes
    from tesela.sources.modis.cube import write_modis_cube

    return measure(lambda: write_modis_cube([folder], out, memory_bytes=parse_memory_bytes(budget)))


if __name__ == "__main__":
    main()
