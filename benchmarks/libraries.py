"""
What we write ourselves beside the well-kept library: time, and where the results differ.

    .venv/bin/python benchmarks/libraries.py [--part cog] [--size 8192] > benchmarks/libraries.json

The parts are `cog` (our writer and GDAL's COG driver), `labelling` (our kernels, cc3d and scipy), `agreement` (our
alpha with its interval and the package krippendorff), `http` (our requests and urllib3's Retry, against a server with
four faults), `tiles` (`tesela view` and rio-tiler), `geometry` (our decoder and GEOS) and `toml` (lines that write it).
Peers are in the extra `bench`. Seconds are of the processor, so a busy machine counts little; memory is
measured by benchmarks/generalise.py and benchmarks/memory.py. Prints one JSON document; docs/libraries.md quotes it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from mapping.probe import machine
from tesela.io.legends import open_legend

LEGEND = open_legend("corine-2")
Values = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=sorted(PARTS), help="This part only.")
    parser.add_argument("--size", type=int, default=8192, help="Side of the map in pixels.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = {
            name: part(Path(folder), options.size)
            for name, part in PARTS.items()
            if options.part in (None, name)
        }
    print(json.dumps({"size_px": options.size, **done, "machine": machine()}, indent=2))


def classes_of(size: int) -> Values:
    """Patches of classes on three scales."""
    side = 2048
    numbers, field = np.random.default_rng(0), np.zeros((side, side), np.float32)
    for cell in (8, 32, 128):
        coarse = numbers.standard_normal((side // cell, side // cell)).astype(np.float32)
        field += np.sqrt(cell) * np.repeat(np.repeat(coarse, cell, 0), cell, 1)
    edges = np.quantile(field, np.linspace(0, 1, len(LEGEND) + 1)[1:-1])
    piece = np.array(LEGEND.values, np.uint8)[np.digitize(field, edges)]
    return np.tile(piece, (-(-size // side), -(-size // side)))[:size, :size]


def grid_of(size: int) -> GeoBox:
    return GeoBox((size, size), Affine(10.0, 0, 3e6, 0, -10.0, 2e6), "EPSG:3035")


def alone(work: Callable[..., object], *given: object) -> dict[str, object]:
    """Processor seconds of a call, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        result: dict[str, object] = pool.apply(_measured, (work, given))
    return result


def _measured(work: Callable[..., object], given: tuple[object, ...]) -> dict[str, object]:
    warm = getattr(work, "warm", None)
    if warm is not None:
        warm()
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work(*given)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(seconds, 2), **(result if isinstance(result, dict) else {})}


# -- COG ----------------------------------------------------------------------------------------------


def cog(folder: Path, size: int) -> dict[str, object]:
    return {
        name: alone(write, folder / f"{name}.tif", size) | described(folder / f"{name}.tif")
        for name, write in (("tesela", write_by_tesela), ("gdal_cog_driver", write_by_gdal))
    }


