"""The recipe of the lulucf chain: orthophotos and SIOSE AR to three experts and their cascade."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tesela.core.errors import TeselaError
from tesela.core.legend import Legend
from tesela.io.legends import load_legend
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import (
    AssessmentSection,
    InputFile,
    LegendName,
    MappingSection,
    PatchSection,
    SceneSection,
    Section,
    SquareMetres,
)
from tesela.sources.siose.rules import SioseRules, species_legend
from tesela.training.segmentation.settings import SegmentationSettings

Measure = Literal["none", "loss", "sampling"]
"""Measure against class imbalance; see `SegmentationSettings.balance`."""

SPECIES = "species"
"""Legend of an expert that is made of the recipe's `species`."""


class SheetSection(SceneSection):
    """One ``[[scenes]]`` entry: an orthophoto."""

    reference: InputFile | None = None
    """SIOSE AR file of this sheet, where it is another than that of ``[reference]``: another province or zone."""


class LabelSection(Section):
    """``[reference]``, or ``[experts.reference]`` for one expert: the map that teaches and judges."""

    path: InputFile
    layer: str | None = None
    field: str | None = None
    source: str = "siose-ar"
    crosswalk: InputFile | None = None
    """These four for polygons and class rasters that are not SIOSE AR."""
    outlines: InputFile | None = None
    """Sheets of the MTN50 grid: labels end at the outline of the sheet that a PNOA file name tells."""
    mode: Literal["majority", "composite"] = "majority"
    min_share: float = Field(0.0, ge=0, le=1)
    min_area: SquareMetres = 0.0
    trees: Literal["covers", "fccarb", "lidar"] = "covers"
    canopy_percent: float = Field(20.0, ge=0, le=100)

    @property
    def rules(self) -> SioseRules:
        """How polygons of SIOSE AR get their class."""
        return SioseRules(
            mode=self.mode,
            min_share=self.min_share,
            min_area_m2=self.min_area,
            trees=self.trees,
            canopy_percent=self.canopy_percent,
        )


class QualitySection(PatchSection):
    """``[patches]``, with the photointerpreter's verdicts."""

    reviewed: InputFile | None = None
    """Patch table with verdicts, as `tesela review` exports it."""
    unbiased: float = Field(0.0, ge=0, lt=1)
    """Share of all patches, of any quality, held out beside a split by quality."""


class ExpertSection(Section):
    """One ``[[experts]]`` entry, parents first."""

    name: str
    legend: LegendName | Literal["species"]
    parent: str | None = None
    classes: list[str] = Field(default_factory=list)
    """Codes of the parent's legend that open the gate."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    reference: LabelSection | None = None
    """Map of its own; default: that of the recipe."""
    epochs: int | None = None
    """Default: those of ``[training]``."""


PAPER = (
    ExpertSection(name="context", legend="lulucf-context"),
    ExpertSection(name="canopy", legend="tree-cover", parent="context", classes=["forest"]),
    ExpertSection(name="species", legend="species", parent="canopy", classes=["tree"]),
)
"""The three experts of Garcia Martin et al."""


class LulucfRecipe(Recipe):
    """A whole recipe of the lulucf chain."""

    chain: Literal["lulucf"]
    name: str = "lulucf"
    out: str = "runs/lulucf"
    bands: list[str] | None = None
    """Bands that the networks use, in their order; default: all bands of the first scene."""
    scenes: list[SheetSection] = Field(min_length=1)
    reference: LabelSection
    species: list[str] = Field(default_factory=list)
    """FF_SP codes of the species expert; others go by their leaf type; none for leaf types alone."""
    experts: list[ExpertSection] = Field(default_factory=lambda: list(PAPER), min_length=1)
    patches: QualitySection = QualitySection()
    training: SegmentationSettings = SegmentationSettings()
    measures: list[Measure] = Field(default=["loss"], min_length=1)
    """Measures against class imbalance to compare, each with experts of its own; the first makes the map."""
    mapping: MappingSection = MappingSection()
    assessment: AssessmentSection = AssessmentSection()

    @model_validator(mode="after")
    def _names_differ(self) -> LulucfRecipe:
        for what, names in (
            ("scene name", [scene.name for scene in self.scenes]),
            ("expert name", [expert.name for expert in self.experts]),
            ("measure", [str(measure) for measure in self.measures]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} stands twice; names must differ")
        return self

    @model_validator(mode="after")
    def _gates_lead_down(self) -> LulucfRecipe:
        known: dict[str, Legend] = {}
        for expert in self.experts:
            if (expert.parent is None) != (not known):
                raise ValueError(
                    f"expert {expert.name}: the first expert has no parent, each other one names one before it"
                )
            if expert.parent is not None:
                if expert.parent not in known:
                    raise ValueError(f"expert {expert.name}: no expert {expert.parent} stands before it")
                strange = [code for code in expert.classes if code not in known[expert.parent]]
                if strange or not expert.classes:
                    raise ValueError(
                        f"expert {expert.name}: classes {expert.classes} must be some of "
                        f"{', '.join(known[expert.parent].codes)}"
                    )
            known[expert.name] = self.legend_of(expert)
        return self

    @model_validator(mode="after")
    def _quality_needs_verdicts(self) -> LulucfRecipe:
        if self.patches.split == "quality" and self.patches.reviewed is None:
            raise ValueError("patches.split is quality, but patches.reviewed names no reviewed patch table")
        return self

    def legend_of(self, expert: ExpertSection) -> Legend:
        """Legend of an expert."""
        try:
            return (
                species_legend(tuple(self.species))
                if expert.legend == SPECIES
                else load_legend(expert.legend)
            )
        except TeselaError as error:
            raise ValueError(str(error)) from None
