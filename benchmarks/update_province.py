"""
Time, memory and bytes of an update at the size of a province: `tesela update` and `tesela update apply`.

The old layer is a mosaic of polygons of 49 corners and 15 classes, whose wavy borders neighbours share. The new map
(10 m) shows the old classes with noise in patches of 8 x 8 pixels; in every twentieth polygon one half, or all, has
another class. Three calls are measured, each as a process of its own: an update with the whole map, one with a map of
1 km2 in the middle, and the application of all proposals of the first. Prints one JSON document; the files stay in
``--folder`` if it is given.

``--columns 724 --rows 425`` make 307,700 polygons on 50,000 x 30,000 pixels; ``--columns 2000 --rows 1500
--cell-px 20 20 --corners 3`` 3 million polygons of 13 corners on 40,000 x 30,000 pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

CLASSES = 15
CRS = "EPSG:25830"
PIXEL_M = 10.0
LEFT, TOP = 200_000.0, 4_700_000.0
LEGEND = "\n".join(
    [
        "value,code,name,color",
        *(f"{k},{k:02d},Class {k},#{k * 9 + 60:02x}{k * 7 + 80:02x}60" for k in range(1, 16)),
    ]
)


def old_classes(rows: int, cols: int) -> NDArray[np.uint8]:
    """Class of each polygon, from 1."""
    return np.random.default_rng(1).integers(1, CLASSES + 1, (rows, cols), dtype=np.uint8)


def polygon_rows(
    rows: int, cols: int, cell_m: tuple[float, float], corners: int
) -> Iterator[NDArray[np.object_]]:
    """Polygons of four times `corners` row by row; two neighbours have the same corners along their border."""
    random = np.random.default_rng(0)
    wide, tall = cell_m
    x = LEFT + wide * np.arange(cols + 1) + np.zeros((rows + 1, 1))
    y = TOP - tall * np.arange(rows + 1)[:, np.newaxis] + np.zeros(cols + 1)
    inner = np.s_[1:-1, 1:-1]
    x[inner] += random.uniform(-0.15, 0.15, x[inner].shape) * wide
    y[inner] += random.uniform(-0.15, 0.15, y[inner].shape) * tall
    part = np.arange(corners) / corners
    wave = np.sin(2 * np.pi * part) * 0.05 * min(cell_m)

    def edge(x0, y0, x1, y1, sway):  # type: ignore[no-untyped-def]
        along = (
            np.stack([x0, y0], -1)[..., np.newaxis, :]
            + part[:, np.newaxis] * np.stack([x1 - x0, y1 - y0], -1)[..., np.newaxis, :]
        )
        along[..., 0] += wave * sway[0]
        along[..., 1] += wave * sway[1]
        return along

    for row in range(rows):
        sway_top, sway_low = float(row > 0), float(row + 1 < rows)
        top = edge(x[row, :-1], y[row, :-1], x[row, 1:], y[row, 1:], (0, sway_top))
        low = edge(x[row + 1, :-1], y[row + 1, :-1], x[row + 1, 1:], y[row + 1, 1:], (0, sway_low))
        side = edge(x[row], y[row], x[row + 1], y[row + 1], (1.0, 0))
        side[[0, -1], :, 0] = x[row, [0, -1], np.newaxis]
        right = side[1:]
        left = np.concatenate(
            [side[:-1, 1:], np.stack([x[row + 1, :-1], y[row + 1, :-1]], -1)[:, np.newaxis]], 1
        )
        under = np.concatenate([low[:, 1:], np.stack([x[row + 1, 1:], y[row + 1, 1:]], -1)[:, np.newaxis]], 1)
        rings = np.concatenate([top, right, under[:, ::-1], left[:, ::-1], top[:, :1]], axis=1)
        yield np.asarray(shapely.polygons(rings))


def write_layer(path: Path, rows: int, cols: int, cell_m: tuple[float, float], corners: int) -> None:
    codes = old_classes(rows, cols)
    schema = pa.schema(
        [("CODE", pa.string()), ("NAME", pa.string()), ("AREA_HA", pa.float64()), ("geometry", pa.binary())]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for row, shapes in enumerate(polygon_rows(rows, cols, cell_m, corners)):
            columns = [
                pa.array([f"{code:02d}" for code in codes[row].tolist()]),
                pa.array([f"parcel {row}.{col} of the old survey" for col in range(cols)]),
                pa.array(shapely.area(shapes) / 10_000),
                pa.array(shapely.to_wkb(shapes).tolist(), pa.binary()),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    pyogrio.raw.write_arrow(
        pa.RecordBatchReader.from_batches(schema, batches()),
        path,
        layer="old",
        driver="GPKG",
        geometry_name="geometry",
        geometry_type="Polygon",
        crs=CRS,
    )


def write_map(path: Path, shape: tuple[int, int], cells: tuple[int, int]) -> None:
    """The new map, strip by strip."""
    (height, width), (rows, cols) = shape, cells
    random = np.random.default_rng(2)
    first = old_classes(rows, cols)
    second = first.copy()
    changed = random.random(first.shape) < 0.05
    second[changed] = random.integers(1, CLASSES + 1, changed.sum())
    whole = changed & (random.random(first.shape) < 0.5)
    first[whole] = second[whole]
    col_of = np.arange(width) * cols / width
    halves = col_of % 1 < 0.5
    settings = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "lzw"}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=0, crs=CRS,
        transform=Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP), bigtiff="if_safer", **settings,
    ) as data:  # fmt: skip
        for top in range(0, height, 512):
            low = min(top + 512, height)
            row_of = (np.arange(top, low) * rows / height).astype(int)
            at = row_of[:, np.newaxis], col_of.astype(int)[np.newaxis]
            strip = np.where(halves, first[at], second[at])
            patches = -(-(low - top) // 8), -(-width // 8)
            noise = np.where(random.random(patches) < 0.1, random.integers(1, CLASSES + 1, patches), 0)
            noise = noise.astype(np.uint8).repeat(8, 0).repeat(8, 1)[: low - top, :width]
            data.write(np.where(noise > 0, noise, strip), 1, window=((top, low), (0, width)))


def write_middle(source: Path, path: Path) -> None:
    """1 km2 from the middle of the map."""
    with rasterio.open(source) as data:
        side = round(1000 / PIXEL_M)
        window = rasterio.windows.Window(data.width // 2, data.height // 2, side, side)
        profile = {**data.profile, "width": side, "height": side, "transform": data.window_transform(window)}
        profile |= {"blockxsize": 128, "blockysize": 128}
        with rasterio.open(path, "w", **profile) as out:
            out.write(data.read(1, window=window), 1)


_CHILD = """
import json, resource, sys
from tesela.cli import main
code = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
facts = {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_mib": round(used.ru_maxrss / 1024)}
json.dump(facts, open(sys.argv[1], "w"))
sys.exit(code)
"""


def measure(folder: Path, *words: object) -> dict[str, object]:
    """Run a command in a process of its own."""
    start = time.perf_counter()
    facts = folder / "facts.json"
    command = [sys.executable, "-c", _CHILD, facts, *words, "--json"]
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout)
    said.pop("changes", None)
    return {**json.loads(facts.read_text()), "wall_s": round(time.perf_counter() - start, 1), **said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=724)
    parser.add_argument("--rows", type=int, default=425)
    parser.add_argument("--cell-px", type=float, nargs=2, default=(50_000 / 724, 30_000 / 425))
    parser.add_argument("--corners", type=int, default=12, help="of each of the four borders of a polygon")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--skip-apply", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True)
        old, new, legend = folder / "old.gpkg", folder / "new.tif", folder / "legend.csv"
        shape = round(options.rows * options.cell_px[1]), round(options.columns * options.cell_px[0])
        start = time.process_time()
        if not new.exists():
            legend.write_text(LEGEND + "\n")
            cell_m = options.cell_px[0] * PIXEL_M, options.cell_px[1] * PIXEL_M
            write_layer(old, options.rows, options.columns, cell_m, options.corners)
            write_map(new, shape, (options.rows, options.columns))
            write_middle(new, folder / "middle.tif")
        report: dict[str, object] = {
            "polygons": options.rows * options.columns,
            "pixels": shape,
            "layer_mb": round(old.stat().st_size / 1e6),
            "making_cpu_s": round(time.process_time() - start, 1),
        }
        queue, small = folder / "queue.gpkg", folder / "small.gpkg"
        words = ["--field", "CODE", "--legend", legend]
        report["whole map"] = measure(folder, "update", old, new, *words, "-o", queue)
        report["whole map"]["written_mb"] = round(queue.stat().st_size / 1e6, 1)  # type: ignore[index]
        report["1 km2"] = measure(folder, "update", old, folder / "middle.tif", *words, "-o", small)
        report["1 km2"]["written_mb"] = round(small.stat().st_size / 1e6, 3)  # type: ignore[index]
        if not options.skip_apply:
            call = ["update", "apply", queue, "--undecided", "accept", "-o", folder / "applied.gpkg"]
            report["apply"] = measure(folder, *call)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
