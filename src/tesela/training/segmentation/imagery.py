"""What an expert keeps of the imagery that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import IGNORE
from tesela.core.training_imagery import TrainingImagery, describe_imagery
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import PatchTable

_MOST_PIXELS = 20_000
_MOST_PATCHES = 200


def training_imagery(
    table: PatchTable,
    *,
    bands: Sequence[str],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    seed: int = 0,
) -> TrainingImagery | None:
    """
    Describe at most 20,000 labelled pixels of at most 200 patches of split "train".

    Returns
    -------
    TrainingImagery or None
        None where too few pixels have a label.
    """
    patches = PatchDataset(table, "train", bands=bands, mean=mean, std=std)
    rng = np.random.default_rng([seed, 4])
    some = np.sort(rng.permutation(len(patches))[:_MOST_PATCHES])
    each = max(1, _MOST_PIXELS // len(some))
    values, classes = [], []
    for index in some.tolist():
        image, labels = patches[index]
        flat = labels.numpy().ravel()
        labelled = np.flatnonzero(flat != IGNORE)
        chosen = rng.choice(labelled, min(each, len(labelled)), replace=False)
        values.append(image.numpy().reshape(len(image), -1)[:, chosen].T)
        classes.append(flat[chosen])
    pixels = np.concatenate(values)
    if len(pixels) < 2 * len(bands) + 20:
        return None
    return describe_imagery(pixels, np.concatenate(classes), mean=mean, std=std)
