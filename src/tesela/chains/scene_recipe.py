"""The recipe of chains that map scenes: what corine and lulucf share, checked before anything runs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tesela.chains.scene_list import expand_scenes
from tesela.core.errors import TeselaError, join_words
from tesela.core.units import parse_duration_s
from tesela.models.segmentation.networks import PRETRAINED_MODELS, SEGMENTATION_NETWORKS, TREE_FORMS
from tesela.models.segmentation.unet import UnetArchitecture, encoder_name
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import (
    AssessmentSection,
    CorrectionSection,
    LayerSection,
    MappingSection,
    NoSeed,
    PatchSection,
    SceneSection,
    Section,
    recipe_folder,
)
from tesela.sources.scene_layers import SceneLayer
from tesela.training.segmentation.settings import PUBLISHED_ENCODERS, WEIGHT_FILES, SegmentationSettings

USUAL_ENCODERS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet10t", "convnext_tiny"),
    *(f"efficientnet-b{size}" for size in range(8)),
    *("mobilenet_v2", "densenet121", "vgg16", "mit_b0", "mit_b1", "mit_b2"),
)
"""Encoders that need no look-up; that of all others loads torch and takes seconds."""


def _check_training(settings: SegmentationSettings, info: ValidationInfo) -> SegmentationSettings:
    problems = list(_network_problems(settings, recipe_folder(info)))
    if problems:
        raise ValueError("; ".join(problems))
    return settings


def _network_problems(settings: SegmentationSettings, folder: Path | None) -> Iterator[str]:
    encoder = settings.encoder
    weights = None if settings.weights == "random" else settings.weights
    local = weights is not None and Path(weights).suffix in WEIGHT_FILES
    if local and folder is not None and not (folder / str(weights)).is_file():
        yield f"weights: no file {weights}"
    named = None if local else weights
    if settings.model in TREE_FORMS or (encoder == "auto" and named in (None, "imagenet")):
        return
    if encoder == "auto":
        encoder = PUBLISHED_ENCODERS[0]  # that of `sized_settings` for named weights
    network = SEGMENTATION_NETWORKS["unet" if settings.model == "auto" else settings.model]
    usual = network is UnetArchitecture and encoder in USUAL_ENCODERS
    if usual and named in (None, "imagenet"):
        return
    from tesela.models.segmentation.known_weights import find_known_weights
    from tesela.models.segmentation.weights import weight_names  # loads torch, seconds

    try:
        plan = network.plan(bands=3, classes=2, encoder=encoder, decoder=settings.decoder)
    except TeselaError as error:
        yield f"encoder: {str(error).rstrip('.')}"
        return
    if named is not None and isinstance(plan, UnetArchitecture):
        known = weight_names(encoder_name(plan.encoder))
        try:
            there = named in known or find_known_weights(encoder, named) is not None
        except TeselaError as error:
            yield f"weights: {str(error).rstrip('.')}"
            return
        if not there:
            words = join_words(known) or "none"
            yield f"weights: encoder '{encoder}' has no weights '{named}' (known: {words}, or a local file)"


NetworkSettings = Annotated[SegmentationSettings, NoSeed, AfterValidator(_check_training)]
"""``[training]`` of a network for class maps, whose encoder and weights exist."""


class PretrainingSection(Section):
    """``[pretraining]``: scenes without labels to learn from first."""

    scenes: list[str] = Field(default_factory=list)
    """Patterns of GeoTIFFs, which are read like the first scene; default: the scenes of the recipe to train on."""
    budget: str = "2 min"
    """Processor time."""
    test_area: bool = False
    """Use the imagery of the test patches and of scenes to map, too; by default it is left out."""

    @field_validator("scenes")
    @classmethod
    def _scenes_exist(cls, patterns: list[str], info: ValidationInfo) -> list[str]:
        folder = recipe_folder(info)
        missing = [] if folder is None else [item for item in patterns if not matching_files(folder, item)]
        if missing:
            raise ValueError(f"no file {join_words(missing)}")
        return patterns

    @field_validator("budget")
    @classmethod
    def _budget_is_a_time(cls, text: str) -> str:
        try:
            parse_duration_s(text)
        except TeselaError as error:
            raise ValueError(str(error)) from None
        return text


def matching_files(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern such as "scenes/*.tif", in order; `Path.glob` refuses whole paths."""
    return sorted(Path(name) for name in glob.glob(str(folder / pattern), recursive=True))  # noqa: PTH207


