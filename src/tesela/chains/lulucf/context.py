"""Probabilities of the first expert as bands of the scenes from which the experts below it learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tesela.chains.scenes import TRAINED, RecipeScenes
from tesela.patches.table import PatchTable
from tesela.recipes.stages import Stage

if TYPE_CHECKING:
    from tesela.chains.targets import Target
    from tesela.recipes.sections import SceneSection


class ContextChain(Protocol):
    """What the stage needs of the chain, see `tesela.chains.lulucf.chain.LulucfChain`."""

    recipe: Any
    scenes: RecipeScenes

    @property
    def targets(self) -> tuple[Target, ...]:
        """Experts, the first one first."""

    @property
    def trainings(self) -> tuple[Any, ...]:
        """Trainings of all experts and strategies, in order."""

    def context_folder(self, strategy: str) -> Path:
        """Folder of the probabilities."""

    def expert_file(self, name: str, strategy: str) -> Path:
        """File of an expert."""


def context_file(folder: Path, scene: str) -> Path:
    """Probabilities of a scene."""
    return folder / f"{scene}.tif"


def add_context(table: PatchTable, folder: Path) -> PatchTable:
    """The table, with the probabilities of the first expert as bands of its scenes."""
    from tesela.mapping.context_shares import with_context

    scenes = {name: with_context(scene, context_file(folder, name)) for name, scene in table.scenes.items()}
    return replace(table, scenes=scenes)


def insert_context(chain: ContextChain, stages: Sequence[Stage]) -> Iterator[Stage]:
    """The stages of a chain, and after each first expert that others read one that maps its probabilities."""
    first = chain.targets[0]
    after = {
        training.stage: strategy
        for training, strategy in zip(
            chain.trainings[:: len(chain.targets)], chain.recipe.strategies, strict=True
        )
        if any(expert.context_bands for expert in chain.recipe.experts)
    }
    for stage in stages:
        yield stage
        if stage.name in after:
            strategy = after[stage.name]
            folder = chain.context_folder(strategy)
            sections = chain.scenes.sections(TRAINED)
            yield Stage(
                stage.name.replace(f"train-{first.name}", "context", 1),
                folder,
                {"scenes": [item.model_dump() for item in sections], **_options(chain)},
                partial(_inputs, chain, strategy),
                partial(_map_context, chain, strategy, sections),
                first.legend.address,
            )


def _options(chain: ContextChain) -> dict[str, object]:
    names = {"window_px", "overlap_px", "engine", "precision", "any_scene", "missing_dates"}
    return dict(chain.recipe.mapping.model_dump(include=names))


def _inputs(chain: ContextChain, strategy: str) -> list[str | Path]:
    return [chain.expert_file(chain.targets[0].name, strategy), *chain.scenes.images(TRAINED)]


def _map_context(chain: ContextChain, strategy: str, sections: Sequence[SceneSection]) -> list[Path]:
    """Map the probabilities of the first expert on the scenes to train on."""
    from tesela.mapping.predict import predict_map  # loads torch, seconds
    from tesela.models.expert import open_expert

    expert = open_expert(chain.expert_file(chain.targets[0].name, strategy))
    files = []
    for section in sections:
        file = context_file(chain.context_folder(strategy), section.name)
        classes = file.with_name(f"{section.name}_map.tif")
        predict_map(
            expert,
            chain.scenes.open(section),
            classes,
            probabilities=file,
            memory=chain.recipe.mapping.memory,
            **_options(chain),  # type: ignore[arg-type]
        )
        files += [classes, file]
    return files
