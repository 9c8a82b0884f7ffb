"""The notebooks of examples/ run from top to bottom."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repository import ROOT, TESTS

pytestmark = pytest.mark.documents

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def outputs_of(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_there_are_notebooks_and_none_is_kept_with_outputs() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        assert not outputs_of(path), f"{path.name}: clear its outputs"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_maps_and_tables(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    done = subprocess.run(
        [sys.executable, TESTS / "notebook_run.py", path, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = [output.get("data", {}) for output in outputs_of(tmp_path / path.name)]
    pages = ["".join(data["text/html"]) for data in shown if "text/html" in data]
    assert any("<img" in page for page in pages), "no map shows its picture"
    assert any("<table" in page for page in pages), "no table"
    assert any("image/png" in data for data in shown), "no figure"
    assert {path.name for path in tmp_path.iterdir()} >= {"map.tif", "map.qml", "map.tif.aux.xml"}
