"""The recipe of the corine chain: scenes and one reference to one expert."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tesela.core.legend import Legend
from tesela.io.legends import load_legend
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import (
    AssessmentSection,
    LegendName,
    MappingSection,
    Metres,
    PatchSection,
    ReferenceSection,
    SceneSection,
    SquareMetres,
)
from tesela.training.segmentation.settings import SegmentationSettings


class UnitSection(AssessmentSection):
    """``[assessment]``, with the mapping unit of the reference."""

    mmu: SquareMetres = 0.0
    """Judge the map once more after generalising it to this unit; 0 for none."""
    min_width: Metres = 0.0
    """And to this width."""


class CorineRecipe(Recipe):
    """A whole recipe of the corine chain."""

    chain: Literal["corine"]
    name: str = "corine"
    out: str = "runs/corine"
    legend: LegendName = "corine-2"
    bands: list[str] | None = None
    """Bands that the network uses, in its order; default: all bands of the first scene."""
    scenes: list[SceneSection] = Field(min_length=1)
    reference: ReferenceSection
    patches: PatchSection = PatchSection()
    training: SegmentationSettings = SegmentationSettings()
    mapping: MappingSection = MappingSection()
    assessment: UnitSection = UnitSection()

    @model_validator(mode="after")
    def _scene_names_differ(self) -> CorineRecipe:
        names = [scene.name for scene in self.scenes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"scene name {', '.join(twice)} stands twice; names must differ")
        return self

    def load_legend(self) -> Legend:
        """Legend of the labels and the map."""
        return load_legend(self.legend)
