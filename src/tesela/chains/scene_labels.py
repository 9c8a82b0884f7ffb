"""The labels of the scenes of a recipe: references and corrections, drawn in the legend of each expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from tesela.chains.corrections import Corrections, corrected_words, read_corrected, write_corrected
from tesela.chains.preview import reference_facts
from tesela.chains.scenes import RecipeScenes
from tesela.chains.targets import Target
from tesela.core.class_tree import Branch
from tesela.core.errors import GridError, InputError
from tesela.core.grid import check_utm_zone
from tesela.core.notes import note
from tesela.io.addresses import in_folder
from tesela.io.maps import open_map
from tesela.labels import write_labels
from tesela.labels.corrections import blank_labels
from tesela.labels.masks import NoLabelError
from tesela.recipes.sections import SceneSection, input_content
from tesela.recipes.stage_items import do_item, keep_items
from tesela.recipes.stages import Stage


@dataclass(frozen=True, eq=False)
class SceneLabels:
    """Labels of all experts on all scenes; a chain that knows its reference draws it by its own rules."""

    every_map: ClassVar[bool] = True
    """Whether scenes to map only get labels of ``[reference]``, too; those with a reference of their own always do."""

    scenes: RecipeScenes
    targets: tuple[Target, ...]
    """Experts; the labels of the first one are where the map is evaluated."""
    branches: tuple[Branch, ...]
    """Experts as the tree of the classes of the map."""
    legend_files: Sequence[Path]
    """CSV files of legends that the recipe names."""

    @property
    def folder(self) -> Path:
        """Folder of the stage."""
        return self.scenes.out / "labels"

    def stage(self) -> Stage:
        """The stage that draws them."""
        return Stage(
            "label",
            self.folder,
            {"scenes": self.scenes.rows, **self._settings},
            lambda: self._inputs(self.scenes.sections()),
            self._draw_all,
            self.targets[0].legend.address,
        )

    def files(self, uses: Sequence[str]) -> list[Path]:
        """Labels that exist of the scenes of some uses."""
        files = [target.label_file(item) for target in self.targets for item in self.scenes.sections(uses)]
        return [file for file in files if file.exists()]

    # --- what another kind of reference changes

    def check_scene(self, section: SceneSection) -> None:
        """Check the files of a scene before they are used."""
        if section.zone is not None:
            check_utm_zone(section.name, section.zone, self.scenes.open_images(section).grid)

    def draw(self, target: Target, section: SceneSection) -> None:
        """Draw the reference of an expert on the grid of a scene."""
        reference, folder = target.reference, self.scenes.folder
        write_labels(
            self.reference_file(target, section),
            target.label_file(section),
            like=self.scenes.open_images(section).grid,
            legend=target.legend,
            source=reference.source_in(folder),
            field=reference.field,
            crosswalk=reference.open_crosswalk(target.legend, folder),
            layer=reference.layer,
        )

    def facts(self, target: Target, path: str | Path) -> str:
        """Kind and size of a reference of an expert, which is opened; empty where its labels come from elsewhere."""
        reference = target.reference
        return reference_facts(str(path), field=reference.field, layer=reference.layer)

    # --- references

    def reference_file(self, target: Target, section: SceneSection) -> str | Path:
        """Reference of an expert on a scene."""
        own = None if target.own_reference else section.reference
        return in_folder(self.scenes.folder, own or target.reference.path)

    def reference_rows(self) -> dict[str, str]:
        """Facts of each reference, by its name; all are opened."""
        facts: dict[str | Path, str] = {}
        for target in self.targets:
            for section in self.scenes.sections():
                path = self.reference_file(target, section)
                facts[path] = facts.get(path) or self.facts(target, path)
        return {f"reference {Path(path).name}": text for path, text in facts.items() if text}

    # --- corrections

    @cached_property
    def corrections(self) -> Corrections:
        """Reviewed polygons that are drawn over the labels."""
        return Corrections(tuple(self.scenes.recipe.corrections), self.scenes.folder, self.branches)

    @property
    def corrected(self) -> str:
        """What the corrections changed, in words; empty without any."""
        if not self.corrections:
            return ""
        return corrected_words(
            read_corrected(self.folder, [section.name for section in self.scenes.sections()])
        )

    # --- the work

    @property
    def _settings(self) -> dict[str, object]:
        return {
            "references": {target.name: target.reference.model_dump() for target in self.targets},
            "legends": {target.name: target.legend.to_rows() for target in self.targets},
            **self.corrections.settings,
        }

    def _inputs(self, sections: Sequence[SceneSection]) -> list[str | Path]:
        """What the labels of some scenes depend on."""
        folder = self.scenes.folder
        files = [file for target in self.targets for file in target.reference.files(folder)]
        for section in sections:
            if section.reference:
                layer = self.targets[0].reference.layer
                files.append(input_content(section.reference, folder, layer=layer))
        files += self.corrections.files()
        return [*dict.fromkeys([*files, *self.legend_files]), *self.scenes.images_alone(sections)]

    def _draw_all(self) -> Sequence[Path]:
        """Draw the reference in the legend of each expert on the grid of each scene."""
        files, settings = [], self._settings
        keep_items(self.folder, [section.name for section in self.scenes.sections()])
        for section in self.scenes.sections():
            files += do_item(
                self.folder,
                section.name,
                settings={"scene": section.model_dump(exclude={"outline"}), **settings},
                inputs=self._inputs([section]),
                work=partial(self._draw_scene, section),
            )
        return files

    def _draw_scene(self, section: SceneSection) -> list[Path]:
        """Draw the reference on one scene, and the corrections over it."""
        self.check_scene(section)
        files, corrected = [], {}
        for target in self.targets:
            file = target.label_file(section)
            unlabelled = section.use == "map" and not (self.every_map or section.reference)
            if unlabelled or not self._is_drawn(target, section):
                file.unlink(missing_ok=True)
                continue
            files.append(file)
            if self.corrections:
                corrected[target.name] = self.corrections.draw(target, open_map(file))
        if self.corrections:
            files.append(write_corrected(self.folder, section.name, corrected))
        return files

    def _is_drawn(self, target: Target, section: SceneSection) -> bool:
        """Draw the labels of an expert; False for a scene to map that has none."""
        try:
            self.draw(target, section)
        except (GridError, NoLabelError) as error:
            grid = self.scenes.open_images(section).grid
            if section.use != "map" and self.corrections.reach(grid):
                note(f"{section.name}: {error} The corrections are its only labels.")
                blank_labels(target.label_file(section), like=grid, legend=target.legend)
                return True
            outside = isinstance(error, GridError)  # a scene to map may lie outside the reference
            if section.use != "map" or (section.reference if outside else target is self.targets[0]):
                raise
            return False
        except InputError:
            if section.use != "map" or target is self.targets[0]:
                raise
            return False  # no tree to name the species of
        return True
