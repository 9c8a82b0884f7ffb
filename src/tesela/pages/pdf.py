"""PDF: the report printed by the machine's Chromium."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tesela.core.errors import InputError
from tesela.core.machine import is_root
from tesela.io.manifest import write_whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Programs that can print a page, in the order of the search."""

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-pdf-header-footer",
)


def find_browser() -> str | None:
    """Path of a Chromium, or None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def print_page(page: Path, out: Path, *, browser: str, timeout_s: float = 180) -> Path:
    """
    Print the page of a file as PDF; the PDF appears whole or not at all.

    Parameters
    ----------
    browser : str
        Path of a Chromium, see `find_browser`.

    Raises
    ------
    InputError
        If the browser prints nothing.
    """
    sandbox = ["--no-sandbox"] if is_root() else []  # Chromium refuses a sandbox to root
    with write_whole(out) as part, tempfile.TemporaryDirectory() as profile:
        words = [browser, *_FLAGS, *sandbox, f"--user-data-dir={profile}", f"--print-to-pdf={part}"]
        try:
            done = subprocess.run(
                [*words, page.resolve().as_uri()], capture_output=True, timeout=timeout_s, check=False
            )
            problem = f"it ended with {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        if not part.exists() or part.read_bytes()[:5] != b"%PDF-":
            raise InputError(
                f"{out}: {browser} printed nothing ({problem}). Open {page} in a browser and print it there."
            )
    return out
