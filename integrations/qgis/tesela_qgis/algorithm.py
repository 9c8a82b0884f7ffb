"""The algorithm: parameters of Processing become the words of a command, and its lines become progress and log."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from qgis.core import (
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterString,
    QgsRasterLayer,
)

from tesela_qgis.program import Listener, ProgramError, find_program, run_program

EXTRA = "EXTRA"
_VECTORS = ("gpkg", "shp", "parquet", "geojson", "fgb", "gml", "sqlite")
"""Kinds of files that are handed on as they are; other layers are exported first."""


class TeselaAlgorithm(QgsProcessingAlgorithm):
    """A command of Tesela. Subclasses set the texts and define `parameters` and `call`."""

    NAME = ""
    """Id in the toolbox."""
    TITLE = ""
    GROUP = ""
    HELP = ""
    COMMAND: Sequence[str] = ()
    """First words after `tesela`."""

    def parameters(self) -> Sequence[QgsProcessingParameterDefinition]:
        """The parameters, in the order of the dialog."""
        raise NotImplementedError

    def call(self, given: Given) -> tuple[list[str], dict[str, object]]:
        """Words after those of `COMMAND`, and the results by name of the output."""
        raise NotImplementedError

    def after(self, given: Given, printed: str, results: dict[str, object]) -> None:
        """What is left to do when the command has ended well."""

    def createInstance(self):
        """A new one of the same kind."""
        return type(self)()

    def name(self):
        """Id without that of the provider."""
        return self.NAME

    def displayName(self):
        """Name in the toolbox."""
        return self.TITLE

    def group(self):
        """Group in the toolbox."""
        return self.GROUP

    def groupId(self):
        """Id of the group."""
        return self.GROUP.lower().replace(" ", "-")

    def shortHelpString(self):
        """Text beside the dialog."""
        return f"{self.HELP}\n\nRuns: tesela {' '.join(self.COMMAND)}"

    def icon(self):
        """The plugin's icon."""
        from tesela_qgis.provider import icon

        return icon()

    def initAlgorithm(self, config=None):
        """Add the parameters."""
        for parameter in self.parameters():
            self.addParameter(parameter)
        extra = QgsProcessingParameterString(
            EXTRA, "Further options of the command, as on a command line", optional=True
        )
        self.addParameter(advanced(extra))

    def processAlgorithm(self, parameters, context, feedback):
        """Run the command."""
        given = Given(self, parameters, context, feedback)
        words, results = self.call(given)
        words = [*self.COMMAND, *words, *given.extra()]
        feedback.pushCommandInfo("tesela " + " ".join(shlex.quote(word) for word in words))
        try:
            printed = run_program(
                [*find_program(given.program()), *words],
                listener=FeedbackListener(feedback, show_lines="--json" not in words),
                cancelled=feedback.isCanceled,
            )
        except ProgramError as error:
            raise QgsProcessingException(str(error)) from None
        self.after(given, printed, results)
        return results


