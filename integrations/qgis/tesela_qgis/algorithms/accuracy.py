"""Accuracy: a map against a reference, a sample of points to interpret, and estimates from it."""

from __future__ import annotations

from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
    QgsVectorLayer,
)

from tesela_qgis.algorithm import TeselaAlgorithm, advanced, option
from tesela_qgis.algorithms.products import legend_parameter
from tesela_qgis.results import style_result

_ALLOCATIONS = ("proportional", "equal", "neyman")


class _WithPage(TeselaAlgorithm):
    """A command that writes a folder with a page to read."""

    PAGE = ""

    def initAlgorithm(self, config=None):
        """Add the parameters, and the page as an output."""
        super().initAlgorithm(config)
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def outputs(self, given):
        """Folder and page."""
        folder = given.file("OUTPUT")
        return folder, {"OUTPUT": folder, "REPORT": str(Path(folder) / self.PAGE)}


class Assess(_WithPage):
    """`tesela assess`."""

    NAME, TITLE, GROUP, PAGE = "assess", "Assess a map against a reference", "Accuracy", "report.html"
    HELP = "Scores by class, tile and distance from borders, as JSON and as a page that opens in the results viewer."
    COMMAND = ("assess",)

    def parameters(self):
        """Map and reference."""
        return (
            QgsProcessingParameterRasterLayer("MAP", "Class map or abundance map"),
            QgsProcessingParameterMapLayer(
                "REFERENCE",
                "Reference: a map or polygons",
                types=[QgsProcessing.TypeRaster, QgsProcessing.TypeVectorPolygon],
            ),
            QgsProcessingParameterField(
                "FIELD", "Field of the class codes, for polygons", None, "REFERENCE", optional=True
            ),
            QgsProcessingParameterString(
                "MMU", "Assess the map also generalised to this unit, such as 25 ha", optional=True
            ),
            QgsProcessingParameterVectorLayer(
                "WITHIN", "Polygons of the test area", [QgsProcessing.TypeVectorPolygon], optional=True
            ),
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence of the map", optional=True),
            QgsProcessingParameterRasterLayer("IMAGE", "Scene to show in the report", optional=True),
            advanced(
                QgsProcessingParameterString("SOURCE", "Legend of the reference's codes", optional=True)
            ),
            advanced(
                QgsProcessingParameterNumber(
                    "LEVEL", "Coarser level of the legend", optional=True, minValue=1
                )
            ),
            legend_parameter(),
            QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the report"),
        )

    def call(self, given):
        """Words and outputs."""
        folder, results = self.outputs(given)
        polygons = isinstance(given.layer("REFERENCE"), QgsVectorLayer)
        reference, name = given.vector("REFERENCE") if polygons else (given.raster("REFERENCE"), "")
        within, inside = given.vector("WITHIN")
        words = [given.raster("MAP"), reference, "--out", folder]
        words += option("--within", f"{within}|layername={inside}" if inside else within)
        words += option("--layer", name) + option("--field", given.text("FIELD") if polygons else "")
        words += option("--mmu", given.text("MMU")) + option("--confidence", given.raster("CONFIDENCE"))
        words += option("--image", given.raster("IMAGE")) + option("--source", given.text("SOURCE"))
        words += option("--level", given.number("LEVEL")) + option("--legend", given.text("LEGEND"))
        return words, results


class DrawSample(TeselaAlgorithm):
    """`tesela sample draw`."""

    NAME, TITLE, GROUP = "sample-draw", "Draw a sample of points to interpret", "Accuracy"
    HELP = (
        "Draws a random sample of a map's pixels. Interpret its points in the panel Tesela review, or in the attribute "
        "form, whose field reference offers the classes as a list; then estimate accuracy and area."
    )
    COMMAND = ("sample", "draw")

    def parameters(self):
        """Map and size."""
        return (
            QgsProcessingParameterRasterLayer("MAP", "Class map"),
            QgsProcessingParameterNumber(
                "SIZE", "Number of points; empty: by the target error", optional=True, minValue=1
            ),
            QgsProcessingParameterNumber(
                "TARGET_ERROR",
                "Target standard error of overall accuracy",
                QgsProcessingParameterNumber.Double,
                optional=True,
                minValue=0.0,
                maxValue=1.0,
            ),
            QgsProcessingParameterEnum(
                "ALLOCATION",
                "Points per class",
                ("by area", "the same for all", "by area and expected variance"),
                defaultValue=0,
            ),
            QgsProcessingParameterNumber(
                "MINIMUM", "Smallest number of points in a class", defaultValue=50, minValue=0
            ),
            QgsProcessingParameterBoolean(
                "HIDE_STRATA", "Leave the stratum out, which may reveal the class", defaultValue=True
            ),
            advanced(QgsProcessingParameterNumber("SEED", "Seed", defaultValue=0, minValue=0)),
            legend_parameter(),
            QgsProcessingParameterVectorDestination("OUTPUT", "Sample", QgsProcessing.TypeVectorPoint),
        )

    def call(self, given):
        """Words and outputs."""
        out = given.out("OUTPUT")
        words = [given.raster("MAP"), "--out", out, *option("--points", given.number("SIZE"))]
        words += option("--target-error", given.number("TARGET_ERROR"))
        words += ["--allocation", given.choice("ALLOCATION", _ALLOCATIONS)]
        words += ["--minimum", given.number("MINIMUM"), *option("--seed", given.number("SEED"))]
        words += option("--legend", given.text("LEGEND"))
        words += ["--hide-strata"] if given.flag("HIDE_STRATA") else []
        style_result(given.context, out)
        return words, {"OUTPUT": out}


class EstimateFromSample(_WithPage):
    """`tesela sample estimate`."""

    NAME, TITLE, GROUP, PAGE = (
        "sample-estimate",
        "Estimate accuracy and area from a sample",
        "Accuracy",
        "accuracy.html",
    )
    HELP = "Estimates the accuracy of a map and the areas of its classes from an interpreted sample, with intervals."
    COMMAND = ("sample", "estimate")

    def parameters(self):
        """Sample and map."""
        return (
            QgsProcessingParameterVectorLayer(
                "SAMPLE", "Interpreted sample", [QgsProcessing.TypeVectorPoint]
            ),
            QgsProcessingParameterRasterLayer("MAP", "Class map"),
            legend_parameter(),
            QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the report"),
        )

    def call(self, given):
        """Words and outputs."""
        sample, _ = given.vector("SAMPLE")
        folder, results = self.outputs(given)
        words = [sample, given.raster("MAP"), "--out", folder, *option("--legend", given.text("LEGEND"))]
        return words, results
