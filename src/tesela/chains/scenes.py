"""The scenes of a recipe: their images, and the layers on their grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tesela.chains.scene_recipe import SceneRecipe
from tesela.core.scene import Scene
from tesela.io.addresses import in_folder
from tesela.io.scenes import open_scene
from tesela.recipes.sections import SceneSection
from tesela.recipes.stages import Stage
from tesela.sources.scene_layers import check_layers, write_scene_layers

ALL = ("train", "map", "both")
"""Uses of scenes."""

TRAINED = ("train", "both")
"""Uses of scenes to train on."""

MAPPED = ("map", "both")
"""Uses of scenes to map."""


@dataclass(frozen=True, eq=False)
class RecipeScenes:
    """Scenes as a recipe names them: opened, or the files that stages read."""

    recipe: SceneRecipe
    folder: Path
    """Folder of the recipe, to which its paths are relative."""
    out: Path
    """Folder of the run."""

    def sections(self, uses: Sequence[str] = ALL) -> list[SceneSection]:
        """Scenes of some uses."""
        return [section for section in self.recipe.scenes if section.use in uses]

    @property
    def rows(self) -> list[dict[str, object]]:
        """All that the recipe says of its scenes, for the settings of stages."""
        return [section.model_dump() for section in self.recipe.scenes]

    def open(self, section: SceneSection) -> Scene:
        """Scene of a section of the recipe: its images, then its layers."""
        scene = self.open_images(section)
        if not self.recipe.layers:
            return scene
        layers = open_scene(self.layer_file(section))
        return replace(scene, bands=(*scene.bands, *layers.bands))

    def open_images(self, section: SceneSection) -> Scene:
        """Scene of a section of the recipe without its layers, which need not be written yet."""
        scene = open_scene(
            [in_folder(self.folder, path) for path in section.paths],
            bands=section.bands,
            dates=section.dates,
            scale=section.scale,
            offset=section.offset,
            nodata=section.nodata,
            date=section.date,
            invalid=section.invalid,
        )
        return replace(scene, name=section.name)

    @cached_property
    def _all_open(self) -> list[Scene]:
        return [self.open(section) for section in self.recipe.scenes]

    def neighbours(self, section: SceneSection) -> list[Scene]:
        """Scenes beside one, whose pixels the networks see at its edge where maps are joined."""
        if self.recipe.mapping.join == "none":
            return []
        from tesela.mapping.surroundings import beside  # loads torch, seconds

        return beside(self.open(section), self._all_open, within_px=self.recipe.mapping.window_px)

    # --- bands

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Bands that the networks use, in order."""
        if self.recipe.bands:
            return tuple(self.recipe.bands)
        return self.open(self.sections(TRAINED)[0]).band_names

    @property
    def given_bands(self) -> list[str] | None:
        """Bands that the recipe names."""
        return list(self.bands) if self.recipe.bands else None

    def check_bands(self) -> dict[str, Scene]:
        """
        Open the images of all scenes and look for the bands that are used; layers need not be written yet.

        Raises
        ------
        InputError
            If a scene lacks one.
        """
        scenes = {section.name: self.open_images(section) for section in self.recipe.scenes}
        of_layers = {name for item in self.recipe.scene_layers(self.folder) for name in item.band_names}
        trained = self.sections(TRAINED) or self.recipe.scenes
        wanted = self.recipe.bands or scenes[trained[0].name].band_names
        for scene in scenes.values():
            scene.select([name for name in wanted if name not in of_layers])
        return scenes

    # --- files

    def images(self, uses: Sequence[str]) -> list[str | Path]:
        """Files of the scenes of some uses, their layers after all images."""
        sections = self.sections(uses)
        layers = [self.layer_file(section) for section in sections] if self.recipe.layers else []
        return [*self.images_alone(sections), *layers]

    def images_alone(self, sections: Sequence[SceneSection]) -> list[str | Path]:
        """Images of some scenes, without their layers."""
        return [in_folder(self.folder, path) for section in sections for path in section.paths]

    def files_of(self, section: SceneSection) -> list[str | Path]:
        """Images and layers of a scene."""
        return [*self.images_alone([section]), *([self.layer_file(section)] if self.recipe.layers else [])]

    # --- layers

    def layer_file(self, section: SceneSection) -> Path:
        """Layers of a scene on its grid."""
        return self.out / "layers" / f"{section.name}.tif"

    def layer_stages(self) -> tuple[Stage, ...]:
        """The stage that brings layers onto the grids of the scenes; none where the recipe has no layers."""
        layers = [layer.model_dump() for layer in self.recipe.layers]
        if not layers:
            return ()
        settings = {"scenes": self.rows, "layers": layers}
        return (Stage("layers", self.out / "layers", settings, self._layer_inputs, self._write_layers),)

    def _write_layers(self) -> Sequence[Path]:
        """Bring the layers of the recipe onto the grid of each scene, as one file a scene."""
        layers = self.recipe.scene_layers(self.folder)
        scenes = [self.open_images(section) for section in self.recipe.scenes]
        for scene in scenes:
            check_layers(scene, layers)
        return [
            write_scene_layers(scene, layers, self.layer_file(section))
            for scene, section in zip(scenes, self.recipe.scenes, strict=True)
        ]

    def _layer_inputs(self) -> list[str | Path]:
        files = [path for layer in self.recipe.scene_layers(self.folder) for path in layer.paths]
        return [*files, *self.images_alone(self.recipe.scenes)]
