"""The weights from which the trainings of a recipe begin: random, a file, or those pretrained on its scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tesela.chains.scenes import RecipeScenes
from tesela.patches.table import open_patches
from tesela.training.segmentation.settings import WEIGHT_FILES, SegmentationSettings


@dataclass(frozen=True, eq=False)
class StartWeights:
    """Where trainings begin, by the recipe."""

    scenes: RecipeScenes
    patch_file: Path
    """Patches of the first expert, for which the encoder is chosen."""

    @property
    def pretrained_file(self) -> Path:
        """Encoder that was pretrained on scenes without labels."""
        return self.scenes.out / "pretraining" / "start.safetensors"

    def local_file(self, settings: SegmentationSettings) -> Path | None:
        """Local file of pretrained weights that settings name."""
        weights = settings.weights
        local = weights is not None and Path(weights).suffix in WEIGHT_FILES
        return self.scenes.folder / str(weights) if local else None

    def file(self, settings: SegmentationSettings) -> Path | None:
        """File that a training with these settings reads first."""
        return self.local_file(settings) if self.scenes.recipe.pretraining is None else self.pretrained_file

    def with_local(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings whose file of weights has its whole path."""
        weights = self.local_file(settings)
        return settings if weights is None else replace(settings, weights=str(weights))

    def shared(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings with the encoder for the first expert's patches, so that all experts share the start."""
        from tesela.training.segmentation.sizing import sized_settings  # loads torch, seconds

        return sized_settings(settings, open_patches(self.patch_file))

    def started(self, settings: SegmentationSettings) -> SegmentationSettings:
        """Settings with the weights from which the trainings of the recipe begin."""
        settings = self.with_local(settings)
        if self.scenes.recipe.pretraining is None:
            return settings
        return replace(self.shared(settings), weights=str(self.pretrained_file))
