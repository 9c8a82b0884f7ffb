"""A QGIS without a window, its Processing with the plugin's provider, and the files of `make_world.py`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent), "/usr/share/qgis/python/plugins"]

from qgis.core import Qgis, QgsApplication, QgsProcessingFeedback, QgsProject  # noqa: E402

ENVIRONMENT = Path(os.environ.get("TESELA_ENVIRONMENT", ROOT / ".venv"))
"""Environment with Tesela."""


@pytest.fixture(scope="session")
def qgis(tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile")
    QgsApplication.setPrefixPath("/usr", True)
    app = QgsApplication([], True, str(profile))
    app.initQgis()
    from processing.core.Processing import Processing
    from processing.core.ProcessingConfig import ProcessingConfig
    from tesela_qgis.provider import PROGRAM, TeselaProvider

    Processing.initialize()
    provider = TeselaProvider()
    app.processingRegistry().addProvider(provider)
    ProcessingConfig.setSettingValue(PROGRAM, str(ENVIRONMENT))
    print(f"QGIS {Qgis.QGIS_VERSION}")  # noqa: T201
    yield app
    app.processingRegistry().removeProvider(provider)


@pytest.fixture(scope="session")
def made(tmp_path_factory, qgis):
    """A region, an expert that a recipe has trained on it, its map, a queue of changes and a sample."""
    import processing

    folder = tmp_path_factory.mktemp("world")
    subprocess.run([ENVIRONMENT / "bin" / "python", HERE / "make_world.py", folder], check=True)
    feedback = Feedback()
    files = processing.run(
        "tesela:run",
        {
            "RECIPE": str(folder / "tiny.toml"),
            "SCENE": [str(folder / "scene_july.tif")],
            "SCENE_NAME": "july",
            "REFERENCE": str(folder / "reference.gpkg"),
        },
        feedback=feedback,
    )
    processing.run(
        "tesela:update",
        {
            "POLYGONS": str(folder / "reference.gpkg"),
            "FIELD": "CODE_18",
            "MAP": files["MAP"],
            "OUTPUT": str(folder / "queue.gpkg"),
        },
    )
    processing.run(
        "tesela:sample-draw",
        {"MAP": files["MAP"], "SIZE": 30, "MINIMUM": 3, "OUTPUT": str(folder / "sample.gpkg")},
    )
    return {
        "folder": folder,
        "scene": str(folder / "scene_july.tif"),
        "reference": str(folder / "reference.gpkg"),
        "queue": str(folder / "queue.gpkg"),
        "sample": str(folder / "sample.gpkg"),
        "run": files,
        "feedback": feedback,
    }


@pytest.fixture
def world(made, tmp_path):
    """The files, with a queue and a sample that the test may answer."""
    copied = {name: shutil.copy(made[name], tmp_path) for name in ("queue", "sample")}
    yield {**made, **copied}
    QgsProject.instance().clear()


class Feedback(QgsProcessingFeedback):
    """Keeps all that a run shows; cancels when a text is shown."""

    def __init__(self, cancel_at=None):
        super().__init__()
        self.texts, self.lines, self.bars, self.warnings = [], [], [], []
        self._cancel_at = cancel_at
        self.progressChanged.connect(self.bars.append)

    def setProgressText(self, text):
        self.texts.append(text)
        if self._cancel_at is not None and self._cancel_at in text:
            self.cancel()

    def pushInfo(self, text):
        self.lines.append(text)

    def pushWarning(self, text):
        self.warnings.append(text)
