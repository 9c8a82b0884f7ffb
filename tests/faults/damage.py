"""
Damage: files of every kind with flipped, cut, zeroed or rewritten bytes, given to what reads them.

``python tests/faults/damage.py --count 1000 --seed 0`` (with `PYTHONPATH=tests`) prints a table and ends with status 1
where a call did not end in one line, took more than a minute, or gave another answer where a checksum can tell. Each
file is made anew from its whole original; the seed gives kind, place and length of each damage. Most files are read by
a call, each 25th by its command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import select
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

import mosaic_scenes
from tesela.cli import main
from tesela.cli.errors import UNEXPECTED, describe
from tesela.core.legend import LandClass, Legend
from tesela.io.abundance import AbundanceWriter, open_abundance
from tesela.io.crosswalks import open_crosswalk
from tesela.io.cube import open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.io.http import Web
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.manifest import Manifest
from tesela.io.maps import MapReader, open_map, write_map
from tesela.io.parts import PartStore
from tesela.io.scenes import SceneReader, open_scene
from tesela.io.vector.fields import find_field
from tesela.io.vector.layer import open_layer, read_layer
from tesela.mapping.cascade import open_cascade
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.patches.table import make_patches, open_patches
from tesela.recipes.schema import open_recipe
from tesela.sampling.interpretation import read_points
from tesela.sources.catalogue import find_items
from tesela.sources.providers import Catalogue
from tesela.web.log import VerdictLog, log_path
from tesela.web.verdicts import Verdict

LEGEND = Legend("known", tuple(LandClass(v, f"c{v}", f"Class {v}", f"#{v:02d}4400") for v in range(1, 4)))
GRID = GeoBox((96, 96), Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")
HANG_S = 60
BY_COMMAND = 25
"""Each so many files are read by a command."""


@dataclass(frozen=True)
class Kind:
    """A kind of file and what reads it."""

    name: str
    file: str
    read: Callable[[], object]
    """Returns the content as far as it is used."""
    call: str = ""
    """Command that reads it."""
    part: str = ""
    """Text near which the damage lies; empty: anywhere."""
    sealed: bool = False
    """Whether a checksum can tell: another answer is then a silent wrong one."""


def _map() -> object:
    with MapReader(open_map("map.tif")) as reader:
        return reader.map.legend, reader.read(GRID)


def _scene() -> object:
    with SceneReader(open_scene("scene.tif")) as reader:
        return reader.read(GRID)


def _layer(path: str) -> object:
    layer = open_layer(path)
    field = find_field("code", layer.fields, where=path)
    frame = read_layer(layer, columns=[field], report=False)
    return frame.geometry.to_wkb().tolist(), [str(item) for item in frame[field]]


def _patches() -> object:
    table = open_patches("patches.parquet")
    return table.frame.drop(columns="geometry").to_csv(), table.legend, table.size_px


def _verdicts() -> object:
    with VerdictLog("patches.review.sqlite") as log:
        return [str(item) for item in log.standing()]


def _expert() -> object:
    expert = open_expert("e.safetensors")
    return expert.header, [item.numpy().tobytes() for item in expert.network.state_dict().values()]


def _cube() -> object:
    cube = open_cube("cube.zarr")
    return cube.grid, cube.times, cube.bands, cube.layers, cube.read(), cube.read_counts(), cube.read_layers()


def _parts() -> object:
    """Parts that `start` keeps are those that were written; others are made again."""
    with PartStore("out.tif") as store:
        store.start({"a": 1})
        kept = [store.read(number) if store.has(number) else None for number in range(3)]
        notes = [note["n"] for note in store.notes()]
    wrong = [number for number, part in enumerate(kept) if part is not None and (part != _part(number)).any()]
    return wrong, len(notes) == sum(part is not None for part in kept)


def _part(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 4, (1, 20, 30)).astype(np.uint8)


def _manifest() -> object:
    return Manifest.read(Path()) or "the stage runs again"


def _items() -> object:
    days = {"first": date(2018, 4, 1), "last": date(2018, 5, 1)}
    found = find_items(Catalogue("stac"), Web(), collection=None, bounds=(-4, 36, -3, 38), **days)
    return [item["id"] if isinstance(item, dict) else str(item) for item in found]


def _abundance() -> object:
    shares = open_abundance("shares.tif")
    return shares.legend, shares.read()


def _cascade() -> object:
    return [member.name for member in open_cascade("cascade").members]


LABEL = "--like map.tif --legend legend.csv --field code -o OUT.tif -q"
LABEL_CUBE = f"label p.gpkg {LABEL.replace('map.tif', 'cube.zarr')}"
ANSWERS = "sample estimate points.gpkg map.tif --responses answers.csv -o OUT -q"
PUBLISH = "publish e.safetensors -o OUT --date 2018 -q"
MOSAIC = "mosaic sentinel-2 --catalogue stac --like stac.tif --year 2018 --months 4 --bands rgb -o OUT -q"
SPLIT = "patches patches.parquet --split random -o OUT.parquet -q"
CROSS = "legend convert map.tif --to lulucf --crosswalk cross.csv -o OUT.tif -q"
ITEM = "stac/items/S2A_30SVF_20180403_0_L2A.json"

KINDS = (
    Kind("GeoTIFF", "map.tif", _map, "vectorise map.tif -o OUT.gpkg -q"),
    Kind("GeoTIFF, legend tag", "map.tif", _map, "vectorise map.tif -o OUT.gpkg -q", "TESELA_LEGEND"),
    Kind("scene", "scene.tif", _scene, "label p.gpkg " + LABEL.replace("map.tif", "scene.tif")),
    Kind("abundance map", "shares.tif", _abundance, "assess shares.tif shares.tif -o OUT -q"),
    Kind("GeoPackage", "p.gpkg", lambda: _layer("p.gpkg"), f"label p.gpkg {LABEL}"),
    Kind("GeoParquet", "p.parquet", lambda: _layer("p.parquet"), f"label p.parquet {LABEL}"),
    Kind("shapefile, table", "p.dbf", lambda: _layer("p.shp"), f"label p.shp {LABEL}"),
    Kind("shapefile, shapes", "p.shp", lambda: _layer("p.shp"), f"label p.shp {LABEL}"),
    Kind("patch table", "patches.parquet", _patches, SPLIT),
    Kind("patch table, header", "patches.parquet", _patches, SPLIT, '"version"'),
    Kind("legend", "legend.csv", lambda: open_legend("legend.csv"), "legend show legend.csv"),
    Kind(
        "crosswalk",
        "cross.csv",
        lambda: open_crosswalk("known", open_legend("lulucf"), path="cross.csv"),
        CROSS,
    ),
    Kind(
        "sample",
        "points.gpkg",
        lambda: read_points("points.gpkg"),
        ANSWERS,
    ),
    Kind(
        "answers",
        "answers.csv",
        lambda: None,
        ANSWERS,
    ),
    Kind("verdicts", "patches.review.sqlite", _verdicts, "review export patches.parquet -o OUT.csv -q"),
    Kind("recipe", "r.toml", lambda: open_recipe("r.toml"), "run r.toml --until nothing -q"),
    Kind("cascade", "cascade/cascade.toml", _cascade, "publish cascade -o OUT --date 2018 -q"),
    Kind(
        "STAC item",
        ITEM,
        _items,
        MOSAIC,
    ),
    Kind("expert", "e.safetensors", _expert, PUBLISH, sealed=True),
    Kind(
        "expert, header",
        "e.safetensors",
        _expert,
        "publish e.safetensors -o OUT --date 2018 -q",
        '"__metadata__"',
        sealed=True,
    ),
    Kind(
        "cube, metadata",
        "cube.zarr/zarr.json",
        _cube,
        f"label p.gpkg {LABEL.replace('map.tif', 'cube.zarr')}",
        sealed=True,
    ),
    Kind(
        "cube, series",
        "cube.zarr/series/c/0/0/0/0",
        _cube,
        "mosaic stack cube.zarr -o OUT.zarr -q",
        sealed=True,
    ),
    Kind("part", ".out.tif.parts/00000001.part", _parts, sealed=True),
    Kind("part, note", ".out.tif.parts/00000001.json", _parts, sealed=True),
    Kind("parts, plan", ".out.tif.parts/plan.json", _parts, sealed=True),
    Kind("manifest", "manifest.json", _manifest, sealed=True),
)
AGAIN = {repr("the stage runs again")}
"""Answers to damage that are as good as the former one."""


def make_files() -> None:
    """Whole originals of all kinds, in the current folder."""
    rng = np.random.default_rng(1)
    values = np.kron(rng.integers(1, 4, (12, 12)), np.ones((8, 8), int)).astype(np.uint8)
    write_map("map.tif", values, GRID, legend=LEGEND)
    write_bands(
        Path("scene.tif"),
        rng.integers(1, 9000, (2, 96, 96)).astype(np.uint16),
        GRID,
        names=("red", "nir"),
        nodata=0,
    )
    rows = "\n".join(f"{c.value},{c.code},{c.name},{c.color}," for c in LEGEND.classes)
    Path("legend.csv").write_text(f"value,code,name,color,parent\n{rows}\n", encoding="utf-8")
    Path("cross.csv").write_text(
        "from,to,share\nc1,forest_land,1\nc2,cropland,0.5\nc2,grassland,0.5\nc3,wetlands,1\n"
    )
    boxes = [shapely.box(500000 + 100 * i, 4099040, 500100 + 100 * i, 4100000) for i in range(9)]
    frame = gpd.GeoDataFrame({"code": [f"c{1 + i % 3}" for i in range(9)]}, geometry=boxes, crs=25830)
    frame.to_file("p.gpkg")
    frame.to_file("p.shp")
    frame.to_parquet("p.parquet")
    table = make_patches([open_scene("map.tif", bands=["B1"])], [open_map("map.tif")], size_px=16)
    path = table.write("patches.parquet")
    with VerdictLog(log_path(path)) as log:
        log.bind("")
        for number, item in enumerate(table.frame["patch_id"]):
            log.add(Verdict(key=f"k{number}", reviewer="ana", item_id=item, quality="high", note="n" * 200))
    net = UnetArchitecture(2, 3, encoder="tu-mobilenetv3_small_050", decoder_channels=(8,) * 5)
    header = ExpertHeader(
        net, LEGEND, ("red", "nir"), (0.1, 0.3), (0.1, 0.1), patch_size_px=64, pixel_size_m=10.0
    )
    save_expert("e.safetensors", Expert(header, net.build()))
    Path("cascade").mkdir()
    shutil.copy("e.safetensors", "cascade")
    Path("cascade/cascade.toml").write_text(
        'name = "two"\n[[experts]]\nname = "one"\npath = "e.safetensors"\n'
    )
    with CubeWriter("cube.zarr", GRID, times=("01", "02"), bands=("a",), layers=("b",)) as cube:
        cube.write(0, 0, rng.random((2, 1, 96, 96)))
        cube.write_layers(0, 0, rng.random((1, 96, 96)))
    with AbundanceWriter("shares.tif", GRID, LEGEND) as file:
        file.write_shares(0, 0, np.moveaxis(rng.dirichlet(np.ones(3), (96, 96)), -1, 0))
    with PartStore("out.tif") as store:
        store.start({"a": 1})
        for number in range(3):
            store.note(number, {"n": number})
            store.write(number, _part(number))
    Manifest(
        "label", settings={"size": 3}, inputs={"a.tif": "f" * 32}, outputs={"b.tif": "e" * 32}, seed=1
    ).write(Path())
    words = ["sample", "draw", "map.tif", "--points", "60", "--minimum", "5", "-o", "points.gpkg", "-q"]
    with contextlib.redirect_stdout(sys.stderr):
        assert main(words) == 0
    numbers = range(1, 61)
    answers = pd.DataFrame({"sample_id": numbers, "reference": [f"c{1 + n % 3}" for n in numbers]})
    answers.to_csv("answers.csv", index=False)
    mosaic_scenes.catalogue_of(Path("stac"), [mosaic_scenes.seen(3, 1000)])
    grid = mosaic_scenes.GRID
    write_bands(Path("stac.tif"), np.ones((1, *grid.shape), np.uint8), grid, names=("a",))
    Path("r.toml").write_text(
        'chain = "corine"\nname = "r"\n[[scenes]]\nname = "july"\npaths = ["scene.tif"]\n[reference]\npath = "p.gpkg"\n'
        'field = "code"\n[patches]\nsize_px = 32\nblock = "640 m"\n[training]\nepochs = 2\n'
    )


def damage(content: bytes, rng: np.random.Generator, *, part: str = "") -> bytes:
    """Bytes with one damage: a bit flipped, a run zeroed or overwritten, the end cut, or a run left out."""
    data = bytearray(content)
    low, high = 0, len(data)
    if part:
        at = max(content.find(part.encode()), 0)
        low, high = at, min(len(data), at + 1500)
    at = int(rng.integers(low, max(low + 1, high)))
    run = int(rng.integers(1, 64))
    match int(rng.integers(5)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + run] = bytes(len(data[at : at + run]))
        case 2:
            data[at : at + run] = rng.bytes(len(data[at : at + run]))
        case 3:
            del data[at:]
        case _:
            del data[at : at + run]
    return bytes(data)


def by_command(call: str) -> tuple[str, str]:
    """How a command ends: "read", "refused", "traceback" or "unexpected", and its last words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(call.split())
    except BaseException as error:  # noqa: BLE001 - whatever escapes is what this looks for
        return "traceback", f"{type(error).__name__}: {error}"
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("note: ")]
    if code == 0:
        return "read", ""
    one = code == 1 and len(lines) == 1 and lines[0].startswith("tesela: ")
    return (
        ("refused", lines[0])
        if one and not lines[0].startswith(f"tesela: {UNEXPECTED} ")
        else ("traceback", "\n".join(lines[-3:]))
    )


