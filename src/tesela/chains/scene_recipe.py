"""The recipe of chains that map scenes: what corine and lulucf share, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from tesela.core.errors import TeselaError, join_words
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS, TREE_FORMS
from tesela.models.segmentation.unet import UnetArchitecture, encoder_name
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import (
    AssessmentSection,
    LayerSection,
    MappingSection,
    NoSeed,
    PatchSection,
    SceneSection,
    recipe_folder,
)
from tesela.sources.scene_layers import SceneLayer
from tesela.training.segmentation.settings import SegmentationSettings

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")
"""Endings by which `weights` is a local file, not a name."""

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
    if settings.model in TREE_FORMS:
        return
    network = SEGMENTATION_NETWORKS["unet" if settings.model == "auto" else settings.model]
    usual = network is UnetArchitecture and encoder in USUAL_ENCODERS
    if usual and named in (None, "imagenet"):
        return
    try:
        # loads torch, seconds
        plan = network.plan(bands=3, classes=2, encoder=encoder, decoder=settings.decoder)
    except TeselaError as error:
        yield f"encoder: {str(error).rstrip('.')}"
        return
    if named is not None and isinstance(plan, UnetArchitecture):
        known = _weight_names(encoder_name(plan.encoder))
        if named not in known:
            words = join_words(known) or "none"
            yield f"weights: encoder '{encoder}' has no weights '{named}' (known: {words}, or a local file)"


def _weight_names(encoder: str) -> Sequence[str]:
    """Pretrained weights of an encoder; see `tesela.models.segmentation.weights.pretrained_weights`."""
    if encoder.startswith("tu-"):
        return ("imagenet",)
    import segmentation_models_pytorch as smp

    return sorted(smp.encoders.encoders[encoder]["pretrained_settings"])


NetworkSettings = Annotated[SegmentationSettings, NoSeed, AfterValidator(_check_training)]
"""``[training]`` of a network for class maps, whose encoder and weights exist."""


class SceneRecipe(Recipe):
    """What the recipes of both chains hold; each adds its legends, its reference and its sections."""

    bands: list[str] | None = Field(None, min_length=1)
    """Bands that the experts use, in their order; default: all bands of the first scene, then those of the layers."""
    scenes: list[SceneSection] = Field(min_length=1)
    layers: list[LayerSection] = Field(default_factory=list)
    patches: PatchSection = PatchSection()
    training: NetworkSettings = SegmentationSettings()
    mapping: MappingSection = MappingSection()
    assessment: AssessmentSection = AssessmentSection()

    @model_validator(mode="after")
    def _scene_names_differ(self) -> SceneRecipe:
        check_names("scene name", [scene.name for scene in self.scenes])
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
