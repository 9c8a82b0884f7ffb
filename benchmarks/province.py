"""
A province of nine virtual sheets in two UTM zones: mapped once undisturbed, and once with a process that is killed.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/province.py [--kills 5] [--epochs 5] [--keep FOLDER]

One virtual area of 1 km2 (1 m pixels, SIOSE AR with mistakes) is cut into three by three sheets that overlap by 24 m;
the western column is in zone 29, the others in zone 30. A table names image, reference, outline, zone and use of each.
Four sheets train a cascade of two experts; five are mapped only, and scored against their reference. The killed run
starts from nothing and is killed after a tenth of the undisturbed time, again and again; then it ends by itself.
Its maps are removed, and it is killed once more after every second sheet.
Prints one JSON document: seconds by stage, where the kills fell, whether all maps have the same bytes, pixels in the
outlines without a class, classes that change across the joints and beside them, scores by sheet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from mapping.probe import machine
from tesela.io.images import write_bands
from tesela.io.maps import MapReader, open_map
from tesela.io.raster import grid_of
from tesela.simulate.sheet.files import write_sheet

SIDE_PX, PIXEL_M, OVERLAP_M, SHEETS = 1020, 1.0, 24, 3
TRAINED = ("0101", "0202", "0203", "0302")
"""Sheets that train, by row and column; one is in zone 29."""
BESIDE_PX = 16
"""Lines of pixels at most so far from the border of an outline lie beside a joint."""
EDGE_PX = 40
"""Pixels at the edge of the province, where the turned sheets of zone 29 may lack imagery."""

RECIPE = """\
chain = "lulucf"
name = "province"
out = "run"
seed = 0
species = ["24", "26", "45", "43"]

[[scenes]]
paths = "sheets.csv"

[reference]
path = "area/SAR2017_99_VIRTUAL.gpkg"

[[experts]]
name = "context"
legend = "lulucf-context"
[[experts]]
name = "species"
legend = "species"
parent = "context"
classes = ["forest"]

[patches]
size_px = 64
stride_px = 32
block = "128 m"

[training]
encoder = "resnet10t"
decoder = "small"
epochs = {epochs}
batch_size = 8
patience = 0

[mapping]
engine = "torch"
precision = "fp32"
window_px = 256
join = "EPSG:25830"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--keep", type=Path, help="folder for the sheets and both runs; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = options.keep or Path(name)
        quiet, killed = home / "undisturbed", home / "killed"
        prepare(quiet, epochs=options.epochs)
        prepare(killed, epochs=options.epochs)
        begun = time.perf_counter()
        outcome = json.loads(run(quiet, "--json").communicate()[0])
        seconds = time.perf_counter() - begun
        falls = kill_again_and_again(killed, after_s=seconds / 10, kills=options.kills)
        whole, broken = hashes(quiet), hashes(killed)
        for part in ("maps", "joined", "report"):
            shutil.rmtree(killed / "run" / part)
        mapped = kill_while_mapping(killed)
        document = {
            "machine": machine(),
            "seconds": round(seconds, 1),
            "seconds_by_stage": outcome["seconds"],
            "killed_in": falls,
            "maps": len(whole),
            "same_bytes": whole == broken,
            "killed_while_mapping": mapped,
            "same_bytes_then": whole == hashes(killed),
            "joined": check_join(quiet),
            "sheets": scores(quiet),
        }
    print(json.dumps(document, indent=2))


def prepare(folder: Path, *, epochs: int) -> None:
    """Write sheets, their table and the recipe."""
    files = write_sheet(folder / "area", size_px=SIDE_PX, pixel_m=PIXEL_M, seed=7)
    with rasterio.open(files.image) as data:
        grid = grid_of(data)
        image = data.read()
    left, _, right, top = grid.extent.boundingbox
    step = (right - left) / SHEETS
    rows: list[dict[str, Any]] = []
    for row in range(SHEETS):
        for col in range(SHEETS):
            outline = shapely.box(
                left + col * step, top - (row + 1) * step, left + (col + 1) * step, top - row * step
            )
            zone, number = 29 if col == 0 else 30, f"{row + 1:02d}{col + 1:02d}"
            name = f"PNOA_MA_OF_ETRS89_HU{zone}_h50_{number}.tif"
            write_image(folder / name, image, grid, outline.buffer(OVERLAP_M / 2, join_style="mitre"), zone)
            rows.append({"name": number, "image": name, "zone": zone, "geometry": outline})
    outlines = gpd.GeoDataFrame(rows, crs=f"EPSG:{grid.crs.epsg}")
    outlines.to_file(folder / "outlines.gpkg")
    lines = ["name;image;reference;outline;zone;use"]
    for item in rows:
        use = "both" if item["name"] in TRAINED else "map"
        reference = files.reference.relative_to(folder)
        lines.append(f"{item['name']};{item['image']};{reference};outlines.gpkg;{item['zone']};{use}")
    (folder / "sheets.csv").write_text("\n".join(lines) + "\n")
    (folder / "recipe.toml").write_text(RECIPE.format(epochs=epochs))


