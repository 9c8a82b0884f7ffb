"""Fixtures of several test modules, the seed of hypothesis, and the threads of tests that run beside others."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # threads that wait for a core spin, which costs as much as the work
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from repository import DATA
from reviewing import make_table
from tesela.patches.table import PatchTable, open_patches

settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):  # the same examples in every run
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def lanjaron() -> Path:
    """Folder of the real imagery and CORINE of Lanjarón; tests with it are skipped if it is missing."""
    folder = DATA / "lanjaron_l8_clc"
    if not folder.exists():
        pytest.skip(f"{folder.name} is neither in TESELA_DATA nor in ../shared/data")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The Chromium of this machine."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((binary for name in names if (binary := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="session")
def patch_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, its labels and a patch table; see `reviewing.make_table`."""
    return make_table(tmp_path_factory.mktemp("review"))


@pytest.fixture
def table_path(patch_project: Path, tmp_path: Path) -> Path:
    """A copy of the project, without verdicts."""
    for file in patch_project.parent.iterdir():
        if file.suffix in (".tif", ".parquet"):
            shutil.copy(file, tmp_path)
    return tmp_path / "patches.parquet"


@pytest.fixture
def table(table_path: Path) -> PatchTable:
    """Its patch table."""
    return open_patches(table_path)
