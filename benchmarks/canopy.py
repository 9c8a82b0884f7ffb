"""
What a canopy expert learns behind the gate, by its labels and its input, on virtual sheets whose crowns are known.

    .venv/bin/python benchmarks/canopy.py [--seeds 0 1] [--size 768] [--epochs 10] [--out FOLDER]

Each seed is a sheet of its own, with its split into blocks, in patches of 64 px. A context expert is trained on the
SIOSE AR file with its mistakes; its forest is the gate of all rows. Canopy experts of one size and schedule are trained
on labels by covers (every forest pixel is tree), by FCCARB (tree from 70 % on, open below 20 %), by heights of the
sheet's nDSM, and by heights of pixels of 2 m; "heights + context" also reads the six probabilities of the context
expert as bands. All are assessed on test blocks against the true crowns: IoU of tree and of open area behind the gate,
and the cascade of two levels (five classes of context, tree, open): accuracy and mIoU. U-Nets, ResNet10t, small
decoder, one thread. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.chains.target_patches import follow_splits
from tesela.core.scene import Scene
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, MapReader, open_map
from tesela.io.scenes import SceneReader, open_scene
from tesela.labels.canopy import BuiltLand, write_canopy_labels
from tesela.labels.siose import label_siose
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert, open_expert
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches
from tesela.simulate.sheet.files import SheetFiles, write_sheet
from tesela.sources.siose.rules import SioseRules
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.train import train_segmentation

PATCH_PX = 64
CONTEXT, TREES = open_legend("lulucf-context"), open_legend("tree-cover")
FOREST = CONTEXT["forest"].value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        seeds = {
            str(seed): measure(out / str(seed), seed=seed, size_px=options.size, epochs=options.epochs)
            for seed in options.seeds
        }
    print(json.dumps({"seeds": seeds, "mean": mean_of(list(seeds.values()))}, indent=2))


def measure(folder: Path, *, seed: int, size_px: int, epochs: int) -> dict[str, dict[str, float]]:
    sheet = write_sheet(folder, size_px=size_px, seed=seed)
    scene = replace(open_scene(sheet.image), name="sheet")
    settings = SegmentationSettings(
        model="unet",
        encoder="resnet10t",
        decoder="small",
        epochs=epochs,
        batch_size=4,
        patience=0,
        ema=0.99,
        threads=1,
        seed=seed,
    )
    context, _ = label_siose(sheet.reference, folder / "context.tif", like=scene.grid, legend=CONTEXT)
    table = split_patches(
        make_patches([scene], [context], size_px=PATCH_PX),
        "block",
        fractions=(0.55, 0.15, 0.3),
        block_m=PATCH_PX * scene.pixel_size_m,
        buffer_m=0.0,
        regions=None,
        region_field=None,
        seed=seed,
    )
    expert = train(table, folder / "context.safetensors", settings)
    shares = folder / "context_shares.tif"
    predicted, _ = map_of(expert, scene, folder / "context_map.tif", probabilities=shares)
    truth = truth_of(sheet)
    test = test_pixels(table, scene)
    rows = {"gate": {"forest_iou": iou(predicted == FOREST, truth["context"] == FOREST, test)}}
    bands = with_context(scene, shares)
    for name, labels in canopy_labels(sheet, scene, context, folder).items():
        inputs = {name: scene} | ({f"{name} + context": bands} if name == "heights" else {})
        for title, image in inputs.items():
            own = follow_splits(make_patches([image], [labels], size_px=PATCH_PX, min_labelled=0.02), table)
            started = time.process_time()
            canopy = train(own, folder / f"{title}.safetensors", settings)
            trained = time.process_time() - started
            trees, mapped = map_of(canopy, image, folder / f"{title}_map.tif")
            rows[title] = score(predicted, trees, truth, test) | {
                "training_cpu_s": round(trained, 1),
                "mapping_cpu_s": round(mapped, 2),
            }
    return rows


def canopy_labels(sheet: SheetFiles, scene: Scene, context: ClassMap, folder: Path) -> dict[str, ClassMap]:
    """Labels of tree cover by their source."""
    by_share = SioseRules(trees="fccarb", canopy_percent=70, open_percent=20)
    coarse = write_bands(
        folder / "ndsm_2m.tif",
        averaged(sheet.heights, scene, round(2 / scene.pixel_size_m)),
        scene.grid.zoom_out(round(2 / scene.pixel_size_m)),
        names=("height",),
        nodata=-1,
    )
    built = BuiltLand(context, ("artificial",))
    made = {
        name: label_siose(
            sheet.reference, folder / f"{name}.tif", like=scene.grid, legend=TREES, rules=rules
        )[0]
        for name, rules in (("covers", SioseRules()), ("fccarb", by_share))
    }
    for name, heights in (("heights", sheet.heights), ("heights of 2 m", coarse)):
        made[name] = write_canopy_labels(
            [heights], folder / f"{name}.tif", like=scene.grid, legend=TREES, built=built
        )
    return made


def averaged(heights: Path, scene: Scene, factor: int) -> NDArray[np.float32]:
    """Heights of larger pixels: the mean, as of a surface model of that size."""
    with SceneReader(open_scene(heights)) as reader:
        values = reader.read(scene.grid)[0]
    rows, cols = (side // factor for side in values.shape)
    blocks = values[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(blocks.mean(axis=(1, 3))[np.newaxis], np.float32)


def train(table: PatchTable, file: Path, settings: SegmentationSettings) -> Expert:
    return open_expert(train_segmentation(table, file, settings=settings, quiet=True))


def map_of(expert: Expert, scene: Scene, out: Path, **more: Any) -> tuple[NDArray[np.uint8], float]:
    started = time.process_time()
    predict_map(expert, scene, out, engine="torch", precision="fp32", window_px=576, **more)
    seconds = time.process_time() - started
    with MapReader(open_map(out)) as reader:
        return reader.read(scene.grid), seconds


def with_context(scene: Scene, shares: Path) -> Scene:
    """The scene, with the probabilities of the context expert as further bands."""
    bands = [replace(band, name=f"context:{band.name}") for band in open_scene(shares).bands]
    return replace(scene, bands=(*scene.bands, *bands))


def truth_of(sheet: SheetFiles) -> dict[str, NDArray[np.uint8]]:
    values = {}
    for name, path in (("context", sheet.truth), ("canopy", sheet.canopy)):
        with MapReader(open_map(path)) as reader:
            values[name] = reader.read(reader.map.grid)
    return values


def test_pixels(table: PatchTable, scene: Scene) -> NDArray[np.bool_]:
    chosen = np.zeros(tuple(scene.grid.shape), np.bool_)
    rows = table.of_split("test")
    for row, col in zip(rows["row"], rows["col"], strict=True):
        chosen[row : row + PATCH_PX, col : col + PATCH_PX] = True
    return chosen


def score(
    context: NDArray[np.uint8],
    trees: NDArray[np.uint8],
    truth: dict[str, NDArray[np.uint8]],
    test: NDArray[np.bool_],
) -> dict[str, float]:
    """Behind the gate: IoU of both classes; of the cascade: accuracy and mIoU of its finest classes."""
    gate = test & (context == FOREST)
    both = {
        f"{code}_iou": iou(trees == TREES[code].value, truth["canopy"] == TREES[code].value, gate)
        for code in ("tree", "open")
    }
    mapped = np.where(context == FOREST, 100 + trees, context)[test]
    true = np.where(truth["context"] == FOREST, 100 + truth["canopy"], truth["context"])[test]
    classes = np.unique(true)
    ious = [iou(mapped == value, true == value, np.ones(true.shape, np.bool_)) for value in classes]
    return both | {
        "cascade_accuracy": round(float((mapped == true).mean()), 4),
        "cascade_miou": round(float(np.mean(ious)), 4),
    }


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return round(float((a & b & among).sum() / max(1, ((a | b) & among).sum())), 4)


def mean_of(seeds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(float(np.mean([seed[name][key] for seed in seeds])), 4) for key in row}
        for name, row in seeds[0].items()
    }


if __name__ == "__main__":
    main()
