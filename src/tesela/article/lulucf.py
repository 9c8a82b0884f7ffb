"""Figures 1a, 1b and 2 of Garcia Martin et al. (2026): the orthophoto, its labels, and the cascade step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tesela.article.drawing import Drawing, Figures, Source
from tesela.article.scenes import PANEL_MM, classes_part, mapped_scene
from tesela.assessment.pictures import compare_coarsely
from tesela.core.legend import Legend
from tesela.io.map_views import class_picture
from tesela.io.maps import open_map
from tesela.pages.map_figure import SINGLE_MM, LegendPart, MapPanel, map_figure

if TYPE_CHECKING:
    from tesela.chains.lulucf.chain import LulucfChain


def draw_image(source: Source) -> Drawing:
    """The orthophoto."""
    scene = mapped_scene(source)
    labels = open_map(source.chain.targets[0].label_file(scene.section))
    overview = compare_coarsely(labels, labels, legend=labels.legend, size_px=source.cells(SINGLE_MM))
    bands = scene.image_title.removeprefix("Image: ")
    return Drawing(
        map_figure([scene.image(overview.grid)], overview.grid, legend=[]),
        f"Image '{scene.section.name}' ({bands}).",
        tuple(str(band.path) for band in scene.scene.bands[:1]),
    )


def draw_labels(source: Source) -> Drawing:
    """The labels of the first expert."""
    scene, target = mapped_scene(source), source.chain.targets[0]
    labels = open_map(target.label_file(scene.section))
    overview = compare_coarsely(labels, labels, legend=labels.legend, size_px=source.cells(SINGLE_MM))
    panel = MapPanel("Labels", class_picture(overview.map_values, labels.legend))
    part = classes_part("", labels.legend.classes, [overview.map_values])
    return Drawing(
        map_figure([panel], overview.grid, legend=[part]),
        f"Labels of the expert '{target.name}' on image '{scene.section.name}', from the reference.",
        (labels.path,),
    )


def draw_cascade(source: Source) -> Drawing:
    """The map after each level of the cascade, and the labels of all experts."""
    chain: LulucfChain = source.chain
    scene = mapped_scene(source)
    source.need(chain.joined_file(scene.section), "assess")
    overview = scene.overview(source.cells(PANEL_MM))
    legend, names = scene.map.legend, _experts_by_level(chain)
    panels: list[MapPanel] = []
    parts: list[LegendPart] = []
    known: set[int] = set()
    for depth in range(1, legend.depth + 1):
        level = legend.level(depth)
        values = _at_level(legend, depth, overview.map_values)
        title = names.get(depth, f"level {depth}")
        panels.append(MapPanel(title[:1].upper() + title[1:], class_picture(values, level)))
        both = [values, _at_level(legend, depth, overview.reference_values)]
        fresh = [item for item in level.classes if item.value not in known]
        known |= set(level.values)
        part = classes_part(title[:1].upper() + title[1:], fresh, both)
        parts += [part] if part.entries else []
    panels.append(MapPanel("Labels of all experts", class_picture(overview.reference_values, legend)))
    steps = ", ".join(
        f"({chr(ord('a') + k)}) {panel.title[:1].lower()}{panel.title[1:]}" for k, panel in enumerate(panels)
    )
    return Drawing(
        map_figure(panels, overview.grid, legend=parts),
        f"The cascade on image '{scene.section.name}', expert by expert: {steps}.",
        (scene.map.path, scene.reference.path),
    )


FIGURES: Figures = {"1a": draw_image, "1b": draw_labels, "2": draw_cascade}


def _at_level(legend: Legend, depth: int, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(legend.level_table(depth)[values], np.uint8)


def _experts_by_level(chain: LulucfChain) -> dict[int, str]:
    """Names of the experts that decide each level of the legend."""
    depths: dict[str, int] = {}
    names: dict[int, list[str]] = {}
    for expert in chain.recipe.experts:
        depths[expert.name] = 1 if expert.parent is None else depths[expert.parent] + 1
        names.setdefault(depths[expert.name], []).append(expert.name)
    return {depth: " and ".join(items) for depth, items in names.items()}
