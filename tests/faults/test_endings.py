"""How commands end: by signals, on a full disk, and without a home that can be written to."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.core.legend import LandClass, Legend
from tesela.core.machine import is_root, private_folder
from tesela.io.maps import write_map

LEGEND = Legend("known", tuple(LandClass(v, f"c{v}", f"Class {v}", f"#{v:02d}4400") for v in range(1, 9)))
TESELA = [sys.executable, "-c", "import sys; from tesela.cli import main; sys.exit(main())"]


def write_noise(path: Path, side: int) -> Path:
    values = np.random.default_rng(3).integers(1, 9, (side, side)).astype(np.uint8)
    grid = GeoBox(values.shape, Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")
    write_map(path, values, grid, legend=LEGEND)
    return path


def write_legend(folder: Path) -> None:
    """The legend as a table, and the way from the classes of a map to it."""
    rows = "\n".join(f"{c.value},{c.code},{c.name},{c.color}," for c in LEGEND.classes)
    (folder / "legend.csv").write_text(f"value,code,name,color,parent\n{rows}\n")
    rows = "\n".join(f"{c.code},{c.code},1" for c in LEGEND.classes)
    (folder / "cross.csv").write_text(f"from,to,share\n{rows}\n")


CONVERT = ["legend", "convert", "map.tif", "--to", "legend.csv", "--crosswalk", "cross.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "Terminated"), (signal.SIGINT, 130, "Interrupted")]
)
@pytest.mark.parametrize("moment", ["imports", "work", "swallowed", "renamed"])
def test_a_signal_ends_a_command_with_one_line_and_another_status(
    tmp_path: Path, number: int, status: int, word: str, moment: str
) -> None:
    """Sent by the process to itself: while a library loads, in the work, where one loses or renames the exception."""
    send = f"import os, signal\ndef send(*a, **k): os.kill(os.getpid(), {int(number)})\n"
    lose = f"def send(*a, **k):\n  try: os.kill(os.getpid(), {int(number)})\n  except BaseException: pass\n"
    place = {
        "imports": "import builtins, functools\nload = builtins.__import__\n"
        "def hooked(name, *a, **k):\n  if name == 'tesela.io.legends': send()\n  return load(name, *a, **k)\n"
        "builtins.__import__ = hooked\n",
        "work": "import tesela.io.legends as module\nmodule.list_legends = send\n",
        "swallowed": "import tesela.io.legends as module\nreal = module.list_legends\n"
        "module.list_legends = lambda: (send(), real())[1]\n",
        "renamed": "import tesela.io.legends as module\n"
        "def renamed():\n  try: send()\n  except BaseException: raise RuntimeError('in a stream') from None\n"
        "module.list_legends = renamed\n",
    }[moment]
    prelude = send if moment != "swallowed" else f"import os\n{lose}"
    code = f"import sys\n{prelude}{place}from tesela.cli import main\nsys.exit(main(['legend', 'list']))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert made.returncode == status, made.stderr
    assert made.stderr.strip() == f"{word}. Run the same command again to continue."


LABEL = ["label", "p.gpkg", "--like", "map.tif", "--legend", "legend.csv", "--field", "code"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of file sizes")
@pytest.mark.parametrize(
    "words",
    [
        ["vectorise", "map.tif", "-o", "OUT/o.gpkg"],
        [*LABEL, "-o", "OUT/o.tif"],
        [*LABEL, "--fractions", "-o", "OUT/o.tif"],
        ["generalise", "map.tif", "--mmu", "0 m2", "--min-width", "0", "-o", "OUT/o.tif"],
        [*CONVERT, "-o", "OUT/o.tif"],
        ["sample", "draw", "map.tif", "--points", "4000", "-o", "OUT/o.gpkg"],
        ["assess", "map.tif", "map.tif", "-o", "OUT"],
    ],
    ids=lambda words: " ".join(words[:2]) + (" --fractions" if "--fractions" in words else ""),
)
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """No file may grow beyond a limit here: the system refuses the write, as on a full disk."""
    monkeypatch.chdir(tmp_path)
    write_noise(tmp_path / "map.tif", 300)
    write_legend(tmp_path)
    box = shapely.box(500000, 4097000, 503000, 4100000)
    gpd.GeoDataFrame({"code": ["c1"]}, geometry=[box], crs=25830).to_file(tmp_path / "p.gpkg")
    (tmp_path / "OUT").mkdir()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        code = main([*words, "-q"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    text = capsys.readouterr().err.strip()
    assert code == 1, text
    assert text.startswith("tesela: "), text
    assert "unexpected" not in text, text
    assert "\n" not in text, text
    left = [
        path for path in (tmp_path / "OUT").rglob("*") if path.is_file() and path.suffix in (".tif", ".gpkg")
    ]
    assert not left, f"{left} is there, though its disk was full: {text}"


def test_a_folder_for_kernels_that_others_can_write_to_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = private_folder("kernels")
    assert first is not None
    assert first == private_folder("kernels")
    assert not first.stat().st_mode & 0o077
    first.chmod(0o777)
    second = private_folder("kernels")
    assert second not in (None, first)
    shutil.rmtree(tmp_path / first.name)
    (tmp_path / first.name).symlink_to(tmp_path)
    assert private_folder("kernels") != first


@pytest.mark.skipif(not is_root() or shutil.which("setpriv") is None, reason="needs to become another user")
@pytest.mark.slow
def test_a_user_without_a_home_runs_commands_of_a_read_only_install(tmp_path: Path) -> None:
    """As `nobody`, who may write to neither the package nor a cache; twice, so that the second finds the kernels."""
    readable = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-c",
            "import tesela",
        ],
        cwd="/",
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    if readable.returncode:
        pytest.skip("another user cannot read this environment")
    work = Path("/tmp") / f"tesela-nobody-{os.getpid()}"
    work.mkdir()
    os.chown(work, 65534, 65534)
    try:
        write_noise(work / "map.tif", 100)
        write_legend(work)
        for name in ("map.tif", "legend.csv", "cross.csv"):
            (work / name).chmod(0o444)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "TMPDIR": str(work),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        words = [
            *CONVERT,
            "-o",
            "out.tif",
            "-q",
        ]  # a command of few kernels, each of which takes a second to compile
        kernels, kept = work / "tesela-kernels-65534", []
        for _ in range(2):
            made = subprocess.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *TESELA, *words],
                cwd=work,
                capture_output=True,
                text=True,
                env=environment,
                timeout=300,
            )
            assert made.returncode == 0, made.stderr
            kept.append({path: path.stat().st_mtime_ns for path in kernels.rglob("*.nb?")})
        assert kept[0], "the compiled kernels are kept"
        assert kept[1] == kept[0], "and used"
    finally:
        shutil.rmtree(work)
