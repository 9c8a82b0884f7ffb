"""Every module can be imported where what only POSIX has is missing, as on Windows."""

import re
import subprocess
import sys
from pathlib import Path

from repository import ROOT, SOURCE

POSIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
POSIX_NAMES = {
    "os": (
        "O_DIRECTORY",
        "fork",
        "geteuid",
        "getuid",
        "killpg",
        "mkfifo",
        "preadv",
        "pwritev",
        "sched_getaffinity",
        "statvfs",
        "sysconf",
    ),
    "signal": ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"),
}

LIBRARIES = (
    *(
        "dask",
        "distributed",
        "geopandas",
        "lightning",
        "matplotlib.pyplot",
        "numba",
        "openpyxl",
        "openvino",
        "pyogrio",
    ),
    *(
        "pystac_client",
        "rasterio",
        "rio_cogeo",
        "safetensors.torch",
        "scipy.stats",
        "segmentation_models_pytorch",
    ),
    *("sklearn.ensemble", "timm", "torch", "torchmetrics", "typer", "uvicorn", "xarray", "zarr"),
)

# Libraries are loaded first: on Windows they are other builds, which need none of this. What they took of `posix`
# stays loaded; a module of Tesela that imports one of the missing modules fails.
WITHOUT_POSIX = f"""
import importlib, os, pkgutil, signal, sys
for name in {LIBRARIES!r}:
    try:
        importlib.import_module(name)
    except ImportError:  # an extra that is not installed
        assert name in ("dask", "distributed", "openvino")
for name in {POSIX_MODULES!r}:
    sys.modules[name] = None
for module, names in {POSIX_NAMES!r}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
import tesela
count = 0
for item in pkgutil.walk_packages(tesela.__path__, "tesela."):
    importlib.import_module(item.name)
    count += 1
for name in tesela._HOME:
    getattr(tesela, name)
from tesela.core import machine
import tempfile
assert machine.usable_cores() >= 1 and machine.memory_bytes() == 8 << 30 and not machine.is_root()
with tempfile.TemporaryFile(buffering=0) as file:
    assert machine.write_at(file.fileno(), memoryview(b"tesela"), 3) == 6
    content = bytearray(4)
    assert machine.read_at(file.fileno(), memoryview(content), 5) == 4 and content == b"sela"
print(count)
"""


def test_every_module_is_imported_without_what_only_posix_has() -> None:
    words = [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    modules = [path for path in SOURCE.rglob("*.py") if path.name != "__main__.py"]
    assert int(done.stdout) >= len(modules) - 1


def test_what_only_posix_has_is_named_in_one_file() -> None:
    names = "|".join([*POSIX_NAMES["os"], *POSIX_NAMES["signal"]])
    pattern = re.compile(
        rf"^\s*(import|from) ({'|'.join(POSIX_MODULES)})\b|\b(os|signal)\.({names})\b|['\"]/(proc|dev)/"
    )
    users = {
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*.py")
        if any(pattern.search(line) for line in path.read_text(encoding="utf-8").splitlines())
    }
    assert users == {Path("core/machine.py")}
