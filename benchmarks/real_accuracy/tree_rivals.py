"""Rivals of trees, as a notebook has them: scikit-learn's forest and LightGBM, per pixel or with scipy's windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, sobel, uniform_filter
from sklearn.ensemble import RandomForestClassifier

from real_accuracy.sets import DataSet, LabelledScene
from real_accuracy.task import TRAIN, VAL, Clock, NotApplicable, Task, Trained, adjust, choose_prior, quality

SIDES_PX = (3, 7, 15, 31)
MOST_TRAIN, MOST_VAL = 100_000, 50_000
"""Pixels that trees learn from and are chosen by."""
_PAIRS = (
    ("nir", "red"),
    ("green", "nir"),
    ("nir", "swir1"),
    ("swir1", "swir2"),
    ("green", "swir1"),
    ("green", "red"),
    ("blue", "green"),
    ("red", "blue"),
)
_FOREST_TREES, _STEP_TREES = 300, 5
_ROUNDS, _PATIENCE = 3000, 60

Probability = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""(pixels, features) to (pixels, classes)."""
Features = Callable[[DataSet, LabelledScene], NDArray[np.float32]]


def pixel_features(data: DataSet, scene: LabelledScene) -> NDArray[np.float32]:
    """Bands and normalised differences, (features, rows, cols)."""
    position = {name: number for number, name in enumerate(data.bands)}
    suffixes = dict.fromkeys(name.partition("_")[2] for name in data.bands[: len(data.bands) - data.terrain])
    layers = [scene.image]
    for suffix in suffixes:
        for pair in _PAIRS:
            names = [f"{name}_{suffix}" if suffix else name for name in pair]
            if all(name in position for name in names):
                a, b = (scene.image[position[name]] for name in names)
                layers.append(((a - b) / np.maximum(np.abs(a) + np.abs(b), 1e-6))[None])
    return np.concatenate(layers)


def texture_features(data: DataSet, scene: LabelledScene) -> NDArray[np.float32]:
    """Bands and normalised differences, and their statistics in windows; of terrain bands only the pixel."""
    own = pixel_features(data, scene)
    count = len(data.bands)
    spectral = own[: count - data.terrain]
    source = np.concatenate([spectral, own[count:], spectral.mean(0, keepdims=True)])
    layers = [own]
    for side in SIDES_PX:
        size = (1, side, side)
        mean = uniform_filter(source, size)
        layers += [mean, np.sqrt(np.maximum(uniform_filter(source * source, size) - mean * mean, 0))]
        if side <= 15:
            layers += [minimum_filter(spectral, size), maximum_filter(spectral, size)]
    for sigma in (1, 3):
        smooth = [gaussian_filter(band, sigma) for band in spectral]
        layers.append(np.stack([np.hypot(sobel(band, 0), sobel(band, 1)) for band in smooth]))
    return np.concatenate(layers).astype(np.float32)


def forest_pixel(task: Task, clock: Clock) -> Trained:
    """Random forest on bands and normalised differences of the pixel."""
    return _train(task, clock, pixel_features, _forests)


def forest_texture(task: Task, clock: Clock) -> Trained:
    """Random forest on the pixel and the windows around it."""
    return _train(task, clock, _windows(task), _forests)


def lightgbm_pixel(task: Task, clock: Clock) -> Trained:
    """LightGBM on bands and normalised differences of the pixel."""
    return _train(task, clock, pixel_features, _boostings)


def lightgbm_texture(task: Task, clock: Clock) -> Trained:
    """LightGBM on the pixel and the windows around it."""
    return _train(task, clock, _windows(task), _boostings)


def _windows(task: Task) -> Features:
    if task.data.pixels_only:
        raise NotApplicable("the set holds pixels without neighbours: there are no windows")
    return texture_features


def _train(
    task: Task,
    clock: Clock,
    features: Features,
    candidates: Callable[..., Iterator[tuple[str, Probability]]],
) -> Trained:
    """Train candidates until the budget ends, take the best on validation, and choose a strength of the prior."""
    drawn = _draw(task, features)
    (x_val, y_val), shares = drawn[VAL], task.frequencies()
    best: Probability | None = None
    name, highest, tried = "", -1.0, 0
    for label, model in candidates(*drawn[TRAIN], x_val, y_val, len(shares), task.seed, clock):
        score = quality(y_val, adjust(model(x_val).T, shares, 0), len(shares))
        tried += 1
        if score > highest:
            best, name, highest = model, label, score
    assert best is not None
    chosen = best
    strength = choose_prior(chosen(x_val).T, y_val, shares)

    def classify(scene: LabelledScene) -> dict[str, NDArray[np.uint8]]:
        values = features(task.data, scene)
        flat = np.ascontiguousarray(values.reshape(len(values), -1).T)
        probabilities = chosen(flat).T.reshape(-1, *scene.labels.shape)
        return {
            "": adjust(probabilities, shares, 0),
            "+prior": adjust(probabilities, shares, strength),
        }

    return Trained(
        classify, {"model": name, "candidates": tried, "prior": strength, "features": x_val.shape[1]}
    )


