"""The algorithms: each is one command of Tesela."""

from __future__ import annotations

from tesela_qgis.algorithms.accuracy import Assess, DrawSample, EstimateFromSample
from tesela_qgis.algorithms.mapping import Predict, Unmix
from tesela_qgis.algorithms.products import Generalise, Vectorise
from tesela_qgis.algorithms.recipes import BeginRecipe, RunRecipe
from tesela_qgis.algorithms.updating import ApplyUpdate, QueueChanges

ALGORITHMS = (
    Predict,
    Unmix,
    BeginRecipe,
    RunRecipe,
    Generalise,
    Vectorise,
    QueueChanges,
    ApplyUpdate,
    Assess,
    DrawSample,
    EstimateFromSample,
)
"""In the order of the toolbox."""
