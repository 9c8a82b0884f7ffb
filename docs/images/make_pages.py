"""
Take docs/images/review.jpg, review-point.jpg and view.png: the local pages on a virtual region, in a headless Chromium.

    .venv/bin/python docs/images/make_pages.py
"""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tesela.simulate.region.region import write_region

IMAGES = Path(__file__).parent
TESELA = [sys.executable, "-c", "import sys; from tesela.cli import main; sys.exit(main())"]


def tesela(*words: str) -> None:
    """Run a command."""
    subprocess.run([*TESELA, *words, "--quiet"], check=True)


@contextmanager
def served(page: Page, *words: str) -> Iterator[None]:
    """A page of Tesela in the browser, and its server, which ends with the block."""
    with subprocess.Popen([*TESELA, *words, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        page.goto(server.stdout.readline().removeprefix("page  ").strip())
        try:
            yield
        finally:
            server.send_signal(signal.SIGINT)


def wait_for(page: Page, condition: str) -> None:
    """Poll, because the page's policy forbids what playwright's own waiting does."""
    for _ in range(600):
        if page.evaluate(condition):
            page.wait_for_timeout(300)
            return
        time.sleep(0.1)
    raise SystemExit(f"never: {condition}")


def take(page: Page, name: str) -> None:
    """Write what the page shows as a picture."""
    if name.endswith(".jpg"):
        page.screenshot(path=IMAGES / name, type="jpeg", quality=88)
    else:
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.convert("RGB").quantize(256).save(IMAGES / name, optimize=True)


def press(page: Page, *keys: str) -> None:
    """Press keys of the review page, each when the verdict before it is saved."""
    for key in keys:
        page.keyboard.press(key)
        wait_for(page, "!document.getElementById('saved').textContent.startsWith('saving')")


with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
    os.chdir(folder)
    write_region(".", size_px=1280, seasons=["july"])
    tesela("label", "reference.gpkg", "--like", "scene_july.tif", "--legend", "corine-2", "-o", "labels.tif")
    tesela("patches", "scene_july.tif", "--labels", "labels.tif", "--size", "128", "-o", "patches.parquet")
    tesela("legend", "convert", "truth.tif", "--to", "corine-2", "-o", "truth2.tif")
    tesela("generalise", "truth2.tif", "-o", "map2024.tif", "--mmu", "3 ha", "--min-width", "30 m")
    tesela(
        "sample",
        "draw",
        "truth.tif",
        "--points",
        "200",
        "--minimum",
        "0",
        "--hide-strata",
        "-o",
        "sample.gpkg",
    )

    chromium = which("chromium") or which("google-chrome")
    browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    with served(page, "review", "serve", "patches.parquet", "--reviewer", "ana", "--seed", "3"):
        wait_for(page, "document.querySelector('[data-key=a]') !== null")
        for label, boundary in ("aj", "sk", "aj", "dl", "ak", "aj", "aj"):
            press(page, label, boundary)
        press(page, "s", "c", "8")
        take(page, "review.jpg")
    with served(page, "review", "serve", "sample.gpkg", "--image", "scene_july.tif", "--reviewer", "ana"):
        wait_for(page, "document.querySelector('#classes, .classes') !== null")
        for code in ("211", "323", "311"):
            press(page, *code)
        press(page, "v")
        take(page, "review-point.jpg")
    page.set_viewport_size({"width": 1280, "height": 760})
    words = ["--image", "scene_july.tif", "--reference", "labels.tif"]
    with served(page, "view", "map2024.tif", *words):
        page.wait_for_selector("body[data-ready]")
        page.mouse.click(620, 300)
        page.wait_for_selector("#values dl")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)
        take(page, "view.png")
    browser.close()
