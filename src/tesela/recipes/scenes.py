"""Scenes as recipes name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tesela.core.scene import Scene
from tesela.io.raster import open_scene
from tesela.recipes.sections import SceneSection


def open_section(section: SceneSection, folder: Path) -> Scene:
    """Scene of a ``[[scenes]]`` entry of the recipe in a folder."""
    scene = open_scene(
        [folder / path for path in section.paths],
        bands=section.bands,
        scale=section.scale,
        offset=section.offset,
        nodata=section.nodata,
        date=section.date,
        nonfinite=section.nonfinite,
    )
    return replace(scene, name=section.name)
