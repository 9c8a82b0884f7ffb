"""Classic unmixing models: linear mixing, a random forest, boosted trees, fitted on the training pixels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.units import parse_duration_s
from tesela.models.gap_filling import fill_gaps
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
from tesela.patches.thinning import thin_pixels
from tesela.training.unmixing.batches import TRAIN, VAL, PixelSource
from tesela.training.unmixing.settings import UnmixingSettings

_TIMED_TREES = 10
"""Trees that are grown to see how many fit in a budget."""

_MOST_NUMBERS = 1 << 28
"""Features that trees are fitted to, 1 GiB: 319,000 pixels of 3 x 3 series of 12 months and 7 bands, 1.6 million of
single pixels. More pixels are thinned."""

Classic = tuple[MixingArchitecture | TreesArchitecture, UnmixingNetwork, dict[str, object]]


def fit_classic(source: PixelSource, settings: UnmixingSettings) -> Classic:
    """Fit the model that the settings name; its architecture, the network, and scores of the fit."""
    if settings.model in ("fclsu", "nnls"):
        return _fit_endmembers(source, settings)
    return _fit_trees(source, settings)


def _fit_endmembers(source: PixelSource, settings: UnmixingSettings) -> Classic:
    train = source.chosen(TRAIN)
    purest = [_largest(source, train, k, settings.endmember_pixels) for k in range(_classes(source))]
    train = train[np.unique(np.concatenate(purest))]
    endmembers = purest_endmembers(
        source.series(train), source.targets(train).numpy(), pixels=settings.endmember_pixels
    )
    classes, steps, bands = endmembers.shape
    plan = MixingArchitecture(bands, classes, steps, classes, tuple(range(classes)), method=settings.model)
    network = LinearUnmixing(plan)
    network.endmembers.data.copy_(torch.from_numpy(endmembers))
    return plan, network, {}


def _fit_trees(source: PixelSource, settings: UnmixingSettings) -> Classic:
    source = _fitting(source, settings)
    split = source.chosen(TRAIN), source.chosen(VAL)
    inputs = [_features(source, settings, pixels) for pixels in split]
    wanted = [source.targets(pixels).numpy().astype(np.float64) for pixels in split]
    if settings.model == "forest":
        arrays = _forest(inputs[0], wanted[0], settings)
    else:
        arrays = _boosted(inputs, wanted, settings)
    _, steps, bands = source.table.values.shape
    neighbours, windows = tree_context(source.table, settings)
    plan = TreesArchitecture(
        bands,
        wanted[0].shape[1],
        steps,
        trees=len(arrays["root"]),
        nodes=len(arrays["feature"]),
        outputs=arrays["value"].shape[1],
        layers=len(source.table.layers),
        neighbours=neighbours,
        windows=windows,
        filled=True,
    )
    return plan, fill_trees(Trees(plan), arrays), {"pixels": len(inputs[0])}


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


def _classes(source: PixelSource) -> int:
    return int(source.table.targets.shape[1])


def _largest(source: PixelSource, pixels: NDArray[np.int64], position: int, count: int) -> NDArray[np.intp]:
    """Positions in `pixels` of those with the largest shares of a class, the first ones of equal shares."""
    return np.argsort(-source.table.targets[pixels, position], kind="stable")[:count]


def _fitting(source: PixelSource, settings: UnmixingSettings) -> PixelSource:
    """The pixels, thinned so far that the features of train and val take no more than `_MOST_NUMBERS`."""
    neighbours, windows = tree_context(source.table, settings)
    _, steps, bands = source.table.values.shape
    layers = len(source.table.layers)
    each = ((2 * neighbours + 1) ** 2 + 1) * steps * bands + layers
    each += 2 * len(windows) * (steps * bands + layers)
    count = int(np.isin(source.table.splits, (TRAIN, VAL)).sum())
    share = _MOST_NUMBERS / (each * max(count, 1))
    if share >= 1:
        return source
    table = thin_pixels(source.table, share, seed=settings.seed)
    return PixelSource(table, source.scaling, tuple(source.mean.tolist()), tuple(source.std.tolist()))


def _features(
    source: PixelSource, settings: UnmixingSettings, pixels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Features of some pixels, (pixels, features), as `stack_features` gives them."""
    table = source.table
    neighbours, windows = tree_context(table, settings)
    margin = max(neighbours, margin_of_windows(windows))
    static = source.inputs(pixels)[2].numpy()
    if not margin:
        return stack_features(source.series(pixels), static, filled=True)
    where = np.pad(table.positions(), margin, constant_values=-1)
    rows, cols = table.rows[pixels] + margin, table.cols[pixels] + margin
    steps = range(-neighbours, neighbours + 1)
    parts = [source.series(where[rows + y, cols + x]).reshape(len(pixels), -1) for y in steps for x in steps]
    parts.append(static)
    columns = []
    for values in _channels(source) if windows else ():
        moments = window_moments(values[where][None, ..., None], windows, margin_px=margin)
        columns.append(moments[0, rows - margin, cols - margin])
    if columns:  # in the order of `window_moments`: by window and moment, then by channel
        parts.append(np.stack(columns, -1).reshape(len(pixels), -1))
    parts.append(fill_gaps(source.series(pixels)).reshape(len(pixels), -1))
    return np.concatenate(parts, -1, dtype=np.float32)


def _channels(source: PixelSource) -> Iterator[NDArray[np.floating]]:
    """Each channel of `channels_of` for all pixels and pixel -1, one at a time: a few numbers per pixel in memory."""
    pixels = np.append(np.arange(len(source.table)), -1)
    flat = source.series(pixels).reshape(len(pixels), -1)
    channels = channels_of(flat, source.inputs(pixels)[2].numpy())
    yield from np.ascontiguousarray(channels.T)


def tree_context(table: PixelTable, settings: UnmixingSettings) -> tuple[int, tuple[int, ...]]:
    """Neighbours on each side and windows of trees; pixels without a grid have no windows."""
    return settings.context, () if table.grid is None else settings.windows
