"""Encoder and decoder for the number of labelled pixels, where the settings say "auto"."""

from __future__ import annotations

from dataclasses import replace

from tesela.core.units import parse_duration_s
from tesela.models.segmentation.weights import START_ENCODER, has_packaged_weights
from tesela.patches.table import PatchTable
from tesela.training.segmentation.settings import SegmentationSettings

SMALL_PIXELS = 3_000_000
"""Labelled training pixels below which the network is a small one."""

LARGE_S_PER_PIXEL = 19e-6
"""Processor seconds of a step of ResNet50 for each pixel (``benchmarks/ablations.py --steps``: .0762 for 64 x 64)."""

LEAST_PASSES = 30
"""Passes over the labelled pixels that a budget must allow for the large encoder."""

SMALL_ENCODER, LARGE_ENCODER = "resnet18", "resnet50"
"""Encoders that start from random or named weights."""


def sized_settings(settings: SegmentationSettings, table: PatchTable) -> SegmentationSettings:
    """
    Settings with the encoder and the decoder for the labelled pixels of split "train", where they are "auto".

    Small data start from the ImageNet weights of EfficientNet-Lite0 where the extra `start` is installed, unless
    `weights` is "random"; else from ResNet18. Above `SMALL_PIXELS`, and for weights of another name or of a file, it is
    ResNet50 with the full decoder, if a budget allows `LEAST_PASSES`. A named encoder stays as it is.
    """
    if settings.published:
        return settings
    if settings.encoder != "auto":
        return replace(settings, decoder="full") if settings.decoder == "auto" else settings
    labelled = int(table.class_pixels("train").sum())
    small = labelled < SMALL_PIXELS
    if settings.budget:  # a large network that sees each pixel a few times learns less than a small one
        small |= parse_duration_s(settings.budget) < LEAST_PASSES * LARGE_S_PER_PIXEL * labelled
    if settings.weights not in (None, "random", "imagenet"):
        small = False  # those weights are ResNet50's
    decoder = ("small" if small else "full") if settings.decoder == "auto" else settings.decoder
    if small and settings.weights in (None, "imagenet") and has_packaged_weights(START_ENCODER):
        return replace(settings, encoder=START_ENCODER, weights="imagenet", decoder=decoder)
    return replace(settings, encoder=SMALL_ENCODER if small else LARGE_ENCODER, decoder=decoder)
