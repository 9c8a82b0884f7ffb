"""
Damage: files of every kind with flipped, cut, zeroed or rewritten bytes, given to the commands that read them.

``python tests/faults/damage.py --count 20 --seed 0`` prints a table and ends with status 1 where a command did not
end in one line. Each file is made anew from its whole original; the seed gives kind, place and length of each damage.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.cli.errors import UNEXPECTED
from tesela.core.legend import LandClass, Legend
from tesela.io.cube_writer import CubeWriter
from tesela.io.maps import open_map, write_map
from tesela.io.scenes import open_scene
from tesela.models.expert import Expert, ExpertHeader, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.patches.table import make_patches
from tesela.web.log import VerdictLog, log_path
from tesela.web.verdicts import Verdict

LEGEND = Legend("known", tuple(LandClass(v, f"c{v}", f"Class {v}", f"#{v:02d}4400") for v in range(1, 4)))
GRID = GeoBox((96, 96), Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")


@dataclass(frozen=True)
class Kind:
    """A kind of file and the command that reads it."""

    name: str
    file: str
    call: str
    part: str = ""
    """Text near which the damage lies; empty: anywhere."""


SPLIT = "patches patches.parquet --split random -o OUT.parquet -q"

KINDS = (
    Kind("GeoTIFF", "map.tif", "vectorise map.tif -o OUT.gpkg -q"),
    Kind("GeoTIFF tag", "map.tif", "vectorise map.tif -o OUT.gpkg -q", "TESELA_LEGEND"),
    Kind(
        "GeoPackage", "p.gpkg", "label p.gpkg --like map.tif --legend legend.csv --field code -o OUT.tif -q"
    ),
    Kind(
        "GeoParquet",
        "p.parquet",
        "label p.parquet --like map.tif --legend legend.csv --field code -o OUT.tif -q",
    ),
    Kind("patch table", "patches.parquet", "patches patches.parquet --split random -o OUT.parquet -q"),
    Kind(
        "patch table header",
        "patches.parquet",
        "patches patches.parquet --split random -o OUT.parquet -q",
        '"version"',
    ),
    Kind("legend", "legend.csv", "legend show legend.csv"),
    Kind("verdicts", "patches.review.sqlite", "review export patches.parquet -o OUT.csv -q"),
    Kind("expert header", "e.safetensors", "publish e.safetensors -o OUT --date 2018 -q", '"__metadata__"'),
    Kind(
        "cube header",
        "cube.zarr/zarr.json",
        "label p.gpkg --like cube.zarr --legend legend.csv --field code -o OUT.tif -q",
    ),
)


def make_files(folder: Path) -> None:
    """Whole originals of all kinds."""
    rng = np.random.default_rng(1)
    values = np.kron(rng.integers(1, 4, (12, 12)), np.ones((8, 8), int)).astype(np.uint8)
    write_map(folder / "map.tif", values, GRID, legend=LEGEND)
    rows = "\n".join(f"{c.value},{c.code},{c.name},{c.color}," for c in LEGEND.classes)
    (folder / "legend.csv").write_text(f"value,code,name,color,parent\n{rows}\n", encoding="utf-8")
    boxes = [shapely.box(500000 + 100 * i, 4099040, 500100 + 100 * i, 4100000) for i in range(9)]
    frame = gpd.GeoDataFrame({"code": [f"c{1 + i % 3}" for i in range(9)]}, geometry=boxes, crs=25830)
    frame.to_file(folder / "p.gpkg")
    frame.to_parquet(folder / "p.parquet")
    scene = folder / "map.tif"
    table = make_patches([open_scene(scene, bands=["B1"])], [open_map(folder / "map.tif")], size_px=16)
    path = table.write(folder / "patches.parquet")
    with VerdictLog(log_path(path)) as log:
        log.bind("")
        for number, item in enumerate(table.frame["patch_id"]):
            log.add(Verdict(key=f"k{number}", reviewer="ana", item_id=item, quality="high", note="n" * 200))
    net = UnetArchitecture(2, 3, encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
    header = ExpertHeader(
        net, LEGEND, ("red", "nir"), (0.1, 0.3), (0.1, 0.1), patch_size_px=64, pixel_size_m=10.0
    )
    save_expert(folder / "e.safetensors", Expert(header, net.build()))
    with CubeWriter(folder / "cube.zarr", GRID, times=("01", "02"), bands=("a",)) as cube:
        cube.write(0, 0, np.ones((2, 1, 96, 96), np.float32))


def damage(content: bytes, rng: np.random.Generator, *, part: str = "") -> bytes:
    """Bytes with one damage: a bit flipped, a run zeroed or overwritten, the end cut, or a run left out."""
    data = bytearray(content)
    low, high = 0, len(data)
    if part:
        at = max(content.find(part.encode()), 0)
        low, high = at, min(len(data), at + 1500)
    at = int(rng.integers(low, max(low + 1, high)))
    run = int(rng.integers(1, 64))
    match int(rng.integers(5)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + run] = bytes(len(data[at : at + run]))
        case 2:
            data[at : at + run] = rng.bytes(len(data[at : at + run]))
        case 3:
            del data[at:]
        case _:
            del data[at : at + run]
    return bytes(data)


def outcome(call: Callable[[], int]) -> tuple[str, str]:
    """How a call ends: "read", "refused", "traceback" or "unexpected", and its last words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = call()
    except BaseException as error:  # noqa: BLE001 - whatever escapes is what this looks for
        return "traceback", f"{type(error).__name__}: {error}"
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("note: ")]
    if code == 0:
        return "read", ""
    if (
        code == 1
        and len(lines) == 1
        and lines[0].startswith("tesela: ")
        and f": {UNEXPECTED} " not in lines[0]
    ):
        return "refused", lines[0]
    return "unexpected", "\n".join(lines[-3:])


