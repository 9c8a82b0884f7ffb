"""Shared by the tests of the review: a patch table, verdicts, a server process, and its page in a browser."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.legend import LandClass, Legend
from tesela.io.images import write_bands
from tesela.io.maps import open_map, write_map
from tesela.io.scenes import open_scene
from tesela.patches.table import make_patches
from tesela.web.log import VerdictLog, log_path
from tesela.web.verdicts import Verdict

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water", "#0000ff"),
        LandClass(2, "f", "<b>Forest</b>", "#008800"),
        LandClass(7, "c", "Crops", "#ffff00"),
    ),
)
HOME = "http://127.0.0.1:8080"
FROM_HOME = {"origin": HOME}


def make_table(folder: Path) -> Path:
    """Scene of 160 x 160 px, three classes in stripes, 25 patches of 32 px."""
    grid = GeoBox((160, 160), Affine(0.5, 0, 500_000, 0, -0.5, 4_100_000), "EPSG:25830")
    labels = np.array([1, 2, 7], np.uint8)[(np.arange(160) // 20 + np.arange(160)[:, None] // 48) % 3]
    pixels = np.random.default_rng(0).integers(0, 60, (3, 160, 160), dtype=np.uint8)
    pixels[0] += labels * 20
    write_bands(folder / "scene.tif", pixels, grid, names=("red", "green", "blue"), date="2025-07-01")
    write_map(folder / "labels.tif", labels, grid, legend=LEGEND)
    table = make_patches([open_scene(folder / "scene.tif")], [open_map(folder / "labels.tif")], size_px=32)
    return table.write(folder / "patches.parquet")


def verdict(patch: str, reviewer: str = "ana", *, key: str = "", **fields: Any) -> Verdict:
    quality = None if fields.get("action") == "skip" else fields.pop("quality", "high")
    return Verdict(
        key=key or f"{reviewer}-{patch}", reviewer=reviewer, item_id=patch, quality=quality, **fields
    )


def standing(reviewed: Path, reviewer: str) -> dict[str, Verdict]:
    with VerdictLog(log_path(reviewed)) as log:
        return {item.item_id: item for item in log.standing(reviewer)}


class Served:
    """`tesela review serve` as a separate process."""

    def __init__(self, path: Path, *options: str, port: int = 0) -> None:
        command = [
            sys.executable,
            "-c",
            "from tesela.cli import main; raise SystemExit(main())",
            "review",
            "serve",
        ]
        self.process = subprocess.Popen(
            [*command, str(path), "--port", str(port), "--reviewer", "ana", "--overlap", "0.2", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().removeprefix("page  ").strip()
        self.port = int(self.address.rstrip("/").rsplit(":", 1)[1])

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Page:
    """The page of a reviewer, and its errors."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.set_default_timeout(60_000)
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        home = address.partition("?")[0]
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith((home, "data:", "blob:")) else self.trouble.append(request.url)
            ),
        )
        self.running: set[Any] = set()
        self.page.on("request", lambda request: self.running.add(request))
        for end in ("requestfinished", "requestfailed"):
            self.page.on(end, lambda request: self.running.discard(request))
        self.page.add_init_script(
            "window.seen = []; addEventListener('itemshown', (event) => seen.push(event.detail), true);"
        )
        self.page.goto(address)
        self.wait_for("seen.length > 0 || !document.getElementById('done').hidden")

    def wait_for(self, condition: str) -> None:
        """Poll the condition; playwright's own waiting evaluates text in the page, which its policy forbids."""
        end = time.monotonic() + 60
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"never: {condition}"
            self.page.wait_for_timeout(10)

    @property
    def seen(self) -> list[str]:
        ids: list[str] = self.page.evaluate("seen")
        return ids

    def press(self, *keys: str) -> None:
        """
        Press keys; wait until the last one shows another item or the end.

        While verdicts are being sent the page may have no item to show: that is not the end yet.
        """
        count = len(self.seen)
        for key in keys:
            self.page.keyboard.press(key)
        ended = "!document.getElementById('done').hidden && document.getElementById('saved').textContent === 'saved'"
        self.wait_for(f"seen.length > {count} || ({ended})")

    def wait_saved(self) -> None:
        self.wait_for("document.getElementById('saved').textContent === 'saved'")

    def wait_idle(self) -> None:
        """Wait until the verdicts are saved and the next items are loaded."""
        self.wait_saved()
        end = time.monotonic() + 60
        while self.running:
            assert time.monotonic() < end, f"never ended: {[item.url for item in self.running]}"
            self.page.wait_for_timeout(10)

    def text(self, rule: str) -> str:
        text: str = self.page.locator(rule).inner_text()
        return text
