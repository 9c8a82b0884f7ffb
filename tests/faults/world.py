"""A small world for the loops: real files of every kind, made by the simulation and by the commands themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

import mosaic_scenes
from modis_composites import write_varied
from tesela.cli import main
from tesela.io.abundance import AbundanceWriter
from tesela.io.cube_writer import CubeWriter
from tesela.io.images import write_bands
from tesela.io.layers import write_layers
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader, open_map, write_map
from tesela.io.msmtu import BANDS, TIMES
from tesela.io.tables import read_table
from tesela.models.expert import Expert, ExpertHeader, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.patches.table import open_patches
from tesela.simulate.region.region import write_region
from tesela.simulate.sheet.files import write_sheet
from tesela.web.log import VerdictLog, log_path
from tesela.web.verdicts import Verdict

LAYERS = ("longitude", "latitude", "altitude", "precipitation")
CELLS = GeoBox((20, 16), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")

CORINE = """
chain = "corine"
name = "tiny"
out = "run"
legend = "corine-1"
bands = ["B08", "B04", "B03"]
[[scenes]]
name = "july"
paths = ["../world/scene_july.tif"]
[reference]
path = "../world/reference.gpkg"
field = "CODE_18"
[patches]
size_px = 32
block = "640 m"
[training]
model = "{model}"
encoder = "tu-mobilenetv3_small_050"
decoder = "small"
epochs = 2
trees = 4
pixels = 400
batch_size = 8
[mapping]
engine = "torch"
precision = "fp32"
window_px = 96
overlap_px = 16
[assessment]
mmu = "2 ha"
"""

LULUCF = """
chain = "lulucf"
name = "tiny"
out = "run"
imbalance = ["loss"]
[[scenes]]
name = "july"
paths = ["../world/sheet.tif"]
[reference]
path = "../world/siose.gpkg"
[patches]
size_px = 64
block = "32 m"
[training]
encoder = "tu-mobilenetv3_small_050"
decoder = "small"
epochs = 1
batch_size = 4
[mapping]
engine = "torch"
precision = "fp32"
[[experts]]
name = "context"
legend = "lulucf-context"
"""

UNMIXING = """
chain = "unmixing"
name = "tiny"
out = "run"
legend = "sipna-2"
ancillary = "all"
[cube]
path = "../world/cube.zarr"
[reference]
path = "../world/shares.tif"
[split]
block = ["2 km", "2 km"]
fractions = [0.5, 0.25, 0.25]
[training]
model = "mlp"
context = 0
head = "dirichlet"
epochs = 2
batch_size = 128
accelerator = "cpu"
[mapping]
engine = "torch"
uncertainty = true
"""


def make_world(folder: Path, *, small: bool = False) -> None:
    """
    All inputs of the stages, in a folder named "world" that later runs only read.

    Parameters
    ----------
    small : bool
        Rasters, polygons, networks and patches only, in a third of the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        _rasters()
        _networks()
        if not small:
            _trees()
            _series()
            _tables()
    finally:
        os.chdir(before)


def _rasters() -> None:
    write_region(
        Path(),
        size_px=160,
        seasons=("july",),
        bands=("B08", "B04", "B03"),
        seed=3,
        clouds="gaps",
        min_area_ha=1,
    )
    for legend, name in (("corine-1", "map"), ("lulucf", "2018")):
        _run(f"legend convert truth.tif --to {legend} -o {name}.tif -q")
    former = open_map(Path("2018.tif"))
    with MapReader(former) as reader:
        values = reader.read(former.grid)
    changed = values.copy()
    changed[30:70, 40:90] = values[90:130, 20:70]
    write_map(Path("2024.tif"), changed, former.grid, legend=former.legend)
    sure = np.random.default_rng(0).integers(20, 100, (1, *values.shape)).astype(np.uint8)
    write_bands(Path("confidence.tif"), sure, former.grid, names=("confidence",), nodata=255)
    legend = open_map(Path("map.tif")).legend
    rows = "\n".join(f"{c.value},{c.code},{c.name},{c.color}," for c in legend.classes)
    Path("legend.csv").write_text(f"value,code,name,color,parent\n{rows}\n", encoding="utf-8")
    codes = (
        ("1", "settlements"),
        ("2", "cropland"),
        ("3", "forest_land"),
        ("4", "wetlands"),
        ("5", "other_land"),
    )
    rows = "\n".join(f"{old},{new},1" for old, new in codes)
    Path("cross.csv").write_text(f"from,to,share\n{rows}\n", encoding="utf-8")
    Path("made").mkdir()
    sheet = write_sheet(Path("made"), size_px=256)
    sheet.image.rename("sheet.tif")
    sheet.reference.rename("siose.gpkg")
    shutil.rmtree("made")


