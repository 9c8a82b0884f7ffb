"""
The number of boosted trees: fixed numbers beside rules that look at the validation area.

    .venv/bin/python benchmarks/tree_count.py [--sets slovenia cities-jena ...] [--seeds 0] [--out FILE]

Needs the real data (TESELA_DATA or ../shared/data). Sets and splits are those of ``real_accuracy.py``. Up to 450 trees
in two series are grown on the training area, and again on training and validation area; the first of each are scored,
so a row costs no training of its own. Rules: a fixed number; the least cross-entropy on the validation area, of all
numbers and of 150 and more; ours (`best_count`), the least at its best temperature, of 150 and more. Prints the scores
on the test area, less those of 300 trees, in points: mean over the splits, and the least accurate split.
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
from real_accuracy.members import Trial, draw, prepare, with_validation
from real_accuracy.sets import SETS, require_set
from real_accuracy.task import TEST, VAL
from tesela.training.segmentation.boosting import Boosted, BoostingSettings, boost_series
from tesela.training.segmentation.tree_fit import BOOSTED_TREES, best_count, best_features, first_scores
from tesela.training.segmentation.tree_pixels import TreePixels
from tesela.training.segmentation.validation import objective_of

COUNTS, USUAL, SERIES, PRIOR = (20, 40, 74, 110, *BOOSTED_TREES), 300, 2, 0.1
FIXED = (40, 110, 150, 210, 300, 450)
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
    gains: dict[str, list[tuple[float, float, float]]] = {}
    for name in options.sets:
        data = require_set(name)
        for seed in options.seeds:
            val, test, ours = curves(prepare(data, seed, 0))
            numbers = {str(number): number for number in FIXED} | {
                "least loss": min(COUNTS, key=lambda number: val[number][0]),
                "least loss, 150 or more": min(BOOSTED_TREES, key=lambda number: val[number][0]),
                "ours": ours,
            }
            for rule, number in numbers.items():
                gain = 100 * (np.array(test[number][1:]) - test[USUAL][1:])
                gains.setdefault(rule, []).append((*gain.tolist(), number))
            print(name, seed, ours, {n: test[n][1:] for n in (*FIXED, ours)}, file=sys.stderr)
    rows = {rule: summary(np.array(own)) for rule, own in gains.items()}
    for rule, row in rows.items():
        print(f"{rule:26s}", row, file=sys.stderr)
    text = json.dumps(
        {"machine": machine(), "sets": options.sets, "seeds": options.seeds, "rules": rows}, indent=1
    )
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


def curves(trial: Trial) -> tuple[Scores, Scores, int]:
    """
    Scores of trees of the training area on the validation area, of trees that are grown again on the test area, and the
    number by `best_count`.
    """
    frequencies = np.log(trial.task.frequencies()).astype(np.float32)
    own, both = (TreePixels(*draw(item)[:2]) for item in (trial, with_validation(trial)))
    kept = best_features(own, classes=trial.classes, seed=trial.task.seed)
    val, test = (area_pixels(trial, split).of_features(kept) for split in (VAL, TEST))
    once, again = (grow(pixels.of_features(kept), trial) for pixels in (own, both))
    return scores(once, val, frequencies), scores(again, test, frequencies), SERIES * best_count(once, val)


def grow(pixels: TreePixels, trial: Trial) -> list[Boosted]:
    """Both series."""
    settings = BoostingSettings(trees=COUNTS[-1], seed=trial.task.seed, features=0.4)
    return boost_series(pixels.values, pixels.classes, count=trial.classes, settings=settings, series=SERIES)


def area_pixels(trial: Trial, split: int) -> TreePixels:
    """All labelled pixels of a split."""
    masks = {scene.name: trial.task.mask(scene, split).ravel() for scene in trial.task.data.scenes}
    classes = [
        scene.labels.ravel()[masks[scene.name]].astype(np.int64) - 1 for scene in trial.task.data.scenes
    ]
    return TreePixels(
        np.concatenate([trial.features[name][:, mask] for name, mask in masks.items()], axis=1),
        np.concatenate(classes),
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


def summary(gains: NDArray[np.float64]) -> dict[str, float]:
    """What a rule gains over the usual number, in points, and how many trees it takes."""
    accuracy, macro_f1, trees = gains.T
    return {
        "accuracy": round(float(accuracy.mean()), 2),
        "macro_f1": round(float(macro_f1.mean()), 2),
        "least_accuracy": round(float(accuracy.min()), 2),
        "trees": round(float(trees.mean())),
    }


if __name__ == "__main__":
    main()
