"""Training of trees for class maps: pixels with their window features in, one expert out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.progress import ProgressLine
from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, ExpertHeader, Provenance
from tesela.models.segmentation.class_trees import ClassTreesArchitecture
from tesela.models.segmentation.feature_spec import FeatureSpec, default_features
from tesela.models.segmentation.tree_network import ClassTrees
from tesela.patches.dataset import band_statistics
from tesela.patches.table import PatchTable
from tesela.training.segmentation.finish import adjust_expert, library_versions, scores_of
from tesela.training.segmentation.imagery import training_imagery
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.tree_fit import (
    BOOSTED_TREES,
    FOREST_TREES,
    fit_chosen,
    keep_features,
)
from tesela.training.segmentation.tree_pixels import TreePixels, crop_features, draw_pixels
from tesela.training.segmentation.validation import ValidationPixels, validate_model
from tesela.training.shell import today


def train_trees(
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Expert:
    """
    Train trees on pixels of the patches of split "train", with their adjustment chosen on "val".

    Parameters
    ----------
    settings : SegmentationSettings
        `model` is "boosting" or "forest".
    bands : sequence of str, optional
        Bands that the trees see; default: all of the first scene.
    quiet : bool
        Show no progress.

    Raises
    ------
    InputError
        If a split has no patches or no labels, or a band has no data.
    """
    if settings.budget:
        compile_kernels()
    deadline = budget_deadline(settings.budget)
    expert, pixels = train_unadjusted(
        table, settings=settings, bands=bands, quiet=quiet, fingerprints=fingerprints
    )
    if settings.refit:
        expert = refit_trees(expert, table, settings=settings, quiet=quiet, deadline=deadline)
    return adjust_expert(expert, table=table, settings=settings, pixels=pixels)


def train_unadjusted(
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> tuple[Expert, ValidationPixels]:
    """
    Trees as by `train_trees`, neither fitted again nor adjusted, and their scores on the validation patches.

    Where they will be grown again, they take six tenths of the budget at most, and the choice of
    features half of that.
    """
    part = 0.6 if settings.refit else 1.0
    chosen, grown = (budget_deadline(settings.budget, part=item) for item in (part / 2, part))
    table.of_split("val")
    names = tuple(next(iter(table.scenes.values())).band_names if bands is None else bands)
    mean, std = band_statistics(table, "train", bands=names)
    spec = default_features(names, sides_px=settings.window_sides_px, texture=bool(settings.window_sides_px))
    draw = partial(
        draw_pixels, table, bands=names, mean=mean, std=std, pixels=settings.pixels, seed=settings.seed
    )
    spec, drawn = keep_features(
        draw(("train",), spec=spec), spec, classes=len(table.legend), seed=settings.seed, deadline=chosen
    )
    network = _grow(drawn, spec, len(table.legend), mean, std, settings=settings, quiet=quiet, deadline=grown)
    header = ExpertHeader(
        architecture=network.architecture,
        legend=table.legend,
        bands=names,
        mean=tuple(float(item) for item in mean),
        std=tuple(float(item) for item in std),
        patch_size_px=table.size_px,
        pixel_size_m=next(iter(table.scenes.values())).pixel_size_m,
        imagery=training_imagery(table, bands=names, mean=mean, std=std, seed=settings.seed),
        training=asdict(settings),
        provenance=Provenance(
            seed=settings.seed,
            date=today(),
            versions=library_versions(),
            fingerprints=dict(fingerprints or {}),
        ),
    )
    pixels = validate_model(network, table, header.standardisation, seed=settings.seed)
    header = replace(header, scores=scores_of(pixels, codes=table.legend.codes))
    return Expert(header, network), pixels


def refit_trees(
    expert: Expert,
    table: PatchTable,
    *,
    settings: SegmentationSettings,
    quiet: bool = False,
    deadline: Callable[[], bool] = lambda: False,
) -> Expert:
    """
    Trees of the same features, grown on the patches of "train" and "val" together.

    The validation patches have chosen what was to choose; their labels then serve as the others do. The header keeps
    the scores that the trees had on them before.

    Parameters
    ----------
    expert : Expert
        From `train_unadjusted`.
    """
    plan, header = expert.header.architecture, expert.header
    assert isinstance(plan, ClassTreesArchitecture)
    mean, std = np.array(header.mean), np.array(header.std)
    drawn = draw_pixels(
        table,
        ("train", "val"),
        spec=plan.spec,
        bands=header.bands,
        mean=mean,
        std=std,
        pixels=settings.pixels,
        seed=settings.seed,
    )
    network = _grow(
        drawn, plan.spec, plan.classes, mean, std, settings=settings, quiet=quiet, deadline=deadline
    )
    return Expert(replace(header, architecture=network.architecture), network)


def _grow(
    drawn: TreePixels,
    spec: FeatureSpec,
    classes: int,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    *,
    settings: SegmentationSettings,
    quiet: bool,
    deadline: Callable[[], bool],
) -> ClassTrees:
    """As many trees as the settings say, or the usual number, with a line of progress."""
    trees = settings.trees
    if trees == "auto":
        trees = FOREST_TREES if settings.model == "forest" else BOOSTED_TREES
    line = ProgressLine("training", unit="trees", quiet=quiet)
    line.start(total=trees)
    try:
        return fit_chosen(
            settings.model,
            drawn,
            spec=spec,
            classes=classes,
            mean=mean,
            std=std,
            trees=trees,
            seed=settings.seed,
            deadline=deadline,
            grown=line.move,
        )
    finally:
        line.stop()


def compile_kernels() -> None:
    """Compile what features and boosted trees run by, once for an installation: it is no part of a budget."""
    spec, zero, one = default_features(("band",), sides_px=(3,)), np.zeros(1), np.ones(1)
    image: NDArray[np.float32] = np.zeros((8, 8, 1), np.float32)
    values = crop_features(image, spec, zero, one)
    pixels = TreePixels(np.zeros((len(values), 100), np.int16), np.arange(100) % 2)
    network = fit_chosen("boosting", pixels, spec=spec, classes=2, mean=zero, std=one, trees=2, seed=0)
    network(torch.zeros(1, 1, 8 + 2 * spec.margin_px, 8 + 2 * spec.margin_px))


def budget_deadline(budget: str, *, part: float = 1.0) -> Callable[[], bool]:
    """Whether the processor time of a part of a budget is used up."""
    if not budget:
        return lambda: False
    end = time.process_time() + part * parse_duration_s(budget)
    return lambda: time.process_time() >= end
