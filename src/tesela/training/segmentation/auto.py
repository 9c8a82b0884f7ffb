"""The choice between models: trees and a network are trained, fused, compared on the validation patches."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tesela.core.units import parse_duration_s
from tesela.models.expert import Expert, load_expert, log_frequencies, save_expert
from tesela.models.segmentation.fused import FusedArchitecture, Member
from tesela.models.segmentation.fused_network import FusedNetwork
from tesela.models.segmentation.weights import has_packaged_weights
from tesela.patches.table import PatchTable
from tesela.training.segmentation.finish import adjust_expert, scores_of
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.trees import train_trees
from tesela.training.segmentation.validation import (
    TOLERANCE,
    ValidationPixels,
    bootstrap_difference,
    choose_prior,
    class_frequencies,
    objective_of,
    validate_model,
)

_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Weights of a member of a fused expert that are tried."""

_SMALL_PIXELS = 3_000_000
"""Labelled training pixels below which the network is a small one."""

_TREES_SHARE = 0.2
"""Share of the budget in which trees must be grown."""

_LEAST_BUDGET_S = 20.0
"""A network is trained if its share of the budget is at least this."""


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    name: str
    expert: Expert
    pixels: ValidationPixels


def train_auto(
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """
    Train boosted trees and a network, fuse both, and write the best of the three.

    The best has the highest objective on the validation patches; within `TOLERANCE` of it the cheapest is taken. The
    header's scores hold what was tried, with 95 % intervals of the differences to the chosen one.

    Parameters
    ----------
    settings : SegmentationSettings
        With `budget` the trees get a fifth of it, the network the rest.
    log_dir, quiet, fingerprints
        See `tesela.training.segmentation.train.train_segmentation`.
    """
    from tesela.training.segmentation.train import train_segmentation

    target = Path(out)
    shares = _share_budget(settings.budget)
    trees = train_trees(
        table,
        settings=replace(settings, model="boosting", prior=0.0, budget=shares[0]),
        bands=bands,
        fingerprints=fingerprints,
    )
    standardisation = trees.header.standardisation
    pixels = validate_model(trees.network, table, standardisation, seed=settings.seed)
    candidates = [Candidate("boosting", trees, pixels)]
    if not settings.budget or parse_duration_s(shares[1]) >= _LEAST_BUDGET_S:
        network_file = _folder(target, table, settings, bands) / "network.safetensors"
        chosen = replace(_sized(settings, table), model="unet", prior=0.0, budget=shares[1])
        if not network_file.exists():
            train_segmentation(
                table, network_file, settings=chosen, bands=bands, log_dir=log_dir, quiet=quiet
            )
        network = load_expert(network_file)
        pixels = validate_model(network.network, table, standardisation, seed=settings.seed)
        candidates.append(Candidate("unet", network, pixels))
        fused = fuse_experts([trees, network], [item.pixels for item in candidates], settings.seed)
        pixels = validate_model(fused.network, table, standardisation, seed=settings.seed)
        candidates.append(Candidate("unet x boosting", fused, pixels))
    winner, tried = choose_candidate(candidates, class_frequencies(table), settings=settings)
    header = replace(
        winner.expert.header,
        training={**winner.expert.header.training, "model": "auto"},
        scores={**scores_of(winner.pixels, codes=table.legend.codes), "tried": tried},
    )
    expert = adjust_expert(
        Expert(header, winner.expert.network), table=table, settings=settings, pixels=winner.pixels
    )
    save_expert(target, expert)
    for folder in (target.parent / ".training").glob(f"{target.stem}.auto-*"):
        shutil.rmtree(folder, ignore_errors=True)
    return target


def fuse_experts(experts: Sequence[Expert], pixels: Sequence[ValidationPixels], seed: int) -> Expert:
    """
    One expert of several: the logarithms of their probabilities are added with the weights of the least loss.

    The loss is the mean cross-entropy over the validation pixels, each patch with the same weight.
    """
    weights = pool_weights(pixels)
    members = [item.header.architecture for item in experts]
    architecture = FusedArchitecture(tuple(item for item in members if isinstance(item, Member)))
    network = FusedNetwork(architecture, [item.network for item in experts])
    network.weight.copy_(torch.tensor(weights))
    network.eval().requires_grad_(False)
    return Expert(replace(experts[-1].header, architecture=architecture), network)


def pool_weights(pixels: Sequence[ValidationPixels]) -> tuple[float, ...]:
    """Weights of the models' logarithms of probability with the least cross-entropy, on a grid."""
    classes = pixels[0].classes
    some = np.random.default_rng(0).permutation(len(classes))[:60_000]
    parts = [item.scores[some] for item in pixels]
    wanted = classes[some]

    def loss(weights: tuple[float, ...]) -> float:
        total: NDArray[np.float32] = sum(
            (np.float32(weight) * part for weight, part in zip(weights, parts, strict=True)),
            start=np.zeros_like(parts[0]),
        )
        top = total.max(1)
        norm = np.log(np.exp(total - top[:, None]).sum(1)) + top
        return float((norm - total[np.arange(len(total)), wanted]).mean())

    return min((item for item in product(_WEIGHTS, repeat=len(parts)) if any(item)), key=loss)


def choose_candidate(
    candidates: Sequence[Candidate], frequencies: NDArray[np.float64], *, settings: SegmentationSettings
) -> tuple[Candidate, list[dict[str, object]]]:
    """The candidate to keep, the cheapest first, and the table of what was tried; each has its own best adjustment."""
    logs = log_frequencies(frequencies)
    counts, priors = [], []
    for item in candidates:
        strength = settings.prior
        if strength == "auto":
            strength = choose_prior(item.pixels, frequencies, objective=settings.objective)
        priors.append(float(strength))
        counts.append(item.pixels.counts((item.pixels.scores - np.float32(strength) * logs).argmax(1)))
    results = [objective_of(item.sum(0), settings.objective) for item in counts]
    good = [k for k, result in enumerate(results) if result >= max(results) - TOLERANCE]
    winner = min(good)
    tried: list[dict[str, object]] = []
    for k, item in enumerate(candidates):
        total = counts[k].sum(0)
        low, high = bootstrap_difference(
            counts[k], counts[winner], objective=settings.objective, seed=settings.seed
        )
        tried.append(
            {
                "model": item.name,
                "summary": item.expert.header.architecture.summary,
                "prior": priors[k],
                "accuracy": round(objective_of(total, "accuracy"), 4),
                "macro_f1": round(objective_of(total, "macro_f1"), 4),
                "less_than_chosen": [round(low, 4), round(high, 4)],
                "chosen": k == winner,
            }
        )
    return candidates[winner], tried


def _share_budget(budget: str) -> tuple[str, str]:
    """Budgets of the trees and of the network; empty where there is none."""
    if not budget:
        return "", ""
    seconds = parse_duration_s(budget)
    return f"{_TREES_SHARE * seconds:.0f} s", f"{(1 - _TREES_SHARE) * seconds:.0f} s"


def _sized(settings: SegmentationSettings, table: PatchTable) -> SegmentationSettings:
    """
    Settings with an encoder and a decoder for the number of labelled pixels, unless they name an encoder.

    Small data start from the ImageNet weights of EfficientNet-Lite0 where the extra `start` is installed.
    """
    pixels = len(table.of_split("train")) * table.size_px**2
    if settings.encoder != SegmentationSettings.encoder or pixels >= _SMALL_PIXELS:
        return settings
    if settings.weights is None and has_packaged_weights("tf_efficientnet_lite0"):
        return replace(settings, encoder="tf_efficientnet_lite0", weights="imagenet", decoder="small")
    return replace(settings, encoder="resnet18", decoder="small")


def _folder(
    target: Path, table: PatchTable, settings: SegmentationSettings, bands: Sequence[str] | None
) -> Path:
    """Where the network is kept until the choice is made; other settings or patches have another folder."""
    rows = table.frame[["patch_id", "split"]].to_numpy(str).tolist()
    work = json.dumps([asdict(settings), table.size_px, list(bands or ()), rows], sort_keys=True)
    digest = hashlib.sha256(work.encode()).hexdigest()[:12]
    return target.parent / ".training" / f"{target.stem}.auto-{digest}"
