"""The stages that write, as the loops run them: a call, the files it needs beside it, and what differs in each run."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tesela.cli import main
from tesela.core.errors import TeselaError
from tesela.web.log import VerdictLog
from tesela.web.verdicts import Verdict

W = "../world/"


@dataclass(frozen=True)
class Stage:
    """A call in an empty folder beside the world."""

    name: str
    call: str
    """Words of the command; ``@`` before a name is the world's folder."""
    copies: tuple[str, ...] = ()
    """Files of the world that the command changes, or whose folder takes its outputs."""
    slow: bool = False
    """Takes more than some seconds of CPU."""

    @property
    def is_command(self) -> bool:
        """Whether it is a command, which ends by a signal in its own way."""
        return self.call != "verdicts"

    def run(self) -> int:
        """Run the call in the current folder."""
        if not self.is_command:
            return write_verdicts()
        return main([word.replace("@", W) for word in self.call.split()])

    def prepare(self, folder: Path, world: Path) -> None:
        """Copy what the call changes into an empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.copies:
            shutil.copy(world / name, folder / name)


STAGES = (
    Stage(
        "label",
        "label @reference.gpkg --like @scene_july.tif --legend corine-2 --field CODE_18 -o out.tif -q",
    ),
    Stage(
        "label, fractions",
        "label @reference.gpkg --like @2018.tif --legend corine-1 --field CODE_18 --fractions -o out.tif -q",
    ),
    Stage("label, SIOSE", "label @siose.gpkg --like @sheet.tif --legend lulucf-context -o out.tif -q"),
    Stage(
        "patches",
        "patches @scene_july.tif --labels @map.tif --size 32 --block 640m --min-labelled 0.1 -o out.parquet -q",
    ),
    Stage("patches, split again", "patches @patches.parquet --split random -o out.parquet -q"),
    Stage(
        "predict, network",
        "predict @unet.safetensors @scene_july.tif -o out.tif --confidence sure.tif --entropy entropy.tif "
        "--probabilities all.tif --window 64 --overlap 16 --memory 1MiB --engine torch --precision fp32 --any-scene -q",
    ),
    Stage(
        "predict, trees",
        "predict @trees.safetensors @scene_july.tif -o out.tif --confidence sure.tif --window 128 --memory 1MiB "
        "--any-scene -q",
    ),
    Stage(
        "predict, cascade",
        "predict @cascade @scene_july.tif -o out.tif --window 64 --overlap 16 --engine torch --precision fp32 "
        "--any-scene -q",
    ),
    Stage(
        "predict, adapted",
        "predict @trees.safetensors @scene_july.tif -o out.tif --transfer shift --adapted new.safetensors "
        "--any-scene -q",
    ),
    Stage(
        "unmix",
        "unmix @unmix.safetensors @cube.zarr -o out.tif --classes classes.tif --uncertainty sd.tif --prior prior.tif "
        "--engine torch -q",
    ),
    Stage(
        "generalise",
        "generalise @map.tif --mmu 1ha --min-width 30m --narrow narrow.tif --change-log log.csv -o out.tif -q",
    ),
    Stage("vectorise", "vectorise @map.tif --simplify 20m --confidence @confidence.tif -o out.gpkg -q"),
    Stage("vectorise, parquet", "vectorise @map.tif -o out.parquet -q"),
    Stage("update", "update @reference.gpkg @map.tif --field CODE_18 --source corine -o out.gpkg -q"),
    Stage(
        "update apply", "update apply @queue.gpkg --undecided accept --changes changes.gpkg -o out.gpkg -q"
    ),
    Stage("assess", "assess @map.tif @truth.tif -o out -q"),
    Stage(
        "assess, polygons",
        "assess @map.tif @reference.gpkg --field CODE_18 --mmu 1ha --confidence @confidence.tif "
        "--image @scene_july.tif -o out -q",
    ),
    Stage(
        "account",
        "account @2018.tif @2024.tif --years 2018,2024 --sample 2018-2024=@changes.gpkg -o out -q",
    ),
    Stage("change-layer", "change-layer @2018.tif @2024.tif --years 2018,2024 --mmu 0.5ha -o out -q"),
    Stage("sample draw", "sample draw @map.tif --points 150 --minimum 5 -o out.gpkg -q"),
    Stage("sample estimate", "sample estimate @points.gpkg @map.tif -o out -q"),
    Stage(
        "sample changes",
        "sample changes @2018.tif @2024.tif --years 2018,2024 --points 100 --minimum 2 -o out -q",
    ),
    Stage("publish, map", "publish @map.tif -o out --date 2018 --title Map --include @reference.gpkg -q"),
    Stage("publish, cascade", "publish @cascade -o out --date 2018 --title Cascade -q"),
    Stage("legend convert", "legend convert @truth.tif --to lulucf -o out.tif -q"),
    Stage(
        "mosaic sentinel-2",
        "mosaic sentinel-2 --catalogue @stac --like @stac_grid.tif --year 2018 --months 4 --bands rgb --buffer 0m "
        "--workers 2 -o out -q",
    ),
    Stage("mosaic modis", "mosaic modis @modis -o out.zarr -q"),
    Stage("mosaic stack", "mosaic stack @months.tif --scale 0.0001 --bands ndvi -o out.zarr -q"),
    Stage("review verdicts", "verdicts"),
    Stage(
        "review export",
        "review export patches.parquet -o out.parquet -o out.csv -q",
        ("patches.parquet", "patches.review.sqlite"),
    ),
    Stage(
        "review rank",
        "review rank patches.parquet --automatic-quality -q",
        ("patches.parquet", "map.tif", "scene_july.tif"),
        slow=True,
    ),
    Stage("run, corine with trees", "run trees.toml -q", ("trees.toml",), slow=True),
    Stage("run, corine with a network", "run corine.toml -q", ("corine.toml",), slow=True),
    Stage("run, lulucf", "run lulucf.toml -q", ("lulucf.toml",), slow=True),
    Stage("run, unmixing", "run unmixing.toml -q", ("unmixing.toml",), slow=True),
)

VERDICTS = 60


def write_verdicts() -> int:
    """Write verdicts as the review server does; an error ends it with a line, as a command."""
    try:
        _write_verdicts()
    except TeselaError as error:
        sys.stderr.write(f"tesela: {error}\n")
        return 1
    return 0


def _write_verdicts() -> None:
    """Write verdicts, and note each one that was confirmed; go on where a log ends."""
    with VerdictLog("t.review.sqlite") as log, Path("confirmed.txt").open("a") as confirmed:
        there = {verdict.key for verdict in log.standing()}
        for number in range(VERDICTS):
            if f"k{number}" not in there:
                log.add(Verdict(key=f"k{number}", reviewer="ana", item_id=f"p{number}", quality="high"))
                confirmed.write(f"k{number}\n")
                confirmed.flush()


_TIMES = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?|\d\d? \w+ \d{4}, \d\d:\d\d( UTC)?"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"
)
_SPENT = {"seconds", "written", "cpu_s", "duration_s", "trained", "created", "updated", "started"}


def content(path: Path) -> bytes:
    """Content of an output, without moments and durations."""
    if path.suffix in (".gpkg", ".sqlite"):
        return _database(path)
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as file:
            return b"".join(_TIMES.sub(b"", file.read(name)) for name in sorted(file.namelist()))
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(data)), sort_keys=True).encode()
    if path.suffix in (".html", ".xml", ".md", ".toml", ".csv", ".txt"):
        return _TIMES.sub(b"", data)
    return data


def _timeless(document: object) -> object:
    if isinstance(document, dict):
        return {
            key: _timeless(value) for key, value in document.items() if key not in _SPENT and key != "digest"
        }
    if isinstance(document, list):
        return [_timeless(item) for item in document]
    return _TIMES.sub(b"", document.encode()).decode() if isinstance(document, str) else document


def _database(path: Path) -> bytes:
    """All rows of a database, without moments; SQLite places the same rows differently after a rollback."""
    base = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = [
            row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
        ]
        rows = [(name, base.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names]
    finally:
        base.close()
    return _TIMES.sub(b"", repr(rows).encode())


def outputs(folder: Path) -> dict[str, str]:
    """Digest of the content of each file of a folder, by its path in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("events.out.tfevents"):  # named by the moment
            found[path.relative_to(folder).as_posix()] = sha256(content(path)).hexdigest()[:16]
    return found