def _draw(task: Task, features: Features) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Pixels of train and validation with their features, drawn at random."""
    rng = np.random.default_rng(task.seed)
    masks = [{split: task.mask(scene, split) for split in (TRAIN, VAL)} for scene in task.data.scenes]
    part = {
        split: min(1.0, most / max(sum(int(mask[split].sum()) for mask in masks), 1))
        for split, most in ((TRAIN, MOST_TRAIN), (VAL, MOST_VAL))
    }
    values: dict[int, list[Any]] = {TRAIN: [], VAL: []}
    classes: dict[int, list[Any]] = {TRAIN: [], VAL: []}
    for scene, mask in zip(task.data.scenes, masks, strict=True):
        if not any(item.any() for item in mask.values()):
            continue
        computed = features(task.data, scene).reshape(-1, scene.labels.size)
        for split, item in mask.items():
            place = np.flatnonzero(item)
            place = np.sort(rng.choice(place, int(np.ceil(part[split] * len(place))), replace=False))
            values[split].append(computed[:, place].T)
            classes[split].append(scene.labels.ravel()[place].astype(np.int64))
    return {split: (np.concatenate(values[split]), np.concatenate(classes[split])) for split in (TRAIN, VAL)}


def _forests(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    x_val: NDArray[np.float32],
    y_val: NDArray[np.int64],
    count: int,
    seed: int,
    clock: Clock,
) -> Iterator[tuple[str, Probability]]:
    """Forests of up to 300 trees, each within half of the time that is left, the first in any case."""
    for number, (leaf, part) in enumerate(
        ((3, "sqrt"), (1, "sqrt"), (10, "sqrt"), (3, 0.3), (10, 0.3), (1, 0.3))
    ):
        if number and clock.left_s < 0.1 * clock.budget_s:
            return
        end_s = clock.spent_s + 0.5 * clock.left_s
        forest = RandomForestClassifier(
            0,
            min_samples_leaf=leaf,
            max_features=part,
            n_jobs=int(os.environ.get("OMP_NUM_THREADS", -1)),
            random_state=seed,
            warm_start=True,
        )
        while forest.n_estimators < _FOREST_TREES and (not forest.n_estimators or clock.spent_s < end_s):
            forest.set_params(n_estimators=forest.n_estimators + _STEP_TREES)
            forest.fit(x, y)
        yield f"forest leaf={leaf} features={part} trees={forest.n_estimators}", _probability(forest, count)


def _probability(forest: RandomForestClassifier, count: int) -> Probability:
    def probability(values: NDArray[np.float32]) -> NDArray[np.floating]:
        out = np.zeros((len(values), count))
        out[:, forest.classes_ - 1] = forest.predict_proba(values)
        return out

    return probability


def _boostings(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    x_val: NDArray[np.float32],
    y_val: NDArray[np.int64],
    count: int,
    seed: int,
    clock: Clock,
) -> Iterator[tuple[str, Probability]]:
    """LightGBM with early stopping on validation, each within half of the time that is left."""
    try:
        import lightgbm as lgb
    except ImportError:
        raise NotApplicable("lightgbm is not installed; it is in the extra bench") from None

    for number, (leaves, rate, least) in enumerate(
        ((31, 0.05, 50), (15, 0.05, 50), (63, 0.05, 20), (31, 0.03, 100), (7, 0.1, 100), (127, 0.03, 20))
    ):
        if number and clock.left_s < 0.1 * clock.budget_s:
            return
        end_s = clock.spent_s + 0.5 * clock.left_s

        def stop(env: Any, end_s: float = end_s) -> None:
            if clock.spent_s > end_s:
                raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

        train = lgb.Dataset(x, y - 1, free_raw_data=False)
        booster = lgb.train(
            {
                "objective": "multiclass",
                "num_class": count,
                "num_leaves": leaves,
                "learning_rate": rate,
                "min_data_in_leaf": least,
                "bagging_fraction": 0.5,
                "bagging_freq": 1,
                "feature_fraction": 0.3 if x.shape[1] > 40 else 0.8,
                "lambda_l2": 5.0,
                "num_threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
                "seed": seed,
                "verbose": -1,
            },
            train,
            num_boost_round=_ROUNDS,
            valid_sets=[lgb.Dataset(x_val, y_val - 1, reference=train)],
            callbacks=[stop, lgb.early_stopping(_PATIENCE, verbose=False)],
        )
        rounds = booster.best_iteration or booster.current_iteration()
        label = f"lightgbm leaves={leaves} rate={rate} least={least} rounds={rounds}"

        def probability(
            values: NDArray[np.float32], booster: Any = booster, rounds: int = rounds
        ) -> NDArray[np.floating]:
            return np.asarray(booster.predict(values, num_iteration=rounds))

        yield label, probability
