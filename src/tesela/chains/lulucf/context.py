"""Probabilities of the first expert as bands of the scenes from which the experts below it learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tesela.chains.scenes import TRAINED
from tesela.chains.trainings import Training, Trainings
from tesela.core.context_bands import context_bands
from tesela.patches.table import PatchTable
from tesela.recipes.stages import Stage


@dataclass(frozen=True, eq=False)
class ContextTrainings(Trainings):
    """Trainings of which some read, as bands, where the first expert of their strategy sees its classes."""

    def stages(self) -> tuple[Stage, ...]:
        """Stages in order; after each first expert that others read comes one that maps its probabilities."""
        first = self.items[0].target
        folders = {item.settings.imbalance_strategy: item.context for item in self.items if item.context}
        stages = []
        for training in self.items:
            stages.append(self._stage(training))
            folder = folders.get(training.settings.imbalance_strategy)
            if training.target is first and folder is not None:
                stages.append(self._context_stage(training, folder))
        return tuple(stages)

    def inputs(self, training: Training) -> list[str | Path]:
        """Files that a training reads."""
        files = super().inputs(training)
        if training.context is None:
            return files
        names = [section.name for section in self.scenes.sections(TRAINED)]
        return [*files, *(_file(training.context, name) for name in names)]

    def patches(self, training: Training) -> PatchTable:
        """Patches of an expert, with the probabilities of the first one where it reads them."""
        table = super().patches(training)
        if training.context is None:
            return table
        from tesela.mapping.context_shares import with_context

        scenes = {
            name: with_context(scene, _file(training.context, name)) for name, scene in table.scenes.items()
        }
        return replace(table, scenes=scenes)

    def bands(self, training: Training) -> tuple[str, ...]:
        """Bands that an expert takes, in order: context bands last."""
        bands = super().bands(training)
        if training.context is None:
            return bands
        return (*bands, *context_bands(self.items[0].target.legend.codes))

    def _context_stage(self, training: Training, folder: Path) -> Stage:
        sections = self.scenes.sections(TRAINED)
        return Stage(
            training.stage.replace(f"train-{training.target.name}", "context", 1),
            folder,
            {"scenes": [item.model_dump() for item in sections], **self._options()},
            lambda: [training.file, *self.scenes.images(TRAINED)],
            partial(self._map_context, training, folder),
            training.target.legend.address,
        )

    def _options(self) -> dict[str, object]:
        names = {"window_px", "overlap_px", "engine", "precision", "any_scene", "missing_dates"}
        return dict(self.scenes.recipe.mapping.model_dump(include=names))

    def _map_context(self, training: Training, folder: Path) -> list[Path]:
        """Map the probabilities of the first expert on the scenes to train on."""
        from tesela.mapping.predict import predict_map  # loads torch, seconds
        from tesela.models.expert import open_expert

        expert = open_expert(training.file)
        files = []
        for section in self.scenes.sections(TRAINED):
            file = _file(folder, section.name)
            classes = file.with_name(f"{section.name}_map.tif")
            predict_map(
                expert,
                self.scenes.open(section),
                classes,
                probabilities=file,
                memory=self.scenes.recipe.mapping.memory,
                **self._options(),  # type: ignore[arg-type]
            )
            files += [classes, file]
        return files


def _file(folder: Path, scene: str) -> Path:
    """Probabilities of a scene."""
    return folder / f"{scene}.tif"
