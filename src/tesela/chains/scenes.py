"""The chain from scenes to class maps: what corine and lulucf share, from the labels to the blocks of a comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from tesela.assessment.assessment import assess
from tesela.assessment.document import ComparedModels
from tesela.chains.corrections import Corrections, corrected_words, read_corrected, write_corrected
from tesela.chains.evaluation import EvaluatedArea, evaluated_area
from tesela.chains.metrics import Blocks, count_blocks, count_mflops_per_px
from tesela.chains.pretraining import pretraining_stages, shared_settings
from tesela.chains.preview import Preview, preview_scenes, reference_facts
from tesela.chains.scene_recipe import SceneRecipe
from tesela.chains.targets import (
    Target,
    Training,
    follow_splits,
    take_qualities,
)
from tesela.core.class_tree import Branch
from tesela.core.errors import GridError, InputError
from tesela.core.grid import check_utm_zone
from tesela.core.notes import note
from tesela.core.scene import Scene
from tesela.io.addresses import in_folder
from tesela.io.maps import ClassMap, open_map
from tesela.io.scenes import open_scene
from tesela.labels import write_labels
from tesela.labels.corrections import blank_labels
from tesela.labels.masks import NoLabelError
from tesela.models.expert import read_header
from tesela.models.tried import COLUMNS, tried_rows
from tesela.patches.split import patches_a_block, split_patches
from tesela.patches.table import PatchTable, make_patches, open_patches
from tesela.recipes.sections import HOW_ONLY, SceneSection, input_content
from tesela.recipes.stage_items import do_item, keep_items
from tesela.recipes.stages import Stage
from tesela.sources.scene_layers import check_layers, write_scene_layers
from tesela.training.segmentation.settings import (
    WEIGHT_FILES,
    SegmentationSettings,
)

if TYPE_CHECKING:
    import geopandas as gpd

SCORES = ("confidence", "entropy", "probabilities")
"""What `[mapping]` writes beside a map."""

_LEAST_LABELLED = 0.02
_FEW_PATCHES = 20
"""Least labelled share of the patches of further experts, whose labels may be rare."""

_ALL = ("train", "map", "both")

Recipe = TypeVar("Recipe", bound=SceneRecipe)


class SceneChain(ABC, Generic[Recipe]):
    """
    Stages of one recipe: label, layers where there are some, patches, one or more trainings, map, assess.

    A chain states its targets and trainings, how it maps its scenes and how it assesses the maps.
    """

    labels_every_map: ClassVar[bool]
    """Whether scenes to map only get labels of ``[reference]``, too; those with a reference of their own always do."""

    def __init__(self, recipe: Recipe, folder: Path, *, quiet: bool) -> None:
        self.recipe = recipe
        self.folder = folder
        self.out = folder / recipe.out
        self.quiet = quiet

    # --- what a chain states

    @property
    @abstractmethod
    def targets(self) -> tuple[Target, ...]:
        """Experts by what they learn; the first one's labels decide the split."""

    @property
    @abstractmethod
    def trainings(self) -> tuple[Training, ...]:
        """Trainings in order."""

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

    # --- stages

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order."""
        recipe = self.recipe
        scenes = [section.model_dump() for section in recipe.scenes]
        bands = self.given_bands
        legends = {target.name: target.legend.to_rows() for target in self.targets}
        references = {target.name: target.reference.model_dump() for target in self.targets}
        address = self.targets[0].legend.address
        reviewed = {target.name: target.reviewed.name for target in self.targets if target.reviewed}
        return (
            Stage(
                "label",
                self.out / "labels",
                {
                    "scenes": scenes,
                    "references": references,
                    "legends": legends,
                    **self.corrections.settings,
                },
                self._reference_inputs,
                self.label,
                address,
            ),
            *self._layer_stages(scenes),
            Stage(
                "patches",
                self.out / "patches",
                {
                    "scenes": scenes,
                    "patches": recipe.patches.model_dump(),
                    "bands": bands,
                    "legends": legends,
                    **({"reviewed": reviewed} if reviewed else {}),
                },
                self._patch_inputs,
                self.patches,
                address,
                recipe.seed,
            ),
            *pretraining_stages(self, bands),
            *self.training_stages,
            Stage(
                "map",
                self.out / "maps",
                {
                    "name": recipe.name,
                    "scenes": scenes,
                    "mapping": recipe.mapping.model_dump(exclude=HOW_ONLY),
                    **self.map_settings(),
                },
                lambda: [*self.expert_files(), *self.images(("map", "both"))],
                self.map,
                address,
            ),
            *self._join_stages(),
            Stage(
                "assess",
                self.out / "report",
                {
                    "name": recipe.name,
                    "assessment": recipe.assessment.model_dump(),
                    "references": references,
                    "legends": legends,
                    **self.map_settings(),
                },
                lambda: [
                    *self.map_files(),
                    *self.label_files(("map", "both")),
                    *(target.patch_file for target in self.targets),
                    *self.expert_files(),
                    *self.images(("map", "both")),
                ],
                self.assess,
                address,
            ),
        )

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """Stages of the trainings, in order."""
        return tuple(
            Stage(
                training.stage,
                training.folder,
                {
                    "expert": training.file.name,
                    "training": asdict(training.settings),
                    "bands": self.given_bands,
                    "legend": training.target.legend.to_rows(),
                    **({"context_bands": True} if training.context else {}),
                },
                partial(self.training_inputs, training),
                partial(self._train, training),
                training.target.legend.address,
                self.recipe.seed,
            )
            for training in self.trainings
        )

    def _layer_stages(self, scenes: Sequence[object]) -> tuple[Stage, ...]:
        """The stage that brings layers onto the grids of the scenes; none where the recipe has no layers."""
        layers = [layer.model_dump() for layer in self.recipe.layers]
        if not layers:
            return ()
        settings = {"scenes": scenes, "layers": layers}
        return (Stage("layers", self.out / "layers", settings, self._layer_inputs, self.layers),)

    def _join_stages(self) -> tuple[Stage, ...]:
        """The stage that joins the maps of all sheets; none where the recipe keeps one map a scene."""
        sections = self.sections(("map", "both"))
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

    def _join(self, sections: Sequence[SceneSection], target: Path) -> list[Path]:
        from tesela.chains.sheets import join_scenes  # loads torch, seconds

        maps = [self.map_file(section) for section in sections]
        scores = [self.score_files(section) for section in sections]
        return join_scenes(sections, maps, scores, target, folder=self.folder, crs=self.recipe.mapping.join)

    def map_item(
        self, section: SceneSection, *, name: str, experts: Sequence[Path], work: Callable[[], Sequence[Path]]
    ) -> list[Path]:
        """Map one scene, or nothing where its map is up to date; see `do_item`."""
        settings = self.recipe.mapping.model_dump(exclude={*HOW_ONLY, "join"})
        near = [
            item for item in self.recipe.scenes if item.name in {s.name for s in self.neighbours(section)}
        ]
        return do_item(
            self.out / "maps",
            name,
            settings={
                "name": self.recipe.name,
                "scene": section.model_dump(exclude={"reference", "outline"}),
                "neighbours": [item.name for item in near],
                "mapping": settings,
                **self.map_settings(),
            },
            inputs=[*experts, *(path for item in (section, *near) for path in self._files_of(item))],
            work=work,
        )

    def _files_of(self, section: SceneSection) -> list[str | Path]:
        """Images and layers of a scene."""
        images = [in_folder(self.folder, path) for path in section.paths]
        return [*images, *([self.layer_file(section)] if self.recipe.layers else [])]

    def neighbours(self, section: SceneSection) -> list[Scene]:
        """Scenes beside one, whose pixels the networks see at its edge where maps are joined."""
        if self.recipe.mapping.join == "none":
            return []
        from tesela.mapping.surroundings import beside  # loads torch, seconds

        return beside(self.open_scene(section), self._all_scenes, within_px=self.recipe.mapping.window_px)

    @cached_property
    def _all_scenes(self) -> list[Scene]:
        return [self.open_scene(section) for section in self.recipe.scenes]

    def map_settings(self) -> Mapping[str, object]:
        """Further settings on which maps depend."""
        return {}

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Experts as the tree of the classes of the map."""
        return tuple(Branch(target.name, target.legend) for target in self.targets)

    @cached_property
    def corrections(self) -> Corrections:
        """Reviewed polygons that are drawn over the labels."""
        return Corrections(tuple(self.recipe.corrections), self.folder, self.branches)

    @property
    def corrected(self) -> str:
        """What the corrections changed, in words; empty without any."""
        if not self.corrections:
            return ""
        names = [section.name for section in self.recipe.scenes]
        return corrected_words(read_corrected(self.out / "labels", names))

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Bands that the networks use, in order."""
        if self.recipe.bands:
            return tuple(self.recipe.bands)
        return self.open_scene(self.sections(("train", "both"))[0]).band_names

    @property
    def given_bands(self) -> list[str] | None:
        """Bands that the recipe names."""
        return list(self.bands) if self.recipe.bands else None

    def label(self) -> Sequence[Path]:
        """Draw the reference in the legend of each expert on the grid of each scene."""
        settings = {
            "references": {target.name: target.reference.model_dump() for target in self.targets},
            "legends": {target.name: target.legend.to_rows() for target in self.targets},
            **self.corrections.settings,
        }
        folder, files = self.out / "labels", []
        keep_items(folder, [section.name for section in self.recipe.scenes])
        for section in self.recipe.scenes:
            files += do_item(
                folder,
                section.name,
                settings={"scene": section.model_dump(exclude={"outline"}), **settings},
                inputs=self._reference_inputs_of([section]),
                work=partial(self._label_scene, section),
            )
        return files

    def _label_scene(self, section: SceneSection) -> list[Path]:
        """Draw the reference on one scene, and the corrections over it."""
        self.check_scene(section)
        files, corrected = [], {}
        for target in self.targets:
            file = target.label_file(section)
            unlabelled = section.use == "map" and not (self.labels_every_map or section.reference)
            if unlabelled or not self._is_drawn(target, section):
                file.unlink(missing_ok=True)
                continue
            files.append(file)
            if self.corrections:
                corrected[target.name] = self.corrections.draw(target, open_map(file))
        if self.corrections:
            files.append(write_corrected(self.out / "labels", section.name, corrected))
        return files

    def _is_drawn(self, target: Target, section: SceneSection) -> bool:
        """Draw the labels of an expert; False for a scene to map that has none."""
        try:
            self.draw(target, section)
        except (GridError, NoLabelError) as error:
            grid = self.open_images(section).grid
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

    def check_scene(self, section: SceneSection) -> None:
        """Check the files of a scene before they are used; a chain that knows its imagery checks more."""
        if section.zone is not None:
            check_utm_zone(section.name, section.zone, self.open_images(section).grid)

    def draw(self, target: Target, section: SceneSection) -> None:
        """Draw the reference of an expert on the grid of a scene."""
        reference = target.reference
        write_labels(
            self.reference_file(target, section),
            target.label_file(section),
            like=self.open_images(section).grid,
            legend=target.legend,
            source=reference.source_in(self.folder),
            field=reference.field,
            crosswalk=reference.open_crosswalk(target.legend, self.folder),
            layer=reference.layer,
        )

    def reference_file(self, target: Target, section: SceneSection) -> str | Path:
        """Reference of an expert on a scene."""
        own = None if target.own_reference else section.reference
        return in_folder(self.folder, own or target.reference.path)

    def layers(self) -> Sequence[Path]:
        """Bring the layers of the recipe onto the grid of each scene, as one file a scene."""
        layers = self.recipe.scene_layers(self.folder)
        scenes = [self.open_images(section) for section in self.recipe.scenes]
        for scene in scenes:
            check_layers(scene, layers)
        return [
            write_scene_layers(scene, layers, self.layer_file(section))
            for scene, section in zip(scenes, self.recipe.scenes, strict=True)
        ]

    def patches(self) -> Sequence[Path]:
        """Cut patches and split them by the first expert's labels; the others follow its split, patch by patch."""
        settings = self.recipe.patches
        first, *others = self.targets
        table = self._cut(first, min_labelled=settings.min_labelled)
        if settings.reviewed is not None:
            table = take_qualities(table, open_patches(self.folder / settings.reviewed))
        table = split_patches(
            table,
            settings.split,
            fractions=settings.fractions,
            block_m=settings.block,
            buffer_m=settings.buffer,
            regions=None if settings.regions is None else in_folder(self.folder, settings.regions),
            region_field=settings.region_field,
            assign=settings.assign,
            seed=self.recipe.seed,
            unbiased=settings.unbiased,
        )
        _note_few(table)
        files = [table.write(first.patch_file)]
        for target in others:
            own = self._cut(target, min_labelled=min(_LEAST_LABELLED, settings.min_labelled))
            followed = follow_splits(own, table)
            if target.reviewed is not None:
                followed = take_qualities(followed, open_patches(target.reviewed))
            files.append(followed.write(target.patch_file))
        return files

    def _cut(self, target: Target, *, min_labelled: float) -> PatchTable:
        sections = self.sections(("train", "both"))
        return make_patches(
            [self.open_scene(section).select(self.bands) for section in sections],
            [open_map(target.label_file(section)) for section in sections],
            size_px=self.recipe.patches.size_px,
            stride_px=self.recipe.patches.stride_px,
            min_labelled=min_labelled,
        )

    def _train(self, training: Training) -> Sequence[Path]:
        from tesela.training.segmentation.train import (
            train_segmentation,  # loads torch and lightning, seconds
        )

        train_segmentation(
            self.training_patches(training),
            training.file,
            settings=self.started(training.settings),
            bands=self.training_bands(training),
            log_dir=training.logs,
            quiet=self.quiet,
        )
        return [training.file]

    def started(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings with the weights from which the trainings of the recipe begin."""
        settings = self.with_local_weights(settings)
        if self.recipe.pretraining is None:
            return settings
        return replace(shared_settings(self, settings), weights=str(self.start_file))

    def training_patches(self, training: Training) -> PatchTable:
        """Patches of an expert, for training and for its scores."""
        return open_patches(training.target.patch_file)

    def training_bands(self, training: Training) -> tuple[str, ...]:
        """Bands that an expert takes, in order."""
        return self.bands

    def preview(self) -> Preview:
        """Open scenes and references, look for the bands, and estimate patches, time and memory."""
        scenes = {section.name: self.open_images(section) for section in self.recipe.scenes}
        of_layers = {name for item in self.recipe.scene_layers(self.folder) for name in item.band_names}
        trained = self.sections(("train", "both")) or self.recipe.scenes
        wanted = self.recipe.bands or scenes[trained[0].name].band_names
        for scene in scenes.values():
            scene.select([name for name in wanted if name not in of_layers])
        references: dict[str | Path, str] = {}
        for target in self.targets:
            for section in self.recipe.scenes:
                path = self.reference_file(target, section)
                references[path] = references.get(path) or self.reference_facts(target, path)
        return preview_scenes(
            scenes,
            {f"reference {Path(path).name}": facts for path, facts in references.items() if facts},
            trained=[section.name for section in self.sections(("train", "both"))],
            mapped=[section.name for section in self.sections(("map", "both"))],
            patches=self.recipe.patches,
            budgets={training.stage: training.settings.budget for training in self.trainings},
            experts=len(self.targets),
            memory=self.recipe.mapping.memory,
        )

    def reference_facts(self, target: Target, path: str | Path) -> str:
        """Kind and size of a reference of an expert, which is opened; empty where its labels come from elsewhere."""
        reference = target.reference
        return reference_facts(str(path), field=reference.field, layer=reference.layer)

    # --- for `tesela compare`

    def blocks(self) -> Blocks:
        """Confusions by block of the split, of all maps that have labels."""
        table = open_patches(self.targets[0].patch_file)
        assessments = []
        for section in self.evaluated_sections():
            area = self.evaluated_area(table, section)
            if area is not None and area.empty:
                continue
            patch_m = table.size_px * self.open_images(section).pixel_size_m
            side = table.size_px * patches_a_block(self.recipe.patches.block, patch_m)
            predicted, reference = open_map(self.map_file(section)), self.reference_map(section)
            with suppress(InputError):  # no pixel with a class on both sides: the report says so
                assessments.append(assess(predicted, reference, tiles_px=side, within=area, edges_px=()))
        if not assessments:
            raise InputError(
                f"{self.recipe.name}: no mapped scene has test area, so there is nothing to compare. Map a scene that "
                f"has test patches, or one with a reference that was not trained on."
            )
        return count_blocks(assessments)

    def mflops_per_px(self) -> float:
        """Million floating-point operations a pixel of all experts of the map together, on a patch."""
        side = self.recipe.patches.size_px
        files = self.expert_files()[: len(self.targets)]
        return sum(count_mflops_per_px(file, side_px=side) for file in files)

    def evaluated_sections(self) -> list[SceneSection]:
        """Scenes that are mapped and have labels."""
        sections = self.sections(("map", "both"))
        return [section for section in sections if self.targets[0].label_file(section).exists()]

    def evaluation(self, table: PatchTable, section: SceneSection) -> EvaluatedArea:
        """Area of a scene to evaluate on, and its words."""
        whole = self.recipe.assessment.area == "all"
        return evaluated_area(table, section.name, self.open_images(section).grid, whole=whole)

    def evaluated_area(self, table: PatchTable, section: SceneSection) -> gpd.GeoDataFrame | None:
        """Footprints of the patches of a scene that are evaluated; None for the whole map."""
        return self.evaluation(table, section).within

    def not_evaluated(self) -> list[SceneSection]:
        """Scenes that are mapped and have no labels."""
        evaluated = {section.name for section in self.evaluated_sections()}
        return [item for item in self.sections(("map", "both")) if item.name not in evaluated]

    # --- files

    @property
    def whole_map_file(self) -> Path | None:
        """The joined map of all sheets; None where maps are not joined."""
        if self.recipe.mapping.join == "none":
            return None
        return self.out / "joined" / f"{self.recipe.name}.tif"

    @property
    def summary_file(self) -> Path:
        """Where `assess` writes what `summary` reads."""
        return self.out / "report" / "summary.json"

    def open_scene(self, section: SceneSection) -> Scene:
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

    def sections(self, uses: Sequence[str]) -> list[SceneSection]:
        """Scenes of some uses."""
        return [section for section in self.recipe.scenes if section.use in uses]

    def images(self, uses: Sequence[str]) -> list[str | Path]:
        """Files of the scenes of some uses, their layers too."""
        layers = [self.layer_file(section) for section in self.sections(uses)] if self.recipe.layers else []
        return [*self._images_alone(uses), *layers]

    def _images_alone(self, uses: Sequence[str]) -> list[str | Path]:
        return [in_folder(self.folder, path) for section in self.sections(uses) for path in section.paths]

    def layer_file(self, section: SceneSection) -> Path:
        """Layers of a scene on its grid."""
        return self.out / "layers" / f"{section.name}.tif"

    def label_files(self, uses: Sequence[str]) -> list[Path]:
        """Labels that exist of the scenes of some uses."""
        files = [target.label_file(item) for target in self.targets for item in self.sections(uses)]
        return [file for file in files if file.exists()]

    def expert_files(self) -> list[Path]:
        """Experts, those of the first strategy first."""
        return [training.file for training in self.trainings]

    def compared_models(self) -> list[ComparedModels]:
        """What the trainings with `model = "auto"` compared, for the report."""
        tables = []
        for file in self.expert_files():
            rows = tried_rows(read_header(file).scores)
            if rows:
                tables.append(
                    ComparedModels(expert=file.stem, columns=[*COLUMNS], rows=[[*row] for row in rows])
                )
        return tables

    def _reference_inputs(self) -> list[str | Path]:
        return self._reference_inputs_of(self.recipe.scenes)

    def _reference_inputs_of(self, sections: Sequence[SceneSection]) -> list[str | Path]:
        """What the labels of some scenes depend on."""
        files = [file for target in self.targets for file in target.reference.files(self.folder)]
        for section in sections:
            if section.reference:
                layer = self.targets[0].reference.layer
                files.append(input_content(section.reference, self.folder, layer=layer))
        files += self.corrections.files()
        images = [in_folder(self.folder, path) for section in sections for path in section.paths]
        return [*dict.fromkeys([*files, *self.legend_files()]), *images]

    def _layer_inputs(self) -> list[str | Path]:
        files = [path for layer in self.recipe.scene_layers(self.folder) for path in layer.paths]
        return [*files, *self._images_alone(_ALL)]

    def _patch_inputs(self) -> list[str | Path]:
        settings = self.recipe.patches
        extra: list[str | Path] = [] if settings.reviewed is None else [self.folder / settings.reviewed]
        extra += [target.reviewed for target in self.targets if target.reviewed is not None]
        if settings.regions is not None:
            extra.append(input_content(settings.regions, self.folder))
        return [*self.images(("train", "both")), *self.label_files(("train", "both")), *extra]

    def training_inputs(self, training: Training) -> list[str | Path]:
        """Files that a training reads."""
        weights = self.weight_file(training.settings)
        if self.recipe.pretraining is not None:
            weights = self.start_file
        extra = [] if weights is None else [weights]
        return [training.target.patch_file, *self.images(("train", "both")), *extra]

    @property
    def start_file(self) -> Path:
        """Encoder that was pretrained on scenes without labels."""
        return self.out / "pretraining" / "start.safetensors"

    def with_local_weights(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings whose file of weights has its whole path."""
        weights = self.weight_file(settings)
        return settings if weights is None else replace(settings, weights=str(weights))

    def weight_file(self, settings: SegmentationSettings) -> Path | None:
        """Local file of pretrained weights."""
        weights = settings.weights
        local = weights is not None and Path(weights).suffix in WEIGHT_FILES
        return self.folder / str(weights) if local else None


def _note_few(table: PatchTable) -> None:
    """Note the patches of each split where few of them train, and smaller ones would give more."""
    counts = table.counts
    if counts.get("train", 0) < _FEW_PATCHES and table.size_px > 32:
        each = ", ".join(f"{split} {number}" for split, number in counts.items())
        smaller = max(32, table.size_px // 64 * 32)
        note(f"Few patches of {table.size_px} px: {each}. Smaller ones give more (size_px = {smaller}).")