def write_image(path: Path, image: np.ndarray, grid: GeoBox, area: shapely.Polygon, zone: int) -> None:
    """The part of the area's image that a sheet shows, in the sheet's zone."""
    own = gpd.GeoSeries([area], crs=f"EPSG:{grid.crs.epsg}").to_crs(25800 + zone).total_bounds
    low, high = np.floor(own[:2]), np.ceil(own[2:])
    shape = (int(high[1] - low[1]), int(high[0] - low[0]))
    target = GeoBox(shape, Affine(PIXEL_M, 0, low[0], 0, -PIXEL_M, high[1]), f"EPSG:{25800 + zone}")
    out = np.zeros((len(image), *shape), np.uint8)
    rasterio.warp.reproject(
        image,
        out,
        src_transform=grid.affine,
        src_crs=f"EPSG:{grid.crs.epsg}",
        src_nodata=0,
        dst_transform=target.affine,
        dst_crs=f"EPSG:{25800 + zone}",
        dst_nodata=0,
        resampling=rasterio.warp.Resampling.bilinear,
    )
    write_bands(path, out, target, names=("red", "green", "blue"), nodata=0, date="2017-07-01")


def run(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`tesela run` in a process of its own."""
    command = [sys.executable, "-m", "tesela", "run", str(folder / "recipe.toml"), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def kill_again_and_again(folder: Path, *, after_s: float, kills: int) -> list[str]:
    """Kill a run several times, then let it end; returns the stage that each kill fell into."""
    falls = []
    for _ in range(kills):
        process = run(folder, "--quiet")
        try:
            process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            falls.append(unfinished_stage(folder))
        else:
            raise SystemExit("The run ended before it could be killed; it has done nothing wrong.")
    last = run(folder, "--quiet")
    last.communicate()
    assert last.returncode == 0
    return falls


def kill_while_mapping(folder: Path) -> list[int]:
    """Kill a run whenever two sheets more are mapped, then let it end; returns the sheets done at each kill."""
    done = []
    for count in range(1, SHEETS**2 + 1, 2):
        process = run(folder, "--quiet")
        while process.poll() is None and len(maps_of(folder)) < count:
            time.sleep(0.05)
        process.kill()
        process.communicate()
        done.append(len(maps_of(folder)))
    last = run(folder, "--quiet")
    last.communicate()
    assert last.returncode == 0
    return done


def maps_of(folder: Path) -> list[Path]:
    """Maps of sheets that are finished."""
    return list((folder / "run" / "maps").glob("*/*.tif"))


def unfinished_stage(folder: Path) -> str:
    """First stage that is not up to date, as `tesela run --dry-run` says."""
    text = run(folder, "--dry-run", "--json").communicate()[0]
    plans = json.loads(text)["stages"]
    return next((plan["name"] for plan in plans if plan["state"] != "up to date"), "none")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of all maps and of the joined one."""
    files = sorted([*(folder / "run" / "maps").rglob("*.tif"), *(folder / "run" / "joined").glob("*.tif")])
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def check_join(folder: Path) -> dict[str, object]:
    """Pixels inside the outlines without a class, accuracy against the truth, and classes that change at the joints."""
    joined = open_map(folder / "run" / "joined" / "province.tif")
    truth = open_map(folder / "area" / "truth_lulucf-context.tif")
    with MapReader(joined) as reader, MapReader(truth) as reference:
        values, wanted = reader.read(truth.grid), reference.read(truth.grid)
    context = joined.legend.level(1)
    top = context.value_table[context.index_table[joined.legend.level_table(1)[values]]]
    codes = {item.value: item.code for item in context.classes}
    names = np.array([codes.get(value, "") for value in range(256)])
    right_names = np.array(
        [{item.value: item.code for item in truth.legend.classes}.get(value, "") for value in range(256)]
    )
    right = names[top] == right_names[wanted]
    return {
        "pixels": int(right.size),
        "inside_without_class": int((values[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX] == 0).sum()),
        "accuracy": round(float(right.mean()), 4),
        "class_changes_across_joints": changes(values, across=True),
        "class_changes_beside_joints": changes(values, across=False),
        "of_the_truth_across": changes(wanted, across=True),
        "of_the_truth_beside": changes(wanted, across=False),
    }


def changes(values: np.ndarray, *, across: bool) -> float:
    """Share of pairs of neighbours with two classes: on the lines where sheets meet, or on those up to 16 px beside."""
    different = []
    step = len(values) // SHEETS
    for turned in (values, values.T):
        for joint in range(step, step * SHEETS, step):
            lines = [0] if across else [*range(-BESIDE_PX, 0), *range(1, BESIDE_PX + 1)]
            different += [turned[joint + line - 1] != turned[joint + line] for line in lines]
    return round(float(np.mean(different)), 4)


def scores(folder: Path) -> list[dict[str, object]]:
    """One row a sheet: accuracy, mean IoU and F1, and where."""
    summary = json.loads((folder / "run" / "report" / "summary.json").read_text(encoding="utf-8"))
    keys = ("name", "area", "accuracy", "miou", "macro_f1")
    return [
        {
            "trained": row["name"] in TRAINED,
            **{key: round(row[key], 4) if isinstance(row[key], float) else row[key] for key in keys},
        }
        for row in summary["table"]["scenes"]
    ]


if __name__ == "__main__":
    main()
