"""The trainings of a chain: their stages, and what each of them reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tesela.assessment.document import ComparedModels
from tesela.chains.scenes import TRAINED, RecipeScenes
from tesela.chains.start_weights import StartWeights
from tesela.chains.targets import Target
from tesela.models.expert import read_header
from tesela.models.tried import COLUMNS, tried_rows
from tesela.patches.table import PatchTable, open_patches
from tesela.recipes.stages import Stage
from tesela.training.segmentation.settings import SegmentationSettings


@dataclass(frozen=True)
class Training:
    """One training: a target, its settings and its files."""

    stage: str
    target: Target
    settings: SegmentationSettings
    folder: Path
    """Folder of the stage."""
    file: Path
    """The expert."""
    logs: Path
    context: Path | None = None
    """Folder with the probabilities of the first expert, where this one reads them."""


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trainings of a recipe in order; a chain whose experts depend on each other changes what they read."""

    start: StartWeights
    items: tuple[Training, ...]
    quiet: bool
    """No progress bars."""

    @property
    def scenes(self) -> RecipeScenes:
        """Scenes of the recipe."""
        return self.start.scenes

    def files(self) -> list[Path]:
        """Experts, those of the first strategy first."""
        return [training.file for training in self.items]

    def stages(self) -> tuple[Stage, ...]:
        """Stages in order."""
        return tuple(self._stage(training) for training in self.items)

    def inputs(self, training: Training) -> list[str | Path]:
        """Files that a training reads."""
        weights = self.start.file(training.settings)
        extra = [] if weights is None else [weights]
        return [training.target.patch_file, *self.scenes.images(TRAINED), *extra]

    def patches(self, training: Training) -> PatchTable:
        """Patches of an expert, for training and for its scores."""
        return open_patches(training.target.patch_file)

    def bands(self, training: Training) -> tuple[str, ...]:
        """Bands that an expert takes, in order."""
        return self.scenes.bands

    def compared_models(self) -> list[ComparedModels]:
        """What the trainings with `model = "auto"` compared, for the report."""
        tables = []
        for file in self.files():
            rows = tried_rows(read_header(file).scores)
            if rows:
                tables.append(
                    ComparedModels(expert=file.stem, columns=[*COLUMNS], rows=[[*row] for row in rows])
                )
        return tables

    def _stage(self, training: Training) -> Stage:
        return Stage(
            training.stage,
            training.folder,
            {
                "expert": training.file.name,
                "training": asdict(training.settings),
                "bands": self.scenes.given_bands,
                "legend": training.target.legend.to_rows(),
                **({"context_bands": True} if training.context else {}),
            },
            partial(self.inputs, training),
            partial(self._train, training),
            training.target.legend.address,
            self.scenes.recipe.seed,
        )

    def _train(self, training: Training) -> Sequence[Path]:
        from tesela.training.segmentation.train import (
            train_segmentation,  # loads torch and lightning, seconds
        )

        train_segmentation(
            self.patches(training),
            training.file,
            settings=self.start.started(training.settings),
            bands=self.bands(training),
            log_dir=training.logs,
            quiet=self.quiet,
        )
        return [training.file]