def _tidy() -> None:
    for pattern in ("OUT*", ".OUT*", "*-wal", "*-shm"):
        for left in Path().glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def run(count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """
    Damage `count` files of each kind.

    Returns
    -------
    table : dict
        Outcomes by kind; "same" counts those read with the very answer of the whole file.
    faults : list of str
        Calls that did not end in one line.
    """
    table: dict[str, Counter[str]] = {}
    faults: list[str] = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        make_files(folder)
        os.chdir(folder)
        try:
            for position, kind in enumerate(KINDS):
                counts = table.setdefault(kind.name, Counter())
                whole = Path(kind.file).read_bytes()
                end, words = outcome(lambda kind=kind: main(kind.call.split()))
                assert end == "read", f"{kind.name}: the whole file is not read: {words}"
                _tidy()
                for number in range(count):
                    rng = np.random.default_rng([seed, position, number])
                    Path(kind.file).write_bytes(damage(whole, rng, part=kind.part))
                    begun = time.monotonic()
                    end, words = outcome(lambda kind=kind: main(kind.call.split()))
                    counts[end if time.monotonic() - begun < 60 else "hang"] += 1
                    if end in ("traceback", "unexpected"):
                        faults.append(f"{kind.name} [{seed}, {position}, {number}]: {words}")
                    for left in [
                        *Path().glob("OUT*"),
                        *Path().glob(".OUT*"),
                        *Path().glob("*-wal"),
                        *Path().glob("*-shm"),
                    ]:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                Path(kind.file).write_bytes(whole)
        finally:
            os.chdir(before)
    return table, faults


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=20, help="Damaged files of each kind.")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    results, problems = run(given.count, given.seed)
    sys.stdout.write(json.dumps({name: dict(counts) for name, counts in results.items()}, indent=1) + "\n")
    sys.stdout.write("\n".join(problems) + "\n")
    sys.exit(bool(problems))
