"""
The corine chain on real imagery: Landsat 8 and CORINE 2018 in Granada, beside two baselines on the same split.

    .venv/bin/python benchmarks/real_corine.py [--seeds 0 1 2] [--out FOLDER]

Needs ../shared/data/lanjaron_l8_clc (or TESELA_DATA). Image, polygons and CRS are as delivered: the image is in
EPSG:32630, the polygons in EPSG:25830. Blocks of ground are shared out to train, validation and test; all scores are
those of the test blocks, which neither network nor forest saw. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from tesela.assessment.confusion import Confusion, count_confusion
from tesela.assessment.scores import score
from tesela.chains.run import run_recipe
from tesela.io.maps import MapReader, open_map
from tesela.io.scenes import SceneReader
from tesela.patches.table import PatchTable, open_patches

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
RECIPE = """\
chain = "corine"
name = "lanjaron"
out = "level{level}"
seed = {seed}
legend = "corine-{level}"

[[scenes]]
name = "lanjaron"
paths = ["{data}/l8_b2b7_30m.tif"]
bands = ["blue", "green", "red", "nir", "swir1", "swir2"]
scale = 2.75e-5
offset = -0.2

[reference]
path = "{data}/clc2018_lanjaron.gpkg"
layer = "clc"
field = "CODE_18"

[patches]
size_px = 64
split = "block"
block = "1920 m"
fractions = [0.6, 0.15, 0.25]

[training]
model = "unet"
encoder = "resnet18"
decoder = "small"
epochs = {epochs}
patience = 0
batch_size = 8
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, help="keep maps and reports here")
    options = parser.parse_args()
    data = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve() / "lanjaron_l8_clc"
    if not data.exists():
        sys.exit(f"No data at {data}: set TESELA_DATA to the folder that holds lanjaron_l8_clc.")
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        runs = [
            one_run(out / f"seed{seed}", data, level=level, seed=seed, epochs=options.epochs)
            for level in (1, 2)
            for seed in options.seeds
        ]
    print(json.dumps({"runs": runs, "medians": medians(runs)}, indent=2))


def one_run(folder: Path, data: Path, *, level: int, seed: int, epochs: int) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"level{level}.toml"
    recipe.write_text(RECIPE.format(level=level, seed=seed, data=data, epochs=epochs), encoding="utf-8")
    begun = time.perf_counter()
    chain = run_recipe(recipe, quiet=True)
    seconds = time.perf_counter() - begun
    summary = chain.document
    network = {key: summary[key] for key in ("accuracy", "miou", "macro_f1")}
    out = folder / f"level{level}"
    table = open_patches(out / "patches" / "patches.parquet")
    baselines = judge_baselines(table, out / "labels" / "lanjaron.tif", seed=seed)
    return {
        "level": level,
        "seed": seed,
        "seconds": round(seconds, 1),
        "patches": table.counts,
        "classes_absent_from_test": summary["absent"],
        "scores": {"unet": network, **baselines},
    }


def judge_baselines(table: PatchTable, labels_path: Path, *, seed: int) -> dict[str, dict[str, float]]:
    """Majority class and a random forest per pixel: fitted on the ground of train, judged on that of test."""
    labels = open_map(labels_path)
    scene = next(iter(table.scenes.values()))
    with SceneReader(scene) as image, MapReader(labels) as reader:
        pixels = image.read(scene.grid)
        classes = reader.read(scene.grid)
    usable = np.isfinite(pixels).all(0) & (classes > 0)
    ground = {split: ground_of(table, split, classes.shape) & usable for split in ("train", "test")}
    x_train, y_train = pixels[:, ground["train"]].T, classes[ground["train"]]
    x_test, y_test = pixels[:, ground["test"]].T, classes[ground["test"]]
    values, counts = np.unique(y_train, return_counts=True)
    forest = RandomForestClassifier(200, min_samples_leaf=3, n_jobs=-1, random_state=seed).fit(
        x_train, y_train
    )
    answers = {
        "majority": np.full_like(y_test, values[counts.argmax()]),
        "random_forest": forest.predict(x_test).astype(np.uint8),
    }
    found: dict[str, dict[str, float]] = {}
    for name, answer in answers.items():
        scores = score(Confusion.empty(labels.legend) + count_confusion(y_test, answer, labels.legend))
        found[name] = {"accuracy": scores.accuracy, "miou": scores.mean_iou, "macro_f1": scores.macro_f1}
    return found


def ground_of(table: PatchTable, split: str, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of the scene that lie in patches of a split."""
    mask = np.zeros(shape, bool)
    for row, col in table.of_split(split)[["row", "col"]].itertuples(index=False):
        mask[row : row + table.size_px, col : col + table.size_px] = True
    return mask


def medians(runs: list[dict[str, object]]) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = {}
    for level in sorted({run["level"] for run in runs}):
        chosen = [run["scores"] for run in runs if run["level"] == level]
        result[f"level {level}"] = {
            model: {
                key: round(statistics.median(item[model][key] for item in chosen), 4)
                for key in chosen[0][model]
            }
            for model in chosen[0]
        }
    return result


if __name__ == "__main__":
    main()