class SceneRecipe(Recipe):
    """What the recipes of both chains hold; each adds its legends, its reference and its sections."""

    bands: list[str] | None = Field(None, min_length=1)
    """Bands that the experts use, in their order; default: all bands of the first scene, then those of the layers."""
    scenes: list[SceneSection] = Field(min_length=1)
    layers: list[LayerSection] = Field(default_factory=list)
    corrections: list[CorrectionSection] = Field(default_factory=list)
    patches: PatchSection = PatchSection()
    training: NetworkSettings = SegmentationSettings()
    pretraining: PretrainingSection | None = None
    mapping: MappingSection = MappingSection()
    assessment: AssessmentSection = AssessmentSection()

    @field_validator("scenes", mode="before")
    @classmethod
    def _one_entry_a_scene(cls, entries: Any, info: ValidationInfo) -> Any:
        return expand_scenes(entries, recipe_folder(info)) if isinstance(entries, list) else entries

    @model_validator(mode="after")
    def _scene_names_differ(self) -> SceneRecipe:
        check_names("scene name", [scene.name for scene in self.scenes])
        return self

    @model_validator(mode="after")
    def _assigned_scenes_exist(self) -> SceneRecipe:
        names = [scene.name for scene in self.scenes if scene.use != "map"]
        if self.patches.assign is not None and self.patches.regions is None:
            strange = sorted(set(self.patches.assign) - set(names))
            if strange:
                raise ValueError(
                    f"patches.assign: {join_words(strange)} is no scene to train on, as {join_words(names)}"
                )
        return self

    @model_validator(mode="after")
    def _layers_are_used(self) -> SceneRecipe:
        check_names("layer name", [layer.name for layer in self.layers])
        layers = self.scene_layers(Path())
        check_names("band of the layers", [name for layer in layers for name in layer.band_names])
        for layer in layers if self.bands else ():
            if not set(layer.band_names) & set(self.bands or ()):
                raise ValueError(
                    f"bands: names no band of layer '{layer.name}' ({', '.join(layer.band_names)}); add those to use, "
                    f"or leave the layer out"
                )
        return self

    @model_validator(mode="after")
    def _can_be_pretrained(self) -> SceneRecipe:
        if self.pretraining is None:
            return self
        if self.training.model not in PRETRAINED_MODELS:
            raise ValueError(
                f"a model '{self.training.model}' cannot be pretrained: leave [pretraining] out, or take "
                f"{' or '.join(PRETRAINED_MODELS)}"
            )
        if self.training.published:
            raise ValueError("the published recipe is not pretrained on scenes: leave [pretraining] out")
        if self.pretraining.scenes and self.layers:
            raise ValueError(
                "pretraining.scenes: layers are there for the scenes of the recipe only; leave pretraining.scenes out"
            )
        return self

    def scene_layers(self, folder: Path) -> tuple[SceneLayer, ...]:
        """Layers that become bands of each scene."""
        return tuple(
            SceneLayer(
                layer.name,
                tuple(folder / path for path in layer.paths),
                layer.kind,
                derive=tuple(layer.derive) if layer.kind == "elevation" else (),
                neighbourhood_m=layer.neighbourhood,
                bands=tuple(layer.bands or ()),
                nearest=layer.resampling == "nearest",
            )
            for layer in self.layers
        )

    def training_settings(self) -> SegmentationSettings:
        """Settings of the training, with the seed of the recipe."""
        return replace(self.training, seed=self.seed)


def check_names(kind: str, names: Sequence[str]) -> None:
    """
    Check that names differ.

    Raises
    ------
    ValueError
        Names those that stand twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{kind} {', '.join(twice)} stands twice; names must differ")
