"""
What pretraining brings with few labels, on the virtual region and on Lombardy.

    .venv/bin/python benchmarks/pretraining.py [--data virtual|real] [--models tempcnn,brits] [--shares 0.05,0.2,1]
        [--seeds 3] [--steps 1500] [--epochs 60] [--regions 3] [--rates 1,0.3] [--rows ...] [--region FOLDER]
        [--out FILE]

Virtual: the small region of `tesela demo unmixing`; other regions (other seeds) give pure pixels, whose classes are
learned first. Real: MODIS NDVI of Lombardy with CORINE shares, after the classes of the MODIS series of Mato Grosso.
Of the pixels of the training and validation blocks a share keeps its labels, drawn at random. Rows:

from scratch           random start
gaps                   hidden months of all pixels of the own cube, without labels
fine-tuned             classes of pure series, then training at the rates of --rates for the pretrained weights
fine-tuned, both       classes and hidden months of the same series

Steps, rates of the head and choice of weights are equal. Prints the mean RMSE over the classes on all test pixels, in
per cent, with mean and spread over the seeds, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tesela.chains.run import build_chain
from tesela.chains.unmixing.chain import UnmixingChain
from tesela.chains.unmixing.demo import write_unmixing_demo
from tesela.core.legend import LandClass, Legend
from tesela.models.output import Tensor
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import NO_SPLIT, PixelTable, read_pixel_table, read_pixels
from tesela.recipes.schema import open_recipe
from tesela.recipes.stages import run_stages
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.pretraining import pretrain
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing

NDVI_STEPS = 100
"""NDVI of Lombardy is stored as 0 to 100 for 0 to 1."""

BATCH = 64
TEST = 2
ROWS = ("from scratch", "gaps", "fine-tuned", "fine-tuned, both")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=("virtual", "real"), default="virtual")
    parser.add_argument("--models", default="tempcnn,brits")
    parser.add_argument("--shares", default="0.05,0.2,1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--epochs", type=int, default=60, help="of pretraining")
    parser.add_argument("--regions", type=int, default=3, help="other virtual regions")
    parser.add_argument("--rates", default="1,0.3", help="of pretrained weights, relative to the head's")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--region", help="folder that keeps the virtual regions")
    parser.add_argument("--out", help="JSON file; default: standard output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.data == "virtual":
            table, everything = read_region(Path(options.region or folder))
            pure = other_regions(Path(options.region or folder), options.regions)
        else:
            table, everything, pure = read_real()
    result: dict[str, object] = {
        "data": options.data,
        "steps": options.steps,
        "pretraining_epochs": options.epochs,
        "pixels": table.counts,
        "unlabelled": len(everything),
        "labelled series": len(pure),
        "gaps": round(float(np.isnan(everything.values).mean()), 3),
    }
    rates = [float(text) for text in options.rates.split(",")]
    for model in options.models.split(","):
        for share in (float(text) for text in options.shares.split(",")):
            key = f"{model}, {share:.0%} of labels"
            runs: dict[str, list[float]] = {}
            begun = time.process_time()
            for seed in range(options.seeds):
                labelled = keep_labels(table, share, seed=seed)
                plan = settings_for(model, labelled, steps=options.steps, seed=seed)
                for row in options.rows:
                    start = start_of(row, plan, everything, pure, labelled, epochs=options.epochs)
                    for rate in rates if start is not None else [1.0]:
                        name = row if start is None else f"{row}, rate {rate:g}"
                        rmse = score(table, labelled, replace(plan, body_rate=rate), start)
                        runs.setdefault(name, []).append(rmse)
                        print(f"{key}, seed {seed}: {name} {rmse:.3f}", file=sys.stderr, flush=True)
            result[key] = {
                "labelled": labelled.counts["train"],
                "cpu_s": round(time.process_time() - begun, 1),
                **{name: summary(values) for name, values in runs.items()},
            }
            if options.out:
                Path(options.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def start_of(
    row: str,
    plan: UnmixingSettings,
    everything: PixelTable,
    pure: PixelTable,
    labelled: PixelTable,
    *,
    epochs: int,
) -> dict[str, Tensor] | None:
    """Weights to start a row with."""
    if row == "from scratch":
        return None
    series, kind = {
        "gaps": (everything, "gaps"),
        "fine-tuned": (pure, "classes"),
        "fine-tuned, both": (pure, "both"),
    }[row]
    return pretrain(series, plan, kind=kind, like=labelled, epochs=epochs, quiet=True)  # type: ignore[arg-type]


def read_region(folder: Path, *, seed: int = 0) -> tuple[PixelTable, PixelTable]:
    """Pixels of the demo's region with shares and splits, and all pixels of its cube."""
    recipe, place = open_recipe(write_unmixing_demo(folder, size="small", seed=seed))
    chain = build_chain(recipe, place, quiet=True)
    assert isinstance(chain, UnmixingChain)
    run_stages(chain.stages, until="pixels")
    return read_pixel_table(chain.pixel_file), read_pixels(chain.cube.open())


