"""
How far the probabilities of two dates speak for a change.

Where nothing changed, a network or trees see much the same twice, and are wrong alike: the probabilities stay close,
though the likelier class may flip. The odds of a change from class i to class j are
(p1[i] / p1[j]) x (p2[j] / p2[i]): how far the ratio of the two classes turned round, however sure either map is.
Dates are not taken as independent, as in compound classification: errors repeat, and such a model finds no change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from tesela.core.errors import LegendError, join_words
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.raster import Closing
from tesela.io.scenes import SceneReader

MIN_ODDS = 10.0
"""Usual least odds of a change; see docs/accounting.md for the measurement."""

_LEAST = 1 / 508
"""Probabilities are stored in steps of 1/254: the smallest is half a step."""


class ProbabilityReader(Closing):
    """
    Probabilities of a map's classes, as `tesela predict --probabilities` writes them, summed to other classes.

    Parameters
    ----------
    scene : Scene
        One band per class of `own`, named by its code.
    own, legend : Legend
        Of the map, and of the changes.
    table : (256,) array of uint8
        From values of `own` to those of `legend`.

    Raises
    ------
    LegendError
        If a class has no band.
    """

    def __init__(self, scene: Scene, own: Legend, legend: Legend, table: NDArray[np.uint8]) -> None:
        lacking = [code for code in own.codes if code not in scene.band_names]
        if lacking:
            raise LegendError(
                f"{scene.bands[0].path}: has no band for {join_words(lacking)}, but {join_words(scene.band_names)}. "
                f"Give the file that tesela predict --probabilities wrote with the map."
            )
        self._scene = SceneReader(scene.select(list(own.codes)))
        self._target = [legend.index_table[table[value]] for value in own.values]
        self._classes = len(legend)

    def read(self, window: GeoBox) -> NDArray[np.float32]:
        """(classes, rows, cols) probabilities, at least half a step; NaN where there are none."""
        values = self._scene.read(window)
        out = np.zeros((self._classes, *values.shape[1:]), np.float32)
        for target, plane in zip(self._target, values, strict=True):
            if target < self._classes:
                out[target] += plane
        return np.maximum(out, np.float32(_LEAST))

    def close(self) -> None:
        """Close the file."""
        self._scene.close()


def change_odds(
    early: NDArray[np.float32],
    late: NDArray[np.float32],
    before: NDArray[np.intp],
    after: NDArray[np.intp],
) -> NDArray[np.float32]:
    """
    Odds of a change at each pixel.

    Parameters
    ----------
    early, late : (classes, rows, cols) arrays of float
        Probabilities at the two dates, above 0.
    before, after : (rows, cols) arrays of int
        Number of the class at each date.

    Returns
    -------
    (rows, cols) array of float32
        1 where the classes are the same; NaN where a probability is.

    Examples
    --------
    >>> early, late = np.array([[[0.8]], [[0.2]]]), np.array([[[0.25]], [[0.75]]])
    >>> float(change_odds(early, late, np.array([[0]]), np.array([[1]]))[0, 0])
    12.0
    """

    def of(plane: NDArray[np.float32], number: NDArray[np.intp]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = np.take_along_axis(plane, number[None], axis=0)[0]
        return taken

    return (of(early, before) / of(early, after)) * (of(late, after) / of(late, before))
