"""From a scene and an expert to a map: windows, engines and the pipeline between them; cascades of experts."""

from tesela.mapping.cascade import Cascade, Gate, Member, open_cascade
from tesela.mapping.cascade_map import CascadePrediction, predict_cascade
from tesela.mapping.cascade_runner import CascadeRules
from tesela.mapping.predict import Prediction, predict_map

__all__ = [
    "Cascade",
    "CascadePrediction",
    "CascadeRules",
    "Gate",
    "Member",
    "Prediction",
    "open_cascade",
    "predict_cascade",
    "predict_map",
]
