"""The corine chain: scenes and a reference map become labels, patches, an expert, maps and reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from tesela import __version__
from tesela.assessment.assessment import Assessment, Generalised, assess
from tesela.assessment.confusion import Confusion
from tesela.assessment.files import assess_generalised
from tesela.assessment.report import write_report
from tesela.assessment.scores import Scores, score
from tesela.chains.corine.recipe import CorineRecipe
from tesela.chains.metrics import Metric, read_metrics, summary_lines, total_scores
from tesela.chains.scene_chain import SCORES, SceneChain
from tesela.chains.scene_scores import (
    SceneScore,
    read_scene_scores,
    scene_rows,
    scene_tiles,
    write_joint_page,
)
from tesela.chains.scenes import MAPPED
from tesela.chains.targets import Target
from tesela.chains.trainings import Training, Trainings
from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.io.manifest import write_text
from tesela.io.maps import ClassMap, open_map
from tesela.mapping.scene_distance import check_imagery
from tesela.models.expert import read_header
from tesela.patches.table import PatchTable, open_patches
from tesela.recipes.sections import SceneSection, legend_file
from tesela.recipes.stage_items import keep_items


class CorineChain(SceneChain[CorineRecipe]):
    """Stages of one recipe; each reads the files of the stages before it."""

    @cached_property
    def legend(self) -> Legend:
        """Legend of labels and maps."""
        return self.recipe.open_legend(self.folder)

    @property
    def patch_file(self) -> Path:
        """The patch table."""
        return self.out / "patches" / "patches.parquet"

    @property
    def expert_file(self) -> Path:
        """The expert."""
        return self.out / "experts" / f"{self.recipe.name}.safetensors"

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """One expert, in the legend of the map."""
        name, reference = self.recipe.name, self.recipe.reference
        return (Target(name, self.legend, reference, self.out / "labels", self.patch_file),)

    @property
    def trainings(self) -> Trainings:
        """One training."""
        settings = self.recipe.training_settings()
        experts, logs = self.out / "experts", self.out / "logs"
        training = Training("train", self.targets[0], settings, experts, self.expert_file, logs)
        return Trainings(self.start, (training,), self.quiet)

    def legend_files(self) -> list[Path]:
        """The legend, where it is a CSV."""
        name = legend_file(self.recipe.legend)
        return [] if name is None else [self.folder / name]

    def map(self) -> Sequence[Path]:
        """Map each scene with the expert."""
        from tesela.chains.transfer import adapt_expert
        from tesela.mapping.predict import predict_map  # loads torch, seconds
        from tesela.models.expert import open_expert

        settings = self.recipe.mapping

        def map_scene(section: SceneSection) -> list[Path]:
            out, rasters = self.map_file(section), self.score_files(section)
            scene, adapted = self.scenes.open(section), open_expert(self.expert_file)
            if section.use == "map" and settings.transfer != "none":
                adapted = adapt_expert(
                    adapted,
                    scene,
                    method=settings.transfer,
                    seed=self.recipe.seed,
                    any_scene=settings.any_scene,
                ).expert
            predict_map(
                adapted,
                scene,
                out,
                window_px=settings.window_px,
                overlap_px=settings.overlap_px,
                engine=settings.engine,
                precision=settings.precision,
                tta=settings.tta,
                blend=settings.blend,
                any_scene=settings.any_scene,
                memory=settings.memory,
                cluster=settings.cluster,
                missing_dates=settings.missing_dates,
                confidence=rasters.get("confidence"),
                entropy=rasters.get("entropy"),
                probabilities=rasters.get("probabilities"),
                neighbours=self.scenes.neighbours(section),
            )
            return [out, *rasters.values()]

        sections = self.scenes.sections(MAPPED)
        keep_items(self.out / "maps", [section.name for section in sections])
        return [
            file
            for section in sections
            for file in self.map_item(
                section, name=section.name, experts=[self.expert_file], work=partial(map_scene, section)
            )
        ]

    def assess(self) -> Sequence[Path]:
        """Assess each map on pixels that the network never saw; write a report each and the summary of all."""
        table = open_patches(self.patch_file)
        assessments: dict[str, Assessment] = {}
        reports: list[Path] = []
        after: dict[str, Generalised] = {}
        scenes = [
            SceneScore(item.name, item.date, "no reference there") for item in self.evaluated.without_labels()
        ]
        for section in self.evaluated.sections():
            area = self.evaluated.area(table, section)
            if area.empty:
                scenes.append(SceneScore(section.name, section.date, "no test patch there"))
                continue
            predicted, labels = open_map(self.map_file(section)), self.reference_map(section)
            assess_here = partial(
                assess, reference=labels, tiles_px=self.recipe.assessment.tiles_px, within=area.within
            )
            confidence = self.score_files(section).get("confidence")
            try:
                assessments[section.name] = assess_here(predicted, confidence=confidence)
            except InputError as error:
                scenes.append(SceneScore(section.name, section.date, str(error)))
                continue
            generalised = assess_generalised(
                predicted,
                self._report_folder(section) / "generalised.tif",
                assess_here,
                mmu_m2=self.recipe.assessment.mmu,
                min_width_m=self.recipe.assessment.min_width,
            )
            report = write_report(
                self._report_folder(section),
                assessments[section.name],
                map=predicted,
                reference=labels,
                scene=self.scenes.open_images(section),
                title=f"{self.recipe.name}: {section.name}",
                facts=self._facts(section, table),
                compared=self.trainings.compared_models(),
                training_log=self._training_log(),
                generalised=generalised,
            )
            reports.append(report)
            link = report.relative_to(self.out / "report").as_posix()
            scenes.append(
                SceneScore.of(section.name, section.date, area.words, assessments[section.name], link)
            )
            if generalised is not None:
                after[section.name] = generalised
        generalised_maps = [Path(item.map.path) for item in after.values()]
        order = [section.name for section in self.scenes.sections(MAPPED)]
        scenes.sort(key=lambda item: order.index(item.name))
        if len(scenes) > 1 or not assessments:
            reports.insert(0, self._write_joint_report(scenes, assessments, table))
        self._write_summary(assessments, after, reports, scenes)
        return [*reports, *generalised_maps, self.summary_file]

    def _write_joint_report(
        self, scenes: Sequence[SceneScore], assessments: Mapping[str, Assessment], table: PatchTable
    ) -> Path:
        """One page above the reports of the scenes."""
        return write_joint_page(
            self.out / "report" / "report.html",
            scenes,
            title=f"{self.recipe.name}: {len(scenes)} scenes" if len(scenes) > 1 else self.recipe.name,
            total=total_scores(self._scores_of(assessments.values())) if assessments else None,
            facts={
                "Expert": read_header(self.expert_file).architecture.summary,
                "Split": f"{self.recipe.patches.split}, patches of {table.size_px} px: "
                + ", ".join(f"{count} {name}" for name, count in table.counts.items()),
                "Seed": str(self.recipe.seed),
                "Tesela": __version__,
            },
        )

    def _facts(self, section: SceneSection, table: PatchTable) -> dict[str, str]:
        """Where a map comes from, for its report."""
        recipe, scene, expert = self.recipe, self.scenes.open(section), read_header(self.expert_file)
        distance = check_imagery(expert, scene, any_scene=True, advise=False)
        adapted = section.use == "map" and recipe.mapping.transfer != "none"
        return {
            "Scene": f"{scene.name} {scene.date}".strip() + f", {len(scene.bands)} bands, {scene.grid.crs}",
            "Model": f"{expert.architecture.summary}, {len(expert.bands)} bands",
            **({} if distance is None else {"Imagery": distance.summary}),
            **({"Transfer": recipe.mapping.transfer} if adapted else {}),
            "Legend": expert.legend.address,
            "Reference": Path(self.labels.reference_file(self.targets[0], section)).name,
            **({"Corrections": self.labels.corrected} if self.labels.corrections else {}),
            "Evaluated on": self.evaluated.area(table, section).words,
            "Split": f"{recipe.patches.split}, {recipe.patches.size_px} px patches",
            "Seed": str(recipe.seed),
            "Tesela": __version__,
        }

    def _write_summary(
        self,
        assessments: Mapping[str, Assessment],
        after: Mapping[str, Generalised],
        reports: Sequence[Path],
        scenes: Sequence[SceneScore],
    ) -> None:
        """Write the scores of all evaluated maps together, and the paths of maps and reports, as JSON."""
        document: dict[str, object] = {"evaluated": list(assessments), "scenes": scene_rows(scenes)}
        if assessments:
            scores = self._scores_of(assessments.values())
            document |= {**total_scores(scores), "absent": list(scores.absent)}
        if after:
            scores = self._scores_of(item.assessment for item in after.values())
            document["generalised"] = {"rule": next(iter(after.values())).rule, **total_scores(scores)}
        if self.labels.corrections:
            document["corrected"] = self.labels.corrected
        document["maps"] = [str(self.map_file(item)) for item in self.scenes.sections(MAPPED)]
        if self.whole_map_file is not None:
            document["joined"] = str(self.whole_map_file)
        document["reports"] = [str(file) for file in reports]
        write_text(self.summary_file, json.dumps(document, indent=2) + "\n")

    def _scores_of(self, assessments: Iterable[Assessment]) -> Scores:
        return score(sum((item.confusion for item in assessments), Confusion.empty(self.legend)))

    def products(self) -> dict[str, str]:
        """Path of the expert, once it is trained."""
        return {"expert": str(self.expert_file)} if self.expert_file.exists() else {}

    def lines(self) -> tuple[str, ...]:
        """Scores, maps and reports."""
        summary = self.summary()
        scenes = read_scene_scores(summary.get("scenes", []))  # type: ignore[arg-type]  # of an earlier version
        several = len(scenes) > 1 or not summary["evaluated"]
        corrected = (f"corrected {self.labels.corrected}",) if self.labels.corrections else ()
        return (*(item.line() for item in scenes if several), *corrected, *summary_lines(summary))

    def summary(self) -> dict[str, object]:
        """Scores of all evaluated maps together and the paths of maps and reports, as `assess` wrote them."""
        document: dict[str, object] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        return document

    def metrics(self) -> tuple[Metric, ...]:
        """IoU, F1 and accuracy on the test area of all evaluated maps."""
        summary = self.summary()
        files = {
            section.name: self._report_folder(section) / "assessment.json"
            for section in self.evaluated.sections()
            if section.name in summary["evaluated"]  # type: ignore[operator]  # a list of names
        }
        scenes = read_scene_scores(summary.get("scenes", []))  # type: ignore[arg-type]  # of an earlier version
        return read_metrics(files, self.legend, scenes=scene_tiles(scenes))

    def map_file(self, section: SceneSection) -> Path:
        """Map of a scene."""
        return self.out / "maps" / f"{section.name}.tif"

    def map_files(self) -> list[Path]:
        """Maps and their confidence."""
        sections = self.scenes.sections(MAPPED)
        scores = [self.score_files(section).get("confidence") for section in sections]
        return [*map(self.map_file, sections), *(path for path in scores if path is not None)]

    def reference_map(self, section: SceneSection) -> ClassMap:
        """Labels of a scene."""
        return open_map(self.targets[0].label_file(section))

    def score_files(self, section: SceneSection) -> dict[str, Path]:
        """Rasters of scores beside the map of a scene, by kind."""
        folder, kinds = self.out / "maps", [kind for kind in SCORES if getattr(self.recipe.mapping, kind)]
        return {kind: folder / f"{section.name}_{kind}.tif" for kind in kinds}

    def _report_folder(self, section: SceneSection) -> Path:
        folder = self.out / "report"
        return folder if len(self.scenes.sections(MAPPED)) == 1 else folder / section.name

    def _training_log(self) -> Path | None:
        """Curves of the network, where the model has one."""
        if read_header(self.expert_file).architecture.kind == "class_trees":
            return None
        logs = sorted((self.out / "logs").rglob("metrics.csv"))
        return logs[-1] if logs else None
