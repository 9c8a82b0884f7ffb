"""
Several dates with gaps: bands as channels of a U-Net, a shared encoder with attention over dates, boosted trees.

    .venv/bin/python benchmarks/several_dates.py --seeds 0 1 --seconds 60 [--keep FOLDER] [--models unet unet_dates]

Makes the virtual region of each seed (three dates, five bands), labelled by its truth at CORINE level 2, and a second
one whose dates have clouds over 20 to 40 % of their pixels, each date its own. Each model trains for the same processor
time on both; those trained on complete dates also map the cloudy scene. "unet" is the U-Net with all bands as
channels, which reads a missing date as its mean ("unet" of a recipe leaves such pixels out). Scores are those of all
labelled pixels of the test patches. With --keep each result is a file of its own, and is not measured again while that
file is there. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import rasterio

import tesela
from tesela.core.legend import Legend
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches
from tesela.simulate.noise import fractal
from tesela.simulate.region.region import write_region
from tesela.simulate.region.spectra import SEASONS
from tesela.training.segmentation.validation import objective_of, validate_model

BANDS = ("B02", "B03", "B04", "B08", "B11")
MODELS = ("unet", "unet_dates", "boosting")
PATCH_PX = 64


def main() -> None:
    """Measure, print the table and the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=int, default=60, help="processor time of each training")
    parser.add_argument("--size-px", type=int, default=640, help="side of the virtual region")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--trained", nargs="+", default=["complete", "gaps"], choices=["complete", "gaps"])
    parser.add_argument("--keep", type=Path, help="folder of results, one file each")
    chosen = parser.parse_args()
    rows = [row for seed in chosen.seeds for row in measure(seed, chosen)]
    for row in rows:
        print(
            "{seed} {model:10} {trained:8} {tested:8} {accuracy:.4f} {macro_f1:.4f}".format(**row),
            file=sys.stderr,
        )
    print(json.dumps({"seconds": chosen.seconds, "size_px": chosen.size_px, "rows": rows}, indent=1))


def measure(seed: int, chosen: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of one seed of region, split and training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables: dict[str, PatchTable] = {}
        for model in chosen.models:
            for trained in chosen.trained:
                kept = chosen.keep / f"{model}-{trained}-{seed}.json" if chosen.keep else None
                if kept is not None and kept.exists():
                    yield from json.loads(kept.read_text())
                    continue
                if not tables:
                    tables = make_tables(folder, seed=seed, size_px=chosen.size_px)
                rows = list(train_and_test(model, trained, tables, folder, seed=seed, seconds=chosen.seconds))
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps(rows))
                yield from rows


def make_tables(folder: Path, *, seed: int, size_px: int) -> dict[str, PatchTable]:
    """Patches of the complete and of the cloudy scene, in the same split."""
    region = write_region(
        folder, size_px=size_px, seed=seed, seasons=SEASONS, bands=BANDS, clouds="none", min_area_ha=3.0
    )
    names = [f"{band}_{season}" for season in SEASONS for band in BANDS]
    complete = tesela.open_scene(region.scenes, bands=names)
    rng = np.random.default_rng([seed, 7])
    images, pixel_m = [], complete.pixel_size_m
    for path in region.scenes:
        with rasterio.open(path) as data:
            image = data.read()
        field = fractal(rng, image.shape[1:], pixel_m=pixel_m, longest_m=3000, shortest_m=100)
        image[:, field > np.quantile(field, 1 - rng.uniform(0.2, 0.4))] = 0
        images.append(image)
    cloudy_file = write_bands(
        folder / "cloudy.tif", np.concatenate(images), complete.grid, names=names, nodata=0, scale=1e-4
    )
    labels = _labels(region.truth, folder / "labels.tif")
    tables = {}
    for kind, scene in (("complete", complete), ("gaps", tesela.open_scene(cloudy_file))):
        scene = replace(scene, name="area")
        cut = make_patches([scene], [labels], size_px=PATCH_PX, min_labelled=0.01)
        tables[kind] = split_patches(
            cut, "block", fractions=(0.6, 0.15, 0.25), block_m=2 * PATCH_PX * pixel_m, seed=seed
        )
    same = (
        tables["complete"]
        .frame[["row", "col", "split"]]
        .equals(tables["gaps"].frame[["row", "col", "split"]])
    )
    if not same:
        raise SystemExit("the two scenes are split differently")
    return tables


def _labels(truth: Path, out: Path) -> tesela.ClassMap:
    """The truth at level 2, with a legend of the classes that occur."""
    finest, legend = open_legend("corine-3"), open_legend("corine-2")
    by_code = {item.code: item.value for item in legend.classes}
    table = np.zeros(256, np.uint8)
    for item in finest.classes:
        table[item.value] = by_code[item.code[:2]]
    opened = tesela.open_map(truth, legend=finest)
    with rasterio.open(truth) as data:
        values = table[data.read(1)]
    classes = tuple(replace(item, parent="") for item in legend.classes if (values == item.value).any())
    return tesela.write_map(out, values, opened.grid, legend=Legend("present", classes))


def train_and_test(
    model: str, trained: str, tables: Mapping[str, PatchTable], folder: Path, *, seed: int, seconds: int
) -> Iterator[dict[str, object]]:
    """Train a model, and score it on the test patches of the scene that it was trained on, and of the cloudy one."""
    settings = tesela.SegmentationSettings(
        model=model,
        encoder="resnet10t",
        decoder="small",
        budget=f"{seconds} s",
        batch_size=8,
        ema=0.98,
        accelerator="cpu",
        precision="fp32",
        seed=seed,
    )
    begun = time.process_time()
    file = folder / f"{model}-{trained}.safetensors"
    expert = tesela.train_segmentation(tables[trained], settings, file, quiet=True)
    spent_s = time.process_time() - begun
    for tested in dict.fromkeys((trained, "gaps")):
        pixels = validate_model(
            expert.network, tables[tested], expert.header.standardisation, split="test", seed=seed
        )
        counts = pixels.counts(pixels.scores.argmax(1)).sum(0)
        yield {
            "seed": seed,
            "model": model,
            "trained": trained,
            "tested": tested,
            "accuracy": round(float(objective_of(counts, "accuracy")), 4),
            "macro_f1": round(float(objective_of(counts, "macro_f1")), 4),
            "pixels": int(counts.sum()),
            "cpu_s": round(spent_s, 1),
            "settings": asdict(settings) | {"summary": expert.header.architecture.summary},
        }


if __name__ == "__main__":
    main()
