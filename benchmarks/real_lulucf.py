"""
The lulucf chain on real imagery: a cascade beside one flat U-Net of the same size and training time, and canopy.

    .venv/bin/python benchmarks/real_lulucf.py [--epochs 12] [--seeds 0] [--only land|crowns|urban] [--out FOLDER]

Needs ../shared/data (or TESELA_DATA). Land: twelve patches of 256 px of aerial imagery at 1 m with land cover
(Chesapeake Bay, West Virginia 2014), laid side by side; a context expert (water, vegetation, bare or built) and, where
it says vegetation, a trees expert (tree canopy, low vegetation), against one U-Net of the four classes. Experts are
trained for E epochs each, the flat network for 2 E, on the same patches of one split; all networks are of one size.
Crowns: plots of 40 m at 0.1 m, halved to 0.2 m, with boxes around crowns (NEON). Urban: chips at 0.6 m with tree points
(California), drawn as discs of 3 m. Both: a canopy expert against greenness (excess green) with the threshold that is
best on the training ground. All scores are those of held-out ground, on which the network was never trained or chosen.
Times are CPU seconds. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from tesela.assessment.assessment import assess
from tesela.assessment.confusion import Confusion, count_confusion
from tesela.assessment.scores import score
from tesela.chains.lulucf.scores import evaluate_expert
from tesela.chains.target_patches import follow_splits
from tesela.core.legend import LandClass, Legend
from tesela.core.scene import Scene
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, MapReader, open_map, write_map
from tesela.io.scenes import SceneReader, open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.cascade_runner import CascadeRules
from tesela.mapping.predict import predict_map
from tesela.models.expert import open_expert
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.train import train_segmentation

RGB = ("red", "green", "blue")
CONTEXT = Legend(
    "context",
    (
        LandClass(1, "water", "Water", "#1f78b4"),
        LandClass(2, "vegetation", "Vegetation", "#006d2c"),
        LandClass(3, "bare", "Bare or built", "#b0b0b0"),
    ),
)
TREES = Legend(
    "trees",
    (LandClass(1, "tree", "Tree canopy", "#1a7a3a"), LandClass(2, "low", "Low vegetation", "#a1d76a")),
)
FLAT = Legend(
    "flat",
    (
        LandClass(1, "water", "Water", "#1f78b4"),
        LandClass(2, "tree", "Tree canopy", "#1a7a3a"),
        LandClass(3, "low", "Low vegetation", "#a1d76a"),
        LandClass(4, "bare", "Bare or built", "#b0b0b0"),
    ),
)
TO = {
    "context": np.array([0, 1, 2, 2, 3, 3, 3], np.uint8),
    "trees": np.array([0, 0, 1, 2, 0, 0, 0], np.uint8),
    "flat": np.array([0, 1, 2, 3, 4, 4, 4], np.uint8),
}
"""Values of each legend by land cover: 1 water, 2 tree canopy, 3 low vegetation, 4 barren, 5 and 6 impervious."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--only", choices=tuple(PARTS))
    parser.add_argument("--out", type=Path, help="keep imagery, experts and maps here")
    options = parser.parse_args()
    data = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve()
    if not (data / "chesapeake_naip_lc").exists():
        sys.exit(f"No data at {data}: set TESELA_DATA to the folder that holds chesapeake_naip_lc.")
    found: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, part in PARTS.items():
            if options.only not in (None, name):
                continue
            for seed in options.seeds:
                folder = (options.out or Path(temporary)) / f"{name}{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                training = SegmentationSettings(
                    model="unet",
                    encoder=options.encoder,
                    decoder="small",
                    epochs=options.epochs,
                    patience=0,
                    batch_size=4,
                    ema=0.99,
                    seed=seed,
                )
                found.setdefault(name, []).append(part(data, folder, training))
    print(json.dumps(found, indent=2))


