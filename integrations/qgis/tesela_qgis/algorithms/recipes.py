"""Recipes: begin one, and run its chain, also with layers of the project in place of its files."""

from __future__ import annotations

import json
from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputFile,
    QgsProcessingOutputHtml,
    QgsProcessingOutputRasterLayer,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

from tesela_qgis.algorithm import TeselaAlgorithm, advanced, option
from tesela_qgis.results import load_result

_CHAINS = ("corine", "lulucf", "unmixing")
_RECIPES = "Recipes (*.toml)"


class BeginRecipe(TeselaAlgorithm):
    """`tesela init`."""

    NAME, TITLE, GROUP = "init", "Begin a recipe", "Recipes"
    HELP = "Writes a commented recipe to start from. Edit its paths, then run it."
    COMMAND = ("init",)

    def parameters(self):
        """Chain and file."""
        return (
            QgsProcessingParameterEnum("CHAIN", "Chain", _CHAINS, defaultValue=0),
            QgsProcessingParameterFileDestination("OUTPUT", "Recipe", _RECIPES),
        )

    def call(self, given):
        """Words and outputs."""
        out = given.file("OUTPUT")
        return [given.choice("CHAIN", _CHAINS), "--out", out], {"OUTPUT": out}


class RunRecipe(TeselaAlgorithm):
    """`tesela run`."""

    NAME, TITLE, GROUP = "run", "Run a recipe", "Recipes"
    HELP = (
        "Runs the stages of a recipe, from labels to report. Stages that are up to date are skipped, interrupted ones "
        "continue. Layers of the project can take the place of a scene's files and of the reference. All maps that the "
        "run has made are loaded."
    )
    COMMAND = ("run",)

    def parameters(self):
        """Recipe, and what differs from it."""
        return (
            QgsProcessingParameterFile("RECIPE", "Recipe", fileFilter=_RECIPES),
            QgsProcessingParameterMultipleLayers(
                "SCENE", "Layers in place of the files of a scene", QgsProcessing.TypeRaster, optional=True
            ),
            QgsProcessingParameterString("SCENE_NAME", "Name of that scene in the recipe", optional=True),
            QgsProcessingParameterVectorLayer(
                "REFERENCE",
                "Layer in place of the reference",
                [QgsProcessing.TypeVectorPolygon],
                optional=True,
            ),
            QgsProcessingParameterString("UNTIL", "Last stage to run", optional=True),
            QgsProcessingParameterString("FROM", "First stage to run again", optional=True),
            QgsProcessingParameterString(
                "SET", "Other values, one KEY=VALUE a line", multiLine=True, optional=True
            ),
            advanced(
                QgsProcessingParameterFile(
                    "FOLDER",
                    "Folder of all outputs, in place of the recipe's",
                    behavior=QgsProcessingParameterFile.Folder,
                    optional=True,
                )
            ),
        )

    def initAlgorithm(self, config=None):
        """Add the parameters and the outputs, which the recipe names."""
        super().initAlgorithm(config)
        self.addOutput(QgsProcessingOutputRasterLayer("MAP", "Map"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))
        self.addOutput(QgsProcessingOutputFile("EXPERT", "Expert"))

    def call(self, given):
        """Words; the outputs are known when the run has ended."""
        changes = [line.strip() for line in given.text("SET").splitlines() if line.strip()]
        scene, name = given.rasters("SCENE"), given.text("SCENE_NAME")
        if bool(scene) != bool(name):
            raise QgsProcessingException(
                "Layers of a scene need its name in the recipe, and the name its layers."
            )
        if scene:
            changes.append(f"scenes.{name}.paths={json.dumps(scene)}")
        path, layer = given.vector("REFERENCE")
        if path:
            changes.append(f"reference.path={json.dumps(path)}")
        if layer:
            changes.append(f"reference.layer={json.dumps(layer)}")
        if given.text("FOLDER"):
            changes.append(f"out={json.dumps(given.text('FOLDER'))}")
        words = [given.text("RECIPE"), "--json"]
        words += option("--until", given.text("UNTIL")) + option("--from", given.text("FROM"))
        for change in changes:
            words += ["--set", change]
        return words, {}

    def after(self, given, printed, results):
        """Take the files from the run's document, write its figures in the log, and load the maps."""
        document = json.loads(printed)
        for name, value in document.items():
            if isinstance(value, (int, float, str)):
                given.feedback.pushInfo(f"{name}  {value}")
        maps = _paths(document, "map", "maps")
        for key, paths in (
            ("MAP", maps),
            ("REPORT", _paths(document, "report", "reports")),
            ("EXPERT", _paths(document, "expert")),
        ):
            if paths:
                results[key] = paths[0]
        for path in maps:
            load_result(given.context, path, name=Path(path).stem, output="MAP")


def _paths(document, *keys):
    """Files that a document names under one of some keys."""
    listed = []
    for key in keys:
        value = document.get(key)
        listed += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [path for path in listed if Path(path).exists()]
