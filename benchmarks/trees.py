"""
Trees for class maps: training and mapping beside scikit-learn, LightGBM and CatBoost, on one core.

    .venv/bin/python benchmarks/trees.py [--pixels 20000] [--rounds 5]

Lanjaron, level 1, six bands, window features of 3, 7, 15 and 31 px, blocks of 64 px to train and test. Ours are grown
twice, as in `train_trees`: on three quarters of the training pixels, of which the blocks of the fourth choose the
number, and again on all. LightGBM and CatBoost are measured where they are installed. Mapping times are those of the
scene of 0.24 Mpx: ours include the features, the others get them for nothing. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec, default_features
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.models.segmentation.window_features import compute_features
from tesela.training.segmentation.tree_fit import (
    BOOSTED_TREES,
    KEPT_FEATURES,
    best_features,
    fit_chosen,
    forest_arrays,
)
from tesela.training.segmentation.tree_pixels import TreePixels
from tesela.training.segmentation.validation import objective_of

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
FIFTHS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    image, labels, mean, std = load_scene()
    spec = default_features(BANDS)
    features = compute_features(image, spec, mean, std).reshape(len(spec.features), -1)
    classes = int(labels.max()) + 1
    rows, cols = np.divmod(np.arange(labels.size), labels.shape[1])
    block = np.random.default_rng(0).permutation(10_000)[rows // 64 * 100 + cols // 64] % FIFTHS
    flat = labels.ravel()
    train, test = (np.flatnonzero(np.isin(block, part) & (flat >= 0)) for part in ((0, 1, 2, 3), (4,)))
    train = np.random.default_rng(0).choice(train, options.pixels, replace=False)
    drawn = TreePixels(features[:, train], flat[train])
    kept = best_features(drawn, classes=classes, seed=0)
    values, small, drawn = features[kept], spec.select(kept.tolist()), drawn.of_features(kept)
    table = np.ascontiguousarray(values.T.astype(np.float32))
    results: dict[str, dict[str, float]] = {}

    def enter(
        name: str, fit: Callable[[], Any], apply: Callable[[Any], NDArray[np.intp]]
    ) -> NDArray[np.intp]:
        begun = time.process_time()
        model = fit()
        seconds = time.process_time() - begun
        predicted = apply(model)  # also compiles
        times = []
        for _ in range(options.rounds):
            begun = time.process_time()
            apply(model)
            times.append(time.process_time() - begun)
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (flat[test], predicted[test]), 1)
        results[name] = {
            "training_cpu_s": round(seconds, 2),
            "mapping_mpx_per_cpu_s": round(labels.size / 1e6 / statistics.median(times), 3),
            "accuracy": round(float(objective_of(counts, "accuracy")), 4),
            "macro_f1": round(float(objective_of(counts, "macro_f1")), 4),
        }
        return predicted

    def ours() -> ClassTrees:
        return fit_chosen(
            "boosting", drawn, spec=small, classes=classes, mean=mean, std=std, trees=BOOSTED_TREES, seed=0
        )

    def classes_of(network: ClassTrees) -> NDArray[np.intp]:
        return network.scores(image, threads=1).reshape(-1, classes).argmax(1)

    enter("boosting", ours, classes_of)
    compare_forest(enter, table, train, flat, small, classes, mean, std, classes_of)
    for name, make in libraries().items():
        enter(
            name,
            lambda make=make: make().fit(table[train], flat[train]),
            lambda model: positions(model, table),
        )
    print(json.dumps({"pixels": options.pixels, "features": KEPT_FEATURES, "rows": results}, indent=2))


def compare_forest(
    enter: Callable[..., NDArray[np.intp]],
    table: NDArray[np.float32],
    train: NDArray[np.intp],
    flat: NDArray[np.integer],
    spec: FeatureSpec,
    classes: int,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    classes_of: Callable[[ClassTrees], NDArray[np.intp]],
) -> None:
    """The same forest, applied by scikit-learn and by us."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(
        100, min_samples_leaf=5, max_depth=16, max_features=0.3, n_jobs=1, random_state=0
    ).fit(table[train], flat[train])
    arrays = forest_arrays(forest, classes=classes)
    depth = max(tree.get_depth() for tree in forest.estimators_)
    shape = ClassTreesArchitecture(len(BANDS), classes, "forest", 100, depth, len(arrays["feature"]), spec)
    network = ClassTrees(shape).fill({**arrays, "mean": mean, "std": std})
    theirs = enter("forest by scikit-learn", lambda: forest, lambda model: positions(model, table))
    own = enter("forest", lambda: network, classes_of)
    assert (theirs == own).mean() > 0.9999, (theirs == own).mean()


def positions(model: Any, table: NDArray[np.float32]) -> NDArray[np.intp]:
    """Positions of the most probable classes."""
    chosen: NDArray[np.intp] = np.asarray(model.classes_, int)[model.predict_proba(table).argmax(1)]
    return chosen


def libraries() -> dict[str, Callable[[], Any]]:
    """Boosters of libraries that are installed."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    found: dict[str, Callable[[], Any]] = {
        "scikit-learn's boosting": lambda: HistGradientBoostingClassifier(max_iter=100, random_state=0)
    }
    try:
        from lightgbm import LGBMClassifier

        found["LightGBM"] = lambda: LGBMClassifier(
            n_estimators=120, learning_rate=0.05, subsample=0.5, subsample_freq=1, colsample_bytree=0.3,
            reg_lambda=5, min_child_samples=50, n_jobs=1, verbose=-1, random_state=0,
        )  # fmt: skip
    except ImportError:
        print("LightGBM is not installed", file=sys.stderr)
    try:
        from catboost import CatBoostClassifier

        found["CatBoost"] = lambda: CatBoostClassifier(
            iterations=120, depth=6, learning_rate=0.1, thread_count=1, verbose=0, random_seed=0,
            allow_writing_files=False,
        )  # fmt: skip
    except ImportError:
        print("CatBoost is not installed", file=sys.stderr)
    return found


def load_scene() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Standardised image (rows, cols, bands), positions of level-1 classes (-1: none), mean and deviation."""
    import rasterio

    folder = Path(os.environ.get("TESELA_DATA", "../shared/data")).resolve() / "lanjaron_l8_clc"
    if not folder.exists():
        sys.exit(f"No data at {folder}: set TESELA_DATA to the folder that holds lanjaron_l8_clc.")
    with rasterio.open(folder / "l8_b2b7_30m.tif") as file:
        bands = file.read().astype(np.float32) * 2.75e-5 - 0.2
        with rasterio.open(folder / "clc2018_25m.tif") as reference:
            options = {
                "crs": file.crs,
                "transform": file.transform,
                "width": file.width,
                "height": file.height,
            }
            with WarpedVRT(reference, resampling=Resampling.nearest, **options) as warped:
                codes = warped.read(1)
    mean, std = bands.mean((1, 2)), bands.std((1, 2))
    image = np.ascontiguousarray(((bands - mean[:, None, None]) / std[:, None, None]).transpose(1, 2, 0))
    valid = (codes >= 111) & (codes <= 523)
    return image, np.where(valid, codes.astype(np.int64) // 100 - 1, -1), mean, std


if __name__ == "__main__":
    main()
