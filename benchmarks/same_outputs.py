"""
Do outputs keep their bytes when code moves?

Runs the three demos and the commands behind them with one source tree, and writes the SHA-256 of what they made:
pixels and grid of every raster, arrays of every cube, tensors of every expert, cells of every table, and the
figures, in their order, of every JSON document. Two trees make the same outputs if their hashes are equal:

    python benchmarks/same_outputs.py --source ../before/src -o before.json
    python benchmarks/same_outputs.py --source src -o after.json --against before.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

SKIPPED = {"manifest.json", "report.html"}
"""Times of day and wording stand in these."""

STEPS: tuple[tuple[str, ...], ...] = (
    ("demo corine --out corine", ""),
    ("demo lulucf --out lulucf", ""),
    ("demo unmixing --out unmixing", ""),
    (
        "generalise corine/maps/virtual.tif --mmu '5 ha' --min-width '40 m' --priority auto -o products/general.tif",
        "",
    ),
    ("vectorise products/general.tif --simplify '20 m' -o products/general.gpkg", ""),
    ("legend convert corine/maps/virtual.tif --to lulucf -o products/lulucf_a.tif", ""),
    ("legend convert products/general.tif --to lulucf -o products/lulucf_b.tif", ""),
    ("account products/lulucf_a.tif products/lulucf_b.tif --years 2018,2024 -o products/account", ""),
    (
        "sample changes products/lulucf_a.tif products/lulucf_b.tif --years 2018,2024 --points 1200 -o products/change",
        "account products/lulucf_a.tif products/lulucf_b.tif --years 2018,2024 --draw-samples 1200 -o products/change",
    ),
    (
        "sample draw corine/maps/virtual.tif --points 900 -o products/sample.gpkg",
        "assess corine/maps/virtual.tif --size 900 --draw-sample products/sample.gpkg",
    ),
    (
        "review rank corine/patches/patches.parquet",
        "review corine/patches/patches.parquet --rank",
    ),
)
"""Commands in order; where the command line has changed, the new call and the old one."""


def main() -> None:
    """Make the outputs, write their hashes, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="src", help="folder that holds the package `tesela`")
    parser.add_argument("-o", "--out", required=True, help="JSON file of hashes")
    parser.add_argument("--against", help="JSON file of another tree to compare with")
    parser.add_argument("--keep", help="folder to work in, kept; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary).resolve()
        (folder / "products").mkdir(parents=True, exist_ok=True)
        for calls in STEPS:
            run(calls, Path(given.source).resolve(), folder)
        hashes = {str(path.relative_to(folder)): mark for path, mark in outputs(folder)}
    Path(given.out).write_text(json.dumps(hashes, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps({"outputs": len(hashes)}))
    if given.against:
        before = json.loads(Path(given.against).read_text(encoding="utf-8"))
        shared = before.keys() & hashes.keys()
        report = {
            "equal": sum(before[name] == hashes[name] for name in shared),
            "different": sorted(name for name in shared if before[name] != hashes[name]),
            "only_before": sorted(before.keys() - hashes.keys()),
            "only_after": sorted(hashes.keys() - before.keys()),
        }
        print(json.dumps(report, indent=2))
        sys.exit(bool(report["different"]))


def run(calls: tuple[str, ...], source: Path, folder: Path) -> None:
    """Run the first of the calls that this tree's command line accepts."""
    code = "import sys; from tesela.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    for call in filter(None, calls):
        words = shlex.split(call)
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--quiet"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        print(f"{done.returncode} {call}", file=sys.stderr, flush=True)
        if done.returncode == 0:
            return
        last = done.stderr
    raise SystemExit(f"No call went through: {calls}\n{last}")


def outputs(folder: Path) -> Iterator[tuple[Path, str]]:
    """All outputs under a folder with their hashes."""
    cubes = sorted(path for path in folder.rglob("*.zarr") if path.is_dir())
    for cube in cubes:
        yield cube, hash_cube(cube)
    for path in sorted(folder.rglob("*")):
        reader = READERS.get(path.suffix)
        inside = any(cube in path.parents for cube in cubes)
        if reader and path.is_file() and path.name not in SKIPPED and not inside:
            yield path, reader(path)


def hash_raster(path: Path) -> str:
    """Hash of grid, nodata, palette and pixels."""
    import rasterio

    with rasterio.open(path) as raster:
        mark = hashlib.sha256(repr((raster.crs, raster.transform, raster.nodatavals, raster.dtypes)).encode())
        if raster.colorinterp[0].name == "palette":
            mark.update(repr(sorted(raster.colormap(1).items())).encode())
        for _, window in raster.block_windows(1):
            mark.update(raster.read(window=window).tobytes())
    return mark.hexdigest()


def hash_cube(path: Path) -> str:
    """Hash of all arrays of a Zarr folder."""
    import xarray

    mark = hashlib.sha256()
    with xarray.open_zarr(path, consolidated=False) as cube:
        for name in sorted(cube.variables):
            mark.update(name.encode() + cube[name].to_numpy().tobytes())
    return mark.hexdigest()


def hash_tensors(path: Path) -> str:
    """Hash of all tensors of an expert; its header holds times and versions."""
    from safetensors import safe_open

    mark = hashlib.sha256()
    with safe_open(path, framework="np") as tensors:
        for name in sorted(tensors.keys()):
            mark.update(name.encode() + tensors.get_tensor(name).tobytes())
    return mark.hexdigest()


def hash_layers(path: Path) -> str:
    """Hash of the features of all layers."""
    import pyogrio

    mark = hashlib.sha256()
    for layer, _ in pyogrio.list_layers(path):
        if layer != "layer_styles":
            frame = pyogrio.read_dataframe(path, layer=layer)
            mark.update(frame.to_csv(index=False, header=False).encode())
    return mark.hexdigest()


def hash_table(path: Path) -> str:
    """Hash of the cells of a table, column names left out: a word may change, a value may not."""
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return hashlib.sha256(frame.to_csv(index=False, header=False).encode()).hexdigest()


def hash_figures(path: Path) -> str:
    """Hash of all numbers of a JSON document in their order."""

    def figures(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if "seconds" not in key:
                    yield from figures(value)
        elif isinstance(node, list):
            for value in node:
                yield from figures(value)
        elif isinstance(node, (int, float)):
            yield repr(node)

    text = "\n".join(figures(json.loads(path.read_text(encoding="utf-8"))))
    return hashlib.sha256(text.encode()).hexdigest()


READERS: dict[str, Callable[[Path], str]] = {
    ".tif": hash_raster,
    ".gpkg": hash_layers,
    ".safetensors": hash_tensors,
    ".parquet": hash_table,
    ".csv": hash_table,
    ".json": hash_figures,
}

if __name__ == "__main__":
    main()
