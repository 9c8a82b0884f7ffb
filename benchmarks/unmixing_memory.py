"""
Memory and time of a training from millions of labelled pixels that lie in a file.

    .venv/bin/python benchmarks/unmixing_memory.py [--pixels 5000000] [--model mlp] [--thinning 1]

A pixel table of 12 months and 7 bands, 9 layers and 10 classes is drawn, in the order of a cube's chunks and split by
blocks, and written. A process of its own trains one epoch on it, with its validation and calibration. "held" is
anonymous memory above that after the imports, at its peak, sampled 20 times a second; "mapped" are pages of the file
and of the libraries, which the system drops where it needs the memory. "mlp" reads single pixels, "tempcnn" two
neighbours on each side, trees one. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.io.array_file import ArraySpool
from tesela.io.legends import open_legend
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import NO_SPLIT, PixelTable, read_pixel_table

CHUNK_PX, LAYERS = 64, 9
BANDS = tuple(f"b{number}" for number in range(1, 8))
TIMES = tuple(f"2013-{month:02d}" for month in range(1, 13))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", type=int, default=5_000_000)
    parser.add_argument("--model", default="mlp", choices=("mlp", "tempcnn", "boosting", "forest"))
    parser.add_argument("--thinning", type=float, default=1.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(Path(options.one), options.model, options.thinning)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.process_time()
        file = write_table(folder, options.pixels)
        made = time.process_time() - begun
        words = ["--model", options.model, "--thinning", str(options.thinning), "--one", str(file)]
        run = subprocess.run(
            [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True
        )
        found = {"pixels": options.pixels, "file_mib": file.stat().st_size >> 20, "made_cpu_s": round(made)}
    print(json.dumps(found | json.loads(run.stdout), indent=2))


def write_table(folder: Path, pixels: int) -> Path:
    """Draw a table: linear mixtures of random spectra with noise and gaps."""
    rng = np.random.default_rng(0)
    legend = open_legend("sipna-2")
    side = -(-int(np.sqrt(pixels)) // CHUNK_PX) * CHUNK_PX
    grid = GeoBox((side, side), Affine(460, 0, 3e6, 0, -460, 3e6), "EPSG:3035")
    spectra = rng.normal(0.2, 0.1, (len(legend), len(TIMES) * len(BANDS))).astype(np.float32)
    down, across = (part.ravel() for part in np.indices((CHUNK_PX, CHUNK_PX)))
    count, scratch = len(down), folder / "scratch"
    scratch.mkdir()
    spool = ArraySpool(scratch)
    for corner in range((side // CHUNK_PX) ** 2):
        row, col = (CHUNK_PX * part for part in divmod(corner, side // CHUNK_PX))
        shares = rng.dirichlet(np.full(len(legend), 0.15), count).astype(np.float32)
        values = shares @ spectra + 0.03 * rng.standard_normal((count, spectra.shape[1]), np.float32)
        values[rng.random(values.shape, np.float32) < 0.2] = np.nan
        spool.append(
            {
                "values": values.reshape(count, len(TIMES), len(BANDS)),
                "static": rng.random((count, LAYERS), np.float32),
                "targets": shares,
                "rows": (row + down).astype(np.int32),
                "cols": (col + across).astype(np.int32),
            }
        )
    table = PixelTable(
        **spool.arrays(),
        splits=np.full(len(spool), NO_SPLIT, np.uint8),
        times=TIMES,
        bands=BANDS,
        layers=tuple(f"layer{number}" for number in range(LAYERS)),
        legend=legend,
        grid=grid,
    )
    return split_pixels(table).write(folder / "pixels.safetensors")


def one_run(file: Path, model: str, thinning: float) -> dict[str, object]:
    import torch

    from tesela.training.unmixing.settings import UnmixingSettings
    from tesela.training.unmixing.train import train_unmixing

    torch.set_num_threads(1)
    table = read_pixel_table(file)
    settings = UnmixingSettings(
        model=model,  # type: ignore[arg-type]
        context={"mlp": 0, "tempcnn": 2}.get(model, 1),
        epochs=1,
        batch_size=2048,
        thinning=thinning,
        trees=50,
        accelerator="cpu",
    )
    before, peak, stop = memory(), [0, 0], threading.Event()

    def sample() -> None:
        while not stop.wait(0.05):
            peak[:] = map(max, peak, memory())

    watcher = threading.Thread(target=sample)
    watcher.start()
    begun = time.process_time()
    train_unmixing(table, settings, quiet=True)
    seconds = time.process_time() - begun
    stop.set()
    watcher.join()
    held = peak[0] - before[0]
    return {
        "train": table.counts["train"],
        "val": table.counts["val"],
        "cpu_s": round(seconds),
        "held_mib": held >> 10,
        "held_bytes_per_pixel": round(1024 * held / len(table)),
        "mapped_mib": peak[1] >> 10,
        "libraries_mib": before[0] >> 10,
    }


def memory() -> tuple[int, int]:
    """Anonymous and mapped memory of this process in KiB (Linux)."""
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(words["RssAnon"].split()[0]), int(words["RssFile"].split()[0])


if __name__ == "__main__":
    main()
