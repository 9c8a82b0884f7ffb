"""
The review page: how long a reviewer waits from the key of a verdict to the next patch on the screen.

    .venv/bin/python benchmarks/review.py

A server of its own, headless Chromium, patches of 512 px of three 8-bit bands; 60 verdicts of two keys each, one every
half second, as fast as a very fast reviewer. The wait runs from the time stamp of the second key to the frame after
the one in which the three panes of the next patch were drawn. Bar: a median under 100 ms.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from playwright.sync_api import sync_playwright
from scipy.ndimage import gaussian_filter

from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import open_map, write_map
from tesela.io.scenes import open_scene
from tesela.patches.table import make_patches

WATCH = """
window.waits = [];
addEventListener("keydown", (event) => (window.pressed = event.timeStamp), true);
addEventListener("itemshown", () => {
  const from = window.pressed;
  requestAnimationFrame(() => requestAnimationFrame(() => from && waits.push(performance.now() - from)));
}, true);
"""


def make_table(folder: Path, *, size_px: int, side: int) -> Path:
    """A scene of side x side patches: smooth fields of colour with grain, and polygons of six classes."""
    rng = np.random.default_rng(0)
    pixels = size_px * side
    fields = np.stack(
        [gaussian_filter(rng.standard_normal((pixels, pixels), np.float32), 40) for _ in range(6)]
    )
    labels = (fields.argmax(axis=0) + 1).astype(np.uint8)
    colours = rng.integers(40, 200, (7, 3))
    image = colours[labels].transpose(2, 0, 1) + rng.normal(0, 18, (3, pixels, pixels))
    grid = GeoBox((pixels, pixels), Affine(0.25, 0, 700_000, 0, -0.25, 4_800_000), "EPSG:25829")
    names = ("red", "green", "blue")
    write_bands(folder / "ortho.tif", np.clip(image, 1, 255).astype(np.uint8), grid, names=names)
    legend = open_legend("lulucf-context")
    values = np.array([0, *legend.values], np.uint8)[labels]
    write_map(folder / "labels.tif", values, grid, legend=legend)
    table = make_patches(
        [open_scene(folder / "ortho.tif")], [open_map(folder / "labels.tif")], size_px=size_px
    )
    return table.write(folder / "patches.parquet")


def measure(address: str, *, verdicts: int, pause_ms: int) -> list[float]:
    """Waits in milliseconds."""
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(WATCH)
        page.goto(address)
        page.wait_for_load_state("networkidle")
        for number in range(verdicts):
            page.keyboard.press("a")
            page.keyboard.press("j")
            page.wait_for_timeout(pause_ms)
            while page.evaluate("waits.length") <= number:
                page.wait_for_timeout(20)
        waits: list[float] = page.evaluate("waits")
        browser.close()
    return waits[-verdicts:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--side", type=int, default=9, help="patches along each side of the scene")
    parser.add_argument("--pause-ms", type=int, default=500)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = make_table(Path(folder), size_px=chosen.size, side=chosen.side)
        command = "from tesela.cli import main; raise SystemExit(main())"
        server = subprocess.Popen(
            [sys.executable, "-c", command, "review", "serve", str(table), "--port", "0", "--quiet"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            waits = measure(
                server.stdout.readline().removeprefix("page  ").strip(),
                verdicts=chosen.verdicts,
                pause_ms=chosen.pause_ms,
            )
        finally:
            server.terminate()
            server.wait()
    median, high, most = np.percentile(waits, (50, 95, 100))
    print(
        json.dumps(
            {
                "patch_px": chosen.size,
                "verdicts": len(waits),
                "median_ms": round(float(median), 1),
                "p95_ms": round(float(high), 1),
                "longest_ms": round(float(most), 1),
                "bar_ms": 100,
                "met": bool(median < 100),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