def write_by_tesela(path: Path, size: int) -> None:
    from tesela.io.maps import MapWriter

    piece, grid = classes_of(2048), grid_of(size)
    with MapWriter(path, grid, LEGEND) as writer:
        for row in range(0, size, 512):
            writer.write(row, 0, np.tile(piece[row % 2048 :][:512], (1, size // 2048)))


def write_by_gdal(path: Path, size: int) -> dict[str, object]:
    from rasterio.shutil import copy

    piece, grid = classes_of(2048), grid_of(size)
    strips = path.with_suffix(".strips.tif")
    profile = {"driver": "GTiff", "width": size, "height": size, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(
        strips, "w", crs="EPSG:3035", transform=grid.affine, tiled=True, compress="lzw", **profile
    ) as data:
        for row in range(0, size, 512):
            block = np.tile(piece[row % 2048 :][:512], (1, size // 2048))
            data.write(block, 1, window=((row, row + 512), (0, size)))
    copy(strips, path, driver="COG", compress="lzw", blocksize=512, overview_resampling="mode", num_threads=4)
    written = strips.stat().st_size
    strips.unlink()
    return {"also_written_mib": round(written / 2**20, 1)}


def described(path: Path) -> dict[str, object]:
    """Size of the file, and how far the shares of classes in the overview of factor 16 are off."""
    with rasterio.open(path) as data:
        whole = data.read(1)
        small = data.read(1, out_shape=(data.height // 16, data.width // 16))
    shares = [np.bincount(item.ravel(), minlength=256) / item.size for item in (whole, small)]
    return {
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "overview_share_error": round(float(np.abs(shares[0] - shares[1]).max()), 4),
    }


# -- labelling ----------------------------------------------------------------------------------------


def labelling(folder: Path, size: int) -> dict[str, object]:
    return {
        "tesela_kernel": alone(label_ours, size),
        "cc3d": alone(label_cc3d, size),
        "scipy_label_by_class": alone(label_scipy, size),
        "tesela_strips_of_512_rows": alone(label_strips, size),
    }


def label_ours(size: int) -> dict[str, object]:
    from tesela.generalise.labelling import label_regions

    _, count = label_regions(classes_of(size))
    return {"areas": count}


def label_cc3d(size: int) -> dict[str, object]:
    import cc3d

    _, count = cc3d.connected_components(classes_of(size), connectivity=4, return_N=True)
    return {"areas": int(count)}


def label_scipy(size: int) -> dict[str, object]:
    from scipy.ndimage import label

    values = classes_of(size)
    return {"areas": sum(int(label(values == value)[1]) for value in LEGEND.values)}


def label_strips(size: int) -> dict[str, object]:
    from tesela.generalise.regions import build_graph
    from tesela.generalise.strips import Plan

    piece = classes_of(2048)

    def read(first: int, stop: int) -> Values:
        rows = piece[np.arange(first, stop) % 2048]
        return np.tile(rows, (1, size // 2048))

    graph = build_graph(read, (size, size), unit_px=0, plan=Plan(threads=1))
    return {"areas": int((graph.parent == np.arange(len(graph.parent))).sum())}


def _warm_label() -> None:
    from tesela.generalise.labelling import label_regions

    label_regions(classes_of(2048)[:64, :64])


def _warm_cog() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_by_tesela(Path(folder) / "a.tif", 2048)
        write_by_gdal(Path(folder) / "b.tif", 2048)


write_by_tesela.warm = _warm_cog  # type: ignore[attr-defined]
write_by_gdal.warm = _warm_cog  # type: ignore[attr-defined]
label_ours.warm = _warm_label  # type: ignore[attr-defined]
label_strips.warm = lambda: label_strips(2048)  # type: ignore[attr-defined]


# -- agreement ----------------------------------------------------------------------------------------


def agreement(folder: Path, size: int) -> dict[str, object]:
    import krippendorff

    from tesela.sampling.agreement import krippendorff_alpha, measure_agreement

    draw = np.random.default_rng(0)
    truth = draw.integers(0, 5, 2000)
    ratings = np.clip(truth[:, None] + draw.integers(-1, 2, (2000, 3)), 0, 4)
    ratings[draw.random((2000, 3)) < 0.2] = -1
    table = np.where(ratings < 0, np.nan, ratings).T
    begun = time.process_time()
    ours = measure_agreement(ratings, categories=5)
    ours_s = time.process_time() - begun
    begun = time.process_time()
    repeats = 20
    for _ in range(repeats):
        picked = table[:, draw.integers(0, 2000, 2000)]
        krippendorff.alpha(reliability_data=picked, level_of_measurement="ordinal")
    theirs_s = (time.process_time() - begun) / repeats * 2000
    plain = {
        level: abs(
            krippendorff_alpha(ratings, categories=5, level=level)
            - krippendorff.alpha(reliability_data=table, level_of_measurement=level)
        )
        for level in ("nominal", "ordinal", "interval")
    }
    return {
        "largest_difference": float(max(plain.values())),
        "tesela_alpha_kappa_percent_with_intervals_s": round(ours_s, 2),
        "krippendorff_2000_resamples_s": round(theirs_s, 2),
        "interval": [round(ours.alpha.low, 4), round(ours.alpha.high, 4)],
    }


# -- HTTP ---------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 256
FAULTS = ("status 503", "cut body", "stalled body", "span ignored once")


def http(folder: Path, size: int) -> dict[str, object]:
    """Whether a span of a file arrives whole from a server that fails the first time, by fault."""
    return {
        name: {fault: _arrives(fetch, fault) for fault in FAULTS}
        for name, fetch in (("tesela", _by_tesela), ("requests_with_urllib3_retry", _by_urllib3))
    }


class _Faulty(BaseHTTPRequestHandler):
    fault = ""
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        first = type(self).asked == 1
        begin, end = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        part = BODY[begin : end + 1]
        if first and self.fault == "status 503":
            self.send_error(503)
            return
        if first and self.fault == "span ignored once":
            part = BODY[: len(part)]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-{len(part) - 1}/{len(BODY)}")
        else:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(BODY)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if first and self.fault == "cut body":
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        elif first and self.fault == "stalled body":
            for at in range(0, len(part), 64):  # a byte now and then: no read times out, and nothing arrives
                try:
                    self.wfile.write(part[at : at + 64])
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.3)
        else:
            self.wfile.write(part)

    def log_message(self, *given: object) -> None:
        pass


def _arrives(fetch: Callable[[str], bytes], fault: str) -> str:
    handler = type("Faulty", (_Faulty,), {"fault": fault, "asked": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        begun = time.perf_counter()
        try:
            whole = fetch(f"http://127.0.0.1:{server.server_port}/a.tif") == BODY[1000:9000]
            result = "whole" if whole else "WRONG BYTES"
        except Exception as error:  # noqa: BLE001 - what comes of a fault is the result
            result = type(error).__name__
        seconds = time.perf_counter() - begun
        server.shutdown()
    return f"{result} after {seconds:.1f} s"


def _by_tesela(url: str) -> bytes:
    from tesela.io.http import RetryPolicy, Web

    return Web(patience=RetryPolicy(tries=3, timeout_s=1.0, first_wait_s=0.1)).get(url, span=(1000, 9000))


def _by_urllib3(url: str) -> bytes:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    policy = Retry(total=3, status_forcelist=(503,), backoff_factor=0.1)
    session.mount("http://", HTTPAdapter(max_retries=policy))
    answer = session.get(url, headers={"Range": "bytes=1000-8999"}, timeout=1.0)
    answer.raise_for_status()
    return answer.content


# -- the rest -----------------------------------------------------------------------------------------


def tiles(folder: Path, size: int) -> dict[str, object]:
    """See benchmarks/view.py, which measures a larger map."""
    import view

    path = folder / "tiles.tif"
    view.write_map_of(path, size)
    return {name: item for name, item in view.measure(path, 60).items() if name != "machine"}


def geometry(folder: Path, size: int) -> dict[str, object]:
    """Kinds of well-known binary that agencies deliver, read or refused."""
    import shapely

    from tesela.core.wkb import decode_polygons

    square = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0), (0.0, 0.0)]
    ring = struct.pack("<I", 5) + b"".join(struct.pack("<dd", *point) for point in square)
    arc = [(0.0, 0.0), (2.0, 2.0), (4.0, 0.0), (2.0, -2.0), (0.0, 0.0)]
    arcs = b"\x01" + struct.pack("<II", 8, 5) + b"".join(struct.pack("<dd", *point) for point in arc)
    samples = {
        "polygon": b"\x01" + struct.pack("<II", 3, 1) + ring,
        "polygon with an open ring": b"\x01" + struct.pack("<II", 3, 1) + struct.pack("<I", 4) + ring[4:-16],
        "curve polygon": b"\x01" + struct.pack("<II", 10, 1) + arcs,
        "triangle": b"\x01"
        + struct.pack("<III", 17, 1, 4)
        + b"".join(struct.pack("<dd", *point) for point in (*square[:3], square[0])),
    }
    result: dict[str, object] = {}
    for name, data in samples.items():
        try:
            theirs = f"area {shapely.from_wkb(data).area:g}"
        except Exception as error:  # noqa: BLE001 - what comes of it is the result
            theirs = type(error).__name__
        result[name] = {"tesela": f"area {decode_polygons(data).shape.area:.4g}", "geos": theirs}
    return result


def toml(folder: Path, size: int) -> dict[str, object]:
    """Lines of our code that write TOML; reading is Python's tomllib."""
    source = Path(__file__).parents[1] / "src" / "tesela" / "publishing" / "cascade.py"
    text = source.read_text(encoding="utf-8")
    body = text[text.index("def cascade_text") :].split("\n\n\n")[0]
    return {"lines_of_cascade_text": len([line for line in body.splitlines() if line.strip()])}


PARTS: dict[str, Callable[[Path, int], dict[str, object]]] = {
    "cog": cog,
    "labelling": labelling,
    "agreement": agreement,
    "http": http,
    "tiles": tiles,
    "geometry": geometry,
    "toml": toml,
}

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
