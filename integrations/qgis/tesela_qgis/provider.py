"""The Processing provider: the algorithms, and the setting that names the program."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from tesela_qgis.algorithms import ALGORITHMS

PROGRAM = "TESELA_PROGRAM"
"""Setting: the program, a Python interpreter or the folder of an environment."""


def icon(name: str = "icon") -> QIcon:
    """An icon of the plugin."""
    return QIcon(str(Path(__file__).with_name(f"{name}.svg")))


def program_setting() -> str:
    """What the user has set; empty for nothing."""
    return str(ProcessingConfig.getSetting(PROGRAM) or "")


class TeselaProvider(QgsProcessingProvider):
    """Algorithms of Tesela in the toolbox, in models and in batch."""

    def id(self):
        """First part of the algorithms' ids."""
        return "tesela"

    def name(self):
        """Name in the toolbox and in the settings."""
        return "Tesela"

    def longName(self):
        """Name with a few words."""
        return "Tesela (land-cover maps)"

    def icon(self):
        """Icon in the toolbox."""
        return icon()

    def load(self):
        """Add the setting and the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        text = "Program tesela, Python interpreter or folder of its environment"
        ProcessingConfig.addSetting(Setting(self.name(), PROGRAM, text, "", valuetype=Setting.STRING))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Remove the setting."""
        ProcessingConfig.removeSetting(PROGRAM)

    def loadAlgorithms(self):
        """Add one of each."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def supportedOutputRasterLayerExtensions(self):
        """Maps are GeoTIFFs."""
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self):
        """Layers are GeoPackages, which hold their style."""
        return ["gpkg"]

    def defaultVectorFileExtension(self, hasGeometry=True):
        """Of temporary layers."""
        return "gpkg"

    def supportsNonFileBasedOutput(self):
        """Tesela writes files."""
        return False
