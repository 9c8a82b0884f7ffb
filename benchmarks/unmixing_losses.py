"""
Heads and losses of an unmixing network, on the virtual region or on Lombardy.

    .venv/bin/python benchmarks/unmixing_losses.py [--data demo|lombardy] [--rows softmax hurdle] [--seeds 0 1]
        [--epochs 60] [--region FOLDER] [--out losses.json]

`tempcnn` with two pixels of neighbours is trained with each head and loss on the same pixels; test blocks are
evaluated. For each level it prints MAE, RMSE, CC and F1, and at the finest level: the part of the shares that are
exactly 0 in the reference and in the map (below half a step of a map's file), the mean share predicted where the
reference has 0, and the errors by class. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tesela.assessment.abundance.scores import SCORES, AbundanceSums
from tesela.io.abundance import STEPS
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing

ROWS: dict[str, dict[str, object]] = {
    "softmax": {},
    "softmax, squared error only": {"kl": 0.0},
    "softmax, cross-entropy only": {"mse": 0.0},
    "dirichlet": {"head": "dirichlet"},
    "sparsemax": {"head": "sparsemax"},
    "hurdle": {"head": "hurdle"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=("demo", "lombardy"), default="demo")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--region", help="folder that keeps the virtual region")
    parser.add_argument("--out", help="JSON file; default: standard output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed in options.seeds:
        table = read_data(options.data, options.region, seed=seed)
        for name in options.rows:
            settings = replace(
                UnmixingSettings(epochs=options.epochs, seed=seed, accelerator="cpu"),
                **ROWS[name],  # type: ignore[arg-type]
            )
            begun = time.process_time()
            expert = train_unmixing(table, settings, quiet=True)
            seconds = time.process_time() - begun
            test = table.take(table.splits == 2)
            shares = unmix_pixels(expert, table, table.splits == 2).shares
            runs.append({"row": name, "seed": seed, "cpu_s": round(seconds, 1), **scores(test, shares)})
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    text = json.dumps({"data": options.data, "epochs": options.epochs, "runs": runs}, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def read_data(name: str, region: str | None, *, seed: int) -> PixelTable:
    """Pixels with shares and splits."""
    if name == "demo":
        from pretraining import read_region

        with tempfile.TemporaryDirectory() as folder:
            return read_region(Path(region or folder))[0]
    from real_unmixing import data_folder, read_table

    return split_pixels(read_table(data_folder()), seed=seed)


def scores(test: PixelTable, shares: np.ndarray) -> dict[str, object]:
    """Scores at all levels, and what is said about shares of exactly 0."""
    assert test.legend is not None
    out: dict[str, object] = {}
    for level in range(1, test.legend.depth + 1):
        truth, estimate = (
            replace(test, targets=part.astype(np.float32)).at_level(level) for part in (test.targets, shares)
        )
        assert truth.legend is not None
        sums = AbundanceSums.of(truth.legend, truth.targets, estimate.targets)
        out[f"level {level}"] = {score: round(sums.mean(score), 4) for score in SCORES}
        if level == test.legend.depth:
            out["by class"] = {
                code: {score: round(float(sums.by_class(score)[k]), 3) for score in ("mae", "rmse", "f1")}
                for k, code in enumerate(truth.legend.codes)
            }
    zero = test.targets == 0
    out["zeros"] = {
        "reference": round(float(zero.mean()), 4),
        "map": round(float((shares < 0.5 / STEPS).mean()), 4),
        "mean share where the reference has 0, %": round(float(100 * shares[zero].mean()), 3),
    }
    return out


if __name__ == "__main__":
    main()
