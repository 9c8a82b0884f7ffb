"""The lulucf chain: orthophotos and SIOSE AR become labels, patches, experts, a cascade, its map and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from tesela.chains.lulucf.context import ContextTrainings
from tesela.chains.lulucf.joint import JointTrainings
from tesela.chains.lulucf.labels import SheetLabels
from tesela.chains.lulucf.recipe import ExpertSection, LulucfRecipe
from tesela.chains.lulucf.table import Table
from tesela.chains.metrics import Metric, count_mflops_per_px
from tesela.chains.scene_chain import SCORES, SceneChain
from tesela.chains.scenes import MAPPED
from tesela.chains.targets import Target
from tesela.chains.trainings import Training, Trainings
from tesela.core.class_tree import Branch
from tesela.io.manifest import place_copy, write_text
from tesela.io.maps import ClassMap, open_map
from tesela.recipes.sections import SceneSection, legend_file
from tesela.recipes.stage_items import keep_items


class LulucfChain(SceneChain[LulucfRecipe]):
    """Stages of one recipe; each reads the files of the stages before it."""

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The experts, parents first."""
        return tuple(
            Target(
                expert.name,
                self.recipe.legend_of(expert, self.folder),
                expert.reference or self.recipe.reference,
                self.out / "labels" / expert.name,
                self.out / "patches" / f"{expert.name}.parquet",
                own_reference=expert.reference is not None,
                reviewed=None if expert.reviewed is None else self.folder / expert.reviewed,
            )
            for expert in self.recipe.experts
        )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Experts as the tree of the classes of the map."""
        experts = zip(self.recipe.experts, self.targets, strict=True)
        return tuple(
            Branch(item.name, target.legend, item.parent, tuple(item.classes)) for item, target in experts
        )

    @cached_property
    def labels(self) -> SheetLabels:
        """Labels of all experts, of SIOSE AR and of crowns by their rules."""
        return SheetLabels(self.scenes, self.targets, self.branches, self.legend_files())

    @property
    def trainings(self) -> Trainings:
        """Trainings by strategy against class imbalance, then by expert."""
        kind = JointTrainings if self.recipe.joint else ContextTrainings
        items = tuple(
            self._training(expert, target, strategy)
            for strategy in self.recipe.strategies
            for expert, target in zip(self.recipe.experts, self.targets, strict=True)
        )
        return kind(self.start, items, self.quiet)

    def _training(self, expert: ExpertSection, target: Target, strategy: str) -> Training:
        settings = self.recipe.training_settings()
        epochs = settings.epochs if expert.epochs is None else expert.epochs
        first = strategy == self.recipe.strategies[0]
        return Training(
            f"train-{expert.name}" + ("" if first else f"-{strategy}"),
            target,
            replace(settings, imbalance_strategy=strategy, epochs=epochs),  # type: ignore[arg-type]
            self.expert_file(expert.name, strategy).parent,
            self.expert_file(expert.name, strategy),
            self.out / "logs" / strategy / expert.name,
            self.out / "context" / strategy if expert.context_bands else None,
        )

    def map_settings(self) -> Mapping[str, object]:
        """Gates and strategies."""
        gates = [
            section.model_dump(include={"name", "parent", "classes", "min_confidence"})
            for section in self.recipe.experts
        ]
        return {"experts": gates, "imbalance": list(self.recipe.strategies)}

    def legend_files(self) -> list[Path]:
        """Legends of experts that are a CSV."""
        names = [legend_file(expert.legend) for expert in self.recipe.experts]
        return [self.folder / name for name in dict.fromkeys(names) if name is not None]

    def map(self) -> Sequence[Path]:
        """Assemble a cascade for each strategy and map each scene with it."""
        from tesela.mapping.cascade import open_cascade
        from tesela.mapping.cascade_map import predict_cascade  # loads torch, seconds
        from tesela.mapping.cascade_runner import CascadeRules

        settings = self.recipe.mapping

        def map_scene(section: SceneSection, strategy: str) -> list[Path]:
            rasters = self._rasters(section, strategy)
            prediction = predict_cascade(
                open_cascade(self.cascade_file(strategy)),
                self.scenes.open(section),
                self.map_of(section, strategy),
                window_px=settings.window_px,
                overlap_px=settings.overlap_px,
                engine=settings.engine,
                precision=settings.precision,
                tta=settings.tta,
                memory=settings.memory,
                cluster=settings.cluster,
                rules=CascadeRules(soft=settings.soft, isolated_px=settings.isolated_px),
                confidence=rasters.get("confidence"),
                entropy=rasters.get("entropy"),
                probabilities=rasters.get("probabilities"),
                missing_dates=settings.missing_dates,
                levels=settings.levels,
                any_scene=settings.any_scene,
                neighbours=self.scenes.neighbours(section),
            )
            coarser = [Path(level.path) for level in prediction.levels]
            return [self.map_of(section, strategy), *rasters.values(), *coarser]

        files, names = [], []
        for strategy in self.recipe.strategies:
            files.append(self._write_cascade(strategy))
            experts = [self.expert_file(target.name, strategy) for target in self.targets]
            for section in self.scenes.sections(MAPPED):
                names.append(f"{strategy} {section.name}")
                work = partial(map_scene, section, strategy)
                files += self.map_item(section, name=names[-1], experts=experts, work=work)
        keep_items(self.out / "maps", names)
        return files

    def _write_cascade(self, strategy: str) -> Path:
        """Cascade of the experts of a strategy, in the folder of its maps, with the experts below it."""
        file = self.cascade_file(strategy)
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"name = {json.dumps(self.recipe.name)}"]
        for expert in self.recipe.experts:
            beside = place_copy(
                self.expert_file(expert.name, strategy),
                file.parent / "experts" / f"{expert.name}.safetensors",
            )
            lines += [
                "",
                "[[experts]]",
                f"path = {json.dumps(beside.relative_to(file.parent).as_posix())}",
                f"name = {json.dumps(expert.name)}",
            ]
            if expert.parent is not None:
                lines += [f"parent = {json.dumps(expert.parent)}", f"classes = {json.dumps(expert.classes)}"]
                lines += [f"min_confidence = {expert.min_confidence}"]
        write_text(file, "\n".join(lines) + "\n")
        return file

    def assess(self) -> Sequence[Path]:
        """Assess each expert and each cascade on pixels that they never saw; write the table and a report a scene."""
        from tesela.chains.lulucf.scores import assess_chain  # loads torch, seconds

        return assess_chain(self)

    def products(self) -> Mapping[str, str]:
        """Cascade and experts that are there."""
        strategy = self.recipe.strategies[0]
        files = {target.name: self.expert_file(target.name, strategy) for target in self.targets}
        files["cascade"] = self.cascade_file(strategy)
        return {name: str(path) for name, path in files.items() if path.exists()}

    def summary(self) -> Mapping[str, object]:
        """The table and the paths of cascade, maps and reports, as `assess` wrote them."""
        document: dict[str, object] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        return document

    def lines(self) -> tuple[str, ...]:
        """The table, the map and the report."""
        summary = self.summary()
        maps, reports = summary["maps"], summary["reports"]
        assert isinstance(maps, list)
        assert isinstance(reports, list)
        whole = [] if self.whole_map_file is None else [f"joined    {self.whole_map_file}"]
        return (
            *self._table.lines(),
            *((f"corrected {self.labels.corrected}",) if self.labels.corrections else ()),
            *(f"map       {path}" for path in maps),
            *whole,
            *(f"report    {path}" for path in reports),
        )

    def metrics(self) -> tuple[Metric, ...]:
        """IoU, F1 and accuracy of the first strategy's cascade, and the IoU of each expert."""
        return self._table.metrics()

    def mflops_per_px(self) -> float:
        """Million floating-point operations a pixel of all experts of the map; what they share counts once."""
        if not self.recipe.joint:
            return super().mflops_per_px()
        side = self.recipe.patches.size_px
        first, *others = self.trainings.files()[: len(self.targets)]
        heads = sum(count_mflops_per_px(file, side_px=side, part="head") for file in others)
        return count_mflops_per_px(first, side_px=side) + heads

    @property
    def _table(self) -> Table:
        return Table.from_dict(json.loads(self.summary_file.read_text(encoding="utf-8"))["table"])

    def expert_file(self, name: str, strategy: str) -> Path:
        """An expert that was trained with a strategy against class imbalance."""
        if self.recipe.joint:
            return self.out / "experts" / strategy / "joint" / f"{name}.safetensors"
        return self.out / "experts" / strategy / name / f"{name}.safetensors"

    def cascade_file(self, strategy: str) -> Path:
        """Cascade of the experts of a strategy."""
        return self.out / "maps" / strategy / "cascade.toml"

    def map_of(self, section: SceneSection, strategy: str) -> Path:
        """Map of a scene by the cascade of a strategy."""
        return self.out / "maps" / strategy / f"{section.name}.tif"

    def map_file(self, section: SceneSection) -> Path:
        """Map of a scene by the first strategy's cascade."""
        return self.map_of(section, self.recipe.strategies[0])

    def score_files(self, section: SceneSection) -> dict[str, Path]:
        """Rasters of scores beside that map, by kind."""
        return self._rasters(section, self.recipe.strategies[0])

    def map_files(self) -> list[Path]:
        """Cascades and maps of all strategies."""
        sections, strategies = self.scenes.sections(MAPPED), self.recipe.strategies
        return [
            *(self.cascade_file(strategy) for strategy in strategies),
            *(self.map_of(section, strategy) for strategy in strategies for section in sections),
        ]

    def reference_map(self, section: SceneSection) -> ClassMap:
        """Labels of all experts as one map, once `assess` has drawn it."""
        return open_map(self.joined_file(section))

    def joined_file(self, section: SceneSection) -> Path:
        """Where `assess` writes the labels of all experts as one map."""
        return self.out / "report" / "reference" / f"{section.name}.tif"

    def _rasters(self, section: SceneSection, strategy: str) -> dict[str, Path]:
        """Further rasters of a map, by kind."""
        kinds = [kind for kind in SCORES if getattr(self.recipe.mapping, kind)]
        out = self.map_of(section, strategy)
        return {kind: out.with_name(f"{section.name}_{kind}.tif") for kind in kinds}
