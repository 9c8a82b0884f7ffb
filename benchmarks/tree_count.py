"""
The number of boosted trees: fixed numbers beside that of least loss on the validation area.

    .venv/bin/python benchmarks/tree_count.py [--sets slovenia cities-jena ...] [--seeds 0] [--out FILE]

Needs the real data (TESELA_DATA or ../shared/data). Sets and splits are those of ``real_accuracy.py``. Trees of 20 to
450 in two series are grown on the training area, and again on training and validation area; the first 20, 40, ... of
each are scored, so a row costs no training of its own. Rules: a fixed number, and the least cross-entropy on the
validation area from a first number on. Prints the scores on the test area, less those of 300 trees, in points: mean
over the splits, and the least accurate split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mapping.probe import machine
from members import Trial, draw, prepare, with_validation
from real_accuracy.sets import SETS, MissingData, load_set
from real_accuracy.task import TEST, VAL
from tesela.training.segmentation.boosting import Boosted, BoostingSettings, boost_series
from tesela.training.segmentation.tree_fit import best_features, first_scores
from tesela.training.segmentation.tree_pixels import TreePixels
from tesela.training.segmentation.validation import objective_of

COUNTS, USUAL, SERIES, PRIOR = (20, 40, 74, 110, 150, 220, 300, 450), 300, 2, 0.1
Scores = dict[int, tuple[float, float, float]]
"""Cross-entropy, accuracy and macro F1 by number of trees."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=tuple(SETS), metavar="SET")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="write the JSON document here, not to stdout")
    options = parser.parse_args()
    splits: dict[str, tuple[Scores, Scores]] = {}
    for name in options.sets:
        try:
            data = load_set(name)
        except MissingData as error:
            sys.exit(str(error))
        for seed in options.seeds:
            splits[f"{name} {seed}"] = val, test = curves(prepare(data, seed, 0))
            print(
                name,
                seed,
                *(f"{n}: {val[n][0]:.4f} {test[n][1]:.4f} {test[n][2]:.4f}" for n in COUNTS),
                file=sys.stderr,
            )
    rules = {str(number): [number] for number in COUNTS} | {
        f"least loss, {first} or more": [number for number in COUNTS if number >= first]
        for first in COUNTS[:-1]
    }
    rows = {rule: compare(splits, allowed) for rule, allowed in rules.items()}
    for rule, row in rows.items():
        print(f"{rule:26s}", row, file=sys.stderr)
    text = json.dumps({"machine": machine(), "splits": list(splits), "rules": rows}, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def curves(trial: Trial) -> tuple[Scores, Scores]:
    """Scores on the validation area of trees of the training area, and on the test area of those grown again."""
    frequencies = np.log(trial.task.frequencies()).astype(np.float32)
    own, both = (TreePixels(*draw(item)[:2]) for item in (trial, with_validation(trial)))
    kept = best_features(own, classes=trial.classes, seed=trial.task.seed)
    return tuple(  # type: ignore[return-value]
        scores(grow(drawn.of_features(kept), trial), area_pixels(trial, split).of_features(kept), frequencies)
        for drawn, split in ((own, VAL), (both, TEST))
    )


def grow(pixels: TreePixels, trial: Trial) -> list[Boosted]:
    """Both series."""
    settings = BoostingSettings(trees=COUNTS[-1], seed=trial.task.seed, features=0.4)
    return boost_series(pixels.values, pixels.classes, count=trial.classes, settings=settings, series=SERIES)


def area_pixels(trial: Trial, split: int) -> TreePixels:
    """All labelled pixels of a split."""
    masks = {scene.name: trial.task.mask(scene, split).ravel() for scene in trial.task.data.scenes}
    return TreePixels(
        np.concatenate([trial.features[name][:, mask] for name, mask in masks.items()], axis=1),
        np.concatenate(
            [scene.labels.ravel()[masks[scene.name]].astype(np.int64) - 1 for scene in trial.task.data.scenes]
        ),
    )


def scores(series: Sequence[Boosted], pixels: TreePixels, frequencies: NDArray[np.float32]) -> Scores:
    """What the first trees of all series reach on some pixels."""
    result = {}
    each = [number // len(series) for number in COUNTS]
    for number, logits in zip(COUNTS, first_scores(series, pixels.values, each), strict=True):
        logs = torch.log_softmax(torch.from_numpy(logits), 1).numpy()
        counts = np.zeros((len(frequencies),) * 2, np.int64)
        np.add.at(counts, (pixels.classes, (logs - np.float32(PRIOR) * frequencies).argmax(1)), 1)
        result[number] = (
            float(-logs[np.arange(pixels.classes.size), pixels.classes].mean()),
            float(objective_of(counts, "accuracy")),
            float(objective_of(counts, "macro_f1")),
        )
    return result


def compare(splits: dict[str, tuple[Scores, Scores]], allowed: Sequence[int]) -> dict[str, float]:
    """What a rule gains over the usual number, in points."""
    chosen = [min(allowed, key=lambda number: val[number][0]) for val, _ in splits.values()]
    gains = 100 * np.array(
        [
            np.subtract(test[number], test[USUAL])[1:]
            for number, (_, test) in zip(chosen, splits.values(), strict=True)
        ]
    )
    return {
        "accuracy": round(float(gains[:, 0].mean()), 2),
        "macro_f1": round(float(gains[:, 1].mean()), 2),
        "least_accuracy": round(float(gains[:, 0].min()), 2),
        "trees": round(float(np.mean(chosen))),
    }


if __name__ == "__main__":
    main()
