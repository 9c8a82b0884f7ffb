"""Results in the project: layers that are loaded with the style that Tesela has stored with them."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingLayerPostProcessorInterface,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import Qt


class StyleFromFile(QgsProcessingLayerPostProcessorInterface):
    """Loads the style beside a raster (QML) or in a GeoPackage, also where Processing has a default style."""

    _kept: list[StyleFromFile] = []  # noqa: RUF012

    @classmethod
    def make(cls) -> StyleFromFile:
        """A post-processor; its context deletes it, and until then Python must not."""
        cls._kept[:] = [made for made in cls._kept if not sip.isdeleted(made)]
        cls._kept.append(cls())
        return cls._kept[-1]

    def postProcessLayer(self, layer, context, feedback):
        """Load the style; called when the layer is in the project."""
        layer.loadDefaultStyle()
        if "decision" in _fields(layer) or "verdict" in _fields(layer):
            draw_outlines(layer)
        layer.triggerRepaint()


def draw_outlines(layer: QgsVectorLayer) -> None:
    """Draw the categories of a polygon layer as outlines in their colours, so that the imagery below is seen."""
    renderer = layer.renderer().clone()
    if layer.geometryType() != QgsWkbTypes.PolygonGeometry or not hasattr(renderer, "categories"):
        return
    for number, category in enumerate(renderer.categories()):
        symbol = category.symbol().clone()
        fill = symbol.symbolLayer(0)
        if hasattr(fill, "setBrushStyle") and fill.brushStyle() != Qt.NoBrush:
            fill.setStrokeColor(fill.fillColor())
            fill.setStrokeWidth(0.6)
            fill.setBrushStyle(Qt.NoBrush)
        renderer.updateCategorySymbol(number, symbol)
    layer.setRenderer(renderer)
    layer.legendChanged.emit()
    layer.triggerRepaint()


def _fields(layer) -> list[str]:
    return layer.fields().names() if isinstance(layer, QgsVectorLayer) else []


def style_result(context: QgsProcessingContext, path: str, *, name: str = "") -> None:
    """Style a result that Processing loads when the algorithm has ended."""
    if path in context.layersToLoadOnCompletion():
        details = context.layerToLoadOnCompletionDetails(path)
        details.setPostProcessor(StyleFromFile.make())
        if name:
            details.name = name
            details.forceName = True


def load_result(context: QgsProcessingContext, path: str, *, name: str, output: str) -> None:
    """Load a further layer when the algorithm has ended, with its style."""
    if context.project() is None:
        return
    details = QgsProcessingContext.LayerDetails(name, context.project(), output)
    details.setPostProcessor(StyleFromFile.make())
    context.addLayerToLoadOnCompletion(path, details)