def other_regions(folder: Path, count: int) -> PixelTable:
    """Pixels of other virtual regions with their shares, all for training."""
    tables = [read_region(folder / f"other-{seed}", seed=seed)[0] for seed in range(101, 101 + count)]
    first = tables[0]
    joined = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("values", "static", "targets", "rows", "cols")
    }
    splits = np.full(len(joined["values"]), NO_SPLIT, np.uint8)
    return replace(first, **joined, splits=splits, grid=None)


def read_real() -> tuple[PixelTable, PixelTable, PixelTable]:
    """Lombardy with shares and splits, the same without, and the series of Mato Grosso as pure classes."""
    from real_unmixing import data_folder, read_table

    table = split_pixels(read_table(data_folder()), seed=0)
    folder = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve() / "sits_modis_matogrosso"
    return table, table, read_mato_grosso(folder)


def read_mato_grosso(folder: Path) -> PixelTable:
    """MOD13Q1 NDVI of September to August as calendar months in the unit of Lombardy's (0 to 255 for -1 to 1)."""
    file = folder / "mod13q1_6bands_9classes.npz"
    if not file.exists():
        sys.exit(f"No series of Mato Grosso in {folder}: set TESELA_DATA to the folder of the data.")
    data = np.load(file, allow_pickle=False)
    ndvi = data["X"][..., [str(name) for name in data["bands"]].index("NDVI")].astype(np.float32)
    days = data["days_since_1970"].astype("datetime64[D]")
    month = days.astype("datetime64[M]").astype(int) % 12
    monthly = np.stack(
        [np.nanmean(np.where(month == number, ndvi, np.nan), axis=1) for number in range(12)], axis=1
    )
    monthly = monthly * NDVI_STEPS
    names, labels = np.unique(data["label"].astype(str), return_inverse=True)
    count = len(labels)
    legend = Legend(
        "mato-grosso",
        tuple(LandClass(k + 1, str(k + 1), str(name), "#808080") for k, name in enumerate(names)),
    )
    return PixelTable(
        values=monthly[..., None].astype(np.float32),
        static=np.zeros((count, 0), np.float32),
        targets=np.eye(len(names), dtype=np.float32)[labels],
        rows=np.arange(count, dtype=np.int32),
        cols=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
        times=tuple(f"{number:02d}" for number in range(1, 13)),
        bands=("ndvi",),
        layers=(),
        legend=legend,
    )


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
    shares = unmix_pixels(train_unmixing(labelled, plan, start=start, quiet=True), test).shares
    return float(100 * np.sqrt(np.square(shares - test.targets).mean(0)).mean())


def summary(values: list[float]) -> dict[str, float]:
    return {
        "rmse": round(statistics.mean(values), 3),
        "spread": round(statistics.stdev(values), 3) if len(values) > 1 else 0.0,
    }


if __name__ == "__main__":
    main()
