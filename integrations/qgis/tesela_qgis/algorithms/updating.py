"""Updating an old map: the queue of changes to review, and the new layer after the review."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
)

from tesela_qgis.algorithm import TeselaAlgorithm, advanced, option
from tesela_qgis.algorithms.products import legend_parameter
from tesela_qgis.results import load_result, style_result

_UNDECIDED = ("keep", "accept")


class QueueChanges(TeselaAlgorithm):
    """`tesela update queue`."""

    NAME, TITLE, GROUP = "update", "List the polygons of an old map that are out of date", "Updating"
    HELP = (
        "Compares the polygons of an old map with a new class map, and lists those that may be out of date, the most "
        "urgent first, with the changes proposed in them. Review these in the panel Tesela review, then apply them. "
        "Use the map before generalisation."
    )
    COMMAND = ("update", "queue")

    def parameters(self):
        """Old polygons, new map, least change."""
        return (
            QgsProcessingParameterVectorLayer("POLYGONS", "Old map", [QgsProcessing.TypeVectorPolygon]),
            QgsProcessingParameterField("FIELD", "Field of the old codes", None, "POLYGONS"),
            QgsProcessingParameterRasterLayer("MAP", "New class map"),
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence of the map", optional=True),
            QgsProcessingParameterString("MMU", "Least area of a change", "1 ha"),
            advanced(
                QgsProcessingParameterString(
                    "SOURCE", "Legend of the old codes, if not that of the map", optional=True
                )
            ),
            advanced(
                QgsProcessingParameterString(
                    "PART",
                    "Queue every polygon with this area of another class (generalised maps)",
                    optional=True,
                )
            ),
            advanced(
                QgsProcessingParameterBoolean(
                    "ALL", "Write all polygons, also those that hold", defaultValue=False
                )
            ),
            legend_parameter(),
            QgsProcessingParameterVectorDestination("OUTPUT", "Queue"),
        )

    def initAlgorithm(self, config=None):
        """Add the parameters, and the layer of proposals as a second output."""
        super().initAlgorithm(config)
        self.addOutput(QgsProcessingOutputVectorLayer("PROPOSALS", "Proposed changes"))

    def call(self, given):
        """Words and outputs."""
        path, layer = given.vector("POLYGONS")
        out = given.out("OUTPUT")
        words = [path, given.raster("MAP"), "--out", out, "--field", given.text("FIELD")]
        words += ["--mmu", given.text("MMU"), *option("--layer", layer)]
        words += option("--confidence", given.raster("CONFIDENCE")) + option("--source", given.text("SOURCE"))
        words += option("--part", given.text("PART")) + option("--legend", given.text("LEGEND"))
        words += ["--all"] if given.flag("ALL") else []
        return words, {"OUTPUT": out, "PROPOSALS": f"{out}|layername=proposals"}

    def after(self, given, printed, results):
        """Load both layers, if the queue is to be loaded."""
        out = results["OUTPUT"]
        if out in given.context.layersToLoadOnCompletion():
            load_result(given.context, results["PROPOSALS"], name="Proposed changes", output="PROPOSALS")
            style_result(given.context, out)


class ApplyUpdate(TeselaAlgorithm):
    """`tesela update apply`."""

    NAME, TITLE, GROUP = "update-apply", "Apply the reviewed changes to the old map", "Updating"
    HELP = (
        "Writes the new layer, in which accepted changes are polygons of their own with the new code, and the layer of "
        "changes. Borders between old polygons do not move."
    )
    COMMAND = ("update", "apply")

    def parameters(self):
        """Queue, old polygons."""
        return (
            QgsProcessingParameterVectorLayer("QUEUE", "Queue or its proposals"),
            QgsProcessingParameterVectorLayer(
                "POLYGONS",
                "Old map, if it has moved since",
                [QgsProcessing.TypeVectorPolygon],
                optional=True,
            ),
            QgsProcessingParameterEnum(
                "UNDECIDED",
                "Proposals without a decision",
                ("keep the old class", "accept the new class"),
                defaultValue=0,
            ),
            QgsProcessingParameterVectorDestination("OUTPUT", "New map"),
        )

    def initAlgorithm(self, config=None):
        """Add the parameters, and the layer of changes as a second output."""
        super().initAlgorithm(config)
        self.addOutput(QgsProcessingOutputVectorLayer("CHANGES", "Changes"))

    def call(self, given):
        """Words and outputs."""
        queue, _ = given.vector("QUEUE")
        if not queue.lower().endswith(".gpkg"):
            raise QgsProcessingException(
                f"{queue} is no queue; give the GeoPackage that the update has written."
            )
        path, layer = given.vector("POLYGONS")
        out = given.out("OUTPUT")
        words = [queue, "--out", out, "--undecided", given.choice("UNDECIDED", _UNDECIDED)]
        words += option("--polygons", path) + option("--layer", layer)
        return words, {"OUTPUT": out, "CHANGES": f"{out}|layername=changes"}

    def after(self, given, printed, results):
        """Load both layers, if the new map is to be loaded."""
        out = results["OUTPUT"]
        if out in given.context.layersToLoadOnCompletion():
            load_result(given.context, results["CHANGES"], name="Changes", output="CHANGES")
            style_result(given.context, out)
