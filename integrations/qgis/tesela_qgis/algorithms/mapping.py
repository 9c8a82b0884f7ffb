"""Mapping: an expert or a cascade on a layer, an unmixing expert on a cube."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from tesela_qgis.algorithm import TeselaAlgorithm, advanced, option
from tesela_qgis.results import style_result

_ENGINES = ("auto", "torch", "compile", "openvino", "cuda")
_TRANSFERS = ("none", "auto", "shift", "scene", "batch_norm", "self_training")


class Predict(TeselaAlgorithm):
    """`tesela predict`."""

    NAME, TITLE, GROUP = "predict", "Map a scene with an expert or a cascade", "Mapping"
    HELP = (
        "Maps a scene with a trained expert (.safetensors) or a cascade of experts (.toml). The map has the colours "
        "and names of the expert's legend. After a crash or a cancellation, the same run continues."
    )
    COMMAND = ("predict",)

    def parameters(self):
        """Expert, scene, outputs; how below them."""
        experts = "Experts and cascades (*.safetensors *.toml)"
        return (
            QgsProcessingParameterRasterLayer("SCENE", "Scene"),
            QgsProcessingParameterFile("EXPERT", "Expert or cascade", fileFilter=experts),
            advanced(
                QgsProcessingParameterMultipleLayers(
                    "MORE", "Further files of the scene", QgsProcessing.TypeRaster, optional=True
                )
            ),
            advanced(
                QgsProcessingParameterString(
                    "BANDS", "Names of all bands in order, comma-separated", optional=True
                )
            ),
            advanced(QgsProcessingParameterEnum("ENGINE", "Engine", _ENGINES, defaultValue=0)),
            advanced(
                QgsProcessingParameterEnum(
                    "TRANSFER",
                    "Adapt the expert to a scene of another region",
                    _TRANSFERS,
                    defaultValue=0,
                )
            ),
            advanced(
                QgsProcessingParameterBoolean(
                    "TTA", "Mean over eight flips and rotations", defaultValue=False
                )
            ),
            advanced(
                QgsProcessingParameterBoolean(
                    "ANY_SCENE",
                    "Map also a scene of another scale or unit than the training",
                    defaultValue=False,
                )
            ),
            QgsProcessingParameterRasterDestination("OUTPUT", "Map"),
            QgsProcessingParameterRasterDestination(
                "CONFIDENCE", "Confidence, in per cent", optional=True, createByDefault=False
            ),
        )

    def call(self, given):
        """Words and outputs."""
        scene = [given.raster("SCENE"), *given.rasters("MORE")]
        out, confidence = given.out("OUTPUT"), given.out("CONFIDENCE")
        words = [given.text("EXPERT"), ",".join(scene), "--out", out]
        words += option("--confidence", confidence) + option("--bands", given.text("BANDS"))
        words += ["--engine", given.choice("ENGINE", _ENGINES)]
        words += ["--transfer", given.choice("TRANSFER", _TRANSFERS)]
        words += ["--tta", "d4"] if given.flag("TTA") else []
        words += ["--any-scene"] if given.flag("ANY_SCENE") else []
        style_result(given.context, out)
        style_result(given.context, confidence)
        return words, {"OUTPUT": out, **({"CONFIDENCE": confidence} if confidence else {})}


class Unmix(TeselaAlgorithm):
    """`tesela unmix`."""

    NAME, TITLE, GROUP = "unmix", "Map the shares of classes in a cube", "Mapping"
    HELP = "Maps the share of each class in each pixel of a cube of monthly series (a Zarr folder)."
    COMMAND = ("unmix",)

    def parameters(self):
        """Expert, cube, outputs."""
        return (
            QgsProcessingParameterFile("EXPERT", "Expert for unmixing", fileFilter="Experts (*.safetensors)"),
            QgsProcessingParameterFile("CUBE", "Cube", behavior=QgsProcessingParameterFile.Folder),
            QgsProcessingParameterRasterDestination("OUTPUT", "Abundance map"),
            QgsProcessingParameterRasterDestination(
                "CLASSES", "Class map of the largest shares", optional=True, createByDefault=False
            ),
        )

    def call(self, given):
        """Words and outputs."""
        out, classes = given.out("OUTPUT"), given.out("CLASSES")
        words = [given.text("EXPERT"), given.text("CUBE"), "--out", out, *option("--classes", classes)]
        style_result(given.context, out)
        style_result(given.context, classes)
        return words, {"OUTPUT": out, **({"CLASSES": classes} if classes else {})}