def by_call(read: Callable[[], object]) -> tuple[str, str]:
    """As `by_command`; where it is read, its answer as text."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            answer = read()
    except Exception as error:  # noqa: BLE001 - as a command does
        line = describe(error)
        return ("traceback" if line.startswith(UNEXPECTED) else "refused"), line
    return "read", _plain(answer)


def _plain(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return str(hash(answer.tobytes()))
    if isinstance(answer, tuple | list):
        return f"({', '.join(_plain(item) for item in answer)})"
    return repr(answer) if not isinstance(answer, bytes) else str(hash(answer))


def _tidy() -> None:
    for pattern in ("OUT*", ".OUT*", "*-wal", "*-shm", "*-journal"):
        for left in Path().glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _try_kind(
    kind: Kind, position: int, numbers: range, seed: int, tell: Callable[[dict[str, object]], None]
) -> None:
    """Damage one file again and again and tell how each ends; in a process of its own."""
    shutil.rmtree("kept", ignore_errors=True)
    folder = Path(kind.file).parent if kind.file.startswith(".") else None
    whole = Path(kind.file).read_bytes()
    end, expected = by_call(kind.read)
    assert end == "read", f"{kind.name}: the whole file is not read: {expected}"
    if kind.call and numbers.start == 0 and len(numbers) >= BY_COMMAND and "--until nothing" not in kind.call:
        end, words = by_command(kind.call)
        assert end == "read", f"{kind.name}: the whole file is not read by its command: {words}"
    _tidy()
    if folder is not None:
        shutil.copytree(folder, "kept")
    only_command = kind.name == "answers"
    for number in numbers:
        rng = np.random.default_rng([seed, position, number])
        damaged = damage(whole, rng, part=kind.part)
        Path(kind.file).write_bytes(damaged)
        tell({"begun": number})
        if kind.call and (only_command or number % BY_COMMAND == BY_COMMAND - 1):
            end, words = by_command(kind.call)
            if end == "read" and kind.sealed and by_call(kind.read)[0] == "refused":
                end, words = "silent wrong", f"the command takes it: {kind.call}"
        else:
            end, words = by_call(kind.read)
            if end == "read":
                same = words == expected or words in AGAIN
                end = "same" if same else "silent wrong" if kind.sealed else "other"
        tell(
            {
                "number": number,
                "end": end,
                "words": words if end not in ("same", "read", "other", "refused") else "",
            }
        )
        _tidy()
        if folder is not None:
            shutil.rmtree(folder)
            shutil.copytree("kept", folder)
    Path(kind.file).write_bytes(whole)


def _results(kind: Kind, position: int, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Outcomes in order; a process that hangs or dies is replaced, and its file counted."""
    first = 0
    while first < count:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reader)
                with os.fdopen(writer, "w", buffering=1) as pipe:
                    _try_kind(
                        kind,
                        position,
                        range(first, count),
                        seed,
                        lambda line: pipe.write(json.dumps(line) + "\n"),  # type: ignore[arg-type,return-value]
                    )
                code = 0
            except BaseException:  # noqa: BLE001 - said by the parent
                import traceback

                traceback.print_exc()
            os._exit(code)
        os.close(writer)
        hung, begun, told = False, first, ""
        while True:
            ready, _, _ = select.select([reader], [], [], HANG_S * 5 if not told else HANG_S)
            if not ready:
                hung = True
                os.kill(child, signal.SIGKILL)
                break
            block = os.read(reader, 1 << 16).decode()
            if not block:
                break
            lines = (told + block).split("\n")
            told = lines.pop() or " "
            for line in lines:
                document = json.loads(line)
                if "begun" in document:
                    begun = document["begun"]
                else:
                    first = document["number"] + 1
                    yield document["number"], document["end"], document["words"]
            told = told.strip()
        os.close(reader)
        _, status = os.waitpid(child, 0)
        if hung or os.WIFSIGNALED(status):
            yield begun, "hang" if hung else "crash", f"signal {os.WTERMSIG(status)}"
            first = begun + 1
        elif os.waitstatus_to_exitcode(status):
            raise AssertionError(f"{kind.name}: the loop itself failed")


