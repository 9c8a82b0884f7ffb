"""
Chunks and shards of a cube: what writing, windows and single series cost in each layout.

    .venv/bin/python benchmarks/cube_chunks.py [--side 512] [--times 12] [--bands 7]

A cube of reflectances (steps of 1e-4, a fifth missing) is written by blocks of a shard, or of 256 px without;
then all windows of 256 px and single series at random places are read. CPU milliseconds, medians of the reads; files
and size on disk, and the files of the series of Europe at 460 m (9,000 x 9,000 cells). Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec

LAYOUTS = ((16, 0), (32, 0), (64, 0), (128, 0), (16, 256), (32, 256), (64, 256), (64, 512))
"""Sides of chunks and of shards in cells; 0: no shards."""

WINDOW_PX, EUROPE_PX = 256, 9_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--times", type=int, default=12)
    parser.add_argument("--bands", type=int, default=7)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.times, options.bands, options.side, options.side)
    season = np.sin(np.arange(options.times) / options.times * 2 * np.pi)[:, None, None, None]
    values = (2000 + 800 * season + rng.normal(0, 150, shape)).round().astype(np.float32) * np.float32(1e-4)
    values[rng.random(shape) < 0.2] = np.nan
    rows = []
    for chunk, shard in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"chunk": chunk, "shard": shard, **measure(Path(folder), values, chunk, shard)})
        print(json.dumps(rows[-1]), flush=True)


def measure(folder: Path, values: np.ndarray, chunk: int, shard: int) -> dict[str, float]:
    side = values.shape[-1]
    lead = values.shape[:2]
    array = zarr.create_array(
        folder / "a.zarr",
        shape=values.shape,
        chunks=(*lead, chunk, chunk),
        shards=(*lead, shard, shard) if shard else None,
        dtype="float32",
        fill_value=np.nan,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
    )
    step = shard or WINDOW_PX
    corners = [(row, col) for row in range(0, side, step) for col in range(0, side, step)]

    def write() -> None:
        for row, col in corners:
            array[..., row : row + step, col : col + step] = values[..., row : row + step, col : col + step]

    written = cpu_ms(write)
    files = [file for file in (folder / "a.zarr").rglob("*") if file.is_file() and file.name != "zarr.json"]
    windows = [
        cpu_ms(lambda row=row, col=col: array[..., row : row + WINDOW_PX, col : col + WINDOW_PX])
        for row in range(0, side, WINDOW_PX)
        for col in range(0, side, WINDOW_PX)
    ]
    places = np.random.default_rng(1).integers(0, side, (20, 2))
    series = [cpu_ms(lambda y=y, x=x: array[..., y : y + 1, x : x + 1]) for y, x in places.tolist()]
    unit = shard or chunk
    return {
        "write_ms": round(written),
        "window_ms": round(statistics.median(windows)),
        "series_ms": round(statistics.median(series), 1),
        "files": len(files),
        "mib": round(sum(file.stat().st_size for file in files) / 2**20, 1),
        "files_europe": (-(-EUROPE_PX // unit)) ** 2,
    }


def cpu_ms(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return 1000 * (time.process_time() - begun)


if __name__ == "__main__":
    main()