def _networks() -> None:
    torch.manual_seed(0)
    legend = open_map(Path("map.tif")).legend
    net = UnetArchitecture(3, len(legend), encoder="tu-mobilenetv3_small_050", decoder_channels=(8,) * 5)
    header = ExpertHeader(
        net,
        legend,
        ("B08", "B04", "B03"),
        (0.2, 0.1, 0.1),
        (0.1, 0.1, 0.1),
        patch_size_px=32,
        pixel_size_m=10,
    )
    for folder in ("", "cascade/"):
        save_expert(Path(f"{folder}unet.safetensors"), Expert(header, net.build()))
    Path("cascade/cascade.toml").write_text('[[experts]]\npath = "unet.safetensors"\n')
    _run(
        "patches scene_july.tif --labels map.tif --size 32 --block 640m --min-labelled 0.1 -o patches.parquet -q"
    )
    table = open_patches(Path("patches.parquet"))
    with VerdictLog(log_path(Path("patches.parquet"))) as log:
        log.bind("")
        for number, item in enumerate(table.frame["patch_id"]):
            quality = "high" if number % 3 else "low"
            log.add(Verdict(key=f"k{number}", reviewer="ana", item_id=item, quality=quality, note="n" * 50))


def _trees() -> None:
    from tesela.training.segmentation.settings import (
        SegmentationSettings,
    )  # seconds, which a small world saves
    from tesela.training.segmentation.train import train_segmentation

    settings = SegmentationSettings(model="boosting", trees=4, pixels=400, window_sides_px=(3,))
    train_segmentation(open_patches(Path("patches.parquet")), Path("trees.safetensors"), settings=settings)


def _series() -> None:
    rng = np.random.default_rng(0)
    legend = open_legend("sipna-2")
    shares = np.moveaxis(rng.dirichlet(np.full(len(legend), 0.3), CELLS.shape), -1, 0)
    values = np.einsum("ktb,krc->tbrc", rng.random((len(legend), 12, 7)) * 0.5, shares)
    values[rng.random(values.shape) < 0.2] = np.nan
    with CubeWriter(Path("cube.zarr"), CELLS, times=TIMES, bands=BANDS, layers=LAYERS) as cube:
        cube.write(0, 0, values)
        cube.write_layers(0, 0, rng.random((4, *CELLS.shape)))
    with AbundanceWriter(Path("shares.tif"), CELLS, legend) as file:
        file.write_shares(0, 0, shares)
    Path("modis").mkdir()
    write_varied(Path("modis"))
    months = rng.integers(1, 9000, (12, 40, 30)).astype(np.int16)
    grid = GeoBox((40, 30), Affine(30, 0, 500_000, 0, -30, 4_100_000), "EPSG:32630")
    names = [f"NDVI_2010_{month:02d}" for month in range(1, 13)]
    write_bands(Path("months.tif"), months, grid, names=names)
    mosaic_scenes.catalogue_of(Path("stac"), [mosaic_scenes.seen(day, 1000 + 100 * day) for day in (3, 8)])
    grid = mosaic_scenes.GRID
    write_bands(Path("stac_grid.tif"), np.ones((1, *grid.shape), np.uint8), grid, names=("a",))
    Path("corine.toml").write_text(CORINE.format(model="unet"))
    Path("trees.toml").write_text(CORINE.format(model="boosting"))
    Path("lulucf.toml").write_text(LULUCF)
    Path("unmixing.toml").write_text(UNMIXING)


def _tables() -> None:
    _run("run unmixing.toml -q")
    Path("run/experts/tiny.safetensors").rename("unmix.safetensors")
    shutil.rmtree("run")
    _run("assess map.tif map.tif -o report -q")
    Path("report/assessment.json").rename("assessment.json")
    shutil.rmtree("report")
    _run("update reference.gpkg map.tif --field CODE_18 --source corine -o queue.gpkg -q")
    _run("sample draw map.tif --points 200 --minimum 5 -o points.gpkg -q")
    _run("sample changes 2018.tif 2024.tif --years 2018,2024 --points 100 --minimum 2 -o . -q")
    Path("sample_2018-2024.gpkg").rename("changes.gpkg")
    for name in ("points", "changes"):
        path = Path(f"{name}.gpkg")
        layers = {layer: read_table(path, layer=layer) for layer in ("points", "strata", "key")}
        drawn = list(layers["key"]["stratum"])
        layers["points"]["reference"] = [
            drawn[number] if number % 7 else drawn[0] for number in range(len(drawn))
        ]
        write_layers(path, layers)


def _run(words: str) -> None:
    assert main(words.split()) == 0, words
