"""The training of all experts of a strategy on one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tesela.chains.scenes import RecipeScenes
from tesela.chains.start_weights import StartWeights
from tesela.chains.targets import Training
from tesela.patches.table import PatchTable
from tesela.recipes.stages import Stage


class JointChain(Protocol):
    """What the stages need of the chain, see `tesela.chains.lulucf.chain.LulucfChain`."""

    recipe: Any
    out: Path
    scenes: RecipeScenes
    quiet: bool

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Trainings of all experts and strategies, in order."""

    @property
    def start(self) -> StartWeights:
        """Weights from which the trainings begin."""

    def joint_folder(self, strategy: str) -> Path:
        """Folder of the experts of a strategy."""

    def training_inputs(self, training: Training) -> list[str | Path]:
        """Files that a training reads."""

    def training_patches(self, training: Training) -> PatchTable:
        """Patches of an expert."""


def joint_stages(chain: JointChain) -> tuple[Stage, ...]:
    """A stage for each strategy against class imbalance, in place of one for each expert."""
    stages, first = [], chain.recipe.strategies[0]
    for strategy in chain.recipe.strategies:
        trainings = [item for item in chain.trainings if item.settings.imbalance_strategy == strategy]
        stages.append(
            Stage(
                "train" if strategy == first else f"train-{strategy}",
                chain.joint_folder(strategy),
                {
                    "joint": [[item.file.name, item.target.legend.to_rows()] for item in trainings],
                    "training": asdict(trainings[0].settings),
                    "bands": chain.scenes.given_bands,
                },
                partial(_inputs, chain, trainings),
                partial(_train, chain, strategy, trainings),
                trainings[0].target.legend.address,
                chain.recipe.seed,
            )
        )
    return tuple(stages)


def _inputs(chain: JointChain, trainings: Sequence[Training]) -> list[str | Path]:
    files = [file for training in trainings for file in chain.training_inputs(training)]
    return list(dict.fromkeys(files))


def _train(chain: JointChain, strategy: str, trainings: Sequence[Training]) -> list[Path]:
    from tesela.training.segmentation.joint import train_joint  # loads torch and lightning, seconds

    return train_joint(
        [chain.training_patches(training) for training in trainings],
        [training.file for training in trainings],
        target=chain.joint_folder(strategy) / "joint",
        settings=chain.start.started(trainings[0].settings),
        bands=chain.scenes.bands,
        log_dir=chain.out / "logs" / strategy / "joint",
        quiet=chain.quiet,
    )
