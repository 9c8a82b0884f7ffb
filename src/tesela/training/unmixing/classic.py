"""Classic unmixing models: linear mixing, a random forest, boosted trees, fitted on the training pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesela.models.mixing import LinearUnmixing, purest_endmembers
from tesela.models.output import UnmixingNetwork
from tesela.models.trees import Trees, boosted_arrays, fill_trees, forest_arrays, stack_features
from tesela.models.unmixers import MixingArchitecture, TreesArchitecture
from tesela.training.unmixing.batches import TRAIN, VAL, PixelSource
from tesela.training.unmixing.settings import UnmixingSettings

Classic = tuple[MixingArchitecture | TreesArchitecture, UnmixingNetwork, dict[str, object]]


def fit_classic(source: PixelSource, settings: UnmixingSettings) -> Classic:
    """Fit the model that the settings name; its architecture, the network, and scores of the fit."""
    if settings.model in ("fclsu", "nnls"):
        return _fit_endmembers(source, settings)
    return _fit_trees(source, settings)


def _fit_endmembers(source: PixelSource, settings: UnmixingSettings) -> Classic:
    train = source.chosen(TRAIN)
    series = _series(source)[train]
    endmembers = purest_endmembers(series, source.targets[train].numpy(), pixels=settings.endmember_pixels)
    classes, steps, bands = endmembers.shape
    plan = MixingArchitecture(bands, classes, steps, classes, tuple(range(classes)), method=settings.model)
    network = LinearUnmixing(plan)
    network.endmembers.data.copy_(source.values.new_tensor(endmembers))
    return plan, network, {}


def _fit_trees(source: PixelSource, settings: UnmixingSettings) -> Classic:
    train, val = source.chosen(TRAIN), source.chosen(VAL)
    inputs = [_features(source, pixels, settings.context) for pixels in (train, val)]
    wanted = [source.targets[pixels].numpy().astype(np.float64) for pixels in (train, val)]
    if settings.model == "forest":
        arrays = _forest(inputs[0], wanted[0], settings)
    else:
        arrays = _boosted(inputs, wanted, settings)
    _, steps, bands = source.values.shape
    plan = TreesArchitecture(
        bands,
        wanted[0].shape[1],
        steps,
        trees=len(arrays["root"]),
        nodes=len(arrays["feature"]),
        outputs=arrays["value"].shape[1],
        layers=source.static.shape[1],
        neighbours=settings.context,
    )
    return plan, fill_trees(Trees(plan), arrays), {}


def _forest(
    features: NDArray[np.float32], wanted: NDArray[np.float64], settings: UnmixingSettings
) -> dict[str, NDArray[Any]]:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        settings.trees, min_samples_leaf=3, max_features=1 / 3, n_jobs=2, random_state=settings.seed
    )
    return forest_arrays(forest.fit(features, wanted))


def _boosted(
    features: list[NDArray[np.float32]], wanted: list[NDArray[np.float64]], settings: UnmixingSettings
) -> dict[str, NDArray[Any]]:
    """One booster per class, with early stopping on the validation pixels."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = []
    for position in range(wanted[0].shape[1]):
        booster = HistGradientBoostingRegressor(
            max_iter=settings.trees,
            learning_rate=0.1,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            l2_regularization=1.0,
            early_stopping=True,
            n_iter_no_change=10,
            random_state=settings.seed,
        )
        booster.fit(
            features[0],
            wanted[0][:, position],
            X_val=features[1],
            y_val=wanted[1][:, position],
        )
        models.append(booster)
    return boosted_arrays(models)


def _series(source: PixelSource) -> NDArray[np.float32]:
    """Scaled series of all pixels, NaN for gaps."""
    return np.where(source.mask.numpy() > 0, source.values.numpy(), np.float32(np.nan))


def _features(source: PixelSource, pixels: NDArray[np.int64], neighbours: int) -> NDArray[np.float32]:
    """Features of pixels, with their neighbours' series."""
    series, static = _series(source), source.static.numpy()
    if not neighbours:
        return stack_features(series[pixels], static[pixels])
    side = 2 * neighbours + 1
    rows, cols = source.table.rows[pixels], source.table.cols[pixels]
    windows = np.stack(
        [
            source.window(int(row) - neighbours, int(col) - neighbours, side, side)
            for row, col in zip(rows, cols, strict=True)
        ]
    )
    return stack_features(series[windows], static[windows], neighbours=neighbours)[:, 0, 0]
