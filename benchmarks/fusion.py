"""
How trees and a network are best joined, and by what a strength of the prior is best chosen.

    .venv/bin/python benchmarks/fusion.py --sets lanjaron-1 chesapeake --seeds 0 1 [--out FILE]

Needs the real data (TESELA_DATA or ../shared/data). Sets and splits are those of ``real_accuracy.py``. Boosted trees
and a U-Net (``--seconds`` of processor time) are trained on the training area; whatever joins them is fitted on the
validation area, and all are scored once on the test area. Rows:

- boosting, one series, and boosting: 300 trees in one series, and in two series as many as have the least loss on the
  validation area, as `fit_chosen` grows them;
- unet; unet, last weights: those that its schedule ends with; unet, refit: trained again for the same time on training
  and validation area (`refit_network`);
- equal weights; least loss: the weights of least cross-entropy; pool: those of `fit_pool`, over blocks drawn again;
  pool, half to trees: `FLATTERY` of the network's weight given to the trees;
- border gate: weights of least cross-entropy by distance to the predicted border (0-1, 2-3, 4-7, over 7 px);
- boosted gate: scikit-learn's boosting over both probability vectors, confidence, distance to the border, size of the
  area and the mean of the joined probabilities in 15 px, joined with the pool;
- trees over the network: boosting over its features and the scores of networks of the other half of the training area;
- network over trees: a U-Net with the trees' probabilities, made out of fold, as further bands;
- boosting, refit, and pool, refit: the trees grown again on training and validation area, the weights as they were;
  half to trees, refit: the same with half to trees, what `model = "auto"` does with less than two minutes for the
  network; ours: with the network trained again, too, what it does with more;
- ours, 300 trees: with that number of them, whatever their loss on the validation area;
- pool, weights undone: the network's scores less the logarithms of the weights of its loss, joined then;
- pool, smoothed: the pool's probabilities under a Gaussian of 1 px.

--joins leaves out the rows that train further networks or gates.

For each row the strengths of the prior: none; best (on validation); ours (`choose_prior`); 0.1 and 0.2 throughout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, uniform_filter
from sklearn.ensemble import HistGradientBoostingClassifier

from mapping.probe import machine
from real_accuracy.members import (
    Planes,
    Trial,
    apply,
    draw,
    grow,
    log_probabilities,
    out_of_fold_networks,
    out_of_fold_trees,
    prepare,
    train_unet,
    train_unets,
    with_bands,
    with_validation,
)
from real_accuracy.sets import SETS, require_set
from real_accuracy.task import TEST, VAL
from tesela.training.segmentation.losses import class_weights
from tesela.training.segmentation.pool import FLATTERY, SCALES, fit_pool, pool_scores
from tesela.training.segmentation.validation import PRIORS, ValidationPixels, choose_prior, objective_of

DISTANCES_PX = (1.5, 3.5, 7.5)


def smoothed(trial: Trial, planes: Planes, sigma_px: float) -> Planes:
    """Scores from probabilities under a Gaussian."""
    result = {}
    for scene in trial.task.data.scenes:
        image = np.exp(planes[scene.name]).reshape(*scene.labels.shape, -1)
        image = gaussian_filter(image, (sigma_px, sigma_px, 0))
        result[scene.name] = np.log(np.maximum(image.reshape(-1, image.shape[-1]), 1e-6))
    return result


def gate_inputs(trial: Trial, unet: Planes, trees: Planes) -> tuple[Planes, dict[str, NDArray[np.float64]]]:
    """What a gate sees of each pixel, and the distance to the border of the joined map in px, by scene."""
    inputs, distances = {}, {}
    for scene in trial.task.data.scenes:
        joined = log_probabilities(unet[scene.name] + trees[scene.name])
        classes = joined.argmax(1).reshape(scene.labels.shape)
        low, high = (
            np.minimum(np.roll(classes, 1, axis), classes) != np.maximum(np.roll(classes, 1, axis), classes)
            for axis in (0, 1)
        )
        distance = distance_transform_edt(~(low | high)).ravel()
        size = np.zeros(classes.shape)
        for value in range(trial.classes):
            areas, _ = label(classes == value)
            pixels = np.bincount(areas.ravel())
            pixels[0] = 0
            size += pixels[areas]
        near = [uniform_filter(np.exp(item).reshape(classes.shape), 15).ravel() for item in joined.T]
        confidence = np.column_stack([unet[scene.name].max(1), trees[scene.name].max(1)])
        inputs[scene.name] = np.column_stack(
            [
                unet[scene.name],
                trees[scene.name],
                confidence,
                np.log1p(distance),
                np.log1p(size.ravel()),
                *near,
            ]
        ).astype(np.float32)
        distances[scene.name] = distance
    return inputs, distances


def least_loss(scores: Sequence[NDArray[np.float32]], classes: NDArray[np.int64]) -> tuple[float, ...]:
    """Weights of least cross-entropy."""
    tried = [(scale * step / 10, scale * (1 - step / 10)) for scale in SCALES for step in range(11)]

    def loss(weights: tuple[float, ...]) -> float:
        joined = log_probabilities(np.float32(weights[0]) * scores[0] + np.float32(weights[1]) * scores[1])
        return float(-joined[np.arange(len(classes)), classes].mean())

    return min(tried, key=loss)


def join(weights: Sequence[float], first: Planes, second: Planes) -> Planes:
    """Scores joined with a weight each."""
    return {
        name: log_probabilities(np.float32(weights[0]) * first[name] + np.float32(weights[1]) * second[name])
        for name in first
    }


def border_gate(
    trial: Trial, unet: Planes, trees: Planes, distances: dict[str, NDArray[np.float64]]
) -> Planes:
    """Weights by the distance to the border."""
    bins = {name: np.digitize(item, DISTANCES_PX) for name, item in distances.items()}
    planes = {name: np.zeros_like(item) for name, item in unet.items()}
    one, other = trial.pixels(unet, VAL), trial.pixels(trees, VAL)
    place = trial.pixels({name: item[:, None].astype(np.float32) for name, item in bins.items()}, VAL).scores[
        :, 0
    ]
    for number in range(len(DISTANCES_PX) + 1):
        own = place == number
        weights = (
            least_loss([one.scores[own], other.scores[own]], one.classes[own]) if own.any() else (1.0, 1.0)
        )
        for name, item in join(weights, unet, trees).items():
            planes[name][bins[name] == number] = item[bins[name] == number]
    return planes


def boosted_gate(trial: Trial, inputs: Planes, pool: Planes) -> Planes:
    """A gate of scikit-learn's boosted trees, joined with the pool; on validation, out of fold by unit."""
    seen = trial.pixels(inputs, VAL)
    blocks = np.arange(int(seen.block.max()) + 1)

    def fit(chosen: NDArray[np.bool_]) -> HistGradientBoostingClassifier:
        model = HistGradientBoostingClassifier(
            max_iter=40, learning_rate=0.07, max_leaf_nodes=8, l2_regularization=20.0, min_samples_leaf=200
        )
        return model.fit(seen.scores[chosen], seen.classes[chosen])

    def scores(model: HistGradientBoostingClassifier, values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.full((len(values), trial.classes), 1e-5)
        out[:, model.classes_] = model.predict_proba(values)
        return np.log(np.maximum(out, 1e-5)).astype(np.float32)

    whole = fit(np.ones(len(seen.classes), bool))
    planes = {name: log_probabilities(scores(whole, item) + pool[name]) for name, item in inputs.items()}
    numbers = np.unique(
        np.concatenate([scene.units[trial.task.mask(scene, VAL)] for scene in trial.task.data.scenes])
    )
    for fold in range(3):
        left_out = np.isin(seen.block, blocks[fold::3])
        if not left_out.any() or left_out.all():
            continue
        model = fit(~left_out)
        for scene in trial.task.data.scenes:
            place = np.isin(scene.units, numbers[fold::3]).ravel()
            if place.any():
                own = scores(model, inputs[scene.name][place]) + pool[scene.name][place]
                planes[scene.name][place] = log_probabilities(own)
    return planes


def measure(trial: Trial, planes: Planes) -> dict[str, dict[str, float]]:
    """Accuracy and macro F1 on the test area by rule for the prior, and cross-entropy."""
    val, test = trial.pixels(planes, VAL), trial.pixels(planes, TEST)
    frequencies = trial.task.frequencies()
    logs = np.log(frequencies).astype(np.float32)

    def counts(pixels: ValidationPixels, strength: float) -> NDArray[np.int64]:
        adjusted = (pixels.scores - np.float32(strength) * logs).argmax(1)
        return pixels.counts(adjusted).sum(0)

    best = max(PRIORS, key=lambda strength: float(objective_of(counts(val, strength), "both")))
    strengths = {
        "none": 0.0,
        "best": best,
        "ours": choose_prior(val, frequencies, objective="both"),
        "0.1": 0.1,
        "0.2": 0.2,
    }
    return {
        name: {
            "prior": strength,
            "accuracy": round(float(objective_of(counts(test, strength), "accuracy")), 4),
            "macro_f1": round(float(objective_of(counts(test, strength), "macro_f1")), 4),
        }
        for name, strength in strengths.items()
    }


def half_to_trees(weights: Sequence[float]) -> tuple[float, float]:
    """Weights of network and trees, with `FLATTERY` of the network's given to the trees."""
    return (1 - FLATTERY) * weights[0], weights[1] + FLATTERY * weights[0]


def rows_of(trial: Trial, *, joins_only: bool) -> dict[str, Planes]:
    """Scores of all scenes by row."""
    values, classes, _ = draw(trial)
    single = apply(trial, *grow(values, classes, trial.classes, series=1))
    trees = apply(trial, *grow(values, classes, trial.classes))
    unet, unet_last, unet_again = train_unets(trial.task, trial.seconds)
    val = [trial.pixels(item, VAL) for item in (unet, trees)]
    weights = fit_pool(val)
    shared = half_to_trees(weights)
    pool = join(weights, unet, trees)
    assert np.allclose(pool_scores(val, weights), trial.pixels(pool, VAL).scores, atol=1e-3)
    inputs, distances = gate_inputs(trial, unet, trees)
    wider = with_validation(trial)
    wide_values, wide_classes, _ = draw(wider)
    again = apply(wider, *grow(wide_values, wide_classes, trial.classes))
    weighed = {name: log_probabilities(item + loss_weights(trial)) for name, item in unet.items()}
    rows = {
        "boosting, one series": single,
        "boosting": trees,
        "boosting, refit": again,
        "unet": unet,
        "unet, last weights": unet_last,
        "unet, refit": unet_again,
        "equal weights": join((1.0, 1.0), unet, trees),
        "least loss": join(least_loss([item.scores for item in val], val[0].classes), unet, trees),
        "pool": pool,
        "pool, half to trees": join(shared, unet, trees),
        "pool, refit": join(weights, unet, again),
        "half to trees, refit": join(shared, unet, again),
        "ours": join(shared, unet_again, again),
        "pool, weights undone": join(fit_pool([trial.pixels(weighed, VAL), val[1]]), weighed, trees),
        "pool, smoothed": smoothed(trial, pool, 1.0),
        "border gate": border_gate(trial, unet, trees, distances),
    }
    if joins_only:
        return rows
    fold_scores = out_of_fold_networks(trial)
    more, classes, _ = draw(trial, fold_scores)
    with_trees = replace(trial.task, data=with_bands(trial.task.data, out_of_fold_trees(trial)))
    return rows | {
        "boosted gate": boosted_gate(trial, inputs, pool),
        "trees over the network": apply(trial, *grow(more, classes, trial.classes), fold_scores),
        "network over trees": train_unet(with_trees, trial.seconds),
    }


def loss_weights(trial: Trial) -> NDArray[np.float32]:
    """What undoes the weights of the network's loss, (classes,)."""
    return -np.log(class_weights(trial.task.frequencies()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", default=["lanjaron-1", "chesapeake"], choices=tuple(SETS), metavar="SET"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=60, help="processor time of each network")
    parser.add_argument("--joins", action="store_true", help="only rows of one network and one set of trees")
    parser.add_argument("--out", type=Path, help="write the JSON document here, not to stdout")
    options = parser.parse_args()
    results = []
    for name in options.sets:
        data = require_set(name)
        for seed in options.seeds:
            trial = prepare(data, seed, options.seconds)
            for row, planes in rows_of(trial, joins_only=options.joins).items():
                results.append({"set": name, "seed": seed, "row": row, "scores": measure(trial, planes)})
                print(name, seed, row, results[-1]["scores"], file=sys.stderr)
    means = {}
    for row in dict.fromkeys(str(item["row"]) for item in results):
        own = [item["scores"] for item in results if item["row"] == row]
        means[row] = {
            rule: [
                round(float(np.mean([one[rule][key] for one in own])), 4) for key in ("accuracy", "macro_f1")
            ]
            for rule in own[0]
        }
        print(f"{row:24s}", means[row], file=sys.stderr)
    text = json.dumps({"machine": machine(), "means": means, "results": results}, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