def run(count: int, seed: int, *, names: tuple[str, ...] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """
    Damage `count` files of each kind.

    Returns
    -------
    table : dict
        Outcomes by kind: "same" answer as the whole file, "other", "read" by a command, "refused" in one line,
        "traceback", "crash", "hang", and "silent wrong": another answer where a checksum can tell.
    faults : list of str
        The last four, with their seeds.
    """
    table: dict[str, Counter[str]] = {}
    faults: list[str] = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        try:
            _in_fork(make_files)
            for position, kind in enumerate(KINDS):
                if names and kind.name not in names:
                    continue
                counts = table.setdefault(kind.name, Counter())
                whole = Path(kind.file).read_bytes()
                for number, end, words in _results(kind, position, count, seed):
                    counts[end] += 1
                    if end in ("traceback", "crash", "hang", "silent wrong"):
                        faults.append(f"{kind.name} [{seed}, {position}, {number}]: {end}: {words[:600]}")
                Path(kind.file).write_bytes(whole)
                sys.stderr.write(f"{kind.name}: {dict(counts)}\n")
        finally:
            os.chdir(before)
    return table, faults


def _in_fork(work: Callable[[], object]) -> None:
    """Run in another process: the threads of libraries do not survive later forks of this one."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - said by the parent
            import traceback

            traceback.print_exc()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the originals could not be made"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=100, help="Damaged files of each kind.")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kinds", default="", help="Names of kinds, separated by semicolons; default: all.")
    given = options.parse_args()
    wanted = tuple(name.strip() for name in given.kinds.split(";") if name.strip())
    results, problems = run(given.count, given.seed, names=wanted)
    sys.stdout.write(json.dumps({name: dict(counts) for name, counts in results.items()}, indent=1) + "\n")
    sys.stdout.write("\n".join([*problems, ""]))
    sys.exit(bool(problems))
