"""
Experts of the lulucf chain trained one by one and jointly, for the same processor time, on virtual sheets.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 .venv/bin/python benchmarks/joint.py [--seeds 0 1] [--budget 30]
        [--keep FOLDER]

Each seed is a sheet of 768 px whose SIOSE AR file has mistakes, in patches of 64 px, and another sheet of 1024 px
without mistakes that is mapped only. The chain trains context, canopy (by heights) and species (four, and leaf types)
with `budget` processor seconds for each expert, and jointly with three times as many. U-Nets, ResNet10t, random
weights, small decoder, one thread. Scores: each expert on its test patches; the cascade on the test patches, and on the
places of these patches on the other sheet, whose labels are true. Mapping: processor seconds of the cascade on the
other sheet, in plain torch in fp32, and with the engine and precision that `auto` chooses, the mean of two runs after
a first; of the joint experts also where they share the encoder alone, for which a weight of each decoder is changed by
a millionth (gates, and so the work, stay as they are). With `--keep` nothing there is trained again.
Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mapping.probe import machine
from tesela.chains.run import run_recipe
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import open_cascade
from tesela.mapping.cascade_map import predict_cascade
from tesela.simulate.sheet.files import write_sheet

EXPERTS = ("context", "canopy", "species")
OTHER_PX = 1024

RECIPE = """\
chain = "lulucf"
name = "{name}"
out = "{name}"
seed = {seed}
joint = {joint}
species = ["24", "26", "45", "43"]
imbalance = ["loss"]

[[scenes]]
name = "sheet"
paths = ["sheet/{image}"]
[[scenes]]
name = "other"
paths = ["other/{other_image}"]
reference = "other/{other_reference}"
use = "map"

[reference]
path = "sheet/{reference}"
[reference.canopy]
paths = ["sheet/ndsm.tif", "other/ndsm.tif"]

[patches]
size_px = 64
block = "64 m"

[training]
model = "unet"
encoder = "resnet10t"
decoder = "small"
weights = "random"
batch_size = 8
ema = 0.99
threads = 1
budget = "{budget} s"

[mapping]
engine = "torch"
precision = "fp32"
window_px = 576
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--budget", type=float, default=30, help="processor seconds of an expert")
    parser.add_argument("--keep", type=Path, help="folder for sheets and runs; default: a temporary one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        home = options.keep or Path(scratch)
        seeds = {
            str(seed): measure(home / str(seed), seed=seed, budget_s=options.budget) for seed in options.seeds
        }
    print(json.dumps({"machine": machine(), "seeds": seeds}, indent=2))


def measure(folder: Path, *, seed: int, budget_s: float) -> dict[str, dict[str, object]]:
    sheet = write_sheet(folder / "sheet", size_px=768, seed=seed)
    other = write_sheet(
        folder / "other", size_px=OTHER_PX, seed=1000 + seed, label_errors=0, outdated=0, shifted=0
    )
    rows = {}
    for name, jointly in (("separate", False), ("joint", True)):
        recipe = folder / f"{name}.toml"
        text = RECIPE.format(
            name=name,
            seed=seed,
            joint=str(jointly).lower(),
            image=sheet.image.name,
            reference=sheet.reference.name,
            other_image=other.image.name,
            other_reference=other.reference.name,
            budget=budget_s * (len(EXPERTS) if jointly else 1),
        )
        recipe.write_text(text, encoding="utf-8")
        run_recipe(recipe, until="patches", quiet=True)
        begun = time.process_time()
        done = run_recipe(recipe, until="train" if jointly else "train-species", quiet=True)
        trained = time.process_time() - begun
        run_recipe(recipe, quiet=True)
        rows[name] = {
            "training_cpu_s": round(trained, 1) if done.run.done else "trained before",
            **scores_of(folder / name),
            **mapping_of(folder / name, other.image),
        }
        print(seed, name, json.dumps(rows[name]), file=sys.stderr, flush=True)
    return rows


def scores_of(run: Path) -> dict[str, object]:
    """Accuracy, mIoU and macro F1 by expert and area."""
    table = json.loads((run / "report" / "table.json").read_text(encoding="utf-8"))
    scores = {
        f"{row['name']}, {'other sheet' if row['area'].startswith('other') else row['area']}": {
            key: round(row[key], 4) for key in ("accuracy", "miou", "macro_f1")
        }
        for row in table["rows"]
    }
    return {"scores": scores}


def mapping_of(run: Path, image: Path) -> dict[str, object]:
    """Processor seconds of the cascade on a sheet, and on which engines it ran."""
    cascade = open_cascade(run / "maps" / "loss" / "cascade.toml")
    scene = replace(open_scene(image), name="other")
    result: dict[str, object] = {}

    def measured(title: str, engine: str, precision: str) -> None:
        seconds: list[float] = []
        for _ in range(3):
            begun = time.process_time()
            made = predict_cascade(
                cascade, scene, run / "timed.tif", window_px=576, engine=engine, precision=precision
            )
            seconds.append(time.process_time() - begun)
        result[f"mapping_cpu_s, {title}"] = round(float(np.mean(seconds[1:])), 2)
        result[f"engines, {title}"] = dict(made.engines)

    measured("auto", "auto", "auto")
    measured("torch", "torch", "fp32")
    if len(result["engines, torch"]) == 1:  # type: ignore[arg-type]
        for number, member in enumerate(cascade.members[1:], 1):
            first: Any = next(member.expert.network.decoder.parameters())  # type: ignore[union-attr,operator]
            first.data[(0,) * first.ndim] += number * 1e-6
        measured("torch, encoder alone shared", "torch", "fp32")
    return result


if __name__ == "__main__":
    main()
