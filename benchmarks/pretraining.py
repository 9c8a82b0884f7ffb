"""
What pretraining brings with few labels, on the virtual region.

    .venv/bin/python benchmarks/pretraining.py [--models tempcnn,brits] [--shares 0.05,1] [--seeds 3] [--steps 1500]

The small region of `tesela demo unmixing` is made into a cube, shares and pixels by the chain's stages. Of the pixels
of the training and validation blocks a share keeps its labels, drawn at random. Networks are trained on them from a
random start, after finding hidden months in all pixels of the cube, and after the same on the same series as files of
TimeSpec4LULC (so without layers and places). Steps, rates and weights' choice are equal. Prints the mean RMSE over the
classes on all test pixels, in per cent, and its mean and spread over seeds, as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tesela.chains.run import build_chain
from tesela.chains.unmixing.chain import UnmixingChain
from tesela.chains.unmixing.demo import write_unmixing_demo
from tesela.io.timespec import LabelledSeries, read_timespec, write_timespec
from tesela.models.output import Tensor
from tesela.patches.pixels import NO_SPLIT, PixelTable, read_pixel_table, read_pixels, table_of_timespec
from tesela.recipes.schema import load_recipe
from tesela.recipes.stages import run_stages
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.pretraining import pretrain
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing

BATCH = 64
TEST = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="tempcnn,brits")
    parser.add_argument("--shares", default="0.05,1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--epochs", type=int, default=60, help="of pretraining")
    parser.add_argument("--region", help="folder that keeps the region")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        table, everything = read_region(Path(options.region or folder))
        files = as_timespec(everything, Path(folder) / "timespec")
    found: dict[str, object] = {
        "steps": options.steps,
        "pretraining_epochs": options.epochs,
        "pixels": table.counts,
        "unlabelled": len(everything),
        "gaps": round(float(np.isnan(everything.values).mean()), 3),
    }
    sources = {"own cube": everything, "TimeSpec4LULC files": files}
    for model in options.models.split(","):
        for share in (float(text) for text in options.shares.split(",")):
            runs: dict[str, list[float]] = {"random start": []} | {name: [] for name in sources}
            for seed in range(options.seeds):
                labelled = keep_labels(table, share, seed=seed)
                plan = settings_for(model, labelled, steps=options.steps, seed=seed)
                runs["random start"].append(score(table, labelled, plan, None))
                for name, series in sources.items():
                    start = pretrain(series, plan, like=labelled, epochs=options.epochs)
                    runs[name].append(score(table, labelled, plan, start))
            found[f"{model}, {share:.0%} of labels"] = {
                "labelled": labelled.counts["train"],
                **{name: summary(values) for name, values in runs.items()},
            }
    print(json.dumps(found, indent=2))


def read_region(folder: Path) -> tuple[PixelTable, PixelTable]:
    """Pixels of the demo's region with shares and splits, and all pixels of its cube."""
    recipe, place = load_recipe(write_unmixing_demo(folder, size="small", seed=0))
    chain = build_chain(recipe, place, quiet=True)
    assert isinstance(chain, UnmixingChain)
    run_stages(chain.stages, until="pixels")
    return read_pixel_table(chain.pixel_file), read_pixels(chain.cube)


def as_timespec(table: PixelTable, folder: Path) -> PixelTable:
    """The series, written and read as the published files are: one class, no layers, no places."""
    values = np.roll(table.values, -first_january(table), axis=1)
    series = LabelledSeries(values, ("Any",), np.zeros(len(table), np.int64))
    return table_of_timespec(read_timespec(write_timespec(series, folder)))


def first_january(table: PixelTable) -> int:
    return table.months.index(1)


def keep_labels(table: PixelTable, share: float, *, seed: int) -> PixelTable:
    """The table with labels on a share of the pixels of train and val."""
    drawn = np.random.default_rng(seed).random(len(table))
    splits = np.where((table.splits != TEST) & (drawn >= share), NO_SPLIT, table.splits)
    return replace(table, splits=splits.astype(np.uint8))


def settings_for(model: str, labelled: PixelTable, *, steps: int, seed: int) -> UnmixingSettings:
    """Equal numbers of steps, whatever the number of labels."""
    per_epoch = -(-labelled.counts["train"] // BATCH)
    epochs = -(-steps // per_epoch)
    return UnmixingSettings(
        model=model,  # type: ignore[arg-type]
        context=0,
        epochs=epochs,
        batch_size=BATCH,
        validate_every=max(1, epochs // 30),
        accelerator="cpu",
        seed=seed,
    )


def score(
    table: PixelTable, labelled: PixelTable, plan: UnmixingSettings, start: dict[str, Tensor] | None
) -> float:
    """Mean RMSE over the classes on the test pixels, in per cent."""
    test = table.take(table.splits == TEST)
    shares = unmix_pixels(train_unmixing(labelled, plan, start=start), test).shares
    return float(100 * np.sqrt(np.square(shares - test.targets).mean(0)).mean())


def summary(values: list[float]) -> dict[str, float]:
    return {
        "rmse": round(statistics.mean(values), 3),
        "spread": round(statistics.stdev(values), 3) if len(values) > 1 else 0.0,
    }


if __name__ == "__main__":
    main()
