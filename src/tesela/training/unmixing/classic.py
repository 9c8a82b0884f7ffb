"""Classic unmixing models: linear mixing, a random forest, boosted trees, fitted on the training pixels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.units import parse_duration_s
from tesela.models.mixing import LinearUnmixing, purest_endmembers
from tesela.models.output import UnmixingNetwork
from tesela.models.trees import (
    Trees,
    boosted_arrays,
    channels_of,
    fill_trees,
    forest_arrays,
    stack_features,
)
from tesela.models.unmixers import MixingArchitecture, TreesArchitecture
from tesela.models.window_moments import margin_of_windows, window_moments
from tesela.patches.pixels import PixelTable
from tesela.training.unmixing.batches import TRAIN, VAL, PixelSource
from tesela.training.unmixing.settings import UnmixingSettings

_TIMED_TREES = 10
"""Trees that are grown to see how many fit in a budget."""

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
    features = _features(source, settings)
    inputs = [features[pixels] for pixels in (train, val)]
    wanted = [source.targets[pixels].numpy().astype(np.float64) for pixels in (train, val)]
    if settings.model == "forest":
        arrays = _forest(inputs[0], wanted[0], settings)
    else:
        arrays = _boosted(inputs, wanted, settings)
    _, steps, bands = source.values.shape
    neighbours, windows = tree_context(source.table, settings)
    plan = TreesArchitecture(
        bands,
        wanted[0].shape[1],
        steps,
        trees=len(arrays["root"]),
        nodes=len(arrays["feature"]),
        outputs=arrays["value"].shape[1],
        layers=source.static.shape[1],
        neighbours=neighbours,
        windows=windows,
    )
    return plan, fill_trees(Trees(plan), arrays), {}


def _forest(
    features: NDArray[np.float32], wanted: NDArray[np.float64], settings: UnmixingSettings
) -> dict[str, NDArray[Any]]:

    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        settings.trees, min_samples_leaf=3, max_features=1 / 3, n_jobs=2, random_state=settings.seed
    )
    if not settings.budget:
        return forest_arrays(forest.fit(features, wanted))
    forest.set_params(n_estimators=min(_TIMED_TREES, settings.trees), warm_start=True)
    begun = time.process_time()
    forest.fit(features, wanted)
    each = (time.process_time() - begun) / forest.n_estimators
    forest.set_params(n_estimators=_trees_within(settings, each))
    return forest_arrays(forest.fit(features, wanted))


def _trees_within(settings: UnmixingSettings, seconds: float) -> int:
    """Trees that fit in the budget if one takes this processor time; `_TIMED_TREES` at least."""
    fitting = int(parse_duration_s(settings.budget) / max(seconds, 1e-6))
    return min(max(fitting, _TIMED_TREES), settings.trees)


def _boosted(
    features: list[NDArray[np.float32]], wanted: list[NDArray[np.float64]], settings: UnmixingSettings
) -> dict[str, NDArray[Any]]:
    """One booster per class, with early stopping on the validation pixels."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    def fit(position: int, rounds: int) -> HistGradientBoostingRegressor:
        booster = HistGradientBoostingRegressor(
            max_iter=rounds,
            learning_rate=0.1,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            l2_regularization=1.0,
            early_stopping=True,
            n_iter_no_change=10,
            random_state=settings.seed,
        )
        return booster.fit(
            features[0],
            wanted[0][:, position],
            X_val=features[1],
            y_val=wanted[1][:, position],
        )

    classes, rounds = wanted[0].shape[1], settings.trees
    if settings.budget:
        begun = time.process_time()
        first = min(_TIMED_TREES, rounds)
        fit(0, first)
        rounds = _trees_within(settings, (time.process_time() - begun) / first * classes)
    return boosted_arrays([fit(position, rounds) for position in range(classes)])


def _series(source: PixelSource) -> NDArray[np.float32]:
    """Scaled series of all pixels, NaN for gaps."""
    return np.where(source.mask.numpy() > 0, source.values.numpy(), np.float32(np.nan))


def _features(source: PixelSource, settings: UnmixingSettings) -> NDArray[np.float32]:
    """Features of all training and validation pixels, as `stack_features` gives them; others are NaN."""
    series, static = _series(source), source.static.numpy()
    neighbours, windows = tree_context(source.table, settings)
    margin = max(neighbours, margin_of_windows(windows))
    used = np.flatnonzero(np.isin(source.table.splits, (TRAIN, VAL)))
    if not margin:
        parts = [stack_features(series[used], static[used])]
    else:
        where = np.pad(source.table.positions(), margin, constant_values=-1)
        rows, cols = source.table.rows[used] + margin, source.table.cols[used] + margin
        flat = series.reshape(len(series), -1)
        steps = range(-neighbours, neighbours + 1)
        parts = [flat[where[rows + y, cols + x]] for y in steps for x in steps] + [static[used]]
        channels = channels_of(flat, static)
        columns = []
        for channel in range(
            channels.shape[1] if windows else 0
        ):  # one at a time: a few numbers per pixel in memory
            image = channels[where, channel][None, ..., None]
            moments = window_moments(image, windows, margin_px=margin)
            columns.append(moments[0, rows - margin, cols - margin])
        if columns:  # in the order of `window_moments`: by window and moment, then by channel
            parts.append(np.stack(columns, -1).reshape(len(used), -1))
    whole = np.full((len(source.table), sum(part.shape[1] for part in parts)), np.nan, np.float32)
    whole[used] = np.concatenate(parts, -1)
    return whole


def tree_context(table: PixelTable, settings: UnmixingSettings) -> tuple[int, tuple[int, ...]]:
    """Neighbours on each side and windows of trees; pixels without a grid have no windows."""
    return settings.context, () if table.grid is None else settings.windows
