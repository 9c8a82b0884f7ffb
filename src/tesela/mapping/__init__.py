"""From a scene and an expert to a map: windows, engines and the pipeline between them."""

from tesela.mapping.predict import Prediction, predict_map

__all__ = ["Prediction", "predict_map"]
