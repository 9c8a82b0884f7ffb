"""The recipe of the lulucf chain: orthophotos and SIOSE AR to three experts and their cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from tesela.chains.scene_recipe import SceneRecipe, check_names
from tesela.core.errors import TeselaError, unknown_name
from tesela.core.legend import Legend
from tesela.labels.canopy import OPEN, TREE, CanopyRules
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS
from tesela.recipes.sections import (
    FileName,
    InputFile,
    LegendName,
    MappingSection,
    Metres,
    ReferenceSection,
    Section,
    SourceName,
    SquareMetres,
    read_legend,
    recipe_folder,
)
from tesela.sources.siose.rules import SioseRules, species_legend

Imbalance = Literal["none", "loss", "sampling"]
"""Strategy against class imbalance; see `SegmentationSettings.imbalance_strategy`."""

SPECIES = "species"
"""Legend of an expert that is made of the recipe's `species`."""


class CanopySection(Section):
    """``[reference.canopy]``: what shows crowns, for experts of the legend "tree-cover"."""

    paths: list[InputFile] = Field(min_length=1)
    """Rasters of heights above the ground, LAS or LAZ, polygons of crowns, or points of trees; those of all scenes."""
    height: Metres = 2.0
    cover_percent: float = Field(50.0, gt=0, le=100)
    cell: Metres = Field(2.0, gt=0)
    crown: Metres = Field(2.0, gt=0)
    roofs: list[str] = Field(default_factory=lambda: ["artificial"])
    """Classes of the first expert on whose land what is high may be a roof and has no label."""

    @property
    def rules(self) -> CanopyRules:
        """From what height and share on a pixel is tree cover."""
        return CanopyRules(
            height_m=self.height, cover_percent=self.cover_percent, cell_m=self.cell, crown_m=self.crown
        )


class LabelSection(ReferenceSection):
    """``[reference]``, or ``[experts.reference]`` for one expert: SIOSE AR, or any polygons or class raster."""

    source: SourceName = "siose-ar"
    outlines: InputFile | None = None
    """Sheets of the MTN50 grid. Labels end at the outline of the sheet that is named in a PNOA file name."""
    mode: Literal["majority", "composite"] = "majority"
    min_share: float = Field(0.0, ge=0, le=1)
    min_area: SquareMetres = 0.0
    trees: Literal["covers", "fccarb", "lidar"] = "covers"
    canopy_percent: float = Field(20.0, ge=0, le=100)
    open_percent: float | None = Field(None, ge=0, le=100)
    canopy: CanopySection | None = None
    land_use: bool = True
    interpreted: bool = False
    years: tuple[int, int] | None = None

    @property
    def rules(self) -> SioseRules:
        """How polygons of SIOSE AR get their class."""
        return SioseRules(
            mode=self.mode,
            min_share=self.min_share,
            min_area_m2=self.min_area,
            trees=self.trees,
            canopy_percent=self.canopy_percent,
            open_percent=self.open_percent,
            land_use=self.land_use,
            interpreted=self.interpreted,
            years=self.years,
        )

    @model_validator(mode="after")
    def _one_source_of_trees(self) -> LabelSection:
        if self.canopy is not None and self.trees != "covers":
            raise ValueError(f"trees = '{self.trees}' and canopy both say where trees are; leave one out")
        return self

    def files(self, folder: Path) -> list[str | Path]:
        """Files and addresses that the labels depend on."""
        more = [*([self.outlines] if self.outlines else []), *(self.canopy.paths if self.canopy else [])]
        return [*super().files(folder), *(folder / name for name in more)]


