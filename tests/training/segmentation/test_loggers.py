"""Curves in MLflow where its variable is set; TensorBoard has them always."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from segmentation_scene import QUICK, make_patch_table
from tesela.training.segmentation.train import train_segmentation
from tesela.training.shell import TrainingFolder


def test_without_mlflow_a_training_goes_on_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tesela.training.segmentation.loggers import training_loggers

    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = TrainingFolder.open(tmp_path / "a.safetensors", work={})
    assert len(training_loggers(tmp_path / "logs", folder=folder, settings=QUICK)) == 1
    assert "pip install 'tesela[mlflow]'" in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    caplog.clear()
    assert len(training_loggers(tmp_path / "logs", folder=folder, settings=QUICK)) == 1
    assert not caplog.text


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra 'mlflow' is not installed")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_the_settings_and_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the client alone has no database
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "first")
    table = make_patch_table(tmp_path)
    train_segmentation(
        table, tmp_path / "a.safetensors", settings=replace(QUICK, epochs=3, patience=0), quiet=True
    )
    client = MlflowClient((tmp_path / "runs").as_uri())
    experiment = client.get_experiment_by_name("first")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "a"
    assert run.info.status == "FINISHED"
    assert json.loads(run.data.params["epochs"]) == 3
    curve = client.get_metric_history(run.info.run_id, "val_loss")
    assert len({point.step for point in curve}) == 3
