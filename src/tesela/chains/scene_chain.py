"""The chain from scenes to class maps: what corine and lulucf share, stage by stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, TypeVar

from tesela.assessment.assessment import assess
from tesela.chains.evaluation import EvaluatedScenes
from tesela.chains.metrics import Blocks, count_blocks, count_mflops_per_px
from tesela.chains.pretraining import pretraining_stages
from tesela.chains.preview import Preview, preview_scenes
from tesela.chains.scene_labels import SceneLabels
from tesela.chains.scene_recipe import SceneRecipe
from tesela.chains.scenes import MAPPED, TRAINED, RecipeScenes
from tesela.chains.start_weights import StartWeights
from tesela.chains.target_patches import TargetPatches
from tesela.chains.targets import Target
from tesela.chains.trainings import Trainings
from tesela.core.class_tree import Branch
from tesela.core.errors import InputError
from tesela.io.maps import ClassMap, open_map
from tesela.patches.split import patches_a_block
from tesela.patches.table import open_patches
from tesela.recipes.sections import HOW_ONLY, SceneSection, input_content
from tesela.recipes.stage_items import do_item
from tesela.recipes.stages import Stage

SCORES = ("confidence", "entropy", "probabilities")
"""What `[mapping]` writes beside a map."""

Recipe = TypeVar("Recipe", bound=SceneRecipe)


class SceneChain(ABC, Generic[Recipe]):
    """
    Stages of one recipe: label, layers where there are some, patches, one or more trainings, map, assess.

    A chain states its targets and trainings, how it maps its scenes and how it assesses the maps.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, quiet: bool) -> None:
        self.recipe = recipe
        self.folder = folder
        self.out = folder / recipe.out
        self.quiet = quiet
        self.scenes = RecipeScenes(recipe, folder, self.out)

    # --- what a chain states

    @property
    @abstractmethod
    def targets(self) -> tuple[Target, ...]:
        """Experts by what they learn; the first one's labels decide the split."""

    @property
    @abstractmethod
    def trainings(self) -> Trainings:
        """Trainings of the experts."""

    @abstractmethod
    def legend_files(self) -> Sequence[Path]:
        """CSV files of legends that the recipe names."""

    @abstractmethod
    def map(self) -> Sequence[Path]:
        """Map each scene."""

    @abstractmethod
    def map_files(self) -> Sequence[Path]:
        """Maps and confidence rasters that `map` writes and `assess` reads."""

    @abstractmethod
    def assess(self) -> Sequence[Path]:
        """Assess maps and experts on pixels that they never saw; write reports and the summary."""

    @abstractmethod
    def map_file(self, section: SceneSection) -> Path:
        """The map of a scene that is compared."""

    @abstractmethod
    def score_files(self, section: SceneSection) -> Mapping[str, Path]:
        """Rasters of scores beside that map, by kind."""

    @abstractmethod
    def reference_map(self, section: SceneSection) -> ClassMap:
        """Labels of a scene in the legend of its map."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Experts as the tree of the classes of the map."""
        return tuple(Branch(target.name, target.legend) for target in self.targets)

    @cached_property
    def labels(self) -> SceneLabels:
        """Labels of all experts on all scenes."""
        return SceneLabels(self.scenes, self.targets, self.branches, self.legend_files())

    def map_settings(self) -> Mapping[str, object]:
        """Further settings on which maps depend."""
        return {}

    # --- its parts

    @property
    def patches(self) -> TargetPatches:
        """Patches of all experts."""
        return TargetPatches(self.labels)

    @property
    def start(self) -> StartWeights:
        """Weights from which the trainings begin."""
        return StartWeights(self.scenes, self.targets[0].patch_file)

    @property
    def evaluated(self) -> EvaluatedScenes:
        """Scenes whose maps are evaluated."""
        return EvaluatedScenes(self.labels)

    # --- stages

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order."""
        return (
            self.labels.stage(),
            *self.scenes.layer_stages(),
            self.patches.stage(),
            *pretraining_stages(self.start, quiet=self.quiet),
            *self.trainings.stages(),
            self._map_stage(),
            *self._join_stages(),
            self._assess_stage(),
        )

    def _map_stage(self) -> Stage:
        return Stage(
            "map",
            self.out / "maps",
            {
                "name": self.recipe.name,
                "scenes": self.scenes.rows,
                "mapping": self.recipe.mapping.model_dump(exclude=HOW_ONLY),
                **self.map_settings(),
            },
            lambda: [*self.trainings.files(), *self.scenes.images(MAPPED)],
            self.map,
            self.targets[0].legend.address,
        )

    def _join_stages(self) -> tuple[Stage, ...]:
        """The stage that joins the maps of all sheets; none where the recipe keeps one map a scene."""
        sections = self.scenes.sections(MAPPED)
        outlines = {section.name: section.outline for section in sections}
        target = self.whole_map_file
        if target is None:
            return ()
        settings = {"crs": self.recipe.mapping.join, "outlines": outlines}
        return (
            Stage(
                "join",
                target.parent,
                settings,
                lambda: [
                    *(self.map_file(section) for section in sections),
                    *(path for section in sections for path in self.score_files(section).values()),
                    *(input_content(path, self.folder) for path in dict.fromkeys(outlines.values()) if path),
                ],
                partial(self._join, sections, target),
                self.targets[0].legend.address,
            ),
        )

    def _assess_stage(self) -> Stage:
        return Stage(
            "assess",
            self.out / "report",
            {
                "name": self.recipe.name,
                "assessment": self.recipe.assessment.model_dump(),
                "references": {target.name: target.reference.model_dump() for target in self.targets},
                "legends": {target.name: target.legend.to_rows() for target in self.targets},
                **self.map_settings(),
            },
            lambda: [
                *self.map_files(),
                *self.labels.files(MAPPED),
                *(target.patch_file for target in self.targets),
                *self.trainings.files(),
                *self.scenes.images(MAPPED),
            ],
            self.assess,
            self.targets[0].legend.address,
        )

    # --- maps

    def map_item(
        self, section: SceneSection, *, name: str, experts: Sequence[Path], work: Callable[[], Sequence[Path]]
    ) -> list[Path]:
        """Map one scene, or nothing where its map is up to date; see `do_item`."""
        beside = {scene.name for scene in self.scenes.neighbours(section)}
        near = [item for item in self.recipe.scenes if item.name in beside]
        return do_item(
            self.out / "maps",
            name,
            settings={
                "name": self.recipe.name,
                "scene": section.model_dump(exclude={"reference", "outline"}),
                "neighbours": [item.name for item in near],
                "mapping": self.recipe.mapping.model_dump(exclude={*HOW_ONLY, "join"}),
                **self.map_settings(),
            },
            inputs=[*experts, *(path for item in (section, *near) for path in self.scenes.files_of(item))],
            work=work,
        )

    @property
    def whole_map_file(self) -> Path | None:
        """The joined map of all sheets; None where maps are not joined."""
        if self.recipe.mapping.join == "none":
            return None
        return self.out / "joined" / f"{self.recipe.name}.tif"

    def _join(self, sections: Sequence[SceneSection], target: Path) -> list[Path]:
        from tesela.chains.sheets import join_scenes  # loads torch, seconds

        maps = [self.map_file(section) for section in sections]
        scores = [self.score_files(section) for section in sections]
        return join_scenes(sections, maps, scores, target, folder=self.folder, crs=self.recipe.mapping.join)

    @property
    def summary_file(self) -> Path:
        """Where `assess` writes what `summary` reads."""
        return self.out / "report" / "summary.json"

    # --- before and after a run

    def preview(self) -> Preview:
        """Open scenes and references, look for the bands, and estimate patches, time and memory."""
        return preview_scenes(
            self.scenes.check_bands(),
            self.labels.reference_rows(),
            trained=[section.name for section in self.scenes.sections(TRAINED)],
            mapped=[section.name for section in self.scenes.sections(MAPPED)],
            patches=self.recipe.patches,
            budgets={training.stage: training.settings.budget for training in self.trainings.items},
            experts=len(self.targets),
            memory=self.recipe.mapping.memory,
        )

    def blocks(self) -> Blocks:
        """Confusions by block of the split, of all maps that have labels."""
        table = open_patches(self.targets[0].patch_file)
        assessments = []
        for section in self.evaluated.sections():
            area = self.evaluated.area(table, section)
            if area.empty:
                continue
            patch_m = table.size_px * self.scenes.open_images(section).pixel_size_m
            side = table.size_px * patches_a_block(self.recipe.patches.block, patch_m)
            predicted, reference = open_map(self.map_file(section)), self.reference_map(section)
            with suppress(InputError):  # no pixel with a class on both sides: the report says so
                assessments.append(
                    assess(predicted, reference, tiles_px=side, within=area.within, edges_px=())
                )
        if not assessments:
            raise InputError(
                f"{self.recipe.name}: no mapped scene has test area, so there is nothing to compare. Map a scene that "
                f"has test patches, or one with a reference that was not trained on."
            )
        return count_blocks(assessments)

    def mflops_per_px(self) -> float:
        """Million floating-point operations a pixel of all experts of the map together, on a patch."""
        side = self.recipe.patches.size_px
        files = self.trainings.files()[: len(self.targets)]
        return sum(count_mflops_per_px(file, side_px=side) for file in files)
