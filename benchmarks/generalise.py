"""
The minimum mapping unit beside GDAL's sieve and beside the limit of any method on regions; a map of a gigapixel.

The map is a fractal landscape of 15 classes with salt and pepper on a tenth of its pixels. Each method runs in a
process of its own, which first runs it on a corner of the map (compiling); memory is what the call added to the
process at its peak. The limit is what every method on regions must do at least: one labelling by cc3d and one
adjacency graph with border lengths. Then: what is narrow after each round of width and unit. Prints one JSON
document; ``--gigapixel`` does the large map instead, which is made on disk block by block (its side in pixels can
follow), ``--narrow`` the rounds alone.

Needs connected-components-3d (the extra `bench`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

Values = NDArray[np.uint8]

CLASSES = 15
UNIT_PX = 2500  # 25 ha at 10 m
NOISE = 0.1
ROUGHNESS = 0.55
CELLS_PX = (500, 125, 31, 8)
BLOCK_PX = 4096


class Landscape:
    """A fractal landscape of any size, whose every window can be drawn by itself."""

    def __init__(self, side_px: int, *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.side_px = side_px
        self.seed = seed
        self._lattices = [
            (cell, rng.standard_normal(((side_px + BLOCK_PX) // cell + 2,) * 2).astype(np.float32))
            for cell in CELLS_PX
        ]
        self._order = (rng.permutation(CLASSES) + 1).astype(np.uint8)
        sample = self._field(0, 0, min(side_px, 2048))
        self._cuts = np.quantile(sample, np.linspace(0, 1, CLASSES + 1)[1:-1])

    def _field(self, row: int, col: int, size: int) -> NDArray[np.float32]:
        field = np.zeros((size, size), np.float32)
        for cell, lattice in self._lattices:
            y, x = (row + np.arange(size)) / cell, (col + np.arange(size)) / cell
            i, j = y.astype(int), x.astype(int)
            v, u = (y - i).astype(np.float32)[:, None], (x - j).astype(np.float32)[None, :]
            rows = lattice[i][:, j] * (1 - u) + lattice[i][:, j + 1] * u
            below = lattice[i + 1][:, j] * (1 - u) + lattice[i + 1][:, j + 1] * u
            field += (rows * (1 - v) + below * v) * np.float32((cell / 500) ** ROUGHNESS)
        return field

    def truth(self, row: int, col: int, size: int) -> Values:
        """Classes of a square window."""
        return self._order[np.searchsorted(self._cuts, self._field(row, col, size))]

    def noisy(self, row: int, col: int, size: int) -> Values:
        """The same with salt and pepper."""
        rng = np.random.default_rng([self.seed, row, col])
        values = self.truth(row, col, size)
        hit = rng.random((size, size), dtype=np.float32) < NOISE
        values[hit] = rng.integers(1, CLASSES + 1, int(hit.sum()), dtype=np.uint8)
        return values


@njit(cache=True)
def count_borders(labels, count):
    """Entries that `list_borders` will need for each label."""
    rows, cols = labels.shape
    latest = np.full(count + 1, -1, np.int32)
    degree = np.zeros(count + 1, np.int64)
    for i in range(rows):
        for j in range(cols):
            a = labels[i, j]
            for side in range(2):
                b = a
                if side == 0 and j > 0:
                    b = labels[i, j - 1]
                if side == 1 and i > 0:
                    b = labels[i - 1, j]
                if a == b:
                    continue
                if latest[a] != b:
                    latest[a] = b
                    degree[a] += 1
                if latest[b] != a:
                    latest[b] = a
                    degree[b] += 1
    return degree


@njit(cache=True)
def list_borders(labels, start):
    """Neighbours and lengths of borders of all labels; sides that follow each other are one border."""
    rows, cols = labels.shape
    latest = np.full(start.size - 1, -1, np.int32)
    place = start[:-1].copy()
    neighbour = np.empty(start[-1], np.int32)
    border = np.empty(start[-1], np.int32)
    for i in range(rows):
        for j in range(cols):
            a = labels[i, j]
            for side in range(2):
                b = a
                if side == 0 and j > 0:
                    b = labels[i, j - 1]
                if side == 1 and i > 0:
                    b = labels[i - 1, j]
                if a == b:
                    continue
                if latest[a] == b:
                    border[place[a] - 1] += 1
                else:
                    neighbour[place[a]], border[place[a]], latest[a] = b, 1, b
                    place[a] += 1
                if latest[b] == a:
                    border[place[b] - 1] += 1
                else:
                    neighbour[place[b]], border[place[b]], latest[b] = a, 1, a
                    place[b] += 1
    return neighbour, border


def ours(values: Values) -> Values:
    from tesela.generalise.unit import drop_small_areas

    return drop_small_areas(values, unit_px=UNIT_PX, edges="merge")


def ours_on_one_thread(values: Values) -> Values:
    from tesela.generalise.strips import Plan
    from tesela.generalise.unit import drop_small_areas

    return drop_small_areas(values, unit_px=UNIT_PX, edges="merge", plan=Plan(threads=1))


def limit(values: Values) -> Values:
    """Label, and list for every region its neighbours and the lengths of the borders with them."""
    import cc3d

    labels, count = cc3d.connected_components(values, connectivity=4, return_N=True)
    labels = labels.view(np.int32) if labels.dtype.itemsize == 4 else labels.astype(np.int32)
    degree = count_borders(labels, count)
    start = np.zeros(len(degree) + 1, np.int64)
    np.cumsum(degree, out=start[1:])
    list_borders(labels, start)
    return values


def labelling(values: Values) -> Values:
    import cc3d

    cc3d.connected_components(values, connectivity=4)
    return values


def sieve_once(values: Values) -> Values:
    from rasterio.features import sieve

    return sieve(values, size=UNIT_PX, connectivity=4)


def sieve_until_it_holds(values: Values) -> Values:
    for _ in range(20):
        after = sieve_once(values)
        if (after == values).all():
            break
        values = after
    return values


METHODS: dict[str, Callable[[Values], Values]] = {
    "tesela": ours,
    "tesela, one thread": ours_on_one_thread,
    "limit: cc3d labelling + graph": limit,
    "cc3d labelling alone": labelling,
    "GDAL sieve, once": sieve_once,
    "GDAL sieve, until it holds": sieve_until_it_holds,
}


def judge(result: Values, truth: Values) -> dict[str, float | int]:
    import cc3d

    labels, count = cc3d.connected_components(result, connectivity=4, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    before = np.bincount(truth.ravel(), minlength=CLASSES + 1)[1:] / truth.size
    after = np.bincount(result.ravel(), minlength=CLASSES + 1)[1:] / truth.size
    rarest = int(before.argmin())
    return {
        "areas": int(count),
        "areas_under_unit": int((sizes < UNIT_PX).sum()),
        "own_class_kept_percent": round(100 * float((result == truth).mean()), 3),
        "class_shares_moved_percent": round(50 * float(np.abs(after - before).sum()), 3),
        "rarest_class_kept_ratio": round(float(after[rarest] / before[rarest]), 3),
    }


def width_rounds(side_px: int, *, width_px: float, most: int = 12) -> list[dict[str, float | int]]:
    """What is still narrow after each round of width and unit, and how long the round took."""
    from tesela.generalise.opening import Disc
    from tesela.generalise.strips import Plan
    from tesela.generalise.unit import NO_CLASSES, NO_PRIORITY, drop_small_areas
    from tesela.generalise.width import WidthRule, drop_narrow_parts, survey_narrow
    from tesela.io.scratch import ScratchRaster

    land = Landscape(side_px)
    truth, values = (draw(0, 0, side_px) for draw in (land.truth, land.noisy))
    rule = WidthRule(Disc(width_px), NO_PRIORITY, NO_CLASSES, "merge")
    drop_narrow_parts(values[:300, :300].copy(), width_px=width_px, edges="merge")
    values = drop_small_areas(values, unit_px=rule.disc.area_px, edges="merge")
    rounds: list[dict[str, float | int]] = []
    while len(rounds) < most:
        before, cpu = values, time.process_time()
        values = drop_narrow_parts(values, width_px=width_px, edges="merge")
        values = drop_small_areas(values, unit_px=UNIT_PX, edges="merge")
        cpu = time.process_time() - cpu
        narrow = survey_narrow(ScratchRaster.of(values), rule=rule, plan=Plan()).sum()
        rounds.append(
            {
                "round": len(rounds) + 1,
                "narrow_percent": round(100 * float(narrow) / values.size, 4),
                "pixels_changed": int((values != before).sum()),
                "own_class_kept_percent": round(100 * float((values == truth).mean()), 2),
                "cpu_seconds_per_100_mpx": round(cpu * 1e8 / values.size, 1),
            }
        )
        if (values == before).all():
            break
    return rounds


class PeakMemory:
    """Largest resident size of the process while a block runs, sampled, in MiB above where it began."""

    def __enter__(self) -> PeakMemory:
        self._start = self._peak = resident_mib()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, resident_mib())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def extra_mib(self) -> int:
        """Peak above the start."""
        return round(self._peak - self._start)


def resident_mib() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def run_method(name: str, folder: Path) -> dict[str, object]:
    truth, noisy = np.load(folder / "truth.npy"), np.load(folder / "noisy.npy")
    method = METHODS[name]
    method(np.ascontiguousarray(noisy[:500, :500]))
    cpu, wall = time.process_time(), time.perf_counter()
    with PeakMemory() as memory:
        result = method(noisy)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found: dict[str, object] = {
        "method": name,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "extra_mib": memory.extra_mib,
    }
    return found if result is noisy else found | judge(result, truth)


def compare(side_px: int, methods: list[str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        land = Landscape(side_px)
        truth, noisy = np.empty((side_px, side_px), np.uint8), np.empty((side_px, side_px), np.uint8)
        for row in range(0, side_px, BLOCK_PX):
            for col in range(0, side_px, BLOCK_PX):
                place = (slice(row, row + BLOCK_PX), slice(col, col + BLOCK_PX))
                rows, cols = truth[place].shape
                truth[place] = land.truth(row, col, BLOCK_PX)[:rows, :cols]
                noisy[place] = land.noisy(row, col, BLOCK_PX)[:rows, :cols]
        np.save(folder / "truth.npy", truth)
        np.save(folder / "noisy.npy", noisy)
        before = judge(noisy, truth)
        runs = []
        for method in methods:
            command = [sys.executable, __file__, "--method", method, "--folder", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    by_name = {str(run["method"]): run for run in runs}
    summary: dict[str, object] = {
        "side_px": side_px,
        "classes": CLASSES,
        "unit_px": UNIT_PX,
        "noisy_map": before,
        "runs": runs,
    }
    names = ("tesela", "limit: cc3d labelling + graph")
    if all(name in by_name for name in names):
        for unit in ("seconds", "cpu_seconds"):
            mine, least = (float(str(by_name[name][unit])) for name in names)
            summary[f"times_the_limit_in_{unit}"] = round(mine / least, 2)
    return summary


def gigapixel(side_px: int, *, width_m: float, rounds: int) -> dict[str, object]:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from tesela.generalise.generalise import generalise_map
    from tesela.generalise.unit import drop_small_areas
    from tesela.io.legends import open_legend
    from tesela.io.maps import ClassMap, MapWriter

    drop_small_areas(np.tile(np.array([[1, 2], [2, 1]], np.uint8), (50, 50)), unit_px=10)
    legend = open_legend("corine-2")
    values = np.array([0, *legend.values], np.uint8)
    grid = GeoBox((side_px, side_px), Affine(10, 0, 2_500_000, 0, -10, 4_500_000), "EPSG:3035")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        land = Landscape(side_px)
        start = time.perf_counter()
        with MapWriter(folder / "map.tif", grid, legend) as writer:
            for row in range(0, side_px, BLOCK_PX):
                for col in range(0, side_px, BLOCK_PX):
                    rows, cols = min(BLOCK_PX, side_px - row), min(BLOCK_PX, side_px - col)
                    writer.write(row, col, values[land.noisy(row, col, BLOCK_PX)[:rows, :cols]])
        made = time.perf_counter() - start
        del land
        ticks: list[float] = []
        start, cpu = time.perf_counter(), time.process_time()
        with PeakMemory() as memory:
            out, ledger = generalise_map(
                ClassMap(str(folder / "map.tif"), grid, legend),
                folder / "out.tif",
                mmu_m2=UNIT_PX * 100,
                min_width_m=width_m,
                edges="merge",
                rounds=rounds,
                progress=lambda done, total: ticks.append(round(time.perf_counter() - start, 1)),
            )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        size_mib = Path(out.path).stat().st_size / 2**20
    return {
        "side_px": side_px,
        "gigapixels": round(side_px * side_px / 2**30, 3),
        "min_width_m": width_m,
        "rounds": ledger.rounds,
        "seconds_to_make_the_map": round(made, 1),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "passes_done_after_seconds": ticks,
        "extra_mib": memory.extra_mib,
        "peak_mib_of_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "areas_moved_by_unit": sum(move.areas for move in ledger.moves if move.reason == "unit"),
        "areas_under_unit": sum(item.areas for item in ledger.below),
        "narrow_percent": round(100 * sum(ledger.narrow.values()) / side_px**2, 4),
        "pixels_unexplained": sum(abs(count) for count in ledger.balance().values()),
        "written_mib": round(size_mib),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=10_000, metavar="PX", help="side of the map compared on")
    parser.add_argument("--only", nargs="*", choices=sorted(METHODS), help="methods to run (default: all)")
    parser.add_argument(
        "--gigapixel", type=int, nargs="?", const=32_768, metavar="PX", help="the large map alone"
    )
    parser.add_argument(
        "--width", type=float, default=0.0, metavar="M", help="minimum width on the large map"
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds on the large map, with --width")
    parser.add_argument("--narrow", action="store_true", help="rounds of width and unit on 3,000 px alone")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.method:
        found = run_method(given.method, given.folder)
    elif given.narrow:
        found = {"side_px": 3000, "width_px": 10, "rounds": width_rounds(3000, width_px=10)}
    elif given.gigapixel:
        found = gigapixel(given.gigapixel, width_m=given.width, rounds=given.rounds)
    else:
        found = compare(given.side, given.only or list(METHODS))
        found["width_and_unit"] = width_rounds(3000, width_px=10)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