class Given:
    """The parameters of one run, as the words that the command takes."""

    def __init__(
        self,
        algorithm: QgsProcessingAlgorithm,
        parameters: dict[str, object],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        self._algorithm, self._parameters = algorithm, parameters
        self.context, self.feedback = context, feedback

    def program(self) -> str:
        """The setting that names the program."""
        from tesela_qgis.provider import program_setting

        return program_setting()

    def extra(self) -> list[str]:
        """Further options."""
        try:
            return shlex.split(self.text(EXTRA))
        except ValueError as error:
            raise QgsProcessingException(f"The further options cannot be read: {error}.") from None

    def text(self, name: str) -> str:
        """A text, a file or a folder; empty where there is none."""
        return self._algorithm.parameterAsString(self._parameters, name, self.context).strip()

    def flag(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self._algorithm.parameterAsBool(self._parameters, name, self.context)

    def choice(self, name: str, words: Sequence[str]) -> str:
        """The chosen one of some words."""
        return words[self._algorithm.parameterAsEnum(self._parameters, name, self.context)]

    def number(self, name: str) -> str:
        """A number as text; empty where there is none."""
        if self._parameters.get(name) is None:
            return ""
        value = self._algorithm.parameterAsDouble(self._parameters, name, self.context)
        return f"{value:.12g}"

    def layer(self, name: str) -> QgsMapLayer | None:
        """A layer of any kind."""
        return self._algorithm.parameterAsLayer(self._parameters, name, self.context)

    def raster(self, name: str) -> str:
        """File of a raster layer; empty where there is none."""
        layer = self._algorithm.parameterAsRasterLayer(self._parameters, name, self.context)
        if layer is None:
            if self._parameters.get(name):
                raise QgsProcessingException(self._algorithm.invalidRasterError(self._parameters, name))
            return ""
        return raster_file(layer)

    def rasters(self, name: str) -> list[str]:
        """Files of several raster layers."""
        layers = self._algorithm.parameterAsLayerList(self._parameters, name, self.context) or []
        return [raster_file(layer) for layer in layers]

    def vector(self, name: str) -> tuple[str, str]:
        """File of a vector layer and its layer there, both empty where there is none."""
        if self._algorithm.parameterAsVectorLayer(self._parameters, name, self.context) is None:
            if self._parameters.get(name):
                raise QgsProcessingException(self._algorithm.invalidSourceError(self._parameters, name))
            return "", ""
        path, layer = self._algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(
            self._parameters, name, self.context, _VECTORS, "gpkg", self.feedback
        )
        return path, layer if path.lower().endswith((".gpkg", ".sqlite")) else ""

    def out(self, name: str) -> str:
        """File of an output layer; empty where none is wanted."""
        if self._parameters.get(name) in (None, ""):
            return ""
        return self._algorithm.parameterAsOutputLayer(self._parameters, name, self.context)

    def file(self, name: str) -> str:
        """File or folder to write."""
        return self._algorithm.parameterAsFileOutput(self._parameters, name, self.context)


class FeedbackListener(Listener):
    """Shows a run in the dialog."""

    def __init__(self, feedback: QgsProcessingFeedback, *, show_lines: bool) -> None:
        self._feedback, self._show_lines = feedback, show_lines
        self._shown = ""

    def progress(self, work: str, done: int, total: int, text: str) -> None:
        """Bar and text; the bar stays where it is while a total is unknown."""
        if total > 0:
            self._feedback.setProgress(100.0 * done / total)
        shown = f"{work}, {text}" if text else work
        if shown != self._shown:
            self._shown = shown
            self._feedback.setProgressText(shown)

    def stage(self, name: str, text: str) -> None:
        """A line in the log; a stage begins at 0."""
        if text:
            self._feedback.pushInfo(f"{name}: {text}")
            return
        self._shown = ""
        self._feedback.setProgressText(name)
        self._feedback.setProgress(0.0)

    def note(self, text: str) -> None:
        """A warning."""
        self._feedback.pushWarning(text)

    def line(self, text: str) -> None:
        """A line in the log, in columns."""
        if self._show_lines:
            self._feedback.pushConsoleInfo(text)


def raster_file(layer: QgsRasterLayer) -> str:
    """
    The file of a raster layer.

    Raises
    ------
    QgsProcessingException
        If it is no file, such as a layer of a map service.
    """
    if not isinstance(layer, QgsRasterLayer) or layer.providerType() != "gdal":
        raise QgsProcessingException(
            f"{layer.name()} is no file of pixels ({layer.providerType()}). Export it as a GeoTIFF first."
        )
    return layer.source()


def advanced(parameter: QgsProcessingParameterDefinition) -> QgsProcessingParameterDefinition:
    """The parameter, among those that are folded away."""
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
    return parameter


def option(word: str, value: str) -> list[str]:
    """An option with its value; nothing where the value is empty."""
    return [word, value] if value else []
