"""Where the curves of a training go: TensorBoard's events always, MLflow where its address is set."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from tesela.core.notes import note
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.shell import TrainingFolder

ADDRESS = "MLFLOW_TRACKING_URI"
"""Variable of MLflow: the address of its server, or of a database (``sqlite:///mlflow.db``)."""

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"


def training_loggers(logs: Path, *, folder: TrainingFolder, settings: SegmentationSettings) -> list[Logger]:
    """
    Loggers of a training.

    A training that is resumed continues its run in MLflow. The variables are MLflow's own, so that no key of a recipe
    decides where curves go: the expert is the same wherever they do.

    Parameters
    ----------
    logs : Path
        Folder of TensorBoard's events; its name is that of the run.
    """
    loggers: list[Logger] = [TensorBoardLogger(logs, name="", version="")]
    address = os.environ.get(ADDRESS)
    if not address:
        return loggers
    if find_spec("mlflow") is None:
        note(
            f"{ADDRESS} is set, but MLflow is not installed: pip install 'tesela[mlflow]'. The training goes on."
        )
        return loggers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, on its libraries
        experiment = os.environ.get(EXPERIMENT) or "tesela"

        def begin() -> dict[str, str | None]:
            made = MLFlowLogger(experiment, run_name=logs.name, tracking_uri=address)
            made.log_hyperparams(asdict(settings))
            return {"run_id": made.run_id}

        run_id = folder.remember("mlflow.json", begin)["run_id"]
        loggers.append(MLFlowLogger(experiment, tracking_uri=address, run_id=run_id))
    return loggers
