"""Figures 4, 5 and 6 of Demir and Musaoglu (2023): image, reference, map and differences, whole and in detail."""

from __future__ import annotations

from pathlib import Path

from odc.geo.geobox import GeoBox

from tesela.article.drawing import Drawing, Figures, Source
from tesela.article.scenes import Detail, MappedScene, mapped_scene
from tesela.io.maps import ClassMap, open_map
from tesela.pages.map_figure import map_figure


def draw_scene(source: Source) -> Drawing:
    """The whole scene: image, reference, map, and the generalised map or the differences."""
    scene = mapped_scene(source)
    generalised = _generalised(scene)
    last = "the map generalised to the unit of the reference" if generalised else _DIFFERENCES
    return _draw(scene, f"Scene '{scene.section.name}'", last, generalised=generalised)


def draw_best(source: Source) -> Drawing:
    """The part of the scene with the highest mean IoU in the evaluated area."""
    scene = mapped_scene(source)
    best, _ = scene.details()
    return _draw(scene, _detail_text("highest", best), _DIFFERENCES, window=best.window)


def draw_worst(source: Source) -> Drawing:
    """The part of the scene with the lowest mean IoU in the evaluated area."""
    scene = mapped_scene(source)
    _, worst = scene.details()
    return _draw(scene, _detail_text("lowest", worst), _DIFFERENCES, window=worst.window)


FIGURES: Figures = {"4": draw_scene, "5": draw_best, "6": draw_worst}

_DIFFERENCES = "where map and reference differ"


def _detail_text(which: str, detail: Detail) -> str:
    return f"The part of the scene with the {which} mean IoU ({detail.place}; about {detail.mean_iou:.2f})"


def _draw(
    scene: MappedScene,
    text: str,
    last: str,
    *,
    window: GeoBox | None = None,
    generalised: ClassMap | None = None,
) -> Drawing:
    panels, grid, legend = scene.four_maps(window, generalised=generalised)
    image = scene.image_title.removeprefix("Image: ")
    caption = f"{text}: (a) image ({image}), (b) reference, (c) map, (d) {last}."
    inputs = [scene.map.path, scene.reference.path, *([generalised.path] if generalised else [])]
    return Drawing(map_figure(panels, grid, legend=legend), caption, tuple(inputs))


def _generalised(scene: MappedScene) -> ClassMap | None:
    """The generalised map, where the assessment of the run made one."""
    report: Path = scene.chain.out / "report"
    for folder in (report / scene.section.name, report):
        if (folder / "generalised.tif").exists():
            return open_map(folder / "generalised.tif")
    return None
