"""A random forest that predicts the class of pixels from colour and texture: fast without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import IGNORE
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier

_SIDES_PX = (5, 17)
"""Windows over which colour and its spread are taken."""

_MOST_PIXELS = 80_000
"""Training pixels of a forest, spread evenly over the patches; more make it slower, not better."""

_STEP_PX = 2
"""Every second pixel of every second row is predicted: a quarter of the pixels is enough to assess areas."""


def texture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Colours of each pixel, and their mean and deviation in windows of 5 and 17 pixels.

    Parameters
    ----------
    image : (bands, rows, cols) array of float32
        Without NaN.

    Returns
    -------
    (5 bands, rows, cols) array of float32
    """
    from scipy.ndimage import uniform_filter

    layers = [image]
    for side in _SIDES_PX:
        size = (1, side, side)
        mean = uniform_filter(image, size, mode="reflect")
        square = uniform_filter(image * image, size, mode="reflect")
        layers += [mean, np.sqrt(np.maximum(square - mean * mean, 0))]
    return np.concatenate(layers)


def train_forest(table: PatchTable, *, seed: int = 0) -> ExtraTreesClassifier:
    """Train a forest on pixels of the patches of split "train"."""
    from sklearn.ensemble import ExtraTreesClassifier

    patches = PatchDataset(table, "train")
    share = max(1, _MOST_PIXELS // len(patches))
    rng = np.random.default_rng(seed)
    features, classes = [], []
    for index in range(len(patches)):
        image, labels = patches[index]
        labelled = np.flatnonzero(labels.numpy() != IGNORE)
        chosen = rng.choice(labelled, min(share, len(labelled)), replace=False)
        features.append(texture(image.numpy()).reshape(-1, labels.numel())[:, chosen].T)
        classes.append(labels.numpy().ravel()[chosen])
    forest = ExtraTreesClassifier(
        40, min_samples_leaf=8, max_features=0.4, class_weight="balanced_subsample", bootstrap=True,
        random_state=seed,
    )  # fmt: skip
    return forest.fit(np.concatenate(features), np.concatenate(classes))


def forest_probabilities(
    forest: ExtraTreesClassifier, table: PatchTable
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Labels (rows, cols) and class probabilities (classes, rows, cols) of each patch of split "test", thinned out."""
    patches = PatchDataset(table, "test")
    for index in range(len(patches)):
        image, labels = patches[index]
        thin = labels.numpy()[::_STEP_PX, ::_STEP_PX].astype(np.uint8)
        features = texture(image.numpy())[:, ::_STEP_PX, ::_STEP_PX].reshape(-1, thin.size).T
        scores = np.zeros((len(table.legend), thin.size), np.float32)
        scores[forest.classes_] = forest.predict_proba(features).T
        yield thin, scores.reshape(-1, *thin.shape)
