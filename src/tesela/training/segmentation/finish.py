"""The last step of every training for class maps: the adjustment by class frequencies, scores and versions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from tesela.models.expert import Expert, log_frequencies, with_prior
from tesela.patches.table import PatchTable
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.task import validation_scores
from tesela.training.segmentation.validation import (
    ValidationPixels,
    choose_prior,
    class_frequencies,
    validate_model,
)

_LIBRARIES = ("tesela", "torch", "lightning", "segmentation-models-pytorch", "timm", "scikit-learn", "numpy")


def adjust_expert(
    expert: Expert,
    *,
    table: PatchTable,
    settings: SegmentationSettings,
    pixels: ValidationPixels | None = None,
) -> Expert:
    """
    Adjust the scores of a trained expert by the class frequencies of its training.

    The strength is that of the settings, or the one with the best objective on the validation patches. A network whose
    scores cannot be adjusted stays as it is.

    Parameters
    ----------
    pixels : ValidationPixels, optional
        Scores of the expert, where they are there already.
    """
    if not hasattr(expert.network, "add_to_scores"):
        return expert
    frequencies = class_frequencies(table)
    header = replace(expert.header, frequencies=tuple(float(item) for item in frequencies))
    expert = Expert(header, expert.network)
    if settings.prior == 0:
        return expert
    if pixels is None:
        pixels = validate_model(expert.network, table, header.standardisation, seed=settings.seed)
    strength = settings.prior
    if strength == "auto":
        strength = choose_prior(pixels, frequencies, objective=settings.objective)
    if strength == 0:
        return expert
    adjusted = with_prior(expert, strength)
    moved = pixels.scores - np.float32(strength) * log_frequencies(frequencies)
    shifted = replace(pixels, scores=moved)
    return Expert(
        replace(adjusted.header, scores=dict(header.scores) | scores_of(shifted, codes=header.legend.codes)),
        adjusted.network,
    )


def scores_of(pixels: ValidationPixels, *, codes: Sequence[str]) -> dict[str, object]:
    """Validation scores of a model, for its header."""
    counts = pixels.counts(pixels.scores.argmax(1)).sum(0)
    return score_table(asdict(validation_scores(counts)), codes=codes, patches=int(pixels.patch.max()) + 1)


def score_table(scores: Mapping[str, Any], *, codes: Sequence[str], patches: int) -> dict[str, object]:
    """Scores as the header of an expert holds them, classes by their code."""

    def by_class(values: Sequence[float | None]) -> dict[str, float]:
        return {code: round(value, 6) for code, value in zip(codes, values, strict=True) if value is not None}

    return {
        **{name: round(float(scores[name]), 6) for name in ("accuracy", "miou", "macro_f1")},
        "iou": by_class(scores["iou"]),
        "f1": by_class(scores["f1"]),
        "absent": [code for code, value in zip(codes, scores["iou"], strict=True) if value is None],
        **({"epoch": int(scores["epoch"])} if "epoch" in scores else {}),
        "patches": patches,
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries on which a training depends, by name."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
