"""What `tesela doctor` finds."""

import json
import os
from pathlib import Path

import pytest
import rasterio

from tesela.cli import main
from tesela.io import installation


def test_the_doctor_finds_versions_drivers_extras_and_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == "openvino" else True)
    assert main(["doctor", "--json"]) == 0
    checks = {item["subject"]: item for item in json.loads(capsys.readouterr().out)["checks"]}
    assert rasterio.__gdal_version__ in checks["GDAL"]["found"]
    assert checks["extra fast"]["state"] == "missing"
    assert "pip install 'tesela[fast]'" in checks["extra fast"]["found"]
    assert checks["extra train"]["state"] == "ok"
    assert "GiB free" in checks["cache"]["found"]


def test_a_folder_that_cannot_be_written_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("text")
    monkeypatch.setattr(installation, "cache_folder", lambda: tmp_path / "file" / "cache")
    assert main(["doctor"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cache"))
    assert "broken" in line
    assert os.strerror(20) in line
