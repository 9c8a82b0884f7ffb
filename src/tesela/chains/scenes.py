"""Scenes as recipes name them, and what chains of scenes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from tesela.core.scene import Scene
from tesela.io.scenes import open_scene
from tesela.recipes.sections import SceneSection

Section = TypeVar("Section", bound=SceneSection)


class SceneChain(Generic[Section]):
    """A chain whose recipe lists scenes, to train on, to map, or both."""

    def __init__(self, scenes: Sequence[Section], folder: Path, *, bands: Sequence[str] | None) -> None:
        self.folder = folder
        self._scenes = scenes
        self._named_bands = bands

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Bands that the networks use, in order."""
        if self._named_bands:
            return tuple(self._named_bands)
        return self.open_scene(self._sections(("train", "both"))[0]).band_names

    def open_scene(self, section: Section) -> Scene:
        """Scene of a section of the recipe."""
        return open_section(section, self.folder)

    def _sections(self, uses: Sequence[str]) -> list[Section]:
        return [section for section in self._scenes if section.use in uses]

    def _images(self, uses: Sequence[str]) -> list[Path]:
        return [self.folder / path for section in self._sections(uses) for path in section.paths]


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
