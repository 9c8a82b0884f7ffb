"""The demo of the lulucf chain: its recipe on a virtual sheet whose patches a virtual photointerpreter rated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from tesela.chains.demo import keep_simulated
from tesela.io.legends import open_legend
from tesela.io.manifest import write_text
from tesela.io.scenes import SceneReader, open_scene
from tesela.labels.siose import label_siose
from tesela.patches.table import PatchTable, make_patches
from tesela.simulate.sheet.files import SheetFiles, write_sheet

SCENE = "sheet"


@dataclass(frozen=True)
class DemoSize:
    """Size of a demo and length of its training."""

    size_px: int
    pixel_m: float
    patch_px: int
    encoder: str
    decoder: str
    epochs: int
    threads: int = 0
    """Of the training: a fixed number gives equal scores on any number of cores."""


SIZES = {
    "small": DemoSize(768, 0.5, patch_px=64, encoder="resnet10t", decoder="small", epochs=10, threads=2),
    "full": DemoSize(4096, 0.5, patch_px=256, encoder="resnet34", decoder="full", epochs=60),
}
"""The demo by size: minutes on two cores, or four square kilometres."""

QUALITY_CLASSES = {"high": 0.06, "medium": 0.20}
"""Largest share of a patch that is wrong in the reference, by the rating of the virtual photointerpreter."""

_RECIPE = """\
# Written by `tesela demo`: the lulucf chain on a virtual sheet. Run it again with `tesela run {file}`.
chain = "lulucf"
name = "demo"
out = "."
seed = {seed}
species = ["24", "26", "45", "43"]
imbalance = ["loss", "none"]

[[scenes]]
name = "{scene}"
paths = ["sheet/{image}"]

[reference]
path = "sheet/{reference}"

[reference.canopy]
paths = ["sheet/ndsm.tif"]

[patches]
size_px = {size}
split = "quality"
reviewed = "sheet/reviewed.parquet"
unbiased = 0.25
block = "{block} m"

[training]
encoder = "{encoder}"
decoder = "{decoder}"
epochs = {epochs}
batch_size = 4
patience = 0
ema = 0.99
threads = {threads}

[mapping]
confidence = true
"""


def write_lulucf_demo(
    out: Path, *, size: str, seed: int, report: Callable[[str, str], None] = lambda stage, text: None
) -> Path:
    """Make the virtual sheet, its reviewed patches and the recipe; a sheet that exists is kept."""
    settings = SIZES[size]
    folder = out / "sheet"

    def make() -> list[Path]:
        files = write_sheet(folder, size_px=settings.size_px, pixel_m=settings.pixel_m, seed=seed)
        reviewed = review_sheet(files, size_px=settings.patch_px).write(folder / "reviewed.parquet")
        return [*asdict(files).values(), reviewed]

    written = {"files": [item.name for item in fields(SheetFiles)]}  # an earlier version wrote fewer
    keep_simulated(folder, asdict(settings) | written, make, seed=seed, report=report)
    recipe = out / "lulucf.toml"
    text = _RECIPE.format(
        file=recipe,
        seed=seed,
        scene=SCENE,
        image=next(folder.glob("PNOA_*.tif")).name,
        reference=next(folder.glob("SAR*.gpkg")).name,
        size=settings.patch_px,
        block=settings.patch_px * settings.pixel_m,
        encoder=settings.encoder,
        decoder=settings.decoder,
        epochs=settings.epochs,
        threads=settings.threads,
    )
    return write_text(recipe, text)


def review_sheet(files: SheetFiles, *, size_px: int) -> PatchTable:
    """
    Rate the patches of a virtual sheet as a photointerpreter would who sees every mistake of the reference.

    It takes the place of `tesela review serve`: on a virtual sheet the truth is known.
    """
    scene = replace(open_scene(files.image), name=SCENE)
    labels, _ = label_siose(
        files.reference,
        files.image.parent / "reviewed_labels.tif",
        like=scene.grid,
        legend=open_legend("lulucf-context"),
    )
    table = make_patches([scene], [labels], size_px=size_px)
    with SceneReader(open_scene(files.wrong)) as reader:
        wrong = [
            float(np.mean(reader.read(table.grid_of(SCENE, row, col)) == 1))
            for row, col in zip(table.frame["row"], table.frame["col"], strict=True)
        ]
    ratings = [
        next((name for name, most in QUALITY_CLASSES.items() if share <= most), "low") for share in wrong
    ]
    return replace(table, frame=table.frame.assign(quality=np.array(ratings, object)))