class ExpertSection(Section):
    """One ``[[experts]]`` entry, parents first."""

    name: FileName
    legend: LegendName | Literal["species"]
    parent: str | None = None
    classes: list[str] = Field(default_factory=list)
    """Codes of the parent's legend that open the gate."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    reference: LabelSection | None = None
    """Map of its own; default: that of the recipe."""
    reviewed: InputFile | None = None
    """Patch table with ratings of the labels of this expert; default: the ratings of the first one, patch by patch."""
    epochs: int | None = Field(None, ge=1)
    """Default: those of ``[training]``."""
    context_bands: bool = False
    """Read the probabilities of the first expert as further bands."""


class CascadeMappingSection(MappingSection):
    """``[mapping]``: the options of `tesela predict` for a cascade."""

    soft: bool = False
    """Multiply probabilities down the tree and take the most probable class of all."""
    isolated_px: int = Field(8, ge=0)
    """Fewer pixels than this behind a gate, in 64 x 64 px, keep the class of the parent."""
    levels: bool = False
    """Write the coarser levels of the legend as maps of their own."""

    @model_validator(mode="after")
    def _a_cascade_can(self) -> CascadeMappingSection:
        usual = MappingSection()
        refused = [name for name in ("blend", "transfer") if getattr(self, name) != getattr(usual, name)]
        if refused:
            raise ValueError(f"a cascade cannot be mapped with {', '.join(refused)}; leave it out")
        return self


PAPER = (
    ExpertSection(name="context", legend="lulucf-context"),
    ExpertSection(name="canopy", legend="tree-cover", parent="context", classes=["forest"]),
    ExpertSection(name="species", legend="species", parent="canopy", classes=["tree"]),
)
"""The three experts of Garcia Martin et al."""


class LulucfRecipe(SceneRecipe):
    """A whole recipe of the lulucf chain."""

    chain: Literal["lulucf"]
    name: FileName = "lulucf"
    out: str = "runs/lulucf"
    reference: LabelSection
    species: list[str] = Field(default_factory=list)
    """FF_SP codes of the species expert; others go by their leaf type; none for leaf types alone."""
    experts: list[ExpertSection] = Field(default_factory=lambda: list(PAPER), min_length=1)
    imbalance: list[Imbalance] | None = Field(None, min_length=1)
    """
    Strategies against class imbalance to compare, each with experts of its own; the first makes the map.
    Default: `training.imbalance_strategy`.
    """
    joint: bool = False
    """Train all experts on one network, which they share but for their last layers."""
    mapping: CascadeMappingSection = CascadeMappingSection()

    @model_validator(mode="wrap")
    @classmethod
    def _one_key_for_imbalance(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        recipe = handler(data)
        training = data.get("training") if isinstance(data, dict) else None
        if recipe.imbalance is not None and isinstance(training, dict) and "imbalance_strategy" in training:
            raise ValueError(
                "imbalance and training.imbalance_strategy set the same thing; leave one of them out"
            )
        return recipe

    @model_validator(mode="after")
    def _names_differ(self) -> LulucfRecipe:
        check_names("expert name", [expert.name for expert in self.experts])
        check_names("imbalance strategy", self.strategies)
        return self

    @model_validator(mode="after")
    def _gates_lead_down(self, info: ValidationInfo) -> LulucfRecipe:
        folder = recipe_folder(info)
        legends: dict[str, Legend] = {}
        for expert in self.experts:
            if (expert.parent is None) != (not legends):
                raise ValueError(
                    f"expert {expert.name}: the first expert has no parent, each other one names one before it"
                )
            if expert.parent is not None:
                if expert.parent not in legends:
                    raise ValueError(f"expert {expert.name}: no expert {expert.parent} stands before it")
                strange = [code for code in expert.classes if code not in legends[expert.parent]]
                if strange or not expert.classes:
                    raise ValueError(
                        f"expert {expert.name}: classes {expert.classes} must be some of "
                        f"{', '.join(legends[expert.parent].codes)}"
                    )
            elif expert.classes or expert.min_confidence or expert.context_bands:
                raise ValueError(
                    f"expert {expert.name}: it has no parent, so leave classes, min_confidence and context_bands out"
                )
            elif expert.reviewed is not None:
                raise ValueError(
                    f"expert {expert.name}: the ratings of the first expert are those of patches.reviewed; write "
                    f"it there"
                )
            if expert.context_bands and self.pretraining is not None:
                raise ValueError(
                    f"expert {expert.name}: an encoder is pretrained on bands of the scenes; leave context_bands or "
                    f"[pretraining] out"
                )
            legends[expert.name] = self._checked_legend(expert, folder)
        return self

    @model_validator(mode="after")
    def _canopy_has_an_expert(self, info: ValidationInfo) -> LulucfRecipe:
        folder = recipe_folder(info)
        first = self.legend_of(self.experts[0], folder)
        for source in (self.reference, *(expert.reference for expert in self.experts if expert.reference)):
            if source.canopy is None:
                continue
            readers = [item for item in self.experts if (item.reference or self.reference) is source]
            if not any(shows_trees(self.legend_of(item, folder)) for item in readers):
                raise ValueError(
                    "reference.canopy: no expert with the legend tree-cover reads it; leave it out"
                )
            for code in source.canopy.roofs if "roofs" in source.canopy.model_fields_set else ():
                if code not in first:
                    raise ValueError(f"reference.canopy.roofs: {unknown_name('class', code, first.codes)}")
        return self

    @model_validator(mode="after")
    def _can_be_trained_jointly(self) -> LulucfRecipe:
        if not self.joint:
            return self
        model = self.training.resolved.model
        if model not in SEGMENTATION_NETWORKS:
            raise ValueError(
                f"joint: experts share a network, but training.model is '{model}'; set it to "
                f"{' or '.join(SEGMENTATION_NETWORKS)}, or leave joint out"
            )
        if self.training.resolved.members > 1:
            raise ValueError(
                "joint: experts share one network, not several; leave joint or training.members out"
            )
        if len(self.experts) < 2:
            raise ValueError(f"joint: {self.experts[0].name} is the only expert; leave joint out")
        for expert in self.experts:
            if expert.epochs is not None or expert.context_bands:
                key = "context_bands" if expert.context_bands else "epochs"
                raise ValueError(
                    f"joint: expert {expert.name} is trained with the others, so it has no {key} of its own; leave "
                    f"{key} or joint out"
                )
        return self

    def _checked_legend(self, expert: ExpertSection, folder: Path | None) -> Legend:
        """Legend of an expert; its crosswalk must lead to it."""
        try:
            legend = self.legend_of(expert, folder)
            if folder is not None:
                (expert.reference or self.reference).open_crosswalk(legend, folder)
        except TeselaError as error:
            raise ValueError(f"expert {expert.name}: {error}") from None
        return legend

    @property
    def strategies(self) -> tuple[str, ...]:
        """Strategies against class imbalance; the first makes the map."""
        return (self.training.imbalance_strategy,) if self.imbalance is None else tuple(self.imbalance)

    def legend_of(self, expert: ExpertSection, folder: Path | None) -> Legend:
        """
        Legend of an expert.

        Raises
        ------
        LegendError
            If there is no such legend or species.
        """
        if expert.legend == SPECIES:
            return species_legend(tuple(self.species))
        return read_legend(expert.legend, folder)


def shows_trees(legend: Legend) -> bool:
    """Whether a legend has tree cover and its absence, and no other class."""
    return set(legend.codes) == {TREE, OPEN}
