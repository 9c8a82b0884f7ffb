"""
`tesela assess` of a gigapixel beside one numpy bincount pass over the same files, read the same way.

    .venv/bin/python benchmarks/assess.py [--side-px 32768] [--work DIR]

Map and reference are COGs of CORINE level 2 as Tesela writes them, a landscape of round areas and the same with moved
borders and noise. Every run is a process of its own, with the kernels compiled before; memory is the peak of that
process and what the call adds to it. `bincount` reads 2048 px windows of both files by rasterio and counts
``np.bincount(16 * reference + map)``; `counts` is the whole assessment in memory (tiles, levels and distance from
borders); `plain` leaves the distances out; `command` is `tesela assess` with report, JSON and pictures. Prints one JSON
document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mapping.probe import machine, measure, run_alone

WINDOW_PX = 2048


def write_sides(folder: Path, side_px: int) -> None:
    """Write ``map.tif`` and ``reference.tif``."""
    import numpy as np
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from scipy.ndimage import gaussian_filter

    from tesela.io.legends import open_legend
    from tesela.io.maps import MapWriter

    legend = open_legend("corine-2")
    values = np.array(legend.values, np.uint8)
    chance = np.random.default_rng(0)
    patterns = []
    for _ in range(3):
        field = gaussian_filter(chance.random((WINDOW_PX, WINDOW_PX), np.float32), 20, mode="wrap")
        ranks = np.searchsorted(np.quantile(field[::16, ::16], np.linspace(0, 1, 16)[1:-1]), field)
        reference = values[ranks]
        map_ = np.roll(reference, 4, axis=1)
        noise = chance.random(map_.shape) < 0.05
        map_[noise] = chance.choice(values, int(noise.sum()))
        patterns.append((reference, map_))
    grid = GeoBox((side_px, side_px), Affine(10.0, 0.0, 3e6, 0.0, -10.0, 3e6), "EPSG:3035")
    with (
        MapWriter(folder / "reference.tif", grid, legend) as reference_file,
        MapWriter(folder / "map.tif", grid, legend) as map_file,
    ):
        for row in range(0, side_px, WINDOW_PX):
            for col in range(0, side_px, WINDOW_PX):
                rows, cols = min(WINDOW_PX, side_px - row), min(WINDOW_PX, side_px - col)
                reference, map_ = patterns[(row + 2 * col) // WINDOW_PX % 3]
                reference_file.write(row, col, reference[:rows, :cols])
                map_file.write(row, col, map_[:rows, :cols])


def by_bincount(folder: Path) -> float:
    """Accuracy by numpy alone."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    counts = np.zeros(256 * 256, np.int64)
    with rasterio.open(folder / "reference.tif") as truth, rasterio.open(folder / "map.tif") as guess:
        for row in range(0, truth.height, WINDOW_PX):
            for col in range(0, truth.width, WINDOW_PX):
                rows, cols = min(WINDOW_PX, truth.height - row), min(WINDOW_PX, truth.width - col)
                window = Window(col, row, cols, rows)
                pairs = truth.read(1, window=window) * np.uint16(256) + guess.read(1, window=window)
                counts += np.bincount(pairs.ravel(), minlength=256 * 256)
    matrix = counts.reshape(256, 256)[1:, 1:]
    return float(np.trace(matrix) / matrix.sum())


def by_tesela(folder: Path, *, borders: bool) -> float:
    """Accuracy by `tesela.assess`."""
    from tesela.assessment.assessment import assess
    from tesela.assessment.borders import EDGES_PX
    from tesela.io.maps import open_map

    sides = open_map(folder / "map.tif"), open_map(folder / "reference.tif")
    return assess(*sides, edges_px=EDGES_PX if borders else ()).scores.accuracy


def by_command(folder: Path) -> None:
    """The whole command, in this process."""
    from tesela.assessment.files import assess_files

    assess_files(folder / "map.tif", folder / "reference.tif", folder / "report")


RUNS = {
    "bincount": by_bincount,
    "plain": lambda folder: by_tesela(folder, borders=False),
    "counts": lambda folder: by_tesela(folder, borders=True),
    "command": by_command,
}


def one_run(name: str, folder: Path, small: Path) -> dict[str, object]:
    """Figures of one way, after it ran on small files."""
    RUNS[name](small)
    made: list[object] = []
    figures = measure(lambda: made.append(RUNS[name](folder)))
    figures.pop("engine")
    return {**figures, "accuracy": made[0]}


def shell_run(folder: Path) -> dict[str, object]:
    """`tesela assess` as a person starts it: start, imports and all."""
    command = str(Path(sys.executable).with_name("tesela"))
    words = [command, "assess", str(folder / "map.tif"), str(folder / "reference.tif")]
    words += ["-o", str(folder / "report"), "--quiet"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": round(time.perf_counter() - started, 3),
        "cpu_s": round(cpu, 3),
        "page_mb": round((folder / "report" / "report.html").stat().st_size / 1e6, 2),
        "printed": done.stdout.splitlines()[:3],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=32768)
    parser.add_argument("--work", help="folder for the files; default: a temporary one")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FOLDER", "SMALL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder, small = options.one
        print(json.dumps(one_run(name, Path(folder), Path(small))))
        return
    report: dict[str, object] = {"side_px": options.side_px, **machine()}
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder, small = Path(work) / "large", Path(work) / "small"
        for place, side_px in ((small, 2 * WINDOW_PX), (folder, options.side_px)):
            place.mkdir()
            write_sides(place, side_px)
        names = ("map.tif", "reference.tif")
        report["files_mb"] = {name: round((folder / name).stat().st_size / 1e6, 1) for name in names}
        for name in RUNS:
            report[name] = run_alone(__file__, ["--one", name, str(folder), str(small)])
        report["shell"] = shell_run(folder)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
