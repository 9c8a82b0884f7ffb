"""
Boosted trees: scores and mapping speed against the number of features and of trees, on one core.

    .venv/bin/python benchmarks/tree_curve.py [--features 20,40,80,300] [--trees 75,150,300,600]

Lanjaron, level 1 (six bands, 20,000 training pixels of four fifths of its blocks of 64 px), and the Slovenian patch (30
bands of three dates, blocks of 16 px, mean of three splits). A row with fewer trees is the beginning of the longest
training. Speed is that of a window of 1,088 x 512 px with its features. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray

from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec, default_features
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.window_features import compute_features
from tesela.training.segmentation.boosting import Boosted, BoostingSettings, boost
from tesela.training.segmentation.validation import objective_of
from trees import BANDS, load_scene

PIXELS, FIFTHS, FIRST_TREES = 20_000, 5, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", default="20,40,80,300")
    parser.add_argument("--trees", default="75,150,300,600")
    options = parser.parse_args()
    counts, trees = ([int(item) for item in text.split(",")] for text in (options.features, options.trees))
    scene = load_scene()
    rows = {"lanjaron level 1": curve(*scene, BANDS, 64, (4,), counts, trees)}
    image, labels, mean, std, bands = load_slovenia()
    rows["slovenia"] = curve(image, labels, mean, std, bands, 16, (2, 3, 4), counts, trees)
    print(json.dumps(rows, indent=1))


def load_slovenia() -> tuple[
    NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], tuple[str, ...]
]:
    """As `trees.load_scene`, with the names of the bands."""
    from real_accuracy.sets import load_set

    data = load_set("slovenia")
    scene = data.scenes[0]
    mean, std = scene.image.mean((1, 2)), scene.image.std((1, 2))
    image = np.ascontiguousarray(
        ((scene.image - mean[:, None, None]) / std[:, None, None]).transpose(1, 2, 0)
    )
    return image, scene.labels.astype(np.int64) - 1, mean, std, data.bands


def curve(
    image: NDArray[np.float32],
    labels: NDArray[np.int64],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    bands: tuple[str, ...],
    side_px: int,
    splits: tuple[int, ...],
    counts: list[int],
    lengths: list[int],
) -> list[dict[str, float]]:
    """A row for each number of features and of trees."""
    spec = default_features(bands)
    features = compute_features(image, spec, mean, std).reshape(len(spec.features), -1)
    flat, classes = labels.ravel(), int(labels.max()) + 1
    y, x = np.divmod(np.arange(labels.size), labels.shape[1])
    fold = np.random.default_rng(0).permutation(10_000)[y // side_px * 100 + x // side_px] % FIFTHS
    scores: dict[tuple[int, int], list[tuple[float, float]]] = {}
    speeds: dict[tuple[int, int], float] = {}
    for part in splits:
        train, test = (
            np.flatnonzero((fold != part) & (flat >= 0)),
            np.flatnonzero((fold == part) & (flat >= 0)),
        )
        train = np.random.default_rng(0).permutation(train)[:PIXELS]
        settings = BoostingSettings(trees=FIRST_TREES)
        gain = boost(features[:, train], flat[train], count=classes, settings=settings).gain
        for count in counts:
            kept = np.sort(np.argsort(-gain, kind="stable")[:count])
            chosen = np.ascontiguousarray(features[kept])
            settings = BoostingSettings(trees=max(lengths), features=0.4)
            made = boost(chosen[:, train], flat[train], count=classes, settings=settings)
            for length in lengths:
                first = made.part(0, length)
                matrix = np.zeros((classes, classes), np.int64)
                np.add.at(matrix, (flat[test], first.scores(chosen[:, test]).argmax(1)), 1)
                key = (len(kept), length)
                pair = (float(objective_of(matrix, "accuracy")), float(objective_of(matrix, "macro_f1")))
                scores.setdefault(key, []).append(pair)
                if key not in speeds:
                    speeds[key] = speed(first, spec.select(kept.tolist()), image, mean, std)
    return [
        {
            "features": key[0],
            "trees": key[1],
            "accuracy": round(float(np.mean(values, 0)[0]), 4),
            "macro_f1": round(float(np.mean(values, 0)[1]), 4),
            "mpx_per_cpu_s": round(speeds[key], 2),
        }
        for key, values in scores.items()
    ]


def speed(
    made: Boosted,
    spec: FeatureSpec,
    image: NDArray[np.float32],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> float:
    """Mpx that are mapped in a second of one core."""
    shape = ClassTreesArchitecture(
        spec.bands, made.leaf.shape[2], "boosting", len(made.feature), made.feature.shape[1], 0, spec
    )
    arrays = {
        "feature": made.feature,
        "threshold": made.threshold,
        "leaf": made.leaf,
        "baseline": made.baseline,
    }
    network = ClassTrees(shape).fill({**arrays, "mean": mean, "std": std})
    repeats = (-(-512 // image.shape[0]), -(-1088 // image.shape[1]), 1)
    window = np.ascontiguousarray(np.tile(image, repeats)[:512, :1088])
    network.scores(image, threads=1)  # also compiles
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        network.scores(window, threads=1)
        seconds.append(time.process_time() - begun)
    return window.shape[0] * window.shape[1] / 1e6 / min(seconds)


if __name__ == "__main__":
    main()
