"""The recipe of the corine chain: scenes and one reference to one expert."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationInfo, model_validator

from tesela.chains.scene_recipe import SceneRecipe
from tesela.core.legend import Legend
from tesela.recipes.sections import (
    AssessmentSection,
    FileName,
    LegendName,
    Metres,
    ReferenceSection,
    SquareMetres,
    read_legend,
    recipe_folder,
)


class UnitSection(AssessmentSection):
    """``[assessment]``, with the mapping unit of the reference."""

    mmu: SquareMetres = 0.0
    """Assess the map once more after generalising it to this unit; 0 for none."""
    min_width: Metres = 0.0
    """And to this width."""


class CorineRecipe(SceneRecipe):
    """A whole recipe of the corine chain."""

    chain: Literal["corine"]
    name: FileName = "corine"
    out: str = "runs/corine"
    legend: LegendName = "corine-2"
    reference: ReferenceSection
    assessment: UnitSection = UnitSection()

    @model_validator(mode="after")
    def _crosswalk_leads_to_the_legend(self, info: ValidationInfo) -> CorineRecipe:
        self.reference.check_crosswalk(self.legend, recipe_folder(info))
        return self

    def open_legend(self, folder: Path | None) -> Legend:
        """Legend of the labels and the map."""
        return read_legend(self.legend, folder)
