"""
Tiles of `tesela view`: a map of a gigapixel, tiles of all zooms, asked as a browser asks.

    .venv/bin/python benchmarks/view.py [--size 32768] [--tiles 300]

The map is a COG of 15 classes whose areas are some tens of pixels wide. Tiles of 512 px are asked for in turn:
class values as they go over the wire, and beside them, of the same ground, what rio-tiler reads, colours and encodes
as PNG (extra `bench`); and once more through the application. Prints one JSON document: medians and 95th
percentiles in milliseconds, of the clock and of the processor (the latter holds on a busy machine too), KiB a tile.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from mapping.probe import machine
from tesela.io.legends import open_legend
from tesela.io.maps import MapWriter, open_map
from tesela.io.pyramid import Pyramid

if TYPE_CHECKING:
    from starlette.testclient import TestClient

LEGEND = open_legend("corine-2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32768)
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--map", help="A map of an earlier run; made if it does not exist.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(options.map or f"{folder}/map.tif")
        if not path.exists():
            write_map_of(path, options.size)
        print(json.dumps(measure(path, options.tiles), indent=2))


def write_map_of(path: Path, size: int) -> None:
    """Patches of classes on three scales, 4096 px repeated, shifted from row to row."""
    side = 4096
    numbers = np.random.default_rng(0)
    field = np.zeros((side, side), np.float32)
    for cell in (8, 32, 128):
        coarse = numbers.standard_normal((side // cell, side // cell)).astype(np.float32)
        field += np.sqrt(cell) * np.repeat(np.repeat(coarse, cell, 0), cell, 1)
    edges = np.quantile(field, np.linspace(0, 1, len(LEGEND) + 1)[1:-1])
    piece = np.array(LEGEND.values, np.uint8)[np.digitize(field, edges)]
    grid = GeoBox((size, size), Affine(10.0, 0, 3e6, 0, -10.0, 2e6), "EPSG:3035")
    wide = np.tile(piece, (1, size // side + 2))
    with MapWriter(path, grid, LEGEND) as writer:
        for row in range(0, size, 512):
            shift = (row // side) * 517 % side
            top = row % side
            writer.write(row, 0, wide[top : top + 512, shift : shift + size][: size - row])


def measure(path: Path, count: int) -> dict[str, object]:
    from starlette.testclient import TestClient

    from tesela.web.layers import ClassLayer
    from tesela.web.view import view_app

    source = open_map(path)
    pyramid = Pyramid(source.grid)
    layer = ClassLayer(source, pyramid, name="map")
    client = TestClient(view_app(source), base_url="http://127.0.0.1")
    peer = peer_reader(path, source.grid)
    wanted = list(places(source.grid, pyramid.levels, count))
    for read in (lambda *at: layer.tile(*at).content, peer, lambda *at: fetch(client, *at)):
        read(0, 0, 0)  # opens files and pools
    return {
        "map": {
            "mpx": round(source.grid.shape[0] * source.grid.shape[1] / 1e6),
            "file_mib": round(path.stat().st_size / 2**20, 1),
        },
        "tiles": len(wanted),
        "tesela_view": summary([timed(lambda at=at: layer.tile(*at).content) for at in wanted]),
        "rio_tiler_png": summary([timed(lambda at=at: peer(*at)) for at in wanted]),
        "tesela_view_through_the_application": summary(
            [timed(lambda at=at: fetch(client, *at)) for at in wanted]
        ),
        "machine": machine(),
    }


def fetch(client: TestClient, level: int, x: int, y: int) -> bytes:
    with client.stream("GET", f"/tiles/0/{level}/{x}/{y}") as answer:
        return b"".join(answer.iter_raw())


def places(grid: GeoBox, levels: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Tiles of all levels alike, anywhere on the map."""
    choose = random.Random(0)
    for number in range(count):
        level = number % levels
        across = -(-grid.shape[1] // (512 << level))
        down = -(-grid.shape[0] // (512 << level))
        yield level, choose.randrange(across), choose.randrange(down)


def peer_reader(path: Path, grid: GeoBox) -> Callable[[int, int, int], bytes]:
    from rio_tiler.io import Reader

    reader = Reader(str(path))
    colours = {item.value: (*item.rgb, 255) for item in LEGEND.classes}

    def read(level: int, x: int, y: int) -> bytes:
        side = 512 << level
        left, top = grid.affine * (x * side, y * side)
        right, bottom = grid.affine * ((x + 1) * side, (y + 1) * side)
        image = reader.part(
            (left, bottom, right, top), bounds_crs=reader.crs, dst_crs=reader.crs, width=512, height=512
        )
        return bytes(image.render(img_format="PNG", colormap=colours))

    return read


def timed(call: Callable[[], bytes]) -> tuple[float, float, int]:
    start, busy = time.perf_counter(), time.process_time()
    size = len(call())
    return time.perf_counter() - start, time.process_time() - busy, size


def summary(runs: list[tuple[float, float, int]]) -> dict[str, float]:
    wall = sorted(1000 * seconds for seconds, _, _ in runs)
    return {
        "median_ms": round(statistics.median(wall), 2),
        "p95_ms": round(wall[int(0.95 * len(wall))], 2),
        "median_cpu_ms": round(statistics.median(1000 * seconds for _, seconds, _ in runs), 2),
        "median_kib": round(statistics.median(size for _, _, size in runs) / 1024, 1),
    }


if __name__ == "__main__":
    main()
