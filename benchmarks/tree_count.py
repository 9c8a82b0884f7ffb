"""
The number of boosted trees: fixed numbers beside rules that look at the validation area.

    .venv/bin/python benchmarks/tree_count.py [--sets slovenia cities-jena ...] [--seeds 0] [--out FILE]

Needs the real data (TESELA_DATA or ../shared/data). Sets and splits are those of ``real_accuracy.py``. Up to 450 trees
in two series are grown on the training area, and again on training and validation area; the first of each are scored,
so a row costs no training of its own. Rules: a fixed number; the least cross-entropy on the validation area, of all
numbers and of 150 and more; the least at its best temperature, of 150 and more; and by that loss the nearest to ours
that is not measurably worse than the best. Prints the scores on the test area, less those of our number, in points:
mean over the splits, and the least accurate split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from mapping.probe import machine
from real_accuracy.members import Trial, draw, prepare, with_validation
from real_accuracy.sets import SETS, require_set
from real_accuracy.task import TEST, VAL
from tesela.training.block_draws import draw_blocks
from tesela.training.segmentation.boosting import Boosted, BoostingSettings, boost_series
from tesela.training.segmentation.tree_fit import BOOSTED_TREES, best_features
from tesela.training.segmentation.tree_pixels import TreePixels
from tesela.training.segmentation.validation import DRAWS, measurably_above_zero, objective_of

CHOSEN_FROM, FEW = range(150, 451, 30), (20, 40, 74, 110)
FIXED = (40, 110, 150, 210, 360, 450)
SERIES, PRIOR = 2, 0.1
SCALES = tuple(2 ** (step / 4) for step in range(-10, 5))
"""Inverse temperatures that are tried."""


@dataclass(frozen=True)
class Scores:
    """What a number of trees reaches on some pixels."""

    loss: float
    """Mean cross-entropy."""
    tempered: NDArray[np.float64]
    """Cross-entropy at the temperature of the least, summed by unit."""
    accuracy: float
    macro_f1: float


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
            val, test = curves(prepare(data, seed, 0))
            chosen = {str(number): number for number in FIXED} | rules(val)
            usual = np.array((test[BOOSTED_TREES].accuracy, test[BOOSTED_TREES].macro_f1))
            for rule, number in chosen.items():
                gain = 100 * (np.array((test[number].accuracy, test[number].macro_f1)) - usual)
                gains.setdefault(rule, []).append((*gain.tolist(), number))
            print(name, seed, usual.round(4), {rule: own[-1] for rule, own in gains.items()}, file=sys.stderr)
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


def rules(val: dict[int, Scores]) -> dict[str, int]:
    """The number of trees that each rule takes by scores on the validation area."""
    large = {number: val[number] for number in CHOSEN_FROM}
    best = min(large, key=lambda number: large[number].tempered.sum())
    return {
        "least loss": min(val, key=lambda number: val[number].loss),
        "least loss, 150 or more": min(large, key=lambda number: large[number].loss),
        "at its best temperature, 150 or more": best,
        "300 if not measurably worse": min(
            (number for number in large if not worse(large[number].tempered, large[best].tempered)),
            key=lambda number: abs(number - BOOSTED_TREES),
        ),
    }


def worse(one: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    """Whether a loss lies outside of the 95 % interval of the difference to the best, over units drawn again."""
    behind = draw_blocks(len(one), draws=DRAWS) @ (one - best)
    return bool(measurably_above_zero(behind, blocks=len(one)))


def curves(trial: Trial) -> tuple[dict[int, Scores], dict[int, Scores]]:
    """Trees of the training area on the validation area, and trees that are grown again on the test area."""
    own, both = (TreePixels(*draw(item)[:2]) for item in (trial, with_validation(trial)))
    kept = best_features(own, classes=trial.classes, seed=trial.task.seed)
    once, again = (grow(pixels.of_features(kept), trial) for pixels in (own, both))
    return scores(once, trial, VAL, kept), scores(again, trial, TEST, kept)


def grow(pixels: TreePixels, trial: Trial) -> list[Boosted]:
    """All series."""
    settings = BoostingSettings(trees=CHOSEN_FROM[-1], seed=trial.task.seed, features=0.4)
    return boost_series(pixels.values, pixels.classes, count=trial.classes, settings=settings, series=SERIES)


def scores(series: Sequence[Boosted], trial: Trial, split: int, kept: NDArray[np.int64]) -> dict[int, Scores]:
    """What the first trees of all series reach on the labelled pixels of a split, by their number."""
    task, result = trial.task, {}
    masks = {scene.name: task.mask(scene, split).ravel() for scene in task.data.scenes}
    values = np.concatenate([trial.features[name][kept][:, mask] for name, mask in masks.items()], axis=1)
    classes = np.concatenate(
        [scene.labels.ravel()[masks[scene.name]].astype(np.int64) - 1 for scene in task.data.scenes]
    )
    units = np.concatenate([scene.units.ravel()[masks[scene.name]] for scene in task.data.scenes])
    unit = np.unique(units, return_inverse=True)[1]
    frequencies = np.log(task.frequencies()).astype(np.float32)
    counts = (*FEW, *CHOSEN_FROM)
    for number, logits in zip(counts, first_scores(series, values, counts), strict=True):
        target, raw = torch.from_numpy(classes), torch.from_numpy(logits)
        losses = [cross_entropy(raw * scale, target, reduction="none").numpy() for scale in SCALES]
        confusion = np.zeros((trial.classes,) * 2, np.int64)
        adjusted = torch.log_softmax(raw, 1).numpy() - np.float32(PRIOR) * frequencies
        np.add.at(confusion, (classes, adjusted.argmax(1)), 1)
        result[number] = Scores(
            loss=float(cross_entropy(raw, target)),
            tempered=np.bincount(unit, min(losses, key=lambda item: float(item.sum()))),
            accuracy=float(objective_of(confusion, "accuracy")),
            macro_f1=float(objective_of(confusion, "macro_f1")),
        )
    return result


def first_scores(
    series: Sequence[Boosted], values: NDArray[np.int16], counts: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Mean (pixels, classes) scores of the first trees of all series, for ascending numbers of all trees together."""
    totals = [np.repeat(item.baseline[None], values.shape[1], axis=0) for item in series]
    done = 0
    for count in counts:
        each = count // len(series)
        for item, own in zip(series, totals, strict=True):
            item.part(done, each).add_to(own, values)
        done = each
        yield np.mean(totals, axis=0)


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
