"""Products of a map: the generalised map, and its areas as polygons."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from tesela_qgis.algorithm import TeselaAlgorithm, advanced, option
from tesela_qgis.results import style_result

_EDGES = ("keep", "merge")


def legend_parameter():
    """Legend of a map that does not name its own."""
    return advanced(
        QgsProcessingParameterString("LEGEND", "Legend of the map, if the file has none", optional=True)
    )


class Generalise(TeselaAlgorithm):
    """`tesela generalise`."""

    NAME, TITLE, GROUP = "generalise", "Generalise a map", "Products"
    HELP = (
        "Gives areas under the minimum mapping unit, and parts under the minimum width, to their neighbours. The "
        "CORINE standard is 25 ha and 100 m. Lengths and areas are written with their unit."
    )
    COMMAND = ("generalise",)

    def parameters(self):
        """Map, unit, width."""
        return (
            QgsProcessingParameterRasterLayer("MAP", "Class map"),
            QgsProcessingParameterString("MMU", "Minimum mapping unit", "25 ha"),
            QgsProcessingParameterString("MIN_WIDTH", "Minimum width", "100 m"),
            QgsProcessingParameterString(
                "PRIORITY", "Which neighbour gets a small area: auto, or a CSV", optional=True
            ),
            advanced(
                QgsProcessingParameterEnum("EDGES", "Small areas cut by the edge", _EDGES, defaultValue=0)
            ),
            advanced(
                QgsProcessingParameterBoolean(
                    "MOSAIC", "Merge small parcels into mosaic classes first", defaultValue=False
                )
            ),
            legend_parameter(),
            QgsProcessingParameterRasterDestination("OUTPUT", "Generalised map"),
        )

    def call(self, given):
        """Words and outputs."""
        out = given.out("OUTPUT")
        words = [given.raster("MAP"), "--out", out, "--mmu", given.text("MMU")]
        words += ["--min-width", given.text("MIN_WIDTH"), "--edges", given.choice("EDGES", _EDGES)]
        words += option("--priority", given.text("PRIORITY")) + option("--legend", given.text("LEGEND"))
        words += ["--mosaic"] if given.flag("MOSAIC") else []
        style_result(given.context, out)
        return words, {"OUTPUT": out}


class Vectorise(TeselaAlgorithm):
    """`tesela vectorise`."""

    NAME, TITLE, GROUP = "vectorise", "Write the areas of a map as polygons", "Products"
    HELP = "Writes the areas of a map as polygons without gaps or overlaps, with the colours of the legend."
    COMMAND = ("vectorise",)

    def parameters(self):
        """Map and smoothing."""
        return (
            QgsProcessingParameterRasterLayer("MAP", "Class map"),
            QgsProcessingParameterString(
                "SIMPLIFY", "Smooth shared borders by this length, such as 20 m", optional=True
            ),
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence of the map", optional=True),
            legend_parameter(),
            QgsProcessingParameterVectorDestination("OUTPUT", "Polygons"),
        )

    def call(self, given):
        """Words and outputs."""
        out = given.out("OUTPUT")
        words = [given.raster("MAP"), "--out", out, *option("--simplify", given.text("SIMPLIFY"))]
        words += option("--confidence", given.raster("CONFIDENCE")) + option("--legend", given.text("LEGEND"))
        style_result(given.context, out)
        return words, {"OUTPUT": out}
