"""
The pictures of docs/qgis.md, from a real QGIS with the plugin: `/usr/bin/python3 docs/images/make_qgis.py`.

It needs qgis, python3-qgis, xvfb and xauth of Debian, and Tesela in .venv. The script starts QGIS on a virtual screen,
with a profile of its own, and QGIS runs the same file again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

WORLD = "TESELA_QGIS_WORLD"
"""Environment variable with the folder of the files, for the part that runs in QGIS."""

IMAGES = "TESELA_QGIS_IMAGES"
"""Environment variable with the folder of the pictures."""


def launch() -> None:
    """Make the files and a profile, and start QGIS."""
    here = Path(__file__).resolve()
    root = here.parents[2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        profile = folder / "profiles" / "default"
        plugins, settings = profile / "python" / "plugins", profile / "QGIS" / "QGIS3.ini"
        for made in (plugins, settings.parent, folder / "world"):
            made.mkdir(parents=True)
        (plugins / "tesela_qgis").symlink_to(root / "integrations" / "qgis" / "tesela_qgis")
        settings.write_text(
            "[PythonPlugins]\ntesela_qgis=true\nprocessing=true\n"
            f"[Processing]\nConfiguration\\TESELA_PROGRAM={root / '.venv'}\n",
            encoding="utf-8",
        )
        maker = root / "integrations" / "qgis" / "tests" / "make_world.py"
        subprocess.run([root / ".venv" / "bin" / "python", maker, folder / "world"], check=True)
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1400x860x24"]
        qgis = ["qgis", "--profiles-path", folder, "--nologo", "--noversioncheck", "--code", here]
        variables = {**os.environ, WORLD: str(folder / "world"), IMAGES: str(here.parent)}
        subprocess.run([*screen, *qgis], env=variables, check=True, timeout=200)


def show(world: Path) -> None:
    """Run the algorithms, open the panel and take the pictures; then end QGIS at once."""
    import processing
    from qgis.core import QgsProject
    from qgis.PyQt.QtCore import Qt
    from qgis.PyQt.QtTest import QTest
    from qgis.PyQt.QtWidgets import QApplication, QDockWidget
    from qgis.utils import iface, plugins

    images = Path(os.environ[IMAGES])
    window, canvas = iface.mainWindow(), iface.mapCanvas()
    window.resize(1400, 860)
    for dock in window.findChildren(QDockWidget):
        if dock.objectName() in ("Browser", "Browser2"):
            dock.hide()

    def grab(name: str) -> None:
        for _ in range(30):
            QApplication.processEvents()
            QTest.qWait(50)
        canvas.waitWhileRendering()
        QApplication.processEvents()
        window.grab().save(str(images / name))

    scene = iface.addRasterLayer(str(world / "scene_july.tif"), "July")
    run = {"RECIPE": str(world / "tiny.toml"), "SCENE": [scene], "SCENE_NAME": "july"}
    made = processing.runAndLoadResults("tesela:run", {**run, "REFERENCE": str(world / "reference.gpkg")})
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    toolbox.show()
    toolbox.searchBox.setText("tesela")
    tree = QgsProject.instance().layerTreeRoot()
    for node in tree.findLayers():
        node.setExpanded(node.layerId() != scene.id())
    canvas.setExtent(canvas.mapSettings().layerExtentToOutputExtent(scene, scene.extent()))
    grab("qgis-map.png")
    toolbox.hide()
    update = {"POLYGONS": str(world / "reference.gpkg"), "FIELD": "CODE_18", "MAP": made["MAP"]}
    processing.runAndLoadResults("tesela:update", {**update, "OUTPUT": str(world / "queue.gpkg")})
    for layer in QgsProject.instance().mapLayers().values():
        if layer.source() == made["MAP"]:
            tree.findLayer(layer).setItemVisibilityChecked(False)
    dock = plugins["tesela_qgis"].dock
    dock.show()
    dock.open_file(str(world / "queue.gpkg"))
    QTest.keyClick(canvas.viewport(), Qt.Key_R)
    part = 0.6  # the first change that is a part of its polygon
    while not dock.item.new or dock.item.shape.area() > part * dock.item.around.area():
        QTest.keyClick(canvas.viewport(), Qt.Key_A if dock.item.new else Qt.Key_R)
    grab("qgis-review.png")


if WORLD in os.environ:
    from qgis.PyQt.QtCore import QTimer

    def begin() -> None:
        """Take the pictures; an error is printed and is the exit status."""
        try:
            show(Path(os.environ[WORLD]))
        except Exception:  # noqa: BLE001 - the hook of QGIS would wait for a click
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    QTimer.singleShot(1500, begin)
elif __name__ == "__main__":
    launch()
