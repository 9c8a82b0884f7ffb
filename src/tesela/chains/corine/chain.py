"""The corine chain: scenes and a reference map become labels, patches, an expert, maps and reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.assessment.assessment import Assessment, Generalised, assess
from tesela.assessment.files import assess_generalised
from tesela.assessment.report import write_report
from tesela.chains.class_map_scores import (
    count_blocks,
    count_mflops_per_px,
    read_metrics,
    summary_lines,
)
from tesela.chains.corine.recipe import CorineRecipe
from tesela.chains.corine.report import map_facts, write_summary
from tesela.chains.metrics import Blocks, Metric
from tesela.chains.scenes import SceneChain
from tesela.core.errors import GridError
from tesela.core.legend import Legend
from tesela.io.legends import load_crosswalk
from tesela.io.maps import open_map
from tesela.labels import write_labels
from tesela.models.expert import read_header
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches, read_patches
from tesela.recipes.sections import SceneSection
from tesela.recipes.stages import Stage
from tesela.training.segmentation.settings import SegmentationSettings

if TYPE_CHECKING:
    import geopandas as gpd


class CorineChain(SceneChain[SceneSection]):
    """Stages of one recipe; each reads the files of the stages before it."""

    def __init__(self, recipe: CorineRecipe, folder: Path, *, quiet: bool) -> None:
        super().__init__(recipe.scenes, folder, bands=recipe.bands)
        self.recipe = recipe
        self.out = folder / recipe.out
        self.quiet = quiet
        self.patch_file = self.out / "patches" / "patches.parquet"
        self.expert_file = self.out / "experts" / f"{recipe.name}.safetensors"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order: label, patches, train, map, assess."""
        recipe = self.recipe
        scenes = [section.model_dump() for section in recipe.scenes]
        bands = list(self.bands) if recipe.bands else None
        return (
            Stage(
                "label",
                self.out / "labels",
                self._settings(scenes=scenes, reference=recipe.reference.model_dump()),
                self._sources,
                self.label,
                recipe.legend,
            ),
            Stage(
                "patches",
                self.out / "patches",
                self._settings(scenes=scenes, patches=recipe.patches.model_dump(), bands=bands),
                lambda: [*self._images(("train", "both")), *self._label_files(("train", "both"))],
                self.patches,
                recipe.legend,
                recipe.seed,
            ),
            Stage(
                "train",
                self.out / "experts",
                self._settings(training=self._training_settings().__dict__, bands=bands),
                lambda: [self.patch_file, *self._images(("train", "both"))],
                self.train,
                recipe.legend,
                recipe.seed,
            ),
            Stage(
                "map",
                self.out / "maps",
                self._settings(scenes=scenes, mapping=recipe.mapping.model_dump()),
                lambda: [self.expert_file, *self._images(("map", "both"))],
                self.map,
                recipe.legend,
            ),
            Stage(
                "assess",
                self.out / "report",
                self._settings(assessment=recipe.assessment.model_dump()),
                lambda: [
                    *self._map_files(),
                    *self._confidence_files(),
                    *self._label_files(("map", "both")),
                    self.patch_file,
                ],
                self.assess,
                recipe.legend,
            ),
        )

    @cached_property
    def legend(self) -> Legend:
        """Legend of labels and maps."""
        return self.recipe.load_legend()

    def label(self) -> Sequence[Path]:
        """Draw the reference on the grid of each scene; scenes to map only may lie outside it."""
        reference = self.recipe.reference
        walk = None
        if reference.crosswalk is not None:
            walk = load_crosswalk(reference.source, self.legend, path=self.folder / reference.crosswalk)
        made = []
        for section in self.recipe.scenes:
            try:
                labels = write_labels(
                    self.folder / reference.path,
                    self._label_file(section),
                    like=self.open_scene(section).grid,
                    legend=self.legend,
                    source=reference.source,
                    field=reference.field,
                    crosswalk=walk,
                    layer=reference.layer,
                )
            except GridError:
                if section.use != "map":
                    raise
                self._label_file(section).unlink(missing_ok=True)
                continue
            made.append(Path(labels.path))
        return made

    def patches(self) -> Sequence[Path]:
        """Cut scenes and labels into patches and split them."""
        settings = self.recipe.patches
        sections = self._sections(("train", "both"))
        scenes = [self.open_scene(section).select(self.bands) for section in sections]
        labels = [open_map(self._label_file(section)) for section in sections]
        table = make_patches(
            scenes,
            labels,
            size_px=settings.size_px,
            stride_px=settings.stride_px,
            min_labelled=settings.min_labelled,
        )
        table = split_patches(
            table,
            settings.split,
            fractions=settings.fractions,
            block_m=settings.block,
            buffer_m=settings.buffer,
            regions=None if settings.regions is None else self.folder / settings.regions,
            region_field=settings.region_field,
            seed=self.recipe.seed,
        )
        return [table.write(self.patch_file)]

    def train(self) -> Sequence[Path]:
        """Train the network on the train split, chosen by the validation split."""
        from tesela.training.segmentation.train import (
            train_segmentation,  # loads torch and lightning, seconds
        )

        train_segmentation(
            read_patches(self.patch_file),
            self.expert_file,
            settings=self._training_settings(),
            bands=self.bands,
            log_dir=self.out / "logs",
            quiet=self.quiet,
        )
        return [self.expert_file]

    def map(self) -> Sequence[Path]:
        """Map each scene with the expert."""
        from tesela.mapping.predict import predict_map  # loads torch, seconds
        from tesela.models.expert import load_expert

        settings = self.recipe.mapping
        expert = load_expert(self.expert_file)
        made = []
        for section in self._sections(("map", "both")):
            out = self._map_file(section)
            extra = {
                kind: out.with_name(f"{section.name}_{kind}.tif") if getattr(settings, kind) else None
                for kind in ("confidence", "entropy", "probabilities")
            }
            predict_map(
                expert,
                self.open_scene(section),
                out,
                window_px=settings.window_px,
                overlap_px=settings.overlap_px,
                precision=settings.precision,
                memory=settings.memory,
                confidence=extra["confidence"],
                entropy=extra["entropy"],
                probabilities=extra["probabilities"],
            )
            made += [out, *(path for path in extra.values() if path is not None)]
        return made

    def assess(self) -> Sequence[Path]:
        """Judge each map on ground that the network never saw; write a report each and the summary of all."""
        table = read_patches(self.patch_file)
        judged: dict[str, Assessment] = {}
        reports: list[Path] = []
        after: dict[str, Generalised] = {}
        for section in self._evaluated_sections():
            found, labels = open_map(self._map_file(section)), open_map(self._label_file(section))
            judge = partial(
                assess,
                reference=labels,
                tiles_px=self.recipe.assessment.tiles_px,
                within=self._test_ground(table, section),
            )
            judged[section.name] = judge(found, confidence=self._confidence_file(section))
            generalised = assess_generalised(
                found,
                self._report_folder(section) / "generalised.tif",
                judge,
                mmu_m2=self.recipe.assessment.mmu,
                min_width_m=self.recipe.assessment.min_width,
            )
            report = write_report(
                self._report_folder(section),
                judged[section.name],
                map=found,
                reference=labels,
                scene=self.open_scene(section),
                title=f"{self.recipe.name}: {section.name}",
                facts=map_facts(
                    self.recipe,
                    self.open_scene(section),
                    expert=read_header(self.expert_file),
                    ground="the whole map" if self._judges_all(section) else "test patches only",
                ),
                training_log=self._training_log(),
                generalised=generalised,
            )
            reports.append(report)
            if generalised is not None:
                after[section.name] = generalised
        made = [Path(item.map.path) for item in after.values()]
        summary = write_summary(
            self._summary_file, judged, after, legend=self.legend, maps=self._map_files(), reports=reports
        )
        return [*reports, *made, summary]

    def products(self) -> dict[str, str]:
        """Path of the expert, once it is trained."""
        return {"expert": str(self.expert_file)} if self.expert_file.exists() else {}

    def lines(self) -> tuple[str, ...]:
        """Scores, maps and reports."""
        return summary_lines(self.summary())

    def summary(self) -> dict[str, object]:
        """Scores of all judged maps together and the paths of maps and reports, as `assess` wrote them."""
        document: dict[str, object] = json.loads(self._summary_file.read_text(encoding="utf-8"))
        return document

    def metrics(self) -> tuple[Metric, ...]:
        """IoU, F1 and accuracy on the test ground of all judged maps."""
        files = {
            section.name: self._report_folder(section) / "assessment.json"
            for section in self._evaluated_sections()
        }
        return read_metrics(files, self.legend)

    def blocks(self) -> Blocks:
        """Confusions by block of the split, of all judged maps."""
        table = read_patches(self.patch_file)
        judged = []
        for section in self._evaluated_sections():
            found, labels = open_map(self._map_file(section)), open_map(self._label_file(section))
            side = max(1, round(self.recipe.patches.block / self.open_scene(section).pixel_size_m))
            ground = self._test_ground(table, section)
            judged.append(assess(found, labels, tiles_px=side, within=ground))
        return count_blocks(judged)

    def mflops_per_px(self) -> float:
        """Million floating-point operations a pixel of the network, on a patch."""
        return count_mflops_per_px(self.expert_file, side_px=self.recipe.patches.size_px)

    def _evaluated_sections(self) -> list[SceneSection]:
        return [section for section in self._sections(("map", "both")) if self._label_file(section).exists()]

    @property
    def _summary_file(self) -> Path:
        return self.out / "report" / "summary.json"

    def _test_ground(self, table: PatchTable, section: SceneSection) -> gpd.GeoDataFrame | None:
        """Footprints of the test patches; None for the whole map."""
        if self._judges_all(section):
            return None
        rows = table.of_split("test")
        return rows[rows["scene"] == section.name]

    def _judges_all(self, section: SceneSection) -> bool:
        """Whether all of a map is judged: the scene taught nothing, or the recipe says so."""
        return self.recipe.assessment.ground == "all" or section.use == "map"

    def _training_log(self) -> Path | None:
        logs = sorted((self.out / "logs").rglob("metrics.csv"))
        return logs[-1] if logs else None

    def _training_settings(self) -> SegmentationSettings:
        return replace(self.recipe.training, seed=self.recipe.seed)

    def _settings(self, **parts: object) -> dict[str, object]:
        return {"name": self.recipe.name, **parts}

    def _sources(self) -> list[Path]:
        reference = self.recipe.reference
        extra = [self.folder / reference.crosswalk] if reference.crosswalk else []
        return [self.folder / reference.path, *extra, *self._images(("train", "map", "both"))]

    def _label_files(self, uses: Sequence[str]) -> list[Path]:
        return [path for section in self._sections(uses) if (path := self._label_file(section)).exists()]

    def _map_files(self) -> list[Path]:
        return [self._map_file(section) for section in self._sections(("map", "both"))]

    def _label_file(self, section: SceneSection) -> Path:
        return self.out / "labels" / f"{section.name}.tif"

    def _map_file(self, section: SceneSection) -> Path:
        return self.out / "maps" / f"{section.name}.tif"

    def _confidence_file(self, section: SceneSection) -> Path | None:
        made = self.recipe.mapping.confidence
        return self.out / "maps" / f"{section.name}_confidence.tif" if made else None

    def _confidence_files(self) -> list[Path]:
        files = [self._confidence_file(section) for section in self._sections(("map", "both"))]
        return [path for path in files if path is not None]

    def _report_folder(self, section: SceneSection) -> Path:
        folder = self.out / "report"
        return folder if len(self._sections(("map", "both"))) == 1 else folder / section.name
