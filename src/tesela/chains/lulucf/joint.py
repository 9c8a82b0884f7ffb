"""The training of all experts of a strategy on one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tesela.chains.trainings import Training, Trainings
from tesela.recipes.stages import Stage


@dataclass(frozen=True, eq=False)
class JointTrainings(Trainings):
    """Trainings of which those of one strategy against class imbalance are one; its experts lie in one folder."""

    def stages(self) -> tuple[Stage, ...]:
        """A stage for each strategy, in place of one for each expert."""
        strategies = list(dict.fromkeys(item.settings.imbalance_strategy for item in self.items))
        stages = []
        for strategy in strategies:
            trainings = [item for item in self.items if item.settings.imbalance_strategy == strategy]
            first = trainings[0]
            stages.append(
                Stage(
                    "train" if strategy == strategies[0] else f"train-{strategy}",
                    first.folder,
                    {
                        "joint": [[item.file.name, item.target.legend.to_rows()] for item in trainings],
                        "training": asdict(first.settings),
                        "bands": self.scenes.given_bands,
                    },
                    partial(self._joint_inputs, trainings),
                    partial(self._train_jointly, trainings),
                    first.target.legend.address,
                    self.scenes.recipe.seed,
                )
            )
        return tuple(stages)

    def _joint_inputs(self, trainings: Sequence[Training]) -> list[str | Path]:
        files = [file for training in trainings for file in self.inputs(training)]
        return list(dict.fromkeys(files))

    def _train_jointly(self, trainings: Sequence[Training]) -> list[Path]:
        from tesela.training.segmentation.joint import train_joint  # loads torch and lightning, seconds

        first = trainings[0]
        return train_joint(
            [self.patches(training) for training in trainings],
            [training.file for training in trainings],
            target=first.folder / "joint",
            settings=self.start.started(first.settings),
            bands=self.scenes.bands,
            log_dir=first.logs.with_name("joint"),
            quiet=self.quiet,
        )
