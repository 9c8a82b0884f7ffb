"""Encoder and decoder for the number of labelled pixels, where the settings say "auto"."""

from __future__ import annotations

from dataclasses import replace

from tesela.models.segmentation.weights import START_ENCODER, has_packaged_weights
from tesela.patches.table import PatchTable
from tesela.training.segmentation.settings import SegmentationSettings

SMALL_PIXELS = 3_000_000
"""Labelled training pixels below which the network is a small one."""

SMALL_ENCODER, LARGE_ENCODER = "resnet18", "resnet50"
"""Encoders that start from random or named weights."""


def sized_settings(settings: SegmentationSettings, table: PatchTable) -> SegmentationSettings:
    """
    Settings with the encoder and the decoder for the labelled pixels of split "train", where they are "auto".

    Small data start from the ImageNet weights of EfficientNet-Lite0 where the extra `start` is installed, unless
    `weights` is "random"; else from ResNet18. Above `SMALL_PIXELS`, and for weights of another name or of a file, it is
    ResNet50 with the full decoder. A named encoder stays as it is.
    """
    if settings.published:
        return settings
    if settings.encoder != "auto":
        return replace(settings, decoder="full") if settings.decoder == "auto" else settings
    small = int(table.class_pixels("train").sum()) < SMALL_PIXELS
    if settings.weights not in (None, "random", "imagenet"):
        small = False
    decoder = ("small" if small else "full") if settings.decoder == "auto" else settings.decoder
    if small and settings.weights in (None, "imagenet") and has_packaged_weights(START_ENCODER):
        return replace(settings, encoder=START_ENCODER, weights="imagenet", decoder=decoder)
    return replace(settings, encoder=SMALL_ENCODER if small else LARGE_ENCODER, decoder=decoder)