def land(data: Path, folder: Path, training: SegmentationSettings) -> dict[str, object]:
    """The cascade context -> trees against one flat network."""
    scene, cover = read_chesapeake(data / "chesapeake_naip_lc" / "patches", folder)
    tables: dict[str, PatchTable] = {}
    for legend in (FLAT, CONTEXT, TREES):
        labels = folder / f"{legend.name}.tif"
        write_map(labels, TO[legend.name][cover], scene.grid, legend=legend)
        least = 0.5 if legend is FLAT else 0.02
        table = make_patches([scene], [open_map(labels)], size_px=128, min_labelled=least)
        split = split_patches(table, "block", block_m=256, fractions=(0.5, 0.2, 0.3), seed=training.seed)
        tables[legend.name] = split if legend is FLAT else follow_splits(table, tables["flat"])
    seconds, experts = {}, {}
    for name, table in tables.items():
        epochs = training.epochs * (2 if name == "flat" else 1)
        experts[name] = folder / f"{name}.safetensors"
        _, seconds[name] = timed(
            lambda table=table, epochs=epochs, name=name: train_segmentation(
                table, experts[name], settings=replace(training, epochs=epochs), quiet=True
            )
        )
    context, trees = open_expert(experts["context"]), open_expert(experts["trees"])
    cascade = Cascade(
        "land", (Member("context", context), Member("trees", trees, Gate("context", ("vegetation",))))
    )
    rules = CascadeRules(isolated_px=0)
    made, mapping = {}, {}
    made["cascade"], mapping["cascade"] = timed(
        lambda: predict_cascade(cascade, scene, folder / "map_cascade.tif", engine="torch", rules=rules).map
    )
    for name, expert in (("context", context), ("trees", trees), ("flat", open_expert(experts["flat"]))):
        made[name], mapping[name] = timed(
            lambda name=name, expert=expert: (
                predict_map(expert, scene, folder / f"map_{name}.tif", engine="torch").map
            )
        )
    values = {name: read(item) for name, item in made.items()}
    gated = values["context"] == CONTEXT["vegetation"].value
    nodes = cascade.values(cascade.members[1])[CONTEXT["vegetation"].value]
    everywhere = np.where(gated, nodes[TREES.index_table[values["trees"]] % 2], values["context"])
    leaf = {"water": "water", "vegetation": None, "bare": "bare", "tree": "tree", "low": "low"}
    to_flat = np.zeros(256, np.uint8)
    for item in cascade.legend.classes:
        code = leaf[item.code.split(".")[-1]]
        to_flat[item.value] = 0 if code is None else FLAT[code].value
    system = folder / "system.tif"
    write_map(system, to_flat[values["cascade"]], scene.grid, legend=FLAT)
    test = tables["flat"].of_split("test")
    reference = open_map(folder / "flat.tif")
    return {
        "patches": tables["flat"].counts,
        "training_cpu_seconds": rounded(seconds),
        "mapping_cpu_seconds": rounded(mapping),
        "gate_open": round(float(gated.mean()), 4),
        "pixels_unlike_experts_everywhere": int((everywhere != values["cascade"]).sum()),
        "scores": {
            "context": scores_of(evaluate_expert(context, tables["context"], "test")),
            "trees": scores_of(evaluate_expert(trees, tables["trees"], "test")),
            "cascade": scores_of(assess(open_map(system), reference, within=test, edges_px=()).confusion),
            "flat": scores_of(assess(made["flat"], reference, within=test, edges_px=()).confusion),
        },
    }


