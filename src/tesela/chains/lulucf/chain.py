"""The lulucf chain: orthophotos and SIOSE AR become labels, patches, experts, a cascade, its map and a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tesela.chains.class_map_scores import count_mflops_per_px
from tesela.chains.lulucf.quality_classes import follow_splits, take_qualities
from tesela.chains.lulucf.recipe import ExpertSection, LulucfRecipe, SheetSection
from tesela.chains.lulucf.table import Table
from tesela.chains.metrics import Blocks, Metric
from tesela.chains.scenes import SceneChain
from tesela.io.legends import load_crosswalk
from tesela.io.manifest import write_whole
from tesela.io.maps import open_map
from tesela.labels import write_labels
from tesela.labels.siose import label_sheet
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, make_patches, read_patches
from tesela.recipes.stages import Stage
from tesela.sources.pnoa import check_one_sheet, check_zone
from tesela.sources.siose.geopackage import is_siose
from tesela.training.segmentation.settings import SegmentationSettings

_LEAST_FOLLOWING = 0.02
"""Least labelled share of the patches of experts below the first, whose labels may be rare."""


class LulucfChain(SceneChain[SheetSection]):
    """Stages of one recipe; each reads the files of the stages before it."""

    def __init__(self, recipe: LulucfRecipe, folder: Path, *, quiet: bool) -> None:
        super().__init__(recipe.scenes, folder, bands=recipe.bands)
        self.recipe = recipe
        self.out = folder / recipe.out
        self.quiet = quiet

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order: label, patches, one train-... per measure and expert, map, assess."""
        recipe = self.recipe
        scenes = [section.model_dump() for section in recipe.scenes]
        experts = [section.model_dump() for section in recipe.experts]
        named = {"name": recipe.name, "scenes": scenes, "species": recipe.species}
        training = [self._training(item, measure) for measure in recipe.measures for item in recipe.experts]
        return (
            Stage(
                "label",
                self.out / "labels",
                {**named, "experts": experts, "reference": recipe.reference.model_dump()},
                self._sources,
                self.label,
            ),
            Stage(
                "patches",
                self.out / "patches",
                {**named, "patches": recipe.patches.model_dump(), "bands": recipe.bands},
                lambda: [*self._images(("train", "both")), *self._label_files(), *self._reviewed()],
                self.patches,
                seed=recipe.seed,
            ),
            *training,
            Stage(
                "map",
                self.out / "maps",
                {
                    **named,
                    "experts": experts,
                    "mapping": recipe.mapping.model_dump(),
                    "measures": recipe.measures,
                },
                lambda: [*self._expert_files(), *self._images(("map", "both"))],
                self.map,
            ),
            Stage(
                "assess",
                self.out / "report",
                {**named, "assessment": recipe.assessment.model_dump(), "measures": recipe.measures},
                lambda: [*self._map_files(), *self._label_files(), *self._patch_files()],
                self.assess,
            ),
        )

    def _training(self, expert: ExpertSection, measure: str) -> Stage:
        recipe = self.recipe
        return Stage(
            f"train-{expert.name}" + (f"-{measure}" if measure != recipe.measures[0] else ""),
            self.out / "experts" / measure / expert.name,
            {"training": self._training_settings(expert, measure).__dict__, "bands": recipe.bands},
            lambda: [self.patch_file(expert), *self._images(("train", "both"))],
            lambda: self._train(expert, measure),
            recipe.legend_of(expert).address,
            recipe.seed,
        )

    def label(self) -> Sequence[Path]:
        """Draw the reference in the legend of each expert on the grid of each scene to train on or to judge."""
        made = []
        for section in self.recipe.scenes:
            check_one_sheet(section.paths)
            grid = self.open_scene(section).grid
            for path in section.paths:
                check_zone(path, grid)
            if section.use == "map":
                continue
            for expert in self.recipe.experts:
                made.append(self._label(expert, section))
        return made

    def _label(self, expert: ExpertSection, section: SheetSection) -> Path:
        source = expert.reference or self.recipe.reference
        path = self.folder / (
            section.reference if section.reference and not expert.reference else source.path
        )
        out, legend = self.label_file(expert, section), self.recipe.legend_of(expert)
        if is_siose(path):
            image = self.folder / section.paths[0]
            outlines = None if source.outlines is None else self.folder / source.outlines
            label_sheet(path, out, image=image, legend=legend, rules=source.rules, outlines=outlines)
            return out
        walk = None
        if source.crosswalk is not None:
            walk = load_crosswalk(source.source, legend, path=self.folder / source.crosswalk)
        write_labels(
            path,
            out,
            like=self.open_scene(section).grid,
            legend=legend,
            source=source.source,
            field=source.field,
            crosswalk=walk,
            layer=source.layer,
        )
        return out

    def patches(self) -> Sequence[Path]:
        """Cut patches and split them by the first expert's labels; the others follow its split, patch by patch."""
        settings = self.recipe.patches
        first, *others = self.recipe.experts
        table = self._cut(first, min_labelled=settings.min_labelled)
        if settings.reviewed is not None:
            table = take_qualities(table, read_patches(self.folder / settings.reviewed))
        table = split_patches(
            table,
            settings.split,
            fractions=settings.fractions,
            block_m=settings.block,
            buffer_m=settings.buffer,
            regions=None if settings.regions is None else self.folder / settings.regions,
            region_field=settings.region_field,
            seed=self.recipe.seed,
            unbiased=settings.unbiased,
        )
        made = [table.write(self.patch_file(first))]
        for expert in others:
            own = self._cut(expert, min_labelled=min(_LEAST_FOLLOWING, settings.min_labelled))
            made.append(follow_splits(own, table).write(self.patch_file(expert)))
        return made

    def _cut(self, expert: ExpertSection, *, min_labelled: float) -> PatchTable:
        sections = self._sections(("train", "both"))
        return make_patches(
            [self.open_scene(section).select(self.bands) for section in sections],
            [open_map(self.label_file(expert, section)) for section in sections],
            size_px=self.recipe.patches.size_px,
            stride_px=self.recipe.patches.stride_px,
            min_labelled=min_labelled,
        )

    def _train(self, expert: ExpertSection, measure: str) -> Sequence[Path]:
        from tesela.training.segmentation.train import (
            train_segmentation,  # loads torch and lightning, seconds
        )

        out = self.expert_file(expert, measure)
        train_segmentation(
            read_patches(self.patch_file(expert)),
            out,
            settings=self._training_settings(expert, measure),
            bands=self.bands,
            log_dir=self.out / "logs" / measure / expert.name,
            quiet=self.quiet,
        )
        return [out]

    def map(self) -> Sequence[Path]:
        """Assemble a cascade for each measure and map each scene with it."""
        from tesela.mapping.cascade import read_cascade
        from tesela.mapping.cascade_map import predict_cascade  # loads torch, seconds

        settings = self.recipe.mapping
        made = []
        for measure in self.recipe.measures:
            file = self._write_cascade(measure)
            cascade = read_cascade(file)
            made.append(file)
            for section in self._sections(("map", "both")):
                out = self.map_file(section, measure)
                confidence = out.with_name(f"{section.name}_confidence.tif") if settings.confidence else None
                predict_cascade(
                    cascade,
                    self.open_scene(section),
                    out,
                    window_px=settings.window_px,
                    overlap_px=settings.overlap_px,
                    precision=settings.precision,
                    memory=settings.memory,
                    confidence=confidence,
                )
                made += [out] if confidence is None else [out, confidence]
        return made

    def _write_cascade(self, measure: str) -> Path:
        """Cascade of the experts of a measure, in the folder of its maps."""
        file = self.cascade_file(measure)
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"name = {json.dumps(self.recipe.name)}"]
        for expert in self.recipe.experts:
            # resolved: in a comparison the folders of stages are links to those that runs share
            path = Path(os.path.relpath(self.expert_file(expert, measure).resolve(), file.parent.resolve()))
            lines += [
                "",
                "[[experts]]",
                f"path = {json.dumps(path.as_posix())}",
                f"name = {json.dumps(expert.name)}",
            ]
            if expert.parent is not None:
                lines += [f"parent = {json.dumps(expert.parent)}", f"classes = {json.dumps(expert.classes)}"]
                lines += [f"min_confidence = {expert.min_confidence}"]
        with write_whole(file) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def assess(self) -> Sequence[Path]:
        """Judge each expert and each cascade on ground that they never saw; write the table and a report a scene."""
        from tesela.chains.lulucf.scores import assess_chain  # loads torch, seconds

        return assess_chain(self)

    def products(self) -> Mapping[str, str]:
        """Cascade and experts that are there."""
        cascade = self.cascade_file(self.recipe.measures[0])
        files = {
            expert.name: self.expert_file(expert, self.recipe.measures[0]) for expert in self.recipe.experts
        }
        found = {name: str(path) for name, path in files.items() if path.exists()}
        return found | ({"cascade": str(cascade)} if cascade.exists() else {})

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
        return (
            *self._table.lines(),
            *(f"map       {path}" for path in maps),
            *(f"report    {path}" for path in reports),
        )

    def metrics(self) -> tuple[Metric, ...]:
        """IoU, F1 and accuracy of the first measure's cascade, and the IoU of each expert."""
        return self._table.metrics()

    def blocks(self) -> Blocks:
        """Confusions of the cascade's map by block of the split."""
        from tesela.chains.lulucf.scores import count_cascade_blocks  # loads torch, seconds

        return count_cascade_blocks(self)

    def mflops_per_px(self) -> float:
        """Million floating-point operations a pixel of all experts together; a cascade skips what its gates shut."""
        side, measure = self.recipe.patches.size_px, self.recipe.measures[0]
        return sum(
            count_mflops_per_px(self.expert_file(item, measure), side_px=side) for item in self.recipe.experts
        )

    @property
    def _table(self) -> Table:
        return Table.from_dict(json.loads(self.summary_file.read_text(encoding="utf-8"))["table"])

    @property
    def summary_file(self) -> Path:
        """Where `assess` writes what `summary` reads."""
        return self.out / "report" / "summary.json"

    def evaluated_sections(self) -> list[SheetSection]:
        """Scenes that are mapped and have labels."""
        return self._sections(("both",))

    def label_file(self, expert: ExpertSection, section: SheetSection) -> Path:
        """Labels of a scene in an expert's legend."""
        return self.out / "labels" / expert.name / f"{section.name}.tif"

    def patch_file(self, expert: ExpertSection) -> Path:
        """Patch table of an expert."""
        return self.out / "patches" / f"{expert.name}.parquet"

    def expert_file(self, expert: ExpertSection, measure: str) -> Path:
        """An expert that was trained with a measure against class imbalance."""
        return self.out / "experts" / measure / expert.name / f"{expert.name}.safetensors"

    def cascade_file(self, measure: str) -> Path:
        """Cascade of the experts of a measure."""
        return self.out / "maps" / measure / "cascade.toml"

    def map_file(self, section: SheetSection, measure: str) -> Path:
        """Map of a scene by the cascade of a measure."""
        return self.out / "maps" / measure / f"{section.name}.tif"

    def _training_settings(self, expert: ExpertSection, measure: str) -> SegmentationSettings:
        training = self.recipe.training
        epochs = training.epochs if expert.epochs is None else expert.epochs
        return replace(training, seed=self.recipe.seed, balance=measure, epochs=epochs)  # type: ignore[arg-type]

    def _sources(self) -> list[Path]:
        sections = [self.recipe.reference, *(e.reference for e in self.recipe.experts if e.reference)]
        paths = [path for item in sections for path in (item.path, item.crosswalk, item.outlines) if path]
        paths += [section.reference for section in self.recipe.scenes if section.reference]
        return [
            *(self.folder / path for path in dict.fromkeys(paths)),
            *self._images(("train", "map", "both")),
        ]

    def _reviewed(self) -> list[Path]:
        reviewed = self.recipe.patches.reviewed
        return [] if reviewed is None else [self.folder / reviewed]

    def _label_files(self) -> list[Path]:
        sections = self._sections(("train", "both"))
        return [self.label_file(expert, section) for expert in self.recipe.experts for section in sections]

    def _patch_files(self) -> list[Path]:
        return [self.patch_file(expert) for expert in self.recipe.experts]

    def _expert_files(self) -> list[Path]:
        measures = self.recipe.measures
        return [self.expert_file(expert, measure) for measure in measures for expert in self.recipe.experts]

    def _map_files(self) -> list[Path]:
        measures = self.recipe.measures
        return [self.map_file(section, m) for m in measures for section in self._sections(("map", "both"))]
