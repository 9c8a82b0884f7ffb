"""The unmixing chain: MODIS files and a reference become a cube, shares, pixels, an expert, an abundance map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.report import write_abundance_report
from tesela.assessment.abundance.scores import score_lines
from tesela.chains.metrics import Blocks, Metric
from tesela.chains.preview import BASE_BYTES, Preview
from tesela.chains.unmixing.cube import RecipeCube
from tesela.chains.unmixing.pretraining import Pretraining
from tesela.chains.unmixing.recipe import UnmixingRecipe
from tesela.chains.unmixing.scores import describe_run, level_metrics, mflops_of, rmse_blocks
from tesela.chains.unmixing.shares import RecipeShares
from tesela.core.legend import Legend
from tesela.core.units import parse_duration_s, parse_memory_bytes
from tesela.io.abundance import open_abundance
from tesela.io.outputs import temporary_folder
from tesela.models.expert import open_expert
from tesela.patches.pixel_split import split_pixels
from tesela.patches.pixels import PixelTable, read_pixel_table, read_pixels, table_of_msmtu
from tesela.recipes.sections import HOW_ONLY
from tesela.recipes.stages import Stage
from tesela.training.unmixing.settings import UnmixingSettings


class UnmixingChain:
    """Stages of one recipe; each reads the files of the stages before it."""

    def __init__(self, recipe: UnmixingRecipe, folder: Path, *, quiet: bool) -> None:
        self.recipe = recipe
        self.folder = folder
        self.out = folder / recipe.out
        self.quiet = quiet
        self.cube = RecipeCube(recipe, folder, self.out)
        self.pretraining = Pretraining(recipe.pretraining, folder)
        self.pixel_file = self.out / "pixels" / "pixels.safetensors"
        self.expert_file = self.out / "experts" / f"{recipe.name}.safetensors"
        self.map_file = self.out / "maps" / "abundances.tif"
        self.report_folder = self.out / "report"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order: cube (where it is not given), label, pixels, train, map, assess."""
        recipe = self.recipe
        address, legend = self.legend.address, {"legend": self.legend.to_rows()}
        return (
            *self.cube.stages(),
            self.shares.stage(),
            Stage(
                "pixels",
                self.out / "pixels",
                {"split": recipe.split.model_dump(), "ancillary": recipe.ancillary, **legend},
                lambda: [self.cube.file, self.shares.file],
                self.pixels,
                address,
                recipe.seed,
            ),
            Stage(
                "train",
                self.out / "experts",
                {
                    "training": self._settings.to_dict(),
                    "pretraining": self.pretraining.settings,
                    "name": recipe.name,
                    **legend,
                },
                lambda: [self.pixel_file, *self.pretraining.files()],
                self.train,
                address,
                recipe.seed,
            ),
            Stage(
                "map",
                self.out / "maps",
                {"mapping": recipe.mapping.model_dump(exclude=HOW_ONLY), **legend},
                lambda: [self.expert_file, self.cube.file],
                self.map,
                address,
            ),
            Stage(
                "assess",
                self.report_folder,
                {
                    "name": recipe.name,
                    "assessment": recipe.assessment.model_dump(),
                    "block": recipe.split.block,
                    "reference": None if recipe.reference is None else recipe.reference.path,
                    **legend,
                },
                lambda: [
                    self.map_file,
                    self.shares.file,
                    self.pixel_file,
                    self.expert_file,
                    *self._uncertainty_files(),
                ],
                self.assess,
                address,
            ),
        )

    @cached_property
    def legend(self) -> Legend:
        """Legend of the shares."""
        return self.recipe.open_legend(self.folder)

    @property
    def shares(self) -> RecipeShares:
        """Shares of the reference on the pixels of the cube."""
        return RecipeShares(self.cube, self.legend)

    def preview(self) -> Preview:
        """Open images or cube and reference, and estimate the training and the memory."""
        name, facts, series_bytes = self.cube.facts()
        budget = self._settings.budget
        return Preview(
            ((name, facts), *self.shares.facts()),
            {"train": parse_duration_s(budget)} if budget else {},
            BASE_BYTES + max(series_bytes, parse_memory_bytes(self.recipe.cube.memory)),
        )

    def pixels(self) -> Sequence[Path]:
        """Read the pixels by way of the disk, and split them by blocks."""
        cube = self.cube.open()
        with temporary_folder(self.pixel_file) as scratch:
            table = read_pixels(
                cube,
                self.shares.open(),
                min_observed=self.recipe.split.min_observed,
                scratch=scratch,
            )
            layers = self.recipe.layers_of(cube.layers)
            return [self._split(table).select_layers(layers).write(self.pixel_file)]

    def _split(self, table: PixelTable) -> PixelTable:
        if self.recipe.uses_partitions:
            return table.with_splits_of(table_of_msmtu(self.cube.published, level=self.legend.depth))
        split = self.recipe.split
        return split_pixels(
            table,
            block_m=split.block,
            fractions=split.fractions,
            buffer_m=split.buffer,
            balanced=split.balanced,
            seed=self.recipe.seed,
        )

    def train(self) -> Sequence[Path]:
        """Train the expert, after pretraining where the recipe has that section."""
        from tesela.training.unmixing.train import train_unmixing  # loads torch, seconds

        table = read_pixel_table(self.pixel_file)
        start = self.pretraining.start(
            self._settings, table, cube_file=self.cube.file, out=self.expert_file, quiet=self.quiet
        )
        train_unmixing(table, self._settings, out=self.expert_file, start=start, quiet=self.quiet)
        return [self.expert_file]

    def map(self) -> Sequence[Path]:
        """Unmix the whole cube."""
        from tesela.mapping.abundance.unmix import unmix_cube  # loads torch, seconds

        settings = self.recipe.mapping
        classes = self.map_file.with_name("largest.tif") if settings.classes else None
        prior = self.map_file.with_name("prior.tif") if settings.prior else None
        unmix_cube(
            open_expert(self.expert_file),
            self.cube.open(),
            self.map_file,
            classes=classes,
            uncertainty=self._uncertainty_file if settings.uncertainty else None,
            prior=prior,
            engine=settings.engine,
            memory=settings.memory,
            cluster=settings.cluster,
        )
        others = [file for file in (classes, prior) if file is not None]
        return [self.map_file, *others, *self._uncertainty_files()]

    def assess(self) -> Sequence[Path]:
        """Assess the map on pixels that the expert never saw."""
        assessment = self.assess_map(errors=self.report_folder / "errors.tif")
        table = read_pixel_table(self.pixel_file)
        facts = describe_run(self.recipe, self.cube.open(), expert_file=self.expert_file, table=table)
        report = write_abundance_report(
            self.report_folder,
            assessment,
            title=f"{self.recipe.name}: abundances",
            facts=facts,
            splits=table.split_map(self.cube.open().grid.shape.yx),
        )
        return [report, self.report_folder / "assessment.json", self.report_folder / "errors.tif"]

    def products(self) -> dict[str, str]:
        """Path of the expert, once it is trained."""
        return {"expert": str(self.expert_file)} if self.expert_file.exists() else {}

    def summary(self) -> dict[str, object]:
        """Mean scores and the paths of expert, map and report."""
        return {
            **self._document()["mean"],
            "expert": str(self.expert_file),
            "map": str(self.map_file),
            "report": str(self.report_folder / "report.html"),
        }

    def lines(self) -> tuple[str, ...]:
        """Scores, map and report."""
        return (
            *score_lines(self._document()["mean"]),
            *self.shares.shift_lines(),
            f"map       {self.map_file}",
            f"report    {self.report_folder / 'report.html'}",
        )

    def metrics(self) -> tuple[Metric, ...]:
        """RMSE, MAE, RRMSE, CC and F1 on the evaluated pixels at every level, as the paper's Tables II and III."""
        return level_metrics(self._document(), depth=self.legend.depth)

    def blocks(self) -> Blocks:
        """Sums by block of the split; scored by mean RMSE."""
        return rmse_blocks(self.assess_map())

    def mflops_per_px(self) -> float:
        """Million floating-point operations to unmix one pixel; 0 for models that are fitted."""
        return mflops_of(open_expert(self.expert_file))

    def assess_map(self, *, errors: Path | None = None, level: int | None = None) -> AbundanceAssessment:
        """
        Assess the map on the evaluated pixels.

        Parameters
        ----------
        errors : Path, optional
            Raster to write, see `assess_abundance`.
        level : int, optional
            Coarser level of the legend; default: that of the map.
        """
        chosen = None
        if self.recipe.assessment.area == "test":
            chosen = read_pixel_table(self.pixel_file).split_mask("test", self.cube.open().grid.shape.yx)
        uncertainty = self._uncertainty_files()
        return assess_abundance(
            open_abundance(self.map_file),
            self.shares.open(),
            chosen=chosen,
            block_m=self.recipe.split.block,
            uncertainty=uncertainty[0] if uncertainty else None,
            errors=errors,
            level=level,
        )

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.report_folder / "assessment.json").read_text(encoding="utf-8")
        )
        return document

    @property
    def _settings(self) -> UnmixingSettings:
        return replace(self.recipe.training, seed=self.recipe.seed)

    @property
    def _uncertainty_file(self) -> Path:
        return self.map_file.with_name("uncertainty.tif")

    def _uncertainty_files(self) -> list[Path]:
        return [self._uncertainty_file] if self.recipe.mapping.uncertainty else []