def crowns(data: Path, folder: Path, training: SegmentationSettings) -> dict[str, object]:
    """Canopy on NEON's plots: boxes around crowns, a plot is a block."""
    pairs = []
    for path in sorted((data / "neon_tree_crowns").glob("*.tif")):
        with rasterio.open(path) as file:
            image = file.read(
                out_shape=(3, file.height // 2, file.width // 2), resampling=rasterio.enums.Resampling.average
            )
            grid = GeoBox(image.shape[1:], file.transform * Affine.scale(2), str(file.crs))
        boxes = gpd.read_file(path.with_name(f"{path.stem}_crowns.gpkg")).to_crs(str(grid.crs))
        pairs.append((path.stem, image, grid, [(shape, 1) for shape in boxes.geometry]))
    return canopy(pairs, folder, training, size_px=96)


def urban(data: Path, folder: Path, training: SegmentationSettings) -> dict[str, object]:
    """Canopy on city chips: discs of 3 m around tree points, a chip is a block."""
    pairs = []
    for path in sorted((data / "urban_tree_naip" / "images").glob("*.tif")):
        with rasterio.open(path) as file:
            image, grid = (
                file.read((1, 2, 3)),
                GeoBox((file.height, file.width), file.transform, str(file.crs)),
            )
        points = path.parents[1] / "json" / f"{path.stem}.json"
        discs = []
        if points.exists():
            frame = gpd.read_file(points).set_crs(str(grid.crs), allow_override=True)
            discs = [(point.buffer(3.0), 1) for point in frame.geometry]
        pairs.append((path.stem, image, grid, discs))
    return canopy(pairs, folder, training, size_px=128)


def canopy(
    pairs: list[tuple[str, NDArray[np.uint8], GeoBox, list[tuple[object, int]]]],
    folder: Path,
    training: SegmentationSettings,
    *,
    size_px: int,
) -> dict[str, object]:
    """Train a canopy expert on half of the plots, choose on a sixth, judge on a third."""
    legend = open_legend("tree-cover")
    scenes, labels = [], []
    for name, image, grid, shapes in pairs:
        write_bands(folder / f"{name}.tif", image, grid, names=RGB)
        mask = np.zeros(grid.shape, np.uint8)
        if shapes:
            rasterize(shapes, out=mask, transform=grid.affine)
        write_map(folder / f"{name}_labels.tif", np.where(mask, 1, 2).astype(np.uint8), grid, legend=legend)
        scenes.append(open_scene(folder / f"{name}.tif"))
        labels.append(open_map(folder / f"{name}_labels.tif"))
    table = make_patches(scenes, labels, size_px=size_px)
    order = np.random.default_rng(training.seed).permutation(len(scenes))
    parts = np.split(order, [len(order) // 2, len(order) * 2 // 3])
    assign = {
        scenes[i].name: name for name, part in zip(("train", "val", "test"), parts, strict=True) for i in part
    }
    table = split_patches(table, "region", assign=assign)
    expert, seconds = timed(
        lambda: open_expert(
            train_segmentation(table, folder / "canopy.safetensors", settings=training, quiet=True)
        )
    )
    test = [item for item in scenes if assign[item.name] == "test"]
    _, mapping = timed(
        lambda: [predict_map(expert, item, folder / f"{item.name}_map.tif", engine="torch") for item in test]
    )
    return {
        "plots": {name: len(part) for name, part in zip(("train", "val", "test"), parts, strict=True)},
        "training_cpu_seconds": round(seconds, 1),
        "mapping_cpu_seconds": round(mapping, 1),
        "mapped_mpx": round(sum(item.grid.shape[0] * item.grid.shape[1] for item in test) / 1e6, 2),
        "scores": {
            "canopy": scores_of(evaluate_expert(expert, table, "test")),
            "greenness": scores_of(judge_greenness(scenes, labels, assign, legend)),
        },
    }


def judge_greenness(
    scenes: list[Scene], labels: list[ClassMap], assign: dict[str, str], legend: Legend
) -> Confusion:
    """Excess green (2 G - R - B) / (R + G + B), above the threshold that is best on the training plots."""
    index: dict[str, list[NDArray[np.float32]]] = {"train": [], "test": []}
    truth: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    for scene, found in zip(scenes, labels, strict=True):
        split = assign[scene.name]
        if split in index:
            with SceneReader(scene) as reader:
                red, green, blue = reader.read(scene.grid)
            index[split].append((2 * green - red - blue) / np.maximum(red + green + blue, 1))
            truth[split].append(read(found))
    train, answer = (
        np.concatenate([x.ravel() for x in index["train"]]),
        np.concatenate([x.ravel() for x in truth["train"]]),
    )

    def mean_iou(threshold: float) -> float:
        tree = np.where(train > threshold, 1, 2).astype(np.uint8)
        return score(count_confusion(answer[None], tree[None], legend)).mean_iou

    best = max(np.quantile(train, np.linspace(0.02, 0.98, 49)), key=mean_iou)
    total = Confusion.empty(legend)
    for values, found in zip(index["test"], truth["test"], strict=True):
        total += count_confusion(found, np.where(values > best, 1, 2).astype(np.uint8), legend)
    return total


def read_chesapeake(folder: Path, out: Path) -> tuple[Scene, NDArray[np.uint8]]:
    """The twelve patches side by side as one scene of 1024 x 768 px, and their land cover."""
    paths = sorted(folder.glob("*.npz"))
    arrays = [np.load(path)["arr_0"][0] for path in paths]
    grid = GeoBox((768, 1024), Affine(1, 0, 500_000, 0, -1, 4_200_000), "EPSG:26917")
    image, cover = np.zeros((3, 768, 1024), np.uint8), np.zeros((768, 1024), np.uint8)
    for number, array in enumerate(arrays):
        row, col = 256 * (number // 4), 256 * (number % 4)
        image[:, row : row + 256, col : col + 256] = np.clip(array[:3], 0, 255)
        cover[row : row + 256, col : col + 256] = np.where(array[8] <= 6, array[8], 0)
    return open_scene(write_bands(out / "scene.tif", image, grid, names=RGB)), cover


def read(found: ClassMap) -> NDArray[np.uint8]:
    with MapReader(found) as reader:
        return reader.read(found.grid)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    made = work()
    return made, time.process_time() - begun


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


def scores_of(confusion: Confusion) -> dict[str, float | int]:
    found = score(confusion)
    return {
        "accuracy": round(found.accuracy, 4),
        "miou": round(found.mean_iou, 4),
        "macro_f1": round(found.macro_f1, 4),
        "evaluated_px": found.evaluated_px,
        "iou": {item.name: None if item.iou != item.iou else round(item.iou, 4) for item in found.classes},
    }


PARTS: dict[str, Callable[[Path, Path, SegmentationSettings], dict[str, object]]] = {
    "land": land,
    "crowns": crowns,
    "urban": urban,
}

if __name__ == "__main__":
    main()
