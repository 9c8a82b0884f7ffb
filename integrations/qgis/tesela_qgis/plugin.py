"""The plugin: the provider, the review panel, and their entries in menu and toolbar."""

from __future__ import annotations

from qgis.core import Qgis, QgsApplication, QgsMapLayer, QgsTask
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QAction

from tesela_qgis.program import Listener, ProgramError, find_program, run_program
from tesela_qgis.provider import TeselaProvider, icon, program_setting
from tesela_qgis.review_dock import ReviewDock

_MENU = "Tesela"


class TeselaPlugin:
    """What QGIS loads and unloads; without a window (`qgis_process`) only the provider."""

    def __init__(self, iface):
        self.iface = iface
        self.provider = None
        self.dock = None
        self.actions = []

    def initProcessing(self):
        """Add the algorithms."""
        self.provider = TeselaProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        """Add algorithms, panel and entries."""
        self.initProcessing()
        window = self.iface.mainWindow()
        self.dock = ReviewDock(self.iface.mapCanvas(), window)
        self.dock.apply_wanted.connect(self.apply)
        self.iface.addDockWidget(Qt.RightDockWidgetArea, self.dock)
        self.dock.hide()
        for text, drawn, act in (
            ("Map the current layer with an expert…", "icon", self.predict),
            ("Review changes or points", "review", self.review),
            ("Run a recipe…", "icon", lambda: self.dialog("tesela:run", {})),
            ("Check the program", "icon", self.check),
        ):
            action = QAction(icon(drawn), text, window)
            action.triggered.connect(lambda _checked=False, act=act: act())
            self.iface.addPluginToMenu(_MENU, action)
            self.actions.append(action)
        for action in self.actions[:2]:
            self.iface.addToolBarIcon(action)

    def unload(self):
        """Take everything away again."""
        for action in self.actions:
            self.iface.removePluginMenu(_MENU, action)
            self.iface.removeToolBarIcon(action)
        self.actions = []
        if self.dock is not None:
            self.dock.remove()
            self.iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None

    def dialog(self, algorithm, parameters):
        """Open the dialog of an algorithm."""
        import processing

        processing.execAlgorithmDialog(algorithm, parameters)

    def predict(self):
        """Open the dialog that maps a scene, for the current layer."""
        layer = self.iface.activeLayer()
        raster = layer is not None and layer.type() == QgsMapLayer.RasterLayer
        self.dialog("tesela:predict", {"SCENE": layer.id()} if raster else {})

    def review(self):
        """Open the panel, with the current layer if it can be reviewed."""
        self.dock.show()
        self.dock.raise_()
        layer = self.iface.activeLayer()
        if layer is not None and layer.type() == QgsMapLayer.VectorLayer:
            self.dock.open_layer(layer)

    def apply(self, path, is_sample):
        """Open the dialog of the step after a review."""
        if is_sample:
            self.dialog("tesela:sample-estimate", {"SAMPLE": path})
        else:
            self.dialog("tesela:update-apply", {"QUEUE": path})

    def check(self):
        """Show the versions of the program, or why there is none."""
        task = QgsTask.fromFunction("Tesela", _versions, program_setting(), on_finished=self._checked)
        self.actions_task = task  # QGIS holds no reference to it
        QgsApplication.taskManager().addTask(task)

    def _checked(self, error, text=None):
        bar = self.iface.messageBar()
        if error is None:
            bar.pushMessage("Tesela", text, Qgis.Success, 10)
        else:
            bar.pushMessage("Tesela", str(error), Qgis.Warning, 0)


def _versions(task, setting):
    words = [*find_program(setting), "--version"]
    lines = run_program(words, listener=Listener(), cancelled=task.isCanceled).splitlines()
    if not lines or not lines[0].startswith("tesela "):
        raise ProgramError(f"{words[0]} is not Tesela.")
    return f"{', '.join(lines)} ({' '.join(words[:-1])})"
